"""The rules of Limits with a clock in the test's hand: what is broken, when somebody looks, what becomes of the call."""

from __future__ import annotations

import math
from typing import Any

import pytest

from extsession import CallTimeout, LaunchError, LimitExceeded, Limits, SessionDied
from extsession._engine import limits as rules_of
from extsession._engine.call import Call
from extsession._engine.completion import Outcome, Step
from extsession._engine.limits import Rules
from extsession._engine.machine import Order, Phase, SessionMachine
from extsession._engine.recovery import Recovery
from extsession._launch.base import ExitReport
from extsession._launch.samples import Sample
from extsession._protocol import messages
from extsession._protocol.messages import STDOUT, Done, Run
from extsession._protocol.records import ErrorInfo
from extsession.options import Ladder

MB = 2**20
TOKEN = b"\xff0123456789abcde"
LADDER = Ladder(interrupt=2.0, terminate=1.0)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_of, "_CORES", 2)


class Fake:
    """A machine with limits, and the time. `orders` are those since the last look."""

    def __init__(self, is_root: bool = False, ready: dict[str, Any] | None = None, **limits: Any) -> None:
        self.now = 1000.0
        self.machine = SessionMachine(
            token=TOKEN, python="python3", command=["python3"], first=b"", now=self.now, start_timeout=30.0,
            ladder=LADDER, rules=Rules(Limits(**limits), is_root),
        )  # fmt: skip
        self.orders: list[Order] = []
        fields = {"protocol": messages.VERSION, "pid": 4242, "encoding": "utf-8", **(ready or {})}
        self.frame(messages.READY, 0, messages.pack_ready(fields))

    def collect(self) -> list[Order]:
        orders, self.machine.orders = self.machine.orders, []
        self.orders += orders
        self.machine.outgoing.clear()
        return orders

    def frame(self, kind: int, call: int = 0, data: bytes = b"") -> None:
        self.machine.on_frame(kind, call, data, self.now)
        if self.machine.draining is not None:
            self.machine.on_drained(self.now)
        self.collect()

    def start(self, timeout: float | None = None, limit: int | None = None) -> Call:
        call = self.machine.submit(Run(messages.EXEC, 0, "x"), "x", timeout, limit)
        self.machine.advance(self.now)
        self.collect()
        return call

    def done(self, call: Call, outcome: int = messages.FINISHED, **fields: Any) -> None:
        self.frame(messages.DONE, call.number, b"".join(map(bytes, Done(outcome, **fields).encode())))

    def interrupted(self, call: Call, **fields: Any) -> None:
        error = {"error": ErrorInfo("KeyboardInterrupt", "").to_wire()}
        self.done(call, messages.INTERRUPTED, extra=error, **fields)

    def text(self, size: int) -> None:
        self.machine.on_text(STDOUT, b"x" * size, self.now)

    def sample(self, cpu: float = 0.0, memory: int = 0, tasks: int = 1, **more: Any) -> None:
        self.machine.on_sample(Sample(self.now, cpu, memory, tasks, **more), self.now)
        self.collect()

    def due(self) -> float:
        """Seconds until something is due."""
        found = self.machine.next_deadline()
        return math.inf if found is None else found - self.now

    def at(self, seconds: float) -> list[Order]:
        """Go on by so many seconds and let what is due fire; the orders."""
        self.now += seconds
        self.machine.on_time(self.now)
        return self.collect()

    def exit(self, code: int | None = None, signal: int | None = 9, **more: Any) -> None:
        self.machine.on_exit(ExitReport(code, signal, **more), self.now)
        self.collect()

    @property
    def rules(self) -> Rules:
        assert self.machine.rules is not None
        return self.machine.rules


def broken(call: Call) -> tuple[str | None, float | None, float | None, bool | None]:
    assert call.completion is not None
    assert call.completion.outcome is Outcome.OVER_LIMIT
    error = call.error
    assert type(error) is LimitExceeded
    assert error.limit == call.completion.limit
    assert f"over limit: {error.limit}" in str(error)
    assert f"over limit: {error.limit}" in str(call.completion)
    return error.limit, error.allowed, error.reached, error.survived


