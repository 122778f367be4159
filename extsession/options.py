"""What a caller chooses: frozen values, checked when they are made."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
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
