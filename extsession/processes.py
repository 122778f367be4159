"""Processes that are no session's: a child that you forked yourself, with all that it starts, wherever that goes.

A session has a warden. A child of yours has you: whatever loses its parent comes to its *reaper*, which is a process
that has called `become_reaper()`, and is told from the reaper's other children by a mark, which the child sets to
itself before it runs anything (`resource.setrlimit(10, (mark, mark))`), and everything below it inherits. The plugin
for pytest is built on this.

Linux has all of it. Elsewhere what has lost its parent is found only if it is still in the child's session.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from typing import Any

from ._engine.limits import Breach, Rules
from ._launch import marks, memory_killer, procfs, samples, tree
from .options import Limits

__all__ = ["Breach", "ProcessTree", "become_reaper", "new_mark"]

#: prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
#: seconds between two looks for processes that are about to end
_PAUSE = 0.001


def new_mark(parent: int) -> tuple[int, int]:
    """A mark for a child of the process `parent`, and its width. (0, 0): there is none to be had here."""
    return marks.new_mark_below(parent)


@functools.cache
def _prctl() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None).prctl


def become_reaper(on: bool = True) -> bool:
    """Whether this process now is the one to which orphans below it come (PR_SET_CHILD_SUBREAPER, Linux 3.4)."""
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0


class ProcessTree:
    """A process and all that it starts.

    mark: that it has set to itself, with its width, as from `new_mark`. reaper: the process that its orphans come to.
    memory: bytes by which all together may grow from now on; None: that is not looked at.
    """

    def __init__(self, pid: int, mark: tuple[int, int] = (0, 0), reaper: int = 0, memory: int | None = None) -> None:
        self.pid = pid
        self._mark, self._width = mark
        self._reaper = reaper
        self._began = time.monotonic()
        self._rules: Rules | None = None
        memory_killer.remember(self._began)
        if memory is not None:
            self._had = procfs.anonymous(pid)
            self._most = self._had + memory
            self._samples = samples.tree_of(pid, self._orphans)
            self._rules = Rules(Limits(memory=self._most))
            self._rules.on_ready({}, self._began)
            self._rules.on_call(self._began)

    def next_look(self) -> float | None:
        """When `look` has something to look at, on the monotonic clock: no sooner than memory could be used up."""
        return None if self._rules is None else self._rules.next_look()

    def look(self) -> Breach | None:
        """The limit that is broken now; what is allowed and reached is growth."""
        if self._rules is None or not self._rules.wants_sample(time.monotonic()):
            return None
        sample = self._samples.look(self._most)
        if sample is None:
            self._rules.on_gone(time.monotonic())
            return None
        found = self._rules.on_sample(sample)
        if found is None:
            return None
        return found._replace(allowed=found.allowed - self._had, reached=max(0, found.reached - self._had))

    def takes(self, number: int) -> bool:
        """Whether it will act on a signal soon: it does not block or ignore it, and is not stopped."""
        return procfs.takes(self.pid, number)

    def is_ready(self) -> bool:
        """Whether the process has something to do now, though it may have to wait for a processor."""
        fields = procfs.stat(self.pid)
        return bool(fields) and fields[procfs.STATE] in (b"R", b"D")

    def was_memory_killer(self, peak: int) -> bool:
        """Whether it was the kernel's memory killer that ended it, which SIGKILL has. peak: bytes that it had."""
        return memory_killer.has_ended(self.pid, self._began, peak)

    def hasten(self) -> None:
        """SIGKILL for the process, which has not been waited for, and for what is below it now."""
        if procfs.lists_children():
            tree.hasten(self.pid)
        else:
            tree.kill(self.pid)

    def sweep(self, patience: float = 2.0) -> list[int]:
        """End what the process has left, once it has ended itself; those are returned that live on after `patience` s.

        What has come to this process is waited for, too.
        """
        deadline = time.monotonic() + patience
        while left := self._orphans():
            for pid in left:
                tree.hasten(pid)
                if self._reaper == os.getpid():
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                return self._orphans()
            time.sleep(_PAUSE)
        return []

    def _orphans(self) -> list[int]:
        if not self._mark or not self._reaper or not procfs.lists_children():
            return []
        mine = self._reaper == os.getpid()
        found = []
        for pid in procfs.children(self._reaper):
            if pid == self.pid:
                continue
            mark = marks.of(pid)  # below it are those of sessions that were started in it
            if not mark or -(-mark // self._width) * self._width != self._mark:
                continue
            if not mine:
                fields = procfs.stat(pid)
                if not fields or fields[procfs.STATE] in procfs.OVER:
                    continue
            found.append(pid)
        return found


def signal_name(number: int) -> str:
    """SIGSEGV for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
