"""The loop of a command's thread: the half of RunningCommand that only that thread runs.

It knows the other half's private names: what the two share is changed under that one's lock.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from .._engine.command import CommandMachine, StopAction, StopCause
from .._launch.command import StartedCommand
from .command_watch import CommandWatch

if TYPE_CHECKING:
    from .command import RunningCommand

STDOUT: Final = 1
STDERR: Final = 2
_READ: Final = 2**18
#: what a pseudo-terminal can hold for a reader: the kernel's buffer is 64 KiB, and a page
_MOST_IN_TERMINAL: Final = 2**17
#: seconds between two looks for the end, where it shows on no descriptor
_LOOK: Final = 0.005
#: seconds, the longest that poll(2) is asked to wait for: it takes milliseconds in an int
_LONGEST: Final = 86400.0
#: seconds for the end of one that is killed because there is nobody to see to it
_MOST_FOR_END: Final = 5.0
#: how a program ends that does nothing about Ctrl-C, and a shell of which such a one was the last
_BY_CTRL_C: Final = {-signal.SIGINT, 128 + signal.SIGINT}
#: seconds in which Ctrl-C must have come to us after it has ended a command
_LINGER: Final = 1.0
_BY_SOMEBODY: Final = {StopCause.INTERRUPT, StopCause.TERMINATE, StopCause.KEYBOARD}
_SIGNALS: Final = {StopAction.INTERRUPT: signal.SIGINT, StopAction.TERMINATE: signal.SIGTERM}


class Input:
    """What is still to be written to the command's stdin. given, taken: bytes."""

    def __init__(self, data: bytes | None, is_pipe: bool) -> None:
        self.is_pipe = is_pipe
        self.given = self.taken = 0
        self.is_ending = data is not None
        self.is_closed = not is_pipe
        self._pieces: list[memoryview] = []
        if data:
            self.add(data)

    def add(self, data: bytes) -> None:
        if data:
            self.given += len(data)
            self._pieces.append(memoryview(data))

    @property
    def is_waiting(self) -> bool:
        return bool(self._pieces)

    def write(self, fd: int) -> None:
        """As much as it takes now. OSError."""
        while self._pieces:
            piece = self._pieces[0]
            try:
                count = os.write(fd, piece[:_READ])
            except BlockingIOError:
                return
            self.taken += count
            if count == len(piece):
                self._pieces.pop(0)
            else:
                self._pieces[0] = piece[count:]


