"""Executors for trio and asyncio. What is done to a command, and when, is the other ones'; here is waited."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.to_thread

from .. import StopCause
from .api import Attempts, ExecuteStatus, Outcome, judged
from .errors import ExecuteError
from .local_status import LocalSubProcessStatus
from .local_sub_process import LocalSubProcessExecute
from .request import ExecuteRequest
from .session import SessionExecute

_Self = TypeVar("_Self", bound="AsyncLocalSubProcessExecute")


class AsyncExecuteStatus:
    """A command that runs: as ExecuteStatus, with methods to be awaited. Its facts are properties, as there."""

    def __init__(self, status: LocalSubProcessStatus) -> None:
        self._status = status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._status, name)

    async def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it is over. Returns its exit code, None if it still runs after `timeout` seconds."""
        with anyio.move_on_after(math.inf if timeout is None else timeout):
            await _until_over(self._status)
            return self._status.exit_code
        return None

    async def write_stdin(self, text: str) -> None:
        """As ExecuteStatus.write_stdin. Cancelled: the command may take the text, or a part of it, all the same."""
        await _in_thread(lambda: self._status.write_stdin(text), abandon=True)

    def close_stdin(self) -> None:
        self._status.close_stdin()

    async def interrupt(self) -> None:
        """Stop it, beginning with SIGINT, and return when it is dead."""
        await _in_thread(self._status.interrupt, abandon=True)

    async def terminate(self) -> None:
        """Stop it, beginning with SIGTERM, and return when it is dead."""
        await _in_thread(self._status.terminate, abandon=True)


class AsyncLocalSubProcessExecute:
    """As LocalSubProcessExecute, with the same arguments. Tasks may use one at once.

    Where a call is cancelled, the command is stopped, and the cancellation goes on when it is dead.
    """

    _makes: ClassVar[type[LocalSubProcessExecute]] = LocalSubProcessExecute

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._executor = self._makes(*arguments, **options)

    async def __call__(self, request: ExecuteRequest) -> ExecuteStatus:
        """Run it to its end; as LocalSubProcessExecute."""
        async with self.call(request) as status:
            await status.wait()
        finished: ExecuteStatus = status.finished()
        assert finished.outcome is not None
        if finished.outcome.exception is not None:
            raise finished.outcome.exception
        return finished

    @asynccontextmanager
    async def call(
        self, request: ExecuteRequest, show: bool | None = None, out_err: tuple[Any, Any] | None = None
    ) -> AsyncIterator[AsyncExecuteStatus]:
        """A block with a command that runs. Leaving the block stops it; as LocalSubProcessExecute.call."""
        executor = self._executor
        status = executor._prepared(request, executor._show if show is None else show, out_err)
        try:
            await _in_thread(lambda: executor._begin(status))
            yield AsyncExecuteStatus(status)
        finally:
            if status.command.is_finished:
                executor._end(status, StopCause.LEFT)
            else:
                with anyio.CancelScope(shield=True):
                    await _in_thread(lambda: executor._end(status, StopCause.LEFT))

    async def run(self, request: ExecuteRequest) -> Outcome:
        """Run it to its end, and judge. An ExecuteError is on the outcome, and is not raised."""
        try:
            return judged(request, await self(request))
        except ExecuteError as error:
            return judged(request, error)

    async def execute_with_retry(
        self,
        request: ExecuteRequest,
        max_retries: int = 3,
        should_retry: Callable[[ExecuteStatus], bool] | None = None,
    ) -> ExecuteStatus:
        """As Execute.execute_with_retry."""
        attempts = Attempts(request, max_retries, should_retry)
        while True:
            try:
                status = await self(request)
            except ExecuteError as error:
                if not attempts.go_on(error):
                    raise
            else:
                if not attempts.go_on(status):
                    return status

    async def interrupt(self) -> None:
        """Stop all that runs, beginning with SIGINT, and return when it is dead."""
        await _in_thread(self._executor.interrupt, abandon=True)

    async def terminate(self) -> None:
        """The same beginning with SIGTERM."""
        await _in_thread(self._executor.terminate, abandon=True)

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop what still runs."""
        with anyio.CancelScope(shield=True):
            await self.interrupt()


class AsyncSessionExecute(AsyncLocalSubProcessExecute):
    """As SessionExecute, with the same arguments."""

    _makes = SessionExecute


async def _until_over(status: LocalSubProcessStatus) -> None:
    if not status.command.is_finished:
        await _in_thread(status.command.wait, abandon=True)


async def _in_thread(function: Callable[[], Any], abandon: bool = False) -> None:
    """Call it in a thread, of which there may be any number: each belongs to a command that runs.

    abandon: when cancelled, leave it to end by itself; all that is waited for here ends with the command.
    """
    await anyio.to_thread.run_sync(function, abandon_on_cancel=abandon, limiter=anyio.CapacityLimiter(math.inf))
