"""What Linux tells about processes in /proc: the one place where its files are read. See proc(5).

Others' processes end at any moment: what is gone is nothing, an empty list or 0, and no error. By descriptors and bytes
throughout, which takes half the time of `open()`: the watch reads these files a hundred times a second.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Final

PAGE: Final = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096
#: seconds in a unit of the times in `stat`
TICK: Final = 1.0 / (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
# fields of `stat`: after the name, where proc(5) counts from 3
STATE: Final = 0
PARENT: Final = 1
UTIME: Final = 11
STIME: Final = 12
CUTIME: Final = 13
CSTIME: Final = 14
THREADS: Final = 17
BEGAN: Final = 19
RSS: Final = 21
#: states of those that have ended
OVER: Final = (b"Z", b"X")


@functools.cache
def lists_children() -> bool:
    """Whether the kernel lists children (CONFIG_PROC_CHILDREN)."""
    return sys.platform == "linux" and os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def stat(pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat behind the name. Empty: it is gone."""
    return _read(b"/proc/%d/stat" % pid).rpartition(b")")[2].split()


def children(pid: int, threads: int = 2) -> list[int]:
    """The children of a process. threads: how many it has, if that is known: one alone need not be searched for."""
    if threads == 1:
        return [int(child) for child in _read(b"/proc/%d/task/%d/children" % (pid, pid)).split()]
    try:
        tasks = os.listdir(b"/proc/%d/task" % pid)
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(b"/proc/%d/task/%b/children" % (pid, task)).split()]


def descendants(pid: int) -> list[int]:
    """All below a process."""
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children(todo.pop())
        found += below
        todo += below
    return found


def pids() -> list[int]:
    """Of all processes that can be seen."""
    try:
        return [int(name) for name in os.listdir(b"/proc") if name.isdigit()]
    except OSError:  # it is not mounted
        return []


def last_pid() -> int:
    """The number that was given out last, in our PID namespace."""
    words = _read(b"/proc/loadavg").split()
    return int(words[4]) if len(words) > 4 else 0


def descendants_by_parents(pid: int) -> list[int]:
    """All below a process, where the kernel does not list children: by what each process says of its parent."""
    below: dict[int, list[int]] = {}
    for each in pids():
        fields = stat(each)
        if fields:
            below.setdefault(int(fields[PARENT]), []).append(each)
    found = list(below.get(pid, ()))
    for each in found:  # which grows
        found += below.get(each, ())
    return found


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory that a process holds, those that it shares with its parent since a fork included."""
    fields = _read(b"/proc/%d/statm" % pid).split()
    return (int(fields[1]) - int(fields[2])) * PAGE if len(fields) > 2 else 0


def pss(pid: int) -> int:
    """Bytes that a process holds, its part of what it shares; all of that where its maps may not be read (set-uid)."""
    data = _read(b"/proc/%d/smaps_rollup" % pid)
    start = data.find(b"\nPss:")
    if start >= 0:
        return int(data[start:].split(None, 2)[1]) * 1024
    fields = stat(pid)
    return int(fields[RSS]) * PAGE if fields and fields[STATE] not in OVER else 0


def descriptors(pid: int) -> int | None:
    """How many a process has open; None: it may not be looked at."""
    folder = b"/proc/%d/fd" % pid
    try:  # its size is their number since Linux 6.2
        return os.stat(folder).st_size or len(os.listdir(folder))
    except OSError:
        return None


def _read(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = piece = os.read(fd, 4096)
        while len(piece) > 4000:  # lists come in whole numbers, so that a page of them is rarely full
            piece = os.read(fd, 4096)
            data += piece
        return data
    except OSError:  # it has ended since
        return b""
    finally:
        os.close(fd)


def innermost(pid: int) -> int:
    """The number that a process has in the innermost of its PID namespaces; 0 where that is not told (Linux 4.1)."""
    for line in _read(b"/proc/%d/status" % pid).splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return 0


def takes(pid: int, signal: int) -> bool:
    """Whether a process will act on a signal soon: it does not block or ignore it, and is not stopped."""
    for line in _read(b"/proc/%d/status" % pid).splitlines():
        name, _, text = line.partition(b":")
        if name in (b"SigBlk", b"SigIgn") and int(text, 16) >> (signal - 1) & 1:
            return False
        if name == b"State" and text.split()[0] in (b"T", b"t"):
            return False
    return True


def limit(pid: int, name: bytes) -> int:
    """A hard limit of a process, by its name in /proc/<pid>/limits; -1: there is none, or it is gone."""
    for line in _read(b"/proc/%d/limits" % pid).splitlines():
        if line.startswith(name):
            word = line[len(name) :].split()[1]
            return int(word) if word.isdigit() else -1
    return -1
