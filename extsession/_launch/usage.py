"""What a session and all that it has started use now, read from outside: it works while the session runs code.

On Linux from /proc: the tree is walked downwards by /proc/<pid>/task/<tid>/children, and what has lost its parent is
found among the warden's children, by its mark. Elsewhere psutil does what it can.

A session without children costs three system calls' worth of files: stat, children, and the size of `fd`.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

from . import marks

#: seconds for which what is known about a warden's children is not looked at again
_FRESH = 0.05
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# fields of /proc/<pid>/stat after the name, see proc(5)
_STATE, _UTIME, _CSTIME, _THREADS, _RSS = 0, 11, 14, 17, 21


class TreeUsage(NamedTuple):
    """Of the processes of a session together.

    cpu: seconds, of those that have ended only where their parent has waited for them; rss: bytes, what is shared
    counted for each; pss: bytes, None: not asked for, or not to be had; descriptors: of the first process only, None:
    not to be had.
    """

    cpu: float = 0.0
    rss: int = 0
    pss: int | None = None
    processes: int = 0
    threads: int = 0
    descriptors: int | None = None


def of_tree(pid: int, orphans: Iterable[int] = (), pss: bool = False) -> TreeUsage:
    """Of a process, all below it, and its orphans with all below them. What is gone uses nothing."""
    if not _has_children():
        return _by_psutil(pid, pss)
    ticks = pages = processes = threads = share = 0
    todo = [pid, *orphans]
    seen = set(todo)
    while todo:
        each = todo.pop()
        data = _read(b"/proc/%d/stat" % each)
        if not data:
            continue
        fields = data[data.rindex(b")") + 2 :].split()
        ticks += sum(map(int, fields[_UTIME : _CSTIME + 1]))
        if fields[_STATE] in (b"Z", b"X"):  # of no use any more, but for its time
            continue
        count = int(fields[_THREADS])
        processes += 1
        threads += count
        pages += int(fields[_RSS])
        if pss:
            share += _pss(each)
        for child in _children(each, count):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    if not processes:
        return TreeUsage(ticks / _TICKS)
    return TreeUsage(ticks / _TICKS, pages * _PAGE, share if pss else None, processes, threads, _descriptors(pid))


class Orphans:
    """The children of a warden, by the session that they are of. One look serves all of its sessions for a moment."""

    def __init__(self, warden: int) -> None:
        self._warden = warden
        self._looked = 0.0
        self._by_mark: dict[int, list[int]] = {}

    def of(self, session: int, mark: int) -> list[int]:
        """Processes that this session has started, or they that, and whose parent has ended."""
        step = marks.step()
        if not mark or not step or not _has_children():
            return []
        now = time.monotonic()
        if now - self._looked > _FRESH:
            by_mark: dict[int, list[int]] = {}
            for pid in _children(self._warden, 1):
                found = marks.of(pid)
                if found:  # a session in a session has one from the interval below
                    by_mark.setdefault(-(-found // step), []).append(pid)
            self._by_mark, self._looked = by_mark, now
        return [pid for pid in self._by_mark.get(-(-mark // step), ()) if pid != session]


@functools.cache
def _has_children() -> bool:
    """Whether the kernel lists children (CONFIG_PROC_CHILDREN)."""
    return sys.platform == "linux" and os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _read(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = piece = os.read(fd, 4096)
        while len(piece) == 4096:
            piece = os.read(fd, 4096)
            data += piece
        return data
    except OSError:  # it has ended since
        return b""
    finally:
        os.close(fd)


def _children(pid: int, threads: int) -> list[int]:
    if threads == 1:
        return list(map(int, _read(b"/proc/%d/task/%d/children" % (pid, pid)).split()))
    try:
        tasks = os.listdir(b"/proc/%d/task" % pid)
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(b"/proc/%d/task/%b/children" % (pid, task)).split()]


def _descriptors(pid: int) -> int | None:
    folder = b"/proc/%d/fd" % pid
    try:  # its size is their number since Linux 6.2
        return os.stat(folder).st_size or len(os.listdir(folder))
    except OSError:
        return None


def _pss(pid: int) -> int:
    data = _read(b"/proc/%d/smaps_rollup" % pid)
    start = data.find(b"\nPss:")
    return int(data[start:].split(None, 2)[1]) * 1024 if start >= 0 else 0


def _by_psutil(pid: int, pss: bool) -> TreeUsage:
    import psutil

    cpu, rss, processes, threads = 0.0, 0, 0, 0
    descriptors = None
    try:
        root = psutil.Process(pid)
        found = [root, *root.children(recursive=True)]
    except psutil.Error:
        return TreeUsage()
    for each in found:
        try:
            with each.oneshot():
                times = each.cpu_times()
                cpu += times.user + times.system
                rss += each.memory_info().rss
                threads += each.num_threads()
                processes += 1
                if each is root:
                    descriptors = each.num_fds()
        except (psutil.Error, AttributeError):
            continue
    return TreeUsage(cpu, rss, None, processes, threads, descriptors)
