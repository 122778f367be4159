"""AsyncPoolMap: the iterator that `AsyncSessionPool.map` gives."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import anyio
import anyio.lowlevel

from .._engine.batch import Batch, Chunk, Result, placed
from .._engine.pool import Waiter
from .._engine.progress import Bar
from ..errors import SessionClosed
from .crew import Crew, result_of
from .session import AsyncExtSession


class AsyncPoolMap:
    """Results of a `map`, in order or as they come. What an item raised is raised at its place; then it can go on.

    Can be used in `async with`; `aclose()`, the end of that, or dropping it cancels what has not been given out: items
    that wait do not run, those that run are stopped, with their session unless that is to be used again.
    """

    def __init__(self, crew: Crew, batch: Batch, patience: float | None, bar: Bar | None) -> None:
        self._crew = crew
        self._batch = batch
        self._patience = patience
        self._bar = bar
        self._inbox = _Inbox()
        self._works: set[_Work] = set()
        self._finalizer = weakref.finalize(self, _cancel, crew, self._works, bar)
        self._finalizer.atexit = False
        self._send()

    def __aiter__(self) -> AsyncPoolMap:
        return self

    async def __anext__(self) -> Any:
        self._crew.check()
        await anyio.lowlevel.checkpoint()
        while True:
            if not self._finalizer.alive:
                raise StopAsyncIteration
            self._send()
            result = self._batch.take()
            if result is not None:
                break
            if self._batch.is_over:
                self._finalizer()
            else:
                await self._receive()
        if result.error is not None:
            raise placed(result.error)
        return result.value

    async def aclose(self) -> None:
        """Cancel the rest. Does nothing the second time."""
        self._finalizer()
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> AsyncPoolMap:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._finalizer()

    def _send(self) -> None:
        while (chunk := self._batch.next_chunk()) is not None:
            work = _Work(chunk, self._inbox, self._batch.timeout)
            self._works.add(work)
            try:
                work.waiter = self._crew.submit(work)
            except SessionClosed as error:
                self._batch.end_input()
                work.refused(error)

    async def _receive(self) -> None:
        inbox = self._inbox
        if not inbox.items:
            event = inbox.event = inbox.event or anyio.Event()
            with anyio.move_on_after(self._patience) as scope:
                await event.wait()
            if scope.cancelled_caught and not any(work.is_running for work in self._works):
                self._finalizer()
                with self._crew.change() as machine:
                    raise machine.starved(self._patience or 0.0)
        while inbox.items:
            self._batch.settle(*inbox.items.popleft())
        self._works -= {work for work in self._works if work.is_over}
        if self._bar is not None:
            self._bar.show(self._batch.completed)


class _Inbox:
    """What has come back and was not looked at yet."""

    def __init__(self) -> None:
        self.items: deque[tuple[int, Result]] = deque()
        self.event: anyio.Event | None = None

    def put(self, index: int, result: Result) -> None:
        self.items.append((index, result))
        if self.event is not None:
            self.event.set()
            self.event = None


class _Work:
    """A chunk, as the crew runs it."""

    def __init__(self, chunk: Chunk, inbox: _Inbox, timeout: float | None) -> None:
        self.waiter: Waiter | None = None
        self.is_running = False
        self.is_over = False
        self._is_cancelled = False
        self._scope = anyio.CancelScope()
        self._last: Result | None = None  # is given out when the session has been given back
        self._chunk = chunk
        self._inbox = inbox
        self._timeout = timeout

    def cancel(self, crew: Crew) -> None:
        self._is_cancelled = True
        self._scope.cancel()
        if self.waiter is not None:
            crew.withdraw(self.waiter)

    def begin(self) -> bool:
        self.is_running = not self._is_cancelled
        return self.is_running

    async def run(self, session: AsyncExtSession, keep: bool) -> bool:
        chunk = self._chunk
        self._scope = anyio.CancelScope()  # one is entered once
        with self._scope:
            while not chunk.is_last:
                self._settle(await self._one(session, keep))
                if not session.is_alive:
                    self.is_running = False
                    return False
            self._last = await self._one(session, keep)
        return True

    def given_back(self) -> None:
        if self._last is not None:
            self._settle(self._last)
        self.is_over = True
        self.is_running = False

    def refused(self, error: BaseException) -> None:
        while not self._chunk.is_over:
            self._settle(Result(error=error))
        self.is_over = True

    async def _one(self, session: AsyncExtSession, keep: bool) -> Result:
        request = self._chunk.next()
        if isinstance(request, Result):
            return request
        return await result_of(session, request, self._timeout, keep)

    def _settle(self, result: Result) -> None:
        self._inbox.put(self._chunk.advance(), result)


def _cancel(crew: Crew, works: set[_Work], bar: Bar | None) -> None:
    """Also called by the collector, in the middle of anything, in any thread."""

    def cancel() -> None:
        for work in works:
            work.cancel(crew)
        works.clear()

    crew.soon(cancel)
    if bar is not None and crew.is_ours:
        bar.close()
