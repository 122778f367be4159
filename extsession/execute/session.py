"""Python commands without the start of an interpreter: clones of a warm one that has loaded what they need."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from .. import RunningCommand, WarmPython
from .api import LOGGER
from .local_sub_process import LocalSubProcessExecute
from .lookup import resolve
from .request import ExecuteRequest, StdinSource

#: bytes of a script that are looked at for its first line
_FIRST_LINE: Final = 4096


class SessionExecute(LocalSubProcessExecute):
    """A LocalSubProcessExecute that runs Python commands in forks of a warm interpreter.

    python: the interpreter whose commands are run so, a path; None: this process's. preload: names of modules that it
    loads before. What it cannot run is run as an ordinary process; `metadata["extsession"]` of the status says which it
    was, "warm" or "process". The rest is as of LocalSubProcessExecute.

    Run so are `python script.py`, `python -m module`, `python -c code`, with `-u` and `-B`, and scripts whose first
    line names that interpreter, as pip makes for an entry point. What differs from a fresh interpreter is in
    docs/execute.md. A preload that fails is an ExecuteError.
    """

    def __init__(
        self,
        python: str | os.PathLike[str] | None = None,
        preload: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if isinstance(preload, str):
            raise TypeError(f"preload takes a list of modules, as ['pytest'], not {preload!r}")
        self._python = os.path.abspath(sys.executable if python is None else python)
        self._preload = tuple(preload)

    def why_cold(self, request: ExecuteRequest) -> str | None:
        """Why it is run as an ordinary process; None: it can be run warm. ExecuteError: it cannot be run at all."""
        found = self.warm_python(request)
        return found if isinstance(found, str) else None

    def warm_python(self, request: ExecuteRequest) -> WarmPython | str:
        """How it is run warm, for a CommandSpec; or why it is run as an ordinary process. ExecuteError, as above."""
        return self._how(request, resolve(request))

    def _warm(self, request: ExecuteRequest, program: str) -> WarmPython | None:
        found = self._how(request, program)
        if isinstance(found, str):
            LOGGER.info("run as an ordinary process, for %s: %s", found, request.shell_cmd_redacted)
            return None
        return found

    def _how(self, request: ExecuteRequest, program: str) -> WarmPython | str:
        found = self._plan(request, program)
        if isinstance(found, str):
            return found
        return WarmPython(
            python=self._python,
            mode=found.mode,
            target=found.target,
            argv=found.argv,
            preload=self._preload,
            unbuffered="u" in found.flags,
            no_bytecode="B" in found.flags,
        )

    def _tell(self, command: RunningCommand) -> dict[str, Any]:
        return {"extsession": "warm" if command.is_warm else "process"}

    def _plan(self, request: ExecuteRequest, program: str) -> _Plan | str:
        """What the interpreter is to do, or why it is not to be asked."""
        if request.stdin is StdinSource.USER:
            return "it reads this process's own stdin"
        arguments = request.cmd[1:]
        if _is_same_python(program, self._python):
            return _plan(arguments)
        if _first_word(program, self._python):
            return _Plan("file", program, (program, *arguments), frozenset())
        return f"the program is not {self._python}, nor a script of it"


class _Plan(NamedTuple):
    mode: Literal["file", "module", "code"]
    target: str
    argv: tuple[str, ...]
    flags: frozenset[str]


def _plan(arguments: list[str]) -> _Plan | str:
    """Of arguments of the interpreter."""
    flags: set[str] = set()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "-" or not word.startswith("-"):
            if word == "-":
                break
            return _Plan("file", word, (word, *rest), frozenset(flags))
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in "uB":
                flags.add(letter)
            elif letter in "mc" and (letters or rest):
                target = letters or rest.pop(0)
                if letter == "c":
                    return _Plan("code", target, ("-c", *rest), frozenset(flags))
                return _Plan("module", target, ("-m", *rest), frozenset(flags))
            else:
                return f"it has the interpreter's option {word}"
    return "it is not given a script, a module or code"


def _is_same_python(program: str, python: str) -> bool:
    """Whether both are names of one interpreter in one environment: `python` and `python3` beside each other."""
    if os.path.realpath(os.path.dirname(program)) != os.path.realpath(os.path.dirname(python)):
        return False
    try:
        return os.path.samefile(program, python)
    except OSError:
        return False


def _first_word(program: str, python: str) -> bool:
    """Whether it is a script whose first line names the interpreter, and nothing else."""
    try:
        with open(program, "rb") as file:
            line = file.readline(_FIRST_LINE)
    except OSError:
        return False
    words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
    return len(words) == 1 and _is_same_python(words[0], python)