# calls


def test_wall_ends_a_call_by_the_ladder() -> None:
    fake = Fake(wall=5)
    call = fake.start()
    assert fake.due() == 5
    assert fake.at(4.9) == []
    assert fake.at(0.1) == [Order.INTERRUPT]
    fake.interrupted(call, wall=5.001)
    assert broken(call) == ("wall", 5.0, 5.001, True)
    assert fake.machine.phase is Phase.IDLE
    assert fake.due() == math.inf


def test_wall_goes_on_to_the_end_of_the_session() -> None:
    fake = Fake(wall=5)
    call, after = fake.start(), fake.start()
    assert fake.at(5) == [Order.INTERRUPT]
    assert fake.at(2) == [Order.TERMINATE]
    assert fake.at(1) == [Order.KILL]
    fake.exit()
    assert broken(call) == ("wall", 5.0, 5.0, False)
    assert call.completion is not None
    assert call.completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert isinstance(fake.machine.error, SessionDied)
    assert fake.machine.error.limit == "wall"
    assert after.error is fake.machine.error


def test_the_sooner_of_timeout_and_wall_ends_a_call_and_says_so() -> None:
    fake = Fake(wall=5)
    call = fake.start(timeout=3)
    assert fake.due() == 3
    fake.at(3)
    fake.interrupted(call)
    assert call.completion is not None
    assert call.completion.outcome is Outcome.TIMED_OUT
    assert call.completion.limit == "timeout"
    assert isinstance(call.error, CallTimeout)
    call = fake.start(timeout=8)
    fake.at(5)
    fake.interrupted(call)
    assert broken(call)[0] == "wall"


def test_a_call_that_has_finished_is_not_over_wall() -> None:
    fake = Fake(wall=5)
    call = fake.start()
    fake.now += 60  # nobody has looked for a minute: what had arrived is taken in first
    fake.done(call, wall=4.0)
    assert call.completion is not None and call.completion.ok
    call = fake.start()
    fake.at(5)
    fake.done(call, wall=5.1)  # it was just about to end
    assert call.completion is not None and call.completion.ok


def test_cpu_is_of_the_call_and_looked_at_when_it_can_be_reached() -> None:
    fake = Fake(cpu=4)
    call = fake.start()
    assert fake.at(0.005) == [Order.SAMPLE]  # where the count begins: what is over sooner takes no look
    fake.sample(cpu=10.01)  # of which the call can have used no more than two processors give in that time
    assert fake.due() == pytest.approx(1.995)
    fake.now -= 0.005
    assert fake.at(2) == [Order.SAMPLE]
    assert fake.due() == math.inf  # it is on its way
    fake.sample(cpu=12)
    assert fake.due() == pytest.approx(1)
    fake.at(1)
    fake.sample(cpu=14.1)
    assert fake.orders[-1] is Order.INTERRUPT
    fake.interrupted(call)
    limit, allowed, reached, survived = broken(call)
    assert (limit, allowed, survived) == ("cpu", 4.0, True)
    assert reached == pytest.approx(4.1)
    assert fake.due() == math.inf
    fake.start()
    fake.sample(cpu=14.2)
    assert fake.machine.current is not None
    assert fake.machine.current.stop_cause is None


def test_output_ends_a_call_and_is_exact_also_if_it_finished() -> None:
    fake = Fake(output=100)
    call = fake.start(limit=100)
    fake.text(100)
    assert fake.due() == math.inf
    fake.text(1)
    assert fake.due() < 0
    assert fake.at(0) == [Order.INTERRUPT]
    fake.text(50)
    fake.interrupted(call)
    assert broken(call) == ("output", 100, 151, True)
    assert (len(call.output.joined("stdout")), call.output.dropped) == (100, 51)
    call = fake.start(limit=100)
    fake.text(101)
    fake.done(call)
    assert broken(call) == ("output", 100, 101, True)
    call = fake.start(limit=100)
    fake.text(100)
    fake.done(call)
    assert call.completion is not None and call.completion.ok


