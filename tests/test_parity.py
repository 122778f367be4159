"""The two colours have the same methods with the same parameters; what differs on purpose is listed here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from extsession import (
    AsyncExtEval,
    AsyncExtResults,
    AsyncExtSession,
    AsyncSessionPool,
    ExtEval,
    ExtResults,
    ExtSession,
    SessionPool,
    async_exteval,
    async_extexec,
    exteval,
    extexec,
)

PAIRS = [(ExtSession, AsyncExtSession), (ExtResults, AsyncExtResults), (ExtEval, AsyncExtEval), (SessionPool, AsyncSessionPool)]

#: sync name -> async name; None: there is none, for the reason beside it
RENAMED: dict[str, str | None] = {
    "ExtSession.close": "aclose",  # as everywhere in async Python
    "ExtSession.__enter__": "__aenter__",
    "ExtSession.__exit__": "__aexit__",
    "ExtSession.__setitem__": "set",  # `session[name] = value` cannot be awaited
    "ExtSession.__delitem__": "delete",
    "ExtSession.__contains__": "contains",
    "ExtSession.__iter__": "names",
    "ExtResults.__iter__": "__aiter__",
    "ExtResults.future": None,  # tasks await the results; threads have ExtSession
    "ExtEval.future": None,
    "SessionPool.close": "aclose",
    "SessionPool.__enter__": "__aenter__",
    "SessionPool.__exit__": "__aexit__",
}
#: only there in the async colour
ADDED = {
    "AsyncExtSession.get",  # what `await session[name]` is
    "AsyncExtEval.__aenter__",  # structured: a process has a scope, so ExtEval's twin has one
    "AsyncExtEval.__aexit__",
}
#: not coroutines: they give at once something to be awaited or iterated over, or read what has arrived
PLAIN = {
    "AsyncExtSession.__getitem__",
    "AsyncExtSession.events",
    "AsyncExtSession.samples",
    "AsyncExtSession.statistics",
    "AsyncExtSession.limits_in_force",
    "AsyncExtResults.__await__",
    "AsyncExtResults.__aiter__",
    "AsyncExtResults.chunks",
    "AsyncExtResults.add_done_callback",
    "AsyncExtResults.raise_for_error",
    "AsyncExtResults.read",
    "AsyncExtEval.__await__",
    "AsyncSessionPool.acquire",
    "AsyncSessionPool.map",
    "AsyncSessionPool.statistics",
    "AsyncSessionPool.submit",
}
SPECIAL = {"__init__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__aiter__"}
SPECIAL |= {"__enter__", "__exit__", "__aenter__", "__aexit__", "__await__"}


def public(kind: type) -> dict[str, Any]:
    found = {}
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name in SPECIAL or not name.startswith("_"):
            if member is not None:  # set to None: what the class cannot do
                found[name] = member
    return found


def shape(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def twin(sync: type, name: str) -> str | None:
    return RENAMED.get(f"{sync.__name__}.{name}", name)


@pytest.mark.parametrize("sync, async_", PAIRS)
def test_every_member_has_a_twin(sync: type, async_: type) -> None:
    theirs = public(async_)
    wanted = {}
    for name, member in public(sync).items():
        other = twin(sync, name)
        if other is not None:
            wanted[other] = member
    extra = {name for name in theirs if f"{async_.__name__}.{name}" in ADDED}
    assert set(theirs) - extra == set(wanted)
    for name, member in wanted.items():
        assert isinstance(theirs[name], property) is isinstance(member, property), name


@pytest.mark.parametrize("sync, async_", PAIRS)
def test_methods_have_the_same_parameters(sync: type, async_: type) -> None:
    theirs = public(async_)
    for name, member in public(sync).items():
        other = twin(sync, name)
        if other is None or isinstance(member, property) or name == "__exit__":
            continue
        pair = f"{sync.__name__}.{name} and {async_.__name__}.{other}"
        mine, its = shape(member), shape(theirs[other])
        if name in ("__setitem__", "__delitem__", "__contains__", "__iter__"):  # names of operators are free
            mine, its = [each[1:] for each in mine], [each[1:] for each in its]  # type: ignore[misc]
        assert mine == its, pair


@pytest.mark.parametrize("async_", [pair[1] for pair in PAIRS])
def test_methods_that_are_awaited(async_: type) -> None:
    for name, member in public(async_).items():
        if isinstance(member, property) or name == "__init__":
            continue
        plain = f"{async_.__name__}.{name}" in PLAIN
        assert inspect.iscoroutinefunction(member) is not plain, name


@pytest.mark.parametrize("sync, async_", [(exteval, async_exteval), (extexec, async_extexec)])
def test_one_shots(sync: Callable[..., Any], async_: Callable[..., Any]) -> None:
    assert shape(sync) == shape(async_)
    assert inspect.iscoroutinefunction(async_)


def test_the_tables_are_not_out_of_date() -> None:
    kinds = {kind.__name__: kind for pair in PAIRS for kind in pair}
    for entry in (*RENAMED, *ADDED, *PLAIN):
        kind, _, name = entry.partition(".")
        assert hasattr(kinds[kind], name), entry
