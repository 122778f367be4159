"""AsyncSessionPool.map: order, look-ahead, errors at their place, breaking out, progress."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from extsession import AsyncSessionPool, CallTimeout, SessionClosed, SessionDied, ValueRefused

SOON = 20.0


async def until(condition: Callable[[], Any], timeout: float = SOON) -> None:
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.sleep(0.002)


async def taken(results: Any) -> list[Any]:
    """All of an iterator; errors as they are."""
    found: list[Any] = []
    while True:
        try:
            found.append(await results.__anext__())
        except StopAsyncIteration:
            return found
        except (Exception, KeyboardInterrupt) as error:
            found.append(error)


async def test_a_thousand_items_in_four_sessions() -> None:
    async with AsyncSessionPool(4) as pool:
        squares = [n async for n in pool.map(lambda n: n * n, range(1000), chunksize=100)]
        assert squares == [n * n for n in range(1000)]
        assert pool.statistics().given == 10
        found = [n async for n in pool.map(pow, itertools.count(2), range(100), ordered=False, chunksize=30)]
        assert sorted(found) == sorted((n + 2) ** n for n in range(100))
        assert await taken(pool.map(abs, [])) == []


async def test_input_is_consumed_as_results_are_taken() -> None:
    seen: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            seen.append(n)
            yield n

    async with AsyncSessionPool(2, reuse=True) as pool:
        async with pool.map(abs, numbers(), chunksize=3) as results:
            assert len(seen) == 2 * 2 * 3
            for n in range(30):
                assert await results.__anext__() == n
                assert len(seen) <= n + 1 + 2 * 2 * 3
        assert await taken(results) == []


async def test_errors_are_raised_at_their_place() -> None:
    def work(n: Any) -> Any:
        import os

        if n == 1:
            raise StopAsyncIteration
        if n == 2:
            raise KeyboardInterrupt
        if n == 3:
            os._exit(3)
        while n == 4:
            pass
        return 1 // n if n == 0 else n

    items = [5, 0, 1, threading.Lock(), 2, 3, 6, 4, 7]
    async with AsyncSessionPool(2, reuse=True) as pool:
        found = await taken(pool.map(work, items, chunksize=4, timeout=0.3))
    assert [each if isinstance(each, int) else type(each) for each in found] == [
        5, ZeroDivisionError, RuntimeError, ValueRefused, KeyboardInterrupt, SessionDied, 6, CallTimeout, 7
    ]  # fmt: skip


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("how", ["break", "with", "close", "cycle", "cancel"])
async def test_breaking_out_cancels_the_rest(reuse: bool, how: str, tmp_path: Any) -> None:
    def work(n: int, folder: str = os.fspath(tmp_path)) -> int:
        import os
        import time

        open(os.path.join(folder, str(n)), "x").close()
        if n:
            time.sleep(100)
        return n

    async with AsyncSessionPool(2, reuse=reuse) as pool:
        results = pool.map(work, range(100))
        assert await results.__anext__() == 0
        if how == "break":
            del results
            async for result in pool.map(abs, itertools.count()):
                assert result == 0
                break
        elif how == "with":
            async with results:
                pass
        elif how == "close":
            await results.aclose()
            await results.aclose()
        elif how == "cycle":
            results.me = results
            del results
            gc.collect()
        else:
            with anyio.move_on_after(0.05) as scope:
                await results.__anext__()
            assert scope.cancelled_caught
            del results
        await until(lambda: pool.statistics().used == 0 and pool.statistics().waiting == 0, 5)
        assert await pool.call(abs, -1) == 1
    assert len(os.listdir(tmp_path)) <= 5


async def test_leaving_the_pool_ends_the_map() -> None:
    async with AsyncSessionPool(2) as pool:
        results = pool.map(abs, itertools.count())
    found = await taken(results)
    assert found[:4] == [0, 1, 2, 3]
    assert [type(each) for each in found[4:]] == [SessionClosed]
    with pytest.raises(SessionClosed):
        pool.map(abs, [1])


async def test_two_tasks_take_from_one_map() -> None:
    found: list[int] = []
    async with AsyncSessionPool(2, reuse=True) as pool:
        results = pool.map(abs, range(50))

        async def take() -> None:
            async for each in results:
                found.append(each)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(take)
    assert sorted(found) == list(range(50))


async def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich", reason="rich is not installed, which progress is shown by")
    async with AsyncSessionPool(2, reuse=True) as pool:
        assert await taken(pool.map(abs, range(30), progress=True)) == list(range(30))
        assert "abs(...)" in capsys.readouterr().err


async def test_progress_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    async with AsyncSessionPool(1) as pool:
        with pytest.raises(ImportError, match=r"pip install 'extsession\[progress\]'"):
            pool.map(abs, [1], progress=True)
