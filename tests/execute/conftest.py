"""Programs to run, and ways to see what becomes of processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from extsession.execute import ExecuteRequest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def program() -> Callable[..., ExecuteRequest]:
    """program(source, *arguments, **options): a request that runs Python source."""

    def make(source: str, *arguments: str, **options: Any) -> ExecuteRequest:
        return ExecuteRequest([sys.executable, "-ISc", source, *arguments], **options)

    return make


@pytest.fixture
def controller() -> Callable[[str], list[str]]:
    """controller(source): the command line of another program that uses this tree."""

    def make(source: str) -> list[str]:
        return [sys.executable, "-c", f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r})\n{source}"]

    return make


@pytest.fixture
def is_running() -> Callable[[int], bool]:
    def look(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return look


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """eventually(condition, seconds): its first value that is true; AssertionError after so many seconds."""

    def wait(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
        give_up = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < give_up, f"not within {seconds:g} s"
            time.sleep(0.005)
        return found

    return wait
