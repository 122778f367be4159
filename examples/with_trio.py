"""Two sessions under trio. Cancelling a scope interrupts the call, and leaves no process behind."""

import trio

from extsession import AsyncExtSession


async def count(name: str, steps: int) -> None:
    async with AsyncExtSession() as session:
        await session.set("name", name)
        await session.execute(f"import time\nfor n in range({steps}):\n    print(name, n)\n    time.sleep(0.1)")
        for _ in range(steps):
            print(await session.readline(), end="")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, "apples", 3)
        nursery.start_soon(count, "pears", 3)

    async with AsyncExtSession() as session:
        await session.set("x", 20)
        with trio.move_on_after(0.5):
            await session.eval("__import__('time').sleep(60)")
        print("the sleep was cancelled; the session has x =", await session.eval("x + 1"))


trio.run(main)
