"""Whether something is left afterwards that was not there before.

What is looked at is this process (descriptors, threads, memory) and all below it (processes, zombies), and one folder
for temporary files. Left is what stays so for `patience` seconds: much ends a moment later than whoever used it.

What stays on purpose is no leak: the thread that serves sessions nobody waits for, with its descriptors (one for each
program), the process that ends commands when this one is gone (one for each program), and templates. Those that were
made meanwhile are ended, for they would live on for the next session like the one that they were made for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from .. import CommandSpec, ExtSession, RunningCommand, templates

_FDS = Path("/proc/self/fd")
_HAS_FDS = _FDS.is_dir()
_HAS_CHILDREN = Path(f"/proc/self/task/{threading.get_native_id()}/children").is_file()
_HUB = "extsession-hub"
#: the process, this one or that it was forked from, that has a guard
_guarded = 0


class LeakError(AssertionError):
    """Something is left. left: what, one text for each, as ("descriptor 9: socket:[4711]", ...); patience: seconds."""

    def __init__(self, left: tuple[str, ...], patience: float) -> None:
        super().__init__(left, patience)
        self.left = left
        self.patience = patience

    def __str__(self) -> str:
        return f"left after {self.patience:g} s:\n  " + "\n  ".join(self.left)


@contextlib.contextmanager
def no_leaks(
    patience: float = 5.0, *, folder: str | os.PathLike[str] | None = None, memory: int | None = None
) -> Iterator[None]:
    """LeakError if something is left after the block that was not there before it. An exception of the block passes.

    patience: seconds in which it must be gone. folder: where files may be left, as that of `own_folder()`; None: files
    are not looked at. memory: bytes by which this process may have grown (its own memory, without what it shares);
    None: memory is not looked at.
    """
    _have_hub()
    _have_guard()
    there = _templates()
    if memory is not None:
        gc.collect()  # what is garbage already would hide as much that is left
    before = _holdings(folder, memory)
    yield
    left = _left(there, before, folder, memory)
    if left:
        gc.collect()
        deadline = time.monotonic() + patience
        while (left := _left(there, before, folder, memory)) and time.monotonic() < deadline:
            time.sleep(0.01)
    if left:
        raise LeakError(tuple(left), patience)


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder of its own for temporary files, of this process and of all that it starts in the block."""
    with tempfile.TemporaryDirectory(prefix="extsession-") as folder:
        was, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = was
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable


class _Holdings(NamedTuple):
    descriptors: frozenset[int]
    threads: frozenset[threading.Thread]
    children: frozenset[int]
    files: frozenset[str]
    memory: int


def _have_hub() -> None:
    """The thread of ours is made with the first session that needs it: before anything is counted."""
    if not any(thread.name.startswith(_HUB) for thread in threading.enumerate()):
        with ExtSession(warm=False) as session:
            session.execute("pass")


def _have_guard() -> None:
    """The process that sees to commands is made with the first one: before anything is counted, too."""
    global _guarded
    if _guarded != os.getpid():
        command = RunningCommand(CommandSpec((sys.executable, "-ISc", ""), sys.executable))
        command.start()
        command.wait()
        _guarded = os.getpid()


def _templates() -> set[int]:
    return {each.pid for each in templates()}


def _holdings(folder: str | os.PathLike[str] | None, memory: int | None) -> _Holdings:
    threads = frozenset(thread for thread in threading.enumerate() if not thread.name.startswith(_HUB))
    files = frozenset() if folder is None else _files(folder)
    return _Holdings(_descriptors(), threads, _children(), files, 0 if memory is None else _memory())


def _left(there: set[int], before: _Holdings, folder: str | os.PathLike[str] | None, memory: int | None) -> list[str]:
    """Name what is there now and was not before."""
    for template in templates():
        if template.pid not in there:
            template.end()
    now = _holdings(folder, memory)
    left = []
    if len(now.descriptors) > len(before.descriptors):  # a number may have come to mean another one
        for number in sorted(now.descriptors - before.descriptors):
            with contextlib.suppress(FileNotFoundError):
                left.append(f"descriptor {number}: {os.readlink(_FDS / str(number))}")
    left += [f"thread {thread.name!r}" for thread in now.threads - before.threads if thread.is_alive()]
    for pid in sorted(now.children - before.children):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(_described(pid))
    left += [f"file {name}" for name in sorted(now.files - before.files)]
    if memory is not None and now.memory - before.memory > memory:
        left.append(f"{now.memory - before.memory} bytes of memory, of which {memory} were allowed")
    return left


def _described(pid: int) -> str:
    process = psutil.Process(pid)
    try:
        return f"process {pid} ({process.status()}): {process.cmdline() or process.name()}"
    except psutil.ZombieProcess:
        return f"process {pid} (zombie)"


def _children() -> frozenset[int]:
    """All descendants, zombies included."""
    if not _HAS_CHILDREN:
        return frozenset(child.pid for child in psutil.Process().children(recursive=True))
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        folder = f"/proc/{todo.pop()}/task"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # gone while we look
            for task in os.listdir(folder):
                with open(f"{folder}/{task}/children", "rb") as file:
                    new = [int(pid) for pid in file.read().split()]
                todo += new
                found.update(new)
    return frozenset(found)


def _descriptors() -> frozenset[int]:
    if not _HAS_FDS:
        return frozenset()
    # The one that reads the folder is in the list, and would hide one that is left.
    with os.scandir(_FDS) as entries:
        numbers = [int(entry.name) for entry in entries]
    return frozenset(number for number in numbers if _is_open(number))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _files(folder: str | os.PathLike[str]) -> frozenset[str]:
    return frozenset(
        os.path.join(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)
    )


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_full_info().uss)
