"""Round trips on a warm session: nothing, one printed line, an int back; sync and async."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any

from . import child, limits, ours, peers
from .harness import LIMIT, OURS, PEER, Bench, Goal, Missing, checked, latency, latency_async, row

PING = "ping-pong of a byte, Python both ends"
IN_PROCESS = "exec in this process"
PIPE = peers.PipeWorker.name

_PRINT = "print('one line')"
_LINE = "one line\n"


def _add(bench: Bench, name: str, kind: str, operation: Callable[[], Any], expected: Any) -> None:
    calls, budget = bench.pick(2000, 300), bench.pick(0.15, 0.03)
    with bench.optional(name):
        checked(operation, expected)
        bench.add(name, kind, lambda: latency(operation, calls, budget))


def _round_trip(
    bench: Bench, mode: str, source: str, mine: Callable[[Any], Any], here: Callable[[], Any], expected: Any
) -> None:
    ping = limits.PingPong()
    bench.closing(ping.close)
    _add(bench, PING, LIMIT, ping, None)
    _add(bench, IN_PROCESS, LIMIT, here, expected)
    session = ours.session(bench)
    _add(bench, ours.NAME, OURS, lambda: mine(session), expected)
    for kind in peers.ALL:
        if bench.quick and kind is peers.ReplWrapDefault:
            bench.leave_out(kind.name, "50 ms a call: not in a quick run")
            continue
        peer = peers.start(bench, kind)
        if peer is not None:
            _add(bench, kind.name, PEER, lambda peer=peer: peer.run(mode, source), expected)


def _no_op(session: Any) -> None:
    session.execute("pass").wait()


@row(
    "noop",
    "a no-op on a warm session",
    reference=PING,
    goals=[
        Goal(ours.NAME, 6, PING),
        Goal(ours.NAME, 1, PIPE),
        Goal(ours.NAME, 1 / 4, peers.Execnet.name),
        Goal(ours.NAME, 1 / 6, peers.Executor.name),
        Goal(ours.NAME, 1 / 80, peers.IPyKernel.name),
    ],
)
def noop(bench: Bench) -> None:
    _round_trip(bench, "exec", "pass", _no_op, lambda: limits.execute("pass"), None)


@row("print", "one printed line", reference=PING, goals=[Goal(ours.NAME, 1.2, PIPE)])
def print_line(bench: Bench) -> None:
    def mine(session: Any) -> Any:
        return session.execute(_PRINT).wait().stdout

    _round_trip(bench, "print", _PRINT, mine, lambda: limits.execute_printing(_PRINT), _LINE)


@row("int", "an int back", reference=PING, goals=[Goal(ours.NAME, 1.0, PIPE)])
def integer(bench: Bench) -> None:
    def mine(session: Any) -> Any:
        return session.eval("40+2")

    _round_trip(bench, "eval", "40+2", mine, lambda: limits.evaluate("40+2"), 42)


TRIO, ASYNCIO, TRIO_PARALLEL = "extsession on trio", "extsession on asyncio", "trio-parallel"


@row(
    "async",
    "a no-op, awaited",
    reference=ours.NAME,
    goals=[Goal(TRIO, 3, ours.NAME), Goal(TRIO, 1 / 2.5, TRIO_PARALLEL)],
)
def awaited(bench: Bench) -> None:
    budget = bench.pick(0.15, 0.03)
    session = ours.session(bench)
    _add(bench, ours.NAME, OURS, lambda: _no_op(session), None)

    async def mine(session: Any) -> float:
        async def operation() -> None:
            await (await session.execute("pass")).wait()

        return await latency_async(operation, bench.pick(2000, 300), budget)

    async def trio_parallel_no_op() -> float:
        import trio_parallel

        async def operation() -> None:
            await trio_parallel.run_sync(child.run, "exec", "pass")

        return await latency_async(operation, bench.pick(1000, 100), budget)

    with bench.optional(TRIO):
        ours.async_session()
        import trio

        bench.add(TRIO, OURS, lambda: trio.run(ours.with_async_session, mine))
    with bench.optional(ASYNCIO):
        ours.async_session()
        bench.add(ASYNCIO, OURS, lambda: asyncio.run(ours.with_async_session(mine)))
    with bench.optional(TRIO_PARALLEL):
        if importlib.util.find_spec("trio_parallel") is None:
            raise Missing("trio-parallel is not installed")
        import trio

        bench.add(TRIO_PARALLEL, PEER, lambda: trio.run(trio_parallel_no_op))
