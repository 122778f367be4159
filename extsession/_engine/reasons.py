"""Why something ended, as an error that says so."""

from __future__ import annotations

from .._launch.base import ExitReport
from ..errors import CallTimeout, LaunchError, SessionDied
from .call import Call


def not_started(python: str, command: list[str], what: str, printed: str) -> LaunchError:
    """An interpreter that did not become a session."""
    return LaunchError(
        f"{python} did not become a session: it {what}; it printed: {printed!r}",
        python=python,
        command=command,
        stderr=printed,
    )


def timed_out(call: Call, wall: float | None, survived: bool, recovered: bool = False) -> CallTimeout:
    """A call that ran longer than its timeout. wall: how long, if it came to an end."""
    end = "its session was ended" if not recovered else "its process was ended, and the session is what it was before"
    return CallTimeout(
        f"call {call.number} ran longer than its timeout of {call.timeout} s"
        + ("" if survived and not recovered else f"; it did not react, so {end}"),
        allowed=call.timeout,
        reached=max(wall or 0.0, call.timeout or 0.0),  # its own clock starts a moment after ours
        survived=survived,
    )


def died(
    report: ExitReport, running: Call | None, by_user: bool, recovered: bool = False, unprotected: str = ""
) -> SessionDied:
    """A session that has ended. running: the call it was in.

    recovered: the session goes on from its checkpoint; unprotected: why it has none, where it should.
    """
    text = f"the session {'was ended by its user' if by_user else 'has ended'} ({report})"
    stderr = None
    if running is not None:
        stderr = running.output.joined("stderr")[-4096:].decode("utf-8", "replace")
        text += f" in call {running.number}"
    if recovered:
        text += "; it goes on with the state from before"
    if unprotected:
        text += f"; it had no checkpoint to go back to: {unprotected}"
    if running is not None:
        if stderr:
            text += f"; the last on its stderr:\n{stderr[-1000:]}"
    return SessionDied(
        text,
        exit_code=report.exit_code,
        signal=report.signal_name,
        running=None if running is None else running.label,
        stderr=stderr,
    )