class Pump:
    """The thread's loop."""

    def __init__(self, command: RunningCommand, process: StartedCommand, machine: CommandMachine, bell: int) -> None:
        self._command = command
        self._process = process
        self._machine = machine
        self._bell = bell
        limits = command._limits
        self._watch = None if limits is None else CommandWatch(limits, process, machine.began)
        self._fds = {STDOUT: process.stdout, STDERR: process.stderr}
        self._poll = select.poll()
        self._poll.register(bell, select.POLLIN)
        for stream, fd in self._fds.items():
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)
            else:  # it is ours as well
                machine.on_eof(stream)
        if process.ended >= 0:
            self._poll.register(process.ended, select.POLLIN)
        self._writes = False  # stdin is waited for
        self._lingers_until = 0.0  # it has ended, left processes, and it may turn out that this was by Ctrl-C

    def run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # as MemoryError, for output that nothing has room for
            self._command.failure = error
            self._abandon()

    def _abandon(self) -> None:
        """Nobody sees to it any more: end it."""
        process, machine = self._process, self._machine
        process.offspring.look()
        process.signal(signal.SIGKILL)
        code, give_up = None, time.monotonic() + _MOST_FOR_END
        while machine.ended is None and time.monotonic() < give_up:
            try:
                code = process.poll()
            except ChildProcessError:
                break
            if code is not None:
                break
            time.sleep(_LOOK)
        process.offspring.end()
        if machine.ended is None:
            machine.on_exit(code, time.monotonic())

    def _loop(self) -> None:
        machine = self._machine
        self._look()  # a template may have told of the end along with the start
        while not machine.is_over or self._may_be_stopped():
            self._feed()
            ready = {fd for fd, _ in self._poll.poll(self._timeout())}
            if self._bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
            for stream, fd in self._fds.items():
                if fd in ready and machine.is_open(stream):
                    self._read(stream)
            if machine.ended is None and (self._process.ended in ready or self._process.ended < 0):
                self._look()
            self._obey()
            now = time.monotonic()
            if self._watch is not None and machine.cause is None and machine.ended is None:
                self._look_at_limits(self._watch, now)
            while (action := machine.due(now)) is not None:
                self._act(action)
            if machine.ended is not None and now >= machine.drain_until:
                for stream in (STDOUT, STDERR):
                    if machine.is_open(stream):
                        self._take_rest(stream)

    def _look(self) -> None:
        """Whether it has ended."""
        try:
            code = self._process.poll()
        except ChildProcessError:  # it has, and nobody can tell how
            self._on_exit(None)
        else:
            if code is not None:
                self._on_exit(code)

    def _look_at_limits(self, watch: CommandWatch, now: float) -> None:
        breach = watch.look(now, sum(map(len, self._command.out.values())))
        if breach is not None:
            self._command.breach = breach
            self._machine.stop(StopCause.LIMIT, now)

    def _timeout(self) -> float | None:
        due = self._machine.next_time()
        if self._may_be_stopped():
            due = min(due, self._lingers_until)
        if self._watch is not None and self._machine.cause is None and self._machine.ended is None:
            due = min(due, self._watch.next_look())
        if self._process.ended < 0 and self._machine.ended is None:
            due = min(due, time.monotonic() + _LOOK)
        if due == math.inf:
            return None
        return max(0.0, math.ceil(min(due - time.monotonic(), _LONGEST) * 1000))

    def _obey(self) -> None:
        """Begin a stop that somebody wants."""
        wanted = self._command._wanted
        if wanted is not None and self._machine.cause is None:
            self._machine.stop(wanted[0], time.monotonic(), wanted[1])
            if self._may_be_stopped() and wanted[0] in _BY_SOMEBODY:
                self._process.offspring.end()
                self._lingers_until = 0.0

    def _may_be_stopped(self) -> bool:
        """Whether it has ended, and what it has left is to be ended as well if we are told to stop it now."""
        return time.monotonic() < self._lingers_until

    def _linger(self, code: int | None) -> None:
        """A terminal sends Ctrl-C to it and to us: it may have ended of that before we have come to stop it."""
        offspring = self._process.offspring
        if self._command.spec.own_group or not offspring.alive():
            return
        if code in _BY_CTRL_C:
            offspring.end()
        elif code != 0:
            self._lingers_until = time.monotonic() + _LINGER

    def _on_exit(self, code: int | None) -> None:
        if self._process.ended >= 0:  # it would be ready for ever
            self._poll.unregister(self._process.ended)
        self._obey()  # it was wanted before we knew of the end
        if self._machine.cause is not None:
            left = self._process.offspring.end()
            if left and self._command._on_step is not None:
                self._command._on_step(StopAction.GIVE_UP, self._machine.cause)
        else:
            self._linger(code)
        self._machine.on_exit(code, time.monotonic())

    def _act(self, action: StopAction) -> None:
        machine, process = self._machine, self._process
        assert machine.cause is not None
        if self._command._on_step is not None:
            self._command._on_step(action, machine.cause)
        if action in _SIGNALS:
            process.offspring.look()
            process.signal(_SIGNALS[action])
            process.signal(signal.SIGCONT)  # one that is stopped could do nothing about it
        elif action is StopAction.KILL:
            process.offspring.look()
            process.signal(signal.SIGKILL)
        else:
            self._on_exit(None)

    # output

    def _read(self, stream: int, most: int = _READ) -> bool:
        """Take a piece of what has arrived. False: nothing has."""
        try:
            data = os.read(self._fds[stream], most)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the other side of the pseudo-terminal open any more
            data = b""
        if not data:
            self._close(stream)
            return False
        self._keep(stream, data)
        return True

    def _keep(self, stream: int, data: bytes) -> None:
        self._command.out[stream] += data
        if self._command._on_data is not None:
            self._command._on_data(stream, data)

    def _close(self, stream: int) -> None:
        self._poll.unregister(self._fds[stream])
        self._machine.on_eof(stream)

    def _take_rest(self, stream: int) -> None:
        """What lies there at this moment, and no more: others may go on writing for ever."""
        fd = self._fds[stream]
        if self._process.are_terminals[stream - 1]:
            rest = _MOST_IN_TERMINAL  # the kernel tells of less than there is, until somebody reads
        else:
            rest = _pending(fd)
        goal = len(self._command.out[stream]) + rest
        while (still := goal - len(self._command.out[stream])) > 0 and self._read(stream, min(still, _READ)):
            pass
        if self._machine.is_open(stream):
            self._close(stream)

    # input

    def _feed(self) -> None:
        """Write what there is to be written, and be woken when there is room for more."""
        fd, command = self._process.stdin, self._command
        if fd < 0:
            return
        with command._changed:
            try:
                command._input.write(fd)
                is_over = command._input.is_ending and not command._input.is_waiting
            except OSError:  # EPIPE: nobody reads it any more
                is_over = True
            is_over = is_over or self._machine.ended is not None
            wants = command._input.is_waiting and not is_over
            if wants != self._writes or is_over:
                self._writes = wants
                if wants:
                    self._poll.register(fd, select.POLLOUT)
                else:
                    with contextlib.suppress(KeyError):
                        self._poll.unregister(fd)
            if is_over:
                self._process.close_stdin()
                command._input.is_closed = True
            command._changed.notify_all()


def _pending(fd: int) -> int:
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
