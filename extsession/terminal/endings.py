"""How calls and programs have ended, as values and errors."""

from __future__ import annotations

import time

from .._engine import ansi
from .._engine.completion import Completion, Outcome, how_it_ended
from .._launch.base import ExitReport
from ..errors import CallTimeout, ExtSessionError, IncompleteSource, Killer, SessionDied
from .results import Call


def last_words(call: Call, report: ExitReport, killer: Killer | None, error: ExtSessionError) -> Completion:
    """How the call ended that the program did not survive."""
    if call.cause is not None:
        outcome = call.cause
    elif killer is Killer.CALLER:
        outcome = Outcome.KILLED
    elif call.is_unfinished:
        outcome = Outcome.FAILED
    else:
        outcome = Outcome.LOST if report.exit_code is None else Outcome.EXITED
    completion = Completion(
        call.number,
        outcome,
        survived=False,
        exit_code=report.exit_code,
        signal=report.signal_name,
        steps=call.steps,
        killer=killer,
    )
    call.error = error
    if outcome is Outcome.FAILED:
        text = f"the source of call {call.number} is not complete, and there was no way out: its session is over"
        call.error = IncompleteSource(text, source=call.source)
    if outcome is Outcome.TIMED_OUT:
        reached = max(time.monotonic() - call.began, call.timeout or 0.0)
        completion = completion._replace(limit="timeout", allowed=call.timeout, reached=reached)
        call.error = timed_out(call, reached, False)
    return completion


def died(report: ExitReport, killer: Killer | None, call: Call | None, encoding: str) -> SessionDied:
    """The error for all that can no longer be done. call: the one it was in; the last of its output is shown."""
    text = how_it_ended(killer, report.signal_name, report.exit_code).replace("its session", "the session", 1)
    printed = ""
    if call is not None:
        tail = call.output.joined("stdout")[-4096:]
        printed = ansi.plain(tail.decode(encoding, "replace"))
        text += f" in call {call.number}"
        if printed:
            text += f"; the last that it printed:\n{printed[-1000:]}"
    return SessionDied(
        text,
        exit_code=report.exit_code,
        signal=report.signal_name,
        killer=killer,
        running=None if call is None else call.source,
        stderr=printed,
        survived=False,
    )


def timed_out(call: Call, reached: float, survived: bool) -> CallTimeout:
    return CallTimeout(
        f"call {call.number} ran longer than its timeout of {call.timeout} s"
        + ("" if survived else "; it did not react, so its session was ended"),
        allowed=call.timeout,
        reached=reached,
        survived=survived,
    )
