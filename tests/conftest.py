"""Fixtures for all tests: the interpreters of this machine, and the check that a test leaves nothing."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest

if TYPE_CHECKING:
    from extsession._launch.interpreter import Interpreter

PATIENCE = 5.0
_FDS = Path("/proc/self/fd")
_HAS_FDS = _FDS.is_dir()
_HAS_CHILDREN = Path(f"/proc/self/task/{threading.get_native_id()}/children").is_file()


@functools.cache
def _pythons() -> list[Interpreter]:
    # Imported here so that the tests of what lies below it run where it cannot be imported.
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
    """The hub lives as long as the process: make it before the first count of descriptors."""
    try:
        from extsession import ExtSession
    except ImportError:  # an interpreter that only the shipped code runs on
        return
    with ExtSession() as session:
        session.execute("pass")


def _templates() -> set[Any]:
    try:
        from extsession._launch import templates
    except ImportError:  # as above
        return set()
    return set(templates.known())


@pytest.fixture(scope="session", autouse=True)
def _no_idle_threads() -> Iterator[None]:
    """trio keeps a thread that has nothing to do for ten seconds: too long for the leak check.

    A session is started in a thread where its template has to be started first.
    """
    if importlib.util.find_spec("trio") is None:  # as above
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)
        yield


class _Holdings(NamedTuple):
    descriptors: frozenset[int]
    threads: frozenset[threading.Thread]
    children: frozenset[int]


def _children() -> frozenset[int]:
    """All descendants, zombies included."""
    if not _HAS_CHILDREN:
        return frozenset(child.pid for child in psutil.Process().children(recursive=True))
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        folder = f"/proc/{todo.pop()}/task"
        try:
            for task in os.listdir(folder):
                with open(f"{folder}/{task}/children", "rb") as file:
                    new = [int(pid) for pid in file.read().split()]
                todo += new
                found.update(new)
        except (FileNotFoundError, ProcessLookupError):  # gone while we look
            pass
    return frozenset(found)


def _descriptors() -> frozenset[int]:
    if not _HAS_FDS:
        return frozenset()
    # The one that reads the folder is in the list, and would hide one that is left.
    with os.scandir(_FDS) as entries:
        numbers = [int(entry.name) for entry in entries]
    return frozenset(number for number in numbers if _is_open(number))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _holdings() -> _Holdings:
    threads = frozenset(
        thread for thread in threading.enumerate() if not thread.name.startswith("extsession-hub")
    )
    return _Holdings(_descriptors(), threads, _children())


def _left(before: _Holdings) -> list[str]:
    """Name what is there now and was not before."""
    now = _holdings()
    left = []
    if len(now.descriptors) > len(before.descriptors):
        for number in sorted(now.descriptors - before.descriptors):
            try:
                left.append(f"descriptor {number}: {os.readlink(_FDS / str(number))}")
            except FileNotFoundError:
                pass
    left += [f"thread {thread.name!r}" for thread in now.threads - before.threads if thread.is_alive()]
    for pid in sorted(now.children - before.children):
        try:
            process = psutil.Process(pid)
            left.append(f"process {pid} ({process.status()}): {process.cmdline() or process.name()}")
        except psutil.ZombieProcess:
            left.append(f"process {pid} (zombie)")
        except psutil.NoSuchProcess:
            pass
    return left


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which there is a descriptor, thread or process that was not there before it."""
    if request.node.get_closest_marker("leaks"):
        yield
        return
    there = _templates()
    before = _holdings()
    yield
    left = _what_is_left(there, before)
    if left:
        gc.collect()
        deadline = time.monotonic() + PATIENCE
        while (left := _what_is_left(there, before)) and time.monotonic() < deadline:
            time.sleep(0.01)
    if left:
        pytest.fail(f"left after {PATIENCE:g} s:\n  " + "\n  ".join(left), pytrace=False)


def _what_is_left(there: set[Any], before: _Holdings) -> list[str]:
    for template in _templates() - there:  # they would live on for the next session that is like the test's
        template.end()
    return _left(before)
