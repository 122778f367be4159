"""The checkpoints of a session: what is kept, what is found by name, what has to go."""

from __future__ import annotations

import errno
import threading
import time

from .._launch import procfs
from .._launch.base import Process
from .._launch.checkpoint import CheckpointProcess
from ..errors import CheckpointGone, LaunchError, SessionClosed


class Checkpoint:
    """A moment of a session that it can go back to, as often as wanted: `session.rollback(checkpoint)`.

    name: as it was given, or "checkpoint 3"; call: the number of the call after which it was taken; created: seconds
    since the epoch. It lives, as a process that waits, until it is dropped or the session is closed.
    """

    def __init__(self, name: str, call: int, process: Process) -> None:
        self.name = name
        self.call = call
        self.created = time.time()
        self._process = CheckpointProcess(process)

    @property
    def is_alive(self) -> bool:
        """Whether it can be gone back to, as far as is known."""
        return self._process.is_alive

    @property
    def memory(self) -> int:
        """Bytes that it holds, its part of what it shares with others (PSS, see proc(5)); 0 once it is gone."""
        pid = self._process.pid
        return 0 if pid is None else procfs.pss(pid)

    def drop(self) -> None:
        """Forget it and free its memory. Nothing the second time."""
        self._process.release()

    def clone(self, token: bytes) -> Process:
        """A process that goes on from it; CheckpointGone, LaunchError where there are no descriptors left."""
        try:
            return self._process.clone(token)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise LaunchError(f"{self.name!r} cannot be gone back to now: {error}") from error
            raise CheckpointGone(f"{self.name!r} cannot be gone back to: {error}", name=self.name) from None

    def __repr__(self) -> str:
        return f"<Checkpoint {self.name!r} after call {self.call}{'' if self.is_alive else ', gone'}>"


class Shelf:
    """Checkpoints, oldest first. most: how many are kept; memory: bytes they may hold together, None for no end."""

    def __init__(self, most: int, memory: int | None) -> None:
        self._most = most
        self._memory = memory
        self._all: list[Checkpoint] = []
        self._count = 0
        self._is_closed = False
        self._lock = threading.RLock()  # the collector may end a session in the middle of anything

    def add(self, name: str | None, call: int, process: Process) -> Checkpoint:
        """Keep one more. One of the same name, and the oldest of too many, are dropped. SessionClosed."""
        with self._lock:
            if self._is_closed:
                process.discard()
                raise SessionClosed("the session was closed while the checkpoint was made")
            self._count += 1
            made = Checkpoint(f"checkpoint {self._count}" if name is None else name, call, process)
            for each in self._all:
                if each.name == made.name:
                    each.drop()
            self._all = [each for each in self._all if each.is_alive]
            self._all.append(made)
            while len(self._all) > self._most or (len(self._all) > 1 and self._is_too_much()):
                self._all.pop(0).drop()
        return made

    def find(self, wanted: Checkpoint | str) -> Checkpoint:
        """By itself or by its name; CheckpointGone."""
        alive = self.all()
        for each in alive:
            if wanted is each or wanted == each.name:
                return each
        if isinstance(wanted, Checkpoint):
            raise CheckpointGone(f"{wanted.name!r} was dropped, or is another session's", name=wanted.name)
        if not isinstance(wanted, str):
            raise TypeError(f"a Checkpoint or its name is needed, not {type(wanted).__name__}")
        there = ", ".join(repr(each.name) for each in alive) or "none"
        raise CheckpointGone(f"there is no checkpoint {wanted!r}; there are: {there}", name=wanted)

    def all(self) -> tuple[Checkpoint, ...]:
        with self._lock:
            self._all = [each for each in self._all if each.is_alive]
            return tuple(self._all)

    def memory(self) -> int:
        """Bytes that all of them hold together."""
        return sum(each.memory for each in self.all())

    def close(self) -> None:
        """Drop all of them, and keep no others."""
        self._is_closed = True
        with self._lock:
            found, self._all = self._all, []
        for each in found:
            each.drop()

    def _is_too_much(self) -> bool:
        return self._memory is not None and sum(each.memory for each in self._all) > self._memory
