"""The names of December 2006, each with its old meaning and what it has become (core-api.md, section 1)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from extsession import (
    CallCancelled,
    ExtEval,
    ExtResults,
    ExtSession,
    NotReady,
    Outcome,
    Session,
    SessionClosed,
    SessionDied,
    ValueRefused,
    exteval,
    extexec,
)

SOON = 20.0


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession() as session:
        yield session


def until(condition: object, timeout: float = SOON) -> None:
    """Look until `condition()`, without taking part in anything; fail after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


# exteval, extexec


def test_exteval_gives_the_value() -> None:
    assert exteval("6 * 7") == 42
    assert exteval("{'a': [1, (2.5, None)], 'b': {3, 4}}") == {"a": [1, (2.5, None)], "b": {3, 4}}


def test_exteval_gives_any_picklable_value() -> None:
    import fractions

    value = exteval("__import__('fractions').Fraction(1, 3)")
    assert value == fractions.Fraction(1, 3)
    assert type(value) is fractions.Fraction


def test_exteval_runs_in_another_process() -> None:
    import os

    assert exteval("__import__('os').getpid()") != os.getpid()
    assert exteval("__name__") == "__main__"


def test_exteval_raises_what_the_expression_raises() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        exteval("1 / 0")
    assert "1 / 0" in str(caught.value.__cause__)


def test_exteval_of_what_cannot_travel() -> None:
    with pytest.raises(ValueRefused) as caught:
        exteval("__import__('threading').Lock()")
    assert "lock" in str(caught.value)


def test_exteval_of_a_process_that_ends() -> None:
    with pytest.raises(SessionDied) as caught:
        exteval("__import__('os')._exit(7)")
    assert caught.value.exit_code == 7


def test_exteval_timeout() -> None:
    with pytest.raises(TimeoutError):
        exteval("__import__('time').sleep(60)", timeout=0.1)


def test_extexec_gives_what_was_printed() -> None:
    result = extexec("import sys\nprint('out')\nprint('err', file=sys.stderr)\n")
    stdout, stderr = result
    assert (stdout, stderr) == ("out\n", "err\n")
    assert result == ("out\n", "err\n")
    assert len(result) == 2
    assert (result.stdout, result.stderr, result.exit_status, result.error) == ("out\n", "err\n", 0, None)
    assert result._fields == ("stdout", "stderr")


def test_extexec_carries_the_error() -> None:
    result = extexec("print('before')\nraise LookupError('gone')")
    assert result.stdout == "before\n"
    assert result.stderr.endswith("LookupError: gone\n")
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.exit_status == 1
    assert type(result.error) is LookupError


def test_extexec_carries_the_exit_status() -> None:
    result = extexec("import sys\nprint('a')\nsys.exit(3)")
    assert (tuple(result), result.exit_status, result.error) == (("a\n", ""), 3, None)
    result = extexec("raise SystemExit('sorry')")
    assert (tuple(result), result.exit_status) == (("", "sorry\n"), 1)


def test_extexec_runs_to_the_end_of_the_process() -> None:
    result = extexec(
        "import atexit, threading\n"
        "gate = threading.Event()\n"
        "atexit.register(print, 'atexit')\n"
        "threading.Thread(target=lambda: (gate.wait(10), print('thread'))).start()\n"
        "print('main')\n"
        "gate.set()\n"
    )
    assert sorted(result.stdout.split()) == ["atexit", "main", "thread"]
    assert result.stdout.endswith("atexit\n")


