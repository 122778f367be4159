"""The kernel's memory killer is told from others that send SIGKILL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from extsession import ExtSession, Killer, Outcome, SessionDied
from extsession._launch import cgroup, memory_killer

SOON = 30.0
MB = 1_000_000
LARGE = 300 * MB


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that may have 100 MB, and is none of ours."""
    place = cgroup.where("memory")
    if place is None:
        pytest.skip("no control group can be made here (memory)")
    folder = Path(place.home, f"test-{os.getpid()}")
    folder.mkdir()
    try:
        names = {1: ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"], 2: ["memory.max", "memory.swap.max"]}
        for name in names[place.version]:
            with contextlib.suppress(OSError):  # without swap there is none to be limited
                (folder / name).write_text(str(100 * MB if "swap.max" not in name else 0))
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.parametrize("log", ["read", "not read"])
def test_a_session_that_the_memory_killer_ends(group: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if log == "not read":
        monkeypatch.setattr(memory_killer, "_LOG", "/nonexistent")
    elif memory_killer._named_since(0.0) is None:
        pytest.skip("the kernel's log cannot be read here")
    with ExtSession() as session:
        (group / "cgroup.procs").write_text(str(session.pid))
        results = session.execute(f"hoard = bytearray({300 * MB})").wait(SOON)
        completion, error = results.completion, results.error
        assert (completion.outcome, completion.killer) == (Outcome.LOST, Killer.MEMORY_KILLER), completion
        assert (completion.signal, completion.survived) == ("SIGKILL", False)
        assert "memory killer" in str(completion)
        assert isinstance(error, SessionDied)
        assert error.killer is Killer.MEMORY_KILLER
        assert "memory killer" in str(error)


def test_others_that_send_sigkill() -> None:
    with ExtSession() as session:
        results = session.execute("import os; os.kill(os.getpid(), 9)").wait(SOON)
        assert (results.outcome, results.completion.killer) == (Outcome.LOST, Killer.OUTSIDE)


RECORDS = [
    "6,339,5140900,-;Killed process 11 (python3) total-vm:1kB",
    "3,340,99000000,-;Memory cgroup out of memory: Killed process 12 (python3) total-vm:1kB, anon-rss:1kB",
    " SUBSYSTEM=memory",
    "3,341,99000001,c;Out of memory: Killed process 13 (a name: Killed process 14 (x)) total-vm:1kB",
    "4,342,99000002,-;oom_reaper: reaped process 15 (python3)",
    "nonsense",
]


def test_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if memory_killer._named_since(0.0) is None:
        pytest.skip("this process is not in the first PID namespace, or may not read the kernel's log")
    records = iter([*RECORDS[:3], BrokenPipeError(), *RECORDS[3:]])

    def read(fd: int, size: int) -> bytes:
        record = next(records, None)
        if record is None:
            raise BlockingIOError
        if isinstance(record, Exception):
            raise record
        return record.encode()

    monkeypatch.setattr(memory_killer.os, "read", read)
    assert memory_killer._named_since(50.0) == {12, 13}


@pytest.mark.parametrize(
    ("text", "count"), [("a 1\noom_kill 7\nb 2\n", 7), ("oom_killer 3\n", -1), ("oom_kill x\n", -1), ("", -1)]
)
def test_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> None:
    file = tmp_path / "vmstat"
    file.write_text(text)
    monkeypatch.setattr(memory_killer, "_COUNTS", str(file))
    assert memory_killer._read_count() == count
    monkeypatch.setattr(memory_killer, "_COUNTS", str(tmp_path / "none"))
    assert memory_killer._read_count() == -1


def test_by_the_count_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vmstat"
    monkeypatch.setattr(memory_killer, "_COUNTS", str(file))
    monkeypatch.setattr(memory_killer, "_LOG", str(tmp_path / "none"))
    monkeypatch.setattr(memory_killer, "_count", -1)
    monkeypatch.setattr(memory_killer, "_looked", 0.0)
    file.write_text("oom_kill 3\n")
    memory_killer.remember(1.0)
    assert not memory_killer.has_ended(5, 0.0, LARGE)
    file.write_text("oom_kill 4\n")
    assert memory_killer.has_ended(5, 0.0, LARGE)
    assert not memory_killer.has_ended(6, 0.0, LARGE)
    file.write_text("oom_kill 5\n")
    assert not memory_killer.has_ended(6, 0.0, MB)  # it takes the largest first
    file.write_text("oom_kill 6\n")
    memory_killer.remember(1.1)  # too soon to be looked at again
    assert memory_killer.has_ended(6, 0.0, -1)
    file.write_text("oom_kill 7\n")
    memory_killer.remember(9.0)  # somebody else's: that was before this one began
    assert not memory_killer.has_ended(7, 0.0, LARGE)
    file.write_text("nothing\n")
    assert not memory_killer.has_ended(8, 0.0, LARGE)
