"""The root of an isolated template: an empty file system with what it may read bound into it, and nothing else.

Made in a mount namespace of its own, by whoever has the rights there. The order of mount_namespaces(7) and
pivot_root(2): nothing spreads from here (MS_PRIVATE), the new root is mounted, becomes the root with the old one inside
it, is filled from there, and the old one is let go of. A chroot would not do: user namespaces are refused inside one.
"""

from __future__ import annotations

import errno
import os

from . import libc, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

_OLD = "/.old"
_SAFE = libc.MS_NOSUID | libc.MS_NODEV
_ROOM = "mode=755,size=1m,nr_inodes=8k"
#: where the new root is mounted at first; only ever seen by us
_ANYWHERE = ("/tmp", "/var", "/mnt", "/usr", "/run")
_FLAGS = {"ro": libc.MS_RDONLY, "nosuid": libc.MS_NOSUID, "nodev": libc.MS_NODEV, "noexec": libc.MS_NOEXEC}
_ATIME = {"noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}


def make_root(read: Iterable[str], work: str, network: bool, uid: int, gid: int) -> bool:
    """Make it, and be in it. Whether there is a /proc: the host's, which each session covers with one of its own.

    read: paths besides the system's. work: where each session mounts its folder. uid, gid: as seen inside. Denied.
    """
    binds, links = places.plan(read, network)
    mask = os.umask(0o022)  # all that is made here is for another user to enter
    try:
        return _make(binds, links, work, network, uid, gid)
    finally:
        os.umask(mask)


def _make(
    binds: list[tuple[str, str]], links: list[tuple[str, str]], work: str, network: bool, uid: int, gid: int
) -> bool:
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE, step="mounts private")
    start = next(path for path in _ANYWHERE if os.path.isdir(path))
    libc.mount("tmpfs", start, "tmpfs", _SAFE, _ROOM, step="mount tmpfs")
    os.chdir(start)
    os.mkdir(_OLD[1:])
    libc.pivot_root(".", _OLD[1:])
    os.chdir("/")
    for target, source in binds:
        _bind(source, target, _SAFE | libc.MS_RDONLY)
    for path, text in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(text, path)
    _make_dev()
    _make_etc(network, uid, gid)
    for path in (work, "/proc", "/run", "/var"):
        os.makedirs(path, exist_ok=True)
    if not os.path.lexists("/tmp"):
        os.symlink(work, "/tmp")
    has_proc = True
    try:
        libc.mount(_OLD + "/proc", "/proc", None, libc.MS_BIND | libc.MS_REC)
    except OSError:
        has_proc = False
    libc.umount(_OLD)
    os.rmdir(_OLD)
    libc.mount(None, "/", None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | _SAFE, step="root read-only")
    return has_proc


def _bind(source: str, target: str, flags: int) -> None:
    """Bind `source` of the old root, with all that is mounted below."""
    source = _OLD + source
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    libc.mount(source, target, None, libc.MS_BIND | libc.MS_REC, step="bind %s" % target)
    try:
        libc.mount_setattr(target, flags)
    except libc.Denied as fault:
        if fault.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: a filter that does not know the call
            raise
        _remount(target, flags)


def _remount(target: str, flags: int) -> None:
    """What mount_setattr does, mount by mount, for kernels before 5.12. What a mount forbids already stays so."""
    with open(_OLD + "/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    for line in lines:
        path = line[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        if path == target or path.startswith(target + "/"):
            now = 0
            for word in line[5].split(","):
                now |= _FLAGS.get(word, 0) | _ATIME.get(word, 0)
            libc.mount(None, path, None, libc.MS_REMOUNT | libc.MS_BIND | now | flags, step="read-only %s" % path)


def _make_dev() -> None:
    os.makedirs("/dev/shm", exist_ok=True)
    for name in places.DEVICES:
        if os.path.exists(_OLD + "/dev/" + name):
            _bind("/dev/" + name, "/dev/" + name, libc.MS_NOSUID | libc.MS_NOEXEC)
    for name, text in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink("/proc/self/fd" + text, "/dev/" + name)


def etc_files(network: bool, uid: int, gid: int) -> dict[str, str]:
    """Names of the one user, for `pwd`; of the host, where there is no other network."""
    files = {
        "/etc/passwd": "session:x:%d:%d:session:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" % (uid, gid),
        "/etc/group": "session:x:%d:\nnogroup:x:65534:\n" % gid,
    }
    if not network:
        files["/etc/hosts"] = "127.0.0.1 localhost\n::1 localhost\n"
        files["/etc/nsswitch.conf"] = "passwd: files\ngroup: files\nhosts: files\n"
    return files


def _make_etc(network: bool, uid: int, gid: int) -> None:
    os.makedirs("/etc", exist_ok=True)
    for path, text in etc_files(network, uid, gid).items():
        if not os.path.lexists(path):
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o644)


def cover_proc(wanted: str) -> str:
    """In a session's own PID namespace: cover the host's /proc. What it is now: "pid", "full" or "none".

    wanted: "pid" leaves out what is not about processes (subset=pid, Linux 5.8). The kernel mounts none where the one
    that is there is covered in part, as in most containers: then an empty folder takes its place.
    """
    flags = _SAFE | libc.MS_NOEXEC
    kinds = {"pid": ("subset=pid", None), "full": (None,)}.get(wanted, ())
    for data in kinds:
        try:
            libc.mount("proc", "/proc", "proc", flags, data)
        except OSError:
            continue
        return "pid" if data else "full"
    libc.mount("tmpfs", "/proc", "tmpfs", flags | libc.MS_RDONLY, "mode=555,size=4k,nr_inodes=2", step="cover /proc")
    return "none"


def mount_scratch(path: str, size: int, inodes: int, mode: int = 0o700) -> None:
    """A folder in memory that holds no more than this."""
    data = "mode=%o,size=%d,nr_inodes=%d" % (mode, size, inodes)
    libc.mount("tmpfs", path, "tmpfs", _SAFE, data, step="mount %s" % path)
