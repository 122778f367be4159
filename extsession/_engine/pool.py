"""PoolMachine: who gets which session of a pool, what is started and what is ended; pure.

It has no session, clock, lock or thread. Slots (numbers) stand for sessions, waiters for those that want one. What
users ask and what became of sessions goes in, with the time; orders come out, for the colours to carry out.

    started, failed -> +----------+  given   +------+
    (vacant) - Start -> | starting | -> ready -> used | - released ->  ready (clean), else End -> ending -> (vacant)
                        +----------+          +------+

A slot counts as alive from its Start until it has ended, so there are never more than `size` processes. A start that
fails costs the oldest waiter its wait; after a failure nothing is started ahead of need until a start succeeds.
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass
from typing import Any

from ..errors import ExtSessionError, PoolTimeout, SessionClosed

#: sessions found dead when they were handed out after which a waiter gets the error, not another session
_MOST_DEAD = 3


class Slot(enum.Enum):
    """What a session of the pool is at."""

    STARTING = "starting"
    READY = "ready"
    USED = "used"
    ENDING = "ending"
    ABORTED = "aborted"  # is starting, and not wanted any more


class Waiter:
    """One who wants a session, or has one. Changed by its PoolMachine only.

    owner: whatever the colour wants to find it by. slot: the session it has. error: why it gets none.
    """

    __slots__ = ("asked", "dead", "deadline", "error", "owner", "slot", "ticket")

    def __init__(self, ticket: int, owner: Any, asked: float, deadline: float | None) -> None:
        self.ticket = ticket
        self.owner = owner
        self.asked = asked
        self.deadline = deadline
        self.slot: int | None = None
        self.error: BaseException | None = None
        self.dead = 0  # sessions that it was given and were dead


@dataclass(frozen=True)
class Start:
    """Start a session for this slot; tell `started` or `failed`."""

    slot: int


@dataclass(frozen=True)
class End:
    """End the slot's session with all that it does; tell `ended`. Of a slot that is starting: tell `failed` soon."""

    slot: int


@dataclass(frozen=True)
class Give:
    """The waiter has the session `waiter.slot` now."""

    waiter: Waiter


@dataclass(frozen=True)
class Refuse:
    """The waiter gets no session, but `waiter.error`."""

    waiter: Waiter


Order = Start | End | Give | Refuse


@dataclass(frozen=True)
class PoolStatistics:
    """What a pool has and did.

    size: the most sessions that live at a time; starting, ready, used, ending: how many are what now; waiting: who
    waits for one. Since the beginning: started, failed: sessions that came to be, and did not; given: how often one was
    handed out; replaced: sessions that were dead, or not fit to be used again though they were to be; timed_out:
    waits that were too long.
    """

    size: int
    starting: int
    ready: int
    used: int
    ending: int
    waiting: int
    started: int
    failed: int
    given: int
    replaced: int
    timed_out: int


@dataclass
class _Counts:
    started: int = 0
    failed: int = 0
    given: int = 0
    replaced: int = 0
    timed_out: int = 0


