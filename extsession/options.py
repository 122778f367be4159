"""What a caller chooses: frozen values, checked when they are made."""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

#: `execute(stdin=PIPE)`: the code's input waits for `writeline()` until `close_stdin()`
PIPE: Final = "PIPE"

#: bytes of output kept for each call, both streams together, where nothing else is said
OUTPUT_LIMIT: Final = 64 * 2**20


@dataclass(frozen=True)
class Ladder:
    """How long a call that is to end is given at each step before the next one is taken.

    interrupt: seconds after the interrupt before SIGTERM; terminate: seconds after SIGTERM before SIGKILL of all.
    """

    interrupt: float = 2.0
    terminate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("interrupt", "terminate"):
            seconds(getattr(self, name), f"Ladder.{name}")


#: fewest descriptors that `Limits.open_files` may leave: some are the session's own
FEWEST_FILES: Final = 32


@dataclass(frozen=True)
class Limits:
    """What a session and all that it starts may use; None: no limit. See docs/limits.md for who holds which.

    Of each call: wall, cpu: seconds, the latter of all processes together; output: bytes that it may print, which ends
    it, where `output_limit` only says how much of it is kept.
    Of the session: session_wall, session_cpu: seconds since it was there; idle: seconds without a call, after which it
    is ended; memory: bytes that all its processes hold together; processes: processes and threads together, its own
    included.
    Of each process: open_files: descriptors, about ten of the session's own included; file_size: bytes of a file.
    """

    wall: float | None = None
    cpu: float | None = None
    session_wall: float | None = None
    session_cpu: float | None = None
    memory: int | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | None = None
    output: int | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        for each in ("wall", "cpu", "session_wall", "session_cpu", "idle"):
            value = optional_seconds(getattr(self, each), f"Limits.{each}")
            if value == 0:
                raise ValueError(f"Limits.{each} takes seconds above 0, not {getattr(self, each)!r}")
            object.__setattr__(self, each, value)
        for each, least in _LEAST.items():
            value = getattr(self, each)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Limits.{each} takes a whole number, not {value!r}")
            if not least <= value < 2**63:
                raise ValueError(f"Limits.{each} takes a number from {least} up, not {value!r}")

    def given(self) -> dict[str, float]:
        """Those that are set."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


_LEAST = {"memory": 1, "processes": 1, "open_files": FEWEST_FILES, "file_size": 0, "output": 0}


class Display(enum.Enum):
    """What becomes of the value of the last expression of a call."""

    NONE = "none"
    REPR = "repr"
    MIME = "mime"


def seconds(value: Any, name: str) -> float:
    """`value` as seconds; TypeError or ValueError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} takes seconds as a number, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} takes seconds from 0 up, not {value!r}")
    return float(value)


def optional_seconds(value: Any, name: str) -> float | None:
    """As `seconds`; None and infinity mean that there is no end."""
    if value is None:
        return None
    number = seconds(value, name)
    return None if math.isinf(number) else number


NO_LIMITS: Final = Limits()

#: what an isolated session may use where nothing else is said: always something
ISOLATED_LIMITS: Final = Limits(
    wall=60.0, cpu=60.0, memory=512 * 2**20, processes=64, open_files=256, file_size=64 * 2**20, output=16 * 2**20
)


@dataclass(frozen=True)
class Isolation:
    """Walls around a session: what its code can see and do of this machine. Linux. See docs/security.md.

    tier: the least that is acceptable, "full", "bwrap" (in bubblewrap, where our own process may make no namespaces) or
    "weak"; the best there is is taken, and where the host does not allow it, the session is refused with
    IsolationUnavailable. network: it has the host's network; loopback: sockets inside of the session. read: files and
    folders of the host that it may read, besides the system's, the interpreter's and what is on its `sys.path`.
    work_size, work_inodes: bytes and files that its work directory holds. env: environment variables, besides a short
    clean set; nothing is inherited. uid: the user of the host that it runs as, where the caller is root.
    """

    tier: str = "full"
    network: bool = False
    loopback: bool = False
    read: tuple[str, ...] = ()
    work_size: int = 64 * 2**20
    work_inodes: int = 16384
    env: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = None

    def __post_init__(self) -> None:
        if self.tier not in ("full", "bwrap", "weak"):
            raise ValueError(f"Isolation.tier takes 'full', 'bwrap' or 'weak', not {self.tier!r}")
        for each in ("network", "loopback"):
            if not isinstance(getattr(self, each), bool):
                raise TypeError(f"Isolation.{each} takes a bool, not {getattr(self, each)!r}")
        if isinstance(self.read, (str, bytes)):
            raise TypeError(f"Isolation.read takes a list of paths, not the one path {self.read!r}")
        paths = tuple(os.fspath(path) for path in self.read)
        for path in paths:
            if not isinstance(path, str) or not os.path.isabs(path) or os.path.realpath(path) == "/":
                raise ValueError(f"Isolation.read takes absolute paths below the root, not {path!r}")
            if not os.path.exists(path):
                raise ValueError(f"Isolation.read: there is no {path!r}")
        object.__setattr__(self, "read", paths)
        for each, least in (("work_size", 4096), ("work_inodes", 16), ("uid", 1)):
            value = getattr(self, each)
            if each == "uid" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Isolation.{each} takes a whole number, not {value!r}")
            if not least <= value < 2**63:
                raise ValueError(f"Isolation.{each} takes a number from {least} up, not {value!r}")
        for name, text in dict(self.env).items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise TypeError(f"Isolation.env takes str to str, not {name!r}: {text!r}")
            if not name or "=" in name or "\0" in name + text:
                raise ValueError(f"Isolation.env: there can be no variable {name!r} with {text!r}")
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))

    def __hash__(self) -> int:
        return hash((self.tier, self.network, self.loopback, self.read, self.work_size, self.uid))

    def __reduce__(self) -> Any:
        return _isolation, ({each.name: getattr(self, each.name) for each in fields(self)} | {"env": dict(self.env)},)


def _isolation(given: dict[str, Any]) -> Isolation:
    return Isolation(**given)


def limits_of_isolated(limits: Limits) -> Limits:
    """With all that is not said as it is where nothing is."""
    return Limits(**{**ISOLATED_LIMITS.given(), **limits.given()})  # type: ignore[arg-type]
