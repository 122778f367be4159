"""AsyncSessionPool: sessions that are ready before they are needed."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._engine.batch import Batch, value_of
from .._engine.pool import PoolMachine, PoolStatistics
from .._engine.progress import Bar
from .._engine.travel import Function, label_of
from ..errors import SessionClosed
from ..options import optional_seconds
from .crew import Crew, Seat, finish
from .map import AsyncPoolMap
from .results import AsyncExtResults
from .session import AsyncExtSession
from .task import AsyncPoolTask


class AsyncSessionPool:
    """At most `size` sessions, started ahead of need, for any number of tasks: SessionPool for trio and asyncio.

    `async with AsyncSessionPool(4) as pool:` starts it. Its tasks belong to that block: at its end, what was submitted
    is waited for; if an exception or a cancellation ends it, all ends at once. The arguments mean what they mean for
    SessionPool; options are those of AsyncExtSession.
    """

    def __init__(self, size: int, *, reuse: bool = False, timeout: float | None = None, **options: Any) -> None:
        inspect.signature(AsyncExtSession).bind(**options)  # TypeError for what it does not know
        self._timeout = optional_seconds(timeout, "timeout")
        self._machine = PoolMachine(size, reuse)
        self._options = options
        self._entered: Crew | None = None
        self._group: TaskGroup | None = None

    def acquire(self, *, timeout: float | None = None) -> contextlib.AbstractAsyncContextManager[AsyncExtSession]:
        """A session, for the `async with` block; as SessionPool.acquire. A cancelled wait gives its place back."""
        return self._acquire(self._timeout if timeout is None else optional_seconds(timeout, "timeout"))

    @contextlib.asynccontextmanager
    async def _acquire(self, timeout: float | None) -> AsyncIterator[AsyncExtSession]:
        crew = self._crew
        seat = Seat()
        try:
            yield await crew.take(seat, timeout)
        finally:
            crew.leave(seat)

    async def run(self, source: str, *, timeout: float | None = None, stdin: Any = None) -> AsyncExtResults:
        """Run source in a session: its results, complete; as SessionPool.run."""
        async with self.acquire() as session:
            results = await session.execute(source, timeout=timeout, stdin=stdin)
            if self._machine.reuse:
                return await results.wait()
            await results._driver.wait_for(results._call)  # cancelled: the session ends, there is nothing to interrupt
            return results

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, called in a session; its value, or what it raises; as SessionPool.call.

        Cancelled: the code is stopped, with its session unless that is to be used again.
        """
        request = Function(function).request(args, kwargs)
        async with self.acquire() as session:
            call = await finish(session, request, None, self._machine.reuse)
            return value_of(session._here().core, call)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncPoolTask:
        """As `call`, in a task of the pool: something to be awaited for the value, whenever you like.

        It runs whether it is awaited or not, and is done, or cancelled, when the pool's block is left.
        """
        return AsyncPoolTask(self._crew, Function(function).request(args, kwargs))

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        chunksize: int = 1,
        ordered: bool = True,
        timeout: float | None = None,
        progress: bool = False,
    ) -> AsyncPoolMap:
        """`function(*items)` for the items of `iterables`: an async iterator of the values; as SessionPool.map."""
        crew = self._crew
        with crew.change() as machine:
            machine.require_open()
        size = machine.size
        batch = Batch(function, iterables, chunksize=chunksize, ordered=ordered, timeout=timeout, size=size)
        bar = Bar(label_of(function), batch.total) if progress else None
        return AsyncPoolMap(crew, batch, self._timeout, bar)

    def statistics(self) -> PoolStatistics:
        """What the pool has now, and did so far."""
        return self._crew.statistics()

    async def aclose(self, drain: bool = True, *, timeout: float | None = None) -> None:
        """End the pool; returns when all its sessions are gone; as SessionPool.close. `async with` does it."""
        seconds = optional_seconds(timeout, "timeout")
        crew = self._entered
        if crew is not None and crew.is_ours:
            await crew.close(drain, seconds)

    async def __aenter__(self) -> AsyncSessionPool:
        if self._group is not None:
            raise SessionClosed("an AsyncSessionPool is entered once; make another one")
        await anyio.lowlevel.checkpoint()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._entered = Crew(self._machine, lambda: AsyncExtSession(**self._options), self._group)
        with self._entered.change() as machine:
            machine.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        crew, group = self._entered, self._group
        assert crew is not None and group is not None
        if not crew.is_ours:
            return
        try:
            await crew.close(drain=kind is None, timeout=None)
        except BaseException as raised:
            await group.__aexit__(type(raised), raised, raised.__traceback__)
            raise
        # what left the block is not the group's: it would come out of it in an ExceptionGroup
        await group.__aexit__(None, None, None)

    def __repr__(self) -> str:
        return f"<AsyncSessionPool {'not entered' if self._entered is None else self._entered}>"

    @property
    def _crew(self) -> Crew:
        if self._entered is None:
            raise SessionClosed("the pool is not started: use it inside of `async with AsyncSessionPool(...) as pool`")
        self._entered.check()
        return self._entered
