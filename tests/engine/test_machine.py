"""SessionMachine with a clock in the test's hand and no process: order, states, deadlines, the kill ladder."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extsession._engine.asking import INPUT_GRACE
from extsession._engine.call import Call, State
from extsession._engine.completion import Outcome, Step
from extsession._engine.machine import WAKES, Order, Phase, SessionMachine
from extsession._engine.stdin import CallStdin
from extsession._launch.base import ExitReport
from extsession._protocol import messages
from extsession._protocol.frames import FrameDecoder
from extsession._protocol.messages import STDERR, STDOUT, Done, Run
from extsession._protocol.records import ErrorInfo
from extsession._protocol.values import encode
from extsession.errors import (
    CallCancelled,
    CallTimeout,
    LaunchError,
    RemoteError,
    RemoteProtocolError,
    SessionClosed,
    SessionDied,
)
from extsession.options import Ladder
from extsession.testing import ManualClock

TOKEN = b"\xff0123456789abcde"
FIRST = b"first bytes"
READY = {"protocol": messages.VERSION, "pid": 4242, "encoding": "utf-8"}
LADDER = Ladder(interrupt=2.0, terminate=1.0)


def barrier(number: int) -> bytes:
    return TOKEN + number.to_bytes(8, "little")


def body(done: Done) -> bytes:
    return b"".join(map(bytes, done.encode()))


def done_body(outcome: int = messages.FINISHED, **fields: Any) -> bytes:
    return body(Done(outcome, **fields))


def failed(type_name: str, message: str = "") -> dict[str, Any]:
    return {"error": ErrorInfo(type_name, message, args=(message,)).to_wire()}


class Fake(ManualClock):
    """A machine, the time, and the link's side of the contract."""

    def __init__(self, start_timeout: float | None = 30.0, ladder: Ladder = LADDER) -> None:
        super().__init__(1000.0)
        self.machine = SessionMachine(
            token=TOKEN,
            python="/usr/bin/python3",
            command=["python3"],
            first=FIRST,
            now=self.now,
            start_timeout=start_timeout,
            ladder=ladder,
        )
        self._decoder = FrameDecoder(messages.TO_WORKER)
        assert self.machine.outgoing.popleft() == FIRST
        self.orders: list[Order] = []
        self.sent: list[tuple[int, int, bytes]] = []

    def submit(self, timeout: float | None = None, source: str = "x", limit: int | None = None, stdin: Any = None) -> Call:
        call = self.machine.submit(Run(messages.EXEC, 0, source), source, timeout, limit)
        call.stdin = CallStdin(stdin)
        call.on_done(lambda _: None)  # `finished` lists the calls that somebody wants to hear of
        self.machine.advance(self.now)
        self.collect()
        return call

    def frame(self, kind: int, call: int = 0, data: bytes = b"") -> None:
        self.machine.on_frame(kind, call, data, self.now)
        if self.machine.draining is not None:
            self.machine.on_drained(self.now)
        self.step()

    def text(self, stream: int, data: bytes) -> None:
        self.machine.on_text(stream, data, self.now)

    def ready(self) -> Fake:
        self.frame(messages.READY, 0, messages.pack_ready(READY))
        return self

    def done(self, call: Call | int, outcome: int = messages.FINISHED, **fields: Any) -> None:
        self.frame(messages.DONE, call if isinstance(call, int) else call.number, done_body(outcome, **fields))

    def at(self, seconds: float) -> list[Order]:
        """Go on by `seconds`, stopping at each deadline as a caller that waits does; the new orders."""
        before = len(self.orders)
        end = self.now + seconds
        for _ in range(1000):  # a flood is asked for five times a second
            due = self.machine.next_deadline()
            if due is None or due > end:
                break
            self.advance_to(due)
            self.step()
        else:
            pytest.fail("a deadline that fires for ever")
        self.advance_to(end)
        self.step()
        return self.orders[before:]

    def step(self) -> None:
        due = self.machine.next_deadline()
        if due is not None and self.now >= due:
            self.machine.on_time(self.now)
        if self.machine.phase is Phase.IDLE:
            self.machine.advance(self.now)
        self.collect()

    def collect(self) -> None:
        self.orders += self.machine.orders
        self.machine.orders.clear()
        for piece in self.machine.outgoing:
            self.sent += [(kind, call, bytes(data)) for kind, call, data in self._decoder.feed(bytes(piece))]
        self.machine.outgoing.clear()

    def exit(self, code: int | None = 0, signal: int | None = None) -> None:
        self.machine.on_exit(ExitReport(code, signal), self.now)
        self.collect()

    def runs(self) -> list[int]:
        return [call for kind, call, _ in self.sent if kind == messages.RUN]


# order


