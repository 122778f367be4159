"""The only I/O of the controller: one session's descriptors, moved along in non-blocking steps.

Descriptors of a session: channel, stdout, stderr, leash; two more for each call that left a process behind
which still holds its pipes; one more for sessions that the hub or an event loop watches.

A caller that waits for a call polls the channel and the leash only, at first: what is in the pipes is read
when Done comes, so a call that prints wakes its caller once. If nothing has come after `_PACE` seconds, the
pipes are watched as well; at once, where they fill up faster than that.
"""

from __future__ import annotations

import array
import contextlib
import enum
import fcntl
import os
import select
import selectors
import signal
import socket
import stat
import struct
import termios
from typing import Any

from .._launch.base import ExitReport, Process
from .._protocol import messages
from .._protocol.faults import ProtocolFault
from .._protocol.frames import FrameDecoder
from ..errors import LaunchError, SessionClosed
from . import room
from .branch import Parcel
from .machine import Order, SessionMachine

_PACE = 0.002
_MOMENT = struct.pack("@ll", 0, int(_PACE * 1e6))
_NOW = socket.MSG_DONTWAIT
_SLICE = 0.25
_CHUNK = 65536
_FLOOD = 1 << 20
_PIECE = 1 << 18  # what is kept is fresh memory either way; what is not stays in the cache and is used again
#: looks without a pause, after a pipe was found so full that its writer may have to wait
_HURRY = 64
_MOST_FDS = 16
_ANCILLARY = socket.CMSG_SPACE(_MOST_FDS * 4)
_F_SETPIPE_SZ = 1031
_SIGNALS = {
    Order.INTERRUPT: signal.SIGINT,
    Order.TERMINATE: signal.SIGTERM,
    Order.FLUSH: signal.SIGURG,  # ignored unless the worker collects text
}


class _Role(enum.Enum):
    """What a text pipe is."""

    CURRENT = "current"  # the stream, now
    STANDBY = "standby"  # stdout may go on here; what comes is held back until it does
    SIDE = "side"  # was stdout earlier in this call; somebody still holds it
    OLD = "old"  # of a call that is over


class _Pipe:
    """A text pipe. call: whose it is, if that call is over; held: what came while it stood by."""

    __slots__ = ("call", "fd", "grown", "held", "number", "role", "stream")

    def __init__(self, fd: int, stream: int, role: _Role = _Role.CURRENT) -> None:
        self.fd = fd
        self.stream = stream
        self.role = role
        self.call = 0
        self.held: list[bytes] = []
        self.number = 0  # of a pipe that stands by
        self.grown = False


