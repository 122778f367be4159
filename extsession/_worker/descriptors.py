"""Our own descriptors in a session, out of the way of the user's."""

from __future__ import annotations

import os

#: numbers are taken from here downwards
_HIGH = 250
_MOST = 64


def to_high(fd: int) -> int:
    """Move a descriptor out of the way; it is not inherited. Returns its new number."""
    for high in range(_HIGH, _HIGH - _MOST, -1):
        try:
            os.fstat(high)
        except OSError:
            try:
                os.dup2(fd, high, False)
            except OSError:  # over the limit of open files: it stays where it is
                break
            os.close(fd)
            return high
    os.set_inheritable(fd, False)
    return fd
