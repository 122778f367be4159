"""What a template has preloaded is what a session of its own would load."""

from __future__ import annotations

from pathlib import Path

import pytest

from extsession import ExtSession


@pytest.mark.parametrize("form", ["colorsys.py", "colorsys/__init__.py"])
def test_a_module_of_the_current_directory_comes_first(tmp_path: Path, form: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    path = there / form
    path.parent.mkdir(parents=True)
    path.write_text("mine = True")
    for folder, expected in [(here, False), (there, True), (here, False)]:
        with ExtSession(cwd=folder, preload=["colorsys"]) as session:
            assert session.eval("hasattr(__import__('colorsys'), 'mine')") is expected
