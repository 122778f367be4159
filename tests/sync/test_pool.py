"""SessionPool: who gets a session, for how long one waits, what happens to the dead, and how it ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import (
    ExtSession,
    InterpreterError,
    LaunchError,
    Outcome,
    PoolTimeout,
    RemoteError,
    SessionClosed,
    SessionDied,
    SessionPool,
    ValueRefused,
)
from extsession._launch.base import Process, Spec
from extsession._launch.interpreter import Interpreter
from extsession._launch.local import LocalLauncher

SOON = 20.0


def until(condition: Callable[[], Any], timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(2) as pool:
        yield pool


@contextlib.contextmanager
def in_thread(function: Callable[[], Any]) -> Iterator[list[Any]]:
    """What it returned, or raised, is in the list at the end."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        thread.join(SOON)
        assert not thread.is_alive()


# handing out


def test_sessions_are_ready_before_they_are_needed(pool: SessionPool) -> None:
    until(lambda: pool.statistics().ready == 2)
    with pool.acquire(timeout=0) as session:
        assert session.is_alive
        figures = pool.statistics()
        assert (figures.used, figures.ready, figures.given) == (1, 1, 1)
    until(lambda: pool.statistics().ready == 2)
    assert pool.statistics().started == 3


def test_each_user_has_a_fresh_session(pool: SessionPool) -> None:
    pids = set()
    for _ in range(5):
        with pool.acquire() as session:
            assert "x" not in session
            session["x"] = 1
            pids.add(session.pid)
    assert len(pids) == 5
    with pytest.raises(SessionClosed):
        session["x"]
    assert pool.statistics().replaced == 0


def test_reuse_keeps_the_state() -> None:
    with SessionPool(1, reuse=True) as pool:
        with pool.acquire() as session:
            session["x"] = 1
        with pool.acquire() as again:
            assert again["x"] == 1
            assert again.pid == session.pid
            again.execute("1 / 0").wait()
        assert pool.call(os.getpid) == session.pid
        assert pool.statistics().started == 1


@pytest.mark.parametrize(
    "leave",
    [
        lambda session: session.execute("while True: pass"),
        lambda session: session.execute("import os; os._exit(3)").wait(SOON),
        lambda session: session.close(),
        lambda session: (os.kill(session.pid, signal.SIGKILL), until(lambda: not session.is_alive)),
        lambda session: session.exit(),
    ],
)
def test_reuse_replaces_what_cannot_be_used(leave: Callable[[ExtSession], Any]) -> None:
    with SessionPool(1, reuse=True) as pool:
        with pool.acquire() as session:
            leave(session)
        with pool.acquire() as other:
            assert other.eval("1 + 1") == 2
            assert other.pid != session.pid
        assert pool.statistics().replaced == 1


def test_options_are_the_sessions(tmp_path: Path) -> None:
    with SessionPool(1, cwd=tmp_path, env={**os.environ, "COLOUR": "red"}) as pool:
        assert pool.call(os.getcwd) == os.fspath(tmp_path)
        assert pool.call(os.getenv, "COLOUR") == "red"


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": "2"}, {"size": 1, "timeout": -1}, {"size": 1, "colour": 3}])
def test_bad_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        SessionPool(**wrong)


def test_run(pool: SessionPool) -> None:
    results = pool.run("import sys; print('out'); print(input(), file=sys.stderr); 1 / 0", stdin="line\n")
    assert results.stdout == "out\n"
    assert results.stderr.startswith("line\nTraceback")
    assert isinstance(results.error, ZeroDivisionError)
    assert pool.run("while True: pass", timeout=0.1).outcome is Outcome.TIMED_OUT


def test_call(pool: SessionPool) -> None:
    assert pool.call(pow, 2, 10) == 1024
    assert pool.call(int, "ff", base=16) == 255
    assert pool.call(lambda a, *, b: [a, b], 1, b=2) == [1, 2]
    with pytest.raises(ZeroDivisionError) as caught:
        pool.call(divmod, 1, 0)
    assert caught.value.__cause__ is not None


