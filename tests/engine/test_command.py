"""What is decided about a running command, with a clock in the test's hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extsession._engine.command import CommandMachine, StopAction, StopCause, StopTimes
from extsession._engine.completion import Step
from extsession.testing.clock import ManualClock

TIMES = StopTimes(suicide=1.0, interrupt=0.3, terminate=0.2, drain=0.1)


class Command:
    """A machine and a clock, which goes on to each time at which something is due."""

    def __init__(self, times: StopTimes = TIMES, timeout: float | None = None) -> None:
        self.clock = ManualClock()
        self.began = self.clock.now
        self.machine = CommandMachine(times, timeout, self.began)

    def stop(self, cause: StopCause, is_told: bool = False) -> bool:
        return self.machine.stop(cause, self.clock.now, is_told)

    def due(self) -> list[StopAction]:
        found = []
        while (action := self.machine.due(self.clock.now)) is not None:
            found.append(action)
        return found

    def course(self) -> list[tuple[float, StopAction]]:
        """(seconds since the beginning, what is done), until nothing is planned."""
        found = []
        while self.machine.next_time() < math.inf:
            self.clock.advance_to(self.machine.next_time())
            found += [(round(self.clock.now - self.began, 6), action) for action in self.due()]
        return found


INTERRUPTED = [StopAction.INTERRUPT, StopAction.TERMINATE, StopAction.KILL, StopAction.GIVE_UP]


@pytest.mark.parametrize("cause", [StopCause.INTERRUPT, StopCause.LEFT, StopCause.KEYBOARD])
def test_the_whole_ladder(cause: StopCause) -> None:
    command = Command()
    assert command.stop(cause)
    assert command.course() == list(zip([1.0, 1.3, 1.5, 6.5], INTERRUPTED, strict=True))
    assert command.machine.cause is cause
    assert command.machine.steps == [Step.INTERRUPT, Step.TERMINATE, Step.KILL]


def test_terminate_begins_at_sigterm() -> None:
    command = Command()
    command.stop(StopCause.TERMINATE)
    assert command.course() == [(0.0, StopAction.TERMINATE), (0.2, StopAction.KILL), (5.2, StopAction.GIVE_UP)]


def test_a_limit_kills_at_once() -> None:
    command = Command()
    command.stop(StopCause.LIMIT)
    assert command.course() == [(0.0, StopAction.KILL), (5.0, StopAction.GIVE_UP)]


def test_the_terminal_has_told_it_already() -> None:
    command = Command()
    command.stop(StopCause.KEYBOARD, is_told=True)
    assert command.course() == [(1.3, StopAction.TERMINATE), (1.5, StopAction.KILL), (6.5, StopAction.GIVE_UP)]
    assert command.machine.steps == [Step.TERMINATE, Step.KILL]


def test_a_timeout() -> None:
    command = Command(timeout=10.0)
    assert command.machine.next_time() == command.began + 10
    assert command.course() == list(zip([11.0, 11.3, 11.5, 16.5], INTERRUPTED, strict=True))
    assert command.machine.cause is StopCause.TIMEOUT


def test_not_a_moment_before_its_timeout() -> None:
    command = Command(StopTimes(), timeout=10.0)
    command.clock.advance(9.999)
    assert not command.due() and command.machine.cause is None
    command.clock.advance(0.001)
    assert command.due() == [StopAction.INTERRUPT]


def test_no_waits() -> None:
    command = Command(StopTimes(0, 0, 0, 0))
    command.stop(StopCause.INTERRUPT)
    assert command.due() == INTERRUPTED[:3]


def test_each_step_has_its_full_time_after_a_delay() -> None:
    command = Command()
    command.stop(StopCause.INTERRUPT)
    command.clock.advance(100.0)  # the machine was asleep
    assert command.due() == [StopAction.INTERRUPT]
    assert command.machine.next_time() == pytest.approx(command.clock.now + 0.3)
    command.clock.advance(0.25)
    assert command.due() == []


def test_the_first_stop_counts() -> None:
    command = Command(timeout=0.5)
    assert command.stop(StopCause.INTERRUPT)
    command.clock.advance(0.2)
    assert not command.stop(StopCause.TERMINATE)
    command.clock.advance(0.6)  # the timeout is over as well
    assert command.due() == []
    assert command.machine.cause is StopCause.INTERRUPT
    assert command.course()[0] == (1.0, StopAction.INTERRUPT)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_no_step_after_its_end(after: int) -> None:
    command = Command()
    command.stop(StopCause.INTERRUPT)
    for _ in range(after):
        command.clock.advance_to(command.machine.next_time())
        assert len(command.due()) == 1
    command.machine.on_exit(-2, command.clock.now)
    command.machine.on_eof(1)
    command.machine.on_eof(2)
    assert command.course() == []
    assert len(command.machine.steps) == after
    assert (command.machine.exit_code, command.machine.is_over) == (-2, True)


def test_a_stop_after_its_end_is_none() -> None:
    command = Command(timeout=1.0)
    command.machine.on_exit(0, command.clock.now)
    assert not command.stop(StopCause.INTERRUPT)
    command.clock.advance(5)
    assert command.due() == []
    assert (command.machine.cause, command.machine.steps) == (None, [])


def test_over_is_the_end_and_the_output() -> None:
    machine = Command().machine
    assert machine.next_time() == math.inf
    machine.on_eof(1)
    machine.on_eof(2)
    assert not machine.is_over  # it has closed both, and lives on
    machine.on_exit(0, 1.0)
    assert machine.is_over and machine.next_time() == math.inf


def test_somebody_else_has_its_output_open() -> None:
    command = Command()
    command.machine.on_exit(0, command.clock.now)
    command.machine.on_eof(2)
    assert not command.machine.is_over
    assert command.machine.next_time() == command.machine.drain_until == command.clock.now + 0.1
    assert (command.machine.is_open(1), command.machine.is_open(2)) == (True, False)
    command.machine.on_eof(1)
    assert command.machine.is_over


def test_an_end_of_which_nothing_is_known() -> None:
    machine = Command().machine
    machine.on_exit(None, 2.0)
    assert (machine.exit_code, machine.ended) == (None, 2.0)


EVENTS = st.lists(
    st.tuples(st.floats(0, 3), st.sampled_from(["wait", "eof 1", "eof 2", "exit", *StopCause])),
    max_size=12,
)


@given(EVENTS, st.none() | st.floats(0, 2))
def test_whatever_happens(events: list[tuple[float, object]], timeout: float | None) -> None:
    """Steps come in order, each once, none after the end; what is due is due at `next_time`, and not before."""
    command = Command(timeout=timeout)
    machine = command.machine
    done: list[StopAction] = []
    for seconds, event in events:
        planned = machine.next_time()
        command.clock.advance(seconds)
        found = command.due()
        assert not found or planned <= command.clock.now
        assert not (found and machine.ended is not None)
        done += found
        if isinstance(event, StopCause):
            was = machine.cause
            assert command.stop(event) == (was is None and machine.ended is None)
            assert machine.cause is (was or (event if machine.ended is None else None))
        elif event == "exit" and machine.ended is None:
            machine.on_exit(0, command.clock.now)
        elif isinstance(event, str) and event.startswith("eof"):
            machine.on_eof(int(event[-1]))
    order = list(StopAction)
    assert [order.index(action) for action in done] == sorted({order.index(action) for action in done})
    assert machine.steps == [Step[action.name] for action in done if action is not StopAction.GIVE_UP]
