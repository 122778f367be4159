"""The environment and the directory of a command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from .request import ExecuteRequest

#: names worth passing on: `pass_env=[*DEFAULT_PASS_ENV, "MY_*"]`
DEFAULT_PASS_ENV: Final = (
    # proxies
    "https_proxy",
    "http_proxy",
    "no_proxy",
    # languages
    "LANG",
    "LANGUAGE",
    # certificates
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    # compilers
    "CC",
    "CFLAGS",
    "CCSHARED",
    "CXX",
    "CPPFLAGS",
    "LD_LIBRARY_PATH",
    "LDFLAGS",
    # the user
    "HOME",
    "NETRC",
    "TMPDIR",
    # colours
    "FORCE_COLOR",
    "NO_COLOR",
    "PYTHON_GIL",
    # keys
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "NIX_LD",
    "NIX_LD_LIBRARY_PATH",
)


def create_execution_env(
    base: Mapping[str, str] | None = None,
    *,
    set_env: Mapping[str, str] | None = None,
    pass_env: Iterable[str] | None = None,
    disallow_pass_env: Iterable[str] = (),
    path_prepend: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, str]:
    """A new environment made of `base` (None: this process's), which is left as it is.

    pass_env: glob patterns, in any case, of the names to keep; None: all. disallow_pass_env: of those to leave out
    after that. set_env: is laid over, whatever the patterns say. path_prepend: entries that come first in `PATH`.
    `PATH` is always there, also where no pattern names it; an entry that comes twice is there once, the first time.

    TypeError: the patterns are one text.
    """
    source = dict(os.environ if base is None else base)
    kept = None if pass_env is None else _patterns(pass_env, "pass_env")
    dropped = _patterns(disallow_pass_env, "disallow_pass_env")
    found = {
        name: value
        for name, value in source.items()
        if (kept is None or _matches(name, kept)) and not _matches(name, dropped)
    }
    laid = dict(set_env or {})
    found.update(laid)
    path = laid.get("PATH", source.get("PATH"))
    entries = [os.fspath(each) for each in path_prepend]
    if path is None:
        entries += os.defpath.split(os.pathsep)
    elif path:
        entries += path.split(os.pathsep)
    found["PATH"] = os.pathsep.join(dict.fromkeys(entries)) if path_prepend or not path else path
    return found


def determine_working_dir(
    request: ExecuteRequest,
    change_dir: str | os.PathLike[str] | None = None,
    default: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Path:
    """Where a request is to run: its own `cwd`, else `change_dir`, else `default`, else the current directory.

    root: what a relative `change_dir` is relative to; None: the current directory. Nothing is created.
    """
    if request.cwd is not None:
        return request.cwd
    if change_dir is not None:
        return (Path.cwd() if root is None else Path(root)) / change_dir
    return Path.cwd() if default is None else Path(default)


def _patterns(given: Iterable[str], name: str) -> list[str]:
    if isinstance(given, (str, bytes)):
        raise TypeError(f"{name} takes a list of patterns, as ['LANG', 'MY_*'], not {given!r}")
    return [each.upper() for each in given]


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name.upper(), pattern) for pattern in patterns)
