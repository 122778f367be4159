"""The executors for trio and asyncio: the same facts, and cancellation stops the command."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import psutil
import pytest
import trio

import extsession.execute as execute
from extsession.execute import (
    AsyncLocalSubProcessExecute,
    AsyncSessionExecute,
    CommandNotFoundError,
    ExecuteRequest,
    InterruptError,
    StdinSource,
    TimeoutError,
)

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function in an event loop, bounded."""

    def with_bound(function: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(60):
                return await function()

        return trio.run(bounded) if request.param == "trio" else asyncio.run(bounded())

    return with_bound


@pytest.fixture(params=[AsyncLocalSubProcessExecute, AsyncSessionExecute])
def executor(request: pytest.FixtureRequest) -> Any:
    return request.param()


def python(source: str, **options: Any) -> ExecuteRequest:
    return ExecuteRequest([sys.executable, "-c", source], **options)


SLEEP = "import time; print('there', flush=True); time.sleep(60)"


def test_a_status_and_an_outcome(run: Run, executor: Any) -> None:
    request = python("import sys; print(1); print(2, file=sys.stderr); sys.exit(3)")

    async def main() -> None:
        status = await executor(request)
        assert (status.exit_code, status.out, status.err) == (3, "1\n", "2\n")
        outcome = await executor.run(request)
        assert (outcome.exit_code, outcome.out, bool(outcome)) == (3, "1\n", False)
        assert (await executor.execute_with_retry(request, 2)).exit_code == 3

    run(main)


def test_errors(run: Run, executor: Any) -> None:
    async def main() -> None:
        with pytest.raises(CommandNotFoundError):
            await executor(ExecuteRequest(["no-such-program"]))
        assert isinstance((await executor.run(ExecuteRequest(["no-such-program"]))).exception, CommandNotFoundError)
        with pytest.raises(TimeoutError) as caught:
            await executor(python(SLEEP, timeout=1.0))
        assert caught.value.status is not None
        assert caught.value.status.out == "there\n"
        async with executor.call(ExecuteRequest(["no-such-program"])) as status:
            assert status.exit_code == 2
        with pytest.raises(ValueError, match="attempts"):
            await executor.execute_with_retry(python(""), 0)

    run(main)


def test_a_live_status(run: Run, executor: Any) -> None:
    async def main() -> None:
        async with executor.call(python("print(input()[::-1], flush=True)", stdin=StdinSource.API)) as status:
            assert (status.exit_code, await status.wait(0.01)) == (None, None)
            await status.write_stdin("abc\n")
            status.close_stdin()
            assert await status.wait() == 0
            assert status.out == "cba\n"
        assert status.outcome.exit_code == 0

    run(main)


@pytest.mark.parametrize("way", ["interrupt", "terminate", "leave"])
def test_stops(run: Run, executor: Any, way: str) -> None:
    async def main() -> None:
        async with executor.call(python(SLEEP)) as status:
            while "there" not in status.out:
                await status.wait(0.01)
            if way != "leave":
                await getattr(status, way)()
                assert status.exit_code is not None
        assert status.exit_code in (1, -2, -15)
        assert isinstance(status.outcome.exception, InterruptError) == (way != "leave")

    run(main)


def test_cancellation_stops_it(run: Run, executor: Any) -> None:
    pids = []

    async def main() -> None:
        with anyio.move_on_after(30) as scope:
            async with executor.call(python(SLEEP)) as status:
                pids.append(status.metadata["pid"])
                while "there" not in status.out:
                    await status.wait(0.01)
                scope.cancel()
                await status.wait()
        assert scope.cancelled_caught
        with anyio.move_on_after(0.2) as scope:
            await executor(python(SLEEP))
        assert scope.cancelled_caught

    run(main)
    assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE


def test_many_at_once_and_all_interrupted(run: Run, executor: Any) -> None:
    ended = []

    async def one(source: str) -> None:
        outcome = await executor.run(python(source))
        ended.append(outcome)

    async def main() -> None:
        began = time.monotonic()
        async with executor, anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, f"print({number})")
            while len(ended) < 20:
                await anyio.sleep(0.01)
            for _ in range(5):
                group.start_soon(one, SLEEP)
            while len(executor._executor._running) < 5:
                await anyio.sleep(0.01)
            await executor.interrupt()
        assert time.monotonic() - began < 30

    run(main)
    assert sorted(int(each.out) for each in ended[:20]) == list(range(20))
    assert all(isinstance(each.exception, InterruptError) for each in ended[20:])


def test_names_are_there_without_anyio() -> None:
    assert set(execute._ASYNC) <= set(execute.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = execute.nothing  # type: ignore[attr-defined]
