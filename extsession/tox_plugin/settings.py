"""What the configuration of an environment says about how its commands are run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tox.tox_env.api import ToxEnv
from tox.tox_env.errors import Fail

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: of a command with all that it starts; less than this is a unit that was forgotten
_LEAST_MEMORY: Final = 2**20


@dataclass(frozen=True)
class WarmSettings:
    """Where the environment's Python is, and what a warm one imports first. site: its site-packages."""

    python: Path
    bin: Path
    site: Path
    preload: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """timeout: seconds for each command; memory: bytes; None: no end. has_stdin: commands may read tox's own stdin.
    warm: None: every command is a new process.
    """

    timeout: float | None = None
    memory: int | None = None
    has_stdin: bool = True
    warm: WarmSettings | None = None


def read(tox_env: ToxEnv) -> Settings:
    """Those of an environment. Fail: a value that makes no sense."""
    conf = tox_env.conf
    timeout = conf["extsession_timeout"]
    if timeout is not None and not (0 < timeout < math.inf):
        raise Fail(f"extsession_timeout takes seconds, more than 0, not {timeout}")
    warm = None
    if conf["extsession_warm"] or getattr(tox_env.options, "extsession_warm", False):
        warm = _warm(tox_env)
    return Settings(
        timeout=timeout, memory=_memory(conf["extsession_memory"]), has_stdin=conf["extsession_stdin"], warm=warm
    )


def _warm(tox_env: ToxEnv) -> WarmSettings | None:
    """None: it is no environment with a Python of its own."""
    conf = tox_env.conf
    if not all(name in conf for name in ("env_python", "env_bin_dir", "env_site_packages_dir")):
        return None
    preload = tuple(name for name in conf["extsession_preload"] if name)
    for name in preload:
        if not all(part.isidentifier() for part in name.split(".")):
            raise Fail(f"extsession_preload takes names of modules, not {name!r}")
    return WarmSettings(
        python=Path(conf["env_python"]),
        bin=Path(conf["env_bin_dir"]),
        site=Path(conf["env_site_packages_dir"]),
        preload=preload,
    )


def _memory(text: str) -> int | None:
    if not text.strip():
        return None
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < _LEAST_MEMORY:
        raise Fail(f"extsession_memory takes a size of 1M at least, as 512M or 2G, not {text!r}")
    return size
