"""Isolated sessions, in both tiers, as the user that runs the tests."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from extsession import ExtSession, Isolation, host_report

#: who the weak tier's sessions of root are: they need an interpreter that everybody may read
ACCOUNT = 65521
TIERS = ("full", "weak")


@functools.cache
def report() -> Any:
    return host_report(interpreter("weak"))


@functools.cache
def interpreter(tier: str, module: str = "os") -> str:
    """An interpreter that a session of this tier may use, and that has this module; "" if there is none."""
    is_other = tier == "weak" and os.geteuid() == 0
    who: dict[str, Any] = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []} if is_other else {}
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if os.path.exists(path):
            try:
                done = subprocess.run([path, "-c", f"import {module}, linecache"], capture_output=True, cwd="/", **who)
            except OSError:
                continue
            if done.returncode == 0:
                return path
    return ""


def require(tier: str) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("isolation is for Linux only")
    if not interpreter(tier):
        pytest.skip(f"there is no interpreter that a session of the {tier} tier may read")
    found = report().full if tier == "full" else report().weak
    if not found.reached:
        pytest.skip(f"this host does not allow the {tier} tier: {found.denied}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tier" in metafunc.fixturenames and not any(
        "tier" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")
    ):
        metafunc.parametrize("tier", TIERS)


@pytest.fixture
def options(tier: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Options of a session that is isolated in this tier and no other: of `Isolation`, and of the session."""
    require(tier)
    monkeypatch.setattr("extsession._launch.walled.acceptable", lambda _: (tier,))

    def make(*, module: str = "os", is_for_everybody: bool = False, **given: Any) -> dict[str, Any]:
        python = interpreter("weak" if is_for_everybody else tier, module)
        if not python:
            pytest.skip(f"there is no interpreter with {module} that a session of the {tier} tier may read")
        names = ("network", "loopback", "read", "work_size", "work_inodes", "env", "uid")
        walls = {name: given.pop(name) for name in names if name in given}
        env = given.pop("variables", None)
        if env is not None:
            walls["env"] = env
        return {"python": python, "isolation": Isolation(tier=tier, **walls), **given}

    return make


@pytest.fixture
def opened(options: Callable[..., dict[str, Any]]) -> Iterator[Callable[..., ExtSession]]:
    """Opens isolated sessions, and closes them after the test."""
    sessions: list[ExtSession] = []

    def make(**given: Any) -> ExtSession:
        session = ExtSession(**options(**given))
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def session(opened: Callable[..., ExtSession]) -> ExtSession:
    return opened()
