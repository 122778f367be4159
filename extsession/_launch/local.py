"""A worker as a process of this machine and user."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys

from ..errors import LaunchError
from . import payload, tree
from .base import ExitReport, Process, Spec

#: seconds that the warden, which has nothing left to do by then, is given to end
_LAST_STEPS = 5.0


class LocalProcess:
    """The warden's process, seen from the controller, and the descriptors of its session."""

    def __init__(
        self, popen: subprocess.Popen[bytes], channel: socket.socket, leash: socket.socket, out: int, err: int
    ) -> None:
        self._popen = popen
        self._leash = leash
        self._report = b""
        self._gone = False
        self._owned = True
        self.channel = channel
        self.leash = leash.fileno()
        self.stdout = out
        self.stderr = err
        self.command: list[str] = popen.args  # type: ignore[assignment]
        self.first = b""

    def signal(self, pid: int, number: int) -> None:
        # the warden keeps the session's pid taken until let_go(), so this hits nobody else
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def read_leash(self) -> ExitReport | None:
        try:
            data = self._leash.recv(256)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        self._report += data
        if self._report.endswith(b"\n"):
            code, status, left = map(int, self._report.split()[1:])
            if code == os.CLD_EXITED:
                return ExitReport(status, None, left)
            return ExitReport(None, status, left)
        if data:
            return None
        # the warden has ended without a word: it is dead, or never became one
        self._gone = True
        return ExitReport(None, None)

    def kill_tree(self, pid: int | None) -> None:
        if pid is not None and not self._gone and self._popen.returncode is None:
            self.signal(pid, signal.SIGKILL)
            os.kill(self._popen.pid, signal.SIGCONT)  # a warden that the code has stopped has work to do now
        elif pid is not None:
            tree.kill(pid)
        elif self._popen.returncode is None:
            # it has not come to running the user's code, but it need not be Python: whatever it started as well
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def early_end(self) -> ExitReport:
        try:
            status = self._popen.wait(_LAST_STEPS)
        except subprocess.TimeoutExpired:
            return ExitReport(None, None)
        return ExitReport(None, -status) if status < 0 else ExitReport(status, None)

    def disown(self) -> None:
        self._owned = False
        self._popen.returncode = 0  # so that Popen does not wait for a process that is not its child

    def let_go(self) -> None:
        self._leash.close()
        if not self._owned:
            return
        try:
            self._popen.wait(_LAST_STEPS)
        except subprocess.TimeoutExpired:  # stopped or killed by halves from outside
            self._popen.kill()
            self._popen.wait(_LAST_STEPS)


class LocalLauncher:
    """Spawns an interpreter of this machine."""

    def launch(self, spec: Spec) -> Process:
        """Start it and return at once; LaunchError where the system refuses."""
        interpreter = spec.interpreter
        modules = interpreter.payload
        if modules is None:
            modules = payload.compiled()
        command = [interpreter.path, "-c", payload.STAGE0]
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            try:
                ours, channel = socket.socketpair()
                undo.callback(ours.close)
                theirs.callback(channel.close)
                leash, their_leash = socket.socketpair()
                undo.callback(leash.close)
                theirs.callback(their_leash.close)
                out, their_out = os.pipe()
                undo.callback(os.close, out)
                theirs.callback(os.close, their_out)
                err, their_err = os.pipe()
                undo.callback(os.close, err)
                theirs.callback(os.close, their_err)
                command.append(str(channel.fileno()))
                popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=their_out,
                    stderr=their_err,
                    cwd=spec.cwd,
                    env=None if spec.env is None else dict(spec.env),
                    pass_fds=(channel.fileno(), their_leash.fileno()),
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                where = "the current directory" if spec.cwd is None else spec.cwd
                raise LaunchError(
                    f"cannot start {interpreter.path} in {where}: {error}",
                    python=interpreter.path,
                    command=command,
                ) from error
            config = {"channel": channel.fileno(), "leash": their_leash.fileno(), "token": spec.token}
            undo.pop_all()
        for end in (ours, leash):
            end.setblocking(False)
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        process = LocalProcess(popen, ours, leash, out, err)
        process.first = payload.first_bytes(modules, config)
        return process


def require_platform() -> None:
    """LaunchError on a system where sessions cannot work."""
    if sys.platform == "win32":
        raise LaunchError(
            "extsession sessions need a POSIX system (fork, pipes passed to a child); Windows has neither"
        )
