"""A clock that stands still until it is told otherwise, for code that is given the time."""

from __future__ import annotations


class ManualClock:
    """Stands in for `time.monotonic`: `clock.monotonic()`, or `clock()`, is `clock.now`.

    now: seconds. It begins at a time that is neither 0 nor whole, as the real one does.
    """

    def __init__(self, now: float = 1000.25) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    __call__ = monotonic

    def advance(self, seconds: float) -> float:
        """Let so many seconds go by; the time then. ValueError for a negative number: it is monotonic."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back by {-seconds:g} s")
        self.now += seconds
        return self.now

    def advance_to(self, when: float | None) -> float:
        """Let it become `when`, a deadline, if that is ahead; None is none."""
        if when is not None:
            self.now = max(self.now, when)
        return self.now

    def __repr__(self) -> str:
        return f"<ManualClock {self.now:g}>"