# the session


def test_idle_counts_from_the_last_call() -> None:
    fake = Fake(idle=10)
    assert fake.due() == 10
    fake.now += 9
    call = fake.start()
    fake.now += 100
    fake.machine.on_time(fake.now)
    fake.done(call)
    assert fake.due() == 10
    assert fake.at(10) == [Order.KILL]
    assert fake.machine.is_ending
    assert fake.due() == math.inf
    fake.exit()
    assert isinstance(fake.machine.error, SessionDied)
    assert fake.machine.error.limit == "idle"


@pytest.mark.parametrize("running", [True, False])
def test_session_wall(running: bool) -> None:
    fake = Fake(session_wall=10, wall=60)
    call = fake.start()
    if not running:
        fake.done(call)
    assert fake.at(10) == [Order.KILL]
    fake.exit()
    assert isinstance(fake.machine.error, SessionDied)
    assert fake.machine.error.limit == "session_wall"
    if running:
        assert broken(call) == ("session_wall", 10.0, 10.0, False)


def test_session_cpu_adds_up_over_calls_that_are_too_short_to_be_looked_at() -> None:
    fake = Fake(session_cpu=10)
    for _ in range(5):  # 5 s of two processors could be all
        call = fake.start()
        assert Order.SAMPLE not in fake.orders
        fake.now += 0.9
        fake.done(call)
        fake.now += 1000  # rest does not count
    fake.start()
    assert fake.due() == pytest.approx(0.5)
    assert fake.at(0.5) == [Order.SAMPLE]
    fake.sample(cpu=10.0)
    assert fake.orders[-1] is Order.KILL


def test_sigxcpu_is_the_limit_too() -> None:
    fake = Fake(session_cpu=10)
    call = fake.start()
    fake.exit(signal=24)
    assert broken(call) == ("session_cpu", 10.0, 10.0, False)


def test_memory_is_looked_at_before_it_can_be_reached() -> None:
    fake = Fake(memory=500 * MB)
    call = fake.start()
    first = fake.due()
    assert 0.05 < first < 0.2
    assert fake.at(first) == [Order.SAMPLE]
    fake.sample(memory=450 * MB)
    assert 0.005 <= fake.due() < 0.02
    fake.sample(memory=501 * MB, tasks=5)
    assert fake.orders[-1] is Order.KILL
    fake.exit()
    assert broken(call) == ("memory", 500 * MB, 501 * MB, False)
    assert isinstance(fake.machine.error, SessionDied)
    assert fake.machine.error.limit == "memory"


def test_a_look_that_takes_long_is_not_taken_often() -> None:
    fake = Fake(memory=500 * MB)
    fake.start()
    fake.sample(memory=100 * MB, cost=0.05)
    assert fake.due() >= 1.0


def test_the_kernel_holds_memory() -> None:
    fake = Fake(memory=500 * MB)
    fake.machine.on_confined(frozenset(["memory"]))
    call = fake.start()
    assert fake.due() == pytest.approx(0.1)
    fake.sample(memory=600 * MB)  # shared pages, counted twice: not our business
    assert Order.KILL not in fake.orders
    fake.sample(memory=400 * MB, oom_kills=1)
    assert fake.orders[-1] is Order.KILL
    fake.exit(oom=True)
    assert broken(call) == ("memory", 500 * MB, 500 * MB, False)


def test_the_kernel_has_ended_it_before_anybody_looked() -> None:
    fake = Fake(memory=500 * MB)
    call = fake.start()
    fake.exit(oom=True)
    assert broken(call)[0] == "memory"