def test_calls_wait_for_ready_and_for_each_other() -> None:
    fake = Fake()
    calls = [fake.submit(source=f"x = {n}") for n in range(3)]
    assert fake.runs() == []
    assert [call.state for call in calls] == [State.QUEUED] * 3
    fake.ready()
    for at, call in enumerate(calls, 1):
        assert fake.runs() == [1, 2, 3][:at]
        assert Run.decode(fake.sent[-1][2]).source == f"x = {at - 1}"
        assert call.state is State.RUNNING
        fake.done(call, wall=0.5, cpu=0.25, peak_memory=7)
        assert call.completion is not None
        assert call.completion.outcome is Outcome.FINISHED
        assert call.completion.survived
        assert (call.completion.usage.wall, call.completion.usage.cpu, call.completion.usage.peak_memory) == (0.5, 0.25, 7)  # type: ignore[union-attr]
    assert fake.machine.finished == calls
    assert fake.machine.phase is Phase.IDLE
    assert fake.orders == []
    assert not fake.machine.is_busy


def test_a_cancelled_call_is_never_sent() -> None:
    fake = Fake().ready()
    first, second, third = fake.submit(), fake.submit(), fake.submit()
    assert fake.machine.cancel(second)
    assert not fake.machine.cancel(second)
    assert not fake.machine.cancel(first)
    fake.done(first)
    assert fake.runs() == [1, 3]
    assert second.completion is not None
    assert second.completion.outcome is Outcome.CANCELLED
    assert second.completion.survived
    assert isinstance(second.error, CallCancelled)
    fake.done(third)
    assert not fake.machine.cancel(third)
    assert [completion.call for completion in fake.machine.codes] == [2, 1, 3]


def test_exit_comes_after_the_calls_that_are_queued() -> None:
    fake = Fake().ready()
    first, second = fake.submit(), fake.submit()
    fake.machine.exit(7)
    fake.done(first)
    assert fake.runs() == [1, 2]
    fake.done(second)
    assert fake.sent[-1] == (messages.EXIT, 0, messages.pack_exit(7))
    assert fake.machine.phase is Phase.EXITING
    with pytest.raises(SessionClosed):
        fake.machine.submit(Run(0), "x", None, None)
    fake.text(STDOUT, b"from atexit")
    fake.exit(7)
    assert fake.machine.exit_output.joined("stdout") == b"from atexit"
    assert isinstance(fake.machine.error, SessionClosed)
    with pytest.raises(SessionClosed):
        fake.machine.submit(Run(0), "x", None, None)


# how calls end


def test_an_error_in_the_code() -> None:
    fake = Fake().ready()
    call = fake.submit()
    fake.done(call, messages.FAILED, extra=failed("ZeroDivisionError", "division by zero"))
    assert call.completion is not None
    assert call.completion.outcome is Outcome.FAILED
    assert isinstance(call.error, ZeroDivisionError)
    other = fake.submit()
    fake.done(other, messages.FAILED, extra=failed("app.Broken", "no"))
    assert isinstance(other.error, RemoteError)
    assert other.error.type_name == "app.Broken"


def test_system_exit_ends_the_call_with_the_process() -> None:
    fake = Fake().ready()
    call, waiting = fake.submit(), fake.submit()
    fake.done(call, messages.EXITED, flags=messages.LEAVING, extra={"exit": 3})
    assert call.completion is None
    assert fake.runs() == [1]
    fake.text(STDOUT, b"atexit")
    fake.machine.on_eof(fake.now)
    fake.exit(3)
    assert call.completion is not None
    assert (call.completion.outcome, call.completion.exit_code, call.completion.survived) == (Outcome.EXITED, 3, False)
    assert call.output.joined("stdout") == b"atexit"
    assert waiting.completion is not None
    assert waiting.completion.outcome is Outcome.LOST
    assert isinstance(waiting.error, SessionDied)
    assert waiting.error.exit_code == 3


def test_system_exit_that_is_only_reported() -> None:
    fake = Fake().ready()
    call = fake.submit()
    fake.done(call, messages.EXITED, extra={"exit": 3})
    assert call.completion is not None
    assert (call.completion.outcome, call.completion.exit_code, call.completion.survived) == (Outcome.EXITED, 3, True)
    assert not call.completion.ok
    assert fake.machine.phase is Phase.IDLE


