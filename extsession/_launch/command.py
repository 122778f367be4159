"""Foreign commands: any program, started as a child of this process, with its own process group.

It is an ordinary child, so that it inherits all that a child does: limits, namespaces, what a security module says. So
its tree is found from outside (`offspring.py`), and the guard sees to it that nothing outlives this process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from . import marks, pty
from .guard import guard
from .offspring import Offspring


@dataclass(frozen=True)
class WarmPython:
    """A Python program that a template can run. python: its interpreter, a path; preload: modules that are there.

    mode, target and the rest are as `_worker/command.py` wants them.
    """

    python: str
    mode: Literal["file", "module", "code"]
    target: str
    argv: tuple[str, ...]
    preload: tuple[str, ...] = ()
    unbuffered: bool = False
    no_bytecode: bool = False


@dataclass(frozen=True)
class CommandSpec:
    """What is to be started.

    argv: as the command sees it; executable: the file. cwd, env: None means this process's. stdin: at its end, a pipe
    of ours, or this process's own. terminals: of this process, that stdout and stderr are to be like; None: a pipe.
    output: read by us, or this process's own stdout and stderr, which leaves nothing to be read. own_group: it leads a
    process group; else it stays in ours. warm: the same as a clone of a template, where one can be had.
    """

    argv: Sequence[str]
    executable: str
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    stdin: Literal["end", "pipe", "inherit"] = "end"
    terminals: tuple[int | None, int | None] = (None, None)
    output: Literal["read", "inherit"] = "read"
    own_group: bool = True
    warm: WarmPython | None = None


class StartedCommand(Protocol):
    """A command that was started: its descriptors, and what can be done to it. Nothing blocks for long."""

    pid: int
    stdin: int
    stdout: int
    stderr: int
    """Our ends; -1: we have none."""
    are_terminals: tuple[bool, ...]
    ended: int
    """A descriptor that is readable when `poll` tells of the end; -1: it has to be asked."""
    offspring: Offspring
    is_warm: bool

    def poll(self) -> int | None:
        """Its exit code, -n if signal n has ended it; None: it runs."""

    def signal(self, number: int) -> None:
        """To its process group, or to itself where it is in ours; nothing if it has ended."""

    def close_stdin(self) -> None:
        """End of file on its stdin."""

    def close(self) -> None:
        """Close the descriptors. It has ended."""


class Streams:
    """Descriptors for a command, in pairs: our ends, which do not block, -1 where we have none, and `theirs`."""

    def __init__(self, spec: CommandSpec) -> None:
        """OSError: there are none left."""
        self._opened: list[int] = []
        try:
            self.stdin, self.their_stdin = -1, -1
            if spec.stdin == "pipe":
                self.their_stdin, self.stdin = self._pair(os.pipe())
            elif spec.stdin == "end":
                self.their_stdin = self._one(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            else:
                self.their_stdin = self._one(os.dup(0))
            if spec.output == "read":
                found = [self._output(fd) for fd in spec.terminals]
            else:
                found = [(-1, self._one(os.dup(number)), False) for number in (1, 2)]
            (self.stdout, self._their_out, _), (self.stderr, self._their_err, _) = found
            self.are_terminals = tuple(is_terminal for _, _, is_terminal in found)
            for fd in (self.stdin, self.stdout, self.stderr):
                if fd >= 0:
                    os.set_blocking(fd, False)
        except BaseException:
            self.close()
            raise

    @property
    def theirs(self) -> tuple[int, int, int]:
        return self.their_stdin, self._their_out, self._their_err

    def _output(self, terminal: int | None) -> tuple[int, int, bool]:
        """A pipe, or a pseudo-terminal like this terminal, if there is any to be had."""
        if terminal is not None:
            with contextlib.suppress(OSError, ImportError):
                return (*self._pair(pty.open_like(terminal)), True)
        return (*self._pair(os.pipe()), False)

    def _pair(self, pair: tuple[int, int]) -> tuple[int, int]:
        self._opened += pair
        return pair

    def _one(self, fd: int) -> int:
        self._opened.append(fd)
        return fd

    def close_theirs(self) -> None:
        for fd in self.theirs:
            self._opened.remove(fd)
            os.close(fd)

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            self._opened.remove(self.stdin)
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.pop())


class _SignedPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Signs its process as soon as that has a number: Popen then waits to hear of the exec, and other threads may run
    meanwhile for so long that the program has left orphans, which nobody could tell whose they are.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.signature = marks.new_signature()
        super().__init__(*arguments, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "pid" and value:
            self.__dict__["signature"] = marks.sign(value, self.signature)
        super().__setattr__(name, value)


class CommandProcess:
    """A command as a child of this process."""

    is_warm = False

    def __init__(self, spec: CommandSpec) -> None:
        """Start it. OSError."""
        streams = Streams(spec)
        options: dict[str, Any] = {}
        if spec.own_group:
            options = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
        stdin, stdout, stderr = streams.theirs
        try:
            self._popen = popen = _SignedPopen(
                list(spec.argv),
                executable=spec.executable,
                cwd=spec.cwd,
                env=None if spec.env is None else dict(spec.env),
                stdin=stdin if spec.stdin != "inherit" else None,
                stdout=stdout,
                stderr=stderr,
                **options,
            )
        except BaseException:
            streams.close()
            raise
        streams.close_theirs()
        self._streams = streams
        self._own_group = spec.own_group
        self.pid = popen.pid
        self.offspring = Offspring(self.pid, popen.signature)
        self.offspring.sign_all()  # what it has started already
        guard.add(self.offspring)
        self.stdin, self.stdout, self.stderr = streams.stdin, streams.stdout, streams.stderr
        self.are_terminals = streams.are_terminals
        self.ended = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.ended = os.pidfd_open(self.pid)
        _here.add(self)

    def poll(self) -> int | None:
        """Collects it.

        ChildProcessError: it has ended, and its exit code is lost: somebody else has collected it, or the system itself
        has, as it does where SIGCHLD is ignored. (subprocess would take that for 0.)
        """
        if self._popen.returncode is not None:
            return self._popen.returncode
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._popen.returncode = 0  # it is not to be waited for, nor to be signalled
            guard.remove(self.pid)
            raise
        if not pid:
            return None
        self._popen.returncode = code = os.waitstatus_to_exitcode(status)
        guard.remove(self.pid)
        return code

    def signal(self, number: int) -> None:
        if self._popen.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; of another user, as sudo's
            if self._own_group:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def close_stdin(self) -> None:
        self._streams.close_stdin()
        self.stdin = -1

    def close(self) -> None:
        _here.discard(self)
        self._streams.close()
        if self.ended >= 0:
            os.close(self.ended)
            self.ended = -1

    def forked(self) -> None:
        """In a child of ours: it is our parent's, and sees the end of its stdin when that closes it."""
        self._popen.returncode = 0  # so that nobody waits for it
        self.close()


#: those that have not been closed
_here: set[CommandProcess] = set()


def _forked() -> None:
    for process in list(_here):
        process.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def start(spec: CommandSpec) -> StartedCommand:
    """Start a command, by a template if it is to be and there can be one. OSError, LaunchError."""
    if spec.warm is not None:
        from .template import CannotServe
        from .warm_command import WarmCommand

        with contextlib.suppress(CannotServe):
            return WarmCommand(spec, spec.warm)
    return CommandProcess(spec)
