"""Our own descriptors in a session, out of the way of the user's; and descriptors on their way through sockets."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: numbers are taken from here downwards
HIGH = 250
_MOST = 64
_MSG_CMSG_CLOEXEC = 0x40000000 if sys.platform == "linux" else 0


_high = HIGH


def keep_below(limit: int) -> None:
    """Have them below a limit of open files that is to come: what is above it cannot be replaced later."""
    global _high
    _high = min(HIGH, limit - 1)


_constants: Any = None


def _find_constants() -> Any:
    """Of the `_socket` module, which a session that is spawned loads when it is first needed."""
    global _constants
    from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET

    _constants = (SOL_SOCKET, SCM_RIGHTS, CMSG_SPACE)
    return _constants


def to_high(fd: int) -> int:
    """Move a descriptor out of the way; it is not inherited. Returns its new number."""
    for high in range(_high, max(_high - _MOST, 2), -1):
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


def send_descriptors(socket: Any, data: Any, fds: Any) -> int:
    """Send `data` with descriptors; how many bytes went. socket: of the `_socket` module, or like it."""
    level, kind, _ = _constants or _find_constants()
    packed = b"".join([fd.to_bytes(4, sys.byteorder) for fd in fds])
    count: int = socket.sendmsg([data], [(level, kind, packed)])
    return count


def receive_descriptors(socket: Any, size: int, most: int) -> tuple[bytes, list[int]]:
    """At most `size` bytes, and the descriptors that came with them, of which there is room for `most`."""
    rights = _constants or _find_constants()
    data, ancillary, _flags, _address = socket.recvmsg(size, rights[2](4 * most), _MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, packed in ancillary:
        if level == rights[0] and kind == rights[1]:
            fds += [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed) - 3, 4)]
    if not _MSG_CMSG_CLOEXEC:
        for fd in fds:
            os.set_inheritable(fd, False)
    return data, fds
