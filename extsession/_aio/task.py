"""AsyncPoolTask: what `AsyncSessionPool.submit` gives."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import anyio
import anyio.lowlevel

from .._engine.travel import Request
from ..errors import CallCancelled, NotReady
from .crew import Crew, result_of
from .session import AsyncExtSession


class AsyncPoolTask:
    """A function call in a session of a pool. `await task` gives its value, or raises what it raised.

    Whoever waits wants it: if the scope of the last one that waits is cancelled, so is the task.
    """

    def __init__(self, crew: Crew, request: Request) -> None:
        self._crew = crew
        self._request = request
        self._scope = anyio.CancelScope()
        self._cancelled = False
        self._over = anyio.Event()
        self._waiters = 0
        self._value: Any = None
        self._error: BaseException | None = None
        self._place = crew.submit(self)

    @property
    def done(self) -> bool:
        """Whether the value, or an error, is there."""
        return self._over.is_set()

    @property
    def result(self) -> Any:
        """The value; raises what the function raised, CallCancelled, SessionDied; NotReady while it is computed."""
        if not self.done:
            raise NotReady("the task is not done yet; wait() returns when it is")
        if self._error is not None:
            raise self._error
        return self._value

    async def wait(self, timeout: float | None = None) -> AsyncPoolTask:
        """Return when it is done: itself. TimeoutError after `timeout` seconds; the task goes on."""
        self._waiters += 1
        try:
            with anyio.move_on_after(timeout):
                await self._over.wait()
        except BaseException:
            if self._waiters == 1:
                self._stop()
            raise
        finally:
            self._waiters -= 1
        if not self.done:
            raise TimeoutError(f"the task is not done after {timeout} s")
        return self

    async def cancel(self) -> bool:
        """Take the task back, or stop its code, with its session unless that is to be used again; False: it is done."""
        await anyio.lowlevel.checkpoint()
        if self.done:
            return False
        self._stop()
        return True

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._result().__await__()

    async def _result(self) -> Any:
        return (await self.wait()).result

    def _stop(self) -> None:
        if self.done:
            return
        self._cancelled = True
        self._scope.cancel()
        if self._crew.withdraw(self._place):
            self._end()

    def _end(self) -> None:
        if self._cancelled and self._error is None:
            self._error = CallCancelled("the task was cancelled")
        self._over.set()

    # as work of the crew

    def begin(self) -> bool:
        if self._cancelled:
            self._end()
        return not self._cancelled

    async def run(self, session: AsyncExtSession, keep: bool) -> bool:
        with self._scope:
            result = await result_of(session, self._request, None, keep)
            self._value, self._error = result.value, result.error
            self._cancelled = False  # if it was, that came too late
        return True

    def given_back(self) -> None:
        self._end()

    def refused(self, error: BaseException) -> None:
        self._error = error
        self._end()

    def __repr__(self) -> str:
        return f"<AsyncPoolTask {self._request.label} {'done' if self.done else 'pending'}>"
