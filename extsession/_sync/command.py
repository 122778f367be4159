"""A running command and the thread that sees to it.

All that is done to the process is done by that thread: it starts it, reads, writes, waits and stops it. So nothing
depends on what the caller does, and a Ctrl-C in the caller's thread hits nothing that it could tear.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from .._engine.command import CommandMachine, StopAction, StopCause, StopTimes
from .._engine.completion import Step
from .._engine.limits import Breach
from .._launch.command import CommandSpec, StartedCommand, start
from ..errors import LaunchError
from ..options import Limits
from .command_watch import CommandWatch

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


class RunningCommand:
    """A command, from its start on.

    timeout: seconds it may run. limits: of its whole tree, `cpu`, `memory`, `processes`, and `output`; `breach` is the
    one that it was stopped for. stdin: bytes for a stdin that is a pipe, which is then closed; None: `write` follows.
    on_begin: called before it is started, and may raise RuntimeError for want of a thread; on_data: with 1 or 2, for
    stdout or stderr, and bytes as they arrive; on_step: with each step of the ladder and the cause; on_end: when all is
    over, before `wait` returns. All are called from the command's own thread, must not raise otherwise, and hold it up.

    A child of this process that was forked while it runs has nothing to do with it: there all of this does nothing.
    """

    def __init__(
        self,
        spec: CommandSpec,
        *,
        times: StopTimes | None = None,
        timeout: float | None = None,
        limits: Limits | None = None,
        stdin: bytes | None = None,
        on_begin: Callable[[], None] | None = None,
        on_data: Callable[[int, bytes], None] | None = None,
        on_step: Callable[[StopAction, StopCause], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.spec = spec
        self.error: OSError | LaunchError | None = None  # why it did not start
        self.failure: Exception | None = None  # what went wrong in the thread itself, as a MemoryError
        self.pid: int | None = None
        self.is_warm = False  # a template has made it
        self.out = {STDOUT: bytearray(), STDERR: bytearray()}
        self._times = times or StopTimes()
        self._timeout = timeout
        self._limits = limits
        self.breach: Breach | None = None
        self._on_begin, self._on_data, self._on_step, self._on_end = on_begin, on_data, on_step, on_end
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._is_claimed = self._is_unwanted = False  # the thread runs; it is to start nothing
        self._is_hurried = False
        self._wanted: tuple[StopCause, bool] | None = None  # a stop
        self._stopped_before: StopCause | None = None  # it was there
        self._input = _Input(stdin, spec.stdin == "pipe")
        self._began = time.monotonic()
        self._over_at: float | None = None
        self._machine: CommandMachine | None = None
        self._started = threading.Event()
        self._dead = threading.Event()
        self._finished = threading.Event()
        self._ring = -1
        self._callbacks: list[Callable[[], None]] = []

    # for any thread

    def start(self) -> None:
        """Start it, and return when its process is there. OSError, LaunchError: why it is not."""
        try:
            threading.Thread(target=self._run, name="extsession-command", daemon=True).start()
        except RuntimeError as error:  # there are too many
            self.error = OSError(errno.EAGAIN, str(error))
            self.stop(StopCause.LEFT)
        self._started.wait()
        if self.error is not None:
            raise self.error

    @property
    def exit_code(self) -> int | None:
        """-n if signal n has ended it; None: it runs, or nobody can tell."""
        return None if self._machine is None else self._machine.exit_code

    @property
    def cause(self) -> StopCause | None:
        """Why it was stopped; None: it was not."""
        return self._stopped_before if self._machine is None else self._machine.cause

    @property
    def steps(self) -> tuple[Step, ...]:
        """Of the ladder, as far as they were taken."""
        return () if self._machine is None else tuple(self._machine.steps)

    @property
    def is_finished(self) -> bool:
        return self._finished.is_set()

    @property
    def is_hurried(self) -> bool:
        """Whether somebody wants it to be over: it is or was stopped, or was to be after its end."""
        return self._is_hurried or self.cause is not None

    @property
    def _is_elsewhere(self) -> bool:
        """This process was forked from the one that runs it, and has no thread for it."""
        return os.getpid() != self._owner

    @property
    def duration(self) -> float:
        """Seconds until it was over, or until now."""
        return (time.monotonic() if self._over_at is None else self._over_at) - self._began

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is over, with all that `on_end` does; whether that is so after `timeout` seconds."""
        return self._finished.is_set() if self._is_elsewhere else self._finished.wait(timeout)

    def wait_dead(self, timeout: float | None = None) -> bool:
        """Until it has ended and all of its output is there; whether that is so after `timeout` seconds.

        What `on_end` waits for may wait for this.
        """
        return self._dead.is_set() if self._is_elsewhere else self._dead.wait(timeout)

    def on_finished(self, callback: Callable[[], None]) -> None:
        """Call it, from any thread, when the command is over; at once if it is. It must not raise."""
        with self._lock:
            if not self._finished.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def stop(self, cause: StopCause, is_told: bool = False) -> None:
        """Begin the ladder, if it runs and is not being stopped already. Does not wait."""
        if self._is_elsewhere:
            return
        with self._changed:
            if not self._is_claimed:
                self._is_unwanted = True
                self._stopped_before = self._stopped_before or cause
                self._over_at = self._over_at or time.monotonic()
                self._input.is_closed = True
                self._changed.notify_all()
                for event in (self._started, self._dead, self._finished):
                    event.set()
                callbacks, self._callbacks = self._callbacks, []
            else:
                callbacks = []
                self._is_hurried = self._is_hurried or cause is not StopCause.LEFT
                if self._wanted is None and not self._dead.is_set():
                    self._wanted = cause, is_told
                    self._wake()
        for callback in callbacks:
            callback()

    def write(self, data: bytes) -> None:
        """Write to its stdin, and return when it has taken all. BrokenPipeError: it is gone, and not because of us."""
        if self._is_elsewhere:
            raise BrokenPipeError(errno.EPIPE, "the command belongs to the process that this one was forked from")
        with self._changed:
            if not self._input.is_pipe:
                return
            if not self._input.is_ending:
                self._input.add(data)
            self._wake()
            goal = self._input.given
            has_place = not self._input.is_ending and not self._input.is_closed
            if has_place:
                self._changed.wait_for(lambda: self._input.taken >= goal or self._input.is_closed)
            if (has_place and self._input.taken >= goal) or self.cause is not None or self._wanted is not None:
                return
        raise BrokenPipeError(errno.EPIPE, "the command does not read its standard input any more")

    def end_input(self) -> None:
        """The end of file, behind all that was written."""
        if self._is_elsewhere:
            return
        with self._lock:
            self._input.is_ending = True
            self._wake()

    def _wake(self) -> None:
        if self._ring >= 0:
            with contextlib.suppress(BlockingIOError):  # it is awake
                os.write(self._ring, b"\1\0\0\0\0\0\0\0" if sys.byteorder == "little" else b"\0\0\0\0\0\0\0\1")

    # for the thread

    def _run(self) -> None:
        with self._lock:
            if self._is_unwanted:
                return
            self._is_claimed = True
        try:
            with contextlib.ExitStack() as stack:
                try:
                    bell = _bell()  # all that can fail comes before the process
                    stack.callback(self._close_bell, bell)
                    if self._on_begin is not None:
                        self._on_begin()
                    process = start(self.spec)
                except (OSError, LaunchError) as error:
                    self.error = error
                    return
                except (ValueError, MemoryError, RuntimeError) as error:
                    self.error = OSError(errno.EAGAIN if isinstance(error, RuntimeError) else None, str(error))
                    return
                self.pid, self.is_warm = process.pid, process.is_warm
                stack.callback(process.close)
                self._began = time.monotonic()
                self._machine = machine = CommandMachine(self._times, self._timeout, self._began)
                with self._lock:
                    self._ring = bell[1]
                    if self._wanted is not None:
                        self._wake()  # it came before there was something to ring
                self._started.set()
                _Pump(self, process, machine, bell[0]).run()
        finally:
            self._over_at = time.monotonic()
            with self._changed:
                self._input.is_closed = True
                self._changed.notify_all()
            self._dead.set()
            if self._on_end is not None:
                self._on_end()
            with self._lock:
                callbacks, self._callbacks = self._callbacks, []
                self._finished.set()
            self._started.set()
            for callback in callbacks:
                callback()

    def _close_bell(self, bell: tuple[int, int]) -> None:
        with self._lock:
            self._ring = -1
        for fd in {*bell}:
            os.close(fd)


class _Input:
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


class _Pump:
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


def _bell() -> tuple[int, int]:
    """(to be waited for, to be written to): what wakes the thread. Both may be one descriptor."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _pending(fd: int) -> int:
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
