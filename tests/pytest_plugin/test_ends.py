"""Ends of the whole run: nothing is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = """
import os, subprocess, time
import pytest

def wait(name):
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with open("pids.new", "w") as file:
        file.write("%d %d" % (os.getpid(), process.pid))
    os.rename("pids.new", "pids")
    time.sleep(60)

def test_fork(): wait("fork")

@pytest.mark.isolated(start="spawn")
def test_spawn(): wait("spawn")
"""


def _started(folder: Path, *args: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A run, and the processes of its test, which waits."""
    (folder / "test_it.py").write_text(SOURCE)
    code = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--isolated", "-p", "no:cacheprovider", "-p", "no:randomly", *args],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (folder / "pids").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    return process, [int(pid) for pid in (folder / "pids").read_text().split()]


def _wait_until_gone(pids: list[int], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    for pid in pids:
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                break  # it has ended, and whoever is process 1 here has not waited for it
            assert time.monotonic() < deadline, f"process {pid} is left over"
            time.sleep(0.01)


@pytest.mark.parametrize("name", ["test_fork", "test_spawn"])
def test_ctrl_c(tmp_path: Path, name: str) -> None:
    process, pids = _started(tmp_path, "-k", name)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 2, output
    assert "KeyboardInterrupt" in output
    _wait_until_gone(pids)


def test_parent_killed(tmp_path: Path) -> None:
    process, pids = _started(tmp_path, "-k", "test_fork")
    process.kill()
    process.communicate(timeout=30)
    _wait_until_gone(pids[:1])
    os.kill(pids[1], signal.SIGKILL)  # what the test has started itself is not followed any more: see docs/pytest.md
    _wait_until_gone(pids[1:])


def test_parent_of_a_worker_killed(tmp_path: Path) -> None:
    process, pids = _started(tmp_path, "-k", "test_spawn")
    process.kill()
    process.communicate(timeout=30)
    _wait_until_gone(pids)
