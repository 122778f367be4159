"""The tasks of an AsyncSessionPool, which start and end its sessions and run its work; and how others wait for one.

All that is decided is PoolMachine's, and `Crew.change()` is the only way to it. All tasks belong to the pool's task
group; none of them raises, but for a cancellation of the pool's own scope, which closes the pool at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._engine.batch import Result
from .._engine.call import Call
from .._engine.machine import Phase
from .._engine.pool import End, Give, PoolMachine, PoolStatistics, Refuse, Slot, Start, Waiter, closed
from .._engine.travel import Request
from ..errors import SessionClosed
from .session import AsyncExtSession


class Work(Protocol):
    """What a task of the crew is to do with a session."""

    def begin(self) -> bool:
        """A session is there; False: it is not wanted any more. May come twice, if a session dies in between."""

    async def run(self, session: AsyncExtSession, keep: bool) -> bool:
        """Do it; False: the session is dead, and there is more to do, in another one. keep: it may be used again."""

    def given_back(self) -> None:
        """The session has been given back."""

    def refused(self, error: BaseException) -> None:
        """There is no session for it."""


class Seat:
    """Where a task waits for a session."""

    def __init__(self) -> None:
        self.waiter: Waiter | None = None
        self.taken = False  # the task has its session, and may have used it
        self.event = anyio.Event()


class Crew:
    """Carries out what a PoolMachine orders. make: a session that is not entered yet."""

    def __init__(self, machine: PoolMachine, make: Callable[[], AsyncExtSession], group: TaskGroup) -> None:
        self._machine = machine
        self._make = make
        self._group = group
        self._owner = os.getpid()
        self._thread = threading.get_ident()
        self._post = _poster()
        self._sessions: dict[int, AsyncExtSession] = {}
        self._starting: dict[int, anyio.CancelScope] = {}
        self._over = anyio.Event()

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that made the pool."""
        return self._owner == os.getpid()

    def check(self) -> None:
        if not self.is_ours:
            raise SessionClosed(f"this pool belongs to process {self._owner}; a process forked from it cannot use it")
        if self._thread != threading.get_ident():
            raise RuntimeError("an AsyncSessionPool is used from the thread of its event loop only")

    @contextlib.contextmanager
    def change(self) -> Iterator[PoolMachine]:
        """The machine, to be changed; its orders are carried out afterwards."""
        self.check()
        try:
            yield self._machine
        finally:
            self._carry_out()

    def soon(self, event: Callable[[], None]) -> None:
        """Have `event()` called by the event loop. For finalizers, which come at any moment, in any thread."""
        if self.is_ours:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the pool with it
                self._post(event)

    # for tasks of users

    async def take(self, seat: Seat, timeout: float | None) -> AsyncExtSession:
        """Wait for a session, which `leave` gives back. PoolTimeout, SessionClosed, LaunchError."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        with self.change() as machine:
            seat.waiter = waiter = machine.ask(seat, time.monotonic(), timeout)
        while True:
            await self._wait(seat, waiter)
            if waiter.error is not None:
                raise waiter.error
            session = self._session(waiter)
            if session is not None and session.is_alive:
                seat.taken = True
                return session
            seat.event = anyio.Event()
            with self.change() as machine:
                machine.again(waiter, None if session is None else session.error)

    async def _wait(self, seat: Seat, waiter: Waiter) -> None:
        if waiter.deadline is None:
            await seat.event.wait()
            return
        while not seat.event.is_set():
            with anyio.move_on_after(max(0.0, waiter.deadline - time.monotonic())):
                await seat.event.wait()
            if not seat.event.is_set():
                with self.change() as machine:
                    machine.on_time(time.monotonic())

    def leave(self, seat: Seat) -> None:
        """The task does not wait any more, or gives its session back. Does nothing the second time."""
        waiter, seat.waiter = seat.waiter, None
        if waiter is None or not self.is_ours:
            return
        if seat.taken:
            self._give_back(waiter)
            return
        with self.change() as machine:
            if not machine.withdraw(waiter):
                machine.release(waiter, untouched=True)

    def submit(self, work: Work) -> Waiter:
        """Queue work for the crew. SessionClosed."""
        with self.change() as machine:
            return machine.ask(work, time.monotonic(), None)

    def withdraw(self, waiter: Waiter) -> bool:
        """Take queued work back; False if it is not queued any more."""
        with self.change() as machine:
            return machine.withdraw(waiter)

    def statistics(self) -> PoolStatistics:
        with self.change() as machine:
            return machine.statistics()

    async def close(self, drain: bool, timeout: float | None) -> None:
        """See AsyncSessionPool.aclose. A cancellation ends the draining, and is then waited for."""
        with self.change() as machine:
            machine.close(drain)
        try:
            if drain:
                with anyio.move_on_after(timeout):
                    await self._over.wait()
        finally:
            if not self._machine.is_over:
                with self.change() as machine:
                    machine.close(False)
                with anyio.CancelScope(shield=True):
                    await self._over.wait()

    def __str__(self) -> str:
        if not self.is_ours:
            return f"of process {self._owner}"
        figures = self._machine.statistics()
        if self._machine.closing:
            return "closed" if self._machine.is_over else "closing"
        return f"{figures.used} used, {figures.ready} ready, {figures.waiting} waiting"

    # orders

    def _carry_out(self) -> None:
        machine = self._machine
        while machine.orders:
            order = machine.orders.pop(0)
            if isinstance(order, Start):
                scope = self._starting[order.slot] = anyio.CancelScope()
                self._group.start_soon(self._start, order.slot, scope)
            elif isinstance(order, End):
                if machine.state(order.slot) is Slot.ENDING:
                    if machine.at_once:
                        self._sessions[order.slot]._here().core.retire(closed())
                    self._group.start_soon(self._end, order.slot)
                elif order.slot in self._starting:
                    self._starting[order.slot].cancel()
            elif isinstance(order.waiter.owner, Seat):
                order.waiter.owner.event.set()
            elif isinstance(order, Give):
                self._group.start_soon(self._serve, order.waiter)
            elif isinstance(order, Refuse):
                assert order.waiter.error is not None
                order.waiter.owner.refused(order.waiter.error)
        if machine.is_over:
            self._over.set()

    async def _start(self, slot: int, scope: anyio.CancelScope) -> None:
        error: BaseException = closed()
        session = None
        try:
            with scope:
                made = self._make()
                await made.__aenter__()
                session = made
        except Exception as raised:
            error = raised.with_traceback(None)
        except BaseException:
            self._cancelled(slot)
            raise
        with self.change() as machine:
            del self._starting[slot]
            if session is None:
                machine.failed(slot, error)
            else:
                self._sessions[slot] = session
                machine.started(slot)

    def _cancelled(self, slot: int) -> None:
        """The pool's own scope is cancelled, during a start."""
        with self.change() as machine:
            machine.close(False)
            del self._starting[slot]
            machine.failed(slot, closed())

    async def _end(self, slot: int) -> None:
        try:
            await self._sessions[slot].aclose()
        finally:
            with self.change() as machine:
                del self._sessions[slot]
                machine.ended(slot)

    async def _serve(self, waiter: Waiter) -> None:
        work: Work = waiter.owner
        session = self._session(waiter)
        if session is None or not session.is_alive:
            with self.change() as machine:
                machine.again(waiter, None if session is None else session.error)
            return
        if not work.begin():
            with self.change() as machine:
                machine.release(waiter, untouched=True)
            return
        try:
            finished = await work.run(session, self._machine.reuse)
        except BaseException:
            work.refused(closed())
            with self.change() as machine:
                machine.close(False)
            raise
        if finished:
            self._give_back(waiter)
            work.given_back()
        else:
            with self.change() as machine:
                machine.again(waiter, session.error, used=True)

    def _session(self, waiter: Waiter) -> AsyncExtSession | None:
        return None if waiter.slot is None else self._sessions.get(waiter.slot)

    def _give_back(self, waiter: Waiter) -> None:
        session = self._session(waiter)
        if session is not None:
            alive = session.is_alive
            core = session._here().core
            state = core.machine
            clean = alive and state.phase is Phase.IDLE and not state.is_busy
            if not self._machine.reuse:
                core.retire(SessionClosed("the session was given back to its pool"))
            with self.change() as machine:
                machine.release(waiter, clean=clean, dead=not alive and not state.was_ended)


async def finish(session: AsyncExtSession, request: Request, timeout: float | None, keep: bool) -> Call:
    """Have a call made, and wait for its end.

    Cancelled: a session that is to be kept is freed of it; another one is ended anyway, once it is given back.
    """
    driver = session._here()
    await driver.check_cancelled()
    call = driver.submit(lambda core: core.request(request, timeout))
    try:
        await driver.wait_for(call)
    except BaseException:
        if keep:
            await driver.stop(call)
        raise
    return call


async def result_of(session: AsyncExtSession, request: Request, timeout: float | None, keep: bool) -> Result:
    """As `finish`, and what came of it. Raises only cancellations, which are not what the code raised."""
    try:
        call = await finish(session, request, timeout, keep)
    except Exception as error:
        return Result(error=error.with_traceback(None))
    return Result.of(session._here().core, call)


def _poster() -> Callable[[Callable[[], None]], object]:
    """What has a function called by the event loop that runs here, from any thread and in the middle of anything."""
    trio = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            post: Callable[[Callable[[], None]], object] = trio.lowlevel.current_trio_token().run_sync_soon
            return post
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe
