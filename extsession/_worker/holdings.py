"""What this process holds of the kernel's that a duplicate would share, or would not have: descriptors and children.

A copied descriptor is the same open file: its position, its flags, what is queued in it, what is registered with it.
Memory that is shared without a descriptor (an anonymous `mmap.mmap`) does not show here: to see it costs a read of
/proc/self/maps.
"""

from __future__ import annotations

import os
import stat
import sys

from .._protocol.census import REFUSED, RISKY, SAFE, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

_FD = "/proc/self/fd"
_CODES = {
    "sockets": (RISKY, "the branch and the session have the same connection: what one of them reads, the other lacks"),
    "pipes": (RISKY, "what the branch or the session reads there, the other lacks; it ends when both have closed it"),
    "events": (RISKY, "the branch and the session change and empty the same kernel object"),
    "databases": (RISKY, "SQLite forbids to use a connection in a process that did not open it"),
    "gpu": (REFUSED, "CUDA and ROCm do not work in a duplicate of the process that initialised them"),
    "shared-memory": (SAFE, "it stays shared: what the branch or the session writes there, the other sees"),
    "files": (SAFE, "the branch and the session move the same position; what is buffered, each of them writes"),
}
_GPU = ("/dev/nvidia", "/dev/kfd", "/dev/dri/renderD", "/dev/dxg", "/dev/accel")
_SHARED = ("/memfd:", "/dev/shm/")
#: devices that keep nothing about who reads
_STATELESS = frozenset(["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"])
#: in anon_inode: and the like; that of pidfd is its own file system from Linux 6.9 on
_HARMLESS = ("[perf_event]", "[pidfd]", "pidfd:", "mnt:", "net:", "pid:", "user:", "uts:", "ipc:", "cgroup:", "time:")
_SQLITE = b"SQLite format 3\0"


def descriptors(own: Iterable[int]) -> Iterator[Finding]:
    """Findings about the open descriptors; 0, 1, 2 and `own` do not count, nor do copies of their pipes."""
    skipped = {0, 1, 2, *own}
    links = {}
    for name in os.listdir(_FD):
        if int(name) not in skipped:
            try:
                links[int(name)] = os.readlink(_FD + "/" + name)
            except OSError:  # the one that has read the folder
                continue
    if not links:
        return
    ours = {_link(number) for number in skipped}
    found: dict[str, list[str]] = {}
    for number, link in sorted(links.items()):
        code = _kind(number, link)
        if code == "pipes" and link in ours:
            continue  # of stdout or stderr: it is changed with them
        if code is not None:
            found.setdefault(code, []).append("%d: %s" % (number, _described(number, link)))
    for code, (verdict, why) in _CODES.items():
        if code in found:
            yield Finding(code, verdict, why, found[code])


def _kind(number: int, link: str) -> str | None:
    """The code of a finding, or None: of no interest."""
    if link.startswith("socket:"):
        return "sockets"
    if link.startswith("pipe:"):
        return "pipes"
    if not link.startswith("/"):
        inode = link[11:] if link.startswith("anon_inode:") else link
        # eventpoll, eventfd, timerfd, signalfd, inotify, io_uring and what is not known here
        return None if inode.startswith(_HARMLESS) else "events"
    if link.startswith(_GPU):
        return "gpu"
    if link.startswith(_SHARED):
        return "shared-memory"
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode):
        return "databases" if "_sqlite3" in sys.modules and _is_database(number) else "files"
    if stat.S_ISDIR(mode) or link in _STATELESS:
        return None
    return "files" if stat.S_ISBLK(mode) else "pipes"  # a named pipe, a terminal, another device


def _is_database(number: int) -> bool:
    try:
        return os.pread(number, len(_SQLITE), 0) == _SQLITE
    except OSError:  # not open for reading
        return False


def _described(number: int, link: str) -> str:
    if link.startswith("socket:"):
        return _socket_name(number) or link
    if link.startswith("/"):
        try:
            # of the link in /proc: how the file was opened
            if os.lstat("%s/%d" % (_FD, number)).st_mode & stat.S_IWUSR:
                return link + " (for writing)"
        except OSError:
            return link
    return link


def _socket_name(number: int) -> str:
    """Where a socket is connected to, if its module is loaded."""
    module: Any = sys.modules.get("_socket")
    if module is None or module.getdefaulttimeout() is not None:  # an object would make the socket non-blocking
        return ""
    try:
        here = module.socket(fileno=number)
    except OSError:
        return ""
    try:
        text = _address(here.getsockname())
        try:
            peer = _address(here.getpeername())
        except OSError:  # not connected
            return text
        return text + " to " + peer if peer else text
    except Exception:
        return ""
    finally:
        here.detach()


def _address(address: Any) -> str:
    if type(address) is tuple and len(address) >= 2:
        return "%s port %s" % address[:2]
    return os.fsdecode(address) if isinstance(address, (str, bytes)) else str(address)


def _link(number: int) -> str:
    try:
        return os.readlink("%s/%d" % (_FD, number))
    except OSError:
        return ""


def children(known: dict[int, str]) -> list[str]:
    """The child processes, those that ended and were not waited for too, without those that are `known`."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    # Popen objects that are gone: nobody asks for their end
    dropped = {getattr(each, "pid", 0) for each in getattr(sys.modules.get("subprocess"), "_active", None) or ()}
    found = []
    for pid in _children():
        if pid is None:
            return ["of unknown number"]
        command = _read("/proc/%d/cmdline" % pid).strip(b"\0").replace(b"\0", b" ")
        if not command and pid in dropped:
            continue
        if pid not in known:
            ended = _read("/proc/%d/comm" % pid).strip() + b" (ended, not waited for)"
            found.append("%d: %s" % (pid, os.fsdecode(command or ended)))
    return found


def _children() -> Iterator[int | None]:
    """Their ids; None where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    for task in os.listdir("/proc/self/task"):
        try:
            with open("/proc/self/task/%s/children" % task, "rb") as file:
                yield from map(int, file.read().split())
        except OSError:
            yield None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError:  # gone
        return b""
