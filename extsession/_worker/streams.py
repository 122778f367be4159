"""The session's stdout and stderr, apart for each call.

All text goes through the pipes at descriptors 1 and 2, at once, so that what Python code prints, what
`os.write` and C code write, and what a subprocess writes stay in the order they were written. What the
controller cannot know from the bytes is told beside them:

* a change of the stream by Python code: the same barrier in both pipes (`Router.barrier`);
* a writer whose call is over: a LATE message instead of the pipe (`Router.owner`);
* a process that goes on after its call: new pipes for the next one (`Router.renew`).

`print` makes a system call for each piece it writes. `burst.py` saves those of a flood of prints.
"""

from __future__ import annotations

import io
import os
import sys
from _thread import RLock, get_ident
from _thread import _count as count_threads
from time import monotonic

from .._protocol import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .burst import Burst
    from .channel import Channel

#: seconds in which a thread must have made its first step
_BIRTH = 5.0


class Router:
    """Decides for each write of Python code where it goes.

    Pipes: `pipes[messages.STDOUT]` is a private descriptor of the pipe that descriptor 1 was at the start: it
    stays when the code closes or redirects descriptor 1.
    """

    def __init__(self, channel: Channel, token: bytes) -> None:
        self.channel = channel
        self.call = 0  # what runs now; 0: nothing
        self.lock = RLock()  # held while bytes go into a pipe; the signal handler may print as well
        self.pipes = {messages.STDOUT: 0, messages.STDERR: 0}
        self.outlived = False  # threads or tasks of earlier calls are alive
        self.burst: Burst | None = None
        self.damaged = False  # descriptor 1 or 2 was found closed
        self.parked = False  # of a template, which is what its clone is to be before that is cloned
        self.cloning = False  # the fork that is going on is ours
        self.interrupted = False  # an interrupt came while our own code ran: for the user's code to take
        self._token: bytes | None = token
        self._number = 0
        self._last = 0  # the stream that Python code wrote to last, in this call
        self.main = get_ident()
        self.target = messages.STDOUT  # where text for stdout goes: its private descriptor in a flood
        self._threads: dict[int, int] = {}  # thread -> call that started it; of this one, and of those still alive
        self._unseen: dict[int, float] = {}  # those that no frame was seen of at the end of a call -> since when
        self.text: dict[int, Any] = {}
        self.tasks: Any = None  # context variable: the call that a task was started by; see loop.py

    def open(self, encoding: str, out_errors: str, err_errors: str) -> None:
        """Make sys.stdout and sys.stderr anew over descriptors 1 and 2."""
        for stream, name, errors in ((1, "stdout", out_errors), (2, "stderr", err_errors)):
            text = io.TextIOWrapper(
                PipeWriter(self, stream, "<%s>" % name),
                encoding=encoding,
                errors=errors,
                line_buffering=stream == messages.STDERR,
                write_through=True,
            )
            text.mode = "w"  # type: ignore[misc]
            self.text[stream] = text
            setattr(sys, name, text)
            setattr(sys, "__%s__" % name, text)

    def begin(self, call: int) -> None:
        """A call begins: what is written from here on is its output."""
        self.call = call
        self._last = 0
        if self.burst is not None:
            self.burst.begin()
        self.interrupted = False
        if self.damaged:
            self._repair()

    def flush(self) -> None:
        """Write out all that is buffered, also in what the code has put in place of the streams."""
        if self.burst is not None and self.burst.active:
            self.burst.leave()
        text = self.text
        streams = getattr(sys, "stdout", None), getattr(sys, "stderr", None)
        if streams[0] is text[1] and streams[1] is text[2]:
            return
        for stream in streams:
            try:
                stream.flush()  # type: ignore[union-attr]
            except Exception:  # whatever the code has put there: its matter
                continue

    def end(self) -> None:
        """A call ends. Nothing of it is on the way when this returns."""
        if count_threads():
            with self.lock:  # one may be in the middle of a write; the next asks whose it is
                self.call = 0
        self.call = 0

    def write(self, stream: int, data: bytes) -> None:
        """Bytes of Python code for a stream."""
        with self.lock:
            if self.outlived:
                owner = self.owner()
                if owner != self.call:
                    self.channel.send(messages.LATE, owner, [bytes((stream,)) + data])
                    return
            if stream == messages.STDERR and self.burst is not None:
                self.burst.interrupt()
            if self._last != stream:
                self._turn()
                self._last = stream
            try:
                write_all(self.target if stream == messages.STDOUT else stream, data)
            except OSError:
                self.damaged = True
                raise

    def barrier(self, rich: bool = False) -> int:
        """Mark this moment in both streams; returns the mark's number (0: not possible, in a forked child)."""
        token = self._token
        if token is None:
            return 0
        with self.lock:
            self._number += 1
            number = self._number | messages.RICH if rich else self._number
            mark = token + number.to_bytes(8, "little")
            for pipe in self.pipes.values():
                write_all(pipe, mark)
        return number

    def mark_switch(self, number: int) -> None:
        """Tell in the pipe of stdout that it goes on in the one that was sent along as `number`."""
        if self._token is not None:
            mark = self._token + (messages.SWITCH | number).to_bytes(8, "little")
            write_all(self.pipes[messages.STDOUT], mark)

    def is_main(self, ident: int) -> bool:
        return ident == self.main

    def _turn(self) -> None:
        """Python code changes the stream."""
        if self._last:
            self.barrier()

    # who writes

    def owner(self) -> int:
        """The call that the running thread or task belongs to."""
        ident = get_ident()
        if self.tasks is not None:
            started: int = self.tasks.get(0)
            if started:
                return started  # a context that was copied in a call: a task, or asyncio.to_thread
        if ident == self.main:
            return self.call
        with self.lock:  # a thread that is just being started is known when the lock is free
            return self._threads.get(ident, self.call)

    def note_survivors(self, call: int, tasks: bool) -> None:
        """At the end of a call: remember whose the threads are that are still alive."""
        if not (tasks or self.outlived or self._threads or count_threads()):
            return
        frames = sys._current_frames()
        with self.lock:
            known = self._threads
            self._threads = found = {i: known.get(i, call) for i in frames if i != self.main}
            found.update(self._unborn({i: known[i] for i in known if i not in frames}, len(frames)))
        outlived = bool(found or tasks)
        if outlived != self.outlived:
            self.outlived = outlived
            for stream, text in self.text.items():
                if outlived:
                    text.write = _text_writer(self, stream, text)
                else:
                    text.__dict__.pop("write", None)

    def _unborn(self, unseen: dict[int, int], seen: int) -> dict[int, int]:
        """Those of `unseen`, threads that were started, that may not have begun yet. seen: how many have, and live.

        The kernel knows of them from the start on (its count of links is 2 and one for each thread: proc(5)). One that
        is not seen by the interpreter may also be of a library, or about to end: so this is believed for a while only.
        """
        if unseen:
            now = monotonic()
            try:
                may_be = os.stat("/proc/self/task").st_nlink - 2 > seen
            except OSError:  # no /proc here
                may_be = True
            times = self._unseen
            self._unseen = {i: times.get(i, now) for i in unseen} if may_be else {}
            return {i: unseen[i] for i, since in self._unseen.items() if now - since < _BIRTH}
        self._unseen = {}
        return {}

    def started_thread(self, ident: int, owner: int) -> None:
        self._threads[ident] = owner

    # what becomes of the pipes

    def renew(self, new: dict[int, int], copies: dict[int, list[tuple[int, bool]]] | None = None) -> None:
        """Go on in other pipes (private write descriptors). All copies that this process has of the old ones follow.

        copies: what `copies` has given, where that was done before: in a clone each look costs the copy of a page.
        """
        if copies is None:
            copies = self.copies()
        for stream, fd in new.items():
            old = self.pipes[stream]
            for copy, inheritable in copies[stream]:
                os.dup2(fd, copy, inheritable)
            os.dup2(fd, old, False)
            os.close(fd)

    def copies(self) -> dict[int, list[tuple[int, bool]]]:
        """(number, whether it is inherited) of other descriptors of this process for the pipe of each stream.

        They are descriptors 1 and 2, if the code has left them, and what it has made of them.
        """
        found: dict[int, list[tuple[int, bool]]] = {stream: [] for stream in self.pipes}
        files = {_file(fd): stream for stream, fd in self.pipes.items()}
        files.pop((0, 0), None)
        private = self.pipes.values()
        for number in _descriptors():
            if number not in private:
                stream = files.get(_file(number), 0)
                if stream:
                    found[stream].append((number, os.get_inheritable(number)))
        return found

    def reborn(self, token: bytes) -> None:
        """In a clone that has pipes of its own, and no thread."""
        self._threads, self._unseen = {}, {}
        self._token = token
        self._number = self._last = self.call = 0
        self.interrupted = False

    def retire(self) -> None:
        """This is no session any more: nothing is written to its pipes, which are closed."""
        self._token = None
        self.burst = None
        for pipe in self.pipes.values():
            os.close(pipe)

    def before_fork(self) -> None:
        """What is buffered must not be there twice."""
        if self.burst is not None:
            self.burst.leave()

    def forked(self) -> None:
        """In a child that the code has forked: it writes to the pipes, and says nothing to the controller."""
        self.lock = RLock()
        if self.cloning:
            self.cloning = False
            if not self.parked:
                self._token = None
            self.parked = False
            return
        self._token = None
        self.outlived = False
        self.burst = None
        for text in self.text.values():
            text.__dict__.pop("write", None)

    def _repair(self) -> None:
        self.damaged = False
        for stream, pipe in self.pipes.items():
            try:
                os.fstat(stream)
            except OSError:
                os.dup2(pipe, stream)

    def take_interrupt(self) -> None:
        """Raise what came while our own code ran. Called where the user's code goes on."""
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt


