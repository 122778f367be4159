"""The terminal of a program, as pexpect reads it: `Wire` waits, `Search` says what is output and what is a prompt.

pexpect calls `Search.search` with what has arrived and was not given out. What cannot be part of a prompt is given out
at once, so the cost is linear in what is printed, and nothing but the last few bytes is held back.
"""

from __future__ import annotations

import errno
import os
import re
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pexpect
from pexpect.expect import searcher_re
from pexpect.spawnbase import SpawnBase

from .._launch.base import ExitReport
from .._launch.terminal import TerminalProcess

if TYPE_CHECKING:
    _Spawn = SpawnBase[bytes]
    _Searcher = searcher_re[bytes]
else:
    _Spawn, _Searcher = SpawnBase, searcher_re

#: bytes that are taken in one step
_READ: Final = 65536
#: seconds after the end of a program in which the last of its output is there
_LAST_WORDS: Final = 1.0
#: what `Wire.next` tells: output, pattern 0 and those after it, nothing for now
OUTPUT: Final = -1
NOTHING: Final = -2
_TIMEOUT_INDEX: Final = 1000
_OUTPUT_INDEX: Final = 1001


class Search(_Searcher):
    """Looks for patterns, of which each match begins with its `head`: bytes that are held back when they come last.

    at_end: a match, of a pattern that ends in \\Z, counts only as the last that was printed. on_held: is told what is
    held back.
    """

    def __init__(
        self,
        *patterns: tuple[re.Pattern[bytes], bytes],
        at_end: bool = False,
        on_held: Callable[[bytes], object] | None = None,
    ) -> None:
        super().__init__([])
        self.timeout_index = _TIMEOUT_INDEX
        self._patterns = patterns
        self.at_end = at_end
        self._on_held = on_held
        self._longest = max((len(head) + 16 for _, head in patterns), default=0)
        self.match: Any = None
        self.start = self.end = 0

    def search(self, buffer: bytes, freshlen: int, searchwindowsize: int | None = None) -> int:
        """As pexpect's own searchers do; what is output is a match, too."""
        if not buffer:
            return -1
        if self.at_end:
            return self._search_at_end(buffer)
        found = -1
        for index, (pattern, _) in enumerate(self._patterns):
            match = pattern.search(buffer)
            if match is not None and (found < 0 or match.start() < self.start):
                found, self.match, self.start, self.end = index, match, match.start(), match.end()
        if found >= 0 and not self.start:
            return found
        return self._output(buffer, self._kept(buffer) if found < 0 else self.start)

    def _search_at_end(self, buffer: bytes) -> int:
        line = buffer.rfind(b"\n") + 1
        for index, (pattern, _) in enumerate(self._patterns):
            match = pattern.search(buffer, line)
            if match is not None:
                self.match, self.start, self.end = match, match.start(), len(buffer)
                return self._output(buffer, self.start) if self.start else index
        return self._output(buffer, max(line, len(buffer) - _LONGEST_PROMPT))

    def _output(self, buffer: bytes, size: int) -> int:
        if not size:
            if self._on_held is not None:
                self._on_held(buffer)
            return -1
        self.match, self.start, self.end = None, 0, size
        return _OUTPUT_INDEX

    def _kept(self, buffer: bytes) -> int:
        """Where that begins which may be the beginning of a match."""
        for at in range(max(0, len(buffer) - self._longest), len(buffer)):
            rest = buffer[at:]
            if any(head.startswith(rest) or rest.startswith(head) for _, head in self._patterns):
                return at
        return len(buffer)


#: bytes of a line that may become a prompt which is looked for at the end
_LONGEST_PROMPT: Final = 1024


