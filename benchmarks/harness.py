"""Interleaved timing, ratios, goals and the table.

What is compared is timed in turn within each round, in an order that rotates, so that noise hits all alike; a
ratio is the median of the ratios within the rounds. All amounts are "less is better": seconds, bytes, counts.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

#: what an amount is divided by to be shown in a unit; "/s" is shown as its inverse
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "/s": 1.0, "MB": 1e6, "": 1.0}

OURS, LIMIT, PEER = "ours", "limit", "peer"


#: seconds that preparing a row, and one contender's turn, may take before they are given up
PREPARE_BOUND, TURN_BOUND = 300.0, 60.0


class TookTooLong(Exception):
    """A contender, or preparing a row, was given up."""


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """TookTooLong in the block after so many seconds. In the main thread; elsewhere there is no bound."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Missing(Exception):
    """What is compared with is not on this machine; the text says what."""


@dataclass(frozen=True)
class Goal:
    """`of` takes at most `factor` times what `against` takes; or, without `against`, at most `factor` (s, B, 1)."""

    of: str
    factor: float
    against: str = ""
    note: str = ""


@dataclass
class Contender:
    """One thing that is timed: `measure` gives one round's amount."""

    name: str
    kind: str
    unit: str
    measure: Callable[[], float] | None = None
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Verdict:
    """What became of a goal; `reached` is None where it could not be told, and `why` says so."""

    goal: Goal
    reached: float | None
    why: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.reached is None else self.reached <= self.goal.factor


@dataclass(frozen=True)
class Row:
    """One row of the table: `prepare` adds to a Bench what is to be compared."""

    name: str
    title: str
    prepare: Callable[[Bench], None]
    reference: str
    unit: str
    goals: tuple[Goal, ...]


ROWS: list[Row] = []


