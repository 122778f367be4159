"""The subject: sessions as the rows want them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import extsession
from extsession import ExtSession

from .harness import Bench, Missing

NAME = "extsession"

#: a new interpreter, also where sessions are forked from a template by default
SPAWNED: dict[str, Any] = {"warm": False} if "warm" in inspect.signature(ExtSession).parameters else {}


def session(bench: Bench) -> ExtSession:
    """A session that has run something, to be closed with the row."""
    made: ExtSession = bench.enter(ExtSession())
    made.execute("pass").wait()
    return made


def async_session() -> Any:
    """The class AsyncExtSession."""
    try:
        return extsession.AsyncExtSession
    except (AttributeError, ImportError) as error:
        raise Missing(f"AsyncExtSession is not there: {error}") from None


async def with_async_session(work: Callable[[Any], Awaitable[float]]) -> float:
    """What `work` measures on a session of its own."""
    async with async_session()() as made:
        return await work(made)
