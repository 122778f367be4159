"""What of the host an isolated session can see: the system, the interpreter and its modules, what was asked for."""

from __future__ import annotations

import os
import sys

from . import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

#: the system's own; links such as /lib -> usr/lib are made again
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
#: of /etc only this: the linker's table, certificates, the time zone, fonts, and where Debian's links to libraries lead
_ETC = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/ssl",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/localtime",
    "/etc/fonts",
)
#: what finding hosts needs, where there is a network
_ETC_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf")
#: made, or mounted, for each session
_OURS = ("/proc", "/dev", "/sys")
DEVICES = ("null", "zero", "full", "random", "urandom")


def python_paths() -> list[str]:
    """Of this interpreter: its installation, its environment, and the folders and archives of `sys.path`."""
    program = os.path.realpath(sys.executable) if sys.executable else ""
    found = [sys.base_prefix, sys.prefix, sys.base_exec_prefix, sys.exec_prefix, *sys.path]
    kept = [path for path in found if path and os.path.isabs(path) and os.path.realpath(path) != "/"]
    if program and not any(_is_below(program, os.path.realpath(path)) for path in kept):
        kept.append(program)
    return list(dict.fromkeys(kept))


def system_paths(network: bool = False) -> list[str]:
    return [path for path in (*_SYSTEM, *_ETC, *(_ETC_NETWORK if network else ())) if os.path.exists(path)]


def plan(read: Iterable[str], network: bool = False) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(what to bind: (target, source without links), links to make: (path, text)), in order.

    A path with a link on its way is there under both names. What is below another is there with it.
    ValueError: a path that is not absolute, or all of the host.
    """
    links: list[tuple[str, str]] = []
    wanted: list[tuple[str, str]] = []
    for path in system_paths(network):
        if os.path.islink(path) and not path.startswith("/etc/"):
            links.append((path, os.readlink(path)))
        elif path == "/etc/localtime" and os.path.islink(path) and os.path.realpath(path).startswith("/usr/"):
            links.append((path, os.path.realpath(path)))
        else:
            wanted.append((path, os.path.realpath(path)))
    linked = [path for path, _ in links]
    for given in read:
        path, real = os.path.normpath(given), os.path.realpath(given)
        if not os.path.isabs(given) or real == "/":
            raise ValueError("%r cannot be given to a session to read" % given)
        if not os.path.exists(real) or any(_is_below(real, each) for each in _OURS):
            continue
        wanted.append((real, real))
        if path != real and not any(_is_below(path, each) for each in linked):
            wanted.append((path, real))
    binds: list[tuple[str, str]] = []
    for target, source in sorted(wanted, key=lambda each: (each[0].count("/"), each)):
        if not any(_is_below(target, there) for there, _ in binds):
            binds.append((target, source))
    return binds, links


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def require_library() -> None:
    """The interpreter's library is for whoever the session is by now: below /root, for one, it is not. Denied."""
    folder = os.path.dirname(os.__file__)
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise libc.Denied(error.errno or 1, "read %s as user %d" % (folder, os.geteuid())) from None