@pytest.mark.parametrize(("signal", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (6, "SIGABRT"), (35, "signal 35")])
def test_a_session_killed_by_a_signal(signal: int, name: str) -> None:
    fake = Fake().ready()
    over, call, waiting = fake.submit(source="a"), fake.submit(source="crash()"), fake.submit(source="b")
    fake.done(over)
    fake.text(STDERR, b"Fatal Python error")
    fake.machine.on_eof(fake.now)
    fake.exit(None, signal)
    assert over.completion is not None
    assert over.completion.survived
    for each in (call, waiting):
        assert each.completion is not None
        assert (each.completion.outcome, each.completion.signal, each.completion.exit_code) == (Outcome.LOST, name, None)
        assert not each.completion.survived
        assert isinstance(each.error, SessionDied)
        assert (each.error.signal, each.error.exit_code, each.error.running) == (name, None, "crash()")
        assert each.error.stderr == "Fatal Python error"
    with pytest.raises(SessionDied):
        fake.machine.submit(Run(0), "x", None, None)


def test_a_session_that_was_killed_by_its_user() -> None:
    fake = Fake().ready()
    call, waiting = fake.submit(), fake.submit()
    fake.machine.kill()
    fake.collect()
    assert fake.orders == [Order.KILL]
    fake.exit(None, 9)
    for each in (call, waiting):
        assert each.completion is not None
        assert each.completion.outcome is Outcome.KILLED
        assert isinstance(each.error, SessionDied)


# the start


def test_an_end_before_ready_is_a_launch_error() -> None:
    fake = Fake()
    call = fake.submit()
    fake.text(STDERR, b"No module named 'encodings'")
    fake.machine.on_eof(fake.now)
    fake.exit(1)
    error = fake.machine.error
    assert isinstance(error, LaunchError)
    assert (error.python, error.command, error.stderr) == ("/usr/bin/python3", ["python3"], "No module named 'encodings'")
    assert "exit status 1" in str(error)
    assert call.error is error
    assert call.completion is not None
    assert call.completion.outcome is Outcome.LOST


def test_a_start_that_takes_too_long() -> None:
    fake = Fake(start_timeout=5.0)
    call = fake.submit()
    assert fake.at(4.99) == []
    fake.text(STDOUT, b"hello?")
    assert fake.at(0.01) == [Order.KILL]
    assert fake.at(100) == []
    fake.exit(None, 9)
    assert isinstance(fake.machine.error, LaunchError)
    assert "in time" in str(fake.machine.error)
    assert fake.machine.error.stderr == "hello?"
    assert call.error is fake.machine.error


def test_no_start_timeout() -> None:
    fake = Fake(start_timeout=None)
    assert fake.at(10**6) == []
    assert fake.ready().machine.phase is Phase.IDLE


def test_ready_that_came_before_the_deadline_fired_counts() -> None:
    fake = Fake(start_timeout=5.0)
    fake.advance(6)
    fake.machine.on_frame(messages.READY, 0, messages.pack_ready(READY), fake.now)
    fake.step()
    assert fake.machine.phase is Phase.IDLE
    assert fake.orders == []


@pytest.mark.parametrize(
    "fields",
    [{}, {**READY, "protocol": 2}, {**READY, "pid": None}, {**READY, "pid": True}]
    + [{**READY, "pid": pid} for pid in (0, 1, -1, -4242, 2**31, 2**64, 4242.0, "4242")],
)
def test_a_ready_that_is_none(fields: dict[str, Any]) -> None:
    """Above all its pid: kill(-1) would end everything of the user's."""
    fake = Fake()
    fake.frame(messages.READY, 0, messages.pack_ready(fields))
    assert fake.orders == [Order.KILL]
    assert fake.machine.ready is None
    assert isinstance(fake.machine.error, RemoteProtocolError)


# time


def test_the_ladder() -> None:
    fake = Fake().ready()
    call = fake.submit(timeout=5.0)
    assert fake.at(4.999) == []
    assert fake.at(0.001) == [Order.INTERRUPT]
    assert fake.sent[-1] == (messages.INTERRUPT, call.number, b"")
    assert fake.at(1.999) == [Order.WAKE] * 3  # it may not have seen the signal
    assert fake.at(0.001) == [Order.TERMINATE]
    assert fake.at(0.999) == []
    assert fake.at(0.001) == [Order.KILL]
    assert fake.at(1000) == []
    assert call.completion is None  # only the end of the process is the end
    fake.exit(None, 9)
    assert call.completion is not None
    assert call.completion.outcome is Outcome.TIMED_OUT
    assert call.completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert not call.completion.survived
    assert isinstance(call.error, CallTimeout)
    assert isinstance(call.error, TimeoutError)
    assert (call.error.allowed, call.error.survived, call.error.limit) == (5.0, False, "timeout")