class PipeWriter(io.BufferedIOBase):
    """What sys.stdout.buffer is: nothing is held back."""

    def __init__(self, router: Router, stream: int, name: str) -> None:
        self._router = router
        self._stream = stream
        self.name = name
        self.mode = "wb"

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        router = self._router
        if type(data) is not bytes:
            if isinstance(data, str):
                raise TypeError("a bytes-like object is required, not 'str'")
            data = memoryview(data).tobytes()
        router.write(self._stream, data)
        burst = router.burst
        if burst is not None and self._stream == messages.STDOUT and not burst.active:
            burst.counted()
        if router.interrupted:
            router.take_interrupt()
        return len(data)

    def fileno(self) -> int:
        return self._stream

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def raw(self) -> PipeWriter:
        return self


def write_all(fd: int, data: bytes) -> None:
    """Write everything, also where the code has made the pipe non-blocking."""
    while True:
        try:
            count = os.write(fd, data)
        except BlockingIOError:
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
            continue
        if count == len(data):
            return
        data = data[count:]


def _text_writer(router: Router, stream: int, text: Any) -> Any:
    """`write` of a text stream while writers of earlier calls are about."""
    plain = type(text).write

    def write(string: str) -> int:
        if type(string) is str and router.owner() != router.call:
            # not through the text layer: it may hold text of the running call
            router.write(stream, string.encode(text.encoding, text.errors))
            return len(string)
        return plain(text, string)  # type: ignore[no-any-return]

    return write


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no /proc here
        return [1, 2]


def _file(fd: int) -> tuple[int, int]:
    """What an open file is known by; (0, 0) for a descriptor that is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def same_file(one: int, other: int) -> bool:
    try:
        a, b = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
