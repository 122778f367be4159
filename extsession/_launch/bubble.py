"""The tier in between: sessions inside of bubblewrap, bwrap(1), where it may make the namespaces that we may not.

Ubuntu from 23.10 on keeps user namespaces from programs without an AppArmor profile, and some systems have a bwrap that
is setuid. What runs inside has no rights there, so a template inside could not give its clones worlds of their own:
they would share a PID namespace, a network and a work directory. So each session has a bubblewrap of its own, and is
started from nothing: what it preloads, it loads itself.

Whether it works is tried once, with all that sessions will have (`_try`), by an interpreter which is told to become a
session and to end. Of the two things that hosts do not allow everywhere, /proc and a user namespace for a bwrap that is
setuid, the trial finds out as well, and goes on without.
"""

from __future__ import annotations

import array
import contextlib
import functools
import marshal
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ..errors import IsolationUnavailable, LaunchError
from . import ambient, ends, environment, local, marks, payload, places, procfs
from .base import ExitReport, Spec
from .interpreter import Interpreter
from .template import isolation_unavailable, variables_of_loading
from .walled import ACCOUNT, WalledProcess
from .workdir import WorkDir

#: the first with --size
LEAST: Final = (0, 7)
#: as in the full tier, `_worker/confine/namespaces.py`
_INSIDE: Final = "1000"
_SHM_SIZE: Final = 16 << 20
_SECONDS: Final = 30.0
#: what is denied where the trial was killed, or did not end in time, which may be otherwise the next time
_UNKNOWN: Final = "unknown"
#: bytes that are kept of what bwrap has to say
_SAID: Final = 4096


class Program(NamedTuple):
    """A bwrap. version: () where it tells none."""

    path: str
    version: tuple[int, ...]

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version)) or "of unknown version"


class _Refused(Exception):
    """It does not work here."""

    def __init__(self, denied: str, step: str, *cures: str) -> None:
        super().__init__(denied)
        self.denied = denied
        self.step = step
        self.cures = cures


class _World(NamedTuple):
    """What has been found to work. plan: see `_worker/confine/bubble.py`; users, proc, sizes: whether it makes a user
    namespace, mounts /proc, and can give file systems in memory a size.
    """

    program: Program
    plan: dict[str, Any]
    users: bool
    proc: bool
    sizes: bool
    abi: int


class BubbleProcess(WalledProcess):
    """A session's process in a bubblewrap of its own: the child of that is process 1 of the namespace."""

    _init = -1  # process 1: bubblewrap collects it, so that its number may come to mean another one
    _folder = -1  # the work directory, which the session has handed over
    _said = -1  # what bubblewrap, and the interpreter before it was ours, have to say

    def _find(self, inner: int) -> None:
        self._root_()._look_for_init()
        super()._find(inner)

    def _root_(self) -> BubbleProcess:
        assert isinstance(self._root, BubbleProcess)
        return self._root

    def _look_for_init(self) -> None:
        outside = self.warden.popen.pid
        if self.pid is not None or self.warden.is_known_dead:
            return
        for pid in procfs.children(outside):
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(pid)
                if pid in procfs.children(outside):  # still the same process
                    self.pid, self._init = pid, fd
                    return
                os.close(fd)

    def kill_tree(self, pid: int | None) -> None:
        if self._pidfd < 0 and pid is not None:
            self._find(pid)
        if self._pidfd < 0 and self._root is self:
            self._look_for_init()
            if self._init >= 0:  # the session is not there yet, or not any more: all of its world goes
                self._killed = True
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init, signal.SIGKILL)
                return
        super().kill_tree(pid)

    def work_dir(self, pid: int) -> WorkDir:
        root = self._root_()
        if root._folder < 0 and root._early is None:
            root._early = root.read_leash()
        return WorkDir(f"/proc/self/fd/{root._folder}")

    def _receive(self) -> bytes:
        if self._folder >= 0 or self._root is not self:
            return super()._receive()
        size = array.array("i").itemsize
        data, ancillary, _flags, _address = self._leash.recvmsg(256, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC)
        for level, kind, packed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for fd in array.array("i", packed[: len(packed) - len(packed) % size]):
                    if self._folder < 0:
                        self._folder = fd
                    else:
                        os.close(fd)
        return data

    def early_end(self) -> ExitReport:
        report = super().early_end()
        if self._said >= 0 and not report.why:
            with contextlib.suppress(OSError):
                said = os.pread(self._said, _SAID, 0).decode("utf-8", "replace").strip()
                if said:
                    return ExitReport(report.exit_code, report.signal, why=f"bubblewrap says: {said}")
        return report

    def _end(self) -> None:
        super()._end()
        for fd in (self._init, self._folder, self._said):
            if fd >= 0:
                os.close(fd)
        self._init = self._folder = self._said = -1


BubbleProcess.makes = BubbleProcess


