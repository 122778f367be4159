"""Why a command has no ordinary outcome.

Not in `extsession.errors`, for the name of one of them is that of a built-in error.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from .. import ExtSessionError

if TYPE_CHECKING:
    from .api import ExecuteStatus
    from .request import ExecuteRequest


class ExecuteError(ExtSessionError):
    """A command could not be run, or not to its end.

    request: what was to be run; status: how it went, with all output so far; errno: of the system's error that kept it
    from starting, None for other reasons.
    """

    _facts: tuple[str, ...] = ("request", "status", "errno")
    request: ExecuteRequest | None
    status: ExecuteStatus | None
    errno: int | None


class CommandNotFoundError(ExecuteError):
    """The program, or the interpreter that its first line names, is not there."""


class CommandNotAllowedError(ExecuteError):
    """The program is none of those that the request allows."""


class TimeoutError(ExecuteError, builtins.TimeoutError):
    """The command ran longer than it may, and was stopped. timeout: seconds."""

    _facts = ("request", "status", "errno", "timeout")
    timeout: float | None


class LimitError(ExecuteError):
    """The command was killed because of a limit. limit: its name in `Limits`; allowed, reached: values in its unit."""

    _facts = ("request", "status", "errno", "limit", "allowed", "reached")
    limit: str | None
    allowed: float | None
    reached: float | None


class InterruptError(ExecuteError):
    """The command was stopped by `interrupt()` or `terminate()`."""
