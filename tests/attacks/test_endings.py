"""Attacks that show from outside: what outlives a session, who dies of a forbidden call, cores, groups, exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, '-I', '-c', 'import time, os; os.closerange(0, 50); time.sleep(%d)', HOST['token']])
    os._exit(0)
os.wait(); time.sleep(0.3); win('daemon')
"""
#: writes machine code and calls it: getpid by int 0x80, or by the x32 number
MACHINE_CODE = """
import mmap
page = mmap.mmap(-1, 4096, prot=7); page.write(CODE)
value = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
win(str(value))
"""
INT80 = bytes.fromhex("53 b8 14 00 00 00 cd 80 5b c3")  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
X32 = bytes.fromhex("b8 27 00 00 40 0f 05 c3")  # mov eax, 0x40000000 + 39; syscall; ret


def alive(token: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if token.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def until(check: Any, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(autouse=True)
def _allowed(request: pytest.FixtureRequest, reached: dict[str, Any]) -> None:
    tier = request.node.callspec.params.get("tier", "full")
    if tier != "none" and not reached[tier]["reached"]:
        pytest.skip(f"this host does not allow the {tier} tier: {reached[tier]['cure']}")


def test_a_daemon_ends_with_its_session(user: str, runner: Any) -> None:
    token = uuid.uuid4().hex
    ended = runner.run("full", user, DAEMON % 60, {"token": token})
    assert ended.did == ["daemon"], ended
    assert until(lambda: not alive(token), 1.0)


def test_the_daemon_outlives_a_process_without_walls(user: str, runner: Any) -> None:
    token = uuid.uuid4().hex
    with runner.work_folder(user, "none") as work:
        runner.run("none", user, DAEMON % 60, {"token": token}, work)
    left = alive(token)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left
    assert until(lambda: not alive(token))


def test_a_daemon_cannot_be_in_the_weak_tier(user: str, runner: Any) -> None:
    token = uuid.uuid4().hex
    with runner.work_folder(user, "weak") as work:
        ended = runner.run("weak", user, DAEMON % 60, {"token": token}, work)
    assert ended.did == ["crashed"] and "PermissionError" in ended.err
    assert not alive(token)


@pytest.mark.parametrize("tier", ["full", "weak"])
def test_nothing_outlives_the_manager(user: str, tier: str, runner: Any) -> None:
    """Also where the code has tried to clear its PDEATHSIG, ignores signals and is busy."""
    source = """
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
try: call('prctl', 1, 0, 0, 0, 0)
except OSError: pass
try:
    for _ in range(5): os.fork()
except OSError: pass
os.write(1, b'up')
while True: pass
"""
    with runner.work_folder(user, tier) as work:
        # in between: the one whose end is to be noticed, as a warden is to a template
        code = (
            "import os, sys, time\n"
            "pid = os.fork()\n"
            "if pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n"
            "os.close(0); os.close(1); time.sleep(60)\n"
        )
        token = uuid.uuid4().hex
        order = runner.json.dumps(
            {"tier": tier, "config": {"work": work, "limits": {"nproc": 64}}, "source": source, "host": {"t": token}}
        )
        python = runner.python(user)
        manager = subprocess.Popen(
            [python, "-I", "-c", code, python, "-I", "-B", "-c", runner.DRIVER, str(runner.ROOT), token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
            **runner.identity(user),
        )
        assert manager.stdin is not None and manager.stdout is not None
        manager.stdin.write(order.encode())
        manager.stdin.close()
        try:
            assert manager.stdout.read(2) == b"up"
            assert len(alive(token)) >= (4 if tier == "full" else 2)
            os.kill(manager.pid, signal.SIGKILL)
            manager.wait()
            assert until(lambda: not alive(token), 2.0), alive(token)
        finally:
            for pid in alive(token):
                os.kill(pid, signal.SIGKILL)
            manager.kill()
            manager.wait()
            manager.stdout.close()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other ways of calling are those of x86_64")
@pytest.mark.parametrize("way", ["int80", "x32"])
@pytest.mark.parametrize("tier", ["full", "weak"])
def test_other_ways_of_calling_end_the_process(user: str, tier: str, way: str, runner: Any) -> None:
    code = INT80 if way == "int80" else X32
    with runner.work_folder(user, tier) as work:
        ended = runner.run(tier, user, MACHINE_CODE.replace("CODE", repr(code)), {}, work)
    assert ended.did is None
    assert ended.code == -signal.SIGSYS, ended


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other ways of calling are those of x86_64")
@pytest.mark.parametrize("code", [INT80, X32])
def test_other_ways_of_calling_are_made_without_walls(user: str, code: bytes, runner: Any) -> None:
    with runner.work_folder(user, "none") as work:
        ended = runner.run("none", user, MACHINE_CODE.replace("CODE", repr(code)), {}, work)
    if ended.code == -signal.SIGSEGV:
        pytest.skip("this kernel has no int 0x80")
    assert ended.did and ended.code == 0, ended


@pytest.mark.parametrize("tier", ["full", "weak"])
def test_no_core(user: str, tier: str, runner: Any) -> None:
    source = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if resource.getrlimit(resource.RLIMIT_CORE) != (1, 1): win('changed')
ctypes.string_at(0)
"""
    with runner.work_folder(user, tier) as work:
        ended = runner.run(tier, user, source, {}, work)
        assert ended.did is None
        assert ended.code == -signal.SIGSEGV, ended
        assert os.listdir(work) == []


@pytest.mark.parametrize("tier", ["full", "weak"])
@pytest.mark.parametrize("ending, code", [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("os._exit(137)", 137)])
def test_how_it_ended_is_told_truly(user: str, tier: str, ending: str, code: int, runner: Any) -> None:
    with runner.work_folder(user, tier) as work:
        assert runner.run(tier, user, ending, {}, work).code == code


@pytest.mark.parametrize("tier", ["full", "weak"])
def test_signals_to_its_group_and_to_all(user: str, tier: str, runner: Any) -> None:
    """SIGURG does no harm to others if this fails."""
    source = """
hits = []
for number in (0, -1, -os.getpgid(0)):
    try: os.kill(number, signal.SIGURG)
    except OSError: pass
"""
    code = "import os, signal; signal.signal(23, lambda *a: os._exit(3)); print(flush=True); signal.pause()"
    victim = subprocess.Popen([runner.python(user), "-I", "-c", code], stdout=subprocess.PIPE, **runner.identity(user))
    try:
        assert victim.stdout is not None
        victim.stdout.readline()
        with runner.work_folder(user, tier) as work:
            assert runner.run(tier, user, source, {}, work).did == []
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.communicate()


def test_the_host_has_no_mounts_of_it(user: str, runner: Any) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert runner.run("full", user, "").did == []
    assert Path("/proc/self/mountinfo").read_text() == before


KILL = """
import json, os, signal, sys, time
load = loader(sys.argv[1]).load
libc, namespaces, lockdown = [load("_worker.confine." + n) for n in ("libc", "namespaces", "lockdown")]
namespaces.enter_base({})
config = lockdown.prepare({})
times = []
for _ in range(10):
    up, ready = os.pipe()
    pid = libc.clone(namespaces.session_flags(config) | signal.SIGCHLD)
    if pid == 0:
        lockdown.full(config, namespaces.enter_session(config))
        for number in range(1, 32):
            if number not in (9, 17, 19): signal.signal(number, signal.SIG_IGN)
        for _ in range(17):
            if os.fork() == 0: break
        os.write(ready, b"x")
        while True: time.sleep(60)
    os.close(ready)
    count = 0
    while count < 18: count += len(os.read(up, 18))
    begun = time.monotonic()
    os.kill(pid, 9)
    os.waitpid(pid, 0)  # the kernel tells of an init when all others have ended
    assert os.read(up, 1) == b""
    os.close(up)
    times.append(time.monotonic() - begun)
print(json.dumps(sorted(times)))
"""


def test_killing_the_init_kills_all(user: str, runner: Any) -> None:
    done = subprocess.run(
        [runner.python(user), "-I", "-B", "-c", runner.DRIVER.replace("\nmain()\n", KILL), str(runner.ROOT)],
        capture_output=True,
        cwd="/",
        timeout=60,
        **runner.identity(user),
    )
    times = runner.json.loads(done.stdout)
    print("all 18 gone: median %.1f ms, most %.1f ms" % (times[5] * 1e3, times[-1] * 1e3))
    assert times[5] < 0.2 and times[-1] < 1.0


def test_without_its_own_interpreter(user: str, runner: Any) -> None:
    """As root an interpreter below a folder that only root may enter can be used; the folder cannot be looked at."""
    if user != "root":
        pytest.skip("an ordinary user cannot get there in the first place")
    source = """
import subprocess
subprocess.run([sys.executable, '-c', 'import ssl, sqlite3'], check=True)
attempt('home', lambda: open('/root/.bashrc'))
"""
    ended = runner.run("full", user, source, interpreter=sys.executable)
    assert ended.did == [], ended
