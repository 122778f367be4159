"""What came of a command, and the interface of whoever runs them."""

from __future__ import annotations

import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from .. import Step
from .errors import ExecuteError, InterruptError, LimitError, TimeoutError
from .redact import shell_cmd_redacted
from .request import ExecuteRequest
from .text import Text

LOGGER = logging.getLogger("extsession.execute")
_Self = TypeVar("_Self", bound="Execute")


class ExecuteStatus:
    """How a command went.

    exit_code: -n if signal n has ended it; None: it runs, or did not get as far. out, err: text, of bytes that are no
    UTF-8 as surrogates. duration: seconds. metadata: facts of the executor's, as {"pid": 4711}.

    That of a command which runs is live: `wait`, `write_stdin` and the rest act on it. On others they return at once.
    """

    def __init__(
        self,
        exit_code: int | None,
        out: str = "",
        err: str = "",
        duration: float = 0.0,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._exit_code = exit_code
        self._out = Text.of(out)
        self._err = Text.of(err)
        self._duration = float(duration)
        self._metadata = dict(metadata or {})
        self._outcome: Outcome | None = None
        self._steps: tuple[Step, ...] = ()

    @classmethod
    def _made_of(
        cls,
        exit_code: int | None,
        out: Text,
        err: Text,
        duration: float,
        metadata: dict[str, Any],
        steps: tuple[Step, ...],
    ) -> ExecuteStatus:
        """Without making text of what may be large, and never looked at."""
        status = ExecuteStatus(exit_code, duration=duration, metadata=metadata)
        status._out, status._err, status._steps = out, err, steps
        return status

    @property
    def exit_code(self) -> int | None:
        return self._exit_code

    @property
    def out(self) -> str:
        return self._out.text

    @property
    def err(self) -> str:
        return self._err.text

    @property
    def out_bytes(self) -> bytes:
        """As they were written, escape sequences included."""
        return self._out.data

    @property
    def err_bytes(self) -> bytes:
        return self._err.data

    @property
    def duration(self) -> float:
        """Seconds."""
        return self._duration

    @property
    def success(self) -> bool:
        """Whether it has ended with 0."""
        return self.exit_code == 0

    @property
    def metadata(self) -> dict[str, Any]:
        return self._metadata

    @property
    def outcome(self) -> Outcome | None:
        """What is to be thought of it, once it is over and somebody has judged."""
        return self._outcome

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done to stop it, in order; (): nothing was."""
        return self._steps

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it is over. Returns its exit code, None if it still runs after `timeout` seconds."""
        return self.exit_code

    def write_stdin(self, text: str) -> None:
        """Write to a stdin that is StdinSource.API, and return when it has taken all; else nothing.

        BrokenPipeError: it is gone, or reads no more; nothing if that is because we have stopped it.
        """

    def close_stdin(self) -> None:
        """End of file on a stdin that is StdinSource.API."""

    def interrupt(self) -> None:
        """Stop it: SIGINT, SIGTERM, SIGKILL, each a while after the other. Returns when it is dead."""

    def terminate(self) -> None:
        """Stop it: SIGTERM, and a while later SIGKILL. Returns when it is dead."""

    def __getstate__(self) -> dict[str, Any]:
        """Without the outcome: its error may have this status, and errors do not pickle in a ring."""
        return {**vars(self), "_outcome": None}

    def __repr__(self) -> str:
        sizes = f"{len(self.out_bytes)} and {len(self.err_bytes)} bytes"
        return f"<{type(self).__name__}: exit {self.exit_code}, {sizes}, {self.duration:.2f} s>"


class Outcome:
    """A command that is over, judged. True if it has ended with 0, and nothing went wrong before.

    status: how it went; exception: what kept it from an ordinary end. request: what was to be run; cmd: what was run,
    with the program's file. start, end: seconds of one clock. show_on_standard: the output was shown while it came.
    """

    OK: ClassVar[int] = 0
    FAILED: ClassVar[int] = 1

    def __init__(
        self,
        status: ExecuteStatus,
        exception: Exception | None = None,
        *,
        request: ExecuteRequest | None = None,
        cmd: Sequence[str] = (),
        start: float = 0.0,
        end: float | None = None,
        show_on_standard: bool = False,
    ) -> None:
        self._status = status
        self._exception = exception
        self.request = request
        self.cmd = tuple(cmd)
        self.start = start
        self.end = start + status.duration if end is None else end
        self.show_on_standard = show_on_standard

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._status._outcome = self

    @property
    def status(self) -> ExecuteStatus:
        return self._status

    @property
    def exception(self) -> Exception | None:
        return self._exception

    @property
    def exit_code(self) -> int | None:
        return self._status.exit_code

    @property
    def out(self) -> str:
        return self._status.out

    @property
    def err(self) -> str:
        return self._status.err

    @property
    def metadata(self) -> dict[str, Any]:
        return self._status.metadata

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done to stop it, in order."""
        return self._status.steps

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return self.end - self.start

    def out_err(self) -> tuple[str, str]:
        return self.out, self.err

    def __bool__(self) -> bool:
        return self.exception is None and self.exit_code == self.OK

    def __repr__(self) -> str:
        return f"Outcome: exit {self.exit_code} in {self.elapsed:.2f} seconds for {self._shown_command()}"

    def assert_success(self) -> None:
        """Return if it has ended with 0, or has neither exit code nor error; else show its output, and SystemExit."""
        if not self and not (self.exit_code is None and self.exception is None):
            self._fail()
        self.log_run_done(logging.INFO)

    def assert_failure(self) -> None:
        """Return if it was run, and has ended with something else than 0; else show its output, and SystemExit.

        A program that is missing is no failure that anybody expects.
        """
        error = self.exception
        was_run = "pid" in self.metadata or isinstance(error, (TimeoutError, InterruptError, LimitError))
        never_started = isinstance(error, ExecuteError) and not was_run
        if self.exit_code == self.OK or never_started:
            self._fail()
        self.log_run_done(logging.INFO)

    def log_run_done(self, level: int) -> None:
        """One line about it, to the logger `extsession.execute`."""
        cwd = None if self.request is None else self.request.cwd
        pid = self.metadata.get("pid")
        LOGGER.log(
            level,
            "exit %s (%.2f seconds) %s> %s%s",
            self.exit_code,
            self.elapsed,
            _here() if cwd is None else cwd,
            self._shown_command(),
            "" if pid is None else f" pid={pid}",
        )

    def _shown_command(self) -> str:
        if self.request is not None:
            return self.request.shell_cmd_redacted
        return shell_cmd_redacted(self.cmd)

    def _fail(self) -> None:
        if not self.show_on_standard:
            _print(self.out, sys.stdout, "{}")
            _print(self.err, sys.stderr, "\033[31m{}\033[39m")
        self.log_run_done(logging.CRITICAL)
        raise SystemExit(self.exit_code or self.FAILED)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "."


def _print(text: str, stream: Any, form: str) -> None:
    if not text or stream is None:
        return
    ended = text.endswith("\n")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    fitting = text[:-1] if ended else text
    fitting = fitting.encode(encoding, "backslashreplace").decode(encoding)
    stream.write(form.format(fitting) + "\n")
    stream.flush()


def judged(request: ExecuteRequest, found: ExecuteStatus | ExecuteError) -> Outcome:
    """The outcome of a run: the executor's own, or one that is made here."""
    error = found if isinstance(found, ExecuteError) else None
    status = found.status or ExecuteStatus(found.errno) if isinstance(found, ExecuteError) else found
    return status.outcome or Outcome(status, error, request=request, cmd=request.cmd)


class Attempts:
    """Of one request: whether there is to be another one."""

    def __init__(
        self, request: ExecuteRequest, most: int, should_retry: Callable[[ExecuteStatus], bool] | None
    ) -> None:
        if isinstance(most, bool) or not isinstance(most, int):
            raise TypeError(f"max_retries takes a number of attempts, not {most!r}")
        if most < 1:
            raise ValueError(f"max_retries is the number of attempts, at least 1, not {most}")
        self._request = request
        self._most = most
        self._should_retry = should_retry
        self._count = 1

    def go_on(self, found: ExecuteStatus | ExecuteError) -> bool:
        """found: what came of the last attempt."""
        if self._count == self._most or isinstance(found, InterruptError):
            return False
        if isinstance(found, ExecuteStatus) and (
            found.success or (self._should_retry is not None and not self._should_retry(found))
        ):
            return False
        self._count += 1
        LOGGER.warning("attempt %d of %d: %s", self._count, self._most, self._request.shell_cmd_redacted)
        return True


class Execute(ABC):
    """Runs requests. A subclass writes `__call__`; what is here is built on it."""

    @abstractmethod
    def __call__(self, request: ExecuteRequest) -> ExecuteStatus:
        """Run it to its end. Raises ExecuteError."""

    def run(self, request: ExecuteRequest) -> Outcome:
        """Run it to its end, and judge. An ExecuteError is on the outcome, and is not raised."""
        try:
            return judged(request, self(request))
        except ExecuteError as error:
            return judged(request, error)

    def execute_with_retry(
        self,
        request: ExecuteRequest,
        max_retries: int = 3,
        should_retry: Callable[[ExecuteStatus], bool] | None = None,
    ) -> ExecuteStatus:
        """Run it until it succeeds, at most `max_retries` times in all, one right after the other.

        should_retry: whether one that has failed is to be tried again; None: always. Returns the last status; an
        ExecuteError of the last attempt is raised. InterruptError ends it. ValueError: fewer than one attempt.
        """
        attempts = Attempts(request, max_retries, should_retry)
        while True:
            try:
                status = self(request)
            except ExecuteError as error:
                if not attempts.go_on(error):
                    raise
            else:
                if not attempts.go_on(status):
                    return status
    def interrupt(self) -> None:  # noqa: B027  # not abstract: most have nothing to stop
        """Stop all that runs, beginning with an interrupt, and return when it is dead. Nothing here."""

    def terminate(self) -> None:  # noqa: B027
        """Stop all that runs, beginning with SIGTERM, and return when it is dead. Nothing here."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop what still runs."""
        self.interrupt()
