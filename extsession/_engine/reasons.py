"""Why something ended, as an error that says so."""

from __future__ import annotations

from .._launch.base import ExitReport
from ..errors import CallTimeout, LaunchError, LimitExceeded, SessionDied
from .call import Call
from .limits import Breach


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


#: limit -> what it is about, and its unit
_LIMITS = {
    "wall": ("ran", "s"),
    "cpu": ("used CPU time of", "s"),
    "output": ("printed", "bytes"),
    "memory": ("held", "bytes of memory"),
    "processes": ("had", "processes and threads"),
    "file_size": ("wrote a file of", "bytes"),
    "session_wall": ("lived for", "s"),
    "session_cpu": ("used CPU time of", "s"),
    "idle": ("was idle for", "s"),
}


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def broken(breach: Breach) -> str:
    """A limit that was broken, in words."""
    what, unit = _LIMITS[breach.limit]
    return (
        f"over limit: {breach.limit}: it {what} {_number(breach.reached)} {unit}, "
        f"where {_number(breach.allowed)} are allowed"
    )


def over_limit(call: Call, breach: Breach, survived: bool, recovered: bool = False) -> LimitExceeded:
    """A call that has broken a limit."""
    text = f"call {call.number} {broken(breach)}"
    if recovered:
        text += "; its process was ended, and the session is what it was before"
    elif not survived:
        text += "; its session was ended"
    return LimitExceeded(
        text, limit=breach.limit, allowed=breach.allowed, reached=breach.reached, survived=survived
    )


def not_held(python: str, name: str, value: float, why: str) -> LaunchError:
    """A limit that nobody can hold here."""
    return LaunchError(f"Limits.{name}={value!r} cannot be held here: {why}", python=python)


def died(
    report: ExitReport,
    running: Call | None,
    by_user: bool,
    recovered: bool = False,
    unprotected: str = "",
    breach: Breach | None = None,
) -> SessionDied:
    """A session that has ended. running: the call it was in.

    recovered: the session goes on from its checkpoint; unprotected: why it has none, where it should; breach: the
    limit that ended it.
    """
    text = f"the session {'was ended by its user' if by_user else 'has ended'} ({report})"
    stderr = None
    if running is not None:
        stderr = running.output.joined("stderr")[-4096:].decode("utf-8", "replace")
        text += f" in call {running.number}"
    if breach is not None:
        text += f", {broken(breach)}"
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
        limit=None if breach is None else breach.limit,
    )
