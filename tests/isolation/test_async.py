"""Isolated sessions in the other colour, under trio and asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

from extsession import (
    AsyncExtSession,
    AsyncSessionPool,
    ForkRefused,
    Limits,
    Outcome,
    ValueRefused,
    async_exteval,
    async_extexec,
)

SOON = 40.0
Options = Callable[..., dict[str, Any]]


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run(work: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            with anyio.fail_after(SOON):
                await work()

        if request.param == "trio":
            trio.run(bounded)
        else:
            asyncio.run(bounded())

    return run


def test_session(run: Any, options: Options, tier: str) -> None:
    async def work() -> None:
        async with AsyncExtSession(**options()) as session:
            assert session.walls is not None and session.walls.tier == tier
            results = await (await session.execute("import sys; print(1); print(2, file=sys.stderr); x = [1]")).wait()
            assert (results.stdout, results.stderr) == ("1\n", "2\n")
            assert await session.get("x") == [1]
            with pytest.raises(ValueRefused):
                await session.eval("object()")
            await session.files.put("a/b", b"1")
            assert await session.files.get("a/b") == b"1"
            assert [each.name for each in await session.files.list("a")] == ["a/b"]
            assert (await session.usage()).processes == 1
            if tier == "weak":
                with pytest.raises(ForkRefused, match="weak tier"):
                    await session.fork()
            else:
                async with await session.fork() as other:
                    assert await other.get("x") == [1]
                await session.checkpoint("one")
                await session.set("x", 2)
                await session.rollback("one")
                assert await session.get("x") == [1]
            results = await (await session.execute("import os; os._exit(5)")).wait()
            assert results.exit_code == 5
            await session.restart()
            assert await session.names() == []

    run(work)


def test_cancelled(run: Any, options: Options) -> None:
    async def work() -> None:
        async with AsyncExtSession(**options()) as session:
            began = time.monotonic()
            with anyio.move_on_after(0.3):
                await session.eval("__import__('time').sleep(60)")
            assert await session.eval("1 + 1") == 2
            assert time.monotonic() - began < 30

    run(work)


def test_limit(run: Any, options: Options) -> None:
    async def work() -> None:
        async with AsyncExtSession(**options(limits=Limits(wall=0.3))) as session:
            results = await (await session.execute("import time; time.sleep(60)")).wait()
            assert results.outcome is Outcome.OVER_LIMIT and results.completion.limit == "wall"

    run(work)


def test_pool_and_one_shots(run: Any, options: Options) -> None:
    async def work() -> None:
        async with AsyncSessionPool(2, **options()) as pool:
            assert await pool.call(len, "abc") == 3
            async with pool.acquire() as session:
                assert session.walls is not None
        assert await async_exteval("6 * 7", **options()) == 42
        assert await async_extexec("print(1)", **options()) == ("1\n", "")

    run(work)
