"""Find the Python interpreter that a caller names: by a path, a version, an environment or a command.

Where they are is `places`; what one is, it is asked by `probe`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeAlias

from ..errors import InterpreterError
from .places import Key, absolute, current_folder, is_script, key_of, on_path, path_entries, usual_places
from .probe import OLDEST, asked, not_cpython
from .probe import Interpreter as Interpreter

Python: TypeAlias = "str | os.PathLike[str] | None"

# as in probe: a plain dict, no lock
_looked_up: dict[Key, tuple[str, Key]] = {}


def find(python: Python = None, *, sources: Mapping[str, str] | None = None, timeout: float = 10.0) -> Interpreter:
    """Return the interpreter that `python` names.

    python: None is this process's own (no process is started to look); a path to an executable; a version
    ("3.12", "3.12.1", "python3.12"), looked up on PATH, then in the usual places, where the newest patch
    wins; the folder of a virtual environment; or a command on PATH.
    sources, timeout: as for `probe`; timeout is for each interpreter asked.
    Raises InterpreterError, which names it, for one that is missing, too old, not CPython, or not Python;
    TypeError for a number: 3.10 is 3.1.
    """
    if python is None:
        return _this()
    if not isinstance(python, (str, os.PathLike)):
        hint = f': write python="{python}"' if isinstance(python, (int, float)) else ""
        raise TypeError(f"python must be a path or a version as a string, not {python!r}{hint}")
    name = os.fsdecode(python)
    if not name or "\0" in name:
        raise InterpreterError(f"python={name!r} names no interpreter", python=name)
    if isinstance(python, str) and os.sep not in name:
        wanted = re.fullmatch(r"(?:python)?(\d+(?:\.\d+){0,2})?(t?)", name)
        if wanted and (wanted[1] or name == "python"):
            version = tuple(int(part) for part in (wanted[1] or "3").split("."))
            return _find_version(name, version, wanted[2], sources, timeout)
        if not os.path.exists(name):
            for path in on_path([name]):
                return probe(path, timeout, sources)
            raise InterpreterError(
                f"no Python interpreter {name!r}: it is neither a file, a version such as '3.12', "
                "nor a command on PATH",
                python=name,
            )
    return probe(_in_folder(absolute(os.path.expanduser(name))), timeout, sources)


def probe(path: str | os.PathLike[str], timeout: float = 10.0, sources: Mapping[str, str] | None = None) -> Interpreter:
    """Run the interpreter at `path` once and return what it says of itself.

    timeout: seconds until it is given up and killed with all of its process group.
    sources: module name -> source, compiled by that interpreter into `payload` if its magic is not ours.
    The answer is kept until the file changes. Raises InterpreterError as `find` does.
    """
    return asked(absolute(os.fsdecode(path)), timeout, sources)[0]


def candidates(timeout: float = 5.0) -> list[Interpreter]:
    """Return every usable CPython on PATH and in the usual places, newest first.

    One for each real file; this process's own interpreter stands for its file. timeout: seconds for each
    one asked. What does not answer, or is none we can use, is left out.
    """
    own = []
    with suppress(InterpreterError):
        own.append(_this())
    paths: dict[str, list[str]] = {}
    for path in [*path_entries(), *usual_places()]:
        # A version manager's shims lead to what is found below its own folder.
        if os.path.basename(os.path.dirname(path)) != "shims":
            paths.setdefault(os.path.realpath(path), []).append(path)
    for this in own:
        paths.pop(os.path.realpath(this.path), None)

    def first(names: Iterable[str]) -> Interpreter | None:
        for name in dict.fromkeys(names):
            with suppress(InterpreterError):
                return probe(name, timeout)
        return None

    with ThreadPoolExecutor(4, thread_name_prefix="extsession-probe") as threads:
        found = own + [one for one in threads.map(first, paths.values()) if one is not None]
    return sorted(found, key=lambda one: one.version, reverse=True)


# -- by name


def _this() -> Interpreter:
    path = sys.executable
    if not path:
        raise InterpreterError(
            "this process does not know its own interpreter (sys.executable is empty, as when Python is "
            "embedded): name one with python="
        )
    path = absolute(path)
    key_of(path)
    if sys.implementation.name != "cpython":
        raise InterpreterError(not_cpython(path, sys.implementation.name), python=path)
    return Interpreter(
        path=path,
        version=sys.version_info[:3],
        implementation=sys.implementation.name,
        magic=importlib.util.MAGIC_NUMBER,
        cache_tag=sys.implementation.cache_tag or "",
        prefix=sys.prefix,
        is_this=True,
        abiflags=sys.abiflags,
    )


def _find_version(
    name: str, version: tuple[int, ...], flags: str, sources: Mapping[str, str] | None, timeout: float
) -> Interpreter:
    if version < OLDEST[: len(version)]:
        raise InterpreterError(f"Python {name!r} is too old: extsession needs 3.8 or newer", python=name)
    # What a version manager's shim leads to depends on these.
    around = [os.environ.get(variable) for variable in ("PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION")]
    spec = (version, flags, *around, current_folder())
    with suppress(KeyError, InterpreterError):
        path, key = _looked_up[spec]
        if key_of(path) == key:
            return probe(path, timeout, sources)

    def fits(one: Interpreter) -> bool:
        return one.version[: len(version)] == version and ("t" in one.abiflags) == bool(flags)

    best: Interpreter | None = None
    for path in on_path(_names(version, flags)):
        with suppress(InterpreterError):
            one = _direct(path, timeout, sources)
            if fits(one):
                best = one
                break
    else:
        others: list[Interpreter] = []
        with suppress(InterpreterError):
            others.append(_this())
        for path in dict.fromkeys(usual_places(version)):
            with suppress(InterpreterError):
                others.append(probe(path, timeout, sources))
        best = max(filter(fits, others), key=lambda one: one.version, default=None)
    if best is None:
        raise InterpreterError(
            f"no Python {name!r} found on PATH or in the usual places: name its path with python=",
            python=name,
        )
    _looked_up[spec] = (best.path, key_of(best.path))
    return best


def _direct(path: str, timeout: float, sources: Mapping[str, str] | None) -> Interpreter:
    """Return what is found on PATH at `path`, or what that leads to if it is a shim.

    A shim is slow, and where it leads may change with the folder it is run in.
    """
    one, behind = asked(path, timeout, sources)
    if is_script(path) and os.path.isabs(behind):
        with suppress(InterpreterError):
            real = probe(behind, timeout, sources)
            # A script that sets something up, without which the program is another one, stays.
            if (real.version, real.prefix) == (one.version, one.prefix):
                return real
    return one


def _in_folder(path: str) -> str:
    """Return the interpreter of the virtual environment, or prefix, at `path`; a file is itself."""
    if not os.path.isdir(path):
        return path
    for name in ("python", "python3"):
        inner = os.path.join(path, "bin", name)
        if os.path.lexists(inner):
            return inner
    is_venv = os.path.exists(os.path.join(path, "pyvenv.cfg"))
    what = "a virtual environment without bin/python" if is_venv else "a folder, and no virtual environment"
    raise InterpreterError(f"no Python interpreter at {path!r}: it is {what}", python=path)


def _names(version: tuple[int, ...], flags: str) -> list[str]:
    names = [f"python{'.'.join(map(str, version[:2]))}{flags}"] if len(version) > 1 else []
    return list(dict.fromkeys([*names, f"python{version[0]}", "python"]))
