"""Resource limits of processes that live, changed from outside: prlimit(2), so on Linux only."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterable
from typing import Final

from .._protocol.messages import MEMORY_RESERVE

#: those of `Limits` that can be changed like that -> name of the resource limit
KINDS: Final = {"memory": "RLIMIT_DATA", "file_size": "RLIMIT_FSIZE", "session_cpu": "RLIMIT_CPU"}


def change(pids: Iterable[int], name: str, value: int) -> None:
    """Give processes another limit. OSError: the first one refuses it. The others may end meanwhile."""
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "this system cannot change the resource limits of another process")
    import resource

    kind = getattr(resource, KINDS[name])
    first, *others = pids
    try:
        resource.prlimit(first, kind, _pair(name, value, resource.prlimit(first, kind)[1]))
    except ValueError as error:  # the hard limit would be raised
        raise OSError(errno.EPERM, str(error)) from None
    for pid in others:
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, kind, _pair(name, value, resource.prlimit(pid, kind)[1]))


def _pair(name: str, value: int, hard: int) -> tuple[int, int]:
    """(soft, hard), as the worker sets them to itself."""
    if name == "memory":
        return value, value + MEMORY_RESERVE
    if name == "session_cpu":  # a net below the watch
        return (value + 1 if hard < 0 else min(value + 1, hard)), hard
    return value, value
