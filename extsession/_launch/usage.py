"""What a session and all that it has started use now, read from outside: it works while the session runs code.

On Linux from /proc: the tree is walked downwards by /proc/<pid>/task/<tid>/children, and what has lost its parent is
found among the warden's children, by its mark. Elsewhere psutil does what it can.

A session without children costs three system calls' worth of files: stat, children, and the size of `fd`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from . import marks, procfs

#: seconds for which what is known about a warden's children is not looked at again
_FRESH = 0.05


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
    if not procfs.lists_children():
        return _by_psutil(pid, pss)
    ticks = pages = processes = threads = share = 0
    todo = [pid, *orphans]
    seen = set(todo)
    while todo:
        each = todo.pop()
        fields = procfs.stat(each)
        if not fields:
            continue
        ticks += sum(map(int, fields[procfs.UTIME : procfs.CSTIME + 1]))
        if fields[procfs.STATE] in procfs.OVER:  # of no use any more, but for its time
            continue
        count = int(fields[procfs.THREADS])
        processes += 1
        threads += count
        pages += int(fields[procfs.RSS])
        if pss:
            share += procfs.pss(each)
        for child in procfs.children(each, count):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    if not processes:
        return TreeUsage(ticks * procfs.TICK)
    rss, descriptors = pages * procfs.PAGE, procfs.descriptors(pid)
    return TreeUsage(ticks * procfs.TICK, rss, share if pss else None, processes, threads, descriptors)


class Orphans:
    """The children of a warden, by the session that they are of. One look serves all of its sessions for a moment."""

    def __init__(self, warden: int) -> None:
        self._warden = warden
        self._looked = 0.0
        self._by_mark: dict[int, list[int]] = {}

    def of(self, session: int, mark: int) -> list[int]:
        """Processes that this session has started, or they that, and whose parent has ended."""
        step = marks.step()
        if not mark or not step or not procfs.lists_children():
            return []
        now = time.monotonic()
        if now - self._looked > _FRESH:
            by_mark: dict[int, list[int]] = {}
            for pid in procfs.children(self._warden, 1):
                found = marks.of(pid)
                if found:  # a session in a session has one from the interval below
                    by_mark.setdefault(-(-found // step), []).append(pid)
            self._by_mark, self._looked = by_mark, now
        return [pid for pid in self._by_mark.get(-(-mark // step), ()) if pid != session]


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
