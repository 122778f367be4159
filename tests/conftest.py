"""Fixtures for all tests: the interpreters of this machine, and the check that a test leaves nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from extsession import ExtSession

if TYPE_CHECKING:
    from extsession._launch.interpreter import Interpreter

pytest_plugins = ["extsession.testing.pytest", "pytester"]


@functools.cache
def _pythons() -> list[Interpreter]:
    from extsession._launch.interpreter import candidates

    return candidates()


@pytest.fixture(scope="session")
def pythons() -> list[Interpreter]:
    """Every CPython that extsession can use on this machine, newest first."""
    return list(_pythons())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `each_python` runs once for each of `pythons`."""
    if "each_python" in metafunc.fixturenames:
        found = _pythons()
        metafunc.parametrize("each_python", found, ids=[".".join(map(str, one.version)) for one in found])


@pytest.fixture(scope="session", autouse=True)
def _hub_is_there() -> None:
    """Hub and template live as long as the process: make them before the first count."""
    with ExtSession() as session:
        session.execute("pass")


@pytest.fixture(scope="session", autouse=True)
def _no_idle_threads() -> Iterator[None]:
    """trio keeps a thread that has nothing to do for ten seconds: too long for the leak check.

    A session is started in a thread where its template has to be started first.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)
        yield


@pytest.fixture(autouse=True)
def _leaves_nothing(no_leaks: None) -> None:
    """Fail a test after which there is a descriptor, thread or process that was not there before it."""
