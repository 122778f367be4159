"""The seam between sessions and the ways to start one."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .ends import Ends
from .interpreter import Interpreter
from .samples import Sample
from .usage import TreeUsage
from .workdir import WorkDir


@dataclass(frozen=True)
class Spec:
    """What is to be started.

    token: the secret of the barriers in the text streams. cwd, env: None means the controller's, as it is now.
    preload: names of modules to be imported before anything else. timeout: seconds that a template, should one have
    to be started, may take; is_unwanted: asked now and then while it is waited for. limits: what it sets to itself, by
    the names of `Limits`. walls: around an isolated session, see `walled.py`; work: its folder, where that is one of
    the host. scripts: it is to run locked-down scripts. command: what a clone of a template is to be instead of a
    session, see `_worker/command.py`.
    """

    interpreter: Interpreter
    token: bytes
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    preload: tuple[str, ...] = ()
    timeout: float | None = None
    is_unwanted: Callable[[], bool] = bool
    limits: Mapping[str, int] = field(default_factory=dict)
    walls: Mapping[str, Any] | None = None
    work: str = ""
    scripts: bool = False
    command: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ExitReport:
    """How a session's process ended.

    exit_code or signal (a number): one of them is None, both are where nobody can tell. left: processes of the
    session that could not be ended. why: what kept it from coming to be, where that is known. oom: the kernel has
    ended processes of it because of the memory limit; memory_killer: the kernel has ended it because there was no
    memory left. cpu: seconds, peak_memory: bytes, of this process and of those children that it has waited for.
    """

    exit_code: int | None
    signal: int | None
    left: int = 0
    why: str = ""
    oom: bool = False
    memory_killer: bool = False
    cpu: float | None = None
    peak_memory: int | None = None

    @property
    def signal_name(self) -> str | None:
        """SIGSEGV for 11."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"

    def __str__(self) -> str:
        if self.why:
            return self.why
        if self.signal is not None:
            return f"killed by {self.signal_name}"
        return "its end was not seen" if self.exit_code is None else f"exit status {self.exit_code}"


class Process(Protocol):
    """A started worker: its descriptors, and what can be done to it. All are non-blocking."""

    channel: socket.socket
    stdout: int
    stderr: int
    leash: int
    pid: int | None
    """Of the session, as far as the leash has told."""
    command: list[str]
    first: bytes
    """What has to be sent down the channel before any message."""
    again: Callable[[], Process] | None
    """Starts another one in its place, should it never have come to be: without blocking; LaunchError."""

    def pid_of(self, pid: int) -> int:
        """The number that a process, whose own number is `pid` where it is, has here; 0 if it is not known."""

    def work_dir(self, pid: int) -> WorkDir | None:
        """The work directory of an isolated session; None: it is none."""

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the session's process, if it has not ended."""

    def read_leash(self) -> ExitReport | None:
        """What the leash tells, once it is readable; None: not yet."""

    def kill_tree(self, pid: int | None) -> None:
        """Kill the session and all it started. The leash tells when that is done."""

    def early_end(self) -> ExitReport:
        """How the process that was started ended, where no session came of it. Bounded."""

    def usage(self, pid: int, pss: bool) -> TreeUsage:
        """What the session and all that it started use now."""

    def confine(self, pid: int, limits: Mapping[str, int]) -> frozenset[str]:
        """Have the kernel hold these limits for the session and all that it starts; those that it holds then."""

    def sample(self, pid: int, memory: int | None) -> Sample | None:
        """What the session and all that it started use now. memory: bytes above which that is looked at closely."""

    def change_limit(self, pid: int, name: str, value: int) -> None:
        """Change a limit that the kernel holds; ValueError where it will not."""

    def prepare_clone(self) -> tuple[Process, int, Ends]:
        """For a clone of this session: its Process, its mark, and the ends that it is to be given, and then closed."""

    def stand_apart(self) -> None:
        """It is a checkpoint, which does not count for the limits of the session that it is a clone of."""

    def disown(self) -> None:
        """In a process forked from the one that launched it: only descriptors are to be closed."""

    def discard(self) -> None:
        """As `let_go`, and close the other descriptors: nobody has come to use it."""

    def let_go(self) -> None:
        """Collect the process and close the leash. Bounded."""


class Launcher(Protocol):
    """Starts workers. `launch` may block for as long as an exec takes."""

    def launch(self, spec: Spec) -> Process: ...

    def may_block(self, spec: Spec) -> bool:
        """Whether `launch` may take longer than to start a process."""
