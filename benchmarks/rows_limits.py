"""Code that takes what it can, and how far it gets."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from unittest import mock

from extsession import ExtSession, Limits
from extsession._launch import cgroup

from .harness import OURS, Bench, Goal, Missing, row

_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
_STEPS = """
import os, time
count = os.open({path!r}, os.O_WRONLY | os.O_APPEND)
def hoard(size):
    kept = []
    for _ in range(20):
        kept.append(bytearray(b"x") * (size * 10**6))
        os.write(count, bytes(size))
        time.sleep(0.05)
    time.sleep(60)
"""
_ALONE = "hoard(100)"
_FOUR = """
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        hoard(25)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""
_LIMIT, _PATIENCE = 500_000_000, 30.0
OTHER, OWN = "an eval in another session, the slowest", "an eval in another session, median"


@row(
    "bomb",
    "a fork bomb in a session that may have 50 processes, for a second: what others notice",
    unit="ms",
    goals=[Goal(OTHER, 0.1)],
)
def bomb(bench: Bench) -> None:
    bench.rounds, bench.warm_up = 0, False
    slowest: list[float] = []
    usual: list[float] = []
    for _ in range(bench.pick(5, 2)):
        with ExtSession() as other, ExtSession(limits=Limits(processes=50)) as session:
            other.eval("1")
            held = session.limits_in_force()["processes"].mechanism
            results = session.execute(_BOMB)
            taken: list[float] = []
            end = time.perf_counter() + 1.0
            while time.perf_counter() < end:
                begin = time.perf_counter()
                other.eval("1")
                taken.append(time.perf_counter() - begin)
            session.kill()
            results.wait(_PATIENCE)
        slowest.append(max(taken))
        usual.append(sorted(taken)[len(taken) // 2])
    bench.notes.append(f"held by: {held}")
    bench.record(OTHER, OURS, slowest)
    bench.record(OWN, OURS, usual)


_ONE, _WATCHED, _GROUPED = "RLIMIT_DATA, one process", "the watch, four processes", "a control group, four processes"


@row(
    "hog",
    "what code gets that takes 100 MB each 50 ms, where a session may have 500 MB",
    unit="MB",
    goals=[Goal(name, 700e6) for name in (_ONE, _WATCHED, _GROUPED)],
)
def hog(bench: Bench) -> None:
    bench.rounds = bench.pick(5, 2)
    bench.add(_ONE, OURS, functools.partial(_hog, _ALONE, groups=False))
    bench.add(_WATCHED, OURS, functools.partial(_hog, _FOUR, groups=False))
    with bench.optional(_GROUPED):
        if cgroup.where("memory") is None:
            raise Missing("no control groups can be made here")
        bench.add(_GROUPED, OURS, functools.partial(_hog, _FOUR, groups=True))


@contextlib.contextmanager
def _without_groups(groups: bool) -> Iterator[None]:
    with contextlib.nullcontext() if groups else mock.patch.object(cgroup, "where", lambda limit: None):
        yield


def _hog(source: str, groups: bool) -> float:
    """Bytes that it has filled. One process alone gets a MemoryError, and its session goes on; others end it."""
    limits = Limits(memory=_LIMIT)
    with tempfile.NamedTemporaryFile() as count, _without_groups(groups), ExtSession(limits=limits) as session:
        if groups != ("group" in session.limits_in_force()["memory"].mechanism):
            raise RuntimeError("held by another mechanism")
        session.execute(_STEPS.format(path=count.name)).wait()
        results = session.execute(source).wait(_PATIENCE)
        if source is _ALONE:
            if not isinstance(results.error, MemoryError) or session.eval("6 * 7") != 42:
                raise RuntimeError(f"no MemoryError: {results.completion}")
        elif results.completion.limit != "memory":
            raise RuntimeError(f"not ended by its limit: {results.completion}")
        return os.stat(count.name).st_size * 1e6
