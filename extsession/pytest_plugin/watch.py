"""Wait for a test's process: for what it tells, for its end, and for the moment when it has had enough.

One poll with the nearest deadline, no ticking. What it starts is looked at only where a memory limit asks for that.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from extsession.processes import Breach, ProcessTree

from ._inner.child import STACK_SIGNAL
from ._inner.wire import Decoder

#: seconds in which a test's process must have come to its first phase
START: Final = 10.0
#: seconds for writing the stacks of all threads, before it is killed; that ends it by itself, in some milliseconds
_STACKS: Final = 2.0
#: seconds between the last message and the end
_EXIT: Final = 2.0
#: seconds between two looks whether it has ended, where the system cannot tell by itself
_PAUSE: Final = 0.01


@dataclass(frozen=True)
class Ended:
    """How a process ended. status: as from waitpid(2); cpu: seconds; peak_memory: bytes, -1: not known."""

    status: int
    cpu: float = 0.0
    peak_memory: int = -1


class Child(Protocol):
    """A test's process, as its parent knows it. fd: readable when it has ended; -1: the system has none such."""

    pid: int
    fd: int

    def collect(self) -> Ended | None:
        """How it ended; None: not yet."""

    def close(self) -> None: ...


class Forked:
    """A child of this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # a kernel before 5.3
                self.fd = os.pidfd_open(pid)

    def collect(self) -> Ended | None:
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for every child
            return Ended(-1)
        if not pid:
            return None
        scale = 1 if os.uname().sysname == "Darwin" else 1024
        return Ended(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass
class Seen:
    """What was seen of a test's process.

    stopped: "timeout", "start" or "memory", if it was ended by us; breach: the limit. finished: it has told all. phase:
    the last that began, since when (monotonic); left: processes that could not be ended.
    """

    pid: int = 0
    ended: Ended | None = None
    stopped: str = ""
    breach: Breach | None = None
    finished: bool = False
    phase: str = ""
    since: float = 0.0
    garbled: str = ""
    left: tuple[int, ...] = ()


class Watch:
    """Over one process, until it and all that it started has ended."""

    def __init__(
        self,
        child: Child,
        tree: ProcessTree,
        channel: int,
        timeout: float | None,
        call_timeout: float | None,
        on_message: Callable[[list[Any]], None],
    ) -> None:
        self._child = child
        self._tree = tree
        self._channel = channel
        self._on_message = on_message
        self._decoder = Decoder()
        self._end = math.inf if timeout is None else time.monotonic() + timeout
        self._call_timeout = call_timeout
        self._start = math.inf
        self.seen = Seen(child.pid)

    def run(self, unmask: Callable[[], None]) -> Seen:
        """Wait. Whatever comes out of it, as KeyboardInterrupt does, has ended the process and all below it.

        unmask: called once that holds; until then no signal may come.
        """
        try:
            unmask()
            self._wait()
        finally:
            try:
                if self.seen.ended is None:
                    self._end_now()
            finally:
                self.seen.left = tuple(self._tree.sweep())
        return self.seen

    def _end_now(self) -> None:
        self._tree.hasten()
        deadline = time.monotonic() + _EXIT
        while self.seen.ended is None and time.monotonic() < deadline:
            self.seen.ended = self._child.collect()
            time.sleep(0.001)

    def _wait(self) -> None:
        self.seen.since = time.monotonic()
        self._start = self.seen.since + START
        kill: float | None = None
        poller = select.poll()
        os.set_blocking(self._channel, False)
        poller.register(self._channel, select.POLLIN)
        has_channel, fd = True, self._child.fd
        if fd >= 0:
            poller.register(fd, select.POLLIN)
        while True:
            now = time.monotonic()
            if kill is not None:
                due = kill
            else:
                times = [self._tree.next_look(), self._end, None if self.seen.phase else self._start]
                due = min((each for each in times if each is not None), default=math.inf)
            if fd < 0:
                due = min(due, now + _PAUSE)
            events = poller.poll(None if due == math.inf else max(0, math.ceil((due - now) * 1000)))
            ready = {each for each, _ in events}
            if self._channel in ready and not self._read():
                poller.unregister(self._channel)
                has_channel = False
            if (fd in ready or fd < 0) and self._collect(has_channel):
                return
            now = time.monotonic()
            if kill is not None:
                if now >= kill:
                    self._tree.hasten()
                    kill = now + _EXIT
            elif self.seen.finished:
                kill = now + _EXIT
            elif self._is_over(now):
                kill = now + (_STACKS if self._writes_stacks() else 0.0)

    def _is_over(self, now: float) -> bool:
        """Whether it has had enough."""
        if now >= self._end:
            self.seen.stopped = "timeout"
        elif not self.seen.phase and now >= self._start:
            if self._tree.is_ready():  # it is not stuck, the machine is busy
                self._start = now + START
                return False
            self.seen.stopped = "start"
        else:
            self.seen.breach = self._tree.look()
            if self.seen.breach is None:
                return False
            self.seen.stopped = "memory"
            return True
        return True

    def _writes_stacks(self) -> bool:
        """Whether it was told to write its stacks, and end, and will."""
        if self.seen.stopped == "memory":
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, STACK_SIGNAL)
        return self._tree.takes(STACK_SIGNAL)

    def _collect(self, has_channel: bool) -> bool:
        self.seen.ended = self._child.collect()
        if self.seen.ended is None:
            return False
        while has_channel and self._read():
            pass
        return True

    def _read(self) -> bool:
        """Take what there is; False: nothing more, for now or for good."""
        try:
            data = os.read(self._channel, 1 << 16)
        except BlockingIOError:
            return self.seen.ended is None
        if not data:
            return False
        if self.seen.garbled:
            return True
        try:
            messages = self._decoder.feed(data)
        except ValueError as error:
            self.seen.garbled = str(error)
            return True
        for message in messages:
            if message[0] == "phase":
                self.seen.phase, self.seen.since = message[1], time.monotonic()
                if message[1] == "call" and self._call_timeout is not None:
                    self._end = min(self._end, self.seen.since + self._call_timeout)
            elif message[0] == "done":
                self.seen.finished = True
            self._on_message(message)
        return True


def exit_of(status: int) -> tuple[int | None, int | None]:
    """(signal, exit code) of a status as from waitpid(2)."""
    if status < 0:
        return None, None
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status), None
    return None, os.WEXITSTATUS(status)
