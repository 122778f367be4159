"""A world of its own: for a template, once (the *base*), and for each session that is cloned from it.

The template is in user, mount, IPC, UTS and network namespaces of its own, and not in a PID namespace: its clones are
siblings, children of the warden (CLONE_PARENT), which pid 1 of a PID namespace cannot have. A session has all of them
once more, below those of the base: it can see and signal nothing but itself, and has no rights over the base's mounts.

    template, after exec:   enter_base(config); PR_SET_PDEATHSIG, which it has cleared if it was root; preload
    template, an order:     clone(session_flags(config) | CLONE_PARENT | SIGCHLD)
    clone (pid 1 inside):   enter_session(config, report), which forks: pid 1 stays inside and never returns
    session (pid 2):        its descriptors and settings; lockdown.full; Ready
"""

from __future__ import annotations

import errno
import os
import resource

from . import init, libc, mounts, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

#: uid and gid inside. Not 0: some tools try what only root can
INSIDE = 1000
#: who sessions of root are outside, unless told: in a range that nobody gives out (systemd's UIDS-GIDS.md)
ACCOUNT = 65521
WORK = "/work"


def enter_base(config: dict[str, Any]) -> dict[str, Any]:
    """Leave the host, for a world of what this interpreter needs. Denied. For good; only with a single thread.

    config: read, paths besides; network, whether the host's stays; work, where sessions have their folder; uid and gid
    to become, for root; hostname. All may be left out. Returns {"proc": whether sessions may have a /proc, "variant":
    "root" or "user"}.
    """
    network = config.get("network", False)
    paths = [*places.python_paths(), *config.get("read", ())]
    work = config.get("work", WORK)
    kinds = libc.CLONE_NEWNS | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS | (0 if network else libc.CLONE_NEWNET)
    user = account(config)
    if user is not None:
        _allow_limit_of_cores()
    if user is not None and libc.effective_capabilities() >> libc.CAP_SYS_ADMIN & 1:
        uid, gid = user
        libc.unshare(kinds, "unshare as root")
        _name(config)
        proc = mounts.make_root(paths, work, network, INSIDE, INSIDE)
        become(user)
        libc.unshare(libc.CLONE_NEWUSER, "unshare user")
        map_ids(uid, gid)
        variant = "root"
    else:
        if user is not None:  # root of a container, which may not mount
            become(user)
        uid, gid = os.geteuid(), os.getegid()
        libc.unshare(libc.CLONE_NEWUSER | kinds, "unshare user")
        map_ids(uid, gid)
        _name(config)
        proc = mounts.make_root(paths, work, network, INSIDE, INSIDE)
        variant = "user"
    try:
        libc.unshare(libc.CLONE_NEWCGROUP)  # /proc/self/cgroup names no group of the host's then
    except OSError:  # a kernel without: its names are no secret that anything depends on
        pass
    return {"proc": proc, "variant": variant}


def account(config: dict[str, Any]) -> tuple[int, int] | None:
    """Who to become: config's uid and gid, for root; None, to stay: for others. Denied: root that has to stay root.

    Limits do not hold root, nor do modes of files, so a session is never root outside. Root of a user namespace is
    somebody else outside of it, mostly, which will do where it can become nobody else.
    """
    if os.geteuid() != 0:
        return None
    uid = config.get("uid", ACCOUNT)
    gid = config.get("gid", uid)
    spans = _uid_map()
    if libc.effective_capabilities() >> libc.CAP_SETUID & 1 and any(low <= uid < low + n for low, _, n in spans):
        return uid, gid
    if any(low == 0 and outside != 0 for low, outside, _ in spans):
        return None
    raise libc.Denied(errno.EPERM, "become another user than root")


def become(user: tuple[int, int]) -> None:
    libc.set_ids(*user)
    libc.prctl(libc.PR_SET_DUMPABLE, 1)  # set_ids took it: /proc/self belongs to root then


def _allow_limit_of_cores() -> None:
    """As root: `lockdown` sets it to 1, and it may be 0, which does less."""
    try:
        if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except (OSError, ValueError):  # told by lockdown
        return


def _uid_map() -> list[list[int]]:
    with open("/proc/self/uid_map") as file:
        return [[int(word) for word in line.split()] for line in file]


def _name(config: dict[str, Any]) -> None:
    libc.set_hostname(config.get("hostname", "session").encode())


def map_ids(uid: int, gid: int) -> None:
    """In a new user namespace: we are INSIDE here, who are this user outside of it. user_namespaces(7)."""
    _write("setgroups", "deny")
    _write("uid_map", "%d %d 1" % (INSIDE, uid))
    _write("gid_map", "%d %d 1" % (INSIDE, gid))


def _write(name: str, text: str) -> None:
    try:
        fd = os.open("/proc/self/" + name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise libc.Denied(error.errno or 1, "write %s" % name) from None


def session_flags(config: dict[str, Any]) -> int:
    """For the clone that becomes a session."""
    flags = libc.CLONE_NEWUSER | libc.CLONE_NEWPID | libc.CLONE_NEWNS | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS
    return flags if config.get("network") else flags | libc.CLONE_NEWNET


def enter_session(
    config: dict[str, Any],
    report: int = -1,
    hold: int = -1,
    fork: Callable[[], int] = os.fork,
    stay: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """In a clone with `session_flags`: make its world, and fork the session. Returns in the session alone. Denied.

    Both lead a process session of their own afterwards, and are to be killed when their parent ends (PR_SET_PDEATHSIG):
    whether that has happened already is for the caller to see, for it has no getppid() here.

    config: work, work_size, work_inodes; shm_size, 0 for none; proc, "pid", "full" or "none"; loopback. report, hold:
    descriptors for the process that stays, see `init.main`; stay: what it does instead, given the session's pid.
    Returns {"proc": what there is, "vm": bytes of address
    space in use, for `lockdown`}.
    """
    libc.prctl(libc.PR_SET_PDEATHSIG, 9)
    os.setsid()  # kill(0) reaches all of a process group, also those out of the PID namespace
    map_ids(INSIDE, INSIDE)
    work = config.get("work", WORK)
    vm = address_space()
    mounts.mount_scratch(work, config.get("work_size", 64 << 20), config.get("work_inodes", 16384))
    shm = config.get("shm_size", 16 << 20)
    if shm:
        mounts.mount_scratch("/dev/shm", shm, 1024, 0o1777)
    proc = mounts.cover_proc(config.get("proc", "pid"))
    if config.get("loopback") and not config.get("network"):
        libc.loopback_up()
    pid = fork()
    if pid:
        if stay is not None:
            stay(pid)
        init.main(pid, report, hold)
    for fd in (report, hold):
        if fd >= 0:
            os.close(fd)
    os.setsid()
    os.chdir(work)
    return {"proc": proc, "vm": vm}


def address_space() -> int:
    """Bytes of it that this process uses: VmSize. 0 where there is no /proc."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
