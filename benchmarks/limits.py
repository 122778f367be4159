"""What the machine and the interpreter allow: the floor that the ratios are to."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import signal
import subprocess
import sys
from typing import Any

_ECHO = """
import os, sys
r, w = int(sys.argv[1]), int(sys.argv[2])
read, write = os.read, os.write
while True:
    data = read(r, 1)
    if not data:
        break
    write(w, data)
"""

_BLOCKS = """
import os, sys
block = bytes(65536)
for line in sys.stdin:
    for _ in range(int(line)):
        os.write(1, block)
"""

# A fork costs by the pages that are copied: the collector's work is done before and its view frozen, nothing that is
# not needed is loaded, and the loop has run before, so that only what has to be is touched afterwards.
_FORKS = """
import gc, os, sys
r, w, reaped, frozen, setup, source = *map(int, sys.argv[1:5]), *sys.argv[5:]
names = {"__name__": "__main__"}
exec(setup, names)
def run(source=source, names=names):
    exec(compile(source, "<fork>", "exec"), names)
for _ in range(24):
    run()
if frozen:
    gc.collect()
    gc.freeze()
fork, read, write, end, wait = os.fork, os.read, os.write, os._exit, os.waitpid
write(reaped, b"x")
while read(r, 1):
    pid = fork()
    if not pid:
        run()
        write(w, b"x")
        end(0)
    wait(pid, 0)
    write(reaped, b"x")
"""

PIPE_SIZE = 2**20
BLOCK = 65536


class PingPong:
    """One byte over two pipes, Python on both ends."""

    def __init__(self) -> None:
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ECHO, str(theirs_in), str(theirs_out)],
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def __call__(self) -> None:
        os.write(self._write, b"x")
        os.read(self._read, 1)

    def close(self) -> None:
        os.close(self._write)
        self._process.wait()
        os.close(self._read)


class RawFork:
    """os.fork() of a single-threaded Python process: from a byte that asks for it to a byte of the child's.

    The child compiles and runs `source` before its byte. Its exit, and that it is collected, are waited for by
    `collect()`, not timed. setup: source that has run in the process before, with the modules of site-packages.
    frozen: gc.collect() and gc.freeze() before the first fork.
    """

    def __init__(self, source: str = "pass", setup: str = "", frozen: bool = True) -> None:
        theirs, self._write = os.pipe()
        self._read, written = os.pipe()
        self._reaped, collected = os.pipe()
        numbers = (theirs, written, collected)
        options = ["-I"] if setup else ["-I", "-S"]
        command = [sys.executable, *options, "-c", _FORKS, *map(str, numbers), str(int(frozen)), setup, source]
        self._process = subprocess.Popen(command, pass_fds=numbers)
        for fd in numbers:
            os.close(fd)
        if not os.read(self._reaped, 1):
            status = self._process.wait()
            self.close()
            raise ChildProcessError(f"the process to be forked ended with status {status}")

    def __call__(self) -> None:
        os.write(self._write, b"x")
        os.read(self._read, 1)

    def collect(self) -> None:
        os.read(self._reaped, 1)

    def close(self) -> None:
        os.close(self._write)
        self._process.wait()
        os.close(self._read)
        os.close(self._reaped)


class Drain:
    """A child that writes blocks of 64 KiB into a pipe of 1 MiB, drained with reads of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._read, theirs = os.pipe()
        with contextlib.suppress(OSError):  # over the user's share of pipe memory
            fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BLOCKS], stdin=subprocess.PIPE, stdout=theirs
        )
        os.close(theirs)

    def __call__(self, blocks: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % blocks)
        self._process.stdin.flush()
        left = blocks * BLOCK
        while left:
            left -= len(os.read(self._read, self._size))

    def close(self) -> None:
        self._process.communicate()
        os.close(self._read)


def execute(source: str) -> None:
    exec(source, {"__name__": "__main__"})


def execute_printing(source: str, into: Any = None) -> Any:
    """Run source with sys.stdout replaced, by a StringIO or `into`; what it printed, or None."""
    captured = io.StringIO() if into is None else into
    with contextlib.redirect_stdout(captured):
        exec(source, {"__name__": "__main__"})
    return captured.getvalue() if into is None else None


def evaluate(source: str) -> Any:
    return eval(source, {"__name__": "__main__"})


def copy(data: bytes) -> bytearray:
    """memcpy into memory that is fresh: more than malloc keeps, so the kernel gives it anew."""
    return bytearray(data)


def python(*arguments: str) -> None:
    """Run an interpreter to its end."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def kill_known(pidfds: list[int]) -> None:
    """SIGKILL for processes that are known by descriptors, and wait until the last is gone."""
    for pidfd in pidfds:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_gone(pidfds)


def wait_gone(pidfds: list[int]) -> None:
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    left = len(pidfds)
    while left:
        for pidfd, _ in poll.poll():
            poll.unregister(pidfd)
            left -= 1
