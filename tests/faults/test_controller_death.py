"""The controller dies, or just ends: two seconds later no process of any session is left, and nobody complains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

#: a program that prints the process ids to look for, and then does what the test is about
BEGIN = f"""
import os, sys, time, threading
sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import ExtSession, PIPE
def say(*pids):
    print(*pids, flush=True)
def ids(session):
    with open('/proc/%d/stat' % session.pid) as file:
        return session.pid, int(file.read().rpartition(')')[2].split()[1])
"""

Controller = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def controller() -> Iterator[Controller]:
    """Start such a program."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", BEGIN + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    found = [int(word) for word in process.stdout.readline().split()]
    assert found, process.communicate(timeout=5)[1]
    return found


#: code for a session that starts a daemon by a double fork; the daemon closes all descriptors, and stays
DAEMON = """
import os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, b'%d' % os.getpid())
        os.closerange(0, 5000)
        os.chdir('/')
        import signal
        for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
        while True: time.sleep(1000)
    os._exit(0)
os.wait()
print(int(os.read(reading, 100)), flush=True)
"""
TREE = """
import subprocess
inner = 'import subprocess, sys, time; p = subprocess.Popen(["sleep", "1000"]); print(p.pid, flush=True); time.sleep(1000)'
child = subprocess.Popen([__import__('sys').executable, '-c', inner], stdout=subprocess.PIPE)
apart = subprocess.Popen(['setsid', 'sleep', '1000'])
print(child.pid, int(child.stdout.readline()), apart.pid, flush=True)
"""
BUSY = "for _ in range(10**12): pass"
C_LOOP = "sum(range(10**15))"
FULL_PIPE = "import os, time\nreading, writing = os.pipe()\nprint('x', flush=True)\nos.write(writing, b'x' * 10**9)"
STOPPED = "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"

