"""Ctrl-C, in a terminal and at any moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pexpect
import pytest

from extsession.execute import LocalSubProcessExecute

#: a command that ends at the signals that are named, and counts SIGINT
COMMAND = r'''
import os, signal, sys, time
count = 0
def told(number, frame):
    global count
    count += number == signal.SIGINT
    name = signal.Signals(number).name
    if name in sys.argv[1:]:
        time.sleep(0.05)
        os.write(1, b"told %d times\n" % count)
        os._exit(number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, told)
os.write(1, b"pid %d group %d\n" % (os.getpid(), os.getpgrp()))
while True:
    time.sleep(60)
'''

PROGRAM = f"""
import logging, os, sys, time
logging.basicConfig(format="%(levelname)s %(message).20s")
from extsession.execute import *
stdin = StdinSource.USER if sys.argv[2] == "user" else None
request = ExecuteRequest([sys.executable, "-ISc", {COMMAND!r}, *sys.argv[3:]], stdin=stdin)
executor = LocalSubProcessExecute(show=True)
try:
    if sys.argv[1] == "call":
        with executor.call(request) as status:
            status.wait()
    else:
        executor(request)
except KeyboardInterrupt as error:
    print("context", error.__context__, error.__cause__)
if sys.argv[1] == "call":
    print("steps", [step.value for step in status.outcome.steps], "exit", status.exit_code)
print("own group", os.getpgrp())
print("end")
"""


@pytest.fixture
def terminal(controller: Any) -> Any:
    """terminal(*arguments): PROGRAM in a terminal of its own."""
    opened = []

    def start(*arguments: str) -> Any:
        command = controller(PROGRAM)
        child = pexpect.spawn(command[0], [*command[1:], *arguments], timeout=15, encoding="utf-8")
        opened.append(child)
        return child

    yield start
    for child in opened:
        child.close(force=True)


@pytest.mark.parametrize("way", ["call", "run"])
@pytest.mark.parametrize(
    ("obeys", "steps", "code", "least", "most"),
    [
        ("SIGINT", ["interrupt"], 2, 0.05, 0.25),
        ("SIGTERM", ["interrupt", "terminate"], 15, 0.35, 0.55),
        ("", ["interrupt", "terminate", "kill"], -9, 0.5, 0.7),
    ],
)
def test_three_steps(
    terminal: Any, is_running: Any, way: str, obeys: str, steps: list[str], code: int, least: float, most: float
) -> None:
    child = terminal(way, "none", obeys)
    child.expect(r"pid (\d+) group (\d+)\r+\n")  # a terminal in a terminal
    pid, group = map(int, child.match.groups())
    assert pid == group  # its own
    began = time.monotonic()
    child.sendintr()
    child.expect("context None None\r\n")  # the same one goes on
    took = time.monotonic() - began
    said = child.before
    assert not is_running(pid)
    assert least <= took < most + 0.4  # for a machine that is busy
    assert re.findall(r"WARNING sent (SIG\w+)", said) == ["SIGINT", "SIGTERM", "SIGKILL"][: len(steps)]
    if obeys:
        assert "told 1 times" in said
    if way == "call":
        child.expect_exact(f"steps {steps} exit {code}\r\n")
    child.expect_exact("end\r\n")
    child.expect(pexpect.EOF)


@pytest.mark.parametrize(
    ("obeys", "steps", "code"), [("SIGINT", [], 2), ("SIGTERM", ["terminate"], 15), ("", ["terminate", "kill"], -9)]
)
def test_one_that_has_the_terminal_is_told_by_it(terminal: Any, obeys: str, steps: list[str], code: int) -> None:
    """It stays in our group, for else it would be stopped when it reads; and is not told a second time."""
    child = terminal("call", "user", obeys)
    child.expect(r"pid (\d+) group (\d+)\r+\n")  # a terminal in a terminal
    group = int(child.match[2])
    child.sendintr()
    if obeys:
        child.expect("told 1 times\r+\n")
    child.expect_exact(f"steps {steps} exit {code}\r\n")
    child.expect_exact(f"own group {group}\r\n")
    child.expect(pexpect.EOF)


def test_it_can_read_from_the_terminal(controller: Any) -> None:
    source = """
from extsession.execute import *
status = LocalSubProcessExecute(show=True)(
    ExecuteRequest(["sh", "-c", "printf 'name? '; read x; echo hello $x"], stdin=StdinSource.USER)
)
print(repr(status.out))
"""
    command = controller(source)
    child = pexpect.spawn(command[0], command[1:], timeout=15, encoding="utf-8")
    child.expect_exact("name? ")
    child.sendline("you")
    child.expect_exact("'name? hello you\\r\\n'")
    child.expect(pexpect.EOF)
    child.close()


@pytest.mark.parametrize("times", [2, 3])
def test_ctrl_c_again_and_again(terminal: Any, is_running: Any, eventually: Any, times: int) -> None:
    child = terminal("run", "none", "")
    child.expect(r"pid (\d+) group")
    pid = int(child.match[1])
    for _ in range(times):
        child.sendintr()
        time.sleep(0.03)
    child.expect(pexpect.EOF)
    eventually(lambda: not is_running(pid), 2)


@pytest.mark.parametrize("way", ["request", "call"])
def test_the_same_one_goes_on(program: Any, way: str, is_running: Any) -> None:
    pids: list[int] = []
    there = threading.Event()

    def got(data: bytes) -> None:
        pids.append(int(data))
        there.set()

    executor = LocalSubProcessExecute(on_out=got)
    request = program("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    thread = threading.Thread(target=lambda: (there.wait(10), os.kill(os.getpid(), signal.SIGINT)))
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        if way == "request":
            executor.run(request)  # lets it pass
        else:
            with executor.call(request) as status:
                status.wait()
    assert caught.value.__context__ is None
    assert not is_running(pids[0])
    assert not executor._running
    thread.join()


STRESS = """
import os, random, signal, sys, threading, time
from extsession.execute import *
chance = random.Random(int(sys.argv[1]))
executor = LocalSubProcessExecute(on_out=lambda data: None, interrupt_timeout=5)
request = ExecuteRequest(["sh", "-c", "echo x; exec sleep 77.25"])
wanted = threading.Event()
def ring():
    while True:
        wanted.wait()
        wanted.clear()
        end = time.perf_counter() + chance.random() * 0.003
        while time.perf_counter() < end:
            pass
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=ring, daemon=True).start()
hit = 0
for number in range(150):
    try:
        wanted.set()
        if number % 2:
            executor(request)
        else:
            with executor.call(request) as status:
                status.wait()
    except KeyboardInterrupt:
        hit += 1
    assert not executor._running, executor._running
names = []
for thread in threading.enumerate():
    if thread.name.startswith("extsession"):
        thread.join(10)  # its last steps are after the end that it tells of
        if thread.is_alive():
            names.append(thread.name)
fds = len(os.listdir("/proc/self/fd"))
import psutil  # a child is that of the thread which has started it, and of any other later
children = psutil.Process().children()
print(hit, names, fds < 12, len(children))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_at_random_moments_of_the_start(controller: Any, seed: int) -> None:
    """Nothing is left by a Ctrl-C at any moment: no command, thread or descriptor. The one child is the guard."""
    done = subprocess.run([*controller(STRESS), str(seed)], capture_output=True, text=True, timeout=60)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("sent SIG")]
    assert (done.stdout, errors) == ("150 [] True 1\n", [])
    assert sys.executable
