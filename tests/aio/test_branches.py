"""Branches, checkpoints and rollback under trio and asyncio: the same as sync, structured, and safe to cancel."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from extsession import AsyncExtSession, CheckpointGone, ForkRefused, Outcome, SessionClosed, SessionDied

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sessions are branched on Linux only")

SOON = 20.0


async def until(condition: Any, timeout: float = SOON) -> None:
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.sleep(0.002)


async def run(session: AsyncExtSession, source: str, **options: Any) -> Any:
    results = await (await session.execute(source, **options))
    assert results.error is None, results.stderr
    return results


def exists(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_branch(session: AsyncExtSession) -> None:
    await run(session, "x = [1]; import asyncio")
    async with await session.fork() as branch:
        assert branch.pid != session.pid
        await run(branch, "x.append(2); await asyncio.sleep(0)")
        assert await session.eval("x") == [1]
        assert await branch.eval("x") == [1, 2]
        pid = branch.pid
    await until(lambda: not exists(pid))
    assert await session.eval("x") == [1]


async def test_many(session: AsyncExtSession) -> None:
    await run(session, "x = 0")
    branches = await session.fork(count=5)
    found = []

    async def work(number: int, branch: AsyncExtSession) -> None:
        async with branch:
            await run(branch, f"x += {number}\nprint(x)")
            found.append(await branch.eval("x"))

    async with anyio.create_task_group() as group:
        for number, branch in enumerate(branches):
            group.start_soon(work, number, branch)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert await session.eval("x") == 0


async def test_in_many_tasks(session: AsyncExtSession) -> None:
    await run(session, "x = 1")
    found = []

    async def work() -> None:
        async with await session.fork() as branch, await branch.fork() as leaf:
            found.append(await leaf.eval("x"))

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(work)
    assert found == [1] * 6


async def test_rollback(session: AsyncExtSession) -> None:
    await run(session, "x = [1]")
    here = await session.checkpoint("here")
    for number in range(5):
        await run(session, "x.append(2); import os")
        if number == 3:
            await (await session.execute("os._exit(1)"))
        await session.rollback(here if number % 2 else "here")
        assert await session.eval("x") == [1]
        assert (await run(session, "print('x')")).stdout == "x\n"
    here.drop()
    with pytest.raises(CheckpointGone):
        await session.rollback("here")
    assert await session.eval("x") == [1]


async def test_calls_that_a_rollback_overtakes(session: AsyncExtSession) -> None:
    await run(session, "import time")
    await session.checkpoint("here")
    calls = [await session.execute("time.sleep(60)"), await session.execute("1")]
    waited = []

    async def wait(results: Any) -> None:
        await results
        waited.append(results.error)

    async with anyio.create_task_group() as group:
        for each in calls:
            group.start_soon(wait, each)
        await anyio.sleep(0.01)
        await session.rollback("here")
    assert [type(each) for each in waited] == [SessionClosed] * 2
    assert await session.eval("1 + 1") == 2


async def test_threads_are_refused(session: AsyncExtSession) -> None:
    await run(session, "import threading, time; threading.Thread(target=time.sleep, args=(100,), name='my worker', daemon=True).start()")
    for ask in (session.fork, session.checkpoint):
        with pytest.raises(ForkRefused, match="my worker"):
            await ask()
    assert await session.eval("1 + 1") == 2


async def test_ends_of_each(session: AsyncExtSession) -> None:
    branch = await session.fork()
    os.kill(branch.pid, signal.SIGKILL)  # type: ignore[arg-type]
    await until(lambda: not branch.is_alive)
    with pytest.raises(SessionDied):
        await branch.fork()
    await branch.aclose()
    async with await session.fork() as branch:
        await session.aclose()
        with pytest.raises((SessionClosed, SessionDied)):
            await session.fork()
        assert await branch.eval("1 + 1") == 2


async def test_an_interrupt_is_for_one_of_them(session: AsyncExtSession) -> None:
    await run(session, "import time")
    async with await session.fork() as branch:
        ours, theirs = await session.execute("time.sleep(60)"), await branch.execute("time.sleep(60)")
        with anyio.move_on_after(0.1):
            await theirs
        await theirs
        assert theirs.outcome is Outcome.INTERRUPTED
        assert not ours.done
        await ours.interrupt()
        await ours
        assert ours.outcome is Outcome.INTERRUPTED
        assert await session.eval("1 + 1") == await branch.eval("1 + 1") == 2


# cancelled


@pytest.mark.parametrize("what", ["fork", "five", "checkpoint", "rollback"])
async def test_cancelled_at_some_moment(session: AsyncExtSession, what: str) -> None:
    """Nothing is left of it, and the session is as it was, or (rollback) as it was to be."""
    await run(session, "x = 1")
    await session.checkpoint("here")
    made: list[AsyncExtSession] = []

    async def ask() -> None:
        if what == "fork":
            made.append(await session.fork())
        elif what == "five":
            made.extend(await session.fork(count=5))
        elif what == "checkpoint":
            await session.checkpoint("there")
        else:
            await session.rollback("here")

    def children() -> int:
        with open(f"/proc/{warden}/task/{warden}/children") as file:
            return len(file.read().split())

    warden = int(Path(f"/proc/{session.pid}/stat").read_text().rpartition(")")[2].split()[1])
    await ask()
    for each in made:
        await each.aclose()
    made.clear()
    count = children()
    for delay in (0, 0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005):
        for _ in range(3):
            with anyio.move_on_after(delay):
                await ask()
            for each in made:
                await each.aclose()
            made.clear()
            assert await session.eval("x") == 1
    await until(lambda: children() <= count)


async def test_cancelled_while_it_waits_for_its_turn(session: AsyncExtSession) -> None:
    await run(session, "import time")
    results = await session.execute("time.sleep(0.3)")
    for _ in range(5):
        with anyio.move_on_after(0.01) as scope:
            await session.fork()
        assert scope.cancelled_caught
    await results
    assert results.error is None
    async with await session.fork() as branch:
        assert await branch.eval("1 + 1") == 2


async def test_a_branch_of_a_cancelled_scope_ends(session: AsyncExtSession) -> None:
    pid = None
    with anyio.CancelScope() as scope:
        async with await session.fork() as branch:
            pid = branch.pid
            scope.cancel()
            await branch.eval("1")
    assert pid is not None
    await until(lambda: not exists(pid))
    assert await session.eval("1 + 1") == 2


async def test_in_a_cancelled_scope(session: AsyncExtSession) -> None:
    await session.checkpoint("here")
    pid = session.pid
    for ask in (session.fork, session.checkpoint, lambda: session.rollback("here")):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ask()
        assert scope.cancelled_caught
    assert session.pid == pid
    assert await session.eval("1 + 1") == 2


async def test_a_stopped_session(session: AsyncExtSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever, and goes on when it is let."""
    from extsession import LaunchError
    from extsession._aio import session as module

    monkeypatch.setattr(module, "MOST_TIME", 0.3)
    assert session.pid is not None
    os.kill(session.pid, signal.SIGSTOP)
    began = time.monotonic()
    for ask in (session.fork, session.checkpoint):
        with pytest.raises(LaunchError, match="did not branch"):
            with anyio.fail_after(SOON):
                task = ask()
                os.kill(session.pid, signal.SIGSTOP)
                await task
        os.kill(session.pid, signal.SIGCONT)
        assert await session.eval("1 + 1") == 2
    assert time.monotonic() - began < 15


