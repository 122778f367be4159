"""Warm starts: sessions that are cloned from a template which is there already, to their first reply.

Closing is not timed, but waited for, with all contenders alike.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import extsession
from extsession import ExtSession

from . import limits, peers
from .harness import LIMIT, OURS, PEER, Bench, Goal, row, seconds, starts

RAW, BARE = "raw fork + reply", "python -I -S -c pass"
TEMPLATE, STOCK = "extsession, template", "extsession, from a stock of 4"
FORKSERVER, IPYKERNEL = peers.ForkServer.name, peers.IPyKernel.name
#: seconds that a stock is given to fill itself
_PAUSE = 0.005


def start(**options: Any) -> ExtSession:
    """A session that has answered."""
    session = ExtSession(**options)
    session.execute("pass").wait()
    return session


def _of_template(count: int, **options: Any) -> Callable[[], float]:
    extsession.warm_up(**options)
    return lambda: starts(lambda: start(**options), ExtSession.close, count)


def _of_stock(count: int, size: int = 4) -> float:
    """Each of them a while after the last, with a stock for this turn only: it belongs to the template of all."""
    info = extsession.warm_up(stock=size)
    try:
        assert info is not None
        for _ in range(10):  # a stock grows as it is found empty
            for session in [start() for _ in range(size + 1)]:
                session.close()
            time.sleep(10 * _PAUSE)
            if any(each.pid == info.pid and each.ready == size for each in extsession.templates()):
                break
        else:
            raise TimeoutError("the stock does not fill")

        def end(session: ExtSession) -> None:
            session.close()
            time.sleep(_PAUSE)

        return starts(start, end, count)
    finally:
        extsession.warm_up(stock=0)


def _of_fork(raw: limits.RawFork, count: int) -> float:
    return starts(raw, lambda _: raw.collect(), count)


def _of_peer(kind: type[peers.Peer], count: int) -> float:
    def begin() -> peers.Peer:
        peer = kind()
        peer.run("exec", "pass")
        return peer

    return starts(begin, lambda peer: peer.close(), count)


def _add_raw(bench: Bench, name: str, count: int, **options: Any) -> None:
    raw = limits.RawFork(**options)
    bench.closing(raw.close)
    bench.add(name, LIMIT, lambda: _of_fork(raw, count))


def _add_forkserver(bench: Bench, count: int, *preload: str) -> None:
    with bench.optional(FORKSERVER):
        bench.enter(peers.ForkServer.serving(*preload))
        bench.add(FORKSERVER, PEER, lambda: _of_peer(peers.ForkServer, count))


@row(
    "warm",
    "a warm session to its first reply, its template being there",
    unit="ms",
    reference=RAW,
    goals=[
        Goal(TEMPLATE, 1.6, RAW),
        Goal(TEMPLATE, 1 / 5, BARE),
        Goal(TEMPLATE, 1 / 250, IPYKERNEL),
        Goal(STOCK, 0.0002),
    ],
)
def warm(bench: Bench) -> None:
    many, few = bench.pick((25, 5), (11, 3))
    _add_raw(bench, RAW, many)
    bench.add(TEMPLATE, OURS, _of_template(many))
    bench.add(STOCK, OURS, lambda: _of_stock(few))
    bare = functools.partial(limits.python, "-I", "-S", "-c", "pass")
    bench.add(BARE, LIMIT, lambda: starts(bare, lambda _: None, few))
    _add_forkserver(bench, few)
    with bench.optional(IPYKERNEL):
        peers.IPyKernel.require()
        bench.add(IPYKERNEL, PEER, lambda: _of_peer(peers.IPyKernel, 1))
    bench.notes.append(
        f"medians of {many} or {few} starts in a turn, ipykernel one; `python` is timed to its exit, nothing of it can "
        f"reply; what is taken from a stock is taken {_PAUSE * 1000:.0f} ms after the last one was given back"
    )


_MODULES = ("numpy", "pandas")
_IMPORT = f"import {', '.join(_MODULES)}"
FULL = f'python -c "{_IMPORT}"'


@row(
    "preload",
    "the same with NumPy and pandas loaded",
    unit="ms",
    reference=FULL,
    goals=[Goal(TEMPLATE, 1 / 80, FULL)],
)
def preload(bench: Bench) -> None:
    for name in _MODULES:
        if importlib.util.find_spec(name) is None:
            bench.leave_out("all", f"{name} is not installed")
            return
    bench.rounds = bench.pick(9, 3)
    many, few = bench.pick((15, 5), (7, 3))
    bench.add(FULL, LIMIT, lambda: seconds(lambda: limits.python("-c", _IMPORT)))
    _add_raw(bench, RAW, many, setup=_IMPORT)
    bench.add(TEMPLATE, OURS, _of_template(many, preload=_MODULES))
    _add_forkserver(bench, few, *_MODULES)
