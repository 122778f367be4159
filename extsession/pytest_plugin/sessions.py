"""What the fixtures do that give sessions to tests.

A session that a test was given is remembered until the test's reports are made: what it was asked for, and how it
ended, is shown with a failure.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import pytest

from extsession import AsyncExtSession, ExtSession, SessionDied, extexec

from . import GIVEN

#: calls that are shown
_CALLS: Final = 10
#: characters of one of their lines
_WIDTH: Final = 100
#: seconds in which a session and all that it started must be gone
_PATIENCE: Final = 5.0


def options_of(node: pytest.Item | pytest.Collector) -> dict[str, Any]:
    """The keywords of the marks `ext_options`, the closest first."""
    found: dict[str, Any] = {}
    for mark in node.iter_markers("ext_options"):
        if mark.args:
            raise pytest.UsageError(f"{node.nodeid}: mark ext_options takes keywords only, not {mark.args!r}")
        for name, value in mark.kwargs.items():
            found.setdefault(name, value)
    return found


def one_shot(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`extexec` with the options of the test."""
    options = options_of(request.node)

    def run(source: str, **keywords: Any) -> Any:
        return extexec(source, **{**options, **keywords})

    return run


class Given:
    """The sessions that one fixture has given; they end with it."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node
        self._options = options_of(request.node)
        self._sessions: list[ExtSession] = []
        self.calls: deque[tuple[str, Any]] = deque(maxlen=_CALLS)

    def __enter__(self) -> Given:
        self._node.stash.setdefault(GIVEN, []).append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sessions, self._sessions = self._sessions, []
        pids = [session.pid for session in sessions]
        for session in sessions:
            session.close()
        left = [pid for pid in pids if pid is not None and not _is_gone(pid)]
        self._node.stash[GIVEN].remove(self)
        if left:
            pids_left = ", ".join(map(str, left))
            pytest.fail(f"extsession: left over after {_PATIENCE:g} s: process {pids_left}", pytrace=False)

    def start(self, n: int = 1, python: str | os.PathLike[str] | None = None, **keywords: Any) -> list[ExtSession]:
        """n sessions, which start at the same time."""
        options = {**self._options, **keywords}
        if python is not None:
            options["python"] = python
        return [self._given(ExtSession(**options)) for _ in range(n)]

    def prepared(self, source: str) -> ExtSession:
        """A session in which `source` has run. What it raises is raised here."""
        (session,) = self.start(1)
        if source:
            results = session.execute(source).wait()
            if results.error is not None:
                raise results.error
        return session

    def branch_of(self, base: ExtSession) -> ExtSession:
        return self._given(base.fork())

    def asynchronous(self) -> AsyncExtSession:
        return AsyncExtSession(**self._options)

    def _given(self, session: ExtSession) -> ExtSession:
        self._sessions.append(session)
        for name in ("execute", "eval", "call"):
            setattr(session, name, self._recorded(name, getattr(session, name)))
        return session

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            what = args[0] if args else keywords.get("source", keywords.get("expression"))
            text = f"{name}({getattr(what, '__qualname__', what)!r})"
            try:
                result = function(*args, **keywords)
            except BaseException as error:
                self.calls.append((text, error))
                raise
            self.calls.append((text, result))
            return result

        return call

    def dead(self) -> list[SessionDied]:
        """Why those are dead that the test has not ended itself."""
        found = [session.error for session in self._sessions if not session.is_alive]
        return [error for error in found if isinstance(error, SessionDied)]


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's by now
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def add_sections(item: pytest.Item, report: pytest.TestReport) -> None:
    """Tell in a report what became of the sessions of its test."""
    for given in item.stash.get(GIVEN, []):
        for error in given.dead():
            report.sections.append(("extsession: session died", _how(error)))
        if report.failed and given.calls:
            lines = [_shortened(f"{text} -> {_outcome(result)}") for text, result in given.calls]
            report.sections.append(("extsession: calls", "\n".join(lines)))


def _how(error: SessionDied) -> str:
    facts = {"exit code": error.exit_code, "signal": error.signal, "limit": error.limit, "running": error.running}
    lines = [f"{name}: {value}" for name, value in facts.items() if value is not None]
    if error.stderr:
        lines += ["the last of its stderr:", error.stderr.rstrip("\n")]
    return "\n".join(lines) or str(error)


def _outcome(result: Any) -> str:
    completion = None
    with contextlib.suppress(Exception):
        completion = result.completion
    if completion is not None:
        return str(completion)
    if isinstance(result, BaseException):
        return f"{type(result).__name__}: {result}"
    return repr(result)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."
