"""A flood of prints without a system call for each, and still in exact order.

Text that waits in memory must go out before anything else that reaches stdout: what `os.write(1)`, C code or a
subprocess writes. Nobody can be asked to tell when that happens; but the kernel can. While a flood lasts,
descriptor 1 is a fresh pipe, the *watched* one, to which nothing of ours is written, and whose reading end
signals (O_ASYNC, F_SETSIG) when anybody writes to it, closes its last writing end, or puts another descriptor in
its place. Text is collected and goes to the old pipe. When the signal comes the collected text goes out first;
if the watched pipe was used, it becomes the session's stdout from there on (a mark in the old pipe tells the
controller, which has been given the reading end at the start), else it is dropped.

SIGURG is used because its default is to be ignored. The controller rings with it too, when nothing has come for a
while: then the text goes out and the flood is over. It also rings when an interrupt may not have been seen; so the
handler is there from the start. Floods are collected on Linux only: elsewhere each write is a system call.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys
import time
from _thread import _count as count_threads
from _thread import get_ident

from .._protocol import messages
from .descriptors import to_high
from .streams import Router, same_file
from .trace import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Callable

#: a flood is this many writes in a row to stdout ...
_MANY = 256
#: ... in less than so many seconds
_SOON = 0.008
_TEXT_CHUNK = 32768

_dup2 = os.dup2
_PLAIN = {"dup": os.dup, "dup2": os.dup2}
_F_SETOWN = 8
_F_SETSIG = 10


class Burst:
    """Collects the text of a flood of prints on stdout."""

    def __init__(self, router: Router, has_started_process: Callable[[], bool]) -> None:
        self.active = False
        self.has_started_process = has_started_process
        self._refused = False
        self._rung = False  # the bell has rung since the flood began
        self._router = router
        self._count = 0
        self._since = 0.0
        self._watched = -1  # reading end of the watched pipe
        self._number = 0  # of the watched pipe

    def begin(self) -> None:
        """A call begins."""
        self._count = 0
        self._refused = False

    def counted(self) -> None:
        """Text was written to stdout, on its own: perhaps it is a flood."""
        self._count += 1
        if self._count % _MANY:
            return
        now = time.perf_counter()
        since, self._since = self._since, now
        if self._count > _MANY and now - since < _SOON and not self._refused:
            self._enter()

    def leave(self) -> None:
        """Write out what was collected and go back to a system call for each write."""
        if not self.active:
            return
        self.active = False
        self._count = 0
        self._hook(False)
        router = self._router
        router.text[messages.STDOUT].reconfigure(write_through=True)  # flushes
        watched, self._watched = self._watched, -1
        ours = same_file(watched, messages.STDOUT)
        if self._was_touched(watched, ours):
            self._go_over(watched, ours)
        elif ours:
            _dup2(router.pipes[messages.STDOUT], messages.STDOUT)
        os.close(watched)
        router.target = messages.STDOUT

    def _was_touched(self, watched: int, ours: bool) -> bool:
        """Whether anything but us has written, or may write, to the watched pipe.

        That it is empty proves nothing: the controller reads it too. Our own process's writes have rung the bell by
        now (where descriptor 1 is no longer ours, that was what rang); others can only come from a process that was
        started, or by a copy of the descriptor.
        """
        import select

        poll = select.poll()
        poll.register(watched, select.POLLIN)
        if ours and (
            self._rung
            or _signal.getsignal(_signal.SIGURG) != self.on_bell
            or _signal.SIGURG in _signal.sigpending()
        ):
            return True
        known = 2 if ours else 1  # the end that we read, and descriptor 1
        return bool(poll.poll(0)) or self.has_started_process() or _holders(watched) != known

    def interrupt(self) -> None:
        """Something is printed on stderr: what was collected comes before it, and a new flood is counted."""
        self._count = 0
        if self.active:
            self._router.text[messages.STDOUT].flush()

    def _go_over(self, watched: int, ours: bool) -> None:
        """The watched pipe is stdout from here on; what is in the old one comes before it."""
        router = self._router
        private = router.pipes[messages.STDOUT]
        new = os.open("/proc/self/fd/%d" % watched, os.O_WRONLY | os.O_CLOEXEC)
        router.mark_switch(self._number)
        if ours:
            _dup2(new, messages.STDOUT)
        _dup2(new, private, False)
        os.close(new)

    def _enter(self) -> None:
        router = self._router
        if not self._possible():
            self._refused = True  # for this call: to ask again and again costs more than it could save
            return
        import fcntl

        try:
            watched, writing = os.pipe()
            watched = to_high(watched)
        except OSError:
            return
        try:
            fcntl.fcntl(watched, _F_SETOWN, os.getpid())
            fcntl.fcntl(watched, _F_SETSIG, _signal.SIGURG)
            flags = fcntl.fcntl(watched, fcntl.F_GETFL)
            fcntl.fcntl(watched, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
            self._number += 1
            body = self._number.to_bytes(4, "little")
            router.channel.send(messages.PIPES, router.call, [body], (watched,))
        except OSError:
            os.close(watched)
            os.close(writing)
            return
        self._hook(True)
        self._watched = watched
        self._rung = False
        _dup2(writing, messages.STDOUT)
        os.close(writing)
        router.target = router.pipes[messages.STDOUT]
        text = router.text[messages.STDOUT]
        text._CHUNK_SIZE = _TEXT_CHUNK
        text.reconfigure(write_through=False)
        self.active = True

    def _possible(self) -> bool:
        """Only one thread writes, it is the main one, and nobody but us holds the pipe, which descriptor 1 still is.

        Who has a copy of descriptor 1 from before could write past what is collected, and nothing would tell.
        """
        router = self._router
        handler = _signal.getsignal(_signal.SIGURG)
        return (
            router.call > 0
            and not router.outlived
            and router.is_main(get_ident())
            and not count_threads()
            and (handler is _signal.SIG_DFL or handler == self.on_bell)
            and not router.text[messages.STDOUT].line_buffering
            and same_file(messages.STDOUT, router.pipes[messages.STDOUT])
            and not self.has_started_process()
            and _holders(messages.STDOUT) == 2
        )

    def _hook(self, on: bool) -> None:
        """While a flood lasts, os.dup and os.dup2 end it: a copy of descriptor 1 keeps its pipe open, and then
        the kernel would not tell that another descriptor was put in its place."""
        for module in (os, sys.modules.get("posix")):
            if module is not None:
                for name, plain in _PLAIN.items():
                    setattr(module, name, self._leaving(plain) if on else plain)

    def _leaving(self, plain: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.leave()
            return plain(*args, **kwargs)

        call.__name__ = plain.__name__
        return call

    def on_bell(self, signum: int, frame: FrameType | None) -> None:
        # Inside our own code a text stream may be in the middle of a write. Who wrote to the watched pipe then
        # was another process, whose order beside ours is nobody's; the controller rings again.
        self._rung = True
        if self.active and frame is not None and not is_ours(frame) and get_ident() == self._router.main:
            self.leave()


def _holders(fd: int) -> int:
    """How many descriptors of this process are open on the pipe of `fd`."""
    try:
        pipe = os.readlink("/proc/self/fd/%d" % fd)
        count = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                count += os.readlink("/proc/self/fd/" + name) == pipe
            except OSError:  # the one that listed them
                continue
    except OSError:  # no /proc here
        return 0
    return count


def attach(router: Router, has_started_process: Callable[[], bool]) -> None:
    """Let a session collect floods, where the system can tell who else writes; and be woken."""
    handler = _awake
    if sys.platform == "linux":
        router.burst = Burst(router, has_started_process)
        handler = router.burst.on_bell
    _signal.signal(_signal.SIGURG, handler)


def _awake(signum: int, frame: FrameType | None) -> None:
    """That the system call was left is all that was wanted."""


