"""All asynchronous tests run under trio and under asyncio.

Not by anyio's pytest plugin: it runs trio as a guest, in a thread that outlives the test. The argument `session`
of a test is an AsyncExtSession, entered around it.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest
import trio

from extsession import AsyncExtSession


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop")
        metafunc.parametrize("loop", ["trio", "asyncio"])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = inspect.signature(function).parameters
    values = {name: pyfuncitem.funcargs[name] for name in names}

    async def run() -> None:
        if "session" in values:
            async with values["session"]:
                await function(**values)
        else:
            await function(**values)

    if pyfuncitem.callspec.params["loop"] == "trio":
        trio.run(run)
    else:
        asyncio.run(run())
    return True


@pytest.fixture
def session() -> AsyncExtSession:
    return AsyncExtSession()
