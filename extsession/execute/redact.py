"""Command lines for people and logs: quoted as a shell would read them, with secrets masked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: a flag whose name has one of these in it has a secret for a value
_SECRET_WORDS: Final = (
    "access",
    "api",
    "auth",
    "client",
    "cred",
    "key",
    "passwd",
    "password",
    "private",
    "pwd",
    "secret",
    "token",
)
#: `--name=value`, `-n=value`, and `NAME=value`, as env(1) takes it
_FLAG: Final = re.compile(r"(-{0,2}[^-=][^=]*=)(.*)", re.DOTALL)
_USER_IN_URL: Final = re.compile(r"(?<=://)[^/?#\s]*(?=@)")


def shell_cmd(cmd: Sequence[str], cwd: Path | None = None) -> str:
    """One line that a POSIX shell splits into `cmd` again; a program below `cwd` is shown relative to it."""
    return shlex.join(_shown(cmd, cwd))


def shell_cmd_redacted(cmd: Sequence[str], cwd: Path | None = None) -> str:
    """The same with secrets masked by as many `*` as they have characters.

    Secrets are the value of a flag, `--name=value` or `NAME=value`, with a telling name, and the user of an address,
    `scheme://user:password@host`. A value that is an argument of its own is left as it is: nobody can know what it
    belongs to.
    """
    return shlex.join([redacted(argument) for argument in _shown(cmd, cwd)])


def redacted(argument: str) -> str:
    """One argument with its secrets masked."""
    found = _FLAG.fullmatch(argument)
    if found is not None and any(word in found[1].lower() for word in _SECRET_WORDS):
        argument = found[1] + "*" * len(found[2])
    return _USER_IN_URL.sub(lambda match: "*" * len(match[0]), argument)


def _shown(cmd: Sequence[str], cwd: Path | None) -> list[str]:
    shown = [str(each) for each in cmd]
    if shown and cwd is not None and Path(shown[0]).is_absolute():
        program = Path(shown[0])
        if program.is_relative_to(cwd) and program != cwd:
            shown[0] = str(program.relative_to(cwd))
    return shown
