"""The last step before a session's first line of foreign code: all rights go, for good and for all that it starts.

Order matters. Landlock hides /proc and forbids mounts, so what looks there comes before it; it needs no_new_privs, or a
capability that is gone by then; the filter comes last, for it forbids most of what is done here. Whatever opens files
by itself (imports, above all) must be loaded before.
"""

from __future__ import annotations

import errno
import os
import resource

from . import landlock, libc, places, policy, seccomp
from .namespaces import account, address_space, become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: names of limits in a config -> number of resource. "as" counts from what is in use; "nproc" counts a session's own
#: processes and threads in its user namespace, but all of the user's in the weak tier, where threads are all there is
_LIMITS = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "sigpending": 11,
    "msgqueue": 12,
}
#: always; a core of 1 byte is none at all, also where cores go to a program: with 0 that would run, see core(5) and
#: coredump_pipe() in fs/coredump.c
_ALWAYS = {"core": 1, "memlock": 0, "msgqueue": 0, "sigpending": 1024}
#: what every session may write to besides its folder
_WRITABLE = tuple("/dev/" + name for name in places.DEVICES)


def prepare(config: dict[str, Any]) -> dict[str, Any]:
    """In a template: the config with the programs assembled, which takes milliseconds; `full` and `weak` take both."""
    abi = _held(config, libc.landlock_abi())
    return {**config, "abi": abi, "full": _program_full(config, abi), "weak": policy.weak(abi)}


def full(config: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """In pid 2 of a session's namespaces. facts: of `namespaces.enter_session`. Denied.

    config: work; loopback, network; unix, if not as loopback; limits, {"as": bytes above
    what is in use, "cpu": (soft, hard) or n, "fsize", "nofile", "nproc", "stack", ...}; abi to be held to, of Landlock.
    Returns what is in force: {"tier", "abi", "seccomp", "not": [what is not held]}.
    """
    program = config.get("full") or _program_full(config, libc.landlock_abi())
    libc.drop_capabilities()
    libc.no_new_privs()
    missing = []
    abi = _held(config, libc.landlock_abi())
    if abi:
        read = ["/"]  # all that is there is what may be read
        write = [config.get("work", "/work"), "/dev/shm", *_WRITABLE]
        tcp = bool(config.get("loopback") or config.get("network"))
        landlock.restrict(landlock.ruleset(read, write, abi, tcp))
    else:
        missing.append("landlock")
    _limit(config.get("limits", {}), facts.get("vm", 0))
    if not _has_no_core():
        missing.append("cores")
    libc.seccomp_install(program)
    return {"tier": "full", "abi": abi, "seccomp": True, "not": missing}


def weak(config: dict[str, Any], facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """In a session among the host's processes. Takes the place of `namespaces`; config as in `full`. Denied.

    work: a folder of the host, the session's own. read: paths besides the system's and the interpreter's. uid and gid
    to become, for root. The process may not start others, so it must be what it is to be: threads are all it can have.
    """
    abi = _held(config, libc.landlock_abi())
    if abi < landlock.LEAST:
        raise libc.Denied(errno.ENOSYS, "landlock of at least ABI %d" % landlock.LEAST)
    program = config.get("weak") or policy.weak(abi)
    vm = address_space()
    read = [*places.system_paths(), *places.python_paths(), *config.get("read", ())]
    write = [config["work"], *_WRITABLE]
    user = account(config)
    if user is not None:
        libc.drop_bounds()
        become(user)
    libc.prctl(libc.PR_SET_PDEATHSIG, 9)  # set_ids has cleared it; the filter keeps it
    libc.drop_capabilities()
    libc.no_new_privs()
    landlock.restrict(landlock.ruleset(read, write, abi))
    _limit(config.get("limits", {}), vm)
    has_no_core = _has_no_core()
    libc.seccomp_install(seccomp.with_pid(program, os.getpid()))
    missing = ["metadata of files", "size of the folder", "processes"]
    if not has_no_core:
        missing.append("cores")
    return {"tier": "weak", "abi": abi, "seccomp": True, "not": missing}


def _has_no_core() -> bool:
    """Whether a crash leaves no core anywhere: false where a handler of the host's may get it, see `_ALWAYS`.

    Whoever starts us may have set the limit to 0, and only root can raise it.
    """
    return resource.getrlimit(4)[1] == 1


def _held(config: dict[str, Any], has: int) -> int:
    wanted: int = config.get("abi", has)
    return min(wanted, has)


def _program_full(config: dict[str, Any], abi: int) -> bytes:
    loopback, network = config.get("loopback", False), config.get("network", False)
    # with the host's network, its abstract sockets are in reach: only Landlock's scope is in the way
    unix = config.get("unix", loopback) and (not network or _held(config, abi) >= landlock.SIGNALS)
    return policy.full(loopback, network, unix)


def _limit(wanted: dict[str, Any], vm: int) -> None:
    for name, value in {**_ALWAYS, **wanted}.items():
        number = _LIMITS[name]
        soft, hard = value if isinstance(value, (tuple, list)) else (value, value)
        if name == "as":
            soft, hard = soft + vm, hard + vm
        ceiling = resource.getrlimit(number)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            raise libc.Denied(getattr(error, "errno", None) or errno.EINVAL, "limit of %s" % name) from None