def test_tasks(pool: SessionPool) -> None:
    futures = [pool.submit(pow, number, 2) for number in range(20)]
    assert [future.result(SOON) for future in futures] == [number**2 for number in range(20)]
    assert isinstance(pool.submit(divmod, 1, 0).exception(SOON), ZeroDivisionError)


def test_what_a_function_may_raise(pool: SessionPool) -> None:
    def odd() -> None:
        class Odd(Exception):
            pass

        raise Odd("hm")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(RemoteError, match="Odd: hm"):
        pool.call(odd)
    assert isinstance(pool.submit(interrupt).exception(SOON), KeyboardInterrupt)
    error = pool.submit(sys.exit, 3).exception(SOON)
    assert isinstance(error, SessionDied)
    assert error.exit_code == 3
    with SessionPool(1, end_on_exit=False) as patient, pytest.raises(Exception, match=r"exit.*left with SystemExit\(3\)"):
        patient.call(sys.exit, 3)


def test_what_cannot_travel_is_named_and_takes_no_session(pool: SessionPool) -> None:
    lock = threading.Lock()

    def guarded(x: int) -> int:
        with lock:
            return x

    with open(os.devnull, "w") as file:

        def writing(x: str) -> int:
            return file.write(x)

        for name, function, type_name in (("guarded", guarded, "_thread.lock"), ("writing", writing, None)):
            for use in (pool.call, pool.submit, lambda function, _: pool.map(function, [1])):
                with pytest.raises(ValueRefused, match=rf"the function .*{name} cannot travel") as caught:
                    use(function, 1)
                assert type_name is None or caught.value.type_name == type_name
    with pytest.raises(ValueRefused, match=r"an argument of len\(...\) cannot travel.*lock"):
        pool.submit(len, lock)
    with pytest.raises(TypeError, match="a function is wanted, not int"):
        pool.submit(5)  # type: ignore[arg-type]
    assert pool.statistics().given == 0


def test_without_cloudpickle_in_the_session(pythons: list[Interpreter]) -> None:
    for python in pythons:
        with SessionPool(1, python=python.path, reuse=True) as pool:
            if pool.run("import cloudpickle").completion.ok:
                continue
            with pytest.raises(ValueRefused, match=r"lambda.*travels by cloudpickle, which has to be installed for"):
                pool.call(lambda: 1)
            assert pool.call(abs, -1) == 1
            return
    pytest.skip("all interpreters here have cloudpickle")


# waiting


def test_first_come_first_served() -> None:
    with SessionPool(1) as pool:
        order: list[int] = []

        def use(number: int) -> None:
            with pool.acquire():
                order.append(number)

        with contextlib.ExitStack() as stack:
            with pool.acquire():
                for number in range(6):
                    if number % 2:
                        future = pool.submit(abs, 1)
                        future.add_done_callback(lambda _, number=number: order.append(number))
                    else:
                        stack.enter_context(in_thread(lambda number=number: use(number)))
                    until(lambda number=number: pool.statistics().waiting == number + 1)
        until(lambda: len(order) == 6)
        assert order == list(range(6))


def test_waits_are_bounded(pool: SessionPool) -> None:
    with pool.acquire(), pool.acquire():
        start = time.monotonic()
        with pytest.raises(PoolTimeout, match=r"no session of the pool came free in .* 2 of 2 are in use") as caught:
            with pool.acquire(timeout=0.2):
                pass
        assert 0.2 <= time.monotonic() - start < 5
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert error.waited is not None
        assert error.waited >= 0.2
        assert (error.size, error.used) == (2, 2)
        with pytest.raises(PoolTimeout), pool.acquire(timeout=0):
            pass
    assert pool.statistics().timed_out == 2
    assert pool.statistics().waiting == 0
    with pool.acquire():
        pass


