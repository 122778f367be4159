"""System calls that Python has no function for, by their numbers. A failure is a `Denied`, which names the step.

ctypes is looked up once, and hidden from `sys.modules` as elsewhere in this package; the functions keep the lock of the
interpreter (PyDLL), for they are called where a process has one thread, and around clones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys

from . import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# clone(2), unshare(2)
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWTIME = 0x80
CLONE_PARENT = 0x8000
CLONE_THREAD = 0x10000
CLONE_CHILD_CLEARTID = 0x200000
CLONE_CHILD_SETTID = 0x1000000
# mount(2), umount2(2), mount_setattr(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
# prctl(2)
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_TID_ADDRESS = 40
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# seccomp(2)
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_GET_ACTION_AVAIL = 2
_CAPABILITY_VERSION_3 = 0x20080522
CAP_SETUID = 7
CAP_SYS_ADMIN = 21

MACHINE = os.uname().machine if sys.platform == "linux" else ""
NUMBERS = syscalls.numbers(MACHINE) if sys.maxsize > 2**32 else {}


class Denied(OSError):
    """The kernel refused a step. step: what it was, in words."""

    def __init__(self, number: int, step: str) -> None:
        super().__init__(number, "%s: %s" % (step, os.strerror(number)))
        self.step = step

    def __reduce__(self) -> Any:
        return Denied, (self.errno, self.step)

    @property
    def name(self) -> str:
        """Of its number, as "EPERM"."""
        return errno.errorcode.get(self.errno or 0, str(self.errno))


def _load() -> Any:
    before = set(sys.modules)
    try:
        import ctypes
    except ImportError:
        return None
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]
    return ctypes


_ctypes: Any = _load() if sys.platform == "linux" else None
_raw: Any = None
if _ctypes is not None:
    _raw = _ctypes.PyDLL(None, use_errno=True).syscall
    _raw.restype = _ctypes.c_long


def call(name: str, *arguments: Any, step: str = "") -> int:
    """The system call with this name. Arguments: int, bytes or None. Denied; ENOSYS where it is not known."""
    number = NUMBERS.get(name)
    if number is None or _raw is None:
        raise Denied(errno.ENOSYS, step or name)
    long = _ctypes.c_long
    result: int = _raw(long(number), *[long(each) if isinstance(each, int) else each for each in arguments])
    if result < 0:
        raise Denied(_ctypes.get_errno(), step or name)
    return result


# processes and namespaces


def unshare(flags: int, step: str = "unshare") -> None:
    call("unshare", flags, step=step)


def setns(fd: int, kind: int = 0) -> None:
    call("setns", fd, kind)


def clone(flags: int, step: str = "clone") -> int:
    """A raw clone: 0 in the child. Keeps glibc's note of the thread's id right, see `_worker/clone.py`.

    The caller sees to what Python asks of who forks (PyOS_BeforeFork and so on) where that matters.
    """
    where = _ctypes.c_void_p()
    call("prctl", _PR_GET_TID_ADDRESS, _ctypes.addressof(where), 0, 0, 0, step="PR_GET_TID_ADDRESS")
    # the order of arguments differs by machine: clone(2), "C library/kernel differences"
    tail = [0, where.value, 0] if MACHINE == "x86_64" else [0, 0, where.value]
    return call("clone", flags | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, *tail, step=step)


def prctl(option: int, *arguments: int, step: str = "prctl") -> int:
    padded = [*arguments, 0, 0, 0, 0][:4]
    return call("prctl", option, *padded, step=step)


def set_ids(uid: int, gid: int) -> None:
    """Become this user for good, in no other groups. The kernel forgets PDEATHSIG and dumpable then: prctl(2)."""
    call("setgroups", 0, None, step="setgroups")
    call("setresgid", gid, gid, gid, step="setresgid")
    call("setresuid", uid, uid, uid, step="setresuid")


def set_hostname(name: bytes) -> None:
    call("sethostname", name, len(name), step="sethostname")


def loopback_up() -> None:
    """Bring up `lo` in this network namespace: SIOCSIFFLAGS of netdevice(7)."""
    up, running = 1, 64
    fd = call("socket", 2, 2 | 0o2000000, 0, step="socket for lo")  # AF_INET, SOCK_DGRAM|SOCK_CLOEXEC
    try:
        fcntl.ioctl(fd, 0x8914, struct.pack("16sh22x", b"lo", up | running))
    except OSError as error:
        raise Denied(error.errno or errno.EPERM, "lo up") from None
    finally:
        os.close(fd)


# mounts


def mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None, step: str = ""
) -> None:
    arguments = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    data_bytes = None if data is None else data.encode()
    call("mount", *arguments, flags, data_bytes, step=step or "mount %s" % target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    call("umount2", os.fsencode(target), flags, step="umount %s" % target)


def pivot_root(new: str, old: str) -> None:
    call("pivot_root", os.fsencode(new), os.fsencode(old), step="pivot_root")


def mount_setattr(target: str, flags: int) -> None:
    """Set MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC (the same numbers as MOUNT_ATTR_*), below as well. Linux 5.12."""
    data = struct.pack("QQQQ", flags, 0, 0, 0)
    path, step = os.fsencode(target), "mount_setattr %s" % target
    call("mount_setattr", AT_FDCWD, path, _AT_RECURSIVE, data, len(data), step=step)


def openat2(folder: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """A descriptor: openat2(2), Linux 5.6. resolve: RESOLVE_BENEATH 8, _NO_SYMLINKS 4, _NO_MAGICLINKS 2."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return call("openat2", folder, path, how, len(how), step="openat2")


