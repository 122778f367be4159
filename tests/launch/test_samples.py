"""What the processes of a session use, as seen from outside; and control groups, with folders that look like them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from extsession import ExtSession
from extsession._launch import cgroup, usage
from extsession._launch.samples import ProcTree, PsutilTree, Sample

MB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def until(check: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def look(tree: usage.Tree, memory: int | None = None) -> Sample:
    found = tree.look(memory)
    assert found is not None
    return found


@linux
@pytest.mark.parametrize("kind", ["proc", "psutil"])
def test_a_tree(kind: str) -> None:
    with ExtSession() as session:
        assert session.pid is not None
        tree: usage.Tree = ProcTree(session.pid, list) if kind == "proc" else PsutilTree(session.pid)
        first = look(tree)
        assert first.tasks == 1
        assert MB < first.memory < 100 * MB
        session.execute("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()").wait()
        assert look(tree).tasks == 2
        burn = "import time\nhoard = bytearray(b'x') * (50 << 20)\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
        session["burn"] = burn
        session.execute("import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', burn], stdout=-1)\nchild.stdout.readline()").wait()
        second = look(tree)
        assert second.tasks == 3
        assert second.memory > first.memory + 50 * MB
        assert second.cpu - first.cpu >= 0.25
        session.execute("child.kill(); child.wait()").wait()
        third = look(tree)
        assert third.tasks == 2
        assert second.cpu - 0.02 <= third.cpu < second.cpu + 0.2
    assert tree.look() is None


@linux
def test_cpu_of_children_that_nobody_has_seen() -> None:
    with ExtSession() as session:
        assert session.pid is not None
        tree = ProcTree(session.pid, list)
        before = look(tree).cpu
        session["burn"] = "import time\nwhile time.process_time() < 0.2: pass"
        session.execute("import subprocess, sys\nsubprocess.run([sys.executable, '-c', burn])").wait()
        assert look(tree).cpu - before >= 0.15


@linux
def test_memory_that_is_shared_after_a_fork_counts_once() -> None:
    with ExtSession() as session:
        assert session.pid is not None
        tree = ProcTree(session.pid, list)
        session.execute("import os, time\nhoard = bytearray(b'x') * (100 << 20)").wait()
        look(tree, 150 * MB)
        session.execute("for _ in range(3):\n    if not os.fork(): time.sleep(60)").wait()
        assert look(tree).memory > 350 * MB
        assert look(tree, 150 * MB).memory < 150 * MB


@linux
def test_orphans_are_the_sessions_that_started_them() -> None:
    with ExtSession() as session, ExtSession() as other:
        for each in (session, other):
            each.execute("import os, time")
        session.execute("if not os.fork():\n    os.setsid()\n    if not os.fork(): time.sleep(60)\n    os._exit(0)\nos.wait()").wait()
        mine, theirs = (each._core.link.process.sample(each.pid or 0, None) for each in (session, other))
        assert mine is not None and theirs is not None
        assert (mine.tasks, theirs.tasks) == (2, 1)


# control groups


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is a group of the second version as far as files tell."""
    monkeypatch.setattr(cgroup, "_candidates", lambda controller: [(os.fspath(tmp_path), 2)])
    cgroup._find.cache_clear()
    make, remove = os.mkdir, os.rmdir

    def mkdir(path: str, *more: int) -> None:
        make(path, *more)
        for name in ("memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "pids.max", "cgroup.procs"):
            Path(path, name).write_text("")

    def rmdir(path: str) -> None:
        for file in Path(path).iterdir():
            file.unlink()
        remove(path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "rmdir", rmdir)
    yield tmp_path
    cgroup._find.cache_clear()


@linux
def test_a_group_of_the_second_version(home: Path) -> None:
    gone = home / "extsession-999999999-1"
    gone.mkdir()
    group = cgroup.make({"memory": 500, "processes": 20})
    assert group is not None
    assert group.holds == {"memory", "processes"}
    (folder,) = home.iterdir()  # what was left is gone, and there is one for both
    group.add(77)
    texts = {file.name: file.read_text() for file in folder.iterdir()}
    assert texts == {
        "memory.max": "500", "memory.swap.max": "0", "memory.oom.group": "1", "memory.events": "", "pids.max": "20",
        "cgroup.procs": "77",
    }  # fmt: skip
    assert group.oom_kills() == 0
    (folder / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 1\n")
    assert group.oom_kills() == 3
    (folder / "memory.max").write_text("")
    group.change("memory", 300)
    assert (folder / "memory.max").read_text() == "300"
    group.remove()
    assert list(home.iterdir()) == []


@linux
def test_where_groups_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_candidates", lambda controller: [(os.fspath(tmp_path / "nowhere"), 2), (os.fspath(tmp_path), 1)])
    cgroup._find.cache_clear()
    try:
        assert cgroup.make({"memory": 500}) is None  # the second can be written to, and is no group
        assert list(tmp_path.iterdir()) == []
    finally:
        cgroup._find.cache_clear()


@linux
def test_groups_of_this_machine_hold() -> None:
    if cgroup.where("processes") is None or cgroup.where("memory") is None:
        pytest.skip("no control groups can be made here")
    group = cgroup.make({"memory": 50 * MB, "processes": 3})
    assert group is not None
    read, write = os.pipe()
    code = "import os; os.read(0, 1)\nfor _ in range(9):\n try: os.fork() or os.read(0, 1)\n except OSError: print('refused'); break"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=read, stdout=subprocess.PIPE, text=True)
    os.close(read)
    try:
        group.add(child.pid)
        os.write(write, b"1234")
        assert child.stdout is not None
        assert "refused" in child.stdout.read()
    finally:
        os.close(write)
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
    until(lambda: not any(Path(folder, "cgroup.procs").read_text() for folder in group._folders.values()))
    group.remove()
    assert not any(os.path.exists(folder) for folder in group._folders.values())