def test_extexec_of_a_process_that_is_ended() -> None:
    result = extexec("import os, signal\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    assert result.stdout == "x\n"
    assert result.exit_status is None
    assert isinstance(result.error, SessionDied)
    assert result.error.signal == "SIGKILL"


def test_extexec_stdin() -> None:
    assert extexec("print(input() + input())", stdin="a\nb\n").stdout == "ab\n"


# ExtEval


def test_exteval_object_result_early_is_a_value_error(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    expression = f"open({str(gate)!r}).read()"
    import os

    os.mkfifo(gate)
    pending = ExtEval(expression)
    try:
        with pytest.raises(ValueError):
            pending.result
        with pytest.raises(NotReady):
            pending.result
        assert not pending.done
        with pytest.raises(TimeoutError):
            pending.wait(0.01)
    finally:
        gate.write_text("now")
    assert pending.wait(SOON) is pending
    assert pending.done
    assert pending.result == "now"
    assert pending.result == "now"


def test_exteval_object_is_done_by_itself() -> None:
    pending = ExtEval("21 * 2")
    until(lambda: pending.done)
    assert pending.result == 42


def test_exteval_object_raises() -> None:
    pending = ExtEval("[][0]").wait(SOON)
    with pytest.raises(IndexError):
        pending.result


def test_exteval_object_cancel() -> None:
    pending = ExtEval("__import__('time').sleep(60)")
    assert pending.cancel() is True
    assert pending.done
    with pytest.raises(SessionDied):
        pending.result
    assert pending.cancel() is False
    done = ExtEval("1").wait(SOON)
    assert done.cancel() is False
    assert done.result == 1


def test_exteval_object_future() -> None:
    futures = [ExtEval(f"{n} * {n}").future() for n in range(4)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    assert [future.result(SOON) for future in futures] == [0, 1, 4, 9]
    with pytest.raises(ZeroDivisionError):
        ExtEval("1 // 0").future().result(SOON)


def test_exteval_object_awaited_by_asyncio() -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*[_awaited(ExtEval(f"{n} + 1")) for n in range(3)])

    async def _awaited(pending: ExtEval) -> int:
        return await pending  # type: ignore[no-any-return]

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == [1, 2, 3]


def test_exteval_object_awaited_by_trio() -> None:
    async def main() -> int:
        with trio.fail_after(SOON):
            return await ExtEval("40 + 2")  # type: ignore[no-any-return]

    assert trio.run(main) == 42


def test_exteval_object_that_is_dropped_leaves_nothing() -> None:
    # it runs to its end, like a thread that nobody joins; the leak check is the assertion
    ExtEval("__import__('time').sleep(0.02)")


# ExtSession


def test_execute_returns_at_once_and_results_come_in_order(session: ExtSession, tmp_path: Path) -> None:
    import os

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    finished: list[int] = []
    results = [session.execute(f"open({str(gate)!r}).close(); print('call', 0)")]
    results += [session.execute(f"print('call', {n})") for n in range(1, 6)]
    for each in results:
        each.add_done_callback(lambda r: finished.append(r.number))
    assert all(isinstance(each, ExtResults) for each in results)
    assert not any(each.done for each in results)
    gate.write_text("")
    results[-1].wait(SOON)
    assert all(each.done for each in results)
    assert [each.read() for each in results] == [f"call {n}\n" for n in range(6)]
    assert [each.number for each in results] == [1, 2, 3, 4, 5, 6]
    until(lambda: len(finished) == 6)
    assert finished == [1, 2, 3, 4, 5, 6]


def test_names_get_set_delete_in_iterate(session: ExtSession) -> None:
    session.execute("x = 1; _y = [2]; __z__ = 3")
    assert session["x"] == 1
    session["x"] = {"new": (1, 2)}
    assert session["x"] == {"new": (1, 2)}
    assert session.eval("x['new'][1]") == 2
    assert "x" in session
    assert "missing" not in session
    assert 5 not in session
    assert set(session) == {"x", "_y", "__z__"}
    del session["x"]
    assert "x" not in session
    assert set(session) == {"_y", "__z__"}
    with pytest.raises(KeyError):
        session["x"]
    with pytest.raises(KeyError):
        del session["x"]
    with pytest.raises(TypeError):
        session[3]  # type: ignore[index]


def test_exit_gives_the_code_it_ended_with() -> None:
    session = ExtSession()
    assert session.exit() == 0
    session = ExtSession()
    assert session.exit(7) == 7
    assert session.exit_code == 7
    assert not session.is_alive
    assert session.exit(9) == 7  # it has ended already
    session = ExtSession()
    session.execute("import atexit, os; atexit.register(os._exit, 11)")
    assert session.exit(3) == 11
    session = ExtSession()
    session.execute("import os, signal, atexit; atexit.register(os.kill, os.getpid(), signal.SIGKILL)")
    assert session.exit(3) is None
    with pytest.raises((SessionClosed, SessionDied)):
        session.execute("1")


def test_writeline_and_readline(session: ExtSession) -> None:
    results = session.execute(
        "name = input('who? ')\nprint()\nwhile name:\n    print('hello', name)\n    name = input()\n"
    )
    session.writeline("ann")
    assert session.readline(SOON) == "who? \n"
    assert session.readline(SOON) == "hello ann\n"
    session.writeline("bob\n")
    assert session.readline(SOON) == "hello bob\n"
    session.writeline("")
    assert results.wait(SOON).completion.ok
    assert session.readline(SOON) == ""
    assert results.stdout == "who? \nhello ann\nhello bob\n"


def test_readline_waits_and_gives_up(session: ExtSession) -> None:
    results = session.execute("input(); print('late line')", stdin="PIPE")
    with pytest.raises(TimeoutError):
        session.readline(0.02)
    session.writeline("go")
    assert session.readline(SOON) == "late line\n"
    results.wait(SOON)
    session.execute("print('no end', end='')")
    assert session.readline(SOON) == "no end"


def test_readcodes(session: ExtSession) -> None:
    assert session.readcodes() == []
    session.execute("1")
    session.execute("1/0").wait(SOON)
    codes = session.readcodes()
    assert [(code.call, code.outcome) for code in codes] == [(1, Outcome.FINISHED), (2, Outcome.FAILED)]
    assert codes[1].error is not None and codes[1].error.type_name == "ZeroDivisionError"
    assert session.readcodes() == []
    session.execute("2")
    found = []
    until(lambda: found.extend(session.readcodes()) or found)
    assert [code.call for code in found] == [3]


# ExtResults


def test_read_is_an_error_until_complete(session: ExtSession) -> None:
    results = session.execute("print('early', flush=True); input()", stdin="PIPE")
    assert session.readline(SOON) == "early\n"
    for read in (results.read, lambda: results.stdout, lambda: results.error, lambda: results.completion):
        with pytest.raises(ValueError):
            read()
    session.writeline("")
    assert results.wait(SOON).read() == "early\n"


def test_read_has_a_position(session: ExtSession) -> None:
    results = session.execute("print('häßlich\\nzwei')").wait(SOON)
    assert results.read(2) == "hä"
    assert results.read(0) == ""
    assert results.read(6) == "ßlich\n"
    assert results.read() == "zwei\n"
    assert results.read() == ""
    assert results.read(5) == ""
    assert results.stdout == "häßlich\nzwei\n"
    assert session.execute("print(12345)").wait(SOON).read(-1) == "12345\n"


def test_wait_and_its_timeout(session: ExtSession) -> None:
    results = session.execute("input()", stdin="PIPE")
    with pytest.raises(TimeoutError):
        results.wait(0)
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        results.wait(timeout=0.05)
    assert time.monotonic() - before >= 0.05
    assert not results.done
    session.writeline("x")
    assert results.wait(timeout=SOON) is results
    assert results.wait(0) is results


def test_future(session: ExtSession) -> None:
    future = session.execute("print(5)").future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(SOON).stdout == "5\n"  # nobody but the hub moves the session here
    failed = session.execute("raise ValueError('no')").future()
    assert isinstance(failed.exception(SOON), ValueError)
    done, waiting = concurrent.futures.wait([session.execute("1").future() for _ in range(3)], SOON)
    assert (len(done), len(waiting)) == (3, 0)


def test_add_done_callback(session: ExtSession, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[ExtResults] = []
    event = threading.Event()
    results = session.execute("input()", stdin="PIPE")
    results.add_done_callback(lambda r: 1 / 0)
    results.add_done_callback(told.append)
    results.add_done_callback(lambda r: event.set())
    assert not told
    session.writeline("")
    assert event.wait(SOON)
    assert told == [results]
    results.add_done_callback(told.append)
    assert told == [results, results]
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert session.eval("1") == 1


def test_a_callback_may_use_the_session(session: ExtSession) -> None:
    values: list[object] = []
    event = threading.Event()

    def again(results: ExtResults) -> None:
        values.append(session.eval("x + 1"))
        event.set()

    session.execute("x = 1").add_done_callback(again)
    assert event.wait(SOON)
    assert values == [2]


def test_await_under_asyncio(session: ExtSession) -> None:
    async def main() -> list[str]:
        pending = [session.execute(f"print({n})") for n in range(3)]
        found = [(await each).stdout for each in pending]
        found.append((await pending[0]).stdout)
        return found

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == ["0\n", "1\n", "2\n", "0\n"]


def test_await_under_asyncio_does_not_block_the_loop(session: ExtSession) -> None:
    async def main() -> str:
        results = session.execute("print(input())", stdin="PIPE")
        waiting = asyncio.ensure_future(_finish(results))
        await asyncio.sleep(0)
        assert not waiting.done()
        session.writeline("from the loop")
        return await waiting

    async def _finish(results: ExtResults) -> str:
        return (await results).stdout

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == "from the loop\n"


def test_await_under_trio(session: ExtSession) -> None:
    async def main() -> list[str]:
        found = []
        with trio.fail_after(SOON):
            results = session.execute("print(input())", stdin="PIPE")
            async with trio.open_nursery() as nursery:

                async def finish() -> None:
                    found.append((await results).stdout)

                nursery.start_soon(finish)
                await trio.lowlevel.checkpoint()
                session.writeline("from trio")
            found.append((await session.execute("print(2)")).stdout)
        return found

    assert trio.run(main) == ["from trio\n", "2\n"]


def test_await_that_is_cancelled_harms_nothing(session: ExtSession) -> None:
    async def main() -> None:
        results = session.execute("input()", stdin="PIPE")
        with trio.move_on_after(0.02) as scope:
            await results
        assert scope.cancelled_caught
        session.writeline("")
        with trio.fail_after(SOON):
            await results

    trio.run(main)
    assert session.eval("3") == 3


def test_twisted_deferred(session: ExtSession) -> None:
    defer = pytest.importorskip("twisted.internet.defer", reason="Twisted is not installed")
    told: list[str] = []
    deferred = defer.Deferred()
    deferred.addCallback(lambda results: told.append(results.stdout))
    # without a reactor the results have to be brought into this thread by hand
    deferred.callback(session.execute("print('deferred')").future().result(SOON))
    assert told == ["deferred\n"]


def test_cancel_before_its_turn(session: ExtSession) -> None:
    first = session.execute("input()", stdin="PIPE")
    second = session.execute("print('never')")
    third = session.execute("print('third')")
    assert second.cancel() is True
    assert second.cancel() is False
    assert second.done
    assert isinstance(second.error, CallCancelled)
    assert second.outcome is Outcome.CANCELLED
    until(lambda: first.cancel() is False)
    session.writeline("")
    assert third.wait(SOON).stdout == "third\n"
    assert second.stdout == ""


# Session, in this process


def test_session_writes_the_named_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(tmp_path / name) for name in ("out", "err", "done")]
    source = (
        "import sys, os\n"
        "print('out'); print('err', file=sys.stderr)\n"
        f"with open({names[2]!r}) as file: early = file.read()\n"
    )
    session = Session()
    assert session.execute(source, *names) == tuple(names)
    assert [Path(name).read_text() for name in names] == ["out\n", "err\n", "DONE"]
    assert session.namespace["early"] == ""  # DONE comes last
    assert capsys.readouterr() == ("", "")


def test_session_makes_temporary_files() -> None:
    session = Session()
    names = session.execute("print(1 + 1)")
    try:
        assert len(set(names)) == 3
        assert [Path(name).read_text() for name in names] == ["2\n", "", "DONE"]
    finally:
        for name in names:
            Path(name).unlink()


def test_session_keeps_its_namespace_and_reports_errors(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("out", "err", "done")]
    session = Session({"given": 20})
    session.execute("x = given + 1", *names)
    session.execute("print(x)\ndef f():\n    return x / 0\nf()", *names)
    out, err, done = (name.read_text() for name in names)
    assert (out, done) == ("21\n", "DONE")
    assert err.endswith("ZeroDivisionError: division by zero\n")
    assert "    return x / 0\n" in err
    assert "extsession" not in err
    before = sys.stdout
    session.execute("import sys; sys.exit('bye')", *names)
    assert names[1].read_text() == "bye\n"
    assert sys.stdout is before


def test_session_interrupted_code(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("out", "err", "done")]
    with pytest.raises(KeyboardInterrupt):
        Session().execute("print(1); raise KeyboardInterrupt", *names)
    assert [name.read_text() for name in (names[0], names[2])] == ["1\n", "DONE"]


def test_session_is_the_class_that_the_child_runs() -> None:
    # one implementation of "run this source": the evaluator of the shipped code
    from extsession._worker import evaluate, serve, session

    assert session.Evaluator is evaluate.Evaluator is serve.Evaluator
    assert Session is session.Session


def test_a_callback_may_use_the_session_while_another_waits(session: ExtSession) -> None:
    values: list[object] = []
    results = session.execute("x = input()", stdin="PIPE")
    results.add_done_callback(lambda r: values.append(session.eval("x + '!'")))
    waiting = threading.Thread(target=results.wait, args=(SOON,))
    waiting.start()
    session.writeline("y")
    waiting.join(SOON)
    assert not waiting.is_alive()
    until(lambda: values == ["y!"])


def test_many_wait_for_one(session: ExtSession) -> None:
    results = session.execute("print(input())", stdin="PIPE")
    later = session.execute("print('later')")
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda each=each: found.append(each.wait(SOON).stdout))
        for each in (results, later, results, later)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        session.readcodes()  # which takes in what has come, while others sleep in their wait
    session.writeline("now")
    for thread in threads:
        thread.join(SOON)
    assert sorted(found) == ["later\n", "later\n", "now\n", "now\n"]
