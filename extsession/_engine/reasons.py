"""Why something ended, as an error that says so."""

from __future__ import annotations

import re
from typing import Final

from .._launch.base import ExitReport
from ..errors import CallTimeout, Killer, LaunchError, LimitExceeded, SessionDied
from .call import Call
from .completion import broken, how_it_ended
from .limits import Breach
from .said import Said


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


def over_limit(call: Call, breach: Breach, survived: bool, recovered: bool = False) -> LimitExceeded:
    """A call that has broken a limit."""
    text = f"call {call.number} over limit: {broken(*breach)}"
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


#: signals that a process gets for what it does
CRASHES: Final = frozenset(["SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS", "SIGTRAP"])
#: the line that faulthandler begins with, see Python/pylifecycle.c and Modules/faulthandler.c
_FATAL: Final = b"Fatal Python error: "
#: frames of ours, and what began them
_OURS: Final = re.compile(r'  File ".*extsession>?[/\\]_worker[./\\]\w+\.py"')
_STAGE_0: Final = '  File "<string>", line '


def died(
    report: ExitReport,
    killer: Killer | None,
    running: Call | None,
    said: Said,
    recovered: bool = False,
    unprotected: str = "",
    breach: Breach | None = None,
    incarnation: int = 1,
) -> SessionDied:
    """A session that has ended. running: the call it was in; said: the last on its stderr.

    recovered: the session goes on from its checkpoint; unprotected: why it has none, where it should; breach: the
    limit that ended it.
    """
    if report.why:
        text = f"the session has ended ({report.why})"
    else:
        text = how_it_ended(killer, report.signal_name, report.exit_code).replace("its session", "the session", 1)
    stderr = said.in_call[-4096:].decode("utf-8", "replace")
    if running is not None:
        text += f" in call {running.number}"
    if breach is not None:
        text += f", over limit: {broken(*breach)}"
    if recovered:
        text += "; it goes on with the state from before"
    if unprotected:
        text += f"; it had no checkpoint to go back to: {unprotected}"
    if stderr:
        text += f"; the last on its stderr:\n{stderr[-1000:]}"
    return SessionDied(
        text,
        exit_code=report.exit_code,
        signal=report.signal_name,
        running=None if running is None else running.label,
        stderr=stderr,
        limit=None if breach is None else breach.limit,
        killer=killer,
        traceback=traceback_in(said.in_both) if killer is Killer.CRASH else None,
        survived=recovered,
        incarnation=incarnation,
    )


def traceback_in(printed: bytes) -> str | None:
    """What faulthandler has printed, at the end of what was printed on stderr."""
    at = printed.rfind(b"\n" + _FATAL) + 1
    if not at and not printed.startswith(_FATAL):
        return None
    found = []
    is_ours = False
    for line in printed[at:].decode("utf-8", "replace").splitlines():
        is_ours = bool(_OURS.match(line)) or (is_ours and line.startswith(_STAGE_0))
        if not is_ours:
            found.append(line)
    return "\n".join(found) + "\n"
