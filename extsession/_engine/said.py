"""The last that a session has written to stderr, kept or not: what a process says before it dies."""

from __future__ import annotations

from typing import Final

_MOST: Final = 65536


class Said:
    """Since its last call began, and in the one before: a thread that crashes may write while the next call begins."""

    def __init__(self) -> None:
        self._before = b""
        self._now = bytearray()

    def turn(self) -> None:
        """A call begins."""
        if self._now or self._before:
            self._before = bytes(self._now[-_MOST:])
            self._now.clear()

    def add(self, data: bytes) -> None:
        now = self._now
        now += data[-_MOST:]
        if len(now) > 2 * _MOST:
            del now[:-_MOST]

    @property
    def in_call(self) -> bytes:
        """Since the last call began."""
        return bytes(self._now[-_MOST:])

    @property
    def in_both(self) -> bytes:
        """And in the one before."""
        return self._before + self.in_call
