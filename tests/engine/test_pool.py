"""PoolMachine without any process: who gets what, in which order, what is started and ended."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extsession._engine.pool import End, Give, Order, PoolMachine, Refuse, Slot, Start, Waiter
from extsession.errors import ExtSessionError, LaunchError, PoolTimeout, SessionClosed, SessionDied
from extsession.testing import ManualClock


class Fake(ManualClock):
    """A pool whose orders are noted; the test says what becomes of them."""

    def __init__(self, size: int = 2, reuse: bool = False, ready: bool = True) -> None:
        self.machine = PoolMachine(size, reuse)
        super().__init__(100.0)
        self.machine.begin()
        if ready:
            for order in self.take():
                assert isinstance(order, Start)
                self.machine.started(order.slot)
            assert self.take() == []

    def take(self) -> list[Order]:
        orders, self.machine.orders[:] = list(self.machine.orders), []
        return orders

    def ask(self, timeout: float | None = None, owner: Any = None) -> Waiter:
        return self.machine.ask(owner, self.now, timeout)

    def only(self, kind: type) -> Any:
        (order,) = self.take()
        assert isinstance(order, kind)
        return order

    def count(self, name: str) -> int:
        return int(getattr(self.machine.statistics(), name))


def test_starts_as_many_as_there_may_be() -> None:
    fake = Fake(3, ready=False)
    assert fake.take() == [Start(1), Start(2), Start(3)]
    assert fake.count("starting") == 3


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2", None])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="size takes"):
        PoolMachine(size)


def test_gives_what_is_ready() -> None:
    fake = Fake()
    waiter = fake.ask()
    assert fake.take() == [Give(waiter)]
    assert waiter.slot is not None
    assert fake.machine.state(waiter.slot) is Slot.USED
    assert (fake.count("used"), fake.count("ready"), fake.count("given")) == (1, 1, 1)


def test_first_come_first_served() -> None:
    fake = Fake(1)
    first = fake.ask()
    others = [fake.ask() for _ in range(3)]
    assert fake.take() == [Give(first)]
    for each in others:
        used = first.slot
        fake.machine.release(first)
        assert fake.take() == [End(used)]
        fake.machine.ended(used)
        start = fake.only(Start)
        fake.machine.started(start.slot)
        assert fake.take() == [Give(each)]
        first = each


def test_never_more_alive_than_size() -> None:
    """One that is ending counts: its successor starts when it is gone."""
    fake = Fake(1)
    waiter = fake.ask()
    fake.take()
    slot = waiter.slot
    fake.machine.release(waiter)
    assert fake.only(End).slot == slot
    fake.ask()
    assert fake.take() == []
    fake.machine.ended(slot)
    fake.only(Start)


def test_a_used_session_is_replaced_ahead_of_need() -> None:
    fake = Fake(1)
    waiter = fake.ask()
    fake.take()
    slot = waiter.slot
    fake.machine.release(waiter, clean=True)
    assert fake.take() == [End(slot)]
    fake.machine.ended(slot)
    fake.only(Start)
    assert fake.count("replaced") == 0


def test_reuse_hands_out_the_same() -> None:
    fake = Fake(2, reuse=True)
    waiter = fake.ask()
    slot = waiter.slot
    fake.machine.release(waiter, clean=True)
    again = fake.ask()
    assert again.slot == slot
    assert fake.take() == [Give(waiter), Give(again)]


@pytest.mark.parametrize("how", [{"clean": False}, {"clean": True, "dead": True}])
def test_reuse_replaces_what_is_not_fit(how: dict[str, bool]) -> None:
    fake = Fake(1, reuse=True)
    waiter = fake.ask()
    slot = waiter.slot
    fake.take()
    fake.machine.release(waiter, **how)
    assert fake.take() == [End(slot)]
    fake.machine.ended(slot)
    fake.only(Start)
    assert fake.count("replaced") == 1


def test_untouched_sessions_stay_fresh() -> None:
    fake = Fake(1)
    waiter = fake.ask()
    next_one = fake.ask()
    slot = waiter.slot
    fake.machine.release(waiter, untouched=True)
    assert fake.take() == [Give(waiter), Give(next_one)]
    assert next_one.slot == slot


def test_giving_back_twice_does_nothing() -> None:
    fake = Fake(1)
    waiter = fake.ask()
    fake.take()
    fake.machine.release(waiter)
    fake.only(End)
    fake.machine.release(waiter)
    assert fake.take() == []


def test_withdrawn_waiters_get_nothing() -> None:
    fake = Fake(1)
    user, second, third = (fake.ask() for _ in range(3))
    fake.take()
    assert fake.machine.withdraw(second)
    assert not fake.machine.withdraw(second)
    assert not fake.machine.withdraw(user)
    fake.machine.release(user, untouched=True)
    assert fake.take() == [Give(third)]


# time


def test_waits_are_bounded() -> None:
    fake = Fake(1)
    fake.ask()
    late, soon, never = fake.ask(5.0), fake.ask(2.0), fake.ask()
    fake.take()
    assert fake.machine.next_deadline() == 102.0
    fake.machine.on_time(101.9)
    assert fake.take() == []
    fake.machine.on_time(102.0)
    assert fake.take() == [Refuse(soon)]
    error = soon.error
    assert isinstance(error, PoolTimeout)
    assert isinstance(error, TimeoutError)
    assert (error.waited, error.size, error.used) == (2.0, 1, 1)
    assert str(error) == "no session of the pool came free in 2 s: 1 of 1 are in use"
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    assert fake.machine.next_deadline() == 105.0
    fake.machine.on_time(math.inf)
    assert fake.take() == [Refuse(late)]
    assert fake.machine.next_deadline() is None
    assert never.error is None
    assert fake.count("timed_out") == 2


def test_no_time_at_all() -> None:
    fake = Fake(1)
    got = fake.ask(0.0)
    assert fake.take() == [Give(got)]
    none = fake.ask(0.0)
    fake.machine.on_time(fake.now)
    assert fake.take() == [Refuse(none)]


def test_served_waiters_have_no_deadline() -> None:
    fake = Fake(1)
    fake.ask(1.0)
    fake.take()
    assert fake.machine.next_deadline() is None
    fake.machine.on_time(math.inf)
    assert fake.take() == []


# what goes wrong


def test_a_failed_start_costs_the_oldest_waiter_its_wait() -> None:
    fake = Fake(1, ready=False)
    start = fake.only(Start)
    first, second = fake.ask(), fake.ask()
    error = LaunchError("no")
    fake.machine.failed(start.slot, error)
    refuse, again = fake.take()
    assert refuse == Refuse(first)
    assert first.error is error
    assert isinstance(again, Start)  # for the second
    fake.machine.failed(again.slot, error)
    assert fake.take() == [Refuse(second)]


def test_no_start_ahead_of_need_after_a_failure() -> None:
    fake = Fake(2, ready=False)
    one, two = fake.take()
    assert isinstance(one, Start) and isinstance(two, Start)
    fake.machine.failed(one.slot, LaunchError("no"))
    fake.machine.failed(two.slot, LaunchError("no"))
    assert fake.take() == []
    waiter = fake.ask()
    start = fake.only(Start)  # one, and not two
    fake.machine.started(start.slot)
    give, ahead = fake.take()
    assert give == Give(waiter)
    assert isinstance(ahead, Start)  # they start again
    assert (fake.count("failed"), fake.count("started")) == (2, 1)


def test_starts_that_fail_are_bounded_by_the_waiters() -> None:
    fake = Fake(4, ready=False)
    waiters = [fake.ask() for _ in range(10)]
    tried = 0
    while fake.machine.orders:
        for order in fake.take():
            if isinstance(order, Start):
                tried += 1
                fake.machine.failed(order.slot, LaunchError("no"))
    assert all(isinstance(each.error, LaunchError) for each in waiters)
    assert tried <= 10 + 4


def test_a_dead_session_is_not_the_waiters_trouble() -> None:
    fake = Fake(1)
    waiter, later = fake.ask(), fake.ask()
    fake.take()
    slot = waiter.slot
    fake.machine.again(waiter, SessionDied("killed"))
    assert fake.take() == [End(slot)]
    fake.machine.ended(slot)
    start = fake.only(Start)
    fake.machine.started(start.slot)
    assert fake.take() == [Give(waiter)]  # first again
    assert later.slot is None
    assert fake.count("replaced") == 1


def test_a_dead_session_does_not_stop_the_clock() -> None:
    fake = Fake(1)
    waiter = fake.ask(3.0)
    fake.take()
    fake.machine.again(waiter, None)
    fake.machine.on_time(103.0)
    assert isinstance(fake.take()[-1], Refuse)
    assert isinstance(waiter.error, PoolTimeout)


def test_sessions_that_always_die_are_an_error() -> None:
    fake = Fake(1)
    waiter = fake.ask()
    error = SessionDied("killed")
    for _ in range(2):
        fake.take()
        slot = waiter.slot
        fake.machine.again(waiter, error)
        fake.machine.ended(slot)
        fake.machine.started(fake.take()[-1].slot)
    fake.machine.again(waiter, error)
    assert waiter.error is error
    fake.take()
    worker = fake.ask()
    for _ in range(20):  # one that has done something each time may go on
        fake.machine.again(worker, error, used=True)
        for order in fake.take():
            if isinstance(order, End):
                fake.machine.ended(order.slot)
        for order in fake.take():
            if isinstance(order, Start):
                fake.machine.started(order.slot)
    assert worker.error is None


# the end


def test_draining_serves_who_has_asked() -> None:
    fake = Fake(1)
    user, waiter = fake.ask(), fake.ask()
    fake.take()
    fake.machine.close(drain=True)
    assert fake.take() == []
    with pytest.raises(SessionClosed, match="pool is closed"):
        fake.ask()
    slot = user.slot
    fake.machine.release(user)
    fake.machine.ended(slot)
    end, start = fake.take()
    assert end == End(slot) and isinstance(start, Start)
    fake.machine.started(start.slot)
    assert fake.take() == [Give(waiter)]
    fake.machine.release(waiter)
    fake.machine.ended(start.slot)
    assert fake.take() == [End(start.slot)]
    assert fake.machine.is_over


def test_draining_ends_what_nobody_needs() -> None:
    fake = Fake(2)
    user = fake.ask()
    fake.take()
    fake.machine.close(drain=True)
    end = fake.only(End)
    assert end.slot != user.slot
    fake.machine.ended(end.slot)
    assert fake.take() == []
    assert not fake.machine.is_over


def test_draining_waits_for_starts() -> None:
    fake = Fake(1, ready=False)
    start = fake.only(Start)
    fake.machine.close(drain=True)
    assert not fake.machine.is_over
    fake.machine.started(start.slot)
    fake.only(End)


def test_closing_at_once() -> None:
    fake = Fake(2)
    user = fake.ask()
    fake.take()
    ready = next(n for n in (1, 2) if n != user.slot)
    busy = [fake.ask(), fake.ask()]
    assert busy[0].slot == ready
    fake.take()
    fake.machine.close(drain=False)
    assert fake.take() == [Refuse(busy[1]), End(1), End(2)]
    assert isinstance(busy[1].error, SessionClosed)
    fake.machine.release(user)
    fake.machine.again(busy[0], None)
    assert isinstance(busy[0].error, SessionClosed)
    assert fake.take() == [Refuse(busy[0])]
    fake.machine.ended(1)
    fake.machine.ended(2)
    assert fake.machine.is_over


@pytest.mark.parametrize("comes", [True, False])
def test_closing_at_once_during_a_start(comes: bool) -> None:
    fake = Fake(1, ready=False)
    start = fake.only(Start)
    fake.machine.close(drain=False)
    assert fake.take() == [End(start.slot)]
    if comes:
        fake.machine.started(start.slot)
        assert fake.take() == [End(start.slot)]
        fake.machine.ended(start.slot)
    else:
        fake.machine.failed(start.slot, LaunchError("killed"))
        assert fake.count("failed") == 0
    assert fake.take() == []
    assert fake.machine.is_over


def test_draining_then_at_once() -> None:
    fake = Fake(1)
    fake.ask()
    waiter = fake.ask()
    fake.take()
    fake.machine.close(drain=True)
    fake.machine.close(drain=False)
    assert fake.take() == [Refuse(waiter), End(1)]
    fake.machine.close(drain=False)
    fake.machine.close(drain=True)
    assert fake.take() == []


class Pool(RuleBasedStateMachine):
    """Anything, in any order. What must hold: see the invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.machine: PoolMachine | None = None
        self.now = 0.0
        self.alive: dict[int, str] = {}  # as the colour sees them: starting, there, ending
        self.waiting: list[Waiter] = []
        self.using: list[Waiter] = []
        self.all: list[Waiter] = []
        self.closed: bool | None = None
        self.failures = 0
        self.starts = 0

    @precondition(lambda self: self.machine is None)
    @rule(size=st.integers(1, 4), reuse=st.booleans())
    def begin(self, size: int, reuse: bool) -> None:
        self.machine = PoolMachine(size, reuse)
        self.machine.begin()
        self.carry_out()

    def pick(self, data: Any, state: str) -> int | None:
        slots = sorted(slot for slot, what in self.alive.items() if what == state)
        return data.draw(st.sampled_from(slots)) if slots else None

    @precondition(lambda self: self.machine is not None)
    @rule(timeout=st.none() | st.floats(0, 10))
    def ask(self, timeout: float | None) -> None:
        assert self.machine is not None
        if self.closed is not None:
            with pytest.raises(SessionClosed):
                self.machine.ask(None, self.now, timeout)
            return
        self.waiting.append(self.machine.ask(self, self.now, timeout))
        self.all.append(self.waiting[-1])
        self.carry_out()

    @precondition(lambda self: self.machine is not None)
    @rule(data=st.data(), dead=st.booleans(), clean=st.booleans(), untouched=st.booleans())
    def release(self, data: Any, dead: bool, clean: bool, untouched: bool) -> None:
        if self.using:
            waiter = data.draw(st.sampled_from(self.using))
            self.using.remove(waiter)
            self.machine.release(waiter, clean=clean, dead=dead, untouched=untouched)
            self.carry_out()

    @precondition(lambda self: self.machine is not None)
    @rule(data=st.data(), used=st.booleans())
    def again(self, data: Any, used: bool) -> None:
        if self.using:
            waiter = data.draw(st.sampled_from(self.using))
            self.using.remove(waiter)
            self.waiting.append(waiter)
            self.waiting.sort(key=lambda each: each.ticket)
            self.machine.again(waiter, SessionDied("killed"), used=used)
            self.carry_out()

    @precondition(lambda self: self.machine is not None)
    @rule(data=st.data())
    def withdraw(self, data: Any) -> None:
        if self.waiting:
            waiter = data.draw(st.sampled_from(self.waiting))
            self.waiting.remove(waiter)
            self.all.remove(waiter)
            assert self.machine.withdraw(waiter)
            self.carry_out()

    @precondition(lambda self: self.machine is not None)
    @rule(data=st.data(), fails=st.booleans())
    def start_is_over(self, data: Any, fails: bool) -> None:
        slot = self.pick(data, "starting")
        if slot is not None:
            if fails:
                self.failures += 1
                del self.alive[slot]
                self.machine.failed(slot, LaunchError("no"))
            else:
                self.alive[slot] = "there"
                self.machine.started(slot)
            self.carry_out()

    @precondition(lambda self: self.machine is not None)
    @rule(data=st.data())
    def end_is_over(self, data: Any) -> None:
        slot = self.pick(data, "ending")
        if slot is not None:
            del self.alive[slot]
            self.machine.ended(slot)
            self.carry_out()

    @precondition(lambda self: self.machine is not None)
    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.machine.on_time(self.now)
        self.carry_out()
        due = self.machine.next_deadline()
        assert due is None or due > self.now

    @precondition(lambda self: self.machine is not None)
    @rule(drain=st.booleans())
    def close(self, drain: bool) -> None:
        self.machine.close(drain)
        self.closed = drain and self.closed is not False
        self.carry_out()

    def carry_out(self) -> None:
        assert self.machine is not None
        orders, self.machine.orders[:] = list(self.machine.orders), []
        for order in orders:
            if isinstance(order, Start):
                assert order.slot not in self.alive
                self.alive[order.slot] = "starting"
                self.starts += 1
            elif isinstance(order, End):
                if self.alive[order.slot] != "starting":
                    assert self.alive[order.slot] == "there"
                    self.alive[order.slot] = "ending"
            elif isinstance(order, Give):
                waiter = order.waiter
                assert self.alive[waiter.slot] == "there"
                assert waiter is self.waiting.pop(0), "somebody else was first"
                assert waiter.slot not in [each.slot for each in self.using]
                self.using.append(waiter)
            else:
                self.waiting.remove(order.waiter)
                self.all.remove(order.waiter)
                error = order.waiter.error
                assert isinstance(error, ExtSessionError)
                assert not isinstance(error, SessionClosed) or self.closed is False

    @invariant()
    def bounds(self) -> None:
        if self.machine is None:
            return
        figures = self.machine.statistics()
        assert len(self.alive) <= self.machine.size
        assert figures.starting + figures.ready + figures.used + figures.ending == len(self.alive)
        assert figures.waiting == len(self.waiting)
        assert not (figures.ready and figures.waiting)
        if self.closed is False:
            assert not self.waiting
        if self.waiting:  # something is under way for them
            assert figures.starting or figures.used or figures.ending
        # each start that failed was for need, or one of those that went on already
        assert self.failures <= self.machine.size + self.starts

    def teardown(self) -> None:
        """Whatever happened: closed, it comes to its end, and all who drain are served."""
        if self.machine is None:
            return
        self.close(True)
        for _ in range(10_000):
            if self.machine.is_over:
                break
            for waiter in self.using[:]:
                self.using.remove(waiter)
                self.machine.release(waiter)
            for slot, what in list(self.alive.items()):
                if what == "starting":
                    self.alive[slot] = "there"
                    self.machine.started(slot)
                elif what == "ending":
                    del self.alive[slot]
                    self.machine.ended(slot)
            self.carry_out()
        assert self.machine.is_over
        assert not self.alive and not self.waiting
        assert self.closed is False or not self.using


TestAnyOrder = Pool.TestCase
TestAnyOrder.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