# rights


def no_new_privs() -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1, step="no_new_privs")


def effective_capabilities() -> int:
    """A bit for each, of this process."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = bytearray(24)
    buffer = (_ctypes.c_char * 24).from_buffer(data)
    call("capget", header, _ctypes.addressof(buffer), step="capget")
    low, _, _, high, _, _ = struct.unpack("6I", data)
    return int(low | high << 32)


def drop_bounds() -> None:
    """The bounding set, as far as this process may; whoever may not has no_new_privs to the same end."""
    if effective_capabilities() >> 8 & 1:  # CAP_SETPCAP
        for number in range(64):
            try:
                if prctl(_PR_CAPBSET_READ, number):
                    prctl(_PR_CAPBSET_DROP, number)
            except OSError:  # past the last one
                break


def drop_capabilities() -> None:
    """All: bounding set, ambient set, then the three of capset(2)."""
    drop_bounds()
    try:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:  # before Linux 4.3
        pass
    call("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24), step="capset")


def seccomp_install(program: bytes) -> None:
    """Load a filter, of `seccomp.assemble`. Only ever adds to those that are there."""
    buffer = _ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, _ctypes.addressof(buffer))
    call("seccomp", _SECCOMP_SET_MODE_FILTER, 0, header, step="seccomp")


def has_seccomp() -> bool:
    """Whether filters may end a process (SECCOMP_RET_KILL_PROCESS, Linux 4.14)."""
    try:
        call("seccomp", _SECCOMP_GET_ACTION_AVAIL, 0, b"\0\0\0\x80")
    except OSError:
        return False
    return True


# Landlock


def landlock_abi() -> int:
    """0 where there is none: not built in (ENOSYS), or not switched on (EOPNOTSUPP), or forbidden by a filter."""
    try:
        return call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def landlock_create_ruleset(attributes: bytes) -> int:
    return call("landlock_create_ruleset", attributes, len(attributes), 0)


def landlock_add_path(ruleset: int, rights: int, folder: int) -> None:
    call("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, folder), 0)


def landlock_restrict_self(ruleset: int) -> None:
    call("landlock_restrict_self", ruleset, 0)
