"""Two sessions under asyncio. The same class as for trio; cancelling a task interrupts its call."""

import asyncio

from extsession import AsyncExtSession


async def slow_square(number: int) -> int:
    async with AsyncExtSession() as session:
        await session.set("number", number)
        results = await session.execute("import time; time.sleep(0.2); square = number ** 2; print(square)")
        await results
        print("printed:", results.stdout, end="")
        return await session.get("square")


async def main() -> None:
    print("squares:", await asyncio.gather(slow_square(7), slow_square(8)))

    async with AsyncExtSession() as session:
        await session.set("x", 20)
        try:
            await asyncio.wait_for(session.eval("__import__('time').sleep(60)"), 0.5)
        except asyncio.TimeoutError:
            print("the sleep was cancelled; the session has x =", await session.eval("x + 1"))


asyncio.run(main())
