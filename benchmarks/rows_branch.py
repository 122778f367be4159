"""Branches of a live session, its checkpoints, what recovery costs, and the way back."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable

from extsession import ExtSession

from . import limits
from .harness import LIMIT, OURS, Bench, Goal, latency, row, starts

_HEAPS = ("empty", "100 MB of objects", "1 GB of NumPy", "5 M objects")
_FORK, _FROZEN, _RAW = "fork() of {}", "fork() of {}, frozen", "raw fork of {}"


def _source(heap: str, quick: bool) -> str:
    """What makes a heap; the quick one of the same name is smaller."""
    if heap == "1 GB of NumPy":
        return f"import numpy; data = numpy.ones({(200_000_000 if quick else 2**30) // 8})"
    if heap == "5 M objects":
        return f"data = [float(n) for n in range({1_000_000 if quick else 5_000_000})]"
    return "pass" if heap == "empty" else "data = " + OBJECTS


#: about 100 MB: lists, which the collector knows and goes on knowing, of an int and a text each
OBJECTS = "[[n, str(n)] for n in range(500_000)]"


@row(
    "branch",
    "session.fork() to the branch's Ready, and a plain os.fork() to the child's first byte",
    unit="ms",
    goals=[Goal(_FORK.format(heap), 1.6, _RAW.format(heap)) for heap in _HEAPS],
)
def branch(bench: Bench) -> None:
    count = bench.pick(9, 5)
    for heap in _HEAPS:
        with bench.optional(_FORK.format(heap)):
            if "NumPy" in heap and importlib.util.find_spec("numpy") is None:
                bench.leave_out(_RAW.format(heap), "numpy is not installed")
                continue
            source = _source(heap, bench.quick)
            raw = limits.RawFork(setup=source, frozen=False)
            bench.closing(raw.close)
            bench.add(_RAW.format(heap), LIMIT, functools.partial(starts, raw, lambda _, raw=raw: raw.collect(), count))
            session = bench.enter(ExtSession())
            session.execute(source).wait().raise_for_error()
            bench.add(_FORK.format(heap), OURS, functools.partial(starts, session.fork, ExtSession.close, count))
            bench.add(_FROZEN.format(heap), OURS, functools.partial(_frozen, session, count))
            bench.notes.append(f"{heap}: {_collected(session)}")
    if bench.quick:
        bench.notes.append("quick: 200 MB of NumPy, 1 M objects")


def _frozen(session: ExtSession, count: int) -> float:
    session.execute("import gc; gc.freeze()").wait()
    try:
        return starts(session.fork, ExtSession.close, count)
    finally:
        session.execute("gc.unfreeze()").wait()


def _collected(session: ExtSession) -> str:
    """What the first full collection costs a branch, which is what gc.freeze() in the session is for."""
    texts = []
    session.execute("import gc").wait()
    for name, before, after in (("", "gc.collect()", ""), (" frozen", "gc.freeze()", "gc.unfreeze()")):
        session.execute(before).wait()
        with session.fork() as made:
            begin = time.perf_counter()
            made.execute("gc.collect()").wait()
            took = time.perf_counter() - begin
            private = memory(made, b"Private_Dirty:")
        session.execute(after).wait()
        texts.append(f"{took * 1000:.1f} ms and {private / 1e6:.1f} MB of its own{name}")
    return "a branch's first gc.collect(): " + ", ".join(texts)


def memory(session: ExtSession, label: bytes = b"Pss:") -> int:
    """Bytes of a session's process: its part of what it shares with others, or another line of smaps_rollup."""
    with open(f"/proc/{session.pid}/smaps_rollup", "rb") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(label))


_ALONE = "the session before"
HELD, TOGETHER = "ten checkpoints, {}", "the session and ten checkpoints, {}"
ONE_BY_ONE, AT_ONCE = "changed one by one", "changed all at once"
#: 3 % of the objects take the place of others; all at once, the new ones are made before the old ones go
_CHANGES = {
    ONE_BY_ONE: "for n in range(start, start + count): data[n] = [-n, str(-n)]",
    AT_ONCE: "data[start : start + count] = [[-n, str(-n)] for n in range(start, start + count)]",
}
_WHERE = "start = len(data) * {} // 10; count = len(data) * 3 // 100\n"


@row(
    "checkpoints",
    "memory (PSS) of a session of 100 MB and of ten checkpoints, 3 % of it changed between them",
    unit="MB",
    reference=_ALONE,
    goals=[Goal(TOGETHER.format(how), 160e6) for how in _CHANGES],
)
def checkpoints(bench: Bench) -> None:
    bench.rounds, bench.warm_up = 0, False
    for how, change in _CHANGES.items():
        with ExtSession() as session:
            session.execute("data = " + OBJECTS).wait().raise_for_error()
            if how == ONE_BY_ONE:
                bench.record(_ALONE, OURS, [memory(session)])
            for number in range(10):
                session.checkpoint()
                session.execute(_WHERE.format(number) + change).wait().raise_for_error()
            held = session.statistics().checkpoint_memory
            bench.record(HELD.format(how), OURS, [held])
            bench.record(TOGETHER.format(how), OURS, [held + memory(session)])
    bench.notes.append(
        "counted: PSS of the session's process and of the ten that wait, each with its part of what they share; "
        "not their warden's"
    )


WITHOUT, WITH = "a call", "a call, recover=True"
IDLE_WITHOUT, IDLE_WITH = "a call after 5 ms", "a call after 5 ms, recover=True"
_REST = 0.005


@row(
    "recover",
    "a call of a session that is brought back after a crash, and of one that is not",
    unit="us",
    reference=WITHOUT,
)
def recover(bench: Bench) -> None:
    calls, rests = bench.pick((300, 20), (100, 10))
    for name, idle, option in ((WITHOUT, IDLE_WITHOUT, False), (WITH, IDLE_WITH, True)):
        session = bench.enter(ExtSession(recover=option))
        call = functools.partial(_no_op, session)
        bench.add(name, OURS, functools.partial(latency, call, calls))
        bench.add(idle, OURS, functools.partial(_rested, call, rests))


def _no_op(session: ExtSession) -> None:
    session.execute("x = 1").wait()


def _rested(call: Callable[[], None], count: int) -> float:
    return starts(call, lambda _: time.sleep(_REST), count)


BACK, LARGE = "rollback", "rollback, 100 MB of objects"
RECOVERED = "a crash, to the next call's end"


@row("rollback", "back to a checkpoint, to the first reply", unit="ms", reference=BACK)
def rollback(bench: Bench) -> None:
    count = bench.pick(9, 5)
    for name, source in ((BACK, "pass"), (LARGE, "data = " + OBJECTS)):
        session = bench.enter(ExtSession())
        session.execute(source).wait().raise_for_error()
        checkpoint = session.checkpoint()

        def back(session: ExtSession = session, checkpoint: object = checkpoint) -> None:
            session.rollback(checkpoint)
            session.execute("pass").wait()

        bench.add(name, OURS, functools.partial(starts, back, lambda _: None, count))
    crashing = bench.enter(ExtSession(recover=True))

    def crash() -> None:
        crashing.execute("import os; os._exit(1)").wait()
        crashing.execute("pass").wait().raise_for_error()

    bench.add(RECOVERED, OURS, functools.partial(starts, crash, lambda _: None, count))
