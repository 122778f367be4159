"""docs/protocol.md says what the code says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from extsession._protocol import messages

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    result = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True)
    assert (result.stderr, result.returncode) == ("", 0)


def test_check_finds_what_is_not_current(generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "protocol.md"
    current = (DOCS / "protocol.md").read_text()
    page.write_text(current.replace("| 66 |", "| 99 |", 1))
    monkeypatch.setattr(generate, "PAGE", page)
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert page.read_text() == current
    assert generate.main(["--check"]) == 0


def test_every_message_and_state_is_on_the_page() -> None:
    page = (DOCS / "protocol.md").read_text()
    for number, name in messages.NAMES.items():
        assert f"| {number} | `{name}` |" in page
    for state in messages.WORKER_MAY_SEND:
        assert f"| {state} |" in page
