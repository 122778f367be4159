"""tox's executor over commands of ours: tox shows, colours, logs and reports what they write and how they end."""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import signal
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Literal

from tox.execute.api import Execute, ExecuteInstance, ExecuteOptions, ExecuteStatus, Outcome
from tox.execute.request import ExecuteRequest, StdinSource
from tox.execute.stream import SyncWrite

from .. import CommandSpec, LaunchError, Limits, RunningCommand, StopAction, StopCause, StopTimes
from ..execute.show import Listener, Sink
from . import internals
from .settings import Settings
from .warm import Warm

#: what a command is stopped for that is its own fault
_BY_US: Final = {StopCause.TIMEOUT, StopCause.LIMIT}
_NUMBERS: Final = {
    StopAction.INTERRUPT: signal.SIGINT,
    StopAction.TERMINATE: signal.SIGTERM,
    StopAction.KILL: signal.SIGKILL,
}


class ToxExecute(Execute):
    """Runs what tox asks for as RunningCommands. Between `begin` and `end` with the settings of an environment."""

    def __init__(self, colored: bool) -> None:
        super().__init__(colored)
        self._settings = Settings()
        self._warm: Warm | None = None

    def begin(self, settings: Settings) -> None:
        """The commands of an environment come now."""
        self._settings = settings
        self._warm = None if settings.warm is None else Warm(settings.warm)

    def end(self) -> None:
        """They are over."""
        warm, self._warm, self._settings = self._warm, None, Settings()
        if warm is not None:
            warm.end()

    def build_instance(
        self, request: ExecuteRequest, options: ExecuteOptions, out: SyncWrite, err: SyncWrite
    ) -> ExecuteInstance:
        return ToxInstance(request, options, out, err, self._settings, self._warm)


