"""Whether the kernel's memory killer has ended a process: SIGKILL looks the same from whoever it comes.

The kernel writes in its log whom it has ended ("Killed process 4711 (python3)", mm/oom_kill.c), with the pid as the
first PID namespace has it. Where the log may not be read, or is of another namespace, its count of such ends tells
(`oom_kill` in /proc/vmstat, kernel 4.13, control groups included): if that has risen since it was last looked at, which
each start of a session does, and the process was not small, it is taken for this one. It takes the largest first.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

_LOG: Final = "/dev/kmsg"
_COUNTS: Final = "/proc/vmstat"
_KILLED: Final = re.compile(rb"\bKilled process (\d+)\b")
#: of the first PID namespace, PROC_PID_INIT_INO in include/linux/proc_ns.h
_FIRST_NAMESPACE: Final = "pid:[4026531836]"
#: seconds that the log's clock and ours may be apart, and more than a process takes to die
_APART: Final = 5.0
#: seconds for which the count is not looked at again when sessions start
_FRESH: Final = 0.5
#: bytes below which it does not take a process, if nobody says that it has
_SMALL: Final = 64 * 2**20
_count = -1  # as last seen
_looked = 0.0


def remember(now: float) -> None:
    """Note the count, when a process is started that may be asked about. now: on the monotonic clock."""
    global _count, _looked
    if _count < 0 or now - _looked > _FRESH:
        _count, _looked = _read_count(), now


def has_ended(pid: int, since: float, peak: int) -> bool:
    """Whether it has ended this process, which SIGKILL has ended.

    since: when that began, on the monotonic clock; peak: bytes of memory that it had at most, -1: not known.
    """
    global _count
    if sys.platform != "linux":
        return False
    before, _count = _count, _read_count()
    if _count >= 0 and before == _count:
        return False
    named = _named_since(since - _APART)
    if named is not None:
        return pid in named
    return 0 <= before < _count and not 0 <= peak < _SMALL


def _read_count() -> int:
    """How many processes it has ended since the system was started; -1 where that is not told."""
    try:
        with open(_COUNTS, "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return -1


def _named_since(begin: float) -> set[int] | None:
    """Pids that the log has as ended by it; None where the log does not tell."""
    try:
        if os.readlink("/proc/self/ns/pid") != _FIRST_NAMESPACE:
            return None
        fd = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found: set[int] = set()
    try:
        while True:
            try:
                record = os.read(fd, 8192)  # "6,339,5140900,-;text": priority, number, microseconds, flags
            except BrokenPipeError:  # records were overwritten: it goes on with the oldest that is there
                continue
            except BlockingIOError:
                return found
            if not record:
                return found
            head, _, text = record.partition(b";")
            killed = _KILLED.search(text)
            if killed and int(head.split(b",")[2]) / 1e6 >= begin:
                found.add(int(killed.group(1)))
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(fd)