def launch(spec: Spec) -> BubbleProcess:
    """Start a session and return at once, but for the first of its kind. IsolationUnavailable, LaunchError."""
    interpreter, walls = spec.interpreter, dict(spec.walls or {})
    try:
        world = _world(spec)
        return _start(spec, interpreter, walls, world)
    except (OSError, ValueError) as error:
        if isinstance(error, IsolationUnavailable):
            raise
        raise LaunchError(f"cannot start {interpreter.path} in bubblewrap: {error}", python=interpreter.path) from error


def _start(spec: Spec, interpreter: Interpreter, walls: dict[str, Any], world: _World) -> BubbleProcess:
    mark = marks.new_mark()
    env, restore = variables_of_loading(environment.of_child(spec.env), spec.preload)
    if b"PWD" not in env:
        restore["PWD"] = None  # bubblewrap sets it
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
        mine, other = ends.make()
        undo.callback(mine.close)
        theirs.callback(other.close)
        registrar, announce = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.callback(registrar.close)
        theirs.callback(announce.close)
        said = os.memfd_create("bubblewrap", os.MFD_CLOEXEC)
        undo.callback(os.close, said)
        channel, out, err, leash = other.numbers()
        pass_fds = (channel, out, err, leash, registrar.fileno(), announce.fileno())
        popen = _popen(world, walls, interpreter.path, channel, env, pass_fds, said)
        config = {
            "token": spec.token,
            "preload": spec.preload,
            "limits": dict(spec.limits),
            "restore": restore,
            "isolation": _told(walls, world),
            "script": spec.scripts,
            "streams": [out, err],
            "channel": channel,
            "leash": leash,
            "registrar": registrar.fileno(),
            "announce": announce.fileno(),
            "mark": mark,
            "step": marks.step(),
        }
        undo.pop_all()
    modules = payload.compiled() if interpreter.payload is None else interpreter.payload
    process = BubbleProcess(local.Warden(popen), mine, payload.first_bytes(modules, config), mark)
    process._said = said
    return process


def _told(walls: Mapping[str, Any], world: _World) -> dict[str, Any]:
    missing = ["number of files in the work directory"]  # bubblewrap cannot bound it
    if not world.sizes:
        missing.append("size of the work directory and /dev/shm")
    if not world.users:  # the kernel counts those of the host's user then
        missing.append("processes counted by the kernel")
    return {**walls, "users": world.users, "proc": "pid" if world.proc else "none", "missing": missing}


def _popen(
    world: _World,
    walls: Mapping[str, Any],
    python: str,
    channel: int,
    env: Mapping[bytes, bytes],
    pass_fds: tuple[int, ...],
    said: int,
) -> subprocess.Popen[bytes]:
    with _files(world.plan["files" if world.users else "plain_files"]) as files:
        command = [*_arguments(world, walls, env, files), "--", python, "-c", payload.STAGE0, str(channel)]
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
    uid, gid = _account(walls)
    return {"user": uid, "group": gid, "extra_groups": []}


def _account(walls: Mapping[str, Any]) -> tuple[int, int]:
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


