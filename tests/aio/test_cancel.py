"""Cancelling a scope interrupts the call, and leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

import anyio
import psutil
import pytest
import trio

from extsession import AsyncExtEval, AsyncExtSession, Ladder, Outcome, SessionDied, async_exteval, async_extexec

SOON = 20.0
LOOP = "while True: pass"
STUBBORN = """
while True:
    try:
        print('on', flush=True)
        while True: pass
    except KeyboardInterrupt: pass
"""


def runs(pid: int) -> bool:
    """A zombie does not; whoever has inherited it may take its time to collect it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(pid: int | None) -> None:
    assert pid is not None
    with anyio.fail_after(SOON):
        while runs(pid):
            await anyio.sleep(0.005)


async def test_a_cancelled_eval_interrupts_its_code(session: AsyncExtSession) -> None:
    await session.set("x", 5)
    with anyio.move_on_after(0.05) as scope:
        await session.eval("[None for _ in iter(int, 1)]")
    assert scope.cancelled_caught
    (_, code) = await session.readcodes()
    assert code.outcome is Outcome.INTERRUPTED
    assert code.survived
    assert await session.eval("x") == 5


async def test_a_cancelled_wait_interrupts_its_code(session: AsyncExtSession) -> None:
    results = await session.execute(f"print('a')\n{LOOP}")
    with anyio.move_on_after(0.05):
        await results
    assert results.outcome is Outcome.INTERRUPTED
    assert results.stdout == "a\n"
    assert await session.eval("1") == 1


async def test_cancelled_while_chunks_are_awaited(session: AsyncExtSession) -> None:
    results = await session.execute(f"print('a', flush=True)\n{LOOP}")
    seen = ""
    with anyio.move_on_after(0.1):
        async for chunk in results:
            seen += chunk.text
    assert results.outcome is Outcome.INTERRUPTED
    assert seen == "a\n"


async def test_a_call_whose_turn_has_not_come_never_runs(session: AsyncExtSession) -> None:
    running = await session.execute("input()", stdin="x\n", timeout=SOON)
    blocked = await session.execute("import time; time.sleep(0.2)")
    queued = await session.execute("ran = True")
    with anyio.move_on_after(0.02):
        await queued
    assert queued.outcome is Outcome.CANCELLED
    assert (await blocked).outcome is Outcome.FINISHED
    assert running.outcome is Outcome.FINISHED
    assert not await session.contains("ran")


async def test_another_waiter_keeps_the_call(session: AsyncExtSession) -> None:
    results = await session.execute("import time; time.sleep(0.2)")
    async with anyio.create_task_group() as group:
        group.start_soon(results.wait)
        await anyio.sleep(0.01)
        with anyio.move_on_after(0.02) as scope:
            await results
    assert scope.cancelled_caught
    assert results.outcome is Outcome.FINISHED


async def test_both_waiters_cancelled_at_once(session: AsyncExtSession) -> None:
    results = await session.execute(LOOP)
    with anyio.move_on_after(0.05):
        async with anyio.create_task_group() as group:
            group.start_soon(results.wait)
            group.start_soon(results.wait)
    assert results.outcome is Outcome.INTERRUPTED


async def test_a_cancelled_scope_begins_nothing(session: AsyncExtSession) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await session.set("x", 1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await session.execute("x = 2")
    assert not await session.contains("x")


async def test_code_that_does_not_react_costs_the_session() -> None:
    async with AsyncExtSession(ladder=Ladder(0.1, 0.1)) as session:
        pid = session.pid
        results = await session.execute("import signal; signal.signal(15, signal.SIG_IGN)\n" + STUBBORN)
        assert await session.readline(SOON) == "on\n"
        with anyio.move_on_after(0.01):
            await results
        assert results.outcome is Outcome.INTERRUPTED
        assert not results.completion.survived
        assert not session.is_alive
        with pytest.raises(SessionDied):
            await session.eval("1")
        await gone(pid)


async def test_leaving_by_cancellation_kills_the_tree() -> None:
    pid = child = None
    with anyio.CancelScope() as scope:
        async with AsyncExtSession() as session:
            pid = session.pid
            source = "import subprocess; p = subprocess.Popen(['setsid', 'sleep', '1000'])"
            await (await session.execute(source))
            child = await session.eval("p.pid")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not session.is_alive
    await gone(pid)
    await gone(child)


async def test_an_error_in_the_body_stays_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with AsyncExtSession() as session:
            await session.execute(LOOP)
            raise LookupError("mine")
    assert not session.is_alive


@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.01, 0.02])
async def test_cancelled_while_it_starts(delay: float) -> None:
    session = AsyncExtSession()
    with anyio.move_on_after(delay):
        async with session:
            await session.eval("[None for _ in iter(int, 1)]")
    assert not session.is_alive


