"""Sessions in bubblewrap. Where our own process may make namespaces, it is told that it may not."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtResults, ExtSession, Isolation, IsolationUnavailable
from extsession._launch import bwrap, walled

SOON = 60.0


@functools.cache
def runner() -> Any:
    """tests/attacks/runner.py, by its path."""
    spec = importlib.util.spec_from_file_location(
        "extsession_attack_runner_of_bwrap", Path(__file__).parent.parent / "attacks" / "runner.py"
    )
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@functools.cache
def interpreter() -> str:
    """One that whoever sessions are may run: as root not one below /root, which is closed to others."""
    found: str = runner().python("ordinary")
    return found


@functools.cache
def _why_not() -> str:
    if not sys.platform.startswith("linux"):
        return "isolation is for Linux only"
    if bwrap.find() is None:
        return "bubblewrap is not installed"
    if not interpreter():
        return "no interpreter that an ordinary user may run"
    try:
        with ExtSession(python=interpreter(), isolation=Isolation(tier="bwrap")):
            return ""
    except IsolationUnavailable as error:
        return str(error)


@pytest.fixture(autouse=True)
def _only_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walled, "acceptable", lambda isolation: ("bwrap",))
    if _why_not():
        pytest.skip(_why_not())


@pytest.fixture
def start() -> Iterator[Callable[..., ExtSession]]:
    """Make a session; it is closed afterwards. isolation: options of `Isolation`."""
    made: list[ExtSession] = []

    def session(isolation: dict[str, Any] | None = None, **options: Any) -> ExtSession:
        walls = Isolation(**{"tier": "bwrap", **(isolation or {})})
        made.append(ExtSession(python=options.pop("python", interpreter()), isolation=walls, **options))
        return made[-1]

    yield session
    for each in made:
        each.close()


@pytest.fixture
def session(start: Callable[..., ExtSession]) -> ExtSession:
    return start()


def run(session: ExtSession, source: str, **options: Any) -> ExtResults:
    results = session.execute(source, **options).wait(SOON)
    assert results.error is None, (results.stdout, results.stderr)
    return results


def until(check: Any, seconds: float = SOON) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def alive(token: str) -> list[int]:
    """Processes that have it in their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if token.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found
