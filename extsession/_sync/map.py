"""PoolMap: the iterator that `SessionPool.map` gives."""

from __future__ import annotations

import queue
import threading
import weakref
from typing import Any

from .._engine.batch import Batch, Chunk, Result, placed
from .._engine.call import Call
from .._engine.core import Core
from .._engine.pool import Waiter
from .._engine.progress import Bar
from ..errors import SessionClosed
from .crew import Crew
from .session import ExtSession

_Inbox = queue.SimpleQueue[tuple[int, Result]]


class PoolMap:
    """Results of a `map`, in order or as they come. What an item raised is raised at its place; then it can go on.

    A context manager; `close()`, its end, or dropping it cancels what has not been given out: items that wait do
    not run, those that run are stopped with their session (with reuse=True, by an interrupt).
    """

    def __init__(self, pool: object, crew: Crew, batch: Batch, patience: float | None, bar: Bar | None) -> None:
        self._pool = pool  # which lives as long as this
        self._crew = crew
        self._batch = batch
        self._patience = patience
        self._bar = bar
        self._inbox: _Inbox = queue.SimpleQueue()
        self._works: set[_Work] = set()
        self._lock = threading.RLock()  # several threads may take results
        self._finalizer = weakref.finalize(self, _cancel, crew, self._works, bar)
        self._finalizer.atexit = False
        self._send()

    def __iter__(self) -> PoolMap:
        return self

    def __next__(self) -> Any:
        self._crew.check()
        with self._lock:
            while True:
                if not self._finalizer.alive:
                    raise StopIteration
                self._send()
                result = self._batch.take()
                if result is not None:
                    break
                if self._batch.is_over:
                    self.close()
                else:
                    self._receive()
        if result.error is not None:
            raise placed(result.error)
        return result.value

    def close(self) -> None:
        """Cancel the rest. Does nothing the second time."""
        self._finalizer()

    def __enter__(self) -> PoolMap:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _send(self) -> None:
        while (chunk := self._batch.next_chunk()) is not None:
            work = _Work(chunk, self._inbox, self._batch.timeout)
            self._works.add(work)
            try:
                work.waiter = self._crew.submit(work)
            except SessionClosed as error:
                self._batch.end_input()
                work.refused(error)

    def _receive(self) -> None:
        patience = None if self._patience is None else min(self._patience, threading.TIMEOUT_MAX)
        try:
            index, result = self._inbox.get(timeout=patience)
        except queue.Empty:
            if any(work.is_running for work in self._works):
                return
            self.close()
            with self._crew.change() as machine:
                raise machine.starved(patience or 0.0) from None
        self._batch.settle(index, result)
        self._works -= {work for work in self._works if work.is_over}
        if self._bar is not None:
            self._bar.show(self._batch.completed)


class _Work:
    """A chunk, as the crew runs it."""

    def __init__(self, chunk: Chunk, inbox: _Inbox, timeout: float | None) -> None:
        self.waiter: Waiter | None = None
        self.is_running = False
        self.is_over = False
        self.is_cancelled = False
        self._gate = threading.Lock()
        self._session: ExtSession | None = None  # the one it runs in; changed behind the gate
        self._last: Result | None = None  # is given out when the session has been given back
        self._chunk = chunk
        self._inbox = inbox
        self._timeout = timeout

    def begin(self) -> bool:
        self.is_running = not self.is_cancelled
        return self.is_running

    def run(self, session: ExtSession) -> bool:
        chunk = self._chunk
        with self._gate:
            self._session = session
        try:
            while not chunk.is_last:
                self._settle(self._one(session))
                if self.is_cancelled:
                    return True
                if not session.is_alive:
                    self.is_running = False
                    return False
            self._last = self._one(session)
            return True
        finally:
            with self._gate:
                self._session = None

    def stop(self, kill: bool) -> None:
        with self._gate:
            if self._session is None:
                return
            if kill:
                self._session._end_soon()
            else:
                self._session.interrupt()

    def given_back(self) -> None:
        if self._last is not None:
            self._settle(self._last)
        self.is_over = True
        self.is_running = False

    def refused(self, error: BaseException) -> None:
        while not self._chunk.is_over:
            self._settle(Result(error=error))
        self.is_over = True

    def _one(self, session: ExtSession) -> Result:
        request = self._chunk.next()
        if isinstance(request, Result):
            return request

        def submit(core: Core) -> Call:
            if self.is_cancelled:  # looked at where an interrupt cannot come in between
                raise SessionClosed("the map was closed")
            return core.request(request, self._timeout)

        try:
            call = session._submit(submit)
            session._driver.wait(lambda: call.completion is not None)
        except BaseException as error:
            return Result(error=error.with_traceback(None))
        return Result.of(session._core, call)

    def _settle(self, result: Result) -> None:
        self._inbox.put((self._chunk.advance(), result))


def _cancel(crew: Crew, works: set[_Work], bar: Bar | None) -> None:
    """Also called by the collector, in the middle of anything."""

    def cancel() -> None:
        for work in works:
            work.is_cancelled = True
            if work.waiter is not None:
                crew.cancel(work.waiter)
        works.clear()

    crew.soon(cancel)
    if bar is not None and crew.is_ours:
        bar.close()