class Link:
    """Carries bytes, signals and the end of the process between a Process and its SessionMachine."""

    def __init__(self, process: Process, machine: SessionMachine, strict: bool = False) -> None:
        self.process: Process
        self.machine = machine
        self.closed = False
        bounds = messages.TO_CONTROLLER_STRICT if strict else messages.TO_CONTROLLER
        self._bounds = bounds
        self._channel_open = False
        self._descriptors: list[int] = []  # that came along and have not been taken yet
        self._pipes: dict[int, _Pipe] = {}
        self._first_poll = select.poll()
        self._text_poll = select.poll()
        self._full_poll = select.poll()
        self._selector: selectors.BaseSelector | None = None
        self._standby: dict[int, _Pipe] = {}  # pipes that stdout may go on in, by number; also ended ones
        self._awaited: int | None = None  # the number of the pipe that stdout goes on in, if it has not come yet
        self._hurry = 0  # so many looks are at everything at once, without a pause
        self._blocked = False  # bytes wait for room in the channel
        self._attach(process)

    def _attach(self, process: Process) -> None:
        """Take over the descriptors of a process."""
        self.process = process
        self._decoder = FrameDecoder(self._bounds, room.make)
        self._channel = process.channel
        self._channel_fd = process.channel.fileno()
        self._channel_open = True
        process.channel.setblocking(True)
        # for receive(); all else that is done with the channel says _NOW
        process.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _MOMENT)
        for fd in (self._channel_fd, process.leash):
            self._first_poll.register(fd, select.POLLIN)
            self._full_poll.register(fd, select.POLLIN)
            if self._selector is not None:
                self._selector.register(fd, selectors.EVENT_READ)
        for fd, stream in ((process.stdout, messages.STDOUT), (process.stderr, messages.STDERR)):
            self._pipes[fd] = _Pipe(fd, stream)
            self._watch_pipe(self._pipes[fd])

    def _detach(self) -> None:
        """Let go of a process that has ended, to go on with another one."""
        leash = self.process.leash
        self._close_channel()
        self._first_poll.unregister(leash)
        self._full_poll.unregister(leash)
        if self._selector is not None:
            self._selector.unregister(leash)
        for pipe in list(self._pipes.values()):
            pipe.held.clear()
            self._forget(pipe)
        self._standby.clear()
        self._awaited = None
        self._blocked = False
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()
        self.process.let_go()

    # waiting

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Block until something has arrived or `timeout` seconds are over; for `step`."""
        if self._hurry:
            self._hurry -= 1
        elif timeout is None or timeout > _PACE:
            found = self._first_poll.poll(_PACE * 1000)
            if found:
                return found
            timeout = None if timeout is None else timeout - _PACE
        # what another thread changes (room is wanted in the channel, a new pipe) shows in the next poll only
        if timeout is None or timeout > _SLICE:
            timeout = _SLICE
        return self._full_poll.poll(max(0, -int(-timeout * 1000 // 1)))

    def receive(self) -> bytes | None:
        """Block a moment for a message; for `take`. None: nothing came, or `wait` and `step` are needed.

        One system call instead of two for the short calls that a caller waits for.
        """
        if self._hurry or not self._channel_open or self._decoder.pending or self.machine.outgoing:
            return None
        try:
            data, ancillary, _flags, _address = self._channel.recvmsg(_CHUNK, _ANCILLARY)
        except OSError:
            return None
        if ancillary:
            self._take_descriptors(ancillary)
        return data

    def take(self, data: bytes, now: float) -> None:
        """What `receive` gave."""
        machine = self.machine
        if len(data) >= messages.PLAIN_DONE_SIZE and machine.plain_done(data):
            self._finish_call(now)
        elif data:
            try:
                self._take_frames(self._decoder.feed(data), now)
            except ProtocolFault as fault:
                machine.on_fault(fault)
                self._close_channel()
            deadline = machine.next_deadline()
            if deadline is not None and now >= deadline:
                machine.on_time(now)
        else:
            self._close_channel()
            machine.on_eof(now)
        if machine.orders:
            self._carry_out()
        if machine.outgoing:
            self.flush()

    def pollable(self) -> int:
        """One descriptor that is readable when `step` has something to do."""
        if self._selector is None:
            selector = selectors.DefaultSelector()
            for fd in self._open_descriptors():
                selector.register(fd, selectors.EVENT_READ)
            self._selector = selector
            if self._blocked:
                self._watch_channel()
        fileno: int = self._selector.fileno()  # type: ignore[attr-defined]
        return fileno

    def drop_pollable(self) -> None:
        """Nobody watches any more: one descriptor less."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def step(self, now: float, ready: list[tuple[int, int]] | None = None) -> None:
        """Take in what has arrived, then let deadlines fire, then send. Never blocks."""
        if self.closed:
            return
        machine = self.machine
        if ready is None:
            ready = self._look()
        channel_fd = self._channel_fd
        if len(ready) == 1 and ready[0][0] == channel_fd:
            self._read_channel(now)
        elif ready and self._read_all(ready, now):
            return
        deadline = machine.next_deadline()
        if deadline is not None and now >= deadline:
            machine.on_time(now)
        if machine.orders:
            self._carry_out()
        if machine.outgoing:
            self.flush()

    def _read_all(self, ready: list[tuple[int, int]], now: float) -> bool:
        """Read all that is ready; whether that was the end of the process."""
        ended = False
        for fd, _event in ready:
            if fd == self._channel_fd:
                self._read_channel(now)
            elif fd == self.process.leash:
                ended = True
        for fd, _event in ready:
            pipe = self._pipes.get(fd)
            if pipe is not None:
                self._read_pipe(pipe, now)
        if ended:
            report = self.process.read_leash()
            if report is not None:
                self._end(report, now)
                return True
        return False

    def _look(self) -> list[tuple[int, int]]:
        poll = select.poll()  # a caller may be blocked in the other one, which takes one at a time
        for fd in self._open_descriptors():
            poll.register(fd, select.POLLIN)
        return poll.poll(0)

    def send(self, frame: bytes) -> None:
        """Send a frame, behind what waits."""
        machine = self.machine
        count = 0
        if not machine.outgoing and self._channel_open:
            try:
                count = self._channel.send(frame, _NOW)
            except OSError:
                count = 0  # flush() meets the error again, and sees to it
            if count == len(frame) and not machine.orders:
                return
        if count < len(frame):
            machine.outgoing.append(memoryview(frame)[count:])
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        outgoing = self.machine.outgoing
        if not self._channel_open:
            self._drop_outgoing()
            return
        while outgoing:
            piece = outgoing[0]
            try:
                if type(piece) is Parcel:
                    piece = outgoing[0] = self._send_parcel(piece)
                count = self._channel.send(piece, _NOW)
            except BlockingIOError:
                break
            except OSError:
                self._drop_outgoing()
                break
            if count == len(piece):  # views of bytes: the same as their size
                outgoing.popleft()
            else:
                outgoing[0] = memoryview(piece)[count:]
        if bool(outgoing) is not self._blocked:
            self._blocked = bool(outgoing)
            self._watch_channel()
        if self.machine.orders:
            self._carry_out()

    def _send_parcel(self, parcel: Parcel) -> memoryview:
        """Send the first of its bytes, with its descriptors; what is left of it."""
        if not parcel.numbers:
            return memoryview(parcel.data)
        count = socket.send_fds(self._channel, [parcel.data], parcel.numbers, _NOW)
        parcel.close()
        return memoryview(parcel.data)[count:]

    def _drop_outgoing(self) -> None:
        for piece in self.machine.outgoing:
            if type(piece) is Parcel:
                piece.close()
        self.machine.outgoing.clear()

    # reading

    def _read_channel(self, now: float) -> None:
        machine = self.machine
        while self._channel_open:
            space = self._decoder.space()
            try:
                if space is not None:
                    count = self._channel.recv_into(space, 0, _NOW)
                    last = count < len(space)
                    frames = self._decoder.filled(count) if count else []
                else:
                    data, ancillary, _flags, _address = self._channel.recvmsg(_CHUNK, _ANCILLARY, _NOW)
                    if ancillary:
                        self._take_descriptors(ancillary)
                    count = len(data)
                    last = count < _CHUNK
                    frames = self._decoder.feed(data) if data else []
            except BlockingIOError:
                return
            except ProtocolFault as fault:
                machine.on_fault(fault)
                self._close_channel()
                return
            except OSError:
                count = 0
                frames = []
            if not count:
                self._close_channel()
                machine.on_eof(now)
                return
            self._take_frames(frames, now)
            if last:
                return

    def _take_frames(self, frames: list[tuple[int, int, Any]], now: float) -> None:
        machine = self.machine
        for kind, call, body in frames:
            # what was printed at the start, a prompt, what a thread saw printed before its own: in the pipes already
            current = machine.current
            if kind in (messages.READY, messages.INPUT) or (
                kind == messages.LATE and current is not None and current.number == call
            ):
                for pipe in self._of(_Role.CURRENT):
                    self._drain(pipe, now)
            machine.on_frame(kind, call, body, now)
            if kind == messages.PIPES and machine.flooding is not None:
                try:
                    self._stand_by(int.from_bytes(body, "little"), now)
                except ProtocolFault as fault:
                    machine.on_fault(fault)
            if machine.draining is not None:
                self._finish_call(now)

    def _finish_call(self, now: float) -> None:
        """Done has come: read what the pipes hold, take what came along, and let the call end."""
        machine = self.machine
        done = machine.draining
        call = machine.current
        assert done is not None and call is not None
        for fd, _event in self._text_poll.poll(0):
            if fd in self._pipes and self._pipes[fd].role is not _Role.OLD:
                self._drain(self._pipes[fd], now)
        if len(self._pipes) > 2:
            for pipe in self._of(_Role.STANDBY):  # a flood that did not need it
                self._forget(pipe)
        self._standby.clear()
        self._hurry = 0
        if done.flags:
            try:
                if done.flags & messages.NEW_PIPES:
                    self._change_pipes(call.number, now)
            except ProtocolFault as fault:
                machine.on_fault(fault)
        machine.on_drained(now)

    def _read_pipe(self, pipe: _Pipe, now: float) -> None:
        """Read a pipe once, or more often while it is full."""
        for _ in range(8):
            size = _PIECE if pipe.grown else _CHUNK
            data = self._read(pipe, size)
            if not data:
                return
            self._give(pipe, data, now)
            if len(data) == size:
                self._hurry = _HURRY
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
        machine = self.machine
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

    def _stand_by(self, number: int, now: float) -> None:
        """Stdout may go on in another pipe later in this call."""
        (fd,) = self._take_pipes(1)
        for pipe in self._of(_Role.STANDBY):
            self._read_pipe(pipe, now)  # lets go of it, if its flood did without
        if len(self._of(_Role.STANDBY)) >= _MOST_FDS:
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

    def _of(self, role: _Role) -> list[_Pipe]:
        return [pipe for pipe in self._pipes.values() if pipe.role is role]

    def _add(self, fd: int, stream: int, role: _Role = _Role.CURRENT) -> _Pipe:
        os.set_blocking(fd, False)
        pipe = _Pipe(fd, stream, role)
        self._pipes[fd] = pipe
        self._watch_pipe(pipe)
        return pipe

    def _grow(self, fd: int) -> None:
        # fewer wake-ups in a flood; a host may forbid it to a user with many pipes
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _FLOOD)

    def _change_pipes(self, call: int, now: float) -> None:
        """The next call has pipes of its own; the ones so far stay with `call` until their last writer ends."""
        new = self._take_pipes(2)
        for pipe in list(self._pipes.values()):
            if pipe.role is _Role.OLD:
                continue
            if pipe.role is _Role.CURRENT:
                self.machine.on_new_pipe(pipe.stream)
            pipe.role = _Role.OLD
            pipe.call = call
            self._read_pipe(pipe, now)
        for fd, stream in zip(new, (messages.STDOUT, messages.STDERR), strict=True):
            self._add(fd, stream)

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._descriptors += found
                for fd in found:
                    os.set_inheritable(fd, False)
        if len(self._descriptors) > _MOST_FDS:
            self.machine.on_fault(ProtocolFault("more descriptors than were announced"))

    def _take(self, count: int) -> list[int]:
        if len(self._descriptors) < count:
            raise ProtocolFault("descriptors were announced and did not come")
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    def _take_pipes(self, count: int) -> list[int]:
        """As `_take`. The code may have sent anything, also what blocks or cannot be read."""
        taken = self._take(count)
        for fd in taken:
            mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            if not stat.S_ISFIFO(os.fstat(fd).st_mode) or mode != os.O_RDONLY:
                for each in taken:
                    os.close(each)
                raise ProtocolFault("a descriptor that is no pipe")
        return taken

    # the process

    def _carry_out(self) -> None:
        machine = self.machine
        orders, machine.orders = machine.orders, []
        pid = machine.ready["pid"] if machine.ready is not None else None
        for order in orders:
            if order is Order.KILL:
                self.process.kill_tree(pid)
            elif order is Order.GIVE_ENDS:
                call = machine.current
                if call is not None and call.branch is not None:
                    machine.outgoing.append(call.branch.ends(self.process, call.number))
            elif order is Order.TIDY:
                if machine.recovery is not None:
                    machine.recovery.tidy()
            elif pid is not None:
                self.process.signal(pid, _SIGNALS[order])
            elif order is Order.TERMINATE:
                self.process.kill_tree(None)

    def _end(self, report: ExitReport, now: float) -> None:
        """The process is gone: take what it left, tell the machine, let go of everything."""
        self._read_channel(now)
        for pipe in list(self._pipes.values()):
            self._drain(pipe, now)
        if report.exit_code is None and report.signal is None:
            # the warden did not live to tell: end what it can no longer end
            self.process.kill_tree(self.machine.ready["pid"] if self.machine.ready else None)
            if self.machine.ready is None:
                if not report.why and self._begin_again(now):
                    return
                report = self.process.early_end()
        machine = self.machine
        machine.on_exit(report, final=False)
        if machine.is_to_revive:
            self._revive(now)
        else:
            self.close()

    def _begin_again(self, now: float) -> bool:
        """Whoever was to make the process has ended before: start it in another way, if there is one."""
        again, self.process.again = self.process.again, None
        if again is None or not self.machine.may_begin_again:
            return False
        try:
            process = again()
        except LaunchError as error:
            self.machine.error = error
            return False
        self._detach()
        self._drop_outgoing()
        self.machine.begin_again(process.first, now)
        self._attach(process)
        self.flush()
        return True

    def _revive(self, now: float) -> None:
        """Go on with a process made of the checkpoint."""
        recovery = self.machine.recovery
        assert recovery is not None
        assert recovery.checkpoint is not None
        token = new_token()
        try:
            process = recovery.checkpoint.clone(token)
        except OSError as error:
            self.machine.on_exit(ExitReport(None, None, why=f"the checkpoint cannot be gone back to: {error}"))
            self.close()
            return
        self._detach()
        self._drop_outgoing()
        self.machine.revive(token, process.first, now)
        self._attach(process)
        self.flush()

    def close(self) -> None:
        """Close all descriptors. The process, if it still runs, is ended by its warden."""
        if self.closed:
            return
        self.closed = True
        self._close_channel()
        self._drop_outgoing()
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        for pipe in list(self._pipes.values()):
            os.close(pipe.fd)
        self._pipes.clear()
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()
        self.process.let_go()
        self.machine.on_exit(ExitReport(None, None))  # if nobody has seen its end: no call is left without one
        if self.machine.recovery is not None:
            self.machine.recovery.end()

    def abandon(self) -> None:
        """In a forked process: close the descriptors, and leave the processes to their owner."""
        if self.machine.error is None:
            self.machine.error = SessionClosed("the session belongs to the process that this one was forked from")
        self.process.disown()
        if self._selector is not None:
            self._selector.close()  # before anything is unregistered: epoll is shared with the owner
            self._selector = None
        self.close()

    # watching

    def _open_descriptors(self) -> list[int]:
        channel = [self._channel_fd] if self._channel_open else []
        return [*channel, self.process.leash, *self._pipes]

    def _watch_pipe(self, pipe: _Pipe) -> None:
        self._text_poll.register(pipe.fd, select.POLLIN)
        self._full_poll.register(pipe.fd, select.POLLIN)
        if self._selector is not None:
            self._selector.register(pipe.fd, selectors.EVENT_READ)

    def _forget(self, pipe: _Pipe) -> None:
        """A pipe has no writers left. What was held back of it is still to come."""
        if pipe.role is _Role.STANDBY and not pipe.held:
            self._standby.pop(pipe.number, None)
        if self._pipes.pop(pipe.fd, None) is None:
            return
        self._text_poll.unregister(pipe.fd)
        self._full_poll.unregister(pipe.fd)
        if self._selector is not None:
            self._selector.unregister(pipe.fd)
        os.close(pipe.fd)

    def _watch_channel(self) -> None:
        mask = select.POLLIN | (select.POLLOUT if self._blocked else 0)
        self._first_poll.modify(self._channel_fd, mask)
        self._full_poll.modify(self._channel_fd, mask)
        if self._selector is not None:
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._selector.modify(self._channel_fd, both if self._blocked else selectors.EVENT_READ)

    def _close_channel(self) -> None:
        if not self._channel_open:
            return
        self._channel_open = False
        self._first_poll.unregister(self._channel_fd)
        self._full_poll.unregister(self._channel_fd)
        if self._selector is not None:
            self._selector.unregister(self._channel_fd)
        self._channel.close()


def new_token() -> bytes:
    """The secret of a session's barriers.

    Its first byte is in no UTF-8 text: the end of a line or a prompt never looks like the beginning of a barrier.
    """
    return b"\xff" + os.urandom(messages.TOKEN_SIZE - 1)


def _waiting(fd: int) -> int:
    """Bytes in a pipe."""
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]
