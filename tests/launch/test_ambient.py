"""What is captured, compared with what real children of Popen report of themselves.

Each test is a helper process that changes itself, for the test process must stay as it is.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from extsession._launch import ambient
from extsession._launch.ambient import Ambient, capture, differences, fixed, stamps

ROOT = Path(__file__).resolve().parents[2]

CHILD = r"""
import os, resource
def field(label):
    return next(line.split(None, 1)[1] for line in open("/proc/self/status") if line.startswith(label + ":"))
def numbers(label):
    bits = int(field(label), 16)
    return {n for n in range(1, 65) if bits >> n - 1 & 1}
print(repr({
    "umask": os.umask(0),
    "blocked": numbers("SigBlk"),
    "ignored": numbers("SigIgn") - {13, 25},  # which Python ignores
    "limits": [resource.getrlimit(n) for n in range(16) if n != 10],
    "nice": os.nice(0),
    "cpus": os.sched_getaffinity(0),
    "policy": (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
    "oom_score_adj": int(open("/proc/self/oom_score_adj").read()),
}))
"""
PRELUDE = f"""
import ctypes, os, resource, signal, subprocess, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from extsession._launch import ambient, environment
CHILD = {CHILD!r}
def child(source=CHILD):
    done = subprocess.run([sys.executable, "-I", "-c", source], start_new_session=True, restore_signals=True,
        stdout=subprocess.PIPE, check=True)
    return eval(done.stdout)
def told(now):
    "The same form as the child's report."
    bits = lambda number, first: {{n + first for n in range(64) if number >> n & 1}}
    return dict(umask=now.umask, blocked=bits(now.blocked, 1), ignored=bits(now.ignored, 1), limits=list(now.limits),
        nice=now.nice, cpus=bits(now.cpus, 0), policy=now.policy, oom_score_adj=now.oom_score_adj)
def check():
    now, then = told(ambient.capture()), child()
    assert now == then, (now, then)
    # and a child that captures itself sees the same, credentials and namespaces included
    again = child("import sys; sys.path.insert(0, {str(ROOT)!r})\\n"
        "from extsession._launch import ambient; print(tuple(ambient.capture()))")
    assert tuple(ambient.capture()) == again, (ambient.capture(), again)
    return now
def skip(why):
    print("skip:", why)
    sys.exit()
libc = ctypes.CDLL(None, use_errno=True)
first = ambient.capture()
"""


def run(body: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + body], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    if done.stdout.startswith("skip: "):
        pytest.skip(done.stdout[6:].strip())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_as_it_is() -> None:
    run("check()")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("os.umask(0o137)", "umask"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGRTMAX, signal.SIGRTMIN])", "blocked"),
        ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", "ignored"),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "ignored"),
        ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "ignored"),
        ("libc.signal(signal.SIGRTMAX, ctypes.c_void_p(1))", "ignored"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (100, 101))", "limits"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1000, 2000))", "limits"),
        ("resource.setrlimit(resource.RLIMIT_RTTIME, (10**9, resource.getrlimit(resource.RLIMIT_RTTIME)[1]))", "limits"),
        ("os.setpriority(os.PRIO_PROCESS, 0, min(os.nice(0) + 3, 19))", "nice"),
        ("os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})", "cpus"),
        ("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "policy"),
        ("os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))", "policy"),
        ("open('/proc/self/oom_score_adj', 'w').write('789')", "oom_score_adj"),
    ],
)
def test_a_change_is_seen(change: str, name: str) -> None:
    if name == "cpus" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor: there is no smaller set")
    run(
        f"""
{change}
check()
now = ambient.capture()
assert {{name for name, a, b in zip(now._fields, now, first) if a != b}} == {{{name!r}}}, (now, first)
assert ambient.differences(now, now) == {{}} != ambient.differences(now, first)
"""
    )


def test_what_popen_restores_is_no_difference() -> None:
    run(
        """
for handler in (signal.SIG_DFL, signal.SIG_IGN):
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, handler)
    check()
    assert ambient.capture() == first