def test_the_pools_own_bound() -> None:
    with SessionPool(1, timeout=0.05) as pool:

        def wait() -> Any:
            with pool.acquire(timeout=math.inf) as session:
                return session.eval("1 + 1")

        with contextlib.ExitStack() as stack:
            with pool.acquire(timeout=SOON):
                with pytest.raises(PoolTimeout):
                    pool.call(abs, 1)
                with pytest.raises(PoolTimeout):
                    pool.run("1")
                future = pool.submit(abs, -1)  # a task waits as long as it takes
                found = stack.enter_context(in_thread(wait))
                until(lambda: pool.statistics().waiting == 2)
                time.sleep(0.1)  # longer than the pool's bound
        assert future.result(SOON) == 1
        assert found == [2]


def test_an_interrupted_wait_gives_its_place_back() -> None:
    with SessionPool(1) as pool:
        with pool.acquire():
            timer = threading.Timer(0.2, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt), pool.acquire():
                pass
            timer.join()
            assert pool.statistics().waiting == 0
        with pool.acquire(timeout=SOON):
            pass


# what dies


def test_killed_while_idle() -> None:
    with SessionPool(2, reuse=True) as pool:
        with pool.acquire() as one, pool.acquire() as two:
            pass
        for each in (one, two):
            os.kill(each.pid or 0, signal.SIGKILL)
        until(lambda: not one.is_alive and not two.is_alive)
        for _ in range(4):
            with pool.acquire(timeout=SOON) as session:
                assert session.eval("1 + 1") == 2
        assert pool.statistics().replaced == 2


def test_killed_while_used(pool: SessionPool) -> None:
    with pool.acquire() as session:
        os.kill(session.pid or 0, signal.SIGKILL)
        with pytest.raises(SessionDied) as caught:
            session.eval("1")
        assert caught.value.signal == "SIGKILL"
    until(lambda: pool.statistics().ready == 2)
    assert pool.statistics().replaced == 1


@pytest.mark.parametrize("reuse", [False, True])
def test_killed_in_a_task(reuse: bool) -> None:
    with SessionPool(2, reuse=reuse) as pool:
        futures = [pool.submit(os.kill if n == 3 else pow, *((0, 9) if n == 3 else (n, 2))) for n in range(8)]
        error = futures.pop(3).exception(SOON)
        assert isinstance(error, SessionDied)
        assert error.signal == "SIGKILL"
        assert error.running == "kill(...)"
        assert [future.result(SOON) for future in futures] == [0, 1, 4, 16, 25, 36, 49]
        until(lambda: pool.statistics().ready == 2)


def test_no_interpreter() -> None:
    with SessionPool(3, python="/no/such/python") as pool:
        for _ in range(3):
            with pytest.raises(InterpreterError, match="/no/such/python"), pool.acquire():
                pass
        assert isinstance(pool.submit(abs, 1).exception(SOON), InterpreterError)
        for result in (pool.map(abs, [1, 2]) for _ in range(2)):
            with pytest.raises(InterpreterError):
                next(result)
        assert pool.statistics().started == 0
        assert pool.statistics().failed <= 3 + 3 + 1 + 2 * 2  # ahead of need, and one for each waiter


class Broken(LocalLauncher):
    """Fails the first times."""

    def __init__(self, times: float) -> None:
        self.left = times
        self.calls = 0

    def launch(self, spec: Spec) -> Process:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise LaunchError("not now")
        return super().launch(spec)


def test_failed_starts_are_not_tried_again_and_again() -> None:
    launcher = Broken(math.inf)
    with SessionPool(2, launcher=launcher) as pool:
        until(lambda: launcher.calls == 2 and pool.statistics().starting == 0)
        time.sleep(0.1)  # nothing is to happen: there is no event to wait for
        assert launcher.calls == 2
        with pytest.raises(LaunchError, match="not now"), pool.acquire():
            pass
        assert launcher.calls == 3
        launcher.left = 0
        with pool.acquire() as session:
            assert session.is_alive
        until(lambda: pool.statistics().ready == 2)


