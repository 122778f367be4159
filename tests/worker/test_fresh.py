"""A forked process takes over what a spawned one would have: each fact, on every CPython here.

The program that is run plays template: it loads `fresh`, forks, and looks at the forked process from inside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extsession._launch.interpreter import Interpreter

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = f"""
import os, sys
before = set(sys.modules)
package = sys.modules["extsession"] = type(sys)("extsession")
package.__path__ = [{str(ROOT / "extsession")!r}]
from extsession._worker import fresh
import _signal, resource, time

def in_fork(function):
    "What `function` returns in a forked process; its OSError as (errno, text)."
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            text = repr(function())
        except OSError as error:
            text = repr((error.errno, error.strerror))
        except BaseException as error:
            text = repr("%s: %s" % (type(error).__name__, error))
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return eval(text)

def status(label):
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(label + ":"))

def unprivileged():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
"""


def run(python: str, body: str, **env: str) -> None:
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", PRELUDE + body],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_to_change(each_python: Interpreter) -> None:
    run(
        each_python.path,
        """
def look():
    modules, facts = set(sys.modules), (os.getcwd(), dict(os.environ), status("SigIgn"), status("SigBlk"))
    fresh.apply({})
    fresh.renew()
    return set(sys.modules) - modules, facts == (
        os.getcwd(), dict(os.environ), status("SigIgn"), status("SigBlk"))
assert in_fork(look) == (set(), True)
mine = {name for name in set(sys.modules) - before if not name.startswith("extsession")}
assert mine <= {"__future__", "resource"}, mine  # both are hidden by boot
""",
    )


def test_current_directory(each_python: Interpreter, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    run(
        each_python.path,
        f"""
folder = os.open({str(tmp_path)!r}, os.O_PATH | os.O_DIRECTORY)
gone = os.open({str(gone)!r}, os.O_PATH | os.O_DIRECTORY)
os.rmdir({str(gone)!r})
def look(fd):
    fresh.apply({{}}, fd)
    os.fstat(fd)
    return os.readlink("/proc/self/cwd")
assert in_fork(lambda: look(folder)) == {str(tmp_path)!r}
assert in_fork(lambda: look(gone)) == {str(gone)!r} + " (deleted)"
""",
    )


def test_environment(each_python: Interpreter) -> None:
    run(
        each_python.path,
        """
def c_environment():
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(write, 1)
        os.execv("/usr/bin/env", ["env", "-0"])  # with what C has
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, "rb") as file:
        return dict(each.split(b"=", 1) for each in file.read().split(b"\\0") if each)
def look():
    same = os.environ
    fresh.apply({}, None, ({b"NEW": b"a=b \\xff", b"KEPT": b""}, [b"GONE", b"NEVER"]))
    assert os.environ is same and "GONE" not in os.environ
    for environ in (os.environb, c_environment()):
        assert environ[b"NEW"] == b"a=b \\xff" and environ[b"KEPT"] == b"" and b"GONE" not in environ
    return os.environ["NEW"], os.environ["OTHER"]
assert in_fork(look) == ("a=b \\udcff", "1")
""",
        GONE="1",
        KEPT="1",
        OTHER="1",
    )


def test_time_zone(each_python: Interpreter) -> None:
    run(
        each_python.path,
        """
def look(new, gone):
    fresh.apply({}, None, (new, gone))
    return time.tzname[0], time.timezone, time.localtime(0).tm_hour
assert in_fork(lambda: look({b"TZ": b"ABC-3"}, [])) == ("ABC", -10800, 3)
assert in_fork(lambda: look({b"OTHER": b"1"}, [])) == ("XYZ", 7200, 22)
assert in_fork(lambda: look({}, [b"TZ"])) != ("XYZ", 7200, 22)
""",
        TZ="XYZ2",
    )


def test_temporary_folder(each_python: Interpreter, tmp_path: Path) -> None:
    run(
        each_python.path,
        f"""
import tempfile
old, folder = tempfile.gettempdir(), {str(tmp_path)!r}
def look(name):
    fresh.apply({{}}, None, ({{name: os.fsencode(folder)}}, []))
    return tempfile.gettempdir()
assert in_fork(lambda: look(b"TMPDIR")) == folder != old
assert in_fork(lambda: look(b"OTHER")) == old
""",
        TMPDIR="/tmp",
    )


def test_numbers(each_python: Interpreter) -> None:
    run(
        each_python.path,
        """
cpu = max(os.sched_getaffinity(0))
nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 2, 19)
with open("/proc/self/oom_score_adj") as file:
    oom = min(int(file.read()) + 7, 1000)
def look():
    fresh.apply({"umask": 0o137, "nice": nice, "policy": (os.SCHED_BATCH, 0), "cpus": (cpu,), "oom_score_adj": oom})
    with open("/proc/self/oom_score_adj") as file:
        got = int(file.read())
    return (status("Umask"), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0),
        os.sched_getaffinity(0), got)
assert in_fork(look) == ("0137", nice, os.SCHED_BATCH, {cpu}, oom)
""",
    )


def test_limits(each_python: Interpreter) -> None:
    run(
        each_python.path,
        """
for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
    resource.setrlimit(number, (0, 64))
def look(limits):
    fresh.apply({"limits": limits, "oom_score_adj": 1000})  # a file is opened before files are forbidden
    return {number: resource.getrlimit(number) for number in limits}
