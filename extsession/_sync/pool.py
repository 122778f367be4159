"""SessionPool: sessions that are ready before they are needed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any

from .._engine.batch import Batch, Result, value_of
from .._engine.call import Call
from .._engine.pool import PoolMachine, PoolStatistics, Waiter
from .._engine.progress import Bar
from .._engine.travel import Function, Request, label_of
from ..options import optional_seconds
from .crew import Crew, Seat
from .map import PoolMap
from .results import ExtResults
from .session import ExtSession


class SessionPool:
    """At most `size` sessions at a time, started ahead of need, for any number of users in any number of threads.

    Each user gets a fresh session: one that had a user is ended and replaced. reuse=True hands sessions out again, with
    the state that their users left; one that is dead then, or still runs something, is replaced.
    Who waits for a session is served in the order of coming, tasks (`submit`, `map`) included.
    A context manager: at its end the pool is closed, after its work; at once if an exception ends it.

    timeout: seconds that `acquire`, `call` and `run` wait for a session where they do not say; None: without end.
    options: of ExtSession, for each of the sessions.
    """

    def __init__(self, size: int, *, reuse: bool = False, timeout: float | None = None, **options: Any) -> None:
        inspect.signature(ExtSession).bind(**options)  # TypeError for what it does not know
        self._timeout = optional_seconds(timeout, "timeout")
        self._crew = crew = Crew(PoolMachine(size, reuse), partial(ExtSession._starting, **options))
        self._finalizer = weakref.finalize(self, crew.drop)
        self._finalizer.atexit = False  # the sessions end with the process anyway
        with crew.change() as machine:
            machine.begin()

    @contextlib.contextmanager
    def acquire(self, *, timeout: float | None = None) -> Iterator[ExtSession]:
        """A session, for the `with` block.

        timeout: seconds to wait for one; None: the pool's. Raises PoolTimeout if none came free; SessionClosed if the
        pool is closed; LaunchError if the session did not start.
        """
        seat = Seat()
        try:
            yield self._crew.take(seat, self._patience(timeout))
        finally:
            self._crew.leave(seat)

    def run(self, source: str, *, timeout: float | None = None, stdin: Any = None) -> ExtResults:
        """Run source in a session: its results, complete. timeout, stdin: of the code, as of `ExtSession.execute`."""
        with self.acquire() as session:
            return session.execute(source, timeout=timeout, stdin=stdin).wait()

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, called in a session; its value, or what it raises.

        Raises ValueRefused, which names it, for a function that cannot travel, before a session is taken.
        """
        request = Function(function).request(args, kwargs)
        with self.acquire() as session:
            return value_of(session._core, _finish(session, request))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """As `call`, later: a future of the value. It may wait for a session as long as it takes.

        Cancelling the future takes the task back as long as it has not begun.
        """
        crew = self._crew
        task = _Task(Function(function).request(args, kwargs))
        waiter = crew.submit(task)
        task.future.add_done_callback(lambda future: _withdraw(crew, waiter, future))
        return task.future

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        chunksize: int = 1,
        ordered: bool = True,
        timeout: float | None = None,
        progress: bool = False,
    ) -> PoolMap:
        """`function(*items)` for the items of `iterables`, as of `zip`: an iterator of the values.

        Input is consumed as results are taken, two chunks for each session ahead. What an item raises is raised at
        its place, and the iterator can go on. `close()` of the iterator cancels the rest, and so does dropping it, as
        a `for` loop does that is left.

        chunksize: items that are run, one after another, in one session before it is given back. ordered: False gives
        the values as they come. timeout: wall seconds that one item may run, else CallTimeout at its place.
        progress: show it on stderr, by rich.
        If no item of it gets a session for as long as the pool's `timeout`, PoolTimeout ends the iterator.
        """
        crew = self._crew
        with crew.change() as machine:
            machine.require_open()
        size = machine.size
        batch = Batch(function, iterables, chunksize=chunksize, ordered=ordered, timeout=timeout, size=size)
        bar = Bar(label_of(function), batch.total) if progress else None
        return PoolMap(self, crew, batch, self._timeout, bar)

    def statistics(self) -> PoolStatistics:
        """What the pool has now, and did so far."""
        return self._crew.statistics()

    def close(self, drain: bool = True, *, timeout: float | None = None) -> None:
        """End the pool; returns when all its sessions are gone. Nobody can use it from now on.

        drain: what was accepted is done before, and sessions that are in use are waited for; for `timeout` seconds, if
        given. Else, and after that, all ends at once: who uses or waits for a session gets SessionClosed.
        """
        if self._crew.is_ours:
            self._crew.close(drain, optional_seconds(timeout, "timeout"))

    def __enter__(self) -> SessionPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(drain=kind is None)

    def __repr__(self) -> str:
        return f"<SessionPool {self._crew}>"

    def _patience(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else optional_seconds(timeout, "timeout")


class _Task:
    """A future, and the call that settles it."""

    def __init__(self, request: Request) -> None:
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._request = request
        self._result = Result()

    def begin(self) -> bool:
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def run(self, session: ExtSession) -> bool:
        try:
            self._result = Result.of(session._core, _finish(session, self._request))
        except BaseException as error:
            self._result = Result(error=error.with_traceback(None))
        return True

    def given_back(self) -> None:
        if self._result.error is not None:
            self.future.set_exception(self._result.error)
        else:
            self.future.set_result(self._result.value)

    def refused(self, error: BaseException) -> None:
        if self.begin():
            self.future.set_exception(error)


def _withdraw(crew: Crew, waiter: Waiter, future: concurrent.futures.Future[Any]) -> None:
    if future.cancelled() and crew.is_ours and crew.withdraw(waiter):
        future.set_running_or_notify_cancel()  # else the task's begin() does


def _finish(session: ExtSession, request: Request) -> Call:
    call = session._submit(lambda core: core.request(request, None))
    session._driver.wait(lambda: call.completion is not None)
    return call
