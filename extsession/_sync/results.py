"""ExtResults: what a call of an ExtSession gives."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

from .._engine.call import Call
from .._engine.output import OutputChunk
from .._engine.results import ResultsCore
from .driver import Driver


class ExtResults(ResultsCore):
    """The results of one `execute()`: they arrive by themselves; `wait()` returns when they are complete.

    Awaitable under asyncio and trio. `read()` and the other accessors raise NotReady, which is a
    ValueError, until the call is complete.
    """

    def __init__(self, driver: Driver, call: Call) -> None:
        super().__init__(driver.core, call)
        self._driver = driver

    def wait(self, timeout: float | None = None) -> ExtResults:
        """Return when the call is complete: itself. TimeoutError after `timeout` seconds; the call goes on.

        Does not raise what the code raised: see `error`, `raise_for_error()` and `result()`.
        """
        call = self._call
        if call.completion is None and not self._driver.wait_for(call, timeout):
            raise TimeoutError(f"call {call.number} is not complete after {timeout} s")
        return self

    def result(self, timeout: float | None = None) -> Any:
        """Wait; the value that came back. Raises what the code raised, or what ended the call."""
        self.wait(timeout)
        return self._core.value_of(self._call)

    def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the code, if it is running; False if it is not."""
        return self._driver.interrupt(self._call)

    def cancel(self) -> bool:
        """Take the call back if its turn has not come; False if it has."""
        with self._driver.changing():
            cancelled = self._core.machine.cancel(self._call)
        self._driver.deliver()
        return cancelled

    def chunks(self) -> Iterator[OutputChunk]:
        """The output as it comes, from its beginning, until the call is over."""
        call = self._call
        events = call.output.events
        index = 0

        def has_more() -> bool:
            return len(events) > index or call.completion is not None

        while True:
            while index < len(events):
                if events[index].late:
                    return
                yield events[index]
                index += 1
            if call.completion is not None:
                return
            self._driver.wait(has_more, attend=False)

    def __iter__(self) -> Iterator[OutputChunk]:
        return self.chunks()

    def add_done_callback(self, callback: Callable[[ExtResults], Any]) -> None:
        """Have `callback(results)` called when the call is complete, at once if it is.

        It is called in the thread that takes in the results: one that waits for this session, or the hub.
        What it raises is shown by `sys.excepthook` and harms nobody.
        """

        def deliver(_call: Call) -> None:
            try:
                callback(self)
            except Exception as error:
                sys.excepthook(type(error), error, error.__traceback__)

        with self._driver.changing():
            queued = self._call.on_done(deliver)
        if not queued:
            deliver(self._call)

    def future(self) -> concurrent.futures.Future[ExtResults]:
        """A future whose result is these results, set when they are complete; or the exception that `error` is."""
        future: concurrent.futures.Future[ExtResults] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def settle(results: ExtResults) -> None:
            if results.error is not None:
                future.set_exception(results.error)
            else:
                future.set_result(results)

        self.add_done_callback(settle)
        return future

    def __await__(self) -> Generator[Any, Any, ExtResults]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> ExtResults:
        if self.done:
            return self
        trio = sys.modules.get("trio")
        if trio is not None and _in_trio(trio):
            event = trio.Event()
            token = trio.lowlevel.current_trio_token()
            self.add_done_callback(lambda _: _tell_trio(trio, token, event))
            await event.wait()
            return self
        import asyncio

        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self.add_done_callback(lambda _: _tell_asyncio(loop, waiter))
        await waiter
        return self


def _in_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _tell_trio(trio: Any, token: Any, event: Any) -> None:
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:
        return


def _tell_asyncio(loop: Any, waiter: Any) -> None:
    def settle() -> None:
        if not waiter.done():
            waiter.set_result(None)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: nobody waits there any more
        return


