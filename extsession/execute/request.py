"""What is to be run."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .. import Limits
from .redact import shell_cmd, shell_cmd_redacted

_LIMITS: Final = frozenset(["cpu", "memory", "output", "processes"])


class StdinSource(enum.Enum):
    """What a command reads from."""

    OFF = 0  # end of file at once
    USER = 1  # this process's own stdin
    API = 2  # what the program writes: `ExecuteStatus.write_stdin`

    @staticmethod
    def user_only() -> StdinSource:
        """USER if `sys.stdin` is a terminal, else OFF."""
        stdin = sys.stdin
        try:
            return StdinSource.USER if stdin is not None and stdin.isatty() else StdinSource.OFF
        except ValueError:  # it is closed
            return StdinSource.OFF


class ExecuteRequest:
    """A command and how it is to be run: a frozen description, which can be run again and again.

    cmd: the program and its arguments, text or path-like. cwd: the directory; None: this process's when it runs.
    env: the whole environment; None: this process's when it runs. stdin: text, a StdinSource, or None for none.
    run_id: a label for logs. allow: glob patterns of the programs that may be run; None, or "*" among them: all.
    timeout: seconds it may run; None: what the executor has. limits: of all that it starts together, `cpu`, `memory`
    and `processes`, and of its `output`; over one of them it is killed.

    Raises TypeError for values of other types, and a `cmd` that is one text; ValueError for an empty `cmd`, for NUL in
    arguments or variables, for names of variables that are empty or have "=" in them, for a `timeout` below 0, and for
    other limits.
    """

    __slots__ = ("_allow", "_cmd", "_cwd", "_env", "_limits", "_run_id", "_stdin", "_timeout")

    def __init__(
        self,
        cmd: Sequence[str | os.PathLike[str]],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | StdinSource | None = None,
        run_id: str | None = None,
        allow: Iterable[str] | None = None,
        *,
        timeout: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._cmd = _checked_cmd(cmd)
        if cwd is not None and not isinstance(cwd, (str, os.PathLike)):
            raise TypeError(f"cwd takes a path or None, not {cwd!r}")
        self._cwd = None if cwd is None else Path(cwd)
        self._env = None if env is None else _checked_env(env)
        if stdin is not None and not isinstance(stdin, (str, StdinSource)):
            raise TypeError(f"stdin takes text, a StdinSource or None, not {type(stdin).__name__}")
        self._stdin = stdin
        if run_id is not None and not isinstance(run_id, str):
            raise TypeError(f"run_id takes text or None, not {run_id!r}")
        self._run_id = run_id
        self._allow = None if allow is None else _checked_allow(allow)
        self._timeout = checked_seconds(timeout, "timeout")
        self._limits = _checked_limits(limits)

    @property
    def cmd(self) -> list[str]:
        """The program and its arguments: a new list each time."""
        return list(self._cmd)

    @property
    def cwd(self) -> Path | None:
        return self._cwd

    @property
    def env(self) -> dict[str, str] | None:
        """The whole environment: a new dict each time."""
        return None if self._env is None else dict(self._env)

    @property
    def stdin(self) -> str | StdinSource | None:
        return self._stdin

    @property
    def run_id(self) -> str | None:
        return self._run_id

    @property
    def allow(self) -> list[str] | None:
        """The patterns of the programs that may be run: a new list each time; None: all may."""
        return None if self._allow is None else list(self._allow)

    @property
    def timeout(self) -> float | None:
        return self._timeout

    @property
    def limits(self) -> Limits | None:
        return self._limits

    @property
    def shell_cmd(self) -> str:
        """One line that a POSIX shell splits into `cmd` again; a program below `cwd` is shown relative to it."""
        return shell_cmd(self._cmd, self._cwd)

    @property
    def shell_cmd_redacted(self) -> str:
        """The same with secrets masked, for logs; see docs/execute.md for what is taken for one."""
        return shell_cmd_redacted(self._cmd, self._cwd)

    def __repr__(self) -> str:
        shown = [self.shell_cmd_redacted, f"cwd={None if self._cwd is None else str(self._cwd)!r}"]
        shown.append(f"run_id={self._run_id!r}")
        if self._env is not None:
            shown.append("env=...")
        if self._stdin is not None:
            shown.append("stdin=..." if isinstance(self._stdin, str) else f"stdin={self._stdin.name}")
        return f"ExecuteRequest({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecuteRequest):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash((tuple(self._cmd), self._cwd, self._run_id, self._timeout))

    def _facts(self) -> tuple[Any, ...]:
        return self._cmd, self._cwd, self._env, self._stdin, self._run_id, self._allow, self._timeout, self._limits

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._facts(),)


def _rebuilt(facts: tuple[Any, ...]) -> ExecuteRequest:
    *others, timeout, limits = facts
    return ExecuteRequest(*others, timeout=timeout, limits=limits)


def checked_seconds(value: float | None, name: str) -> float | None:
    """Seconds of 0 or more, or None. TypeError, ValueError: it is something else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} takes seconds, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{name} takes seconds of 0 or more, not {value!r}")
    return value


def _checked_cmd(cmd: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(cmd, (str, bytes)) or not isinstance(cmd, Sequence):
        raise TypeError(f"cmd takes a sequence of arguments, as ['ls', '-l'], not {cmd!r}")
    if not cmd:
        raise ValueError("cmd is empty: it needs a program at least")
    found = []
    for each in cmd:
        text = os.fspath(each) if isinstance(each, os.PathLike) else each
        if not isinstance(text, str):
            raise TypeError(f"arguments in cmd are text or paths, not {each!r}")
        if "\0" in text:
            raise ValueError(f"no argument can have a NUL in it: {text!r}")
        found.append(text)
    return found


def _checked_env(env: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env takes a mapping of names to text, or None, not {type(env).__name__}")
    for name, value in env.items():
        if not isinstance(name, str):
            raise TypeError(f"names in env are text, not {name!r}")
        if not isinstance(value, str):
            raise TypeError(f"values in env are text: that of {name!r} is a {type(value).__name__}")
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"no variable in env can have the name {name!r}")
        if "\0" in value:
            raise ValueError(f"no variable in env can have a NUL in it, as {name!r} has")
    return dict(env)


def _checked_limits(limits: Limits | None) -> Limits | None:
    if limits is None:
        return None
    if not isinstance(limits, Limits):
        raise TypeError(f"limits takes a Limits or None, not {limits!r}")
    for name in limits.given():
        if name not in _LIMITS:
            use = "; use timeout=" if name == "wall" else ""
            raise ValueError(f"Limits.{name} is no limit of a command, which has {', '.join(sorted(_LIMITS))}{use}")
    return limits


def _checked_allow(allow: Iterable[str]) -> list[str] | None:
    if isinstance(allow, (str, bytes)):
        raise TypeError(f"allow takes a list of patterns, as ['git', 'make*'], not {allow!r}")
    found = list(allow)
    for each in found:
        if not isinstance(each, str):
            raise TypeError(f"patterns in allow are text, not {each!r}")
    return None if "*" in found else found
