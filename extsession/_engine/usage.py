"""What a session uses, as its user sees it; and the times at which a stream of samples takes one."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..options import seconds


@dataclass(frozen=True)
class SessionUsage:
    """What a session and all that it has started use, at one moment.

    cpu: seconds, user and system; of processes that have ended only where their parent has waited for them. rss: bytes
    resident, pages that are shared counted for each process; pss: bytes, each page divided by the number of processes
    that share it; None if it was not asked for, or cannot be known. processes, threads: that are there now; 0 when the
    session is dead. descriptors: open in the session's own process; None where that cannot be known. bytes_in: sent to
    the session; bytes_out: received from it, output and messages. wall: seconds since it was started, restarted or
    rolled back.
    """

    cpu: float
    rss: int
    pss: int | None
    processes: int
    threads: int
    descriptors: int | None
    bytes_in: int
    bytes_out: int
    wall: float


class Pace:
    """When the next sample is due: at `interval` seconds from each other; those that were missed are left out."""

    def __init__(self, interval: float) -> None:
        self._interval = seconds(interval, "interval")
        if not self._interval:
            raise ValueError("interval takes seconds between samples, more than 0")
        self._due = time.monotonic()

    def next(self) -> float:
        """Seconds until then, from now."""
        now = time.monotonic()
        self._due += self._interval
        if self._due < now:
            self._due = now
        return self._due - now