class Wire(_Spawn):
    """The program's terminal, its end, and a way to be woken, as one thing to wait for."""

    def __init__(self, process: TerminalProcess) -> None:
        super().__init__(timeout=None, maxread=_READ)
        self.delayafterread = None
        self.process = process
        self.child_fd = process.master
        self.closed = False
        self.report: ExitReport | None = None
        self.hung_up = False  # nobody holds the other end of the terminal any more
        self._report_at = 0.0
        self._unsent = bytearray()
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ring, False)

    # from any thread

    def wake(self) -> None:
        """Have `next` return."""
        try:
            os.write(self._ring, b"1")
        except OSError:  # full: it is woken anyway
            return

    # from the thread that reads

    def type(self, data: bytes) -> None:
        """Have it typed, as soon as there is room. While that is waited for, what is printed is read."""
        self._unsent += data

    def forget_typed(self) -> None:
        """Nothing that is not typed yet will be."""
        self._unsent.clear()

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def next(self, search: Search, deadline: float | None) -> tuple[int, bytes]:
        """What comes next: (OUTPUT, bytes), (number of a pattern, what matched it), or (NOTHING, b"").

        NOTHING: woken, or `deadline`, on the monotonic clock, is over. pexpect.EOF: the program has ended.
        """
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        index = self.expect_loop(search, timeout)
        if index == _TIMEOUT_INDEX:
            return NOTHING, b""
        assert isinstance(self.after, bytes)
        return (OUTPUT if index == _OUTPUT_INDEX else index), self.after

    def put_back(self, data: bytes) -> None:
        """Have `data` come again, before anything else."""
        self.buffer = data + self.buffer

    def rest(self) -> bytes:
        """What was held back when the program ended. pexpect has it in `before` then."""
        data: bytes = self.before if self.flag_eof and isinstance(self.before, bytes) else self.buffer
        self.before, self.buffer = b"", b""
        return data

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> bytes:
        """Wait for output, and type what is to be typed meanwhile. pexpect's TIMEOUT also when woken."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if self.report is not None and (self.hung_up or time.monotonic() > self._report_at + _LAST_WORDS):
                self.flag_eof = True
                raise pexpect.EOF("the program has ended")
            ready = self._poll(left)
            if self.child_fd in ready:
                if ready[self.child_fd] & select.POLLOUT:
                    self._send()
                if ready[self.child_fd] & ~select.POLLOUT:
                    data = self._read(size)
                    if data:
                        return data
            if self.process.leash in ready and self.report is None:
                self._read_leash()
                continue
            if self._bell in ready:
                self._hear()
                raise pexpect.TIMEOUT("woken")
            if end is not None and time.monotonic() >= end:
                raise pexpect.TIMEOUT("time is over")

    def _read_leash(self) -> None:
        self.report = report = self.process.read_leash()
        self._report_at = time.monotonic()
        if report is not None and report.exit_code is None and report.signal is None:
            self.process.kill_tree(self.process.pid)  # its warden did not live to tell, nor to end it

    def _poll(self, timeout: float | None) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self.report is None:
            poll.register(self.process.leash, select.POLLIN)
        elif timeout is None or timeout > _LAST_WORDS:
            timeout = _LAST_WORDS
        if not self.hung_up:
            poll.register(self.child_fd, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        return dict(poll.poll(None if timeout is None else -int(-timeout * 1000 // 1)))

    def _read(self, size: int) -> bytes:
        try:
            data = os.read(self.child_fd, size)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self.hung_up = True
        return data

    def _send(self) -> None:
        try:
            count = os.write(self.child_fd, bytes(self._unsent[:_READ]))
        except BlockingIOError:
            return
        except OSError:  # nobody is there to read it
            self._unsent.clear()
            return
        del self._unsent[:count]

    def _hear(self) -> None:
        try:
            while len(os.read(self._bell, 4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def await_end(self, timeout: float) -> None:
        """Wait for the end of a program that was killed, and for nothing else."""
        poll = select.poll()
        poll.register(self.process.leash, select.POLLIN)
        until = time.monotonic() + timeout
        while self.report is None and time.monotonic() < until:
            poll.poll(max(0.0, until - time.monotonic()) * 1000)
            self._read_leash()

    def close(self) -> None:
        """Let go of the descriptors."""
        if not self.closed:
            self.closed = True
            self.process.close()
            os.close(self._bell)
            os.close(self._ring)

    def isalive(self) -> bool:
        """For pexpect."""
        return self.report is None
