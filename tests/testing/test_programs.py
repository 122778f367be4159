"""Every program of the catalogue, run in a session: what becomes of it is what the catalogue says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from extsession import ExtSession, Ladder, OutputChunk, SessionDied
from extsession.testing import PROGRAMS, Program, no_leaks, own_folder

LADDER = Ladder(interrupt=0.3, terminate=0.3)
#: seconds for what is to take none; the machine may be busy
SLACK = 4.0


class Other:
    """A session that counts aloud, which nobody waits for."""

    def __init__(self, session: ExtSession) -> None:
        self._text = b""
        source = "import time\nn = 0\nwhile True:\n    print(n); n += 1; time.sleep(0.02)"
        self._call = session.execute(source, on_output=self._take)
        self.check()

    def _take(self, chunk: OutputChunk) -> None:
        self._text += chunk.data

    def check(self) -> None:
        """It goes on, and nothing that it said is missing."""
        before = len(self._text)
        deadline = time.monotonic() + SLACK
        while len(self._text) < before + 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not self._call.done
        said = self._text.split(b"\n")[:-1]
        assert said == [b"%d" % n for n in range(len(said))]


@pytest.fixture(scope="module")
def others() -> Iterator[list[Other]]:
    """A sibling of the sessions under test, below the same warden, and one of its own."""
    with ExtSession() as warm, ExtSession(warm=False) as cold:
        yield [Other(warm), Other(cold)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with own_folder() as path:
        yield path


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_program(program: Program, others: list[Other], folder: Path) -> None:
    core = Path("/proc/self/coredump_filter").exists()
    begin = time.monotonic()
    with no_leaks(SLACK, folder=folder), ExtSession(warm=not program.alone, ladder=LADDER) as session:
        if core:
            session.execute("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))").wait()
        results = session.execute(program.source, timeout=program.timeout)
        queued = session.execute("next_one = 1")
        results.wait(20)
        took = time.monotonic() - begin
        completion = results.completion
        found = type(results.error).__name__ if results.error is not None else ""
        assert (completion.outcome, completion.survived, found) == (program.outcome, program.survives, program.error)
        assert completion.steps == program.steps
        assert (completion.signal, completion.exit_code) == (program.signal, program.exit_code)
        if program.stdout is not None:
            assert results.stdout == program.stdout
        if program.steps:
            assert program.timeout is not None
            assert took < program.timeout + LADDER.interrupt + LADDER.terminate + SLACK
        queued.wait(10)
        if program.survives:
            assert queued.completion.ok
            assert session.eval("21 * 2", timeout=10) == 42
        else:
            assert queued.stdout == ""
            assert not session.is_alive
            if program.error == "SessionDied":
                assert isinstance(results.error, SessionDied)
                assert results.error.running == program.source
        below = [each.pid for each in psutil.Process(session.pid).children(recursive=True)] if session.is_alive else []
        begin = time.monotonic()
    assert time.monotonic() - begin < SLACK
    assert [pid for pid in below if psutil.pid_exists(pid)] == []
    for other in others:
        other.check()
    with ExtSession() as fresh:
        assert fresh.eval("6 * 7", timeout=10) == 42


def test_names_differ() -> None:
    names = [each.name for each in PROGRAMS]
    assert len(set(names)) == len(names)
    assert all(each.what and each.source for each in PROGRAMS)
