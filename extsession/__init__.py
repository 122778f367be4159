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

from . import errors
from ._engine.completion import Completion, Outcome, SessionState, Step, Usage
from ._engine.core import Statistics
from ._engine.host import HostReport, TierReport, host_report
from ._engine.limits import InForce
from ._engine.output import OutputChunk, RichOutput
from ._engine.pool import PoolStatistics
from ._engine.shelf import Checkpoint
from ._engine.usage import SessionUsage
from ._engine.walls import Walls
from ._engine.warm import TemplateInfo, templates, warm_up
from ._protocol.census import Census, Finding
from ._protocol.records import ErrorInfo
from ._sync.oneshot import ExecResult, ExtEval, exteval, extexec
from ._sync.pool import SessionPool
from ._sync.results import ExtResults
from ._sync.session import ExtSession
from ._worker.session import Session
from .errors import (
    CallCancelled,
    CallTimeout,
    CheckpointGone,
    ExtSessionError,
    ForkRefused,
    InterpreterError,
    IsolationUnavailable,
    Killer,
    LaunchError,
    LimitExceeded,
    NotReady,
    PoolTimeout,
    ProtocolError,
    RemoteError,
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
        AsyncSessionPool,
        async_exteval,
        async_extexec,
    )

__version__ = "0.1.0"

_ASYNC = (
    "AsyncExtEval",
    "AsyncExtResults",
    "AsyncExtSession",
    "AsyncSessionPool",
    "async_exteval",
    "async_extexec",
)

__all__ = [
    "PIPE",
    "AsyncExtEval",
    "AsyncExtResults",
    "AsyncExtSession",
    "AsyncSessionPool",
    "CallCancelled",
    "CallTimeout",
    "Census",
    "Checkpoint",
    "CheckpointGone",
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
    "PoolStatistics",
    "PoolTimeout",
    "ProtocolError",
    "RemoteError",
    "RichOutput",
    "Session",
    "SessionClosed",
    "SessionDied",
    "SessionPool",
    "SessionState",
    "SessionUsage",
    "Statistics",
    "Step",
    "TemplateInfo",
    "TierReport",
    "Usage",
    "ValueRefused",
    "Walls",
    "async_exteval",
    "async_extexec",
    "errors",
    "exteval",
    "extexec",
    "host_report",
    "templates",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name in _ASYNC:  # anyio is imported by those who use it only
        from . import _aio

        return getattr(_aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