def test_a_call_that_gives_in_to_the_interrupt() -> None:
    fake = Fake().ready()
    call, after = fake.submit(timeout=5.0), fake.submit(timeout=5.0)
    fake.at(5.5)
    fake.done(call, messages.INTERRUPTED, wall=5.5, extra=failed("KeyboardInterrupt"))
    assert call.completion is not None
    assert (call.completion.outcome, call.completion.steps, call.completion.survived) == (
        Outcome.TIMED_OUT, (Step.INTERRUPT,), True,
    )  # fmt: skip
    assert isinstance(call.error, CallTimeout)
    assert (call.error.allowed, call.error.reached, call.error.survived) == (5.0, 5.5, True)
    # the next call's clock starts at its own turn
    assert fake.at(4.9) == []
    assert fake.at(0.1) == [Order.INTERRUPT]
    assert fake.sent[-1] == (messages.INTERRUPT, after.number, b"")


@pytest.mark.parametrize("late", [0.0, 1.0, 2.5])
def test_a_call_that_finished_is_not_reported_as_timed_out(late: float) -> None:
    """Whether it ends just before its deadline is looked at, or in spite of the interrupt."""
    fake = Fake().ready()
    call = fake.submit(timeout=5.0)
    fake.at(5.0 + late) if late else None
    if not late:
        fake.advance(5.0)  # it has arrived before anybody looked at the clock
    fake.done(call)
    assert call.completion is not None
    assert call.completion.outcome is Outcome.FINISHED
    assert call.error is None
    assert bool(call.completion.steps) == bool(late)


def test_time_does_not_stand_against_a_done_that_is_being_taken_in() -> None:
    fake = Fake().ready()
    call = fake.submit(timeout=5.0)
    fake.advance(10)
    fake.machine.on_frame(messages.DONE, call.number, done_body(), fake.now)
    fake.machine.on_time(fake.now)
    assert fake.machine.orders == []
    fake.machine.on_drained(fake.now)
    assert call.completion is not None
    assert call.completion.outcome is Outcome.FINISHED


def test_a_user_interrupt_is_no_timeout() -> None:
    fake = Fake().ready()
    call = fake.submit(timeout=5.0)
    assert fake.machine.interrupt(fake.now)
    fake.done(call, messages.INTERRUPTED, extra=failed("KeyboardInterrupt"))
    assert call.completion is not None
    assert call.completion.outcome is Outcome.INTERRUPTED
    assert isinstance(call.error, KeyboardInterrupt)


def test_code_that_may_not_have_seen_its_interrupt_is_woken() -> None:
    """A few times, for as long as the call runs; what the ladder does comes in its own time."""
    fake = Fake().ready()
    call = fake.submit()
    began = fake.now
    assert fake.machine.interrupt(fake.now)
    fake.step()
    assert fake.orders == [Order.INTERRUPT]
    for delay in WAKES[:-1]:
        assert fake.machine.next_deadline() == began + delay
        assert fake.at(began + delay - fake.now) == [Order.WAKE]
    fake.done(call, messages.INTERRUPTED, extra=failed("KeyboardInterrupt"))
    assert fake.machine.next_deadline() is None
    fake.submit()
    assert fake.at(2 * WAKES[-1]) == []


def test_an_interrupt_is_for_the_call_it_was_meant_for() -> None:
    fake = Fake().ready()
    assert not fake.machine.interrupt(fake.now)
    first, second = fake.submit(), fake.submit()
    assert not fake.machine.interrupt(fake.now, second)
    assert fake.machine.interrupt(fake.now, first)
    fake.done(first)
    assert not fake.machine.interrupt(fake.now, first)
    fake.done(second)
    assert not fake.machine.interrupt(fake.now)
    fake.collect()
    assert [(kind, call) for kind, call, _ in fake.sent if kind == messages.INTERRUPT] == [(messages.INTERRUPT, 1)]


def test_leaving_does_not_stop_the_clock_of_a_call_with_a_timeout() -> None:
    fake = Fake().ready()
    call = fake.submit(timeout=5.0)
    fake.done(call, messages.EXITED, flags=messages.LEAVING, extra={"exit": 0})
    orders = fake.at(20)
    assert orders[-1:] == [Order.KILL]
    fake.exit(None, 9)
    assert call.completion is not None
    assert not call.completion.survived


# the end of the channel


def test_eof_is_not_death_while_a_call_runs() -> None:
    fake = Fake().ready()
    call = fake.submit()
    fake.machine.on_eof(fake.now)
    assert fake.at(1000) == []
    fake.text(STDOUT, b"another program")
    fake.exit(5)
    assert call.completion is not None
    assert (call.completion.outcome, call.completion.exit_code) == (Outcome.LOST, 5)
    assert call.output.joined("stdout") == b"another program"


@pytest.mark.parametrize("started", [False, True])
def test_eof_while_nothing_runs_is_the_end_after_a_moment(started: bool) -> None:
    fake = Fake(start_timeout=None)
    if started:
        fake.ready()
    fake.machine.on_eof(fake.now)
    fake.machine.on_eof(fake.now)
    assert fake.at(0.5) == []
    assert fake.at(0.5) == [Order.KILL]
    assert fake.at(100) == []


