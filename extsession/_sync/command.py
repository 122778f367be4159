"""A running command and the thread that sees to it.

All that is done to the process is done by that thread: it starts it, reads, writes, waits and stops it. So nothing
depends on what the caller does, and a Ctrl-C in the caller's thread hits nothing that it could tear.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from .._engine.command import CommandMachine, StopAction, StopCause, StopTimes
from .._engine.completion import Step
from .._engine.limits import Breach
from .._launch.command import CommandSpec, start
from ..errors import LaunchError
from ..options import Limits
from . import shield
from .command_pump import STDERR, STDOUT, Input, Pump

#: seconds between two looks for signals while the main thread waits
_LOOK_FOR_SIGNALS: Final = 0.25


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
        self._input = Input(stdin, spec.stdin == "pipe")
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
        shielded = shield.up()  # a Ctrl-C here would leave a thread that has half begun
        try:
            threading.Thread(target=self._run, name="extsession-command", daemon=True).start()
        except RuntimeError as error:  # there are too many
            self.error = OSError(errno.EAGAIN, str(error))
            self.stop(StopCause.LEFT)
        finally:
            shield.down(shielded)
        self._wait(self._started, None)
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
        return self._wait(self._finished, timeout)

    def wait_dead(self, timeout: float | None = None) -> bool:
        """Until it has ended and all of its output is there; whether that is so after `timeout` seconds.

        What `on_end` waits for may wait for this.
        """
        return self._wait(self._dead, timeout)

    def _wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Until `event`, or so many seconds. In the main thread with a look for signals now and then.

        CPython looks for them between bytecodes: one that comes after its last look and before the thread sleeps would
        be seen when the event is there, and Ctrl-C is what may bring that about.
        """
        if self._is_elsewhere:
            return event.is_set()
        if threading.current_thread() is not threading.main_thread():
            return event.wait(timeout)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > _LOOK_FOR_SIGNALS:
            if event.wait(_LOOK_FOR_SIGNALS):
                return True
        return event.wait(max(0.0, left))

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
        shielded = shield.up()  # a Ctrl-C would leave it half told, or the lock taken
        try:
            for callback in self._tell_stop(cause, is_told):
                callback()
        finally:
            shield.down(shielded)

    def _tell_stop(self, cause: StopCause, is_told: bool) -> list[Callable[[], None]]:
        """Returns the callbacks of one that never began."""
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
                return callbacks
            self._is_hurried = self._is_hurried or cause is not StopCause.LEFT
            if self._wanted is None and not self._dead.is_set():
                self._wanted = cause, is_told
                self._wake()
            return []

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
                Pump(self, process, machine, bell[0]).run()
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


def _bell() -> tuple[int, int]:
    """(to be waited for, to be written to): what wakes the thread. Both may be one descriptor."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write
