"""AsyncExtResults: what a call of an AsyncExtSession gives."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import anyio
import anyio.lowlevel

from .._engine.call import Call
from .._engine.output import OutputChunk
from .._engine.results import ResultsCore
from .driver import Driver, shown


class AsyncExtResults(ResultsCore):
    """The results of one `AsyncExtSession.execute()`; as ExtResults.

    `await results` is `await results.wait()`. Whoever waits wants the call: if the scope of its last waiter
    (also one that iterates over chunks) is cancelled, the call is interrupted, or taken out of the queue,
    before the cancellation goes on. The session's ladder bounds that. A `timeout` of `wait` ends just that.
    """

    def __init__(self, driver: Driver, call: Call) -> None:
        super().__init__(driver.core, call)
        self._driver = driver
        self._waiters = 0

    async def wait(self, timeout: float | None = None) -> AsyncExtResults:
        """Return when the call is complete: itself. TimeoutError after `timeout` seconds; the call goes on.

        Does not raise what the code raised: see `error`, `raise_for_error()` and `result()`.
        """
        if self.done:
            await anyio.lowlevel.checkpoint()
            return self
        await self._wanted(self._over(timeout))
        if not self.done:
            raise TimeoutError(f"call {self.number} is not complete after {timeout} s")
        return self

    async def result(self, timeout: float | None = None) -> Any:
        """Wait; the value that came back. Raises what the code raised, or what ended the call."""
        await self.wait(timeout)
        return self._core.value_of(self._call)

    async def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the code, if it is running; False if it is not."""
        await anyio.lowlevel.checkpoint()
        driver = self._driver
        return bool(driver.tell(lambda: driver.machine.interrupt(time.monotonic(), self._call)))

    async def cancel(self) -> bool:
        """Take the call back if its turn has not come; False if it has."""
        await anyio.lowlevel.checkpoint()
        driver = self._driver
        return bool(driver.tell(lambda: driver.machine.cancel(self._call)))

    def chunks(self) -> AsyncIterator[OutputChunk]:
        """The output as it comes, from its beginning, until the call is over."""
        return _Chunks(self)

    def __aiter__(self) -> AsyncIterator[OutputChunk]:
        return self.chunks()

    def add_done_callback(self, callback: Callable[[AsyncExtResults], Any]) -> None:
        """Have `callback(results)` called when the call is complete, at once if it is.

        It is called in the thread of the event loop, and must not block.
        What it raises is shown by `sys.excepthook` and harms nobody.
        """

        safe = shown(callback)
        if not self._call.on_done(lambda _: safe(self)):
            safe(self)

    def __await__(self) -> Generator[Any, Any, AsyncExtResults]:
        return self.wait().__await__()

    async def _next_chunk(self, index: int) -> OutputChunk | None:
        """For `chunks()`: the chunk with this index; None where the call's output ends."""
        call = self._call
        events = call.output.events
        if index < len(events) or self.done:
            await self._wanted(anyio.lowlevel.checkpoint())
        else:
            await self._wanted(self._driver.until(lambda: len(events) > index or call.completion is not None))
        return events[index] if index < len(events) and not events[index].late else None

    async def _over(self, timeout: float | None) -> None:
        if timeout is None:
            await self._driver.wait_for(self._call)
        else:
            with anyio.move_on_after(timeout):
                await self._driver.wait_for(self._call)

    async def _wanted(self, waiting: Awaitable[None]) -> None:
        """Wait; if that is cancelled and nobody else waits, end the call."""
        self._waiters += 1
        try:
            await waiting
        except BaseException:
            if self._waiters == 1:
                await self._driver.stop(self._call)
            raise
        finally:
            self._waiters -= 1


class _Chunks:
    """Iterates over the output of a call."""

    def __init__(self, results: AsyncExtResults) -> None:
        self._results = results
        self._index = 0

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> OutputChunk:
        chunk = await self._results._next_chunk(self._index)
        if chunk is None:
            raise StopAsyncIteration
        self._index += 1
        return chunk
