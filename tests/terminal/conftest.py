"""Sessions for the tests, and the programs that are not on every machine."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator

import pytest

from extsession import Ladder
from extsession.terminal import TerminalResults, TerminalSession

#: seconds for what takes milliseconds on a machine with nothing else to do
SOON = 30.0


def find(*names: str) -> str:
    """A program by its name, also of pyenv; the test is skipped if there is none."""
    for name in names:
        path = shutil.which(name)
        if path is not None and "shims" not in path:
            return path
        version = name.removeprefix("python")
        found = sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/{name}")))
        if found:
            return found[-1]
    pytest.skip(f"there is no {' or '.join(names)} on this machine")


def run(session: TerminalSession, source: str, timeout: float | None = None) -> TerminalResults:
    return session.execute(source, timeout=timeout).wait(SOON)


def output(session: TerminalSession, source: str) -> str:
    results = run(session, source)
    results.raise_for_error()
    return results.output


@pytest.fixture
def bash() -> Iterator[TerminalSession]:
    with TerminalSession("bash", ladder=Ladder(0.3, 0.3)) as session:
        yield session
