"""The threads of a SessionPool, which start and end its sessions and run its tasks; and how others wait for one.

All that is decided is PoolMachine's, and `Crew.change()` is the only way to it: lock, change, carry out the orders.
What blocks is done outside of the lock: by the threads of the crew, as jobs. A session has one such job at a time, so
`size` threads are enough, and one more, for what must not wait until one of them is free.

The collector may end a pool or a map in the middle of anything, also while the same thread holds a lock. So
finalizers only leave an event (`soon`), which takes the crew's lock alone; whoever holds that waits for no other. What
wakes others are raw locks and SimpleQueues, which are safe to use there.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from .._engine.machine import Phase
from .._engine.pool import End, Give, PoolMachine, PoolStatistics, Refuse, Slot, Start, Waiter, closed
from ..errors import SessionClosed
from .session import ExtSession

_Job = Callable[[], object]


class Work(Protocol):
    """What a thread of the crew is to do with a session."""

    def begin(self) -> bool:
        """A session is there; False: it is not wanted any more. May come twice, if a session dies in between."""

    def run(self, session: ExtSession) -> bool:
        """Do it; False: the session is dead, and there is more to do, in another one."""

    def given_back(self) -> None:
        """The session has been given back."""

    def refused(self, error: BaseException) -> None:
        """There is no session for it."""


class Stoppable(Work, Protocol):
    """Work that can be cancelled while it runs."""

    def stop(self, kill: bool) -> None:
        """Kill or interrupt the session that it is running in, if it is."""


class Seat:
    """Where a caller waits for a session."""

    def __init__(self) -> None:
        self.waiter: Waiter | None = None
        self.taken = False  # the caller has its session, and may have used it
        self._bell = threading.Lock()
        self._bell.acquire()

    def wake(self) -> None:
        self._bell.release()

    def wait(self, deadline: float | None) -> bool:
        """Whether the waiting is over; False: it is late."""
        if deadline is None:
            return self._bell.acquire()
        return self._bell.acquire(timeout=min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX))


class Crew:
    """Carries out what a PoolMachine orders. make: starts a session, and does not wait for it.

    What `make` is given tells whether the session is still wanted.
    """

    def __init__(self, machine: PoolMachine, make: Callable[[Callable[[], bool]], ExtSession]) -> None:
        self._machine = machine
        self._make = make
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._holder: int | None = None  # the thread that holds it
        self._events: deque[_Job] = deque()
        self._sessions: dict[int, ExtSession] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._open_jobs = 0
        self._threads: list[threading.Thread] = []
        self._stopped = False

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that made the pool. In another, its locks may be held by threads of this one."""
        return self._owner == os.getpid()

    def check(self) -> None:
        if not self.is_ours:
            raise SessionClosed(f"this pool belongs to process {self._owner}; a process forked from it cannot use it")

    @contextlib.contextmanager
    def change(self) -> Iterator[PoolMachine]:
        """The machine, to be changed; its orders are carried out afterwards."""
        self.check()
        todo: list[_Job] = []
        try:
            with self._lock:
                self._holder = threading.get_ident()
                try:
                    yield self._machine
                finally:
                    while self._events:
                        self._events.popleft()()
                    self._carry_out(todo)
                    self._holder = None
        finally:
            for job in todo:
                job()
            if self._events:  # left at the last moment
                with self.change():
                    pass

    def soon(self, event: _Job) -> None:
        """Have `event()` called with the lock held. For finalizers."""
        if self.is_ours:
            self._events.append(event)
            if self._holder != threading.get_ident():
                with self.change():
                    pass

    # for callers

    def take(self, seat: Seat, timeout: float | None) -> ExtSession:
        """Wait for a session, which `leave` gives back. PoolTimeout, SessionClosed, LaunchError."""
        with self.change() as machine:
            seat.waiter = waiter = machine.ask(seat, time.monotonic(), timeout)
        while True:
            while not seat.wait(waiter.deadline):
                with self.change() as machine:
                    machine.on_time(time.monotonic())
            if waiter.error is not None:
                raise waiter.error
            session = self._session(waiter)
            if session is not None and session.is_alive:
                seat.taken = True
                return session
            with self.change() as machine:
                machine.again(waiter, None if session is None else session.error)

    def leave(self, seat: Seat) -> None:
        """The caller does not wait any more, or gives its session back. Does nothing the second time."""
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

    def cancel(self, waiter: Waiter) -> None:
        """With the lock held: take Stoppable work back, or have it stopped."""
        machine = self._machine
        if not machine.withdraw(waiter) and waiter.slot is not None and not self._stopped:
            # by a thread: this may be the collector, in the middle of a step of that session
            self._add(partial(waiter.owner.stop, not machine.reuse), 1)

    def close(self, drain: bool, timeout: float | None) -> None:
        """See SessionPool.close."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.change() as machine:
            machine.close(drain)
        if not self._join(deadline):
            with self.change() as machine:
                machine.close(False)
            self._join(None)

    def drop(self) -> None:
        """Nobody holds the pool any more: what it has accepted is done, and then it ends."""
        self.soon(lambda: self._machine.close(True))

    def statistics(self) -> PoolStatistics:
        with self.change() as machine:
            return machine.statistics()

    def __str__(self) -> str:
        if not self.is_ours:
            return f"of process {self._owner}"
        figures = self.statistics()
        if self._machine.closing:
            return "closed" if self._machine.is_over else "closing"
        return f"{figures.used} used, {figures.ready} ready, {figures.waiting} waiting"

    # orders; the lock is held

    def _carry_out(self, todo: list[_Job]) -> None:
        machine = self._machine
        while machine.orders:
            order = machine.orders.pop(0)
            if isinstance(order, Start):
                self._add(partial(self._start, order.slot))
            elif isinstance(order, End):
                session = self._sessions.get(order.slot)
                if session is not None and machine.at_once:
                    session._core.retire(closed())
                    todo.append(session._end_soon)  # whoever uses it is in the way of the threads
                if machine.state(order.slot) is Slot.ENDING:
                    self._add(partial(self._end, order.slot))
            elif isinstance(order.waiter.owner, Seat):
                order.waiter.owner.wake()
            elif isinstance(order, Give):
                self._add(partial(self._serve, order.waiter))
            elif isinstance(order, Refuse):
                assert order.waiter.error is not None
                todo.append(partial(order.waiter.owner.refused, order.waiter.error))
        if machine.is_over and not self._stopped:
            self._stopped = True
            for _ in self._threads:
                self._jobs.put(None)

    def _add(self, job: _Job, extra: int = 0) -> None:
        self._jobs.put(job)
        self._open_jobs += 1
        if self._open_jobs > len(self._threads) and len(self._threads) < self._machine.size + extra:
            name = f"extsession-pool-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has none left: those that are there will do it
                if not self._threads:
                    raise
            else:
                self._threads.append(thread)

    # jobs: in the threads of the crew, the lock is not held

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except BaseException as error:  # of a user's callback; the others go on
                sys.excepthook(type(error), error, error.__traceback__)
            del job
            with self.change():
                self._open_jobs -= 1

    def _start(self, slot: int) -> None:
        try:
            session = self._make(lambda: self._machine.state(slot) is Slot.ABORTED)
            with self.change() as machine:
                self._sessions[slot] = session
                wanted = machine.state(slot) is not Slot.ABORTED
            if not wanted:
                session.close()
                raise closed()
            session._finish_start()
        except BaseException as error:
            with self.change() as machine:
                self._sessions.pop(slot, None)
                machine.failed(slot, error.with_traceback(None))
        else:
            with self.change() as machine:
                machine.started(slot)

    def _end(self, slot: int) -> None:
        try:
            self._sessions[slot].close()
        finally:
            with self.change() as machine:
                del self._sessions[slot]
                machine.ended(slot)

    def _serve(self, waiter: Waiter) -> None:
        work: Work = waiter.owner
        session = self._session(waiter)
        if session is None or not session.is_alive:
            with self.change() as machine:
                machine.again(waiter, None if session is None else session.error)
        elif not work.begin():
            with self.change() as machine:
                machine.release(waiter, untouched=True)
        elif work.run(session):
            self._give_back(waiter)
            work.given_back()
        else:
            with self.change() as machine:
                machine.again(waiter, session.error, used=True)

    def _session(self, waiter: Waiter) -> ExtSession | None:
        with self.change():
            return None if waiter.slot is None else self._sessions.get(waiter.slot)

    def _give_back(self, waiter: Waiter) -> None:
        session = self._session(waiter)
        if session is not None:
            alive = session.is_alive
            core = session._core
            state = core.machine
            clean = alive and state.phase is Phase.IDLE and not state.is_busy
            if not self._machine.reuse:
                core.retire(SessionClosed("the session was given back to its pool"))
            with self.change() as machine:
                machine.release(waiter, clean=clean, dead=not alive and not state.was_ended)

    def _join(self, deadline: float | None) -> bool:
        """Wait for the threads to end; False: they did not in time. One of them does not wait."""
        if threading.current_thread() in self._threads:
            return True
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
        return True