def test_processes() -> None:
    fake = Fake(processes=20)
    call = fake.start()
    assert fake.due() <= 0.01
    fake.sample(tasks=20)
    assert Order.KILL not in fake.orders
    fake.sample(tasks=21)
    assert fake.orders[-1] is Order.KILL
    fake.exit()
    assert broken(call) == ("processes", 20, 21, False)


def test_root_needs_a_control_group_for_processes() -> None:
    fake = Fake(is_root=True, processes=20)
    fake.machine.on_confined(frozenset())
    assert fake.collect() == [Order.KILL]
    assert isinstance(fake.machine.error, LaunchError)
    assert "Limits.processes=20" in str(fake.machine.error)
    fake = Fake(is_root=True, processes=20)
    fake.machine.on_confined(frozenset(["processes"]))
    fake.start()
    assert fake.due() == math.inf  # nobody needs to look


def test_a_limit_that_the_worker_cannot_set_refuses_the_session() -> None:
    fake = Fake(memory=1000, ready={"unheld": "memory", "why": "it has more already"})
    assert Order.KILL in fake.orders
    assert fake.machine.phase is Phase.STARTING
    fake.exit()
    assert isinstance(fake.machine.error, LaunchError)
    assert "Limits.memory=1000" in str(fake.machine.error)
    assert "it has more already" in str(fake.machine.error)


# rest


def test_an_idle_session_is_not_looked_at() -> None:
    fake = Fake(memory=500 * MB, processes=20, cpu=5, session_cpu=100, wall=5, output=100)
    assert fake.due() == math.inf
    call = fake.start()
    fake.done(call)
    assert fake.due() == math.inf


def test_what_a_call_has_left_is_looked_at_until_it_is_gone() -> None:
    fake = Fake(memory=500 * MB)
    call = fake.start()
    fake.done(call, flags=messages.OUTLIVED)
    assert fake.due() < 1
    fake.at(1)
    fake.sample(memory=MB, tasks=3)
    assert fake.due() < 1
    call = fake.start()
    fake.done(call)  # says nothing of processes that have left their parent
    assert fake.due() < 1
    fake.at(1)
    fake.sample(memory=MB, tasks=1)
    assert fake.due() == math.inf
    call = fake.start()
    fake.done(call, flags=messages.OUTLIVED)
    fake.sample(memory=600 * MB, tasks=2)
    assert fake.orders[-1] is Order.KILL
    fake.exit()
    assert isinstance(fake.machine.error, SessionDied)
    assert fake.machine.error.limit == "memory"


def test_a_sample_just_after_a_call_may_miss_what_it_has_left() -> None:
    """A daemon is nobody's for a moment: its parent has ended, and the look at orphans is a bit older than that."""
    fake = Fake(memory=500 * MB)
    call = fake.start()
    fake.done(call, flags=messages.OUTLIVED)
    fake.at(0.01)
    fake.sample(memory=MB, tasks=1)
    assert fake.due() < 1
    fake.at(1)
    fake.sample(memory=600 * MB, tasks=2)
    assert fake.orders[-1] is Order.KILL


def test_a_sample_of_a_session_that_is_gone() -> None:
    fake = Fake(memory=500 * MB)
    fake.start()
    fake.machine.on_sample(None, fake.now)
    assert fake.collect() == []
    assert fake.due() > 0


# recovery


@pytest.mark.parametrize("limit, value, goes_on", [("memory", 500 * MB, True), ("session_wall", 10.0, False)])
def test_what_is_brought_back(limit: str, value: Any, goes_on: bool) -> None:
    fake = Fake(**{limit: value})
    recovery = fake.machine.recovery = Recovery()
    recovery.checkpoint = object()  # type: ignore[assignment]
    fake.machine.submit(Run(messages.EXEC, 0, "x"), "x", None, None)
    fake.machine.advance(fake.now)
    call = fake.machine.current
    assert call is not None
    fake.collect()
    if limit == "memory":
        fake.sample(memory=501 * MB, cpu=3)
    else:
        fake.at(10)
    assert fake.orders[-1] is Order.KILL
    fake.machine.on_exit(ExitReport(None, 9), fake.now, final=False)
    assert fake.machine.is_to_revive is goes_on
    if goes_on:
        assert call.completion is None  # the session does not go on yet
        fake.machine.revive(TOKEN, b"", fake.now)
        assert fake.rules.breach is None
        assert not fake.machine.is_ending
        fake.frame(messages.READY, 0, messages.pack_ready({"protocol": messages.VERSION, "pid": 4712}))
    assert broken(call)[3] is goes_on
    if goes_on:
        assert fake.machine.error is None
    else:
        assert isinstance(fake.machine.error, SessionDied)
        assert fake.machine.error.limit == limit


