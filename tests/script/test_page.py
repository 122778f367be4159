"""docs/script-language.md: its examples run as scripts, and its tables are what the code has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "script-language.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```script\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_tables_are_current() -> None:
    done = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_example_says_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.count("```script") >= 3


@pytest.mark.parametrize("source, printed", EXAMPLES)
def test_example(script: Any, source: str, printed: str) -> None:
    assert script(source).written == printed
