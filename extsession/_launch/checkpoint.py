"""A checkpoint, seen from the controller: a clone of a session that waits, and is cloned to go back to it."""

from __future__ import annotations

import marshal
import os
import select
import socket
import threading
import weakref

from .base import Process

#: seconds in which it must have told of itself
_AT_FIRST = 1.0


class CheckpointProcess:
    """The process of a checkpoint. Safe to use from several threads."""

    def __init__(self, process: Process) -> None:
        self._process = process
        process.stand_apart()
        self._lock = threading.RLock()  # the collector may end a session in the middle of anything
        self._is_over = False
        _alive.add(self)

    @property
    def is_alive(self) -> bool:
        """Whether it can be cloned, as far as is known."""
        with self._lock:
            self._look()
            return not self._is_over

    @property
    def pid(self) -> int | None:
        """Its process id; None once it is gone."""
        with self._lock:
            self._look()
            if not self._is_over and self._process.pid is None:
                poll = select.poll()  # it tells of itself, and is only just there
                poll.register(self._process.leash, select.POLLIN)
                poll.poll(_AT_FIRST * 1000)
                self._look()
            return None if self._is_over else self._process.pid

    def clone(self, token: bytes) -> Process:
        """A session that is what the checkpoint is; it says Ready by itself.

        OSError if the checkpoint is gone, or there are no descriptors left.
        """
        process, mark, theirs = self._process.prepare_clone()
        try:
            with self._lock:
                if self._is_over:
                    raise BrokenPipeError("it was dropped")
                socket.send_fds(self._process.channel, [mark.to_bytes(8, "little")], theirs.numbers())
        except BaseException:
            process.discard()
            raise
        finally:
            theirs.close()
        process.first = settings(token)
        return process

    def release(self) -> None:
        """Let it end. Sessions that came of it go on. Nothing the second time."""
        with self._lock:
            if not self._is_over:
                self._end()

    def _look(self) -> None:
        if not self._is_over and self._process.read_leash() is not None:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._process.discard()

    def _abandon(self) -> None:
        """In a forked process: it belongs to the one that was forked."""
        self._lock = threading.RLock()
        if not self._is_over:
            self._process.disown()
            self._end()


_alive: weakref.WeakSet[CheckpointProcess] = weakref.WeakSet()


def _abandon_all() -> None:
    for each in list(_alive):
        each._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


def settings(token: bytes) -> bytes:
    """What a clone of a session reads from its channel first."""
    data = marshal.dumps({"token": token}, 2)
    return len(data).to_bytes(4, "little") + data
