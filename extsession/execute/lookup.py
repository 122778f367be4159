"""Which file a request runs, and why it cannot be run."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from .errors import CommandNotAllowedError, CommandNotFoundError, ExecuteError
from .redact import redacted
from .request import ExecuteRequest


def resolve(request: ExecuteRequest) -> str:
    """The file that the request's program is, as the child would find it from its directory. ExecuteError."""
    _check_directory(request)
    name = request.cmd[0]
    env: Mapping[str, str] = os.environ if request.env is None else request.env
    program = _find(name, env.get("PATH", os.defpath), request.cwd)
    if program is None:
        raise CommandNotFoundError(_not_found(name), request=request, errno=errno.ENOENT)
    _check_executable(program, request)
    allow = request.allow
    if allow is not None and not any(fnmatchcase(each, pattern) for each in (name, program) for pattern in allow):
        shown = ", ".join(allow) or "none"
        raise CommandNotAllowedError(
            f"the program {redacted(name)!r} (which is {redacted(program)}) is not allowed; allowed are: {shown}",
            request=request,
        )
    return program


def start_error(request: ExecuteRequest, program: str, error: OSError) -> ExecuteError:
    """Why the system has not started a program that is there."""
    number = error.errno
    if number == errno.ENOENT:
        interpreter = _interpreter_of(program)
        missing = f"its interpreter {interpreter!r} was" if interpreter else "it, or what it is loaded by, was"
        return CommandNotFoundError(f"cannot run {program}: {missing} not found", request=request, errno=number)
    why = error.strerror or str(error)
    if number == errno.E2BIG:
        why = "its arguments and environment together are too long for the system"
    elif number == errno.ENOEXEC:
        why = "it is no program for this system, and has no line with #! either"
    return ExecuteError(f"cannot run {program}: {why}", request=request, errno=number)


def _check_directory(request: ExecuteRequest) -> None:
    """The first that is looked at: all else is relative to it."""
    cwd = request.cwd
    if cwd is None:
        return
    try:
        mode = os.stat(cwd).st_mode
    except ValueError:  # NUL, or characters that no name can have
        number, why = errno.ENOENT, "does not exist"
    except OSError as error:
        number = error.errno or errno.ENOENT
        why = "does not exist" if number == errno.ENOENT else f"cannot be used: {error.strerror}"
    else:
        if not stat.S_ISDIR(mode):
            number, why = errno.ENOTDIR, "is not a directory"
        elif not os.access(cwd, os.X_OK):
            number, why = errno.EACCES, "cannot be used: it may not be entered"
        else:
            return
    raise ExecuteError(f"the directory {str(cwd)!r} to run in {why}", request=request, errno=number)


def _find(name: str, path: str, cwd: Path | None) -> str | None:
    """The file that execvp(3) would run in `cwd`; one that cannot be run only where there is no other."""
    try:
        base = os.getcwd() if cwd is None else str(cwd.absolute())
    except OSError:  # ours was removed: only what does not depend on it can be found
        base = ""
    if os.sep in name or (os.altsep and os.altsep in name):
        file = str(Path(base, name))
        return file if os.path.lexists(file) else None
    if not name:
        return None
    second = None
    for entry in path.split(os.pathsep):
        file = os.path.join(base, entry, name)
        if os.path.isfile(file):
            if os.access(file, os.X_OK):
                return file
            second = second or file
    return second


def _check_executable(program: str, request: ExecuteRequest) -> None:
    if not os.path.exists(program):
        raise CommandNotFoundError(
            f"{program} is a link to something that does not exist", request=request, errno=errno.ENOENT
        )
    if os.path.isdir(program):
        raise ExecuteError(f"{program} is a directory, not a program", request=request, errno=errno.EACCES)
    if not os.access(program, os.X_OK):
        raise ExecuteError(f"{program} is not executable", request=request, errno=errno.EACCES)


def _not_found(name: str) -> str:
    if not name:
        return "the program '' was not found: its name is empty"
    where = "" if os.sep in name else " on the PATH of the request"
    return f"the program {redacted(name)!r} was not found{where}"


def _interpreter_of(program: str) -> str | None:
    """What the first line of a script names."""
    try:
        with open(program, "rb") as file:
            line = file.readline(4096)
    except OSError:
        return None
    words = line[2:].split() if line.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else None