@pytest.mark.parametrize("delay", [0, 0.005, 0.02, 0.05])
async def test_cancelled_while_a_thread_starts_it(delay: float) -> None:
    session = AsyncExtSession(sys.executable)
    with anyio.move_on_after(delay):
        async with session:
            await session.eval("[None for _ in iter(int, 1)]")
    assert not session.is_alive


async def test_cancelled_while_it_exits(session: AsyncExtSession) -> None:
    pid = session.pid
    await (await session.execute("import atexit, time; atexit.register(time.sleep, 1000)"))
    with anyio.move_on_after(0.1) as scope:
        await session.exit()
    assert scope.cancelled_caught
    assert not session.is_alive
    await gone(pid)


async def test_cancelled_while_it_is_killed(session: AsyncExtSession) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await session.kill()
    assert scope.cancelled_caught
    assert not session.is_alive


async def test_cancelled_while_it_restarts(session: AsyncExtSession) -> None:
    with anyio.move_on_after(0.003):
        await session.restart()
    if session.is_alive:
        await session.restart()
        assert await session.eval("1") == 1


async def test_one_shots_are_cancelled() -> None:
    with anyio.move_on_after(0.1) as scope:
        await async_exteval("[None for _ in iter(int, 1)]")
    assert scope.cancelled_caught
    with anyio.move_on_after(0.1) as scope:
        await async_extexec(LOOP)
    assert scope.cancelled_caught
    with anyio.move_on_after(0.1) as scope:
        await AsyncExtEval("[None for _ in iter(int, 1)]")
    assert scope.cancelled_caught


async def test_twenty_are_cancelled_at_once() -> None:
    sessions = [AsyncExtSession() for _ in range(20)]

    async def use(session: AsyncExtSession) -> None:
        async with session:
            await session.eval("[None for _ in iter(int, 1)]")

    with anyio.move_on_after(0.3):
        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(use, session)
    assert not any(session.is_alive for session in sessions)


def test_asyncio_cancels_in_its_own_way() -> None:
    async def main() -> None:
        async with AsyncExtSession() as session:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(session.eval("[None for _ in iter(int, 1)]"), 0.05)
            (code,) = await session.readcodes()
            assert code.outcome is Outcome.INTERRUPTED
            assert await session.eval("1") == 1

            async def hold() -> None:
                async with AsyncExtSession() as inner:
                    sessions.append(inner)
                    await inner.eval("[None for _ in iter(int, 1)]")

            sessions: list[AsyncExtSession] = []
            task = asyncio.create_task(hold())
            while not sessions:
                await asyncio.sleep(0.001)
            while not task.done():  # impatiently, in the middle of its cleaning up too
                task.cancel()
                await asyncio.sleep(0)
            assert task.cancelled()
            assert not sessions[0]._driver.link._channel_open  # type: ignore[union-attr]
            await gone(sessions[0].pid)

    asyncio.run(main())


@pytest.mark.parametrize("loop_kind", ["trio", "asyncio"])
def test_ctrl_c(loop_kind: str) -> None:
    """Nothing is corrupt, whenever it comes; and nothing is left."""
    sessions: list[AsyncExtSession] = []

    async def main() -> None:
        async with AsyncExtSession() as session:
            sessions.append(session)
            while True:
                assert await session.eval("1") == 1

    def press() -> None:
        while not sessions:
            time.sleep(0.001)
        time.sleep(0.02 + time.perf_counter() % 0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        if loop_kind == "trio":
            trio.run(main)
        else:
            asyncio.run(main())
    thread.join()
    assert not sessions[0].is_alive


def test_a_loop_that_ends_before_its_session() -> None:
    """asyncio drops what nobody waits for: the session goes with its object."""
    found: list[Any] = []

    async def main() -> None:
        session = AsyncExtSession()
        await session.__aenter__()
        found.append(session.pid)

    asyncio.run(main())
    end = time.monotonic() + SOON
    while runs(found[0]) and time.monotonic() < end:
        time.sleep(0.005)
    assert not runs(found[0])
