"""Sessions of a template that are forked already and wait for their settings, so that one is there at once.

How many adapts: twice as many each time that one was wanted and none was there, up to a bound; half as many when
none was needed for a while.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from .local import LocalProcess

#: seconds without a start after which there are half as many
PATIENCE = 10.0
#: seconds after a start in which no other one is prepared
_SOON = 0.002


class Stock:
    """Spare sessions. most: how many there may be; 0, as at first, keeps none. Safe to use from several threads."""

    def __init__(self) -> None:
        self.most = 0
        self._lock = threading.RLock()  # the collector may end a session in the middle of anything
        self._spare: deque[LocalProcess] = deque()
        self._wanted = 1
        self._used = time.monotonic()
        self._due: float | None = None  # when more are to be made

    def __len__(self) -> int:
        return len(self._spare)

    def take(self, settings: bytes, folder: int) -> LocalProcess | None:
        """One of them, which has been told what it is to be; None if there is none."""
        if not self.most:
            return None
        self._used = time.monotonic()
        while True:
            with self._lock:
                if not self._spare:
                    self._wanted = min(self._wanted * 2, self.most)
                    return None
                process = self._spare.popleft()
            try:
                process.first = settings[socket.send_fds(process.channel, [settings], [folder]) :]
            except OSError:  # it was ended from outside
                process.discard()
            else:
                return process

    def fill(self, make: Callable[[], LocalProcess]) -> None:
        """Make as many as are wanted now."""
        with self._lock:
            missing = min(self._wanted, self.most) - len(self._spare)
        for _ in range(missing):
            process = make()
            with self._lock:
                self._spare.append(process)

    def shrink(self, most: int) -> None:
        """Let go of all but so many."""
        while True:
            with self._lock:
                if len(self._spare) <= most:
                    return
                process = self._spare.pop()
            process.discard()

    def tend(self, now: float) -> None:
        if self._spare and now - self._used > PATIENCE:
            self._used = now
            self._wanted = max(1, self._wanted // 2)
            self.shrink(self._wanted if self._wanted > 1 else 0)

    def next_look(self) -> float | None:
        """When `tend` has something to do, by the monotonic clock."""
        if self._due is not None:
            return self._due
        return self._used + PATIENCE if self._spare else None

    def fill_soon(self) -> None:
        """Have `tend` called in a moment, by when whoever has just taken one is no longer held up by it."""
        if self._due is None:
            self._due = time.monotonic() + _SOON

    def take_due(self, now: float) -> bool:
        """Whether it is time to fill it."""
        if self._due is None or now < self._due:
            return False
        self._due = None
        return True

    def abandon(self) -> None:
        """In a forked process."""
        self._lock = threading.RLock()
        spare, self._spare = self._spare, deque()
        for process in spare:
            process.disown()
            process.discard()
