"""Run commands the way a test tool needs it: a request in, output while it runs, an outcome out.

Lives here: what a command is (`request`, `redact`), what came of it (`api`, `errors`), where and with what environment
it runs (`environment`, `lookup`), how it is shown and kept (`show`, `text`, `records`), and who runs it
(`local_sub_process` with `local_status`, `aio`, `session`). The names are those of tox's execution system. See
docs/execute.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .api import Execute, ExecuteStatus, Outcome
from .environment import DEFAULT_PASS_ENV, create_execution_env, determine_working_dir
from .errors import CommandNotAllowedError, CommandNotFoundError, ExecuteError, InterruptError, LimitError, TimeoutError
from .local_sub_process import LocalSubProcessExecute
from .redact import shell_cmd
from .request import ExecuteRequest, StdinSource
from .session import SessionExecute

if TYPE_CHECKING:
    from .aio import AsyncExecuteStatus, AsyncLocalSubProcessExecute, AsyncSessionExecute

_ASYNC = ("AsyncExecuteStatus", "AsyncLocalSubProcessExecute", "AsyncSessionExecute")

__all__ = [
    "DEFAULT_PASS_ENV",
    "AsyncExecuteStatus",
    "AsyncLocalSubProcessExecute",
    "AsyncSessionExecute",
    "CommandNotAllowedError",
    "CommandNotFoundError",
    "Execute",
    "ExecuteError",
    "ExecuteRequest",
    "ExecuteStatus",
    "InterruptError",
    "LimitError",
    "LocalSubProcessExecute",
    "Outcome",
    "SessionExecute",
    "StdinSource",
    "TimeoutError",
    "create_execution_env",
    "determine_working_dir",
    "shell_cmd",
]


def __getattr__(name: str) -> Any:
    if name in _ASYNC:  # anyio is imported by those who use it only
        from . import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
