"""A worker as a process of this machine and user: a fresh interpreter, or a clone of one that is there."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import LaunchError
from . import cgroup, ends, environment, marks, memory_killer, payload, procfs, rlimits, samples, tree
from .base import ExitReport, Process, Spec
from .interpreter import Interpreter
from .usage import Orphans, TreeUsage, of_tree
from .workdir import WorkDir

#: seconds that a warden, which has nothing left to do by then, is given to end
_LAST_STEPS = 5.0
#: seconds in which a clone that its original has told of has told its number, unless it waits for a processor
_ANNOUNCED = 0.02
_MESSAGES = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


class Warden:
    """The process that a family of sessions has as its parent. It ends when the last of them has been let go of."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.orphans = Orphans(popen.pid)
        self._lock = threading.RLock()  # the collector may end a session in the middle of anything
        self._members = 0

    def join(self) -> None:
        with self._lock:
            self._members += 1

    def leave(self) -> None:
        """Collect it with the last one. Bounded."""
        with self._lock:
            self._members -= 1
            if self._members:
                return
        self.wake()
        try:
            self.popen.wait(_LAST_STEPS)
        except subprocess.TimeoutExpired:  # stopped or killed by halves from outside
            self.popen.kill()
            self.popen.wait(_LAST_STEPS)

    def wake(self) -> None:
        """It has work to do now, also if the code has stopped it."""
        with contextlib.suppress(OSError):
            self.popen.send_signal(signal.SIGCONT)

    @property
    def is_known_dead(self) -> bool:
        return self.popen.returncode is not None

    def disown(self) -> None:
        self.popen.returncode = 0  # so that Popen does not wait for a process that is not its child


class LocalProcess:
    """A session's process, seen from the controller, and its descriptors.

    mark: of all that it starts, 0 for none. is_clone: made by a process that the warden had already; else the one that
    the warden was started with.
    """

    makes: type[LocalProcess]  # the kind of its clones
    again: Callable[[], Process] | None = None
    when_unanswered: Callable[[], object] | None = None  # it is given up before whoever is to make it has done so

    def __init__(self, warden: Warden, mine: ends.Ends, first: bytes, mark: int, is_clone: bool = False) -> None:
        self.warden = warden
        self.mark = mark
        self.channel = mine.channel
        self.stdout = mine.stdout
        self.stderr = mine.stderr
        self.leash = mine.leash.fileno()
        self.command: list[str] = warden.popen.args  # type: ignore[assignment]
        self.first = first
        self._leash = mine.leash
        self._is_clone = is_clone
        self.pid: int | None = None  # as soon as the warden, or who made the clone, has told
        self._lines = b""
        self._why = ""
        self._gone = False
        self._owned = True
        self._early: ExitReport | None = None  # it was read before anybody wanted to know
        self._tree: samples.Tree | None = None
        self._group: cgroup.Group | None = None  # of its limits
        self._outer: cgroup.Group | None = None  # of the session that it is a clone of
        self._began = time.monotonic()
        memory_killer.remember(self._began)
        self._killed = False  # by us
        warden.join()

    def signal(self, pid: int, number: int) -> None:
        # the warden keeps the session's pid taken until let_go(), so this hits nobody else
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def read_leash(self) -> ExitReport | None:
        if self._early is not None:
            return self._early
        try:
            data = self._receive()
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        self._lines += data
        while b"\n" in self._lines:
            line, _, self._lines = self._lines.partition(b"\n")
            report = self._told(line)
            if report is not None:
                return report
        if data:
            return None
        # the warden has ended without a word: it is dead, or never became one
        self._gone = True
        return ExitReport(None, None, why=self._why)

    def _receive(self) -> bytes:
        return self._leash.recv(256)

    def _told(self, line: bytes) -> ExitReport | None:
        kind, *numbers = line.split()
        if kind == b"X":
            return self._report(*map(int, numbers))
        if kind == b"S":
            self._on_pid(int(numbers[0]))
        elif kind == b"E":
            self._why = f"the system refuses another process: {os.strerror(int(numbers[0]))}"
        return None

    def _on_pid(self, pid: int) -> None:
        self.pid = pid

    def _own_pid(self) -> int:
        """As the kernel's log has it; 0: not known."""
        return self.pid or 0

    def pid_of(self, pid: int) -> int:
        return pid

    def work_dir(self, pid: int) -> WorkDir | None:
        return None

    def _orphans(self, pid: int) -> list[int]:
        """What the session has started, and whose parent has ended."""
        return self.warden.orphans.of(pid, self.mark)

    def _report(self, code: int, status: int, left: int, cpu: int, memory: int) -> ExitReport:
        exited = code == os.CLD_EXITED
        oom = self._group is not None and self._group.oom_kills() > 0
        asks = not exited and status == signal.SIGKILL and not (oom or self._killed) and self._own_pid() > 0
        return ExitReport(
            exit_code=status if exited else None,
            signal=None if exited else status,
            left=left,
            oom=oom,
            memory_killer=asks and memory_killer.has_ended(self._own_pid(), self._began, memory * 1024),
            cpu=None if cpu < 0 else cpu / 1e6,
            peak_memory=None if memory < 0 else memory * 1024,
        )

    def kill_tree(self, pid: int | None) -> None:
        self._killed = True
        if pid is None:
            pid = self.pid
        if pid is not None and not self._gone and not self.warden.is_known_dead:
            tree.hasten(pid)  # the warden keeps its pid taken, as for signal()
            self.warden.wake()
        elif pid is not None:
            tree.kill(pid)
        elif self._is_clone:
            with contextlib.suppress(OSError):  # whoever is to make it, or has made it, sees that nobody wants it
                self._leash.shutdown(socket.SHUT_RDWR)
            if self.when_unanswered is not None:
                self.when_unanswered()
        elif not self.warden.is_known_dead:
            # it has not come to running the user's code, but it need not be Python: whatever it started as well
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.warden.popen.pid, signal.SIGKILL)

    def early_end(self) -> ExitReport:
        if self._is_clone:
            return ExitReport(None, None, why=self._why)
        try:
            status = self.warden.popen.wait(_LAST_STEPS)
        except subprocess.TimeoutExpired:
            return ExitReport(None, None)
        return ExitReport(None, -status) if status < 0 else ExitReport(status, None)

    def prepare_clone(self) -> tuple[LocalProcess, int, ends.Ends]:
        mine, theirs = ends.make()
        mark = marks.new_mark()
        clone = self.makes(self.warden, mine, b"", mark, is_clone=True)
        clone._outer = self._group
        return clone, mark, theirs

    def usage(self, pid: int, pss: bool) -> TreeUsage:
        return of_tree(pid, self._orphans(pid), pss)

    # limits

    def confine(self, pid: int, limits: Mapping[str, int]) -> frozenset[str]:
        group = cgroup.make({name: value for name, value in limits.items() if name in ("memory", "processes")})
        if group is None:
            return frozenset()
        try:
            group.add(pid)
        except OSError:
            group.remove()
            return frozenset()
        self._group = group
        return group.holds

    def stand_apart(self) -> None:
        """It is a checkpoint, which is none of the processes that its original may have."""
        if self._outer is None:
            return
        self._await_pid(lambda: self.pid is not None)
        if self.pid is not None:
            self._outer.expel(self.pid)

    def _await_pid(self, is_told: Callable[[], bool]) -> None:
        if not is_told():
            poll = select.poll()
            poll.register(self.leash, select.POLLIN)
            poll.poll(_ANNOUNCED * 1000)
            self.look_at_leash()

    def look_at_leash(self) -> bool:
        """Take in what the leash tells; whether that is the end, which `read_leash` then tells again."""
        self._early = self.read_leash()
        return self._early is not None

    def sample(self, pid: int, memory: int | None) -> samples.Sample | None:
        if self._tree is None:
            self._tree = samples.tree_of(pid, lambda: self._orphans(pid))
        found = self._tree.look(memory)
        if found is not None and self._group is not None:
            found = found._replace(oom_kills=self._group.oom_kills())
        return found

    def change_limit(self, pid: int, name: str, value: int) -> None:
        try:
            if self._group is not None and name in self._group.holds:
                self._group.change(name, value)
            if name in rlimits.KINDS:
                rlimits.change([pid, *procfs.descendants(pid), *self.warden.orphans.of(pid, self.mark)], name, value)
        except OSError as error:
            raise ValueError(f"Limits.{name} cannot become {value}: {error.strerror}") from None

    def disown(self) -> None:
        self._owned = False
        self.warden.disown()

    def discard(self) -> None:
        """Let go of a session that nobody has come to use: of its other descriptors, too."""
        self.channel.close()
        os.close(self.stdout)
        os.close(self.stderr)
        self.let_go()

    def let_go(self) -> None:
        self._leash.close()
        if self._group is not None and self._owned:
            self._group.remove()
        if self._owned:
            self.warden.leave()


