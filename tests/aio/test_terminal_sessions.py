"""Sessions on pseudo-terminals, from an event loop."""

from __future__ import annotations

import signal
import sys

import pytest

from extsession import AsyncExtSession, Outcome, SessionDied

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts on Linux's ptys")

IMPORTS = "import os, signal, subprocess, sys, threading"


async def test_a_terminal_and_its_size() -> None:
    async with AsyncExtSession(terminal=(30, 100)) as session:
        await (await session.execute(IMPORTS)).wait()
        assert await session.eval("[os.isatty(fd) for fd in range(3)]") == [True] * 3
        assert await session.eval("tuple(os.get_terminal_size())") == (100, 30)
        source = "seen = []\nsignal.signal(signal.SIGWINCH, lambda *_: seen.append(tuple(os.get_terminal_size())))"
        await (await session.execute(source)).wait()
        await session.resize(50, 132)
        assert await session.eval("seen") == [(132, 50)]
        results = await (await session.execute("subprocess.run(['stty', 'size']); print(input('? '))", stdin="x\n")).wait()
        assert results.stdout == "50 132\n? x\n"
        await session.restart()
        assert await session.eval("tuple(__import__('os').get_terminal_size())") == (132, 50)
    with pytest.raises(SessionDied):
        await session.resize(24, 80)


async def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="terminal takes"):
        AsyncExtSession(terminal=80)  # type: ignore[arg-type]
    async with AsyncExtSession() as session:
        with pytest.raises(TypeError, match="terminal="):
            await session.resize(24, 80)


async def test_calls_are_apart_and_complete() -> None:
    async with AsyncExtSession(terminal=True) as session:
        await (await session.execute(IMPORTS)).wait()
        for size in (1, 4095, 4096, 65536, 200_000):
            name = f"{size}|"
            source = f"os.write(1, b'{name}' * {size}); print('{name}', file=sys.stderr)\nos.system('echo sub; echo err >&2')"
            results = await (await session.execute(source + "\nNone")).wait()
            assert results.stdout == name * size + "sub\n"
            assert results.stderr == f"{name}\nerr\n"


async def test_a_flood_and_an_interrupt() -> None:
    async with AsyncExtSession(terminal=True) as session:
        results = await session.execute("import os\nwhile True: os.write(1, b'x' * 5000)", output_limit=10_000)
        async for chunk in results:
            assert set(chunk.data) == {ord("x")}
            break
        await results.interrupt()
        assert (await results.wait()).outcome is Outcome.INTERRUPTED
        results = await (await session.execute(f"print('last'); os.kill(os.getpid(), {int(signal.SIGKILL)})")).wait()
        assert (results.outcome, results.stdout) == (Outcome.LOST, "last\n")


async def test_a_branch_has_its_own() -> None:
    async with AsyncExtSession(terminal=(30, 40)) as session:
        await (await session.execute(IMPORTS)).wait()
        async with await session.fork() as branch:
            names = {await each.eval(f"os.ttyname({fd})") for each in (session, branch) for fd in (1, 2)}
            assert len(names) == 4
            assert await branch.eval("tuple(os.get_terminal_size())") == (40, 30)
