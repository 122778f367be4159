"""Files that may be a Python interpreter: on PATH and in the usual places, and what one is known by.

Paths are made absolute but symlinks are kept: it is the path by which a virtual environment's python
knows that it belongs there.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from ..errors import InterpreterError

Key: TypeAlias = "tuple[object, ...]"


def _path_folders() -> list[str]:
    return [absolute(folder) for folder in os.get_exec_path() if folder]


def on_path(names: Iterable[str]) -> Iterator[str]:
    """Yield the commands of these names on PATH, all of the first name first."""
    for name in names:
        for folder in _path_folders():
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                yield path


def path_entries() -> Iterator[str]:
    """Yield all on PATH that is named as an interpreter is."""
    for folder in dict.fromkeys(_path_folders()):
        yield from _pythons_in(folder)


def _pythons_in(pattern: str) -> Iterator[str]:
    """Yield the files named as an interpreter is in the folders that match `pattern`."""
    for path in sorted(glob.glob(os.path.join(pattern, "python*"))):
        if re.fullmatch(r"python(3(\.\d+)?t?)?", os.path.basename(path)) and os.access(path, os.X_OK):
            yield path


def usual_places(version: tuple[int, ...] = ()) -> Iterator[str]:
    """Yield what may be an interpreter in the places where installers put them.

    version: leave out what by its path is of another one.
    """
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    pyenv = os.environ.get("PYENV_ROOT") or f"{home}/.pyenv"
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python"
    number = ".".join(map(str, version)) + "*" if version else "3.*"
    minor = ".".join(map(str, version[:2])) + "*" if version else "3.*"
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/*/bin", f"{home}/.local/bin", "/opt/homebrew/bin"):
        yield from _pythons_in(folder)
    for pattern in (
        f"{pyenv}/versions/{number}/bin/python",
        f"{uv}/cpython-{number}/bin/python",
        f"{home}/.asdf/installs/python/{number}/bin/python",
        f"{data}/mise/installs/python/{number}/bin/python",
        f"/Library/Frameworks/Python.framework/Versions/{minor}/bin/python3",
        f"/opt/homebrew/opt/python@{minor}/bin/python3.*",
        f"/usr/local/opt/python@{minor}/bin/python3.*",
    ):
        yield from sorted(path for path in glob.glob(pattern) if not path.endswith("-config"))
    roots = [os.environ.get("CONDA_PREFIX") or "", "/opt/conda"]
    roots += [f"{home}/{name}" for name in ("miniconda3", "anaconda3", "miniforge3", "mambaforge")]
    for root in roots:
        if root:
            yield from glob.glob(f"{glob.escape(root)}/bin/python")
            yield from sorted(glob.glob(f"{glob.escape(root)}/envs/*/bin/python"))
    yield from sorted(glob.glob(f"{home}/.conda/envs/*/bin/python"))


def current_folder() -> str | None:
    """Return the current directory, or None if it is gone."""
    try:
        return os.getcwd()
    except OSError:  # removed under us
        return None


def absolute(path: str) -> str:
    """Return `path` made absolute, or raise InterpreterError if the current directory is gone."""
    if not os.path.isabs(path):
        here = current_folder()
        if here is None:
            raise InterpreterError(
                f"{path!r} is relative and the current directory is gone: name an absolute path", python=path
            )
        path = os.path.join(here, path)
    # "link/.." is not the folder of the link: only the kernel may resolve that.
    return path if os.pardir in path.split(os.sep) else os.path.normpath(path)


def is_script(path: str) -> bool:
    """Whether the file begins with `#!`: a version manager's shim, maybe."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def key_of(path: str) -> Key:
    """Return what the file at `path` is known by, or raise InterpreterError if it cannot be run."""

    def bad(why: str) -> InterpreterError:
        return InterpreterError(f"no Python interpreter at {path!r}: {why}", python=path)

    try:
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise bad(f"it is a broken link to {os.readlink(path)!r}") from None
        raise bad("there is no such file") from None
    except OSError as error:
        raise bad(error.strerror or str(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise bad("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise bad("it is not a regular file")
    if not os.access(path, os.X_OK):
        raise bad("it is not executable")
    key = (path, status.st_mtime_ns, status.st_size, status.st_ino)
    # What a script runs may depend on where, and on what a version manager is told.
    return (*key, current_folder(), os.environ.get("PYENV_VERSION")) if _is_known_script(key) else key


@functools.lru_cache(64)
def _is_known_script(key: tuple[str, int, int, int]) -> bool:
    return is_script(key[0])