async def test_restart_and_checkpoints(session: AsyncExtSession) -> None:
    made = await session.checkpoint("here")
    await session.restart()
    assert not made.is_alive
    assert session.checkpoints == ()
    await run(session, "x = 1")
    await session.checkpoint("here")
    await run(session, "x = 2")
    await session.rollback("here")
    assert await session.eval("x") == 1


async def test_the_object_of_a_branch_is_dropped(session: AsyncExtSession) -> None:
    branch = await session.fork()
    await branch.checkpoint()
    pid = branch.pid
    del branch
    gc.collect()
    await until(lambda: not exists(pid))
    assert await session.eval("1 + 1") == 2


async def test_events_of_a_branch(session: AsyncExtSession) -> None:
    async with await session.fork() as branch:
        events = branch.events()
        await run(branch, "print('one')")
        data = b""
        while len(data) < 4:  # print() writes the end of the line apart
            data += (await events.__anext__()).data
        assert data == b"one\n"


async def test_input_of_a_branch() -> None:
    async def answer(prompt: str, password: bool) -> str:
        await anyio.sleep(0)
        return f"to {prompt}"

    async with AsyncExtSession(stdin=answer) as session, await session.fork() as branch:
        assert (await run(branch, "print(input('you'))")).stdout == "youto you\n"
        assert (await run(session, "print(input('me'))")).stdout == "meto me\n"
