"""Limits that this process sets to itself before any of the user's code: resource limits, which all it starts inherits.

What the kernel counts in another way than the user does is left to the controller (docs/limits.md).

Memory is RLIMIT_DATA: what a process has for itself, since Linux 4.7 also by mmap. RLIMIT_AS would count what is only
reserved: 128 MiB for the heap of each thread, gigabytes for some libraries. Code that runs has a bit less
than the hard limit (MEMORY_RESERVE), so that there is something left for us, to tell of its MemoryError and to go on.
"""

from __future__ import annotations

import os
import resource
import sys

from .._protocol.messages import MEMORY_RESERVE as RESERVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._protocol import messages
    from .serve import Server

#: bytes that code must be able to use, or there is no sense in a session
_ROOM = 4 * 2**20
#: processes and threads that the user may have, above those that are there and those that are allowed to the session
_SLACK = 512


class Refused(Exception):
    """A limit cannot be set. name: of the limit."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


def begin(server: Server, wanted: dict[str, int]) -> None:
    """Set the limits, and have `server` tell of them in its Ready: what is in force, or which one is not to be had."""
    told: dict[str, Any] = {}
    for name, setter in _SETTERS.items():
        if name not in wanted:
            continue
        try:
            value = setter(wanted[name])
        except Refused as fault:
            told = {"unheld": fault.name, "why": str(fault)}
            break
        except (OSError, ValueError) as error:
            told = {"unheld": name, "why": str(error)}
            break
        if value is not None:
            told["limit_" + name] = value
    server.told = told
    if "limit_memory" in told:
        server._act = _with_reserve(server._act)  # type: ignore[method-assign]


def renew(server: Server) -> None:
    """In a clone: what it tells of is what is in force now, for the controller can have lowered it in the original."""
    for name, (kind, extra) in {
        "limit_memory": (resource.RLIMIT_DATA, RESERVE),
        "limit_file_size": (resource.RLIMIT_FSIZE, 0),
    }.items():
        if name in server.told:
            server.told[name] = resource.getrlimit(kind)[1] - extra


def _memory(value: int) -> int | None:
    if sys.platform != "linux":
        return None  # other systems have the limit, and do not count what is mapped
    try:
        with open("/proc/self/statm") as file:
            has = int(file.read().split()[5]) * resource.getpagesize()
    except FileNotFoundError:  # in a session without /proc
        has = 0
    if value < has + _ROOM:
        raise Refused("memory", "the session has %d bytes when it starts, and needs %d more" % (has, _ROOM))
    _lower(resource.RLIMIT_DATA, value + RESERVE)
    return value


def _with_reserve(act: Any) -> Any:
    """`act`, which runs the user's code, with a bit less memory than there is for the rest.

    One system call before and one after: each sets the limit and tells what it was. The hard limit is what it was at
    the last look, mostly: if somebody has changed it meanwhile (the controller lowers it, and so may the code), that
    shows, and holds.
    """
    kind = resource.RLIMIT_DATA
    change = resource.prlimit
    hard = resource.getrlimit(kind)[1]

    def leave(reserve: int) -> None:
        nonlocal hard
        while True:
            try:
                found = change(0, kind, (max(0, hard - reserve), hard))[1]
            except (OSError, ValueError):  # it was lowered, and nobody may raise it
                found = resource.getrlimit(kind)[1]
                if found == hard:
                    raise
            if found == hard:
                return
            hard = found

    def limited(run: messages.Run, done: messages.Done) -> None:
        leave(RESERVE)
        try:
            act(run, done)
        finally:
            leave(0)

    return limited


def _open_files(value: int) -> int:
    return _lower(resource.RLIMIT_NOFILE, value)


def _file_size(value: int) -> int:
    return _lower(resource.RLIMIT_FSIZE, value)


def _session_cpu(value: int) -> int | None:
    """A net below the controller's watch, for this process and each that it starts: SIGXCPU, a second later."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY and hard < value + 1:
        return None
    resource.setrlimit(resource.RLIMIT_CPU, (value + 1, hard))
    return value + 1


def _processes(value: int) -> int | None:
    """A net, too: the kernel counts all that belongs to the user, and lets root do what it likes.

    So there is much room above what is there now. It stops a fork bomb until the controller has ended it.
    """
    user = os.getuid()
    if not user or sys.platform != "linux":
        return None
    has = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat("/proc/" + name).st_uid == user:
                    has += len(os.listdir("/proc/%s/task" % name))
            except OSError:
                continue
    return _lower(resource.RLIMIT_NPROC, has + value + _SLACK)


def _lower(kind: int, value: int) -> int:
    """Set both limits, the hard one as well, so that code cannot take it back; what is in force then."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
    return value


#: open_files last: the others open files
_SETTERS = {
    "memory": _memory,
    "session_cpu": _session_cpu,
    "processes": _processes,
    "file_size": _file_size,
    "open_files": _open_files,
}
