"""Limits in an event loop: the loop keeps the clock and takes the samples."""

from __future__ import annotations

import anyio
import pytest

from extsession import AsyncExtSession, LimitExceeded, Limits, SessionDied, async_exteval

MB = 2**20


async def test_the_loop_ends_what_is_over_its_limit() -> None:
    limits = Limits(wall=20, cpu=0.3, output=10_000)
    async with AsyncExtSession(limits=limits) as session:
        assert {name: each.value for name, each in session.limits_in_force().items()} == limits.given()
        for source, limit in (("while True: pass", "cpu"), ("while True: print('x' * 99)", "output")):
            results = await (await session.execute(source))
            assert (results.completion.limit, results.completion.survived) == (limit, True)
            assert isinstance(results.error, LimitExceeded)
        await session.set_limits(Limits(wall=0.2))
        with pytest.raises(LimitExceeded, match="over limit: wall"):
            await session.eval("__import__('time').sleep(60)")
        with pytest.raises(TypeError, match="set_limits takes a Limits"):
            await session.set_limits(None)  # type: ignore[arg-type]


async def test_the_loop_ends_idle_sessions() -> None:
    async with AsyncExtSession(limits=Limits(idle=0.2)) as session:
        await session.eval("1")
        with anyio.fail_after(10):
            while session.error is None:
                await anyio.sleep(0.01)
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "idle"
        with pytest.raises(SessionDied):
            await session.set_limits(Limits())


async def test_branches_and_one_shots() -> None:
    async with AsyncExtSession(limits=Limits(memory=200 * MB, wall=0.3)) as session:
        async with await session.fork() as branch:
            with pytest.raises(LimitExceeded):
                await branch.eval("__import__('time').sleep(60)")
            with pytest.raises(MemoryError):
                await branch.eval("len(bytearray(b'x') * (300 << 20))")
    with pytest.raises(LimitExceeded):
        await async_exteval("__import__('time').sleep(60)", limits=Limits(wall=0.2))
