"""Fixtures of the fault tests: looking at processes from outside, and launchers that meddle."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from extsession._launch.base import Process, Spec
from extsession._launch.local import LocalLauncher, LocalProcess


def state(pid: int) -> str:
    """The kernel's letter for a process: R, S, T, Z ...; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def until(check: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether `check()` becomes true in time."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class Watch:
    """What tests ask about processes."""

    state = staticmethod(state)
    parent = staticmethod(parent)
    until = staticmethod(until)

    @staticmethod
    def gone(pids: Iterable[int], seconds: float = 2.0) -> bool:
        """Whether all of them are gone, or zombies of somebody else, in time."""
        pids = list(pids)
        return until(lambda: all(state(pid) in ("", "Z", "X") for pid in pids), seconds)


@pytest.fixture
def watch() -> Watch:
    if not sys.platform.startswith("linux"):
        pytest.skip("looks into /proc")
    return Watch()


class Meddler(LocalLauncher):
    """Starts a worker as usual, and calls `after(process)` before anybody else has seen it."""

    def __init__(self, after: Callable[[LocalProcess], object]) -> None:
        self._after = after

    def launch(self, spec: Spec) -> Process:
        process = super().launch(spec)
        assert isinstance(process, LocalProcess)
        self._after(process)
        return process


@pytest.fixture
def meddler() -> type[Meddler]:
    return Meddler


def send_first(process: LocalProcess, size: int | None = None) -> None:
    """Send the first bytes, or as many of them, down the channel, as the link would."""
    data = memoryview(process.first)[:size]
    process.channel.settimeout(5)
    process.channel.sendall(data)
    process.channel.setblocking(False)
    process.first = b"" if size is None else process.first[size:]


@pytest.fixture
def first_sender() -> Callable[..., None]:
    return send_first


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Make an executable of a shell script. `PYTHON "$@"` in it is a real interpreter."""

    def make(text: str) -> str:
        path = tmp_path / "python-like"
        path.write_text("#!/bin/sh\n" + text.replace("PYTHON", f"'{sys.executable}'"))
        path.chmod(0o755)
        return os.fspath(path)

    return make

