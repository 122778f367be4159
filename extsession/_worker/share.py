"""Large buffers: written once into a sealed memory file, which the controller maps or reads."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: below this the channel is as fast, by trial
WORTH_IT = 512 * 1024

_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE: nobody can change what the receiver has mapped


def to_memory_file(buffers: Any, sizes: list[int]) -> int | None:
    """A descriptor of a sealed memory file with all the buffers; None where that is not to be had."""
    if sum(sizes) < WORTH_IT or not hasattr(os, "memfd_create"):
        return None
    try:
        import fcntl

        fd = os.memfd_create("extsession", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (ImportError, OSError):
        return None
    try:
        for piece in buffers:
            view = memoryview(piece).cast("B")
            while view:
                view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except OSError:  # no memory, or no seals: the channel will do
        os.close(fd)
        return None
    return fd
