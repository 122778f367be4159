"""SessionPool.map: order, look-ahead, errors at their place, breaking out, progress."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from extsession import CallTimeout, PoolTimeout, RemoteError, SessionClosed, SessionDied, SessionPool, ValueRefused

SOON = 20.0


def until(condition: Callable[[], Any], timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(2, reuse=True) as pool:
        yield pool


def taken(results: Any) -> list[Any]:
    """All of an iterator; errors as they are."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except BaseException as error:
            found.append(error)


def test_a_thousand_items_in_four_sessions() -> None:
    with SessionPool(4) as pool:
        assert list(pool.map(lambda n: n * n, range(1000), chunksize=100)) == [n * n for n in range(1000)]
        assert pool.statistics().given == 10
        pids = list(pool.map(lambda _: os.getpid(), range(20), chunksize=5))
        assert [len(set(pids[at : at + 5])) for at in range(0, 20, 5)] == [1] * 4
        assert len(set(pids)) == 4


def test_as_completed_and_several_iterables(pool: SessionPool) -> None:
    found = list(pool.map(pow, itertools.count(2), range(300), ordered=False, chunksize=7))
    assert sorted(found) == sorted((n + 2) ** n for n in range(300))
    assert list(pool.map(abs, [])) == []


def test_the_quick_overtake_the_slow(pool: SessionPool) -> None:
    def work(n: int) -> int:
        import time

        time.sleep(0.5 if n == 0 else 0)
        return n

    assert list(pool.map(work, range(4), ordered=False)) == [1, 2, 3, 0]
    assert list(pool.map(work, range(4))) == [0, 1, 2, 3]


def test_input_is_consumed_as_results_are_taken(pool: SessionPool) -> None:
    seen: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            seen.append(n)
            yield n

    results = pool.map(abs, numbers(), chunksize=3)
    assert len(seen) == 2 * 2 * 3
    for n in range(50):
        assert next(results) == n
        assert len(seen) <= n + 1 + 2 * 2 * 3
    results.close()
    with pytest.raises(StopIteration):
        next(results)


