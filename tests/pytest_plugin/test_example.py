"""examples/pytest_isolated does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "examples" / "pytest_isolated"


def test_example() -> None:
    command = [sys.executable, "-m", "pytest", str(FOLDER), "-p", "no:cacheprovider", "-p", "no:randomly", "-ra"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    found = {line.split()[0] + " " + line.split("::")[1] for line in done.stdout.splitlines() if "::test_" in line}
    assert any("3 failed, 4 passed, 1 xfailed" in line for line in done.stdout.splitlines()), done.stdout
    assert "isolated test crashed: signal 11 (SIGSEGV) during call" in done.stdout
    assert "isolated test timed out: 2s, stopped during call" in done.stdout
    assert "MemoryError" in done.stdout
    assert len(found) == 4
