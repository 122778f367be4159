"""The text pipes of a session: which one is stdout now, which belongs to a call that is over, what is in them.

Stdout and stderr are one pipe each, mostly. After a call that started a process there are two new ones, and the old
ones stay with that call (`change`); in a flood of prints, stdout may go on in another pipe within a call (`stand_by`,
and `burst.py` in the worker, which says why).
"""

from __future__ import annotations

import array
import contextlib
import enum
import os
import select
import socket
import stat

from .._protocol import messages
from .._protocol.faults import ProtocolFault
from .machine import SessionMachine
from .watch import Watch

with contextlib.suppress(ImportError):  # Windows: this is imported there, and not used
    import fcntl
    import termios

_CHUNK = 65536
_FLOOD = 1 << 20
_PIECE = 1 << 18  # what is kept is fresh memory either way; what is not stays in the cache and is used again
#: looks without a pause, after a pipe was found so full that its writer may have to wait
_HURRY = 64
#: most descriptors that come along with messages and have not been taken yet; most pipes that stand by
MOST_FDS = 16
_F_SETPIPE_SZ = 1031


class _Role(enum.Enum):
    """What a text pipe is."""

    CURRENT = "current"  # the stream, now
    STANDBY = "standby"  # stdout may go on here; what comes is held back until it does
    SIDE = "side"  # was stdout earlier in this call; somebody still holds it
    OLD = "old"  # of a call that is over


class _Pipe:
    """A text pipe. call: whose it is, if that call is over; held: what came while it stood by."""

    __slots__ = ("call", "fd", "grown", "held", "number", "role", "stream")

    def __init__(self, fd: int, stream: int, role: _Role) -> None:
        self.fd = fd
        self.stream = stream
        self.role = role
        self.call = 0
        self.held: list[bytes] = []
        self.number = 0  # of a pipe that stands by
        self.grown = False