signal.signal(signal.SIGTERM, lambda *_: None)  # a handler is not inherited
assert ambient.capture() == first
"""
    )


def test_the_calling_thread_counts() -> None:
    run(
        """
failed = []
def work():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.setpriority(os.PRIO_PROCESS, 0, 7)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    failed.append(1)
    now = check()
    assert now["nice"] == 7 and signal.SIGTERM in now["blocked"]
    failed.clear()
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert not failed and ambient.capture() == first
"""
    )


@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR", "SCHED_OTHER", "SCHED_BATCH"])
@pytest.mark.parametrize("reset", [False, True])
def test_scheduling_of_a_child(policy: str, reset: bool) -> None:
    run(
        f"""
policy = os.{policy}
parameter = os.sched_param(1 if policy in (os.SCHED_FIFO, os.SCHED_RR) else 0)
try:
    os.sched_setscheduler(0, policy | (os.SCHED_RESET_ON_FORK if {reset} else 0), parameter)
    os.setpriority(os.PRIO_PROCESS, 0, -3)
except PermissionError:
    skip("this user may not")
check()
"""
    )


@pytest.mark.parametrize(
    "change",
    [
        "os.setgroups([3, 5])",
        "os.setgroups(range(10000, 20000))",  # more than one read holds
        "os.setresgid(65534, 65534, 65534)",
        "os.setresuid(65534, 65534, 0)",
        "os.setresuid(65534, 65534, 65534)",
        "assert libc.unshare(0x04000000) == 0",  # CLONE_NEWUTS
        "assert libc.unshare(0x00020000) == 0",  # CLONE_NEWNS
        "assert libc.unshare(0x20000000) == 0",  # CLONE_NEWPID: nothing of it but for children
        "assert libc.prctl(38, 1, 0, 0, 0) == 0",  # PR_SET_NO_NEW_PRIVS
        "assert libc.prctl(24, 25, 0, 0, 0) == 0",  # PR_CAPBSET_DROP CAP_SYS_TIME
        "assert libc.prctl(41, 1, 0, 0, 0) == 0",  # PR_SET_THP_DISABLE
    ],
)
def test_identity(change: str) -> None:
    if os.geteuid():
        pytest.skip("only root can change who it is")
    run(
        f"""
try:
    {change}
except (PermissionError, AssertionError):
    skip("this container does not let even root")
os.chdir("/")
now = ambient.capture()
assert now[:-1] == first[:-1] and now.identity != first.identity, (now, first)
env = environment.of_child()
assert ambient.fixed(now, env, False) != ambient.fixed(first, env, False)
assert ambient.fixed(now, env, False) == ambient.fixed(ambient.capture(), env, False)
"""
    )


def test_another_root(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    if os.geteuid():
        pytest.skip("only root can change its root directory")
    run(
        f"""
if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 1 << 14 | 1 << 18, None):  # private
    skip("this container does not let even root")
if libc.mount(b"proc", {str(tmp_path / "proc")!r}.encode(), b"proc", 0, None):
    skip("this container does not let even root mount proc")
