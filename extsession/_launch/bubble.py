"""The tier in between: sessions inside of bubblewrap, bwrap(1), where it may make the namespaces that we may not.

Ubuntu from 23.10 on keeps user namespaces from programs without an AppArmor profile, and some systems have a bwrap that
is setuid. What runs inside has no rights there, so a template inside could not give its clones worlds of their own:
they would share a PID namespace, a network and a work directory. So each session has a bubblewrap of its own, and is
started from nothing: what it preloads, it loads itself.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
from typing import Any

from ..errors import IsolationUnavailable, LaunchError
from . import bwrap, ends, environment, local, marks, payload, procfs
from .base import ExitReport, Spec
from .bwrap import World
from .bwrap_trial import SAID, world_of
from .interpreter import Interpreter
from .template import variables_of_loading
from .walled import WalledProcess
from .workdir import WorkDir


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
                said = os.pread(self._said, SAID, 0).decode("utf-8", "replace").strip()
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
        world = world_of(spec)
        return _start(spec, interpreter, walls, world)
    except (OSError, ValueError) as error:
        if isinstance(error, IsolationUnavailable):
            raise
        raise LaunchError(f"cannot start {interpreter.path} in bubblewrap: {error}", python=interpreter.path) from error


def _start(spec: Spec, interpreter: Interpreter, walls: dict[str, Any], world: World) -> BubbleProcess:
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
        popen = bwrap.popen(world, walls, interpreter.path, channel, env, pass_fds, said)
        config = {
            "token": spec.token,
            "preload": spec.preload,
            "limits": dict(spec.limits),
            "restore": restore,
            "isolation": bwrap.told(walls, world),
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