lower = {resource.RLIMIT_NOFILE: (0, 8), resource.RLIMIT_FSIZE: (7, 7), resource.RLIMIT_CORE: (64, 64)}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
assert in_fork(lambda: look(lower)) == lower
def refused(limits):
    unprivileged()
    fresh.apply({"limits": limits})
number, text = in_fork(lambda: refused({resource.RLIMIT_FSIZE: (7, 65)}))
assert number == 1 and text.startswith("cannot set RLIMIT_FSIZE: ") and "(7, 65)" in text, text
number, text = in_fork(lambda: refused({resource.RLIMIT_CORE: (9, 8)}))
assert "RLIMIT_CORE" in text, text
number, text = in_fork(lambda: refused({99: (9, 8)}))
assert "resource limit 99" in text, text
""",
    )


def test_signals(each_python: Interpreter) -> None:
    run(
        each_python.path,
        """
USR1, USR2, HUP, INT, RT = 10, 12, 1, 2, 40
_signal.signal(HUP, _signal.SIG_IGN)
_signal.signal(INT, _signal.SIG_IGN)
def look():
    fresh.apply({"ignore": (USR1, RT), "default": (HUP, INT), "blocked": (USR2, INT)})
    names = {_signal.SIG_IGN: "ignored", _signal.SIG_DFL: "default", _signal.default_int_handler: "python"}
    ignored = int(status("SigIgn"), 16)
    return ([names[_signal.getsignal(each)] for each in (USR1, RT, HUP, INT, USR2)],
        [ignored >> each - 1 & 1 for each in (USR1, RT, HUP, INT, USR2)], int(status("SigBlk"), 16))
assert in_fork(look) == (["ignored", "ignored", "default", "python", "default"], [1, 1, 0, 0, 0],
    1 << USR2 - 1 | 1 << INT - 1)
# a signal that was held back arrives only when all else is done
_signal.pthread_sigmask(_signal.SIG_BLOCK, [USR1])
def late():
    seen = []
    _signal.signal(USR1, lambda *_: seen.append(status("Umask")))
    os.kill(os.getpid(), USR1)
    fresh.apply({"blocked": (), "umask": 0o111, "ignore": (USR2,)})
    return seen
assert in_fork(late) == ["0111"]
""",
    )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("{}, null", "the current directory"),
        ("{}, None, ({b'A=B': b''}, [])", "the environment variable 'A=B'"),
        ("{'nice': -20}", "the nice value"),
        ("{'policy': (1, 99)}", "the scheduling policy"),
        ("{'cpus': ()}", "the processors"),
        ("{'oom_score_adj': -1000}", "oom_score_adj"),
        ("{'ignore': (9,)}", "signal 9"),
        ("{'blocked': (9999,)}", "the signal mask"),
    ],
)
def test_what_cannot_be_set_is_named(arguments: str, name: str) -> None:
    run(
        sys.executable,
        f"""
null = os.open("/dev/null", os.O_RDONLY)
def look():
    unprivileged()
    resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    fresh.apply({arguments})
number, text = in_fork(look)
assert number and text.startswith("cannot set " + {name!r}), text
""",
    )


RANDOM = """
import random, ssl, tempfile, threading, uuid, logging, multiprocessing
random.random(); ssl.RAND_bytes(1); uuid.uuid1(); next(tempfile._get_candidate_names())
uuid._node = 0x010203040506  # invented
logging._startTime -= type(logging._startTime)(5)
began, main = logging._startTime, threading.main_thread()
def look():
    fresh.renew()
    facts = [random.random(), ssl.RAND_bytes(8), next(tempfile._get_candidate_names())]
    facts.append(bytes(multiprocessing.current_process().authkey))
    assert uuid._last_timestamp is uuid._node is None
    assert logging._startTime > began and type(logging._startTime) is type(began)
    assert threading.main_thread() is main is threading.current_thread()
    assert main.native_id == os.getpid() and main.ident == threading.get_ident()
    return facts
one, two = in_fork(look), in_fork(look)
assert len(one) == 4 and not any(a == b for a, b in zip(one, two)), (one, two)
uuid._node = 0x000203040506  # the machine's
def node():
    fresh.renew()
    return uuid._node
assert in_fork(node) == 0x000203040506
"""


@pytest.mark.parametrize("prepared", [False, True])
def test_random_state(each_python: Interpreter, prepared: bool) -> None:
    run(each_python.path, RANDOM.replace("def look", "fresh.prepare()\ndef look", 1) if prepared else RANDOM)


def test_openssl_in_a_process_with_the_number_of_its_template() -> None:
    run(
        sys.executable,
        """
import ssl
ssl.RAND_bytes(1)
template = os.getpid()
class Ssl:
    added = []
    RAND_add = staticmethod(lambda data, entropy: Ssl.added.append((len(data), entropy)))
def look(number):
    sys.modules["_ssl"] = Ssl
    fresh.renew(number if number else os.getpid())
    return Ssl.added
assert in_fork(lambda: look(template)) == []
assert in_fork(lambda: look(0)) == [(32, 0.0)]
""",
    )


def test_random_state_of_numpy() -> None:
    pytest.importorskip("numpy")
    run(
        sys.executable,
        """
import numpy.random
numpy.random.seed(1)
def look():
    fresh.renew()
    return float(numpy.random.rand())
one, two = in_fork(look), in_fork(look)
assert isinstance(one, float) and one != two, one
numpy.random.set_bit_generator(numpy.random.PCG64(1))
one, two = in_fork(look), in_fork(look)
assert isinstance(one, float) and one != two, one
""",
    )
