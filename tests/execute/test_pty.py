"""Commands of a program that has a terminal."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pexpect
import pytest

#: what a command says of its descriptors: is it a terminal, how large, does it echo, is it our terminal itself
LOOK = r'''
import os, sys, termios
found = []
for fd in (0, 1, 2):
    if not os.isatty(fd):
        found.append("no")
    else:
        size = os.get_terminal_size(fd)
        echo = bool(termios.tcgetattr(fd)[3] & termios.ECHO)
        found.append(f"{size.columns}x{size.lines}{' echo' if echo else ''}{' same' if os.ttyname(fd) in sys.argv else ''}")
print(found, os.environ.get("COLUMNS"), os.environ.get("LINES"))
'''

PROGRAM = f"""
import os, sys, termios
from extsession.execute import *
settings = termios.tcgetattr(0)
settings[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, settings)
if sys.argv[1] == "no stdout":
    sys.stdout = open(os.devnull, "w")
if sys.argv[1] == "no stderr":
    sys.stderr = open(os.devnull, "w")
if sys.argv[1] == "no pty":
    import pty
    def none():
        raise OSError("none left")
    pty.openpty = none
request = ExecuteRequest([sys.executable, "-ISc", {LOOK!r}, os.ttyname(0)])
count = len(os.listdir("/proc/self/fd"))
status = LocalSubProcessExecute()(request)
after = len(os.listdir("/proc/self/fd"))
for _ in range(3):
    LocalSubProcessExecute()(request)
print("out", repr(status.out), after == len(os.listdir("/proc/self/fd")), file=sys.__stdout__)
status = LocalSubProcessExecute()(ExecuteRequest(["sh", "-c", "head -c 1000000 /dev/zero; echo e >&2"]))
print("size", len(status.out_bytes), repr(status.err), file=sys.__stdout__)
status = LocalSubProcessExecute(drain_timeout=0.1)(ExecuteRequest(["sh", "-c", "exec sleep 3 & printf end"]))
print("background", repr(status.out), status.duration < 2, file=sys.__stdout__)
status = LocalSubProcessExecute()(ExecuteRequest(["sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 3"]))
print("closed", status.exit_code, status.duration >= 0.2, file=sys.__stdout__)
"""


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("both", "['no', '91x17', '91x17'] 91 17\\r\\n"),
        ("no stdout", "['no', 'no', '91x17'] 91 17\\n"),
        ("no stderr", "['no', '91x17', 'no'] 91 17\\r\\n"),
        ("no pty", "['no', 'no', 'no'] 91 17\\n"),
    ],
)
def test_each_stream_for_itself(controller: Any, case: str, wanted: str) -> None:
    command = controller(PROGRAM)
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = pexpect.spawn(command[0], [*command[1:], case], timeout=20, encoding="utf-8", dimensions=(17, 91), env=env)
    try:
        child.expect(r"out (.*?) (True|False)\s*\r\n")
        text = child.match[1].replace("\r\n", "")
        assert text in (repr(eval(f'"{wanted}"')), f'"{wanted}"')
        assert child.match[2] == "True"  # no descriptor is left
        child.expect(r"size (\d+) (\S+)\r\n")
        assert child.match[1] == "1000000"
        assert child.match[2] == (r"'e\n'" if case in ("no stderr", "no pty") else r"'e\r\n'")
        child.expect_exact("background 'end' True")
        child.expect_exact("closed 3 True")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


def test_no_terminal_no_terminal(controller: Any) -> None:
    source = f"""
from extsession.execute import *
print(LocalSubProcessExecute()(ExecuteRequest([sys.executable, "-ISc", {LOOK!r}])).out)
"""
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(controller(source), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, env=env)
    assert (done.stdout, done.stderr) == ("['no', 'no', 'no'] None None\n\n", "")
