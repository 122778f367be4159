"""Starts: a session to its first reply, and one-shots a second."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import extsession
from extsession import ExtSession, exteval

from . import limits, ours, peers
from .harness import LIMIT, OURS, PEER, Bench, Goal, row, seconds

BARE, FULL = "python -I -S -c pass", "python -c pass"
SPAWNED = "extsession, spawned"
_STARTED = (peers.PipeWorker, peers.Execnet, peers.Executor, peers.Loky, peers.IPyKernel)


def _start_session() -> float:
    with contextlib.ExitStack() as end:
        begin = time.perf_counter()
        session = end.enter_context(ExtSession(**ours.SPAWNED))
        session.execute("pass").wait()
        return time.perf_counter() - begin


def _start_peer(kind: type[peers.Peer]) -> float:
    begin = time.perf_counter()
    peer = kind()
    try:
        peer.run("exec", "pass")
        return time.perf_counter() - begin
    finally:
        peer.close()


@row(
    "start",
    "start to the first reply, closing not timed",
    unit="ms",
    reference=BARE,
    goals=[Goal(SPAWNED, 1.5, BARE)],
)
def start(bench: Bench) -> None:
    bench.add(BARE, LIMIT, lambda: seconds(lambda: limits.python("-I", "-S", "-c", "pass")))
    bench.add(FULL, LIMIT, lambda: seconds(lambda: limits.python("-c", "pass")))
    bench.add(SPAWNED, OURS, _start_session)
    for kind in _STARTED:
        with bench.optional(kind.name):
            kind.require()
            bench.add(kind.name, PEER, lambda kind=kind: _start_peer(kind))
    bench.notes.append("`python` is timed to its exit, as nothing of it can reply")


_EVALUATE = "print(1+1)"
ONE, FOUR = "exteval, 1 thread", "exteval, 4 threads"
FORK_ONE, FORK_FOUR = "raw fork + exit, 1 thread", "raw fork + exit, 4 threads"
PYTHON_ONE, PYTHON_FOUR = "python -c, 1 thread", "python -c, 4 threads"
BARE_ONE, BARE_FOUR = "python -I -S -c, 1 thread", "python -I -S -c, 4 threads"


@row(
    "oneshot",
    "one-shots of 1+1, a second",
    unit="/s",
    reference=PYTHON_FOUR,
    goals=[Goal(FOUR, 1 / 10, PYTHON_FOUR, "the time of one; from a template that is there already")],
)
def oneshot(bench: Bench) -> None:
    bench.rounds = bench.pick(5, 3)
    shots: int = bench.pick(40, 12)
    extsession.warm_up()

    def each(work: Callable[[], object], threads: int) -> Callable[[], float]:
        def measure() -> float:
            with ThreadPoolExecutor(threads) as pool:
                begin = time.perf_counter()
                list(pool.map(lambda _: work(), range(shots)))
                took = time.perf_counter() - begin
            return took / shots

        return measure

    def evaluate() -> None:
        if exteval("1+1") != 2:
            raise ValueError("exteval('1+1') is not 2")

    forks = [bench.enter(contextlib.closing(limits.RawFork("1+1"))) for _ in range(4)]
    free = queue.SimpleQueue[limits.RawFork]()
    for fork in forks:
        free.put(fork)

    def fork_one() -> None:
        fork = free.get()
        fork()
        fork.collect()
        free.put(fork)

    for one, four, kind, work in (
        (FORK_ONE, FORK_FOUR, LIMIT, fork_one),
        (ONE, FOUR, OURS, evaluate),
        (PYTHON_ONE, PYTHON_FOUR, PEER, lambda: limits.python("-c", _EVALUATE)),
        (BARE_ONE, BARE_FOUR, LIMIT, lambda: limits.python("-I", "-S", "-c", _EVALUATE)),
    ):
        bench.add(one, kind, each(work, 1))
        bench.add(four, kind, each(work, 4))
