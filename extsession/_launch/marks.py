"""Marks: how a warden tells whose an orphan is.

A mark is a value of the resource limit RLIMIT_LOCKS. It has had no meaning to the kernel since 2.4.25
(getrlimit(2)), is inherited through fork, exec, setsid and double forks, and shows in /proc/<pid>/limits. Only root
can raise a hard limit, so marks are given out downwards: a branch of a session gets a lower one than the session.

A command has a signature instead: a random number as the soft limit, so that it is found among all processes of the
system, where marks, which are given out in the same order by everybody, mean nothing.

A session that controls sessions itself gives out its own from the interval below its mark, so that the outer
warden takes them for parts of the outer session. There is room for three levels of that.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from typing import Final, NamedTuple

from . import procfs

RLIMIT_LOCKS: Final = 10
_TOP = 2**62
#: a hard limit below which there is no room for signatures
_LEAST_TOP = 2**40
#: the distance between two marks, at each level, in bits
_BITS = (40, 20, 0)


class _Room(NamedTuple):
    """Marks of this process: top - n * step for n from 1 to most."""

    top: int
    step: int
    most: int


@functools.cache
def _room(pid: int) -> _Room | None:
    """pid: of this process; a forked one may have been given another limit."""
    return _room_of(pid)


def _room_of(pid: int) -> _Room | None:
    """What a process may give out."""
    if sys.platform != "linux":
        return None
    import resource

    try:
        hard = resource.prlimit(pid, RLIMIT_LOCKS)[1]
    except OSError:
        return None
    if hard < 0 or hard >= _TOP:  # no limit
        return _Room(_TOP, 1 << _BITS[0], 2**22 - 1)
    for outer, bits in itertools.pairwise(_BITS):
        if hard and not hard % (1 << outer):
            return _Room(hard, 1 << bits, 2**20 - 1)
    return None


_count = itertools.count()


def new_mark() -> int:
    """A mark that no other living session of this process has; 0 where there is no room for one."""
    room = _room(os.getpid())
    return 0 if room is None else room.top - (1 + next(_count) % room.most) * room.step


def new_mark_below(pid: int) -> tuple[int, int]:
    """A mark for a child of that process, and the distance to the next one; (0, 0) where there is no room for one."""
    room = _room_of(pid)
    return (0, 0) if room is None else (room.top - (1 + next(_count) % room.most) * room.step, room.step)


def step() -> int:
    """The distance between two marks of this process."""
    room = _room(os.getpid())
    return 0 if room is None else room.step


def of(pid: int) -> int:
    """The mark of a process of ours; 0 if it has none, or is none of ours. The hard limit: anybody may change the soft.
    """
    if sys.platform != "linux":
        return 0
    import resource

    try:
        hard = resource.prlimit(pid, RLIMIT_LOCKS)[1]
    except ProcessLookupError:
        return 0
    except OSError:  # another user's, as isolated sessions of root are, where that may not do all that root can
        hard = procfs.limit(pid, b"Max file locks")
    return 0 if hard < 0 or hard >= _TOP else hard


def new_signature() -> int:
    """A number that no other command has, of this or any other process: random. 0 where processes cannot have one."""
    if sys.platform != "linux":
        return 0
    import resource

    hard = resource.getrlimit(RLIMIT_LOCKS)[1]
    top = _TOP if hard < 0 or hard > _TOP else hard
    return 0 if top < _LEAST_TOP else top // 2 + int.from_bytes(os.urandom(8), "little") % (top // 2)


def sign(pid: int, signature: int) -> int:
    """Give a child of ours, and all that it will start, a signature: the soft limit. Returns it; 0: it could not be."""
    if not signature:
        return 0
    import resource

    try:
        resource.prlimit(pid, RLIMIT_LOCKS, (signature, resource.prlimit(pid, RLIMIT_LOCKS)[1]))
    except (OSError, ValueError):  # it has ended, or is another user's by now, as sudo's is
        return 0
    return signature


def signature_of(pid: int) -> int:
    """The signature of a process of ours; 0 if it has none, or is none of ours."""
    if sys.platform != "linux":
        return 0
    import resource

    try:
        return max(0, resource.prlimit(pid, RLIMIT_LOCKS)[0])
    except OSError:
        return 0


def put(pid: int, mark: int) -> None:
    """Give a child of ours that has just been started, and all that it will start, a mark; 0: none."""
    if not mark or sys.platform != "linux":
        return
    import resource

    try:
        resource.prlimit(pid, RLIMIT_LOCKS, (mark, mark))
    except OSError:  # it has ended, or is not ours to change: what it starts cannot be told from its family's
        return
