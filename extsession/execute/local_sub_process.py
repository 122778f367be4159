"""Commands as processes of this machine."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import CommandSpec, LaunchError, RunningCommand, StopAction, StopCause, StopTimes, WarmPython
from .api import LOGGER, Execute, ExecuteStatus, Outcome
from .errors import ExecuteError, InterruptError, LimitError, TimeoutError
from .lookup import resolve, start_error
from .records import OwnTemporary, write_log
from .request import ExecuteRequest, StdinSource, checked_seconds
from .show import Callback, Listener, Shown, Sink
from .text import Text

OnData = Callable[[bytes], Any]


class LocalSubProcessExecute(Execute):
    """Runs requests as processes of this machine. Several threads may use one at once.

    colored: escape sequences stay in the text of the output, and what is shown of stderr is red; else they are removed
    from the text, and nothing is painted. show: forward output to `sys.stdout` and `sys.stderr` as it comes. on_out,
    on_err: called with each piece of bytes, from a thread of the command's. timeout: seconds that a command may run.

    One that is to be stopped has suicide_timeout seconds to end by itself, interrupt_timeout after SIGINT, and
    terminate_timeout after SIGTERM, before SIGKILL. drain_timeout: seconds after its end for which output is
    read that comes from processes which it has left.

    log_dir: a folder that gets a file about each run, with its output; made if it is not there. own_tmp: each run has a
    folder of its own for temporary files (TMPDIR), which is removed after it.
    """

    def __init__(
        self,
        colored: bool = True,
        *,
        show: bool = False,
        on_out: OnData | None = None,
        on_err: OnData | None = None,
        timeout: float | None = None,
        suicide_timeout: float = 0.0,
        interrupt_timeout: float = 0.3,
        terminate_timeout: float = 0.2,
        drain_timeout: float = 0.1,
        log_dir: str | os.PathLike[str] | None = None,
        own_tmp: bool = False,
    ) -> None:
        self._colored = colored
        self._show = show
        self._on = {1: on_out, 2: on_err}
        self._timeout = checked_seconds(timeout, "timeout")
        times = {
            "suicide": suicide_timeout,
            "interrupt": interrupt_timeout,
            "terminate": terminate_timeout,
            "drain": drain_timeout,
        }
        for name, value in times.items():
            if checked_seconds(value, f"{name}_timeout") is None:
                raise TypeError(f"{name}_timeout takes seconds, not None")
        self._times = StopTimes(**times)
        self._log_dir = None if log_dir is None else Path(log_dir)
        self._own_tmp = own_tmp
        self._owner = 0
        self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._running: set[LocalSubProcessStatus] = set()

    def __call__(self, request: ExecuteRequest) -> ExecuteStatus:
        """Run it to its end. The status is finished, and has an outcome.

        Raises CommandNotFoundError, CommandNotAllowedError or ExecuteError: it was not started; TimeoutError;
        InterruptError: `interrupt()` or `terminate()` was called. A KeyboardInterrupt goes on when all is dead.
        """
        status = self._prepared(request, self._show, None)
        try:
            self._begin(status)
            status.wait()
        except BaseException:
            self._end(status, StopCause.KEYBOARD)
            raise
        self._end(status, StopCause.LEFT)
        finished = status.finished()
        assert finished.outcome is not None
        if finished.outcome.exception is not None:
            raise finished.outcome.exception
        return finished

    def call(
        self, request: ExecuteRequest, show: bool | None = None, out_err: tuple[Any, Any] | None = None
    ) -> AbstractContextManager[ExecuteStatus]:
        """A block with a command that runs: its status is live. Leaving the block stops it.

        show: forward output as it comes; None: what the executor has. out_err: where to, a pair of streams, binary or
        text; None: `sys.stdout` and `sys.stderr` of now.

        Nothing is raised when it cannot start: the status has the errno as its exit code then, and its outcome the
        exception. After the block all output is there, and the outcome.
        """
        return _Block(self, request, self._show if show is None else show, out_err)

    def interrupt(self) -> None:
        """Stop all commands that this executor runs, beginning with SIGINT, and return when they are dead.

        From any thread. It has no effect on those that are started later.
        """
        self._stop(StopCause.INTERRUPT)

    def terminate(self) -> None:
        """The same beginning with SIGTERM."""
        self._stop(StopCause.TERMINATE)

    def _stop(self, cause: StopCause) -> None:
        if self._owner != os.getpid():  # what runs is that of the process that this one was forked from
            self._forget()
        with self._lock:
            running = list(self._running)
        for status in running:
            status.command.stop(cause)
        for status in running:
            status.command.wait_dead()

    def _begin(self, status: LocalSubProcessStatus) -> None:
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            self._running.add(status)
        status.begin()

    def _end(self, status: LocalSubProcessStatus, cause: StopCause) -> None:
        """Stop it if it runs, wait until it is over, and judge."""
        try:
            status.stop(cause)
        finally:
            try:
                status.stop(cause)  # again: a second Ctrl-C has cut the wait short
                status.settle()
                self._keep(status)
            finally:
                if self._owner == os.getpid():
                    with self._lock:
                        self._running.discard(status)

    def _keep(self, status: LocalSubProcessStatus) -> None:
        outcome = status.outcome
        if self._log_dir is not None and outcome is not None and not status.is_kept:
            status.is_kept = True
            path = write_log(self._log_dir, outcome)
            if path is not None:
                outcome.metadata["log"] = str(path)

    def _prepared(
        self, request: ExecuteRequest, show: bool, out_err: tuple[Any, Any] | None
    ) -> LocalSubProcessStatus:
        if not isinstance(request, ExecuteRequest):
            raise TypeError(f"an executor takes an ExecuteRequest, not {type(request).__name__}")
        targets = dict(zip((1, 2), (sys.stdout, sys.stderr) if out_err is None else out_err, strict=True))
        sinks: dict[int, list[Sink]] = {1: [], 2: []}
        for stream, function in self._on.items():
            if function is not None:
                sinks[stream].append(Callback(function))
            if show and targets[stream] is not None:
                sinks[stream].append(Shown(targets[stream], painted=self._colored and stream == 2))
        timeout = self._timeout if request.timeout is None else request.timeout
        plain = not self._colored
        temporary = OwnTemporary() if self._own_tmp else None
        return LocalSubProcessStatus(
            request, sinks, show, plain, timeout, self._times, self._warm, self._tell, temporary
        )

    def _warm(self, request: ExecuteRequest, program: str) -> WarmPython | None:
        """How a template can run it, if it is to."""
        return None

    def _tell(self, command: RunningCommand) -> dict[str, Any]:
        """More facts for the metadata."""
        return {}


class _Block:
    """A block with a command that runs. No generator: in one, a Ctrl-C finds a gap between the start and the block."""

    def __init__(
        self, executor: LocalSubProcessExecute, request: ExecuteRequest, show: bool, out_err: tuple[Any, Any] | None
    ) -> None:
        self._executor = executor
        self._request, self._show, self._out_err = request, show, out_err

    def __enter__(self) -> ExecuteStatus:
        self._status = status = self._executor._prepared(self._request, self._show, self._out_err)
        try:
            self._executor._begin(status)
        except BaseException:
            self._executor._end(status, StopCause.KEYBOARD)
            raise
        return status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_keyboard = isinstance(error, KeyboardInterrupt)
        self._executor._end(self._status, StopCause.KEYBOARD if is_keyboard else StopCause.LEFT)


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
