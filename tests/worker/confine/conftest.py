"""Tests of the walls' own parts; what needs a child uses the runner of the attacks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*"]


def _runner() -> Any:
    name = "extsession_attack_runner"
    if name not in sys.modules:
        path = Path(__file__).parent.parent.parent / "attacks" / "runner.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "user" in metafunc.fixturenames:
        metafunc.parametrize("user", _runner().USERS, scope="session")


@pytest.fixture(scope="session")
def runner(user: str) -> Any:
    found = _runner()
    if not found.python(user):
        pytest.skip(f"no interpreter that the {user} user may run together with these sources")
    return found


@pytest.fixture(scope="session")
def reached(user: str, runner: Any) -> dict[str, Any]:
    """What this host allows."""
    import json

    found: dict[str, Any] = json.loads(runner.run("probe", user, work="/tmp").out)
    return found
