"""The program that runs commands ends, in every way there is: nothing is left a moment later.

The promise is two seconds; the bound here is for a machine that has far more to do than it can.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

BOUND = 10.0
FAMILY = r'''
import os, resource, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
def child(orphan):
    read, write = os.pipe()
    if os.fork():
        return os.read(read, 20)
    os.setsid()
    if orphan and os.fork():
        os._exit(0)
    os.write(write, b"%d" % os.getpid())
    time.sleep(60)
while resource.getrlimit(10)[0] == resource.RLIM_INFINITY:  # what it leaves before it is signed, nobody finds
    time.sleep(0.001)
pids = [b"%d" % os.getpid(), child(False), child(True)]
os.write(2, b" ".join(pids) + b"\n")
time.sleep(60)
'''

PROGRAM = f"""
import os, signal, subprocess, sys, threading, time
from extsession.execute import *
executor = LocalSubProcessExecute(on_err=lambda data: os.write(1, data))
def run():
    executor(ExecuteRequest([sys.executable, "-ISc", {FAMILY!r}]))
threads = [threading.Thread(target=run, daemon=True) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
sys.stdin.readline()
{{
    "exit": sys.exit,
    "_exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "error": lambda: 1 / 0,
}}[sys.argv[1]]()
"""


@pytest.fixture
def started(controller: Any) -> Any:
    """started(how, number): PROGRAM with commands that run, and their processes and those that they have started."""
    opened = []

    def start(how: str, number: int = 1) -> tuple[Any, list[int]]:
        process = subprocess.Popen(
            [*controller(PROGRAM), how, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        opened.append(process)
        assert process.stdout is not None
        pids = [int(word) for _ in range(number) for word in process.stdout.readline().split()]
        assert len(pids) == 3 * number
        return process, pids

    yield start
    for process in opened:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def guard_of(process: Any) -> psutil.Process:
    (found,) = [
        child for child in psutil.Process(process.pid).children() if any("guard_of_ext" in each for each in child.cmdline())
    ]
    return found


@pytest.mark.parametrize("how", ["kill", "exit", "_exit", "abort", "exec", "error"])
def test_nothing_is_left(started: Any, is_running: Any, eventually: Any, how: str) -> None:
    process, pids = started(how)
    guard = guard_of(process)
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.wait(10)
    eventually(lambda: not any(map(is_running, [*pids, guard.pid])), BOUND)
    if how in ("exit", "_exit", "exec"):
        assert process.returncode == 0


def test_many_commands(started: Any, is_running: Any, eventually: Any) -> None:
    process, pids = started("kill", 20)
    guard = guard_of(process)
    process.stdin.write(b"\n")
    process.stdin.flush()
    eventually(lambda: not any(map(is_running, [*pids, guard.pid])), BOUND)


def test_signals_of_a_terminal_do_not_end_the_guard(started: Any, is_running: Any, eventually: Any) -> None:
    process, pids = started("kill")
    guard = guard_of(process)
    assert os.getsid(guard.pid) == guard.pid

    def is_deaf() -> bool:
        with open(f"/proc/{guard.pid}/status") as file:
            (mask,) = [int(line.split()[1], 16) for line in file if line.startswith("SigIgn")]
        return bool(mask & 1 << signal.SIGTERM - 1)

    eventually(is_deaf)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        guard.send_signal(number)
    process.stdin.write(b"\n")
    process.stdin.flush()
    eventually(lambda: not any(map(is_running, [*pids, guard.pid])), BOUND)


KILLED = f"""
import os, signal, subprocess, sys, time
from extsession.execute import *
import psutil
def guard():
    (found,) = [each for each in psutil.Process().children() if any("guard_of_ext" in word for word in each.cmdline())]
    return found
executor = LocalSubProcessExecute(on_err=lambda data: os.write(1, data))
with executor.call(ExecuteRequest([sys.executable, "-ISc", {FAMILY!r}])) as status:
    while not status.err:
        time.sleep(0.01)
    first = guard()
    if sys.argv[1] == "killed":
        first.kill()
        while first.is_running() and first.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    else:
        first.suspend()
        for _ in range(2500):  # until its pipe is full
            from extsession._launch.guard import guard as ours
            with ours._lock:
                ours._tell(b"- 1\\n" * 10)
    assert executor(ExecuteRequest(["true"])).success  # with which another one is made
    second = guard()
    print("guards", second.pid != first.pid, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_guard_that_is_ended_is_replaced(controller: Any, is_running: Any, eventually: Any, how: str) -> None:
    """And the new one is told of what runs already."""
    done = subprocess.run([*controller(KILLED), how], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (-9, "guards True\n")
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 3
    eventually(lambda: not any(map(is_running, pids)), BOUND)


@pytest.mark.leaks("what it has started on purpose is ended by the test")
def test_what_was_left_on_purpose_stays(controller: Any, is_running: Any) -> None:
    source = """
from extsession.execute import *
print(LocalSubProcessExecute(drain_timeout=0)(ExecuteRequest(["sh", "-c", "sleep 60 & echo $!"])).out)
"""
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=20)
    time.sleep(0.2)
    pid = int(done.stdout)
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_an_end_without_a_word(controller: Any) -> None:
    """The guard lives as long as the program; nobody is warned of it."""
    source = "from extsession.execute import *\nLocalSubProcessExecute()(ExecuteRequest(['true']))"
    command = controller(source)
    done = subprocess.run(
        [command[0], "-X", "dev", "-W", "error", *command[1:]], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_an_interpreter(controller: Any) -> None:
    """As in a program that Python is embedded in: there is no guard, and commands run all the same."""
    source = """
import sys
sys.executable = ""
from extsession.execute import *
print(LocalSubProcessExecute()(ExecuteRequest(["echo", "well"])).out)
"""
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("well\n\n", "")
    assert sys.executable
