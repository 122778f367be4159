"""The limits of a running command: of its whole tree, looked at from outside. See `_engine/limits.py` for the rules."""

from __future__ import annotations

import math
from typing import Final

from .._engine.limits import Breach, Rules
from .._launch import procfs
from .._launch.command import StartedCommand
from .._launch.samples import tree_of
from ..options import Limits

#: those that a command can have; `wall` is its timeout
OF_COMMANDS: Final = frozenset(["cpu", "memory", "output", "processes"])


class CommandWatch:
    """Of one command. ValueError: a limit that commands cannot have."""

    def __init__(self, limits: Limits, process: StartedCommand, now: float) -> None:
        for name in limits.given():
            if name not in OF_COMMANDS:
                raise ValueError(f"a command can have no limit {name!r}, only {', '.join(sorted(OF_COMMANDS))}")
        self._process = process
        self._rules = Rules(limits)
        self._rules.on_ready({}, now)
        self._rules.on_call(now)
        self._tree = tree_of(process.pid, self._orphans)

    def next_look(self) -> float:
        due = self._rules.next_look()
        return math.inf if due is None else due

    def look(self, now: float, written: int) -> Breach | None:
        """The limit that is broken now. written: bytes of output so far."""
        breach = self._rules.too_much_output(written)
        if breach is None and self._rules.wants_sample(now):
            sample = self._tree.look(self._rules.closely)
            if sample is None:
                self._rules.on_gone(now)
            else:
                breach = self._rules.on_sample(sample)
        return breach

    def _orphans(self) -> list[int]:
        """What it has started that is not below it any more: of each family the oldest."""
        alive = set(self._process.offspring.alive())
        return [pid for pid in alive if self._parent(pid) not in alive and self._parent(pid) != self._process.pid]

    @staticmethod
    def _parent(pid: int) -> int:
        fields = procfs.stat(pid)
        return int(fields[procfs.PARENT]) if fields else 0
