"""Memory for what is large and comes through the channel."""

from __future__ import annotations

import mmap
from typing import Any

#: the size of a huge page; below it malloc, which keeps what was freed, is faster
_LARGE = 2 * 2**20


def make(size: int) -> Any:
    """A writable buffer of `size` bytes, which takes memory only as it is filled; None where that is not to be had.

    Most of the time that a large value takes is the kernel's, for giving out fresh memory in pages of 4 KiB. Huge pages
    save that (only where the system grants them on request).
    """
    if size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):  # more than the system would promise: let it grow as it comes
        return None
    try:
        buffer.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them
        return buffer
    return buffer