# what may not come


def starting(fake: Fake) -> None:
    pass


def idle(fake: Fake) -> None:
    fake.ready()


def running(fake: Fake) -> None:
    fake.ready().submit()


def exiting(fake: Fake) -> None:
    fake.ready().machine.exit(0)
    fake.step()


GOOD = {
    messages.READY: messages.pack_ready(READY),
    messages.DONE: done_body(),
    messages.INPUT: b"\0",
    messages.LATE: b"\1late",
    messages.DISPLAY: messages.pack_display(1, {"data": {}, "metadata": {}, "role": "display"}),
    messages.PIPES: bytes(4),
}


@pytest.mark.parametrize("kind", sorted(GOOD), ids=messages.NAMES.get)
@pytest.mark.parametrize("state", [starting, idle, running, exiting], ids=lambda state: state.__name__)
def test_who_may_say_what_when(state: Any, kind: int) -> None:
    fake = Fake()
    state(fake)
    assert fake.machine.phase.value == state.__name__
    fake.frame(kind, 1, GOOD[kind])
    if kind in messages.WORKER_MAY_SEND[state.__name__]:
        assert fake.orders == []
        assert fake.machine.error is None
    else:
        assert fake.orders == [Order.KILL]
        assert isinstance(fake.machine.error, RemoteProtocolError)
        assert messages.NAMES[kind] in str(fake.machine.error)


