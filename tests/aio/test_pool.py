"""AsyncSessionPool: as SessionPool, in tasks; and what cancellation does.

EXTSESSION_POOL_ROUNDS=200 repeats the test that hammers a pool that often.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from extsession import (
    AsyncExtSession,
    AsyncSessionPool,
    CallCancelled,
    InterpreterError,
    LaunchError,
    NotReady,
    Outcome,
    PoolTimeout,
    SessionClosed,
    SessionDied,
    ValueRefused,
)
from extsession._launch.base import Process, Spec
from extsession._launch.local import LocalLauncher

SOON = 20.0
ROUNDS = int(os.environ.get("EXTSESSION_POOL_ROUNDS", "2"))


def endless(*_: Any) -> None:
    while True:
        pass


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """This module is not to be found in sessions: without a module to come from, a function travels by value."""
    function.__module__ = "__main__"
    return function


by_value(endless)


async def until(condition: Callable[[], Any], timeout: float = SOON) -> None:
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.sleep(0.002)


# handing out


async def test_ready_and_fresh() -> None:
    async with AsyncSessionPool(2) as pool:
        await until(lambda: pool.statistics().ready == 2)
        pids = set()
        for _ in range(4):
            async with pool.acquire() as session:
                assert not await session.contains("x")
                await session.set("x", 1)
                pids.add(session.pid)
        assert len(pids) == 4
        with pytest.raises(SessionClosed, match="given back to its pool"):
            await session.get("x")


async def test_reuse() -> None:
    async with AsyncSessionPool(1, reuse=True) as pool:
        async with pool.acquire() as session:
            await session.set("x", 1)
        assert await pool.call(os.getpid) == session.pid
        async with pool.acquire() as session:
            assert await session.get("x") == 1
            await session.execute("while True: pass")  # busy: it is replaced
        async with pool.acquire() as other:
            assert other.pid != session.pid
        assert pool.statistics().replaced == 1


async def test_run_call_submit() -> None:
    async with AsyncSessionPool(2) as pool:
        results = await pool.run("print(input()); 1 / 0", stdin="line\n")
        assert results.stdout == "line\n"
        assert isinstance(results.error, ZeroDivisionError)
        assert (await pool.run("while True: pass", timeout=0.1)).outcome is Outcome.TIMED_OUT
        assert await pool.call(int, "ff", base=16) == 255
        with pytest.raises(ZeroDivisionError):
            await pool.call(divmod, 1, 0)
        tasks = [pool.submit(pow, n, 2) for n in range(10)]
        with pytest.raises(NotReady):
            _ = tasks[0].result
        assert [await task for task in tasks] == [n**2 for n in range(10)]
        assert (tasks[3].done, tasks[3].result) == (True, 9)
        with pytest.raises(ZeroDivisionError):
            await pool.submit(divmod, 1, 0)
        with pytest.raises(SessionDied, match="SystemExit"):
            await pool.submit(sys.exit, 3)


async def test_what_cannot_travel_takes_no_session() -> None:
    lock = threading.Lock()
    async with AsyncSessionPool(1) as pool:
        for use in (pool.submit, lambda function: pool.map(function, [1])):
            with pytest.raises(ValueRefused, match=r"the function .*<lambda> cannot travel"):
                use(lambda *_: lock)
        with pytest.raises(ValueRefused, match=r"an argument of len"):
            await pool.call(len, lock)
        assert pool.statistics().given == 0


async def test_not_entered_or_twice() -> None:
    pool = AsyncSessionPool(1)
    assert repr(pool) == "<AsyncSessionPool not entered>"
    for use in (lambda: pool.submit(abs, 1), lambda: pool.map(abs, [1]), lambda: pool.statistics()):
        with pytest.raises(SessionClosed, match="not started"):
            use()
    await pool.aclose()
    async with pool:
        assert await pool.call(abs, -1) == 1
    with pytest.raises(SessionClosed, match="entered once"):
        async with pool:
            pass
    with pytest.raises(TypeError):
        AsyncSessionPool(1, colour=3)


async def test_from_another_thread() -> None:
    async with AsyncSessionPool(1) as pool:

        def use() -> None:
            with pytest.raises(RuntimeError, match="thread of its event loop"):
                pool.submit(abs, 1)

        await anyio.to_thread.run_sync(use)


# waiting


async def test_first_come_first_served() -> None:
    order: list[int] = []
    async with AsyncSessionPool(1) as pool, anyio.create_task_group() as group:

        async def use(number: int) -> None:
            async with pool.acquire():
                order.append(number)

        async def task(number: int) -> None:
            await pool.submit(abs, number)
            order.append(number)

        async with pool.acquire():
            for number in range(6):
                group.start_soon(task if number % 2 else use, number)
                await until(lambda number=number: pool.statistics().waiting == number + 1)
    assert order == list(range(6))


async def test_waits_are_bounded() -> None:
    async with AsyncSessionPool(1, timeout=0.1) as pool:
        async with pool.acquire(timeout=SOON):
            for wait in (lambda: pool.call(abs, 1), lambda: pool.run("1"), lambda: pool.acquire(timeout=0).__aenter__()):
                with pytest.raises(PoolTimeout) as caught:
                    await wait()
                assert (caught.value.size, caught.value.used) == (1, 1)
            results = pool.map(abs, [1])
            with pytest.raises(PoolTimeout):
                await results.__anext__()
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()
            await until(lambda: pool.statistics().waiting == 0)
        async with pool.acquire(timeout=math.inf):
            pass


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    async with AsyncSessionPool(1) as pool:
        async with pool.acquire():
            with anyio.move_on_after(0.05) as scope:
                async with pool.acquire():
                    pass
            assert scope.cancelled_caught
            assert pool.statistics().waiting == 0
        async with pool.acquire(timeout=SOON):
            pass


async def test_cancelled_just_when_it_gets_one() -> None:
    """What it was given is untouched, and goes to the next."""
    async with AsyncSessionPool(1) as pool:
        scope = anyio.CancelScope()

        async def wait() -> None:
            with scope:
                async with pool.acquire():
                    await anyio.sleep(0)

        give = pool._crew._machine.started

        def started(slot: int) -> None:
            give(slot)
            scope.cancel()

        async with anyio.create_task_group() as group:
            async with pool.acquire():
                group.start_soon(wait)
                await until(lambda: pool.statistics().waiting == 1)
                pool._crew._machine.started = started  # type: ignore[method-assign]
            await until(lambda: pool.statistics().given == 2)
            pool._crew._machine.started = give  # type: ignore[method-assign]
        assert scope.cancelled_caught
        await until(lambda: pool.statistics().ready == 1)
        assert pool.statistics().started == 2


# cancellation and errors


@pytest.mark.parametrize("reuse", [False, True])
async def test_cancelled_work_frees_the_session(reuse: bool) -> None:
    async with AsyncSessionPool(1, reuse=reuse) as pool:
        for work in (lambda: pool.call(endless), lambda: pool.run("while True: pass"), lambda: pool.submit(endless).wait()):
            with anyio.move_on_after(0.3) as scope:
                await work()
            assert scope.cancelled_caught
            assert await pool.call(abs, -1) == 1
        assert pool.statistics().replaced == 0
        assert reuse is (pool.statistics().started == 1)


async def test_tasks_are_cancelled() -> None:
    async with AsyncSessionPool(1) as pool:
        running = pool.submit(endless)
        await until(lambda: pool.statistics().used == 1)
        queued = pool.submit(abs, -1)
        other = pool.submit(abs, -2)
        assert await queued.cancel()
        assert await running.cancel()
        assert not await queued.cancel()
        for each in (queued, running):
            with pytest.raises(CallCancelled):
                await each
        assert await other == 2
        assert not await other.cancel()


async def test_a_wait_for_a_task_may_end_alone() -> None:
    async with AsyncSessionPool(1) as pool:
        task = pool.submit(time.sleep, 0.3)
        with pytest.raises(TimeoutError, match=r"the task is not done after 0\.01 s"):
            await task.wait(0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(task.wait)
            await anyio.sleep(0.01)
            with anyio.move_on_after(0.01) as scope:
                await task
        assert scope.cancelled_caught
        assert await task is None


async def test_an_exception_ends_it_at_once_and_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with AsyncSessionPool(2) as pool:
            task = pool.submit(endless)
            await until(lambda: pool.statistics().used == 1)
            1 / 0
    with pytest.raises(SessionClosed):
        _ = task.result


async def test_a_cancelled_scope_ends_all() -> None:
    with anyio.move_on_after(0.5) as scope:
        async with AsyncSessionPool(2) as pool:
            task = pool.submit(endless)
            results = pool.map(endless, range(10))
            await until(lambda: pool.statistics().used == 2)
            async with pool.acquire():
                pass
    assert scope.cancelled_caught
    assert task.done
    assert repr(pool) == "<AsyncSessionPool closed>"
    with pytest.raises(SessionClosed):
        await results.__anext__()


async def test_a_cancelled_draining_ends_all() -> None:
    start = time.monotonic()
    with anyio.move_on_after(0.5) as scope:
        async with AsyncSessionPool(2) as pool:
            task = pool.submit(endless)
    assert scope.cancelled_caught
    assert task.done
    assert time.monotonic() - start < 5


async def test_cancelled_while_it_starts() -> None:
    for delay in (0, 0.001, 0.005, 0.01, 0.02):
        with anyio.move_on_after(delay):
            async with AsyncSessionPool(3):
                await anyio.sleep_forever()


def test_asyncio_cancels_a_task() -> None:
    async def use() -> None:
        async with AsyncSessionPool(2) as pool:
            pool.submit(endless)
            await pool.call(endless)

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with AsyncSessionPool(1) as pool:
                await asyncio.wait_for(pool.call(endless), 0.2)

    asyncio.run(main())


def test_trio_run_that_raises() -> None:
    async def main() -> None:
        async with AsyncSessionPool(2) as pool, trio.open_nursery() as nursery:
            nursery.start_soon(pool.call, endless)
            await until(lambda: pool.statistics().used == 1)
            raise ValueError

    with pytest.raises(BaseExceptionGroup if sys.version_info >= (3, 11) else Exception) as caught:
        trio.run(main)
    assert isinstance(caught.value.exceptions[0], ValueError)  # the user's own nursery's group


# what dies


async def test_deaths() -> None:
    async with AsyncSessionPool(2, reuse=True) as pool:
        async with pool.acquire() as one, pool.acquire() as two:
            os.kill(two.pid or 0, signal.SIGKILL)
            with pytest.raises(SessionDied):
                await two.eval("1")
        os.kill(one.pid or 0, signal.SIGKILL)  # while idle
        await until(lambda: not one.is_alive)
        tasks = [pool.submit(os._exit if n == 3 else pow, *((3,) if n == 3 else (n, 2))) for n in range(6)]
        died = tasks.pop(3)
        with pytest.raises(SessionDied) as caught:
            await died
        assert caught.value.exit_code == 3
        assert [await task for task in tasks] == [0, 1, 4, 16, 25]
        assert pool.statistics().replaced == 3


class Broken(LocalLauncher):
    left = math.inf
    calls = 0

    def launch(self, spec: Spec) -> Process:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise LaunchError("not now")
        return super().launch(spec)


async def test_failed_starts() -> None:
    launcher = Broken()
    async with AsyncSessionPool(2, launcher=launcher) as pool:
        await until(lambda: launcher.calls == 2 and pool.statistics().starting == 0)
        with pytest.raises(LaunchError, match="not now"):
            await pool.call(abs, 1)
        with pytest.raises(LaunchError, match="not now"):
            await pool.submit(abs, 1)
        assert launcher.calls == 4
        launcher.left = 0
        assert await pool.call(abs, -1) == 1
        await until(lambda: pool.statistics().ready == 2)
    async with AsyncSessionPool(2, python="/no/such/python") as pool:
        with pytest.raises(InterpreterError):
            await pool.call(abs, 1)


# the end


async def test_draining() -> None:
    async with AsyncSessionPool(2) as pool, anyio.create_task_group() as group:
        tasks = [pool.submit(pow, n, 2) for n in range(8)]
        async with pool.acquire() as session:
            group.start_soon(pool.aclose)
            await until(lambda: "closing" in repr(pool))
            with pytest.raises(SessionClosed):
                pool.submit(abs, 1)
            assert await session.eval("1 + 1") == 2
    assert [task.result for task in tasks] == [n**2 for n in range(8)]


async def test_closing_at_once_and_after_a_time() -> None:
    async with AsyncSessionPool(2) as pool:
        tasks = [pool.submit(endless), pool.submit(abs, 1)]
        async with pool.acquire() as session:
            await pool.aclose(drain=False)
            with pytest.raises(SessionClosed):
                await session.eval("1")
        for task in tasks[:1]:
            with pytest.raises(SessionClosed):
                await task
    async with AsyncSessionPool(1) as pool:
        task = pool.submit(endless)
        await pool.aclose(timeout=0.2)
        with pytest.raises(SessionClosed):
            _ = task.result


async def test_closing_during_a_start(tmp_path: Any) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(100)")
    async with AsyncSessionPool(2, env={**os.environ, "PYTHONPATH": os.fspath(tmp_path)}) as pool:
        task = pool.submit(abs, 1)
        await pool.aclose(drain=False)
        with pytest.raises(SessionClosed):
            await task


# all at once


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_many_tasks(turn: int, reuse: bool) -> None:
    size = 3
    in_use: set[AsyncExtSession] = set()

    async def acquire(pool: AsyncSessionPool, dice: random.Random) -> None:
        async with pool.acquire() as session:
            assert session not in in_use
            in_use.add(session)
            try:
                assert len(in_use) <= size
                assert await session.eval("6 * 7") == 42
                if dice.random() < 0.2:
                    os.kill(session.pid or 0, signal.SIGKILL)
                    await until(lambda: not session.is_alive)
                elif dice.random() < 0.2:
                    await session.execute("while True: pass")
            finally:
                in_use.remove(session)

    async def impatient(pool: AsyncSessionPool, dice: random.Random) -> None:
        try:
            async with pool.acquire(timeout=dice.random() * 0.02) as session:
                assert await session.eval("1 + 1") == 2
        except PoolTimeout:
            pass

    async def cancelled(pool: AsyncSessionPool, dice: random.Random) -> None:
        with anyio.move_on_after(dice.random() * 0.03):
            await dice.choice([acquire, submit, map_])(pool, dice)

    async def submit(pool: AsyncSessionPool, dice: random.Random) -> None:
        tasks = [pool.submit(pow, n, 2) for n in range(4)]
        if dice.random() < 0.5:
            await tasks.pop().cancel()
        assert [await task for task in tasks] == [0, 1, 4, 9][: len(tasks)]

    async def die(pool: AsyncSessionPool, dice: random.Random) -> None:
        with pytest.raises(SessionDied):
            await pool.call(os._exit, 3)

    async def map_(pool: AsyncSessionPool, dice: random.Random) -> None:
        count, ordered = dice.randrange(8), dice.random() < 0.5
        results = pool.map(abs, range(count), chunksize=dice.randrange(1, 4), ordered=ordered)
        assert sorted([each async for each in results]) == list(range(count))

    async def leave(pool: AsyncSessionPool, dice: random.Random) -> None:
        async for _ in pool.map(abs, range(100)):
            break

    deeds = [acquire, impatient, cancelled, submit, die, map_, leave]

    async def work(number: int) -> None:
        dice = random.Random(turn * 1000 + number)
        for _ in range(3):
            await dice.choice(deeds)(pool, dice)

    with anyio.fail_after(60):
        async with AsyncSessionPool(size, reuse=reuse) as pool:
            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(work, number)
            await until(lambda: pool.statistics().ready == size)
            figures = pool.statistics()
            assert (figures.used, figures.waiting, figures.starting, figures.ending) == (0, 0, 0, 0)
            assert await pool.call(abs, -1) == 1