# the end


def test_closed_pools_say_so() -> None:
    pool = SessionPool(1)
    pool.close()
    for use in (
        lambda: pool.call(abs, 1),
        lambda: pool.submit(abs, 1),
        lambda: pool.run("1"),
        lambda: pool.map(abs, [1]),
        lambda: pool.acquire().__enter__(),
    ):
        with pytest.raises(SessionClosed, match="the pool is closed"):
            use()
    pool.close()
    assert repr(pool) == "<SessionPool closed>"
    assert pool.statistics().ready == 0


def test_draining_finishes_what_was_accepted() -> None:
    with SessionPool(2) as pool:
        futures = [pool.submit(pow, n, 2) for n in range(10)]
        results = pool.map(abs, [-1, -2])
    assert [future.result(0) for future in futures] == [n**2 for n in range(10)]
    assert list(results) == [1, 2]


def test_draining_waits_for_users() -> None:
    pool = SessionPool(1)
    with contextlib.ExitStack() as stack:
        with pool.acquire() as session:
            closing = stack.enter_context(in_thread(pool.close))
            until(lambda: "closing" in repr(pool))
            assert session.eval("1 + 1") == 2
            assert closing == []
    assert closing == [None]
    assert not session.is_alive


def test_closing_at_once() -> None:
    pool = SessionPool(2)
    endless = pool.submit(lambda: [None for _ in iter(int, 1)])
    until(endless.running)
    with pool.acquire() as session:
        queued = pool.submit(abs, 1)

        def wait() -> None:
            with pool.acquire():
                pass

        with in_thread(wait) as found:
            until(lambda: pool.statistics().waiting == 2)
            pool.close(drain=False)
        assert isinstance(found[0], SessionClosed)
        assert isinstance(queued.exception(SOON), SessionClosed)
        assert isinstance(endless.exception(SOON), (SessionClosed, SessionDied))
        with pytest.raises((SessionClosed, SessionDied)):
            session.eval("1")


def test_an_exception_closes_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        with SessionPool(1) as pool:
            endless = pool.submit(lambda: [None for _ in iter(int, 1)])
            until(endless.running)
            1 / 0
    assert isinstance(endless.exception(0), (SessionClosed, SessionDied))


def test_draining_for_a_time() -> None:
    pool = SessionPool(1)
    endless = pool.submit(lambda: [None for _ in iter(int, 1)])
    until(endless.running)
    pool.close(timeout=0.1)
    assert isinstance(endless.exception(0), (SessionClosed, SessionDied))


def test_closing_during_a_start(tmp_path: Path) -> None:
    """The interpreter hangs before it is a session."""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(100)")
    pool = SessionPool(2, env={**os.environ, "PYTHONPATH": os.fspath(tmp_path)})
    future = pool.submit(abs, 1)
    start = time.monotonic()
    pool.close(drain=False)
    assert time.monotonic() - start < 10
    assert isinstance(future.exception(0), SessionClosed)


def test_cancelled_tasks() -> None:
    with SessionPool(1) as pool:
        with pool.acquire():
            future, other = pool.submit(abs, -1), pool.submit(abs, -2)
            assert future.cancel()
            assert pool.statistics().waiting == 1
            done, _ = concurrent.futures.wait([future], timeout=SOON)
            assert done == {future}
        assert other.result(SOON) == 2
        assert not other.cancel()


def test_a_callback_may_close_the_pool() -> None:
    pool = SessionPool(1)
    closed = threading.Event()

    def close(_: Any) -> None:
        pool.close()
        closed.set()

    pool.submit(abs, 1).add_done_callback(close)
    assert closed.wait(SOON)
    pool.close()
