"""What a session uses, asked for and streamed in an event loop."""

from __future__ import annotations

import os
import sys
import time

import anyio
import pytest

from extsession import AsyncExtSession, SessionClosed, SessionUsage


async def test_usage(session: AsyncExtSession) -> None:
    call = await session.execute("while True: pass")
    usage = await session.usage()
    assert isinstance(usage, SessionUsage)
    assert (usage.processes, usage.pss) == (1, None)
    with anyio.fail_after(5):
        while (await session.usage()).cpu < 0.1:
            await anyio.sleep(0.01)
    await session.interrupt()
    await call
    if sys.platform == "linux":
        assert ((await session.usage(pss=True)).pss or 0) > 100_000


async def test_of_a_dead_session(session: AsyncExtSession) -> None:
    await session.kill()
    assert (await session.usage()).processes == 0


async def test_before_the_start() -> None:
    other = AsyncExtSession()
    with pytest.raises(SessionClosed):
        await other.usage()
    with pytest.raises(SessionClosed):
        other.samples()


async def test_samples_while_it_works(session: AsyncExtSession) -> None:
    found: list[SessionUsage] = []
    call = await session.execute("import time; time.sleep(0.3); print('done')")
    async for sample in session.samples(0.02):
        found.append(sample)
        if call.done:
            break
    assert (await call).stdout == "done\n"
    assert 3 <= len(found) <= 20
    walls = [each.wall for each in found]
    assert walls == sorted(walls)


@pytest.mark.parametrize("end", ["aclose", "die"])
async def test_samples_end_with_the_session(session: AsyncExtSession, end: str) -> None:
    found = []
    begin = time.monotonic()

    async def finish() -> None:
        await anyio.sleep(0.05)
        if end == "die":
            os.kill(session.pid or 0, 9)
        else:
            await session.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish)
        async for sample in session.samples(30):
            found.append(sample)
    assert len(found) == 1
    assert time.monotonic() - begin < 3


async def test_samples_are_cancelled(session: AsyncExtSession) -> None:
    with anyio.move_on_after(0.05) as scope:
        async for _ in session.samples(30):
            pass
    assert scope.cancelled_caught
    assert await session.eval("1 + 1") == 2


async def test_intervals_that_are_none(session: AsyncExtSession) -> None:
    with pytest.raises(ValueError, match="interval takes seconds"):
        session.samples(0)
