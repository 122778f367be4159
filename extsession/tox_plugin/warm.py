"""Which commands of an environment a warm interpreter can run, and its end with the environment."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Final

from .. import CommandSpec, LaunchError, WarmPython, templates
from ..execute import ExecuteError, ExecuteRequest, SessionExecute
from .settings import WarmSettings

#: of a file, which is enough for what installers put before a script that starts with a shell
_BEGINNING: Final = 4096


class Warm:
    """The warm interpreter of one environment. It is started for the first command that it can run."""

    def __init__(self, settings: WarmSettings) -> None:
        self._settings = settings
        self._planner = SessionExecute(settings.python, settings.preload)
        self._lock = threading.Lock()
        self._failure: LaunchError | None = None

    def plan(self, spec: CommandSpec) -> WarmPython | None:
        """How a command is run warm, whose program is resolved; None, with a line in the log: it is not."""
        found = self._plan(spec)
        if isinstance(found, str):
            logging.info("run as an ordinary process: %s", found)
            return None
        return found

    def _plan(self, spec: CommandSpec) -> WarmPython | str:
        if self._failure is not None:
            return "there is no warm interpreter"
        if spec.stdin != "end":
            return "it has a stdin"
        if spec.output == "inherit":
            return "its output is not captured"
        if not os.path.isabs(spec.executable):
            return "its program was not found"
        try:
            return self._planner.warm_python(ExecuteRequest(self._as_python(spec.argv), cwd=spec.cwd, env=spec.env))
        except (ExecuteError, ValueError) as error:  # the ordinary start tells it
            return str(error)

    def failed(self, error: LaunchError) -> None:
        """There can be none: mostly, a module that is to be loaded before cannot be."""
        with self._lock:
            is_first, self._failure = self._failure is None, error
        if is_first:
            logging.warning("extsession_warm: commands are run as ordinary processes, for %s", error)

    def end(self) -> None:
        """End the interpreter. Commands that it has made go on."""
        for each in templates():
            if _same_folder(os.path.dirname(each.python), self._settings.bin):
                each.end()

    def _as_python(self, cmd: Sequence[str]) -> Sequence[str]:
        """A console script with a first line that is too long for the kernel runs a shell first, which runs Python."""
        python = _behind_shell(cmd[0])
        if python is not None and _same_folder(os.path.dirname(python), self._settings.bin):
            return [python, *cmd]
        return cmd


def _behind_shell(program: str) -> str | None:
    """What the second line of a script as distlib and uv make it for long paths executes.

    It is `'''exec' "/path to/python" "$0" "$@"`: shell to a shell, and the beginning of a text to Python.
    """
    try:
        with open(program, "rb") as file:
            lines = file.read(_BEGINNING).split(b"\n", 2)
    except OSError:
        return None
    before, after = b"'''exec' ", b' "$0" "$@"'
    if len(lines) < 3 or lines[0].strip() != b"#!/bin/sh":
        return None
    if not (lines[1].startswith(before) and lines[1].rstrip().endswith(after)):
        return None
    word = lines[1].rstrip()[len(before) : -len(after)].strip()
    if word[:1] == word[-1:] == b'"' and len(word) > 1:
        word = word[1:-1]
    return os.fsdecode(word)


def _same_folder(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