class ToxInstance(ExecuteInstance):
    """One command. It runs inside of the block."""

    def __init__(
        self,
        request: ExecuteRequest,
        options: ExecuteOptions,
        out: SyncWrite,
        err: SyncWrite,
        settings: Settings,
        warm: Warm | None,
    ) -> None:
        super().__init__(request, options, out, err)
        self._settings = settings
        self._warm = warm
        self._resolved: list[str] | None = None
        self._status: ToxStatus | None = None

    @property
    def cmd(self) -> Sequence[str]:
        """With the file that the program is. Fail: it is not allowed."""
        if self._resolved is None:
            self._resolved = internals.resolved(self.request, self.options, self._out, self._err)
        return self._resolved

    def __enter__(self) -> ExecuteStatus:
        internals.add_size(self.request.env)
        cmd = list(self.cmd)
        spec = self._spec(cmd)
        if self._warm is not None:
            spec = dataclasses.replace(spec, warm=self._warm.plan(spec))
        try:
            try:
                self._status = self._started(spec)
            except LaunchError as error:
                assert self._warm is not None
                self._warm.failed(error)
                self._status = self._started(dataclasses.replace(spec, warm=None))
        except OSError as error:
            internals.log_start_error(error)
            return NotStarted(self.options, self._out, self._err, error)
        return self._status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it, if it runs still."""
        if self._status is not None:
            self._status.leave()

    def _spec(self, cmd: list[str]) -> CommandSpec:
        if any("\0" in each for each in cmd):
            raise ValueError("embedded null byte")  # as tox says it
        source = self.request.stdin
        is_inherited = internals.is_inherited(self.request, self.options)
        stdin: Literal["end", "pipe", "inherit"] = "inherit"
        if source is StdinSource.API:
            stdin = "pipe"
        elif source is StdinSource.OFF or not (self._settings.has_stdin or is_inherited):
            stdin = "end"
        return CommandSpec(
            argv=cmd,
            executable=cmd[0],
            cwd=str(self.request.cwd),
            env=self.request.env,
            stdin=stdin,
            terminals=(_terminal("stdout"), _terminal("stderr")),
            output="inherit" if is_inherited else "read",
            own_group=not (stdin == "inherit" and os.isatty(0)),
        )

    def _started(self, spec: CommandSpec) -> ToxStatus:
        """OSError, LaunchError: the warm interpreter cannot be."""
        return ToxStatus(self.options, self._out, self._err, spec, self._settings)


class ToxStatus(ExecuteStatus):
    """Of a command that was started."""

    def __init__(
        self, options: ExecuteOptions, out: SyncWrite, err: SyncWrite, spec: CommandSpec, settings: Settings
    ) -> None:
        """Start it. OSError, LaunchError."""
        super().__init__(options, out, err)
        self._settings = settings
        self._times = StopTimes(
            suicide=options.suicide_timeout, interrupt=options.interrupt_timeout, terminate=options.terminate_timeout
        )
        self._steps: queue.SimpleQueue[StopAction | None] = queue.SimpleQueue()
        listener = Listener({1: [_Handler(out.handler)], 2: [_Handler(err.handler)]})

        def end() -> None:
            listener.finish(lambda: self._command.is_hurried)
            self._steps.put(None)

        self._command = RunningCommand(
            spec,
            times=self._times,
            timeout=settings.timeout,
            limits=None if settings.memory is None else Limits(memory=settings.memory),
            on_begin=listener.start,
            on_data=listener.put,
            on_step=lambda action, cause: self._steps.put(action),
            on_end=end,
        )
        self._command.start()

    @property
    def exit_code(self) -> int | None:
        """As it has ended; but one that was stopped for its time has not succeeded, whatever it says."""
        code = self._command.exit_code
        return 1 if code == Outcome.OK and self._command.cause in _BY_US else code

    @property
    def start_error(self) -> BaseException | None:
        return None

    @property
    def metadata(self) -> dict[str, Any]:
        return {"pid": self._command.pid, "extsession": "warm" if self._command.is_warm else "process"}

    def wait(self, timeout: float | None = None) -> int | None:
        return self.exit_code if self._command.wait(timeout) else None

    def write_stdin(self, content: str) -> None:
        self._command.write(content.encode())

    def interrupt(self) -> None:
        """Stop it with all that it has started, and return when that is done. From any thread, and more than once."""
        command = self._command
        internals.log_request(self._pid, self._times.suicide)
        command.stop(StopCause.INTERRUPT)
        if command.cause in (None, StopCause.INTERRUPT):  # else its time was over, and it says so itself
            self._log_steps()
        command.wait()
        internals.log_stopped(command.exit_code, is_ours=bool(command.steps))

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._command.stop(StopCause.LEFT)
        self._command.wait()
        if self._command.cause in _BY_US:
            self._log_steps()
        if self._command.cause is StopCause.TIMEOUT:
            logging.error("timed out after %gs", self._settings.timeout)
        elif (breach := self._command.breach) is not None:
            limit, allowed, reached = breach
            logging.error("over its limit: %d bytes of %s, where %d are allowed", reached, limit, allowed)

    @property
    def _pid(self) -> int:
        assert self._command.pid is not None
        return self._command.pid

    def _log_steps(self) -> None:
        """Each when it is taken, until it is over; in a thread for which tox knows where it is shown."""
        times = {StopAction.INTERRUPT: self._times.interrupt, StopAction.TERMINATE: self._times.terminate}
        while (action := self._steps.get()) is not None:
            number = _NUMBERS.get(action)
            if number is None:
                logging.warning("cannot end %d: the kernel keeps it, or what it has started", self._pid)
            else:
                internals.log_signal(f"{number.name}({number})", self._pid, times.get(action))
        self._steps.put(None)  # for whoever asks next

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pid={self._command.pid}, returncode={self._command.exit_code!r})"


class NotStarted(ExecuteStatus):
    """Of a command that cannot be. exit_code: the number of the error."""

    def __init__(self, options: ExecuteOptions, out: SyncWrite, err: SyncWrite, error: OSError) -> None:
        super().__init__(options, out, err)
        self._error = error

    @property
    def exit_code(self) -> int | None:
        return self._error.errno

    @property
    def start_error(self) -> BaseException | None:
        """tox reads it since 4.6x."""
        return self._error

    def wait(self, timeout: float | None = None) -> int | None:
        return self.exit_code

    def write_stdin(self, content: str) -> None:
        """Nobody reads it."""

    def interrupt(self) -> None:
        """There is nothing."""


class _Handler(Sink):
    """What tox does with output. It keeps it also where showing it fails, as in `tox | head`."""

    def __init__(self, handler: Callable[[bytes], Any]) -> None:
        self._handler = handler
        self._is_warned = False

    def give(self, data: bytes) -> None:
        try:
            self._handler(data)
        except Exception as error:
            if not self._is_warned:
                self._is_warned = True
                logging.warning("the output of a command cannot be shown: %s", error)


def _terminal(name: str) -> int | None:
    """The descriptor of `sys.stdout` or `sys.stderr`, if it is a terminal."""
    stream = getattr(sys, name)
    try:
        return int(stream.fileno()) if stream.isatty() else None
    except (AttributeError, OSError, ValueError):  # there is none; it is no file; it is closed
        return None