first = ambient.capture()
os.chroot({str(tmp_path)!r})
now = ambient.capture()
assert now[:-1] == first[:-1] and now.identity != first.identity, (now, first)
"""
    )


@functools.cache
def _base() -> Ambient:
    limits = tuple((100, 200) for _ in ambient._LIMITS)
    return Ambient(0o22, 0, 0b1, limits, 0, 0b11, (0, 0), 0, ("me",))


def _limits(number: int, soft: int, hard: int) -> Ambient:
    limits = list(_base().limits)
    limits[ambient._LIMITS.index(number)] = (soft, hard)
    return _base()._replace(limits=tuple(limits))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (_base(), {}),
        (_base()._replace(identity=("another",)), {}),
        (_base()._replace(umask=0), {"umask": 0}),
        (_base()._replace(nice=1, oom_score_adj=9), {"nice": 1, "oom_score_adj": 9}),
        (_base()._replace(cpus=0b1010), {"cpus": (1, 3)}),
        (_base()._replace(policy=(3, 0)), {"policy": (3, 0)}),
        (_base()._replace(blocked=0b110), {"blocked": (2, 3)}),
        (_base()._replace(ignored=0b110), {"ignore": (2, 3), "default": (1,)}),
        (_limits(7, 200, 200), {"limits": {7: (200, 200)}}),
        (_limits(15, 0, 1), {"limits": {15: (0, 1)}}),
        (_limits(7, 200, 201), None),
        (_limits(7, 200, -1), None),
        (_base()._replace(nice=-1), None),
        (_base()._replace(oom_score_adj=-1), None),
        (_base()._replace(policy=(1, 1)), None),
        (_base()._replace(policy=(6, 0)), None),
    ],
)
def test_differences(now: Ambient, expected: object) -> None:
    found = differences(now, _base())
    assert found == expected
    assert marshal.loads(marshal.dumps(found, 2)) == expected


def test_differences_of_policies() -> None:
    def to(new: tuple[int, int], old: tuple[int, int]) -> object:
        return differences(_base()._replace(policy=new), _base()._replace(policy=old))

    assert to((0, 0), (5, 0)) is None  # out of SCHED_IDLE: sched(7) wants a permission
    assert to((1, 2), (1, 1)) is to((1, 1), (2, 1)) is None
    assert to((1, 1), (1, 2)) == {"policy": (1, 1)}
    assert to((0, 0), (1, 2)) == {"policy": (0, 0)}


def test_no_limit_may_be_lowered() -> None:
    base = _limits(7, -1, -1)
    assert differences(_limits(7, 5, -1), base) == {"limits": {7: (5, -1)}}
    assert differences(_limits(7, 5, 6), base) == {"limits": {7: (5, 6)}}


def test_fixed() -> None:
    plain = fixed(_base(), {}, False)
    hash(plain)
    assert fixed(_base()._replace(umask=0, nice=3, blocked=1, cpus=1), {}, False) == plain
    assert fixed(_base(), {b"PATH": b"1"}, False) == plain
    assert fixed(_limits(3, 100, 150), {}, False) == plain  # what of the stack's limit is in force is the soft one
    others = [
        fixed(_base(), {b"HOME": b"1"}, False),
        fixed(_limits(3, 99, 200), {}, False),
        fixed(_base()._replace(identity=("another",)), {}, False),
    ]
    assert plain not in others
    assert fixed(_base()._replace(cpus=1), {}, True) != fixed(_base(), {}, True)


def test_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    capture()
    with monkeypatch.context() as patch:
        patch.setattr(ambient, "_read", lambda path: b"Name:\tx\nUid:\t0\n")
        with pytest.raises(OSError, match="lacks a field"):
            capture()

    def gone(path: str) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(ambient, "_read", gone)
    with pytest.raises(FileNotFoundError):
        capture()


def test_a_process_name_forges_nothing() -> None:
    run(
        """
libc.prctl(15, b"x\\nUmask:\\t0777\\n", 0, 0, 0)  # PR_SET_NAME
check()
assert ambient.capture() == first
"""
    )


def test_stamps(tmp_path: Path) -> None:
    one = tmp_path / "one.pth"
    one.write_text("")
    os.utime(one, (1, 1))
    paths = [str(tmp_path), str(one), str(tmp_path / "none")]
    before = stamps(paths)
    assert stamps(paths) == before and before[2] is None
    os.utime(one, (2, 2))
    assert stamps(paths)[1] != before[1]
    (tmp_path / "none").touch()
    assert stamps(paths)[2] is not None


def test_leaves_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        capture()
    with contextlib.suppress(OSError):
        ambient._read("/proc/self/mem")
    assert set(os.listdir("/proc/self/fd")) == before
