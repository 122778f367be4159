"""Attacks run in children, behind the walls of `_worker/confine`; see `runner.py`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _runner() -> Any:
    name = "extsession_attack_runner"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "runner.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "user" in metafunc.fixturenames:
        users = _runner().USERS
        if "less" in metafunc.fixturenames:  # the same again with less: one user will do
            users = users[-1:]
        metafunc.parametrize("user", users, scope="session")


@pytest.fixture(scope="session")
def runner(user: str) -> Any:
    """The module `runner.py`."""
    if not sys.platform.startswith("linux"):
        pytest.skip("isolation is for Linux only")
    found = _runner()
    if not found.python(user):
        pytest.skip(f"no interpreter that the {user} user may run together with these sources")
    return found


@pytest.fixture(scope="session")
def host(user: str, runner: Any) -> Iterator[dict[str, Any]]:
    with runner.host(user) as found:
        yield found


@pytest.fixture(scope="session")
def reached(user: str, runner: Any) -> dict[str, Any]:
    """What this host allows."""
    import json

    found: dict[str, Any] = json.loads(runner.run("probe", user, work="/tmp").out)
    return found
