"""Every Python block of README.md and docs/ runs: the blocks of a file in order, in one fresh process.

* A block that begins with `>>>` is a doctest: what it shows is compared.
* Another block is run as it is. If a ```text block is the next thing in the file, that is its stdout.
* "..." stands for anything in what is compared.
* A block that cannot run is marked ```python no-run, and an HTML comment before it says why.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: of all pages together
NO_RUN_ALLOWED = 3

_FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"<!--\s*\S.*-->\s*\Z", re.DOTALL)
_OPTIONS = doctest.ELLIPSIS


class Block(NamedTuple):
    """A piece of Python in a page. line: of its first line, from 1; output: what it must print, None: anything."""

    line: int
    source: str
    output: str | None
    runs: bool
    has_reason: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    found = []
    for index, fence in enumerate(fences):
        words = fence["info"].split()
        if not words or words[0] != "python":
            continue
        output = None
        if index + 1 < len(fences):
            following = fences[index + 1]
            if following["info"].strip() == "text" and not text[fence.end() : following.start()].strip():
                output = following["body"]
        line = text.count("\n", 0, fence.start("body")) + 1
        has_reason = bool(_REASON.search(text[: fence.start()]))
        found.append(Block(line, fence["body"], output, "no-run" not in words, has_reason))
    return found


def run_page(page: Path) -> int:
    """Run the blocks of a page in this process; the number of those that failed, which are shown."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    failed = 0
    checker = doctest.OutputChecker()
    for block in blocks_of(page):
        if not block.runs:
            continue
        where = f"{page.name}, line {block.line}"
        if block.source.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.source, scope, where, str(page), block.line - 1)
            runner = doctest.DocTestRunner(verbose=False, optionflags=_OPTIONS)
            failed += bool(runner.run(test, clear_globs=False).failed)
            scope.update(test.globs)
            continue
        printed = io.StringIO()
        try:
            code = compile("\n" * (block.line - 1) + block.source, str(page), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(printed):
                exec(code, scope)
        except BaseException:
            print(f"{where}:\n{traceback.format_exc()}\nprinted before: {printed.getvalue()}")
            return failed + 1  # what follows builds on it
        if block.output is not None and not checker.check_output(block.output, printed.getvalue(), _OPTIONS):
            print(f"{where}: expected\n{block.output}\nbut it printed\n{printed.getvalue()}")
            failed += 1
    return failed


def pytest_generate_tests(metafunc: Any) -> None:  # no import of pytest: a page's process would pay for it
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def test_blocks_run(page: Path, tmp_path: Path) -> None:
    if not any(block.runs for block in blocks_of(page)):
        return
    done = subprocess.run(
        [sys.executable, __file__, page],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_blocks_that_do_not_run_are_few_and_say_why() -> None:
    idle = [(page.name, block) for page in PAGES for block in blocks_of(page) if not block.runs]
    assert len(idle) <= NO_RUN_ALLOWED
    for name, block in idle:
        assert block.has_reason, f"{name}, line {block.line}: no HTML comment before it says why it does not run"


def test_local_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    sys.exit(1 if run_page(Path(sys.argv[1])) else 0)
