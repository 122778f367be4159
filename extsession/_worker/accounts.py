"""What the calls of a session cost, and whether they started processes.

The `resource` module is an extension that takes long to load. It is loaded after the first reply was sent; the first
call makes do with /proc.
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_IGN, SIGCHLD, getsignal  # type: ignore[import-not-found]
from time import process_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SELF = 0
_CHILDREN = -1
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Accounts:
    """Asks the kernel."""

    def __init__(self) -> None:
        self._getrusage: Any = None
        self._spent = process_time()
        self._ended: Any = 0  # page faults of children that have ended, as last seen: each has some
        if sys.platform != "linux":
            self.get_ready()

    def get_ready(self) -> None:
        """Load what the next calls are measured with."""
        if self._getrusage is None:
            import resource

            self._getrusage = resource.getrusage

    @property
    def so_far(self) -> float:
        """CPU seconds that were known at the last time `spent` was asked."""
        return self._spent

    def reset(self) -> None:
        """In a clone: nothing was spent yet, and no child is known."""
        self._spent = process_time()
        self._ended = self._ended_children()

    def has_started_process(self) -> bool:
        """Whether a process that was started since the last look may hold the pipes.

        Children that have ended and were waited for show in the page faults of children; all others still exist.
        With SIGCHLD ignored the kernel keeps no such account.
        """
        getrusage = self._getrusage
        ended = self._ended_children() if getrusage is None else getrusage(_CHILDREN)[6]
        if ended != self._ended:
            self._ended = ended
            return True
        return self._has_children()

    def may_have_started_process(self) -> bool:
        """The same in the middle of a call, where it is asked again at the end."""
        return self._ended_children() != self._ended or self._has_children()

    def _ended_children(self) -> int:
        if self._getrusage is not None:
            faults: int = self._getrusage(_CHILDREN)[6]
            return faults
        return int(_stat_fields()[8])  # cminflt

    def _has_children(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13: it cannot be asked without an effect
            return True
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return getsignal(SIGCHLD) is SIG_IGN
        return True

    def spent(self) -> tuple[float, int]:
        """(CPU seconds of this process since the last time this was asked, the most memory it has had in bytes)."""
        if self._getrusage is not None:
            usage = self._getrusage(_SELF)
            now = usage[0] + usage[1]
            peak = usage[2] * _RSS_UNIT
        else:
            now = process_time()
            # its resident size: the peak of so young a process
            peak = int(_stat_fields()[21]) * os.sysconf("SC_PAGESIZE")
        before, self._spent = self._spent, now
        return max(0.0, now - before), peak


def _stat_fields() -> list[bytes]:
    """The fields of /proc/self/stat behind the name: proc(5) counts from 3 there."""
    fd = os.open("/proc/self/stat", os.O_RDONLY)
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    finally:
        os.close(fd)
