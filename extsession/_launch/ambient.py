"""What a child of this process inherits, read in some fifty microseconds, and how it differs from a template's.

A session that is forked from a template is to be what `subprocess.Popen(..., start_new_session=True)` of a fresh
interpreter would be *now, in the calling thread*: most of what follows belongs to a thread in Linux, not to the
process. So it is read at each start, from the kernel, and nothing of it is kept. The umask is in /proc/*/status
since Linux 4.7; os.umask() would have to change it to tell it, and a file that another thread makes in that moment
would be open to everybody.

Not looked at, for a look costs more than it is worth: personality(2), the I/O priority, timer slack, NUMA memory
policy, the core dump filter and securebits. A Landlock domain shows nowhere: a process that confines itself by it
must start its templates after that.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from . import environment

if sys.platform != "win32":
    import resource

#: all of Linux but RLIMIT_LOCKS (10), which has had no effect since Linux 2.4.25 and serves as a mark
_LIMITS = tuple(number for number in range(16) if number != 10)
_STACK = _LIMITS.index(3)  # RLIMIT_STACK
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")
_RESET_ON_FORK = 0x40000000  # SCHED_RESET_ON_FORK
_FIFO, _ROUND_ROBIN, _IDLE, _DEADLINE = 1, 2, 5, 6
_REAL_TIME = (_FIFO, _ROUND_ROBIN, _DEADLINE)


class Ambient(NamedTuple):
    """What a child inherits. Signals are sets of bits: bit n - 1 stands for signal n; cpus likewise from 0.

    limits: (soft, hard), -1 for none, in the order of their numbers without 10. policy: (policy, priority).
    identity: all that no process can give itself: credentials, capabilities, seccomp, namespaces, root, cgroup.
    """

    umask: int
    blocked: int
    ignored: int
    limits: tuple[tuple[int, int], ...]
    nice: int
    cpus: int
    policy: tuple[int, int]
    oom_score_adj: int
    identity: tuple[Any, ...]


def capture() -> Ambient:
    """Read what a process that the calling thread started now would inherit.

    Raises OSError where the kernel does not tell (no /proc, Linux before 4.7): a template has no way to know then
    what its sessions need.
    """
    status = _read("/proc/thread-self/status")
    try:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        policy, priority = os.sched_getscheduler(0), 0
        if policy:
            nice, policy, priority = _after_fork(nice, policy)
        blockable, ignorable = _signals()
        return Ambient(
            int(_field(status, b"\nUmask:\t"), 8),
            int(_field(status, b"\nSigBlk:\t"), 16) & blockable,
            int(_field(status, b"\nSigIgn:\t"), 16) & ignorable,
            tuple(map(resource.getrlimit, _LIMITS)),
            nice,
            int(_field(status, b"\nCpus_allowed:\t").replace(b",", b""), 16),
            (policy, priority),
            int(_read("/proc/thread-self/oom_score_adj")),
            _identity(status),
        )
    except ValueError as error:
        raise OSError("this kernel does not tell what a child inherits: /proc/self/status lacks a field") from error


def differences(now: Ambient, base: Ambient) -> dict[str, Any] | None:
    """What a process with `base` has to change to have `now`, as `_worker/fresh.py` takes it; {} if nothing.

    None: not within its power for sure, for `now` may do what `base` may not (a higher hard limit, a lower nice
    value); only a new template has that. `identity` is not compared here but as part of the template's key.
    """
    if now[:-1] == base[:-1]:
        return {}
    if _is_more(now, base):
        return None
    changes: dict[str, Any] = {}
    for name in ("umask", "nice", "policy", "oom_score_adj"):
        if getattr(now, name) != getattr(base, name):
            changes[name] = getattr(now, name)
    if now.cpus != base.cpus:
        changes["cpus"] = _members(now.cpus, 0)
    if now.limits != base.limits:
        pairs = zip(_LIMITS, now.limits, base.limits, strict=True)
        changes["limits"] = {number: mine for number, mine, theirs in pairs if mine != theirs}
    if now.ignored != base.ignored:
        changes["ignore"] = _members(now.ignored & ~base.ignored, 1)
        changes["default"] = _members(base.ignored & ~now.ignored, 1)
    if now.blocked != base.blocked:
        changes["blocked"] = _members(now.blocked, 1)
    return changes


def fixed(now: Ambient, env: Mapping[bytes, bytes], preloaded: bool) -> tuple[Any, ...]:
    """What cannot be changed once an interpreter has started: the part of a template's key that is about us.

    env: of the session to come (`environment.of_child`). preloaded: the template loads modules of the caller's choice.
    """
    # Threads get stacks as large as the limit was when libc started, and the layout of memory leaves room for the
    # stack by it. Numerical libraries make as many threads as they may use processors when they are loaded.
    stack = now.limits[_STACK][0]
    return (now.identity, stack, now.cpus if preloaded else None, environment.fixed(env, preloaded))


def stamps(paths: Iterable[str]) -> tuple[tuple[int, int, int] | None, ...]:
    """A value that changes when one of these files, or the list of names in one of these folders, changes.

    For what an interpreter reads once when it starts: pyvenv.cfg, the .pth files and the folders they are in.
    """
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns))
    return tuple(found)


def _read(path: str) -> bytes:
    size = 16384
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, size)
        if len(data) == size:  # thousands of groups
            while more := os.read(fd, size):
                data += more
        return data
    finally:
        os.close(fd)


def _field(status: bytes, label: bytes) -> bytes:
    # The label begins with a newline: the kernel writes one in a process's name as \n, so none can be forged.
    start = status.index(label) + len(label)
    return status[start : status.index(b"\n", start)]


def _identity(status: bytes) -> tuple[Any, ...]:
    start = status.index(b"\nUid:")
    users = status[start : status.index(b"\nFDSize:", start)]
    # capabilities, no_new_privs, seccomp with the number of filters, speculation: they stand together
    start = status.index(b"\nCapInh:")
    powers = status[start : status.index(b"\nCpus_allowed:", start)]
    huge_pages = status.find(b"\nTHP_enabled:\t0") >= 0
    root = os.stat("/")
    return (
        users,
        _field(status, b"\nGroups:"),
        powers,
        huge_pages,
        (root.st_dev, root.st_ino),
        _namespaces(),
        _read("/proc/thread-self/cgroup"),
    )


def _namespaces() -> tuple[str, ...]:
    # O_PATH: a process that has changed its user may not list the folder, but look up what is in it
    folder = os.open("/proc/thread-self/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = []
        for name in _NAMESPACES:
            try:
                found.append(os.readlink(name, dir_fd=folder))
            except FileNotFoundError:  # an older kernel; or pid_for_children as long as no child has been there
                found.append("")
        return tuple(found)
    finally:
        os.close(folder)


@functools.cache
def _signals() -> tuple[int, int]:
    """Those that can be blocked, and those that can be inherited as ignored."""
    # without the two that libc keeps for itself, and those that nobody can ignore or block
    usable = set(map(int, signal.valid_signals())) - {signal.SIGKILL, signal.SIGSTOP}
    # Popen sets these two to their default, whatever they are here; each interpreter ignores them from its start
    # and a session has a handler for SIGURG of its own
    inherited = usable - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGURG}
    return _bits(usable), _bits(inherited)


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << (number - 1) for number in numbers)


def _after_fork(nice: int, policy: int) -> tuple[int, int, int]:
    """(nice, policy, priority) of a child of a thread that has a policy other than the usual: sched(7)."""
    priority = os.sched_getparam(0).sched_priority
    if policy & _RESET_ON_FORK:
        policy &= ~_RESET_ON_FORK
        if policy in _REAL_TIME:
            return 0, 0, 0
        nice = max(nice, 0)
    return nice, policy, priority


def _is_more(now: Ambient, base: Ambient) -> bool:
    """Whether `now` has what a process with `base` may not give itself without privileges."""
    if now.nice < base.nice or now.oom_score_adj < base.oom_score_adj:
        return True
    if now.policy != base.policy:
        if base.policy[0] == _IDLE or now.policy[0] == _DEADLINE:  # SCHED_IDLE is left by permission only
            return True
        if now.policy[0] in _REAL_TIME and not (now.policy[0] == base.policy[0] and now.policy[1] < base.policy[1]):
            return True
    none = resource.RLIM_INFINITY
    for (_, mine), (_, theirs) in zip(now.limits, base.limits, strict=True):
        if theirs != none and (mine == none or mine > theirs):
            return True
    return False


def _members(bits: int, first: int) -> tuple[int, ...]:
    """The numbers that a set of bits stands for; its lowest bit is `first`."""
    return tuple(number + first for number in range(bits.bit_length()) if bits >> number & 1)
