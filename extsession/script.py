"""Locked-down scripts of an application's own users, with a budget that is the same on every machine.

Nothing here parses a script: that is done in an isolated session. See docs/scripting.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import (
    OverBudget,
    Script,
    ScriptError,
    ScriptLimits,
    ScriptOutcome,
    ScriptProblem,
    ScriptRejected,
    ScriptRunner,
    ScriptStatus,
    run_script,
)

if TYPE_CHECKING:
    from . import AsyncScriptRunner, async_run_script

__all__ = [
    "AsyncScriptRunner",
    "OverBudget",
    "Script",
    "ScriptError",
    "ScriptLimits",
    "ScriptOutcome",
    "ScriptProblem",
    "ScriptRejected",
    "ScriptRunner",
    "ScriptStatus",
    "async_run_script",
    "run_script",
]


def __getattr__(name: str) -> Any:
    if name in ("AsyncScriptRunner", "async_run_script"):  # anyio is imported by those who use it only
        import extsession

        return getattr(extsession, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
