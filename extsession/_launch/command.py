"""Foreign commands: any program, started as a child of this process, with its own process group.

It is an ordinary child, so that it inherits all that a child does: limits, namespaces, what a security module says. So
its tree is found from outside (`offspring.py`), and the guard sees to it that nothing outlives this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import marks, pty
from .guard import guard
from .offspring import Offspring


@dataclass(frozen=True)
class CommandSpec:
    """What is to be started.

    argv: as the command sees it; executable: the file. cwd, env: None means this process's. stdin: at its end, a pipe
    of ours, or this process's own. terminals: of this process, that stdout and stderr are to be like; None: a pipe.
    output: read by us, or this process's own stdout and stderr, which leaves nothing to be read.
    own_group: it leads a process group; else it stays in ours.
    """

    argv: Sequence[str]
    executable: str
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    stdin: Literal["end", "pipe", "inherit"] = "end"
    terminals: tuple[int | None, int | None] = (None, None)
    output: Literal["read", "inherit"] = "read"
    own_group: bool = True


class CommandProcess:
    """A command that was started. stdin, stdout, stderr: our ends, which do not block; -1: we have none."""

    def __init__(self, spec: CommandSpec) -> None:
        """Start it. OSError."""
        streams: list[_Stream] = []
        options: dict[str, Any] = {}
        if spec.own_group:
            options = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
        stdin = {"end": subprocess.DEVNULL, "pipe": subprocess.PIPE, "inherit": None}[spec.stdin]
        try:
            if spec.output == "read":
                for fd in spec.terminals:
                    streams.append(_Stream(fd))
            self._popen = popen = subprocess.Popen(
                list(spec.argv),
                executable=spec.executable,
                cwd=spec.cwd,
                env=None if spec.env is None else dict(spec.env),
                stdin=stdin,
                stdout=streams[0].theirs if streams else None,
                stderr=streams[1].theirs if streams else None,
                bufsize=0,
                **options,
            )
        except BaseException:
            for stream in streams:
                os.close(stream.ours)
            raise
        finally:
            for stream in streams:
                os.close(stream.theirs)
        self._own_group = spec.own_group
        self.pid = popen.pid
        mark = marks.new_mark()
        marks.put(self.pid, mark)  # mostly before the program has got as far as its first instruction
        self.offspring = Offspring(self.pid, mark)
        guard.add(self.pid, mark)
        self.stdout, self.stderr = (stream.ours for stream in streams) if streams else (-1, -1)
        self.are_terminals = tuple(stream.is_terminal for stream in streams)
        self.stdin = -1
        if popen.stdin is not None:
            self.stdin = popen.stdin.fileno()
            os.set_blocking(self.stdin, False)
        self.pidfd = -1  # readable when it has ended; -1: it has to be asked
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.pidfd = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Its exit code, -n if signal n has ended it; None: it runs. Collects it."""
        code = self._popen.poll()
        if code is not None:
            guard.remove(self.pid)
        return code

    def signal(self, number: int) -> None:
        """To its process group, or to itself where it is in ours; nothing if it has ended."""
        if self._popen.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; of another user, as sudo's
            if self._own_group:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for it and its group. What else it has started is `offspring`."""
        self.offspring.look()
        self.signal(signal.SIGKILL)

    def close_stdin(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self.stdin = -1

    def close(self) -> None:
        """Close the descriptors. It has ended, and was collected."""
        self.close_stdin()
        for fd in (self.stdout, self.stderr, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.stdout = self.stderr = self.pidfd = -1


class _Stream:
    """A pipe, or a pseudo-terminal like the terminal `fd`, if there is any to be had."""

    def __init__(self, fd: int | None) -> None:
        self.is_terminal = False
        if fd is not None:
            with contextlib.suppress(OSError, ImportError):
                self.ours, self.theirs = pty.open_like(fd)
                self.is_terminal = True
                return
        self.ours, self.theirs = os.pipe()
        os.set_blocking(self.ours, False)
