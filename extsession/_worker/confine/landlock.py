"""Landlock: which files may be opened, for what. Rules of landlock(7), by the version (ABI) that the kernel has.

A kernel refuses rights that it does not know, so what is handled is what its ABI has: 1 (Linux 5.13) files and
folders, 2 (5.19) linking and renaming across folders, 3 (6.2) truncating, 4 (6.7) TCP ports, 5 (6.10) ioctl on devices,
6 (6.12) scopes: abstract unix sockets and signals, 7 (6.15) logging of refusals, which we leave as it is.

It does not stop: connect() to a unix socket that has a path, anything by other than TCP, stat() and chdir(), changes of
mode, owner, times and attributes. `seccomp` and namespaces do.
"""

from __future__ import annotations

import errno
import os
import struct

from . import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

EXECUTE = 1
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

#: what a rule on something other than a folder may hold; more is EINVAL
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_READ = EXECUTE | READ_FILE | READ_DIR
_WRITE = (
    _READ
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
)
_TCP = 3  # bind and connect
_SCOPES = 3  # abstract unix sockets, signals
#: the first ABI with signal scope
SIGNALS = 6
#: the least that the weak tier makes do with: before, a file that may be read could be truncated
LEAST = 3


def rights(abi: int) -> int:
    """All rights on files that this ABI handles."""
    handled = (MAKE_SYM << 1) - 1
    if abi >= 2:
        handled |= REFER
    if abi >= 3:
        handled |= TRUNCATE
    if abi >= 5:
        handled |= IOCTL_DEV
    return handled


def ruleset(read: Iterable[str], write: Iterable[str], abi: int = 0, tcp: bool = False, scopes: bool = True) -> int:
    """A descriptor of rules: below `read` reading and executing, below `write` all but devices. Denied.

    Paths that are not there are left out. abi: to be held to, at most what the kernel has; 0: that. tcp: leave
    binding and connecting alone. scopes: no signals and abstract sockets out of the domain, where the ABI has it.
    """
    has = libc.landlock_abi()
    abi = min(abi, has) if abi else has
    if abi < 1:
        raise libc.Denied(errno.ENOSYS, "landlock")
    handled = rights(abi)
    attributes = struct.pack("Q", handled)
    if abi >= 4:
        attributes += struct.pack("Q", 0 if tcp else _TCP)
    if abi >= 6:
        attributes += struct.pack("Q", _SCOPES if scopes else 0)
    rules = libc.landlock_create_ruleset(attributes)
    try:
        for paths, wanted in ((read, _READ), (write, _WRITE)):
            for path in paths:
                _allow(rules, path, wanted & handled)
    except BaseException:
        os.close(rules)
        raise
    return rules


def _allow(rules: int, path: str, wanted: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            wanted &= _OF_FILES
        libc.landlock_add_path(rules, wanted, fd)
    finally:
        os.close(fd)


def restrict(rules: int) -> None:
    """Hold this process, and all that it starts, to them. Closes the descriptor. Wants no_new_privs before."""
    try:
        libc.landlock_restrict_self(rules)
    finally:
        os.close(rules)