LocalProcess.makes = LocalProcess


def spawn(
    interpreter: Interpreter,
    cwd: str | None,
    env: Mapping[bytes, bytes],
    config: dict[str, Any],
    mark: int,
) -> LocalProcess:
    """Start an interpreter that becomes a warden and its first session, or template; LaunchError.

    config: what `boot.py` is told besides the descriptors. mark: of all that it starts, 0 for none.
    """
    modules = interpreter.payload
    if modules is None:
        modules = payload.compiled()
    command = [interpreter.path, "-c", payload.STAGE0]
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
        try:
            mine, other = ends.make()
            undo.callback(mine.close)
            theirs.callback(other.close)
            registrar, announce = socket.socketpair(socket.AF_UNIX, _MESSAGES)
            theirs.callback(registrar.close)
            theirs.callback(announce.close)
            channel, out, err, leash = other.numbers()
            command.append(str(channel))
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env=env,
                pass_fds=(channel, leash, registrar.fileno(), announce.fileno()),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            where = "the current directory" if cwd is None else cwd
            raise LaunchError(
                f"cannot start {interpreter.path} in {where}: {error}",
                python=interpreter.path,
                command=command,
            ) from error
        marks.put(popen.pid, mark)
        settings = {
            **config,
            "channel": channel,
            "leash": leash,
            "registrar": registrar.fileno(),
            "announce": announce.fileno(),
            "mark": mark,
            "step": marks.step(),
        }
        undo.pop_all()
    return LocalProcess(Warden(popen), mine, payload.first_bytes(modules, settings), mark)


class LocalLauncher:
    """Spawns an interpreter of this machine for each session."""

    def launch(self, spec: Spec) -> Process:
        """Start it and return at once; LaunchError where the system refuses."""
        config = {
            "token": spec.token,
            "preload": spec.preload,
            "limits": dict(spec.limits),
            "script": spec.scripts,
        }
        try:
            # os.environ, not what C code has added past it, as readline does: so that it is the same with a template
            env = environment.of_child(spec.env)
        except ValueError as error:
            python = spec.interpreter.path
            raise LaunchError(f"cannot start {python}: {error}", python=python) from error
        return spawn(spec.interpreter, spec.cwd, env, config, marks.new_mark())

    def may_block(self, spec: Spec) -> bool:
        return False


def require_platform() -> None:
    """LaunchError on a system where sessions cannot work."""
    if sys.platform == "win32":
        raise LaunchError(
            "extsession sessions need a POSIX system (fork, pipes passed to a child); Windows has neither"
        )
