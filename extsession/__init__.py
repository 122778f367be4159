"""Persistent Python sessions in other processes.

    >>> from extsession import ExtSession
    >>> with ExtSession() as session:
    ...     session.execute("x = 6 * 7").wait().completion.ok
    ...     session["x"]
    True
    42
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import errors
from ._engine.completion import Completion, Outcome, SessionState, Step, Usage
from ._engine.core import Statistics
from ._engine.host import HostReport, TierReport, host_report
from ._engine.limits import InForce
from ._engine.output import OutputChunk, RichOutput
from ._engine.pool import PoolStatistics
from ._engine.script import OverBudget, ScriptLimits, ScriptOutcome, ScriptProblem, ScriptStatus
from ._engine.shelf import Checkpoint
from ._engine.usage import SessionUsage
from ._engine.walls import Walls
from ._engine.warm import TemplateInfo, templates, warm_up
from ._protocol.census import Census, Finding
from ._protocol.records import ErrorInfo
from ._sync.oneshot import ExecResult, ExtEval, exteval, extexec
from ._sync.pool import SessionPool
from ._sync.results import ExtResults
from ._sync.script import Script, ScriptRunner, run_script
from ._sync.session import ExtSession
from ._worker.session import Session
from .errors import (
    CallCancelled,
    CallTimeout,
    CheckpointGone,
    ExtSessionError,
    ForkRefused,
    IncompleteSource,
    InterpreterError,
    IsolationUnavailable,
    Killer,
    LaunchError,
    LimitExceeded,
    NotReady,
    PoolTimeout,
    ProtocolError,
    RemoteError,
    ScriptError,
    ScriptRejected,
    SessionClosed,
    SessionDied,
    ValueRefused,
)
from .options import PIPE, Display, Isolation, Ladder, Limits

if TYPE_CHECKING:
    from ._aio import (
        AsyncExtEval,
        AsyncExtResults,
        AsyncExtSession,
        AsyncScriptRunner,
        AsyncSessionPool,
        async_exteval,
        async_extexec,
        async_run_script,
    )
    from ._engine.command import Action as StopAction
    from ._engine.command import Cause as StopCause
    from ._engine.command import StopTimes
    from ._launch.command import CommandSpec, WarmPython
    from ._sync.command import RunningCommand

__version__ = "0.1.0"

#: name -> the module that has it, and its name there: what is imported by those who use it only
_COMMANDS = {
    "CommandSpec": ("_launch.command", "CommandSpec"),
    "RunningCommand": ("_sync.command", "RunningCommand"),
    "StopAction": ("_engine.command", "Action"),
    "StopCause": ("_engine.command", "Cause"),
    "StopTimes": ("_engine.command", "StopTimes"),
    "WarmPython": ("_launch.command", "WarmPython"),
}
_ASYNC = (
    "AsyncExtEval",
    "AsyncExtResults",
    "AsyncExtSession",
    "AsyncScriptRunner",
    "AsyncSessionPool",
    "async_exteval",
    "async_extexec",
    "async_run_script",
)

__all__ = [
    "PIPE",
    "AsyncExtEval",
    "AsyncExtResults",
    "AsyncExtSession",
    "AsyncScriptRunner",
    "AsyncSessionPool",
    "CallCancelled",
    "CallTimeout",
    "Census",
    "Checkpoint",
    "CheckpointGone",
    "CommandSpec",
    "Completion",
    "Display",
    "ErrorInfo",
    "ExecResult",
    "ExtEval",
    "ExtResults",
    "ExtSession",
    "ExtSessionError",
    "Finding",
    "ForkRefused",
    "HostReport",
    "InForce",
    "IncompleteSource",
    "InterpreterError",
    "Isolation",
    "IsolationUnavailable",
    "Killer",
    "Ladder",
    "LaunchError",
    "LimitExceeded",
    "Limits",
    "NotReady",
    "Outcome",
    "OutputChunk",
    "OverBudget",
    "PoolStatistics",
    "PoolTimeout",
    "ProtocolError",
    "RemoteError",
    "RichOutput",
    "RunningCommand",
    "Script",
    "ScriptError",
    "ScriptLimits",
    "ScriptOutcome",
    "ScriptProblem",
    "ScriptRejected",
    "ScriptRunner",
    "ScriptStatus",
    "Session",
    "SessionClosed",
    "SessionDied",
    "SessionPool",
    "SessionState",
    "SessionUsage",
    "Statistics",
    "Step",
    "StopAction",
    "StopCause",
    "StopTimes",
    "TemplateInfo",
    "TierReport",
    "Usage",
    "ValueRefused",
    "Walls",
    "WarmPython",
    "async_exteval",
    "async_extexec",
    "async_run_script",
    "errors",
    "exteval",
    "extexec",
    "host_report",
    "run_script",
    "templates",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name in _ASYNC:  # anyio is imported by those who use it only
        from . import _aio

        return getattr(_aio, name)
    if name in _COMMANDS:
        module, there = _COMMANDS[name]
        return getattr(importlib.import_module(f"{__name__}.{module}"), there)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
