"""AsyncExtSession does what ExtSession does, without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

import anyio
import pytest
import trio

from extsession import (
    PIPE,
    AsyncExtEval,
    AsyncExtSession,
    CallTimeout,
    InterpreterError,
    LaunchError,
    NotReady,
    Outcome,
    OutputChunk,
    RemoteError,
    SessionClosed,
    SessionDied,
    ValueRefused,
    async_exteval,
    async_extexec,
)

SOON = 20.0


async def test_execute_gives_results_at_once_and_apart(session: AsyncExtSession) -> None:
    one = await session.execute("import sys; print('one'); print('err', file=sys.stderr)")
    two = await session.execute("print('two'); 6 * 7")
    with pytest.raises(NotReady):
        _ = two.stdout
    assert await two is two
    assert one.done
    assert (one.stdout, one.stderr) == ("one\n", "err\n")
    assert (two.stdout, two.stderr, two.repr) == ("two\n", "", "42")
    assert two.read(1) == "t" and two.read() == "wo\n"
    assert [code.call for code in await session.readcodes()] == [1, 2]
    assert await session.readcodes() == []


async def test_values(session: AsyncExtSession) -> None:
    assert await session.eval("[1, 2.5, 'x']") == [1, 2.5, "x"]
    assert await session.call(max, 3, 7) == 7
    await session.set("x", {"a": b"1"})
    assert await session.get("x") == await session["x"] == {"a": b"1"}
    assert await session.contains("x")
    assert not await session.contains(3)
    assert await session.names() == ["x"]
    await session.delete("x")
    for missing in (session.get("x"), session.delete("x")):
        with pytest.raises(KeyError):
            await missing
    with pytest.raises(ValueRefused):
        await session.eval("__import__('threading').Lock()")
    with pytest.raises(ZeroDivisionError):
        await session.eval("1 / 0")
    await (await session.execute("class Odd(Exception): pass\ndef odd(): raise Odd('x')"))
    with pytest.raises(RemoteError):
        await session.eval("odd()")
    assert await session.eval("1") == 1


async def test_it_is_not_a_container(session: AsyncExtSession) -> None:
    with pytest.raises(TypeError):
        "x" in session  # type: ignore[operator]
    with pytest.raises(TypeError):
        iter(session)  # type: ignore[call-overload]


async def test_front_end_requests(session: AsyncExtSession) -> None:
    await (await session.execute("value = 1"))
    assert "value" in (await session.complete("val"))["matches"]
    assert (await session.inspect("value"))["found"]
    assert (await session.is_complete("if x:"))["status"] == "incomplete"


async def test_result_and_errors_are_on_the_results(session: AsyncExtSession) -> None:
    results = await session.execute("1 / 0")
    with pytest.raises(ZeroDivisionError):
        await results.result()
    assert results.outcome is Outcome.FAILED
    assert isinstance(results.error, ZeroDivisionError)


async def test_timeout_of_a_call(session: AsyncExtSession) -> None:
    with pytest.raises(CallTimeout):
        await session.eval("[None for _ in iter(int, 1)]", timeout=0.1)
    first = await session.execute("pass")
    late = await session.execute("while True: pass", timeout=0.1)
    await late.wait(SOON)
    assert first.outcome is Outcome.FINISHED
    assert late.outcome is Outcome.TIMED_OUT
    assert late.completion.survived


async def test_timeout_of_a_wait_leaves_the_call_alone(session: AsyncExtSession) -> None:
    results = await session.execute("input()", stdin=PIPE)
    with pytest.raises(TimeoutError):
        await results.wait(0.01)
    with pytest.raises(TimeoutError):
        await results.result(0.01)
    await session.writeline("on")
    assert (await results.wait(SOON)).outcome is Outcome.FINISHED


async def test_chunks_come_while_the_code_runs(session: AsyncExtSession) -> None:
    results = await session.execute("print('a', flush=True); input(); print('b'); input()", stdin=PIPE)
    seen = ""
    async for chunk in results:
        seen += chunk.text
        if seen in ("a\n", "a\nb\n"):
            await session.writeline("go")
    assert seen == "a\nb\n"
    assert results.done
    assert "".join([chunk.text async for chunk in results.chunks()]) == "a\nb\n"


async def test_events_are_of_all_calls_and_end_with_the_session(session: AsyncExtSession) -> None:
    seen: list[OutputChunk] = []
    dropped = session.events()
    events = session.events()

    async def collect() -> None:
        async for chunk in events:
            seen.append(chunk)

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        await (await session.execute("print(1)"))
        del dropped
        await (await session.execute("print(2)"))
        assert await session.exit() == 0
    for call in (1, 2):
        assert "".join([chunk.text for chunk in seen if chunk.call == call]) == f"{call}\n"


async def test_readline_and_writeline(session: AsyncExtSession) -> None:
    results = await session.execute("print('ask'); print('got', input())", stdin=PIPE)
    assert await session.readline(SOON) == "ask\n"
    with pytest.raises(TimeoutError):
        await session.readline(0.01)
    with anyio.move_on_after(0.01):
        await session.readline()
    await session.writeline("it")
    assert await session.readline(SOON) == "got it\n"
    await results
    assert await session.readline(SOON) == ""


async def test_close_stdin(session: AsyncExtSession) -> None:
    results = await session.execute("input()", stdin=PIPE)
    await session.close_stdin()
    await results.wait(SOON)
    assert isinstance(results.error, EOFError)


async def test_input_that_nobody_answers(session: AsyncExtSession) -> None:
    results = await session.execute("input()")
    with anyio.fail_after(0.9):  # at once, while somebody waits
        await results
    assert isinstance(results.error, EOFError)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_callback_answers_input(kind: str) -> None:
    asked: list[tuple[str, bool]] = []

    def answer(prompt: str, password: bool) -> str | None:
        asked.append((prompt, password))
        return None if len(asked) > 2 else f"line {len(asked)}"

    async def answer_async(prompt: str, password: bool) -> str | None:
        await anyio.sleep(0.001)
        return answer(prompt, password)

    async with AsyncExtSession(stdin=answer if kind == "sync" else answer_async) as session:
        results = await session.execute("print(input('one? '))\nprint(input('two? '))\ninput()")
        await results.wait(SOON)
        assert results.stdout == "one? line 1\ntwo? line 2\n"
        assert isinstance(results.error, EOFError)
        assert asked == [("one? ", False), ("two? ", False), ("", False)]


async def test_a_callback_that_fails_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(prompt: str, password: bool) -> str:
        raise LookupError("the callback failed")

    async with AsyncExtSession() as session:
        results = await session.execute("input()", stdin=fail)
        await results.wait(SOON)
        assert isinstance(results.error, EOFError)
    assert "the callback failed" in capsys.readouterr().err


async def test_a_callback_ends_with_its_question() -> None:
    ended = []

    async def never(prompt: str, password: bool) -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(prompt)
        return ""

    async with AsyncExtSession(stdin=never) as session:
        results = await session.execute("input('a')")
        with pytest.raises(TimeoutError):
            await results.wait(0.2)
        await session.interrupt()
        await results.wait(SOON)
        assert results.outcome is Outcome.INTERRUPTED
        await session.execute("input('b')")
        await anyio.sleep(0.1)
    assert ended == ["a", "b"]


async def test_callbacks(session: AsyncExtSession, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    chunks: list[OutputChunk] = []

    def fail(_: object) -> None:
        raise LookupError("a callback failed")

    results = await session.execute("print(1)", on_output=chunks.append)
    results.add_done_callback(fail)
    results.add_done_callback(seen.append)
    await results
    results.add_done_callback(seen.append)
    assert seen == [results, results]
    assert "".join([chunk.text for chunk in chunks]) == "1\n"
    results = await session.execute("import os; os.write(1, b'2')", on_output=fail)
    assert (await results).completion.ok
    assert capsys.readouterr().err.count("\nLookupError: a callback failed") == 2


async def test_interrupt_and_cancel(session: AsyncExtSession) -> None:
    running = await session.execute("print('on', flush=True)\nwhile True: pass")
    queued = await session.execute("print('never')")
    assert await session.readline(SOON) == "on\n"
    assert not await queued.interrupt()
    assert not await running.cancel()
    assert await queued.cancel()
    assert queued.outcome is Outcome.CANCELLED
    assert await running.interrupt()
    assert (await running.wait(SOON)).outcome is Outcome.INTERRUPTED
    assert not await session.interrupt()


async def test_exit_restart_and_the_end() -> None:
    async with AsyncExtSession() as session:
        first = session.pid
        await (await session.execute("import atexit; atexit.register(print, 'bye')"))
        assert await session.exit(3, timeout=SOON) == 3
        assert await session.exit(4) == 3
        assert session.exit_output == ("bye\n", "")
        assert not session.is_alive
        with pytest.raises(SessionClosed):
            await session.execute("1")
        await session.restart()
        assert session.is_alive and session.pid != first
        assert await session.eval("1") == 1
        await session.terminate()
        with pytest.raises(SessionDied):
            await session.eval("__import__('time').sleep(60)")
        await session.restart()
        results = await session.execute("while True: pass")
        await session.kill()
        assert results.outcome is Outcome.KILLED
        assert isinstance(session.error, SessionDied)
        await session.aclose()
    await session.aclose()


async def test_death_is_told_to_all_that_wait(session: AsyncExtSession) -> None:
    running = await session.execute("import os; os._exit(5)")
    queued = await session.execute("1")
    with pytest.raises(SessionDied) as caught:
        await queued.result()
    assert caught.value.exit_code == 5
    assert running.outcome is Outcome.LOST
    assert not session.is_alive


async def test_outside_of_async_with() -> None:
    session = AsyncExtSession()
    assert (session.pid, session.error, session.is_alive, session.exit_code) == (None, None, False, None)
    assert "not started" in repr(session)
    with pytest.raises(SessionClosed, match="async with"):
        await session.execute("1")
    with pytest.raises(SessionClosed, match="async with"):
        await session.eval("1")
    await session.aclose()
    async with session:
        assert str(session.pid) in repr(session)
        with pytest.raises(SessionClosed, match="once"):
            await session.__aenter__()
        assert session.is_alive
    with pytest.raises(SessionDied):
        await session.eval("1")


async def test_a_bad_interpreter_or_directory(tmp_path: Any) -> None:
    with pytest.raises(LaunchError, match="no-such-dir"):
        async with AsyncExtSession(cwd=tmp_path / "no-such-dir"):
            pytest.fail("it started")
    with pytest.raises(TypeError):
        AsyncExtSession(stdin="text")  # type: ignore[arg-type]


async def test_another_interpreter() -> None:
    async with AsyncExtSession(sys.executable) as session:
        assert await session.eval("__import__('sys').executable") == session.interpreter.path
        await session.restart()
        assert await session.eval("1") == 1
    with pytest.raises(InterpreterError, match="no-such-python"):
        await async_exteval("1", python="/no-such-python")


async def test_another_thread_is_refused(session: AsyncExtSession) -> None:
    def run() -> None:
        async def inner() -> None:
            with pytest.raises(RuntimeError, match="thread of its event loop"):
                await session.eval("1")

        trio.run(inner)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_loops_in_several_threads_at_once() -> None:
    found: list[int] = []

    async def use(value: int) -> None:
        async with AsyncExtSession() as session:
            for _ in range(20):
                found.append(await session.eval(f"{value}"))

    threads = [
        threading.Thread(target=lambda: trio.run(use, 1)),
        threading.Thread(target=lambda: trio.run(use, 2)),
        threading.Thread(target=lambda: asyncio.run(use(3))),
        threading.Thread(target=lambda: asyncio.run(use(4))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [1] * 20 + [2] * 20 + [3] * 20 + [4] * 20


async def test_twenty_sessions_at_once() -> None:
    values: dict[int, int] = {}

    async def use(number: int) -> None:
        async with AsyncExtSession() as session:
            await session.set("n", number)
            values[number] = sum([await session.eval("n") for _ in range(10)])

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(use, number)
    assert values == {number: 10 * number for number in range(20)}


async def test_many_tasks_use_one_session(session: AsyncExtSession) -> None:
    results: dict[int, int] = {}

    async def use(number: int) -> None:
        results[number] = await session.eval(f"{number} + 1")

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(use, number)
    assert results == {number: number + 1 for number in range(100)}


async def test_the_loop_goes_on_while_code_floods(session: AsyncExtSession) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        results = await session.execute("import sys\nfor _ in range(300): sys.stdout.write('x' * 100_000)")
        await results
        group.cancel_scope.cancel()
    assert len(results.stdout) == 30_000_000
    assert ticks > 3


async def test_unattended_code_goes_on(session: AsyncExtSession) -> None:
    results = await session.execute("print('x' * 1_000_000)")
    with anyio.fail_after(SOON):
        while not results.done:
            await anyio.sleep(0.001)
    assert len(results.stdout) == 1_000_001


async def test_a_forked_process_lets_go(session: AsyncExtSession) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:  # no test code: no pytest, no event loop
        try:
            session._driver.check()  # type: ignore[union-attr]
        except SessionClosed:
            os.write(writer, b"refused")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    os.waitpid(pid, 0)
    with anyio.fail_after(SOON):
        assert await session.eval("2") == 2
        assert (await (await session.execute("print('x')"))).stdout == "x\n"


async def test_one_shots() -> None:
    assert await async_exteval("6 * 7") == 42
    with pytest.raises(ZeroDivisionError):
        await async_exteval("1 / 0")
    done = await async_extexec("import atexit; atexit.register(print, 'end'); print(input())", stdin="in\n")
    assert done == ("in\nend\n", "")
    assert (done.exit_status, done.error) == (0, None)
    done = await async_extexec("raise SystemExit(3)")
    assert (done.exit_status, done.error) == (3, None)
    done = await async_extexec("1 / 0")
    assert done.exit_status == 1 and isinstance(done.error, ZeroDivisionError)


async def test_ext_eval() -> None:
    assert await AsyncExtEval("1 + 1") == 2
    unused = AsyncExtEval("1")
    with pytest.raises(SessionClosed, match="async with"):
        await unused.wait()
    async with AsyncExtEval("2 + 2") as value:
        with pytest.raises(ValueError):
            _ = value.result
        assert await value.wait(SOON) is value
        assert value.done
        assert value.result == await value == 4
        assert not await value.cancel()
    assert value.result == 4
    async with AsyncExtEval("1 / 0") as value:
        with pytest.raises(ZeroDivisionError):
            await value
    async with AsyncExtEval("[None for _ in iter(int, 1)]") as value:
        with pytest.raises(TimeoutError):
            await value.wait(0.01)
        assert await value.cancel()
        with pytest.raises(SessionDied):
            _ = value.result
    async with AsyncExtEval("[None for _ in iter(int, 1)]") as value:
        pass
    with pytest.raises(SessionDied):
        _ = value.result
