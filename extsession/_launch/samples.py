"""What the processes of a session use, looked at from outside: CPU time, memory, processes and threads.

By /proc on Linux, some 30 microseconds for a process; by psutil elsewhere, which does not find processes whose parent
has ended.

CPU time must not get less when a process ends. The kernel adds that of a child to its parent's account when the parent
waits for it. So what is counted is what has been added since the last look, to each process and to its account of
children; less what was counted before, when those children were looked at themselves.

Memory is the resident size of all, as long as that is below what was asked for. Shared pages are in it several times,
above all those that a forked process has in common with its parent. So if it is above, it is looked at closely. What
each process has for itself since it was first seen, by anonymous pages, is no sharing: if that is above, it is told.
Else the proportional size is (PSS, see proc(5)). That takes the kernel long for much memory, so what they share is
taken to stay for a moment.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from . import procfs

#: seconds for which what processes share is taken to be what it was
_SHARED_FOR = 0.25


class Sample(NamedTuple):
    """What a session used. when: monotonic; cpu: seconds since it was there; memory: bytes; tasks: processes and

    threads together; oom_kills: processes that the kernel has ended because of its memory limit; work: bytes in its
    work directory, where nothing else bounds that; cost: seconds that the look took.
    """

    when: float
    cpu: float
    memory: int
    tasks: int
    oom_kills: int = 0
    work: int = 0
    cost: float = 0.0


class Tree(Protocol):
    """The processes of one session."""

    def look(self, memory: int | None = None) -> Sample | None:
        """What they use now; None: the session's process is gone. memory: bytes above which it is looked at closely."""


class _Seen:
    """A process at the last look. Seconds of CPU time: own, and of children that it has waited for.

    alike: bytes that it may have had in common with its parent when it was first seen.
    """

    __slots__ = ("alike", "began", "children", "own", "parent")

    def __init__(self, parent: int, began: bytes, own: float, children: float) -> None:
        self.alike = -1
        self.parent = parent
        self.began = began
        self.own = own
        self.children = children


class ProcTree:
    """By /proc. orphans: says which children of the warden are the session's, those that have lost their parent."""

    def __init__(self, pid: int, orphans: Callable[[], list[int]]) -> None:
        self._pid = pid
        self._orphans = orphans
        self._seen: dict[int, _Seen] = {}
        self._cpu = 0.0
        self._shared = 0  # bytes that the resident size has too much
        self._shared_until = 0.0

    def look(self, memory: int | None = None) -> Sample | None:
        began = time.monotonic()
        found: dict[int, _Seen] = {}
        resident = tasks = 0
        todo = [self._pid, *self._orphans()]
        while todo:
            pid = todo.pop()
            fields = procfs.stat(pid)
            if not fields or pid in found:
                continue
            threads = int(fields[procfs.THREADS])
            is_over = fields[procfs.STATE] in procfs.OVER
            if is_over and pid == self._pid:
                return None
            if not is_over:
                tasks += threads
                resident += int(fields[procfs.RSS])
                todo += procfs.children(pid, threads)
            own = (int(fields[procfs.UTIME]) + int(fields[procfs.STIME])) * procfs.TICK
            below = (int(fields[procfs.CUTIME]) + int(fields[procfs.CSTIME])) * procfs.TICK
            found[pid] = _Seen(int(fields[procfs.PARENT]), fields[procfs.BEGAN], own, below)
        if self._pid not in found:
            return None
        self._count(found)
        bytes_held = resident * procfs.PAGE
        if memory is not None:
            bytes_held = self._closely(found, bytes_held, memory)
        now = time.monotonic()
        return Sample(now, self._cpu, bytes_held, tasks, cost=now - began)

    def _closely(self, found: dict[int, _Seen], resident: int, memory: int) -> int:
        """Bytes that are held, where that matters: if `resident`, which counts some twice, is above `memory`."""
        for pid, new in found.items():
            if new.alike < 0:
                new.alike = 0 if pid == self._pid else procfs.anonymous(pid)
        if resident <= memory:
            return resident
        at_least = sum([max(0, procfs.anonymous(pid) - new.alike) for pid, new in found.items()])
        if at_least > memory:
            return at_least
        now = time.monotonic()
        if now > self._shared_until or resident - self._shared > memory:
            self._shared = max(0, resident - sum([procfs.pss(pid) for pid in found]))
            self._shared_until = now + _SHARED_FOR
        return resident - self._shared

    def _count(self, found: dict[int, _Seen]) -> None:
        """Add what was used since the last look."""
        waited_for: dict[int, float] = {}  # parent -> CPU of children that were counted before, and are gone
        for pid, old in self._seen.items():
            new = found.get(pid)
            if new is None or new.began != old.began:
                waited_for[old.parent] = waited_for.get(old.parent, 0.0) + old.own + old.children
        for pid, new in found.items():
            before = self._seen.get(pid)
            if before is None or before.began != new.began:
                before = _Seen(0, b"", 0.0, 0.0)
            else:
                new.alike = before.alike
            self._cpu += new.own - before.own
            self._cpu += max(0.0, new.children - before.children - waited_for.get(pid, 0.0))
        self._seen = found


class PsutilTree:
    """By psutil."""

    def __init__(self, pid: int) -> None:
        import psutil

        self._psutil = psutil
        self._pid = pid
        self._seen: dict[int, float] = {}
        self._ended = 0.0

    def look(self, memory: int | None = None) -> Sample | None:
        psutil = self._psutil
        began = time.monotonic()
        seen: dict[int, float] = {}
        resident = tasks = 0
        try:
            root = psutil.Process(self._pid)
            if root.status() == psutil.STATUS_ZOMBIE:  # as `ProcTree`: it has ended, and is not collected yet
                return None
            every = [root, *root.children(recursive=True)]
        except psutil.Error:
            return None
        for process in every:
            try:
                times = process.cpu_times()
                seen[process.pid] = times.user + times.system
                resident += process.memory_info().rss
                tasks += process.num_threads()
            except psutil.Error:
                continue
        if not tasks:
            return None
        self._ended += sum([cpu for pid, cpu in self._seen.items() if pid not in seen])
        self._seen = seen
        now = time.monotonic()
        return Sample(now, self._ended + sum(seen.values()), resident, tasks, cost=now - began)


def tree_of(pid: int, orphans: Callable[[], list[int]]) -> Tree:
    """The way to look at a session's processes on this system."""
    return ProcTree(pid, orphans) if sys.platform == "linux" else PsutilTree(pid)
