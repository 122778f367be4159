"""Pools and threads, forks, the collector, and the end of the interpreter.

EXTSESSION_POOL_ROUNDS=200 repeats the tests that hammer a pool that often.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, PoolTimeout, SessionClosed, SessionDied, SessionPool

ROOT = Path(__file__).parent.parent.parent
ROUNDS = int(os.environ.get("EXTSESSION_POOL_ROUNDS", "2"))
SOON = 60.0


def until(condition: Callable[[], Any], timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


def together(count: int, function: Callable[[int], None]) -> None:
    """Run it in as many threads; raise what they raise."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            function(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_many_threads(turn: int, reuse: bool) -> None:
    """Each does something else each time; no two have the same session at a time; the pool is fit afterwards."""
    size = 3
    in_use: set[int] = set()
    guard = threading.Lock()

    def acquire(pool: SessionPool, dice: random.Random) -> None:
        with pool.acquire() as session:
            with guard:
                assert id(session) not in in_use, "two have the same session"
                in_use.add(id(session))
                assert len(in_use) <= size
            assert session.eval("6 * 7") == 42
            if dice.random() < 0.2:
                os.kill(session.pid or 0, signal.SIGKILL)
                until(lambda: not session.is_alive)  # else the next one may find out
            elif dice.random() < 0.2:
                session.execute("while True: pass")
            with guard:
                in_use.remove(id(session))

    def impatient(pool: SessionPool, dice: random.Random) -> None:
        try:
            with pool.acquire(timeout=dice.random() * 0.02) as session:
                assert session.eval("1 + 1") == 2
        except PoolTimeout:
            pass

    def submit(pool: SessionPool, dice: random.Random) -> None:
        futures = [pool.submit(pow, n, 2) for n in range(4)]
        if dice.random() < 0.5:
            futures.pop().cancel()
        for n, future in enumerate(futures):
            assert future.result(SOON) == n**2

    def die(pool: SessionPool, dice: random.Random) -> None:
        with pytest.raises(SessionDied):
            pool.call(os._exit, 3)

    def map_(pool: SessionPool, dice: random.Random) -> None:
        count = dice.randrange(8)
        ordered = dice.random() < 0.5
        results = list(pool.map(abs, range(count), chunksize=dice.randrange(1, 4), ordered=ordered))
        assert sorted(results) == list(range(count))

    def leave(pool: SessionPool, dice: random.Random) -> None:
        for _ in pool.map(abs, range(100)):
            break

    deeds = [acquire, impatient, submit, die, map_, leave]
    with SessionPool(size, reuse=reuse) as pool:

        def work(number: int) -> None:
            dice = random.Random(turn * 1000 + number)
            for _ in range(3):
                dice.choice(deeds)(pool, dice)

        together(6, work)
        until(lambda: pool.statistics().ready == size)
        figures = pool.statistics()
        assert (figures.used, figures.waiting, figures.starting, figures.ending) == (0, 0, 0, 0)
        assert pool.call(abs, -1) == 1


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_closing_while_many_use_it(turn: int) -> None:
    pool = SessionPool(2)
    begun = threading.Barrier(5)

    def work(number: int) -> None:
        begun.wait(SOON)
        if number == 4:
            time.sleep(random.random() * 0.05)
            pool.close(drain=turn % 2 == 0)
            return
        try:
            while True:
                if number == 0:
                    list(pool.map(abs, range(3)))
                elif number == 1:
                    pool.submit(abs, 1).result(SOON)
                else:
                    assert pool.call(abs, -1) == 1
        except (SessionClosed, SessionDied):
            pass

    together(5, work)
    assert repr(pool) == "<SessionPool closed>"


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_dropped_without_close(turn: int) -> None:
    """What was accepted is done; then nothing is left, which the leak check of all tests sees to."""
    pool = SessionPool(2)
    futures = [pool.submit(pow, n, 2) for n in range(turn % 5)]
    del pool
    gc.collect()
    assert [future.result(SOON) for future in futures] == [n**2 for n in range(turn % 5)]


def forked(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(20)
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_a_fork_in_between(turn: int) -> None:
    """The child is told that the pool is not its own, and its parent does not notice."""
    with SessionPool(2) as pool:
        if turn % 2:
            until(lambda: pool.statistics().ready == 2)
        results = pool.map(abs, range(10))
        future = pool.submit(abs, 1)
        with pool.acquire() as session:
            session["x"] = 1

            def work() -> None:
                for use in (
                    lambda: pool.call(abs, 1),
                    lambda: pool.submit(abs, 1),
                    lambda: pool.map(abs, [1]),
                    lambda: pool.acquire().__enter__(),
                    lambda: pool.statistics(),
                    lambda: next(results),
                ):
                    with pytest.raises(SessionClosed, match="belongs to process"):
                        use()
                repr(pool)
                results.close()
                future.cancel()
                pool.close()
                with ExtSession() as mine:
                    assert mine.eval("1 + 1") == 2
                with SessionPool(1) as own:
                    assert own.call(abs, -1) == 1

            assert forked(work) == 0
            assert session["x"] == 1
        assert list(results) == list(range(10))
        assert future.result(SOON) == 1


def test_a_fork_that_leaves_the_blocks() -> None:
    """The child unwinds: out of acquire, and out of the pool's own block."""
    code = f"""
import os, sys
sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import SessionPool
with SessionPool(1) as pool:
    with pool.acquire() as session:
        session["x"] = 1
        child = os.fork() == 0
        if not child:
            status = os.waitstatus_to_exitcode(os.wait()[1])
            print(status, session["x"], flush=True)
if child:
    sys.exit(7)
print("end")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON)
    assert (done.stdout, done.stderr, done.returncode) == ("7 1\nend\n", "", 0)


@pytest.mark.parametrize("busy", [False, True])
def test_the_interpreter_ends_first(busy: bool, tmp_path: Path) -> None:
    """Without a close: no hang, no complaint, no process left. Functions of __main__ travel."""
    code = f"""
import os, sys
sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import SessionPool

def double(x):
    return helper(x)

def helper(x):
    return 2 * x

def endless(x):
    while True: pass

pool = SessionPool(2)
print(list(pool.map(double, range(3))), pool.submit(os.getpid).result())
if {busy}:
    results = pool.map(endless, range(100))
    future = pool.submit(endless, 1)
with pool.acquire(timeout=20) if not {busy} else open(os.devnull) as session:
    pass
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("[0, 2, 4] ")
    assert time.monotonic() - start < 20