BROKEN = {
    "done for another call": (messages.DONE, 2, done_body()),
    "done for no call": (messages.DONE, 0, done_body()),
    "input for another call": (messages.INPUT, 2, b""),
    "display for another call": (messages.DISPLAY, 7, GOOD[messages.DISPLAY]),
    "empty done": (messages.DONE, 1, b""),
    "done of an unknown outcome": (messages.DONE, 1, b"\x09" + done_body()[1:]),
    "done with an error that is none": (messages.DONE, 1, done_body(messages.FAILED, extra={"error": ("x", 1)})),
    "done with a status that is none": (messages.DONE, 1, done_body(messages.EXITED, extra={"exit": "0"})),
    "display with unknown fields": (messages.DISPLAY, 1, messages.pack_display(1, {"data": 5})),
    "display that is no dict": (messages.DISPLAY, 1, bytes(8) + encode([1])),
    "late for no stream": (messages.LATE, 1, b"\x03text"),
    "late that is empty": (messages.LATE, 1, b""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_protocol_ends_the_session_and_nothing_after_it_is_believed(case: str) -> None:
    fake = Fake().ready()
    call, waiting = fake.submit(), fake.submit()
    fake.frame(*BROKEN[case])
    assert fake.orders == [Order.KILL]
    fake.done(call)
    fake.frame(messages.LATE, 1, b"\1late")
    assert call.completion is None
    assert fake.runs() == [1]
    with pytest.raises(RemoteProtocolError):
        fake.machine.submit(Run(0), "x", None, None)
    fake.text(STDOUT, b"what it printed is real")
    fake.exit(None, 9)
    for each in (call, waiting):
        assert each.completion is not None
        assert each.completion.outcome is Outcome.LOST
        assert not each.completion.survived
        assert isinstance(each.error, RemoteProtocolError)
        assert each.error is fake.machine.error
    assert call.output.joined("stdout") == b"what it printed is real"
    assert call.output.joined("stdout", True) == b""


def test_two_dones_at_once() -> None:
    fake = Fake().ready()
    call = fake.submit()
    fake.machine.on_frame(messages.DONE, call.number, done_body(), fake.now)
    fake.machine.on_frame(messages.DONE, call.number, done_body(), fake.now)
    fake.machine.on_drained(fake.now)
    fake.collect()
    assert Order.KILL in fake.orders
    fake.exit(None, 9)
    assert isinstance(call.error, RemoteProtocolError)


def test_input_while_input_waits() -> None:
    fake = Fake().ready()
    call = fake.submit(stdin="PIPE")
    fake.frame(messages.INPUT, call.number)
    assert fake.orders == []
    fake.frame(messages.INPUT, call.number)
    assert fake.orders == [Order.KILL]


def test_a_fault_of_what_came_along_with_done_is_the_fault_of_the_call() -> None:
    """The link finds it between Done and on_drained: descriptors that did not come."""
    fake = Fake().ready()
    call, waiting = fake.submit(), fake.submit()
    fake.machine.on_frame(messages.DONE, call.number, done_body(), fake.now)
    fake.machine.on_fault(messages.BadMessage("descriptors were announced and did not come"))
    fake.machine.on_drained(fake.now)
    fake.collect()
    assert fake.orders == [Order.KILL]
    assert fake.runs() == [1]
    fake.exit(None, 9)
    for each in (call, waiting):
        assert each.completion is not None
        assert each.completion.outcome is Outcome.LOST
        assert isinstance(each.error, RemoteProtocolError)


# output


def test_output_goes_to_the_call_that_runs() -> None:
    fake = Fake()
    fake.text(STDOUT, b"start")
    fake.ready()
    first, second = fake.submit(), fake.submit()
    fake.text(STDOUT, b"one")
    fake.text(STDERR, b"err")
    fake.done(first, flags=messages.OUTLIVED)
    fake.text(STDOUT, b"two")
    fake.frame(messages.LATE, first.number, b"\1late one")
    fake.machine.on_old_text(first.number, STDERR, b"old pipe")
    fake.done(second)
    fake.text(STDOUT, b"idle")
    assert fake.machine.exit_output.joined("stdout") == b"start"
    assert (first.output.joined("stdout"), first.output.joined("stderr")) == (b"one", b"err")
    assert (first.output.joined("stdout", True), first.output.joined("stderr", True)) == (b"late one", b"old pipe")
    assert (second.output.joined("stdout"), second.output.joined("stdout", True)) == (b"two", b"idle")


def test_held_text_is_the_call_s_when_it_ends() -> None:
    fake = Fake().ready()
    first, second = fake.submit(), fake.submit()
    fake.text(STDOUT, b"a" + barrier(1) + b"held" + TOKEN[:3])
    assert first.output.joined("stdout") == b"a"
    fake.done(first)
    assert first.output.joined("stdout") == b"aheld" + TOKEN[:3]
    assert second.output.events == []


def test_held_text_is_the_call_s_when_the_session_dies() -> None:
    fake = Fake().ready()
    call = fake.submit()
    fake.text(STDERR, barrier(1) + b"last words")
    fake.exit(None, 11)
    assert call.output.joined("stderr") == b"last words"
    assert isinstance(call.error, SessionDied)
    assert call.error.stderr == "last words"


def test_text_that_nobody_holds_the_results_of_is_no_one_else_s() -> None:
    fake = Fake().ready()
    gone = fake.submit().number
    fake.done(gone)
    fake.machine.finished.clear()
    call = fake.submit()
    fake.frame(messages.LATE, gone, b"\1late")
    fake.frame(messages.LATE, 4_000_000, b"\1nobody's")
    assert call.output.events == []
    fake.done(call)


@pytest.mark.parametrize("first", ["barrier", "message"])
def test_rich_output_has_a_place(first: str) -> None:
    fake = Fake().ready()
    call = fake.submit()
    number = 5 | messages.RICH
    fields = {"data": {"text/plain": "x"}, "metadata": {}, "role": "result"}
    if first == "message":
        fake.frame(messages.DISPLAY, call.number, messages.pack_display(number, fields))
    fake.text(STDOUT, b"before" + barrier(number) + b"after")
    fake.text(STDERR, barrier(number))
    if first == "barrier":
        fake.frame(messages.DISPLAY, call.number, messages.pack_display(number, fields))
    fake.done(call)
    ((role, position),) = [(rich.role, rich.position) for rich in call.output.displays]
    assert role == "result"
    assert b"".join(chunk.data for chunk in call.output.events[:position]) == b"before"


# input


def answers(fake: Fake) -> list[bytes]:
    return [data for kind, _, data in fake.sent if kind == messages.STDIN]


def test_input_from_the_call_s_own_text() -> None:
    fake = Fake().ready()
    call = fake.submit(stdin="one\ntwo")
    for expected in (b"\0one\n", b"\0two", b"\1", b"\1"):
        fake.frame(messages.INPUT, call.number)
        assert answers(fake)[-1] == expected


def test_input_that_nobody_answers_is_the_end_of_the_file() -> None:
    fake = Fake().ready()
    call = fake.submit()
    fake.frame(messages.INPUT, call.number)
    assert answers(fake) == []
    fake.at(INPUT_GRACE)
    assert answers(fake) == [b"\1"]
    fake.machine.attended = True
    fake.frame(messages.INPUT, call.number)
    assert answers(fake) == [b"\1", b"\1"]
    fake.machine.write_stdin(b"line\nnext\n", fake.now)
    fake.frame(messages.INPUT, call.number)
    assert answers(fake)[2:] == [b"\0line\n"]


def test_input_that_waits_for_a_line() -> None:
    fake = Fake().ready()
    call = fake.submit(stdin="PIPE")
    fake.frame(messages.INPUT, call.number)
    fake.machine.attended = True
    assert fake.at(1000) == []
    assert answers(fake) == []
    fake.machine.write_stdin(b"line\n", fake.now)
    fake.collect()
    assert answers(fake) == [b"\0line\n"]
    fake.frame(messages.INPUT, call.number)
    fake.machine.close_stdin(fake.now)
    fake.collect()
    assert answers(fake) == [b"\0line\n", b"\1"]


def test_a_callback_is_asked_once_and_outside() -> None:
    fake = Fake().ready()
    call = fake.submit(stdin=lambda prompt, password: "x")
    fake.frame(messages.INPUT, call.number, b"\1")
    assert call.stdin.asks
    assert call.stdin.password
    assert fake.at(1000) == []
    fake.machine.answer_input(call, b"x\n")
    fake.machine.answer_input(call, b"twice\n")
    fake.collect()
    assert answers(fake) == [b"\0x\n"]


# any message in any state

bodies = st.sampled_from([*GOOD.values(), *(data for _, _, data in BROKEN.values())]) | st.binary(max_size=40)


class AnyOrder(RuleBasedStateMachine):
    """Users, the worker, the clock and the kernel do what they like, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = Fake(start_timeout=30.0)
        self.calls: list[Call] = []
        self.completions: dict[int, int] = {}
        self.faulted = False
        self.seen_codes = 0

    @property
    def machine(self) -> SessionMachine:
        return self.fake.machine

    @property
    def alive(self) -> bool:
        return self.machine.phase is not Phase.DEAD

    @rule(timeout=st.sampled_from([None, 0.0, 1.0, 5.0]), stdin=st.sampled_from([None, "PIPE", "a\nb\n"]))
    def submit(self, timeout: float | None, stdin: Any) -> None:
        usable = self.machine.error is None and self.machine.phase not in (Phase.EXITING, Phase.DEAD)
        try:
            call = self.fake.submit(timeout, limit=1000, stdin=stdin)
        except (SessionClosed, SessionDied, LaunchError, RemoteProtocolError):
            assert not usable
            return
        assert usable
        self.calls.append(call)

    @rule()
    @precondition(lambda self: self.machine.phase is Phase.STARTING)
    def becomes_ready(self) -> None:
        self.fake.ready()

    @rule(
        outcome=st.sampled_from(sorted(messages.OUTCOMES)),
        flags=st.sampled_from([0, 0, 0, messages.OUTLIVED, messages.LEAVING]),
        error=st.booleans(),
        after=st.floats(0, 10),
    )
    @precondition(lambda self: self.machine.phase is Phase.RUNNING)
    def the_call_ends(self, outcome: int, flags: int, error: bool, after: float) -> None:
        call = self.machine.current
        assert call is not None
        self.fake.at(after)
        stopped = call.stop_cause
        broken = self.machine._broken
        self.fake.done(call, outcome, flags=flags, extra=failed("ValueError", "x") if error else None)
        if flags & messages.LEAVING or broken:
            assert call.completion is None
            return
        assert call.completion is not None
        if outcome == messages.FINISHED:
            assert call.completion.outcome is Outcome.FINISHED
        if call.completion.outcome is Outcome.TIMED_OUT:
            assert stopped is Outcome.TIMED_OUT
            assert outcome == messages.INTERRUPTED
            assert isinstance(call.error, CallTimeout)

    @rule(kind=st.sampled_from(sorted(GOOD)), number=st.integers(0, 4), data=bodies)
    @precondition(lambda self: self.alive)
    def any_frame(self, kind: int, number: int, data: bytes) -> None:
        may = messages.WORKER_MAY_SEND.get(self.machine.phase.value, ())
        current = self.machine.current
        believed = not self.machine._broken
        orders = len(self.fake.orders)
        self.fake.frame(kind, number, data)
        wrong = kind not in may or (
            kind in (messages.DONE, messages.INPUT, messages.DISPLAY) and (current is None or current.number != number)
        )
        if believed and wrong:
            assert Order.KILL in self.fake.orders[orders:]
            if not self.faulted and not isinstance(self.machine.error, LaunchError):  # which came first
                assert isinstance(self.machine.error, RemoteProtocolError)
            self.faulted = True
        elif not believed:
            assert self.fake.orders[orders:] == []

    @rule(stream=st.sampled_from([STDOUT, STDERR]), number=st.integers(0, 3), text=st.binary(max_size=8))
    @precondition(lambda self: self.alive)
    def text(self, stream: int, number: int, text: bytes) -> None:
        self.fake.text(stream, text + barrier(number)[: 24 if number else 5])
        self.machine.on_old_text(number, stream, text)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 40.0]))
    @precondition(lambda self: self.alive)
    def time_goes_by(self, seconds: float) -> None:
        self.fake.at(seconds)
        due = self.machine.next_deadline()
        assert due is None or due > self.fake.now

    @rule()
    @precondition(lambda self: self.alive)
    def eof(self) -> None:
        self.machine.on_eof(self.fake.now)

    @rule(index=st.integers(0, 9))
    def interrupt(self, index: int) -> None:
        call = self.calls[index] if index < len(self.calls) else None
        sent = self.machine.interrupt(self.fake.now, call)
        current = self.machine.current
        assert sent == (current is not None and call in (None, current))
        self.fake.collect()

    @rule(index=st.integers(0, 9))
    @precondition(lambda self: self.calls)
    def cancel(self, index: int) -> None:
        call = self.calls[index % len(self.calls)]
        waiting = call.number not in self.fake.runs() and call.completion is None
        assert self.machine.cancel(call) == waiting
        assert call.completion is not None or call.number in self.fake.runs()

    @rule(cause=st.sampled_from([Outcome.INTERRUPTED, Outcome.TIMED_OUT]), index=st.integers(0, 9))
    @precondition(lambda self: self.calls)
    def stop(self, cause: Outcome, index: int) -> None:
        self.machine.stop(self.calls[index % len(self.calls)], self.fake.now, cause)
        self.fake.collect()

    @rule(line=st.sampled_from([b"line\n", b"no end", b""]))
    def write_stdin(self, line: bytes) -> None:
        self.machine.write_stdin(line, self.fake.now)
        self.fake.collect()

    @rule()
    def close_stdin(self) -> None:
        self.machine.close_stdin(self.fake.now)
        self.fake.collect()

    @rule(how=st.sampled_from(["exit", "terminate", "kill"]))
    def end(self, how: str) -> None:
        {"exit": lambda: self.machine.exit(3), "terminate": self.machine.terminate, "kill": self.machine.kill}[how]()
        self.fake.step()

    @rule(report=st.sampled_from([(0, None), (3, None), (None, 9), (None, 64), (None, None)]))
    def exits(self, report: tuple[int | None, int | None]) -> None:
        self.fake.exit(*report)
        assert self.machine.phase is Phase.DEAD
        assert self.machine.error is not None
        assert self.machine.next_deadline() is None
        assert self.machine.current is None
        assert not self.machine.is_busy

    def completed(self, call: Call) -> int:
        return sum(1 for each in self.machine.finished if each is call)

    @invariant()
    def every_call_completes_once_and_is_told_so(self) -> None:
        for call in self.calls:
            assert self.completed(call) == (call.completion is not None)
            if call.completion is not None:
                assert call.state is State.DONE
                assert call.completion.call == call.number
                assert call.deadline is None
                assert not call.input_waiting
            elif not self.alive:
                raise AssertionError(f"call {call.number} was forgotten")
        assert [code.call for code in self.machine.codes] == [call.number for call in self.machine.finished]

    @invariant()
    def one_call_runs_at_a_time(self) -> None:
        runs = self.fake.runs()
        assert runs == sorted(set(runs))
        open_calls = [call for call in self.calls if call.number in runs and call.completion is None]
        assert len(open_calls) <= 1
        assert (self.machine.current is not None) == bool(open_calls)

    @invariant()
    def only_what_may_be_sent_was_sent(self) -> None:
        running = 0
        for kind, call, _ in self.fake.sent:
            if kind == messages.RUN:
                running = call
            elif kind in (messages.INTERRUPT, messages.STDIN):
                assert call == running

    @invariant()
    def steps_are_a_ladder(self) -> None:
        for call in self.calls:
            assert call.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)[: len(call.steps)]
            assert len(call.output.joined("stdout")) <= 1000

    def teardown(self) -> None:
        self.fake.exit(None, 9)
        self.every_call_completes_once_and_is_told_so()
        for call in self.calls:
            assert call.completion is not None
            if call.completion.outcome in (Outcome.LOST, Outcome.KILLED, Outcome.TIMED_OUT, Outcome.CANCELLED):
                assert call.error is not None


AnyOrder.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0, 12)), min_size=1, max_size=6), st.floats(0, 5), st.floats(0, 5))
@settings(max_examples=100, deadline=None)
def test_ladder_times_for_any_timeouts(
    pairs: list[tuple[float, float]], interrupt: float, terminate: float
) -> None:
    """(timeout, how long the call takes): each step is taken at its time, counted from the call's own turn."""
    fake = Fake(ladder=Ladder(interrupt, terminate)).ready()
    for timeout, takes in pairs:
        call = fake.submit(timeout)
        steps = list(itertools.accumulate([timeout, interrupt, terminate]))
        fake.at(takes)
        slack = 1e-6
        due = sum(1 for at in steps if at <= takes - slack)
        possible = sum(1 for at in steps if at <= takes + slack)
        assert due <= len(call.steps) <= possible
        fake.done(call)
        assert call.completion is not None
        assert call.completion.outcome is Outcome.FINISHED
    assert not math.isnan(fake.now)
