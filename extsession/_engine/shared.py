"""Large buffers that come in a sealed memory file (see `_worker/share.py`)."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Any

from .._protocol import messages, pickles
from .._protocol.faults import ProtocolFault

_F_GET_SEALS = 1034
_NEEDED_SEALS = 0x2 | 0x4 | 0x8  # SHRINK, GROW, WRITE


def map_buffers(fd: int, done: messages.Done, most: int | None) -> list[Any]:
    """The buffers of a value, and the descriptor is closed. most: bytes allowed in all.

    ProtocolFault where the file is not what Done says, or not sealed: one that shrinks under a mapping kills the
    process that reads it, so the seals are looked at before it is mapped.
    """
    try:
        sizes = (done.extra or {}).get("sizes")
        if type(sizes) is not list or not all(type(size) is int and size >= 0 for size in sizes):
            raise ProtocolFault("shared buffers without sizes")
        total = sum(sizes)
        if most is not None and total > most:
            raise ProtocolFault("more shared bytes than are allowed")
        if not _is_sealed(fd) or os.fstat(fd).st_size != total:
            raise ProtocolFault("shared buffers that are not sealed")
        if not total:
            return [b"" for _ in sizes]
        if done.kind == pickles.BYTES and len(sizes) == 1:
            return [_read_file(fd, total)]
        view = memoryview(mmap.mmap(fd, total, access=mmap.ACCESS_COPY))
    finally:
        os.close(fd)
    pieces = []
    at = 0
    for size in sizes:
        pieces.append(view[at : at + size])
        at += size
    return pieces


def _is_sealed(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, _F_GET_SEALS) & _NEEDED_SEALS == _NEEDED_SEALS
    except OSError:
        return False


def _read_file(fd: int, size: int) -> bytes:
    pieces = []
    at = 0
    while at < size:
        piece = os.pread(fd, size - at, at)
        if not piece:
            raise ProtocolFault("a shared buffer is shorter than it was")
        pieces.append(piece)
        at += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