class Pipes:
    """Reads the text pipes of a session into its machine. hurry: so many looks are to be made without a pause."""

    def __init__(self, machine: SessionMachine, watch: Watch) -> None:
        self.hurry = 0
        self._machine = machine
        self._watch = watch
        self._text_poll = select.poll()
        self._pipes: dict[int, _Pipe] = {}
        self._descriptors: list[int] = []  # that came along and have not been taken yet
        self._standby: dict[int, _Pipe] = {}  # pipes that stdout may go on in, by number; also ended ones
        self._awaited: int | None = None  # the number of the pipe that stdout goes on in, if it has not come yet

    def attach(self, stdout: int, stderr: int) -> None:
        """The two that a process starts with."""
        self._add(stdout, messages.STDOUT)
        self._add(stderr, messages.STDERR)

    @property
    def has_old(self) -> bool:
        """Whether there are any of calls that are over."""
        return len(self._pipes) > 2

    def close(self) -> None:
        """Close all, also those that hold something back, and what nobody has taken."""
        for pipe in list(self._pipes.values()):
            self._forget(pipe)
        self._standby.clear()
        self._awaited = None
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()

    def came_along(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Descriptors that came with a message, which says what they are."""
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._descriptors += found
                for fd in found:
                    os.set_inheritable(fd, False)
        if len(self._descriptors) > MOST_FDS:
            self._machine.on_fault(ProtocolFault("more descriptors than were announced"))

    # reading

    def read(self, fd: int, now: float) -> None:
        """Read a pipe that is ready, if it is one, once; or more often while it is full."""
        pipe = self._pipes.get(fd)
        if pipe is not None:
            self._read_some(pipe, now)

    def drain_current(self, now: float) -> None:
        """Read what is in the streams now."""
        for pipe in self._of(_Role.CURRENT):
            self._drain(pipe, now)

    def drain_all(self, now: float) -> None:
        """Read what is in all pipes now."""
        for pipe in list(self._pipes.values()):
            self._drain(pipe, now)

    def finish_call(self, call: int, changes: bool, now: float) -> None:
        """A call is over: read what its pipes hold. changes: two new ones came along, for the next call."""
        for fd, _event in self._text_poll.poll(0):
            if fd in self._pipes and self._pipes[fd].role is not _Role.OLD:
                self._drain(self._pipes[fd], now)
        if len(self._pipes) > 2:
            for pipe in self._of(_Role.STANDBY):  # a flood that did not need it
                self._forget(pipe)
        self._standby.clear()
        self.hurry = 0
        if changes:
            self._change(call, now)

    def _read_some(self, pipe: _Pipe, now: float) -> None:
        for _ in range(8):
            size = _PIECE if pipe.grown else _CHUNK
            data = self._read(pipe, size)
            if not data:
                return
            self._give(pipe, data, now)
            if len(data) == size:
                self.hurry = _HURRY
            elif len(data) < _CHUNK // 2:
                return
            if not pipe.grown:
                pipe.grown = True
                self._grow(pipe.fd)

    def _drain(self, pipe: _Pipe, now: float) -> None:
        """Read just what is in a pipe now: a process left behind may go on writing for ever."""
        data = self._read(pipe, _CHUNK)
        if data:
            self._give(pipe, data, now)
        if len(data) < _CHUNK:
            return
        left = _waiting(pipe.fd)
        while left > 0:
            data = self._read(pipe, min(left, _FLOOD))
            if not data:
                return
            left -= len(data)
            self._give(pipe, data, now)

    def _read(self, pipe: _Pipe, size: int) -> bytes:
        try:
            data = os.read(pipe.fd, size)
        except BlockingIOError:
            return b""
        if not data:
            self._forget(pipe)
        return data

    def _give(self, pipe: _Pipe, data: bytes, now: float) -> None:
        machine = self._machine
        if pipe.role is _Role.CURRENT:
            machine.on_text(pipe.stream, data, now)
            number = machine.take_switch()
            if number:
                self._switch(pipe, number, now)
        elif pipe.role is _Role.OLD:
            machine.on_old_text(pipe.call, pipe.stream, data)
        elif pipe.role is _Role.SIDE:
            machine.on_side_text(pipe.stream, data)
        else:
            pipe.held.append(data)

    def _grow(self, fd: int) -> None:
        # fewer wake-ups in a flood; a host may forbid it to a user with many pipes
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _FLOOD)

    # which is which

    def stand_by(self, number: int, now: float) -> None:
        """A pipe came along that stdout may go on in later in this call. ProtocolFault."""
        (fd,) = self._take(1)
        for pipe in self._of(_Role.STANDBY):
            self._read_some(pipe, now)  # lets go of it, if its flood did without
        if len(self._of(_Role.STANDBY)) >= MOST_FDS:
            os.close(fd)
            raise ProtocolFault("more pipes than can be needed")
        pipe = self._add(fd, messages.STDOUT, _Role.STANDBY)
        pipe.number = number
        if number == self._awaited:
            self._awaited = None
            pipe.role = _Role.CURRENT
        else:
            self._standby[number] = pipe

    def _switch(self, old: _Pipe, number: int, now: float) -> None:
        """Stdout goes on in the pipe of this number."""
        for earlier in [each for each in self._standby if each < number]:
            self._forget(self._standby.pop(earlier))  # of a flood that did not need it
        pipe = self._standby.pop(number, None)
        old.role = _Role.SIDE
        if pipe is None:
            self._awaited = number  # the mark was read before the message: it is in the channel
            return
        pipe.role = _Role.CURRENT
        held, pipe.held = pipe.held, []
        for data in held:
            self._give(pipe, data, now)

    def _change(self, call: int, now: float) -> None:
        """The next call has pipes of its own; the ones so far stay with `call` until their last writer ends."""
        new = self._take(2)
        for pipe in list(self._pipes.values()):
            if pipe.role is _Role.OLD:
                continue
            if pipe.role is _Role.CURRENT:
                self._machine.on_new_pipe(pipe.stream)
            pipe.role = _Role.OLD
            pipe.call = call
            self._read_some(pipe, now)
        self.attach(*new)

    def _of(self, role: _Role) -> list[_Pipe]:
        return [pipe for pipe in self._pipes.values() if pipe.role is role]

    def _add(self, fd: int, stream: int, role: _Role = _Role.CURRENT) -> _Pipe:
        os.set_blocking(fd, False)
        pipe = self._pipes[fd] = _Pipe(fd, stream, role)
        self._text_poll.register(fd, select.POLLIN)
        self._watch.add(fd)
        return pipe

    def _forget(self, pipe: _Pipe) -> None:
        """A pipe has no writers left. What was held back of it is still to come."""
        if pipe.role is _Role.STANDBY and not pipe.held:
            self._standby.pop(pipe.number, None)
        if self._pipes.pop(pipe.fd, None) is None:
            return
        self._text_poll.unregister(pipe.fd)
        self._watch.remove(pipe.fd)
        os.close(pipe.fd)

    def _take(self, count: int) -> list[int]:
        """Pipes that came along. The code may have sent anything, also what blocks or cannot be read."""
        if len(self._descriptors) < count:
            raise ProtocolFault("descriptors were announced and did not come")
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        for fd in taken:
            mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            if not stat.S_ISFIFO(os.fstat(fd).st_mode) or mode != os.O_RDONLY:
                for each in taken:
                    os.close(each)
                raise ProtocolFault("a descriptor that is no pipe")
        return taken


def _waiting(fd: int) -> int:
    """Bytes in a pipe."""
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]