def row(
    name: str, title: str, *, reference: str = "", unit: str = "us", goals: Iterable[Goal] = ()
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Make a function of a Bench a row. reference: the contender that the ratios of the table are to."""

    def register(prepare: Callable[[Bench], None]) -> Callable[[Bench], None]:
        ROWS.append(Row(name, title, prepare, reference, unit, tuple(goals)))
        return prepare

    return register


class Bench:
    """One row while it is measured, and its outcome. Closes what was entered, in reverse order."""

    def __init__(self, subject: Row, quick: bool = False) -> None:
        self.row = subject
        self.quick = quick
        self.rounds = self.pick(9, 5)
        self.warm_up = True
        self.seconds = 0.0
        self.load = 0.0  # of the machine, the mean of before and after: what else runs is in it, and so are we
        self.contenders: dict[str, Contender] = {}
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []
        self._closing = contextlib.ExitStack()

    def pick(self, full: Any, quick: Any) -> Any:
        return quick if self.quick else full

    def add(self, name: str, kind: str, measure: Callable[[], float]) -> None:
        self.contenders[name] = Contender(name, kind, self.row.unit, measure)

    def record(self, name: str, kind: str, samples: Iterable[float], unit: str | None = None) -> None:
        """Take in amounts that were measured elsewhere."""
        self.contenders[name] = Contender(name, kind, self.row.unit if unit is None else unit, None, list(samples))

    def leave_out(self, name: str, why: object) -> None:
        self.left_out[name] = (str(why) or type(why).__name__).splitlines()[0]
        self.contenders.pop(name, None)

    @contextlib.contextmanager
    def optional(self, name: str) -> Iterator[None]:
        """Leave `name` out if the block, which makes it, cannot."""
        try:
            yield
        except Missing as reason:
            self.leave_out(name, reason)
        except Exception as error:
            self.leave_out(name, f"failed: {type(error).__name__}: {error}")

    def enter(self, manager: contextlib.AbstractContextManager[Any]) -> Any:
        return self._closing.enter_context(manager)

    def closing(self, close: Callable[[], object]) -> None:
        self._closing.callback(close)

    def run(self) -> Bench:
        """Prepare the row and time it. What one contender raises leaves that one out."""
        begin = time.monotonic()
        load = os.getloadavg()[0]
        with self._closing:
            with bounded(PREPARE_BOUND):
                self.row.prepare(self)
            if self.warm_up:
                self._round(0, keep=False)
            for number in range(self.rounds):
                self._round(number, keep=True)
        self.seconds = time.monotonic() - begin
        self.load = (load + os.getloadavg()[0]) / 2
        self.contenders = {name: each for name, each in self.contenders.items() if each.samples}
        return self

    def _round(self, number: int, keep: bool) -> None:
        timed = [each for each in self.contenders.values() if each.measure is not None]
        turn = number % max(1, len(timed))
        for each in timed[turn:] + timed[:turn]:
            assert each.measure is not None
            gc.collect()
            try:
                with bounded(TURN_BOUND):
                    amount = each.measure()
            except Exception as error:
                self.leave_out(each.name, f"failed: {type(error).__name__}: {error}")
            else:
                if keep:
                    each.samples.append(amount)

    # the outcome

    def ratios(self, of: str, against: str) -> list[float]:
        """The ratio in each round; of the medians, where there are not as many of the one as of the other."""
        over, under = self.contenders[of], self.contenders[against]
        if len(over.samples) != len(under.samples):
            return [over.median / under.median]
        return [a / b for a, b in zip(over.samples, under.samples, strict=True)]

    def judge(self, goal: Goal) -> Verdict:
        for name in filter(None, (goal.of, goal.against)):
            if name not in self.contenders:
                return Verdict(goal, None, f"{name}: {self.left_out.get(name, 'not measured')}")
        if not goal.against:
            return Verdict(goal, self.contenders[goal.of].median)
        return Verdict(goal, statistics.median(self.ratios(goal.of, goal.against)))

    def verdicts(self) -> list[Verdict]:
        return [self.judge(goal) for goal in self.row.goals]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.row.name,
            "title": self.row.title,
            "seconds": round(self.seconds, 2),
            "load": round(self.load, 2),
            "reference": self.row.reference,
            "contenders": [
                {
                    "name": each.name,
                    "kind": each.kind,
                    "unit": each.unit,
                    "median": each.median,
                    "samples": each.samples,
                }
                for each in self.contenders.values()
            ],
            "goals": [
                {
                    "of": verdict.goal.of,
                    "factor": verdict.goal.factor,
                    "against": verdict.goal.against or None,
                    "note": verdict.goal.note,
                    "reached": verdict.reached,
                    "met": verdict.met,
                    "why": verdict.why,
                }
                for verdict in self.verdicts()
            ],
            "left_out": self.left_out,
            "notes": self.notes,
        }

    def table(self) -> str:
        """The row as text: ratio, median, spread (middle half of the rounds), what it is."""
        head = f"{self.row.name}: {self.row.title}"
        lines = [head, "-" * len(head)]
        reference = self.row.reference
        for each in sorted(self.contenders.values(), key=lambda each: (UNITS[each.unit], each.median)):
            ratio = ""
            if reference in self.contenders and each.unit == self.contenders[reference].unit:
                times = statistics.median(self.ratios(each.name, reference))
                ratio = _digits(1 / times if each.unit == "/s" else times) + " x"
            low, high = sorted((show(quarter, each.unit) for quarter in _quarters(each.samples)), key=_number)
            spread = f"{low} .. {high}" if len(each.samples) > 1 else ""
            amount = f"{show(each.median, each.unit):>9} {each.unit:<3}"
            lines.append(f"{ratio:>9}  {amount} {spread:>19}  {each.kind:<5}  {each.name}")
        for verdict in self.verdicts():
            lines.append(_said(verdict, self.contenders))
        if self.left_out:
            lines.append("left out: " + "; ".join(f"{name} ({why})" for name, why in self.left_out.items()))
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def _said(verdict: Verdict, contenders: dict[str, Contender]) -> str:
    goal = verdict.goal
    word = {None: "unknown", True: "met", False: "MISSED"}[verdict.met]
    if goal.against:
        promise = f"{goal.of} <= {_digits(goal.factor)} x {goal.against}"
        reached = "" if verdict.reached is None else f"{_digits(verdict.reached)} x"
    else:
        unit = contenders[goal.of].unit if goal.of in contenders else ""
        promise = f"{goal.of} <= {show(goal.factor, unit)} {unit}".rstrip()
        reached = "" if verdict.reached is None else f"{show(verdict.reached, unit)} {unit}".rstrip()
    note = f" ({goal.note})" if goal.note else ""
    return f"{word:>9}  {promise}: {reached or verdict.why}{note}"


def show(amount: float, unit: str) -> str:
    """An amount in its unit, with three digits that mean something."""
    return _digits(1 / amount if unit == "/s" else amount / UNITS[unit])


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _digits(value: float) -> str:
    for limit, form in ((10, "%.2f"), (100, "%.1f")):
        if abs(value) < limit and value != 0:
            return form % value if abs(value) >= 0.1 else "%.2g" % value
    return f"{value:,.0f}"


def _quarters(samples: list[float]) -> tuple[float, float]:
    if len(samples) < 2:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


# timing


def latency(operation: Callable[[], Any], calls: int, budget: float = 0.15) -> float:
    """The median seconds of a call, of at most `calls` calls and about `budget` seconds, but of 3 at least."""
    clock = time.perf_counter
    for _ in range(2):  # what ran before has left nothing of this in the caches
        operation()
    times: list[float] = []
    end = clock() + budget
    while len(times) < calls:
        begin = clock()
        operation()
        now = clock()
        times.append(now - begin)
        if now > end and len(times) >= 3:
            break
    return statistics.median(times)


def starts(begin: Callable[[], Any], end: Callable[[Any], object], count: int) -> float:
    """The median seconds of `begin()`, `count` times; `end` of what it returned is not timed."""
    clock = time.perf_counter
    times: list[float] = []
    for _ in range(count):
        before = clock()
        begun = begin()
        times.append(clock() - before)
        end(begun)
        del begun
    return statistics.median(times)


async def latency_async(operation: Callable[[], Awaitable[Any]], calls: int, budget: float = 0.15) -> float:
    """As `latency`, of something to await; warms it up, since a loop of its own is."""
    clock = time.perf_counter
    for _ in range(20):
        await operation()
    times: list[float] = []
    end = clock() + budget
    while len(times) < calls:
        begin = clock()
        await operation()
        now = clock()
        times.append(now - begin)
        if now > end and len(times) >= 3:
            break
    return statistics.median(times)


def seconds(operation: Callable[[], Any]) -> float:
    """The seconds of one call. What it returns lives until the clock has stopped."""
    begin = time.perf_counter()
    kept = operation()
    took = time.perf_counter() - begin
    del kept
    return took


def checked(operation: Callable[[], Any], expected: Any) -> Callable[[], Any]:
    """`operation`, after it has once given what it should."""
    found = operation()
    if found != expected:
        raise ValueError(f"gave {found!r} instead of {expected!r}")
    return operation
