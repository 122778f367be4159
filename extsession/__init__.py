"""Persistent Python sessions in other processes.

    >>> from extsession import ExtSession
    >>> with ExtSession() as session:
    ...     session.execute("x = 6 * 7").wait().completion.ok
    ...     session["x"]
    True
    42
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
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
    from ._engine.ansi import without_escapes
    from ._engine.command import StopAction, StopCause, StopTimes
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
    from ._launch.command import CommandSpec, WarmPython
    from ._protocol.census import Census, Finding
    from ._protocol.records import ErrorInfo
    from ._sync.command import RunningCommand
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

__version__ = "0.1.0"

# Where each public name is. Nothing is imported before it is used: every pytest imports the plugin for it, and a
# program that wants one of them does not pay for all. tests/test_imports.py holds this to what stands above.
_NAMES = {
    "._engine.ansi": ("without_escapes",),
    "._engine.command": ("StopAction", "StopCause", "StopTimes"),
    "._engine.completion": ("Completion", "Outcome", "SessionState", "Step", "Usage"),
    "._engine.core": ("Statistics",),
    "._engine.host": ("HostReport", "TierReport", "host_report"),
    "._engine.limits": ("InForce",),
    "._engine.output": ("OutputChunk", "RichOutput"),
    "._engine.pool": ("PoolStatistics",),
    "._engine.script": ("OverBudget", "ScriptLimits", "ScriptOutcome", "ScriptProblem", "ScriptStatus"),
    "._engine.shelf": ("Checkpoint",),
    "._engine.usage": ("SessionUsage",),
    "._engine.walls": ("Walls",),
    "._engine.warm": ("TemplateInfo", "templates", "warm_up"),
    "._launch.command": ("CommandSpec", "WarmPython"),
    "._protocol.census": ("Census", "Finding"),
    "._protocol.records": ("ErrorInfo",),
    "._sync.command": ("RunningCommand",),
    "._sync.oneshot": ("ExecResult", "ExtEval", "exteval", "extexec"),
    "._sync.pool": ("SessionPool",),
    "._sync.results": ("ExtResults",),
    "._sync.script": ("Script", "ScriptRunner", "run_script"),
    "._sync.session": ("ExtSession",),
    "._worker.session": ("Session",),
    ".errors": (
        "CallCancelled",
        "CallTimeout",
        "CheckpointGone",
        "ExtSessionError",
        "ForkRefused",
        "IncompleteSource",
        "InterpreterError",
        "IsolationUnavailable",
        "Killer",
        "LaunchError",
        "LimitExceeded",
        "NotReady",
        "PoolTimeout",
        "ProtocolError",
        "RemoteError",
        "ScriptError",
        "ScriptRejected",
        "SessionClosed",
        "SessionDied",
        "ValueRefused",
    ),
    ".options": ("PIPE", "Display", "Isolation", "Ladder", "Limits"),
    "._aio": (
        "AsyncExtEval",
        "AsyncExtResults",
        "AsyncExtSession",
        "AsyncScriptRunner",
        "AsyncSessionPool",
        "async_exteval",
        "async_extexec",
        "async_run_script",
    ),
}

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
    "without_escapes",
]


_WHERE = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module(".errors", __name__)
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_WHERE[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
