"""The only I/O of the controller: one session's descriptors, moved along in non-blocking steps.

Descriptors of a session: channel, stdout, stderr, leash; two more for each call that left a process behind
which still holds its pipes; one more for sessions that the hub or an event loop watches.

A caller that waits for a call polls the channel and the leash only, at first: what is in the pipes is read
when Done comes, so a call that prints wakes its caller once. If nothing has come after `_PACE` seconds, the
pipes are watched as well; at once, where they fill up faster than that.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from typing import Any

from .._launch.base import ExitReport, Process
from .._protocol import messages
from .._protocol.faults import ProtocolFault
from .._protocol.frames import FrameDecoder
from ..errors import LaunchError, SessionClosed
from . import room
from .branch import Parcel
from .limits import wanted_of_worker
from .machine import Order, SessionMachine
from .pipes import MOST_FDS, Pipes
from .watch import Watch

_PACE = 0.002
_MOMENT = struct.pack("@ll", 0, int(_PACE * 1e6))
_NOW = getattr(socket, "MSG_DONTWAIT", 0)  # there is none on Windows
_SLICE = 0.25
_CHUNK = 65536
_ANCILLARY = socket.CMSG_SPACE(MOST_FDS * 4) if hasattr(socket, "CMSG_SPACE") else 0
_SIGNALS = {
    Order.INTERRUPT: signal.SIGINT,
    Order.TERMINATE: signal.SIGTERM,
    Order.WAKE: signal.SIGURG,
}


class Link:
    """Carries bytes, signals and the end of the process between a Process and its SessionMachine."""

    def __init__(self, process: Process, machine: SessionMachine, strict: bool = False) -> None:
        self.process: Process
        self.machine = machine
        self.closed = False
        self.sent = 0  # bytes, through the channel
        self.received = 0
        self.in_hand = False  # a thread is between `receive` and `take`, where nobody else sees what has arrived
        bounds = messages.TO_CONTROLLER_STRICT if strict else messages.TO_CONTROLLER
        self._bounds = bounds
        self._channel_open = False
        self._blocked = False  # bytes wait for room in the channel
        self._watch = Watch()
        self._pipes = Pipes(machine, self._watch)
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
        self._watch.add(self._channel_fd, urgent=True)
        self._watch.add(process.leash, urgent=True)
        self._pipes.attach(process.stdout, process.stderr)

    def _detach(self) -> None:
        """Let go of a process that has ended, to go on with another one."""
        self._close_channel()
        self._watch.remove(self.process.leash, urgent=True)
        self._pipes.close()
        self._blocked = False
        self.process.let_go()

    # waiting

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Block until something has arrived or `timeout` seconds are over; for `step`."""
        if self._pipes.hurry:
            self._pipes.hurry -= 1
        elif timeout is None or timeout > _PACE:
            found = self._watch.wait_urgent(_PACE * 1000)
            if found:
                return found
            timeout = None if timeout is None else timeout - _PACE
        # what another thread changes (room is wanted in the channel, a new pipe) shows in the next poll only
        if timeout is None or timeout > _SLICE:
            timeout = _SLICE
        return self._watch.wait(max(0, -int(-timeout * 1000 // 1)))

    def receive(self) -> bytes | None:
        """Block a moment for a message; for `take`. None: nothing came, or `wait` and `step` are needed.

        One system call instead of two for the short calls that a caller waits for.
        """
        if self._pipes.hurry or not self._channel_open or self._decoder.pending or self.machine.outgoing:
            return None
        try:
            data, ancillary, _flags, _address = self._channel.recvmsg(_CHUNK, _ANCILLARY)
        except OSError:
            return None
        if ancillary:
            self._pipes.came_along(ancillary)
        return data

    def take(self, data: bytes, now: float) -> None:
        """What `receive` gave."""
        machine = self.machine
        self.received += len(data)
        if len(data) >= messages.PLAIN_DONE_SIZE and machine.plain_done(data):
            self._finish_call(now)
        elif data:
            try:
                self._take_frames(self._decoder.feed(data), now)
            except ProtocolFault as fault:
                machine.on_fault(fault)
                self._close_channel()
            if self._is_due(now) and self._take_rest(now):
                return
        else:
            self._close_channel()
            machine.on_eof(now)
        if machine.outgoing or machine.orders:
            self._act()

    @property
    def has_old_pipes(self) -> bool:
        """Whether processes of calls that are over may still write."""
        return self._pipes.has_old

    def pollable(self) -> int:
        """One descriptor that is readable when `step` has something to do."""
        return self._watch.pollable()

    def drop_pollable(self) -> None:
        """Nobody watches any more: one descriptor less."""
        self._watch.drop_pollable()

    def step(self, now: float, ready: list[tuple[int, int]] | None = None) -> None:
        """Take in what has arrived, then let deadlines fire, then send. Never blocks. ready: what `wait` has found."""
        if self.closed:
            return
        machine = self.machine
        waited = ready is not None
        if ready is None:
            ready = self._watch.look()
        channel_fd = self._channel_fd
        if len(ready) == 1 and ready[0][0] == channel_fd:
            self._read_channel(now)
        elif ready and self._read_all(ready, now):
            return
        if self._is_due(now):
            if not waited:
                machine.on_time(now)
            elif self._take_rest(now):
                return
        if machine.outgoing or machine.orders:
            self._act()

    def pass_time(self, now: float) -> None:
        """As `step` where it is another's part to take in what arrives: if there is something, he judges, too."""
        if self.closed:
            return
        if self._is_due(now) and not self.in_hand and not self._watch.look():
            self.machine.on_time(now)
        if self.machine.outgoing or self.machine.orders:
            self._act()

    def _is_due(self, now: float) -> bool:
        deadline = self.machine.next_deadline()
        return deadline is not None and now >= deadline

    def _take_rest(self, now: float) -> bool:
        """Read before judging: we may have been stopped between the wait and `now`, and a call may have ended since.

        Whether the process has.
        """
        ready = self._watch.look()
        if ready and self._read_all(ready, now):
            return True
        if self._is_due(now):
            self.machine.on_time(now)
        return False

    def _act(self) -> None:
        """Send and do what the machine wants: messages first, for a signal only rings for the one that was sent."""
        self.flush()
        if self.machine.orders:
            self._carry_out()
        if self.machine.outgoing:  # what the orders have brought
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
            self._pipes.read(fd, now)
        if ended:
            report = self.process.read_leash()
            if report is not None:
                self._end(report, now)
                return True
        return False

    def send(self, frame: bytes) -> None:
        """Send a frame, behind what waits."""
        machine = self.machine
        count = 0
        if not machine.outgoing and self._channel_open:
            try:
                count = self._channel.send(frame, _NOW)
                self.sent += count
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
                self.sent += count
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
            self._watch.want_room(self._channel_fd, self._blocked)
        if self.machine.orders:
            self._carry_out()
            if outgoing and not self._blocked:
                self.flush()

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
                        self._pipes.came_along(ancillary)
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
            self.received += count
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
                self._pipes.drain_current(now)
            machine.on_frame(kind, call, body, now)
            if kind == messages.PIPES and machine.flooding is not None:
                try:
                    self._pipes.stand_by(int.from_bytes(body, "little"), now)
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
        try:
            self._pipes.finish_call(call.number, bool(done.flags & messages.NEW_PIPES), now)
        except ProtocolFault as fault:
            machine.on_fault(fault)
        machine.on_drained(now)

    # the process

    def _carry_out(self) -> None:
        machine = self.machine
        while machine.orders:  # a sample may lead to more
            orders, machine.orders = machine.orders, []
            self._obey(orders)

    def _obey(self, orders: list[Order]) -> None:
        machine = self.machine
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
            elif order is Order.CONFINE or order is Order.SAMPLE:
                self._hold_limits(order, pid)
            elif pid is not None:
                self.process.signal(pid, _SIGNALS[order])
            elif order is Order.TERMINATE:
                self.process.kill_tree(None)

    def _hold_limits(self, order: Order, pid: int | None) -> None:
        machine, rules = self.machine, self.machine.rules
        if rules is None or pid is None:
            return
        if order is Order.CONFINE:
            machine.on_confined(self.process.confine(pid, wanted_of_worker(rules.limits)))
        else:
            sample = self.process.sample(pid, rules.closely)
            machine.on_sample(sample, time.monotonic())

    def _end(self, report: ExitReport, now: float) -> None:
        """The process is gone: take what it left, tell the machine, let go of everything."""
        self._read_channel(now)
        self._pipes.drain_all(now)
        if report.exit_code is None and report.signal is None:
            # the warden did not live to tell: end what it can no longer end
            self.process.kill_tree(self.machine.ready["pid"] if self.machine.ready else None)
            if self.machine.ready is None:
                if not report.why and self._begin_again(now):
                    return
                report = self.process.early_end()
        machine = self.machine
        machine.on_exit(report, now, final=False)
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
            why = f"the checkpoint cannot be gone back to: {error}"
            self.machine.on_exit(ExitReport(None, None, why=why), now)
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
        self._watch.drop_pollable()
        self._pipes.close()
        self.process.let_go()
        # if nobody has seen its end: no call is left without one
        self.machine.on_exit(ExitReport(None, None), time.monotonic())
        if self.machine.recovery is not None:
            self.machine.recovery.end()

    def abandon(self) -> None:
        """In a forked process: close the descriptors, and leave the processes to their owner."""
        if self.machine.error is None:
            self.machine.error = SessionClosed("the session belongs to the process that this one was forked from")
        current = self.machine.current
        if current is not None and current.branch is not None:
            current.branch.abandon()
        self.process.disown()
        self._watch.drop_pollable()  # before anything is unregistered: epoll is shared with the owner
        self.close()

    def _close_channel(self) -> None:
        if not self._channel_open:
            return
        self._channel_open = False
        self._watch.remove(self._channel_fd, urgent=True)
        self._channel.close()


def new_token() -> bytes:
    """The secret of a session's barriers.

    Its first byte is in no UTF-8 text: the end of a line or a prompt never looks like the beginning of a barrier.
    """
    return b"\xff" + os.urandom(messages.TOKEN_SIZE - 1)