def test_errors_are_raised_at_their_place(pool: SessionPool) -> None:
    found = taken(pool.map(lambda n: 10 // n, [1, 0, 2, 0, 5], chunksize=2))
    assert [type(each) for each in found] == [int, ZeroDivisionError, int, ZeroDivisionError, int]
    assert [each for each in found if isinstance(each, int)] == [10, 5, 2]
    assert "10 // n" in str(found[1].__cause__) or "ZeroDivisionError" in str(found[1].__cause__)


def test_errors_that_would_end_the_iteration(pool: SessionPool) -> None:
    def stop(n: int) -> int:
        if n == 1:
            raise StopIteration(n)
        if n == 2:
            raise KeyboardInterrupt
        return n

    zero, one, two, three = taken(pool.map(stop, range(4)))
    assert (zero, three) == (0, 3)
    assert isinstance(one, RuntimeError)
    assert isinstance(one.__cause__, StopIteration)
    assert isinstance(two, KeyboardInterrupt)


def test_an_argument_that_cannot_travel_is_an_error_at_its_place(pool: SessionPool) -> None:
    one, two, three = taken(pool.map(str, [1, threading.Lock(), 3], chunksize=3))
    assert (one, three) == ("1", "3")
    assert isinstance(two, ValueRefused)
    assert two.type_name == "_thread.lock"


def test_a_value_that_cannot_travel(pool: SessionPool) -> None:
    one, two = taken(pool.map(lambda n: (x for x in ()) if n else 0, [0, 1]))
    assert one == 0
    assert isinstance(two, ValueRefused)


def test_an_input_that_fails(pool: SessionPool) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    one, two, error = taken(pool.map(abs, numbers(), chunksize=5))
    assert (one, two) == (1, 2)
    assert isinstance(error, LookupError)


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_a_death_costs_one_item(reuse: bool, chunksize: int) -> None:
    def work(n: int) -> int:
        import os

        if n in (3, 4, 9):
            os.kill(os.getpid(), 9)
        return n

    with SessionPool(2, reuse=reuse) as pool:
        found = taken(pool.map(work, range(12), chunksize=chunksize))
        assert [n for n, each in enumerate(found) if isinstance(each, SessionDied)] == [3, 4, 9]
        assert [each for each in found if not isinstance(each, SessionDied)] == [0, 1, 2, 5, 6, 7, 8, 10, 11]


def test_time_for_each_item(pool: SessionPool) -> None:
    def work(n: int) -> int:
        while n == 1:
            pass
        return n

    zero, one, two = taken(pool.map(work, range(3), chunksize=3, timeout=0.2))
    assert (zero, two) == (0, 2)
    assert isinstance(one, CallTimeout)
    assert pool.statistics().replaced == 0  # an interrupt was enough


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("how", ["break", "with", "close", "cycle"])
def test_breaking_out_cancels_the_rest(reuse: bool, how: str, tmp_path: Any) -> None:
    def work(n: int, folder: str = os.fspath(tmp_path)) -> int:
        import os
        import time

        open(os.path.join(folder, str(n)), "x").close()
        if n:
            time.sleep(100)
        return n

    with SessionPool(2, reuse=reuse) as pool:
        if how == "break":
            for result in pool.map(work, range(100)):
                assert result == 0
                break
        elif how == "with":
            with pool.map(work, range(100)) as results:
                assert next(results) == 0
        elif how == "close":
            results = pool.map(work, range(100))
            assert next(results) == 0
            results.close()
            results.close()
        else:
            results = pool.map(work, range(100))
            assert next(results) == 0
            results.me = results  # type: ignore[attr-defined]
            del results
            gc.collect()
        until(lambda: pool.statistics().used == 0 and pool.statistics().waiting == 0, 5)
        assert pool.call(abs, -1) == 1
        if reuse:
            until(lambda: pool.statistics().ready == 2)
    assert len(os.listdir(tmp_path)) <= 4


def test_a_collector_that_comes_at_a_bad_moment() -> None:
    """A map, and a pool, are collected by a thread that is in the middle of the pool's machine."""
    with SessionPool(1) as pool:
        results = pool.map(lambda n: [None for _ in iter(int, 1)], range(5))
        until(lambda: pool.statistics().used == 1)
        with pool._crew.change() as machine:
            del results
            assert machine.statistics().used == 1
        until(lambda: pool.statistics().waiting == 0)
        assert pool.call(abs, -1) == 1
    pool = SessionPool(1)
    crew = pool._crew
    with crew.change() as machine:
        del pool
        gc.collect()
        assert not machine.closing
    assert machine.closing


def test_a_map_that_gets_no_session() -> None:
    with SessionPool(1, timeout=0.2) as pool:
        with pool.acquire(timeout=SOON):
            results = pool.map(abs, range(3))
            with pytest.raises(PoolTimeout) as caught:
                next(results)
            assert caught.value.used == 1
            with pytest.raises(StopIteration):
                next(results)
            assert pool.statistics().waiting == 0

        def slow(n: int) -> int:
            import time

            time.sleep(0.5)
            return n

        assert list(pool.map(slow, range(2))) == [0, 1]  # it has one, that takes long


def test_two_maps_and_a_user_share(pool: SessionPool) -> None:
    one, two = pool.map(abs, itertools.count()), pool.map(abs, itertools.count(100))
    for n in range(20):
        assert (next(one), next(two)) == (n, n + 100)
        assert pool.call(abs, -n) == n
    one.close()
    two.close()


def test_closing_at_once_ends_maps() -> None:
    pool = SessionPool(1)
    results = pool.map(lambda n: [None for _ in iter(int, 1)], range(10))
    until(lambda: pool.statistics().used == 1)
    pool.close(drain=False)
    found = taken(results)
    assert found
    assert all(isinstance(each, (SessionClosed, SessionDied)) for each in found)


def test_draining_ends_a_map_that_wants_more() -> None:
    pool = SessionPool(2)
    results = pool.map(abs, itertools.count())
    pool.close()
    found = taken(results)
    assert found[:4] == [0, 1, 2, 3]
    assert [type(each) for each in found[4:]] == [SessionClosed]


def test_the_pool_lives_as_long_as_its_map() -> None:
    assert list(SessionPool(2).map(abs, range(5))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong", [{"chunksize": 0}, {"chunksize": 1.5}, {"timeout": -1}, {"timeout": "1"}, {"colour": 1}]
)
def test_bad_arguments(pool: SessionPool, wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        pool.map(abs, [1], **wrong)
    with pytest.raises(TypeError, match="at least one iterable"):
        pool.map(abs)
    with pytest.raises(TypeError):
        pool.map(abs, 5)  # type: ignore[arg-type]


def test_an_exception_of_the_users_own(pool: SessionPool) -> None:
    class Odd(Exception):
        pass

    def work(n: int) -> None:
        raise Odd(n)

    (error,) = taken(pool.map(work, [1]))
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("Odd")


def test_progress(pool: SessionPool, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich", reason="rich is not installed, which progress is shown by")
    assert list(pool.map(abs, range(30), progress=True)) == list(range(30))
    assert "abs(...)" in capsys.readouterr().err
    for _ in pool.map(abs, iter(range(30)), progress=True):
        break


def test_progress_without_its_extra(pool: SessionPool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"pip install 'extsession\[progress\]'") as caught:
        pool.map(abs, [1], progress=True)
    assert caught.value.name == "rich"
