"""Commands as processes of this machine."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import RunningCommand, StopCause, StopTimes, WarmPython
from .api import Execute, ExecuteStatus
from .local_status import LocalSubProcessStatus
from .records import OwnTemporary, write_log
from .request import ExecuteRequest, checked_seconds
from .show import Callback, Shown, Sink

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