def test_cpu_of_a_session_goes_on_after_recovery() -> None:
    fake = Fake(session_cpu=10)
    fake.start()
    fake.sample(cpu=6)
    fake.rules.on_revival()
    fake.rules.on_ready({}, fake.now)
    fake.rules.on_call(fake.now)
    assert fake.rules.on_sample(Sample(fake.now, 3.9, 0, 1)) is None
    assert fake.rules.on_sample(Sample(fake.now, 4.1, 0, 1)) is not None


# changes


def change(fake: Fake, **limits: Any) -> dict[str, int]:
    new = Limits(**limits)
    changes = fake.rules.changes_of_kernel(new)
    fake.rules.change(new, fake.now)
    return changes


def test_what_the_controller_holds_can_be_changed() -> None:
    fake = Fake(wall=5, idle=10, output=10, cpu=1)
    assert change(fake, wall=7, idle=3, cpu=2) == {}
    assert fake.due() == 3
    call = fake.start()
    fake.text(1000)
    fake.done(call)
    assert call.completion is not None and call.completion.ok


@pytest.mark.parametrize("name, told", [("memory", 500 * MB), ("file_size", 1000)])
def test_resource_limits_can_only_be_lowered(name: str, told: int) -> None:
    fake = Fake(ready={f"limit_{name}": told}, **{name: told})
    for value in (told + 1, None):
        with pytest.raises(ValueError, match=f"Limits.{name} cannot become {value}.*only be lowered"):
            change(fake, **{name: value})
    assert change(fake, **{name: told // 2}) == {name: told // 2}
    with pytest.raises(ValueError, match="only be lowered"):
        change(fake, **{name: told})


def test_open_files_stay_and_processes_must_be_there_from_the_start() -> None:
    with pytest.raises(ValueError, match=r"Limits.open_files cannot become 50 .*stays"):
        change(Fake(open_files=100), open_files=50)
    with pytest.raises(ValueError, match=r"Limits.processes cannot become 5 .*started with it"):
        change(Fake(), processes=5)
    fake = Fake(processes=5)
    assert change(fake, processes=50) == {}
    fake.machine.on_confined(frozenset(["processes"]))
    assert change(fake, processes=5) == {"processes": 5}
    assert change(fake, processes=None) == {"processes": 2**62}


# the value


@pytest.mark.parametrize("name", ["wall", "cpu", "session_wall", "session_cpu", "idle"])
def test_seconds_are_checked(name: str) -> None:
    for wrong in ("1", True):
        with pytest.raises(TypeError, match=rf"Limits\.{name}"):
            Limits(**{name: wrong})
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match=rf"Limits\.{name}"):
            Limits(**{name: wrong})  # type: ignore[arg-type]
    assert getattr(Limits(**{name: math.inf}), name) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["memory", "processes", "open_files", "file_size", "output"])
def test_numbers_are_checked(name: str) -> None:
    for wrong in ("1", True, 1.5):
        with pytest.raises(TypeError, match=rf"Limits\.{name}"):
            Limits(**{name: wrong})
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match=rf"Limits\.{name}"):
            Limits(**{name: wrong})


def test_open_files_leaves_what_the_session_needs() -> None:
    with pytest.raises(ValueError, match=r"Limits\.open_files .* from 32 up"):
        Limits(open_files=31)