CASES = {
    "idle": "say(*ids(s))",
    "starting": (
        "from extsession import ExtEval\n"
        "e = [ExtEval('1') for _ in range(3)]\n"
        "say(*ids(s), *[x._session._core.link.process.warden.popen.pid for x in e])"
    ),
    "busy": f"s.execute({BUSY!r}); say(*ids(s))",
    "busy in C": f"s.execute('print(1, flush=True)\\n' + {C_LOOP!r}); s.readline(); say(*ids(s))",
    "blocked in a full pipe": f"s.execute({FULL_PIPE!r}); s.readline(); say(*ids(s))",
    "writing to a controller that does not read": (
        "s.execute('print(1, flush=True)\\nwhile True: print(\"x\" * 10**6)', on_output=lambda chunk: None)\n"
        "s.readline(); say(*ids(s))"
    ),
    "waiting for input": "s.execute('input()', stdin=PIPE); say(*ids(s))",
    "stopped": f"s.execute({STOPPED!r}); s.readline(); time.sleep(0.02); say(*ids(s))",
    "ignoring signals": (
        "s.execute('import signal, time\\nfor n in range(1, 32):\\n  if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\\n"
        "print(1, flush=True)\\nwhile True: time.sleep(1)'); s.readline(); say(*ids(s))"
    ),
    "with a daemon": f"say(*ids(s), s.execute({DAEMON!r}).wait().stdout.strip())",
    "with a tree": f"say(*ids(s), s.execute({TREE!r}).wait().stdout.strip())",
    "busy, with daemons and a tree": (
        f"a = s.execute({DAEMON!r}).wait().stdout.strip(); b = s.execute({DAEMON!r}).wait().stdout.strip()\n"
        f"c = s.execute({TREE!r}).wait().stdout.strip(); s.execute({C_LOOP!r}); say(*ids(s), a, b, c)"
    ),
    "that has closed its descriptors": (
        "s.execute('import os; print(1, flush=True); os.closerange(0, 5000)\\nwhile True: pass'); s.readline(); say(*ids(s))"
    ),
    "many": (
        "more = [ExtSession() for _ in range(5)]\n"
        f"for x in more[:3]: x.execute({BUSY!r})\n"
        "say(*ids(s), *[pid for x in more for pid in ids(x)])"
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_controller_leaves_nothing(case: str, controller: Controller, watch: Any) -> None:
    process = controller(f"s = ExtSession()\n{CASES[case]}\ntime.sleep(1000)")
    found = pids(process)
    assert all(watch.state(pid) not in ("", "Z") for pid in found)
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    left = found if not watch.gone(found, 2.0) else []
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize("case", CASES)
def test_controller_that_just_ends_leaves_nothing(case: str, controller: Controller, watch: Any) -> None:
    """It closes nothing; and it ends at once, with its own status and without a word."""
    process = controller(f"s = ExtSession()\n{CASES[case]}\nsys.stdin.readline(); sys.exit(7)")
    found = pids(process)
    out, err = process.communicate("end\n", timeout=5)
    assert (out, err, process.returncode) == ("", "", 7)
    left = found if not watch.gone(found, 2.0) else []
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


ENDS = {
    "nothing was ever run": ("s = ExtSession(); say(*ids(s))", 0),
    "an exception": ("s = ExtSession(); s.execute('while True: pass'); say(*ids(s)); 1 / 0", 1),
    "os._exit": ("s = ExtSession(); s.execute('while True: pass'); say(*ids(s)); os._exit(3)", 3),
    "SIGTERM": (
        "s = ExtSession(); s.execute('while True: pass'); say(*ids(s)); os.kill(os.getpid(), 15); time.sleep(100)", -15,
    ),
    "an interrupt while it waits": (
        "s = ExtSession(); say(*ids(s)); threading.Timer(0.2, os.kill, (os.getpid(), 2)).start()\n"
        "s.execute('while True: pass').wait()", -2,
    ),
    "in an exit handler": (
        "import atexit; s = ExtSession(); say(*ids(s)); atexit.register(lambda: s.execute('1').wait())", 0,
    ),
    "in a thread": (
        "def work():\n  s = ExtSession(); say(*ids(s)); s.execute('print(1)').wait(); sessions.append(s)\n"
        "sessions = []; t = threading.Thread(target=work); t.start(); t.join()", 0,
    ),
    "a session that is a global of a module": (
        "import types; m = types.ModuleType('m'); sys.modules['m'] = m; m.s = ExtSession(); m.me = m\n"
        "say(*ids(m.s)); m.s.execute('while True: pass')", 0,
    ),
    "a cycle": ("class A: pass\na = A(); a.a = a; a.s = ExtSession(); say(*ids(a.s)); a.s.execute('1'); del a", 0),
    "calls that nobody waited for": (
        "s = ExtSession(); say(*ids(s)); r = [s.execute('import time; time.sleep(0.001)') for _ in range(1000)]", 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_ways_to_end_without_close(case: str, controller: Controller, watch: Any) -> None:
    code, status = ENDS[case]
    process = controller(code)
    found = pids(process)
    _, err = process.communicate(timeout=5)
    if status in (1, -2):
        assert err.strip().endswith(("ZeroDivisionError: division by zero", "KeyboardInterrupt"))
        assert "Exception ignored" not in err
        assert "extsession-hub" not in err
    else:
        assert err == ""
    assert process.returncode == status
    assert watch.gone(found, 2.0)


def test_a_session_outlives_a_forked_process_that_ends(controller: Controller, watch: Any) -> None:
    """os.fork() in the controller, and the child lives on: that does not keep the sessions of a dead parent."""
    process = controller(
        "import warnings; warnings.simplefilter('ignore')\n"
        "s = ExtSession(); t = ExtSession(); t.execute('while True: pass')\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(1000); os._exit(0)\n"
        "assert s.eval('1') == 1\n"
        "say(child, *ids(s), *ids(t)); time.sleep(1000)"
    )
    child, *found = pids(process)
    try:
        process.send_signal(signal.SIGKILL)
        process.wait(5)
        assert watch.gone(found, 2.0)
        assert watch.state(child) not in ("", "Z")
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_end_of_each_python_without_a_hub(each_python: Any, watch: Any) -> None:
    """A session that never needed the hub: none can be made while the interpreter ends (3.12 and later refuse)."""
    if each_python.version < (3, 10):
        pytest.skip("the controller needs 3.10")
    code = BEGIN + "s = ExtSession(); say(*ids(s))"
    result = subprocess.run(
        [each_python.path, "-W", "error", "-c", code], capture_output=True, text=True, timeout=20
    )
    assert (result.stderr, result.returncode) == ("", 0)
    assert watch.gone(map(int, result.stdout.split()), 2.0)