def _arguments(
    world: _World, walls: Mapping[str, Any], env: Mapping[bytes, bytes], files: Mapping[str, int]
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


# whether it works


_worlds: dict[Any, tuple[Any, _World | IsolationUnavailable]] = {}


def _world(spec: Spec) -> _World:
    """Tried once; again when the interpreter has changed, or what is installed for it."""
    interpreter, walls, env = spec.interpreter, dict(spec.walls or {}), environment.of_child(spec.env)
    program = find()
    key = (places.key_of(interpreter.path), marshal.dumps(walls), tuple(sorted(env.items())), program, os.geteuid())
    known = _worlds.get(key)
    if known is not None:
        stamps, found = known
        if isinstance(found, IsolationUnavailable):
            raise found
        if stamps == ambient.stamps(found.plan["watched"]):
            return found
    try:
        found = _try(interpreter, walls, env, program)
    except _Refused as fault:
        fields = {"denied": fault.denied, "step": fault.step, "cure": "\n".join(fault.cures)}
        error = isolation_unavailable(interpreter.path, fields)
        if fault.step != _UNKNOWN:
            _worlds[key] = (None, error)
        raise error from None
    _worlds[key] = (ambient.stamps(found.plan["watched"]), found)
    return found


def _try(
    interpreter: Interpreter, walls: dict[str, Any], env: Mapping[bytes, bytes], program: Program | None
) -> _World:
    """The first of the ways that works; _Refused with what is wrong with the best of them, LaunchError."""
    if program is None:
        raise _Refused("there is no bubblewrap (bwrap) on PATH", "find bubblewrap", _CURES["missing"])
    if program.version < LEAST:
        text = f"{program.path} is bubblewrap {program.text}, which is too old"
        raise _Refused(text, "version of bubblewrap", _CURES["old"])
    is_setuid = bool(os.stat(program.path).st_mode & 0o4000)
    plan = _ask(interpreter, walls, env)
    first: _Refused | None = None
    for users in (True, False) if is_setuid else (True,):
        for proc in (True, False):
            world = _World(program, plan, users, proc, not is_setuid, 0)  # of root's it takes no sizes
            found, said = _inside(interpreter, walls, env, world)
            if found is None:
                cures = _cures_of(said, is_setuid)
                step = "bubblewrap" if said else _UNKNOWN
                error = _Refused(said or "bubblewrap ended without a word", step, *cures)
            elif found["reached"]:
                return world._replace(abi=found["abi"])
            else:
                fault = found["steps"][-1][1]
                error = _Refused(f"in bubblewrap: {fault['text']}", fault["step"], *found["cure"])
            first = first or error
    assert first is not None
    raise first


def _ask(interpreter: Interpreter, walls: Mapping[str, Any], env: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The plan, by the interpreter itself, out here."""
    channel, theirs = socket.socketpair()
    with channel, theirs:
        command = [interpreter.path, "-c", payload.STAGE0, str(theirs.fileno())]
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=dict(env),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        number = theirs.fileno()
        theirs.close()
        uid, gid = _account(walls)
        question = {"read": list(walls["read"]), "network": walls["network"], "uid": uid, "gid": gid}
        data, printed = payload.answer(channel, child, _first(interpreter, number, "plan", question))
    try:
        plan: dict[str, Any] = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        why = printed.decode("utf-8", "replace")[-2000:]
        raise LaunchError(
            f"{interpreter.path} cannot tell what it needs: {why}", python=interpreter.path, stderr=why
        ) from None
    return plan


def _inside(
    interpreter: Interpreter, walls: Mapping[str, Any], env: Mapping[bytes, bytes], world: _World
) -> tuple[dict[str, Any] | None, str]:
    """(What became of a session inside, what bubblewrap said); None: it has not come so far."""
    channel, theirs = socket.socketpair()
    said = os.memfd_create("bubblewrap", os.MFD_CLOEXEC)
    try:
        with channel, theirs:
            number = theirs.fileno()
            child = _popen(world, walls, interpreter.path, number, env, (number,), said)
            theirs.close()
            data, _ = payload.answer(channel, child, _first(interpreter, number, "trial", _told(walls, world)))
        text = os.pread(said, _SAID, 0).decode("utf-8", "replace").strip()[-1000:]
    finally:
        os.close(said)
    try:
        found: dict[str, Any] = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        return None, text
    return found, text


def _first(interpreter: Interpreter, channel: int, question: str, config: dict[str, Any]) -> bytes:
    modules = payload.compiled() if interpreter.payload is None else interpreter.payload
    wanted = {"channel": channel, "isolation": True, "probe": config, "question": question}
    return payload.first_bytes(modules, wanted)


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


_CURES: Final = {
    "missing": "install bubblewrap: apt install bubblewrap, dnf install bubblewrap",
    "old": f"bubblewrap from {'.'.join(map(str, LEAST))} on",
    "apparmor": "an AppArmor profile that lets bwrap have user namespaces: on Ubuntu from 24.04 on "
    "bwrap-userns-restrict, which the package apparmor-profiles has in /usr/share/apparmor/extra-profiles, copied to "
    "/etc/apparmor.d and loaded with apparmor_parser -r",
    "setuid": "a bwrap that is setuid: chmod u+s",
    "number": "allow user namespaces: sysctl user.max_user_namespaces=15000 (also net, mnt, pid, ipc and uts: "
    "user.max_*_namespaces)",
    "filter": "in a container, a seccomp profile that allows namespaces and mounts: docker run --security-opt "
    "seccomp=unconfined",
    "files": "an interpreter that the session's user may reach: it runs as another user than root, to whom folders "
    "such as /root are closed; or not to be root",
}


def _cures_of(said: str, is_setuid: bool) -> list[str]:
    if "source path" in said or "execvp" in said or not said.startswith("bwrap:"):  # or the interpreter cannot start
        keys = ["files"]
    elif "No space left" in said or "max_user_namespaces" in said:
        keys = ["number"]
    else:
        keys = ["apparmor", *([] if is_setuid else ["setuid"]), "filter"]
    return [_CURES[key] for key in keys]


def report(interpreter: Interpreter, walls: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """As a tier of `_worker/confine/probe.py`, and the version, "" for none."""
    program = find()
    found: dict[str, Any] = {"reached": False, "steps": [], "cure": [], "version": program.text if program else ""}
    try:
        world = _try(interpreter, dict(walls), environment.of_child(env), program)
    except _Refused as fault:
        found["steps"], found["cure"] = [("failed", {"text": fault.denied})], list(fault.cures)
    except (LaunchError, OSError, ValueError) as error:
        found["steps"] = [("failed", {"text": str(error)})]
    else:
        found.update(reached=True, steps=[("ready", "")], proc="pid" if world.proc else "none", abi=world.abi)
    return found