class PoolMachine:
    """The sessions of a pool, at most `size`, and those who want one, in the order in which they came.

    reuse: a session that was given back clean is handed out again; else it is ended, and another one started.
    """

    def __init__(self, size: int, reuse: bool = False) -> None:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"size takes a number of sessions, not {size!r}")
        if size < 1:
            raise ValueError(f"size takes a number of sessions from 1 up, not {size}")
        self.size = size
        self.reuse = reuse
        self.orders: list[Order] = []
        self.closing = False
        self.at_once = False
        self._slots: dict[int, Slot] = {}
        self._ready: dict[int, None] = {}  # the one that was used last is handed out first
        self._waiting: dict[int, Waiter] = {}  # by ticket, oldest first
        self._deadlines: list[tuple[float, int]] = []  # a heap; those who were served stay in it for a while
        self._tickets = 0
        self._numbers = 0
        self._failing = False  # the last start failed
        self._counts = _Counts()

    # what users ask

    def begin(self) -> None:
        """Start the sessions that are to be ready."""
        self._advance()

    def require_open(self) -> None:
        """SessionClosed if nobody may ask any more."""
        if self.closing:
            raise closed()

    def ask(self, owner: Any, now: float, timeout: float | None) -> Waiter:
        """Queue for a session, for at most `timeout` seconds. SessionClosed if the pool is closing."""
        self.require_open()
        self._tickets += 1
        deadline = None if timeout is None else now + timeout
        waiter = Waiter(self._tickets, owner, now, deadline)
        self._waiting[waiter.ticket] = waiter
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, waiter.ticket))
        self._advance()
        return waiter

    def withdraw(self, waiter: Waiter) -> bool:
        """The waiter does not want a session any more; False if it does not wait."""
        if self._waiting.pop(waiter.ticket, None) is None:
            return False
        self._advance()
        return True

    def release(self, waiter: Waiter, *, clean: bool = False, dead: bool = False, untouched: bool = False) -> None:
        """The waiter gives its session back.

        clean: it could be used again; dead: it has died; untouched: nobody has used it since it was given.
        """
        slot, waiter.slot = waiter.slot, None
        if slot is None or self._slots.get(slot) is not Slot.USED:
            return  # the pool was closed at once
        if untouched or (self.reuse and clean and not dead):
            self._make_ready(slot)
        else:
            self._counts.replaced += dead or self.reuse
            self._end(slot)
        self._advance()

    def again(self, waiter: Waiter, error: ExtSessionError | None, *, used: bool = False) -> None:
        """The waiter's session is dead: it gets another one, as if it had not been given that.

        used: it did part of its work there, so the session was alive when it got it. error: why it is dead.
        """
        slot, waiter.slot = waiter.slot, None
        waiter.dead = 0 if used else waiter.dead + 1
        if slot is not None and self._slots.get(slot) is Slot.USED:
            self._counts.replaced += 1
            self._end(slot)
        if self.at_once:
            self._refuse(waiter, closed())
        elif waiter.dead >= _MOST_DEAD:
            self._refuse(waiter, error or ExtSessionError("sessions of the pool die before they are used"))
        else:
            self._waiting[waiter.ticket] = waiter
            self._waiting = dict(sorted(self._waiting.items()))
            if waiter.deadline is not None:
                heapq.heappush(self._deadlines, (waiter.deadline, waiter.ticket))
        self._advance()

    def close(self, drain: bool) -> None:
        """No one may ask any more. drain: who has asked is served; else all ends now. May be called again."""
        self.closing = True
        if not drain:
            self.at_once = True
            waiting, self._waiting = self._waiting, {}
            for waiter in waiting.values():
                self._refuse(waiter, closed())
            for slot, state in list(self._slots.items()):
                if state is Slot.STARTING:
                    self._slots[slot] = Slot.ABORTED
                    self.orders.append(End(slot))
                elif state in (Slot.READY, Slot.USED):
                    self._end(slot)
        self._advance()

    # what became of sessions

    def started(self, slot: int) -> None:
        """The session is there."""
        self._counts.started += 1
        self._failing = False
        if self._slots[slot] is Slot.ABORTED:
            self._end(slot)
        else:
            self._make_ready(slot)
        self._advance()

    def failed(self, slot: int, error: BaseException) -> None:
        """There is no session: `error`, which the oldest waiter gets."""
        aborted = self._slots.pop(slot) is Slot.ABORTED
        if not aborted:
            self._counts.failed += 1
            self._failing = True
            if self._waiting:
                self._refuse(self._waiting.pop(next(iter(self._waiting))), error)
        self._advance()

    def ended(self, slot: int) -> None:
        """The session and all that it started are gone."""
        if self._slots.get(slot) is Slot.ENDING:
            del self._slots[slot]
        self._advance()

    # time

    def next_deadline(self) -> float | None:
        """When on_time() is to be called, at the latest."""
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def on_time(self, now: float) -> None:
        """Refuse those who have waited long enough."""
        while (due := self.next_deadline()) is not None and due <= now:
            _, ticket = heapq.heappop(self._deadlines)
            waiter = self._waiting.pop(ticket)
            self._counts.timed_out += 1
            self._refuse(waiter, self.starved(now - waiter.asked))

    def starved(self, waited: float) -> PoolTimeout:
        """The error of one who has waited for too long."""
        used = list(self._slots.values()).count(Slot.USED)
        text = f"no session of the pool came free in {waited:.3g} s: {used} of {self.size} are in use"
        return PoolTimeout(text, waited=waited, size=self.size, used=used)

    # looking

    @property
    def is_over(self) -> bool:
        """Whether the pool is closed, and nothing of it is left."""
        return self.closing and not self._slots and not self._waiting

    def state(self, slot: int) -> Slot | None:
        """What a session is at; None: it is gone."""
        return self._slots.get(slot)

    def statistics(self) -> PoolStatistics:
        states = list(self._slots.values())
        return PoolStatistics(
            size=self.size,
            starting=states.count(Slot.STARTING),
            ready=states.count(Slot.READY),
            used=states.count(Slot.USED),
            ending=states.count(Slot.ENDING) + states.count(Slot.ABORTED),
            waiting=len(self._waiting),
            **vars(self._counts),
        )

    # inside

    def _advance(self) -> None:
        """Hand out what is ready, then start what is needed and end what is not."""
        while self._ready and self._waiting:
            slot, _ = self._ready.popitem()
            waiter = self._waiting.pop(next(iter(self._waiting)))
            self._slots[slot] = Slot.USED
            waiter.slot = slot
            self._counts.given += 1
            self.orders.append(Give(waiter))
        if self.closing:
            while self._ready:  # and nobody waits
                self._end(self._ready.popitem()[0])
        need = len(self._waiting)
        if not self.closing and not self._failing:
            need = self.size
        coming = len(self._ready)
        for state in self._slots.values():
            coming += state is Slot.STARTING
        while coming < need and len(self._slots) < self.size:
            self._numbers += 1
            self._slots[self._numbers] = Slot.STARTING
            self.orders.append(Start(self._numbers))
            coming += 1

    def _make_ready(self, slot: int) -> None:
        self._slots[slot] = Slot.READY
        self._ready[slot] = None

    def _end(self, slot: int) -> None:
        self._slots[slot] = Slot.ENDING
        self._ready.pop(slot, None)
        self.orders.append(End(slot))

    def _refuse(self, waiter: Waiter, error: BaseException) -> None:
        waiter.error = error
        self.orders.append(Refuse(waiter))


def closed() -> SessionClosed:
    return SessionClosed("the pool is closed")
