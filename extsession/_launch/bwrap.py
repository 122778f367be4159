"""The command line of bubblewrap, bwrap(1), for a session: the world that `_worker/confine` makes in the full tier."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from . import payload
from .walled import ACCOUNT

#: as in the full tier, `_worker/confine/namespaces.py`
_INSIDE: Final = "1000"
_SHM_SIZE: Final = 16 << 20
_SECONDS: Final = 30.0


class Program(NamedTuple):
    """A bwrap. version: () where it tells none."""

    path: str
    version: tuple[int, ...]

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version)) or "of unknown version"


class World(NamedTuple):
    """What has been found to work. plan: see `_worker/confine/bubble.py`; users, proc, sizes: whether it makes a user
    namespace, mounts /proc, and can give file systems in memory a size.
    """

    program: Program
    plan: dict[str, Any]
    users: bool
    proc: bool
    sizes: bool
    abi: int


def find() -> Program | None:
    """The bwrap on PATH, or where it is mostly."""
    path = shutil.which("bwrap") or shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if path is None:
        return None
    path = os.path.abspath(path)
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Program(path, _version_of(path, status.st_mtime_ns, status.st_size))


@functools.lru_cache(16)
def _version_of(path: str, modified: int, size: int) -> tuple[int, ...]:
    try:
        done = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return () if match is None else tuple(int(each) for each in match.groups() if each is not None)


def told(walls: Mapping[str, Any], world: World) -> dict[str, Any]:
    missing = ["number of files in the work directory"]  # bubblewrap cannot bound it
    if not world.sizes:
        missing.append("size of the work directory and /dev/shm")
    if not world.users:  # the kernel counts those of the host's user then
        missing.append("processes counted by the kernel")
    return {**walls, "users": world.users, "proc": "pid" if world.proc else "none", "missing": missing}


def popen(
    world: World,
    walls: Mapping[str, Any],
    python: str,
    channel: int,
    env: Mapping[bytes, bytes],
    pass_fds: tuple[int, ...],
    said: int,
) -> subprocess.Popen[bytes]:
    with _files(world.plan["files" if world.users else "plain_files"]) as files:
        command = [*arguments(world, walls, env, files), "--", python, "-c", payload.STAGE0, str(channel)]
        # no --die-with-parent: it means the thread that starts it, prctl(2). Process 1 has the leash, and before it
        # reads it the channel: it ends with either
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            pass_fds=(*pass_fds, *files.values()),
            start_new_session=True,
            **_identity(walls),
        )


def _identity(walls: Mapping[str, Any]) -> dict[str, Any]:
    """For Popen: limits do not hold root, nor do modes of files, so a session is never root outside."""
    if os.geteuid() != 0:
        return {}
    uid, gid = account(walls)
    return {"user": uid, "group": gid, "extra_groups": []}


def account(walls: Mapping[str, Any]) -> tuple[int, int]:
    """Who the session is, outside."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    uid: int = walls.get("uid", ACCOUNT)
    return uid, walls.get("gid", uid)


@contextlib.contextmanager
def _files(texts: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Descriptors to read these from, by path."""
    found: dict[str, int] = {}
    try:
        for path, text in texts.items():
            reading, writing = os.pipe()
            found[path] = reading
            try:
                os.write(writing, text.encode())  # far less than a pipe holds
            finally:
                os.close(writing)
        yield found
    finally:
        for fd in found.values():
            os.close(fd)


def arguments(
    world: World, walls: Mapping[str, Any], env: Mapping[bytes, bytes], files: Mapping[str, int]
) -> list[str]:
    """The same world as `_worker/confine/mounts.py` makes."""
    plan, work = world.plan, walls["work"]
    found = [world.program.path, "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    if not walls["network"]:
        found.append("--unshare-net")
    if world.users:
        found += ["--unshare-user", "--uid", _INSIDE, "--gid", _INSIDE]
    found += ["--hostname", "session", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"]
    for variable, value in env.items():
        found += ["--setenv", os.fsdecode(variable), os.fsdecode(value)]
    for target, source in plan["binds"]:
        found += ["--ro-bind", source, target]
    for path, text in plan["links"]:
        found += ["--symlink", text, path]
    for device in plan["devices"]:
        found += ["--dev-bind", device, device]
    for name, text in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        found += ["--symlink", "/proc/self/fd" + text, "/dev/" + name]
    for path, fd in files.items():
        found += ["--perms", "0644", "--file", str(fd), path]
    found += ["--dir", "/run", "--dir", "/var"]
    if plan["tmp"]:
        found += ["--symlink", work, "/tmp"]
    found += ["--proc", "/proc"] if world.proc else ["--dir", "/proc"]
    for path, is_folder in plan["proc"] if world.proc else ():
        # over files a device, where none may be: it cannot be opened
        found += ["--tmpfs", path, "--remount-ro", path] if is_folder else ["--ro-bind", "/dev/null", path]
    for path, size, mode in (("/dev/shm", _SHM_SIZE, "1777"), (work, walls["work_size"], "0700")):
        found += [*(("--size", str(size)) if world.sizes else ()), "--perms", mode, "--tmpfs", path]
    return [*found, "--remount-ro", "/", "--chdir", "/"]
