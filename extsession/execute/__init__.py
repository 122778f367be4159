"""Run commands the way a test tool needs it: a request in, output while it runs, an outcome out.

Lives here: what a command is (`request`, `redact`), what came of it (`api`, `errors`), where and with what environment
it runs (`environment`, `lookup`), how it is shown (`show`), and who runs it (`local_sub_process`, `aio`, `session`).
The names are those of tox's execution system. See docs/execute.md.
"""

from __future__ import annotations

from .api import Execute, ExecuteStatus, Outcome
from .environment import DEFAULT_PASS_ENV, create_execution_env, determine_working_dir
from .errors import CommandNotAllowedError, CommandNotFoundError, ExecuteError, InterruptError, TimeoutError
from .local_sub_process import LocalSubProcessExecute
from .redact import shell_cmd
from .request import ExecuteRequest, StdinSource
from .session import SessionExecute

__all__ = [
    "DEFAULT_PASS_ENV",
    "CommandNotAllowedError",
    "CommandNotFoundError",
    "Execute",
    "ExecuteError",
    "ExecuteRequest",
    "ExecuteStatus",
    "InterruptError",
    "LocalSubProcessExecute",
    "Outcome",
    "SessionExecute",
    "StdinSource",
    "TimeoutError",
    "create_execution_env",
    "determine_working_dir",
    "shell_cmd",
]
