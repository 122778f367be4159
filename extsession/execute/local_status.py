"""A command that runs, and how it went: the status that an executor gives."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import CommandSpec, LaunchError, RunningCommand, StopAction, StopCause, StopTimes, WarmPython
from .api import LOGGER, ExecuteStatus, Outcome
from .errors import ExecuteError, InterruptError, LimitError, TimeoutError
from .lookup import resolve, start_error
from .records import OwnTemporary
from .request import ExecuteRequest, StdinSource
from .show import Listener, Sink
from .text import Text


class LocalSubProcessStatus(ExecuteStatus):
    """Of a command that runs, and of one that has ended."""

    def __init__(
        self,
        request: ExecuteRequest,
        sinks: dict[int, list[Sink]],
        show: bool,
        plain: bool,
        timeout: float | None,
        times: StopTimes,
        warm: Callable[[ExecuteRequest, str], WarmPython | None],
        tell: Callable[[RunningCommand], dict[str, Any]],
        temporary: OwnTemporary | None,
    ) -> None:
        super().__init__(None)
        self._request = request
        self._show = show
        self._tell = tell
        self._temporary = temporary
        self.is_kept = False  # in the executor's log
        self._error: ExecuteError | None = None  # why it was not started
        self._timeout = timeout
        self._start = time.monotonic()
        self._cmd = request.cmd
        self._settled: ExecuteStatus | None = None
        try:
            program = resolve(request)
        except ExecuteError as error:
            self._not_started(error)
            program = ""
        self._cmd[0] = program or self._cmd[0]
        self._listener = listener = Listener(sinks) if program and any(sinks.values()) else None
        self.command = RunningCommand(
            _spec(request, program, warm(request, program) if program else None, temporary),
            times=times,
            timeout=timeout,
            limits=request.limits,
            stdin=request.stdin.encode("utf-8", "surrogateescape") if isinstance(request.stdin, str) else None,
            on_begin=None if listener is None else listener.start,
            on_data=None if listener is None else listener.put,
            on_step=self._log_step,
            on_end=None if listener is None else lambda: listener.finish(lambda: self.command.is_hurried),
        )
        self._shares_terminal = not self.command.spec.own_group
        self._out = Text(plain, self.command.out[1])
        self._err = Text(plain, self.command.out[2])

    # the life of it, for the executor

    def begin(self) -> None:
        """Start it, unless it is known already that it cannot be."""
        if self._error is not None:
            self.command.stop(StopCause.LEFT)  # it never begins
            self.settle()
            return
        try:
            self.command.start()
        except LaunchError as error:
            self._not_started(ExecuteError(str(error), request=self._request))
        except OSError as error:
            self._not_started(start_error(self._request, self._cmd[0], error))
        if self.command.pid is not None:
            self._metadata["pid"] = self.command.pid
            self._metadata.update(self._tell(self.command))
        if self._error is not None:
            self.command.wait()
            self.settle()

    def stop(self, cause: StopCause) -> None:
        """Begin to stop it, and wait until it is dead."""
        self.command.stop(cause, is_told=cause is StopCause.KEYBOARD and self._shares_terminal)
        self._wait()

    def _wait(self, timeout: float | None = None) -> bool:
        """Until it is over; from a callback of its own, which is a part of that, until it has ended."""
        is_own = self._listener is not None and self._listener.is_current()
        return self.command.wait_dead(timeout) if is_own else self.command.wait(timeout)

    def settle(self) -> None:
        """It is over: judge."""
        self._out.end()
        self._err.end()
        self.finished()
        if self._temporary is not None:
            self._temporary.remove()

    def finished(self) -> ExecuteStatus:
        """A status for ever, with its outcome."""
        if self._settled is None:
            status = ExecuteStatus._made_of(
                self.exit_code, self._out, self._err, self.duration, self._metadata, self.steps
            )
            exception = self._exception()
            if exception is not None:
                exception.status = status
            status._outcome = self._outcome = Outcome(
                status,
                exception,
                request=self._request,
                cmd=self._cmd,
                start=self._start,
                end=self._start + status.duration,
                show_on_standard=self._show,
            )
            self._settled = status
        return self._settled

    def _exception(self) -> ExecuteError | None:
        if self._error is not None:
            return self._error
        cause, shown = self.command.cause, self._request.shell_cmd_redacted
        if cause is StopCause.TIMEOUT:
            text = f"{shown} ran longer than {self._timeout:g} s and was stopped"
            return TimeoutError(text, request=self._request, timeout=self._timeout)
        breach = self.command.breach
        if breach is not None:
            limit, allowed, reached = breach
            text = f"{shown} went over its limit {limit} of {allowed:g} (to {reached:g}) and was killed"
            return LimitError(text, request=self._request, limit=limit, allowed=allowed, reached=reached)
        if cause in (StopCause.INTERRUPT, StopCause.TERMINATE):
            return InterruptError(f"{shown} was stopped by {cause.value}()", request=self._request)
        if self.command.failure is not None:
            text = f"{shown} was killed, for nobody could see to it any more: {self.command.failure!r}"
            return ExecuteError(text, request=self._request)
        if self.command.pid is not None and self.command.exit_code is None and cause is None:
            text = f"{shown} has ended, and how is lost: SIGCHLD is ignored, or something else has waited for it"
            return ExecuteError(text, request=self._request)
        return None

    def _not_started(self, error: ExecuteError) -> None:
        self._error = error
        LOGGER.error("%s", error)

    def _log_step(self, action: StopAction, cause: StopCause) -> None:
        what = "gave up on" if action is StopAction.GIVE_UP else f"sent {action.value} to"
        LOGGER.warning("%s pid %s (%s): %s", what, self.command.pid, cause.value, self._request.shell_cmd_redacted)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.command.is_finished:
            raise TypeError("the status of a command that runs cannot be pickled")
        return _same, (self.finished(),)

    # what a status tells, live

    @property
    def exit_code(self) -> int | None:
        return self.command.exit_code if self._error is None else self._error.errno

    @property
    def duration(self) -> float:
        return self.command.duration

    @property
    def steps(self) -> tuple[Any, ...]:
        return self.command.steps

    def wait(self, timeout: float | None = None) -> int | None:
        return self.exit_code if self._wait(timeout) else None

    def write_stdin(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"write_stdin takes text, not {type(text).__name__}")
        if self._request.stdin is StdinSource.API:
            if self._error is not None:
                raise BrokenPipeError(errno.EPIPE, "the command was not started")
            self.command.write(text.encode("utf-8", "surrogateescape"))

    def close_stdin(self) -> None:
        if self._request.stdin is StdinSource.API:
            self.command.end_input()

    def interrupt(self) -> None:
        self.command.stop(StopCause.INTERRUPT)
        self.command.wait_dead()

    def terminate(self) -> None:
        self.command.stop(StopCause.TERMINATE)
        self.command.wait_dead()


def _same(status: ExecuteStatus) -> ExecuteStatus:
    return status


def _spec(
    request: ExecuteRequest, program: str, warm: WarmPython | None, temporary: OwnTemporary | None
) -> CommandSpec:
    stdin = request.stdin
    is_user = stdin is StdinSource.USER
    return CommandSpec(
        argv=request.cmd,
        executable=program,
        cwd=None if request.cwd is None else str(request.cwd),
        env=_with_size(request.env if temporary is None else temporary.in_environment(request.env)),
        stdin="inherit" if is_user else "pipe" if isinstance(stdin, str) or stdin is StdinSource.API else "end",
        terminals=(_terminal(sys.stdout), _terminal(sys.stderr)),
        own_group=not (is_user and _is_terminal(0)),
        warm=warm,
    )


def _with_size(env: dict[str, str] | None) -> dict[str, str] | None:
    """`env` and the size of our terminal, if we have one, and `env` does not say otherwise. None: all of ours as it is.

    That is quicker than a copy. But readline sets COLUMNS and LINES to what it takes for the size, also where there is
    no terminal, and does so behind `os.environ`: where it is loaded, that counts.
    """
    found = dict(os.environ) if env is None and "readline" in sys.modules else env
    given: Mapping[str, str] = os.environ if found is None else found
    if "COLUMNS" in given and "LINES" in given:
        return found
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        try:
            size = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):  # there is none; it is no terminal; it is closed
            continue
        return {"COLUMNS": str(size.columns), "LINES": str(size.lines), **given}
    return found


def _terminal(stream: Any) -> int | None:
    """The descriptor of a stream that is a terminal."""
    try:
        fd: int = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return fd if _is_terminal(fd) else None


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
