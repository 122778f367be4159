"""All that a process has started, found and ended from outside: for processes that have no warden as their parent.

A descendant whose parents have ended is nobody's child any more. What tells that it belongs here is its signature
(`marks.py`), given to the process right after its start. Where there are none (other systems than Linux, no room for
one, a process of another user), what was seen below the process while its parents lived is remembered instead.

Imports its neighbours and the standard library only: the guard (`guard.py`) loads it without the rest of the package.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import Final

from . import marks, procfs

#: seconds to try; what is left then sits in the kernel and cannot be ended by anyone
_GIVE_UP: Final = 5.0
#: seconds between two looks for those that were killed
_PAUSE: Final = 0.02
#: how many of those that came last may be ours
_LATEST: Final = 12
_IS_LINUX: Final = sys.platform == "linux"


class Offspring:
    """Of the process `pid`, which is not counted itself.

    signature: of all that it starts, 0 for none. began: when it began, where another process has started it.
    """

    def __init__(self, pid: int, signature: int, began: int = 0) -> None:
        self.pid = pid
        self.signature = signature
        self.began = began or _began(pid)
        self._leads = _group(pid) == pid
        self._seen: dict[int, int] = {}  # pid -> when it began, of all that were ever below it

    def look(self) -> None:
        """Remember who is below it now."""
        for pid in [*self._seen, self.pid]:
            if _began(pid) == (self.began if pid == self.pid else self._seen[pid]):
                for child in _below(pid):
                    self._seen.setdefault(child, _began(child))

    def sign_all(self) -> None:
        """Sign who is below it already: it ran before it was signed itself, if only for a moment."""
        if self.signature and procfs.children(self.pid, threads=1):
            for pid in _below(self.pid):
                marks.sign(pid, self.signature)

    def alive(self) -> list[int]:
        """Those that have not ended, in no order."""
        self.look()
        found = {pid for pid, began in self._seen.items() if began and _began(pid) == began and not _is_over(pid)}
        for pid in _all_pids():
            if pid not in found and pid != self.pid and self._is_ours(pid) and not _is_over(pid):
                found.add(pid)
        return sorted(found)

    def _is_ours(self, pid: int) -> bool:
        """Whether it has our signature, or is in the group that our process leads: no other process gets that number
        while there is a group of it.
        """
        is_signed = self.signature and marks.signature_of(pid) == self.signature
        return bool(is_signed or (self._leads and _group(pid) == self.pid)) and _began(pid) >= self.began

    def end(self, with_root: bool = False) -> int:
        """SIGKILL for all of them, until none is left. Returns how many could not be ended in five seconds.

        with_root: for the process itself, too.
        """
        if with_root:
            self._seen[self.pid] = self.began
        give_up = time.monotonic() + _GIVE_UP
        while True:
            last = procfs.last_pid()
            found = self.alive()
            if not found and (procfs.last_pid() == last or not self._hunt()):
                return 0
            if time.monotonic() > give_up:
                return len(found)
            # all are stopped before one is killed: no fork is faster
            handles = [handle for pid in found if (handle := self._told(pid, signal.SIGSTOP)) is not None]
            for handle in handles:
                handle.signal(signal.SIGKILL)
            for handle in handles:
                handle.wait(_PAUSE)
                handle.close()

    def strike(self) -> None:
        """SIGKILL for the process and for whom it has below it right now. `end` makes sure of the rest."""
        self.look()
        for pid, began in ((self.pid, self.began), *self._seen.items()):
            handle = _Handle(pid)
            if handle.is_open:
                if _began(pid) == began:
                    handle.signal(signal.SIGKILL)
                handle.close()

    def _told(self, pid: int, number: int) -> _Handle | None:
        """Signal it, if it is still here and still ours."""
        handle = _Handle(pid)
        if handle.is_open:
            if _began(pid) == self._seen.get(pid) or self._is_ours(pid):  # the number means the same as the handle
                handle.signal(number)
                return handle
            handle.close()
        return None

    def _hunt(self) -> int:
        """None was found, and there were new processes meanwhile. They may be ours: one that forks and ends, and so
        on, is gone before its turn in a list has come. So look at the numbers that were given out last: whoever is
        met there leaves nobody. Returns how many were.
        """
        count = 0
        end = time.monotonic() + _PAUSE
        while self.signature and time.monotonic() < end:
            last = procfs.last_pid()
            for pid in range(last + 2, max(last - _LATEST, 1), -1):
                if pid == self.pid or not self._is_ours(pid) or _is_over(pid):
                    continue
                handle = self._told(pid, signal.SIGKILL)
                if handle is not None:
                    handle.close()
                    count += 1
        return count


class _Handle:
    """A process that is signalled by a descriptor, where there are such, so that its number cannot become another's."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = -1
        self.is_open = True
        if hasattr(os, "pidfd_open"):
            try:
                self._fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self.is_open = False
            except OSError:  # no descriptors left, or Linux before 5.3
                pass

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            else:
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> None:
        """Until it has ended, or so long."""
        if self._fd >= 0:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            poll.poll(seconds * 1000)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _all_pids() -> list[int]:
    """Of the system, as far as they can be seen."""
    if _IS_LINUX:
        return procfs.pids()
    import psutil

    return psutil.pids()


def _group(pid: int) -> int:
    """Its process group; 0: it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _began(pid: int) -> int:
    """When it began, in some unit; 0: it is gone."""
    if _IS_LINUX:
        fields = procfs.stat(pid)
        return int(fields[procfs.BEGAN]) if fields else 0
    import psutil

    try:
        return int(psutil.Process(pid).create_time() * 100)
    except psutil.Error:
        return 0


def _is_over(pid: int) -> bool:
    if _IS_LINUX:
        fields = procfs.stat(pid)
        return not fields or fields[procfs.STATE] in procfs.OVER
    import psutil

    try:
        status: str = psutil.Process(pid).status()
    except psutil.Error:
        return True
    return status == psutil.STATUS_ZOMBIE


def _below(pid: int) -> list[int]:
    if _IS_LINUX:
        return procfs.descendants(pid) if procfs.lists_children() else procfs.descendants_by_parents(pid)
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []
