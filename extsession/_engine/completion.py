"""How a call ended, as the controller knows it."""

from __future__ import annotations

import enum
from typing import NamedTuple

from .._protocol.records import ErrorInfo
from ..errors import Killer


class Outcome(enum.Enum):
    """Exactly one of these is true of a call that is over."""

    FINISHED = "finished"
    FAILED = "failed"  # the code raised an exception
    INTERRUPTED = "interrupted"  # KeyboardInterrupt left the code
    TIMED_OUT = "timed out"  # its `timeout` was over; see `steps`
    OVER_LIMIT = "over limit"  # of `Limits`; see `limit`
    EXITED = "exited"  # SystemExit left the code
    KILLED = "killed"  # the caller ended the session
    LOST = "lost"  # the session's process ended by itself or from outside; see `killer`
    CANCELLED = "cancelled"  # before its turn came


class Step(enum.Enum):
    """A step of the ladder that was taken."""

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"


class SessionState(enum.Enum):
    """What a call has left of its session."""

    INTACT = "intact"  # the same process goes on, with all that the call has done to it
    ROLLED_BACK = "rolled back"  # another process goes on, with the state from before the call
    GONE = "gone"


class Usage(NamedTuple):
    """What a call took: `wall` seconds, `cpu` seconds (user and system), `peak_memory` of the session in bytes.

    Of a call that its session did not survive, as the kernel and the controller's clock have it: `cpu` is then what the
    session's process has used since its last call was over.
    """

    wall: float
    cpu: float
    peak_memory: int


class Completion(NamedTuple):
    """The done marker of a call.

    call: its number in the session, from 1; survived: the session goes on; exit_code: where the session's process
    ended with the call; signal: name of the signal that ended it; steps: of the ladder, in order; recovered: the
    process ended, and the session goes on in another one, with the state from before the call; limit: the field of
    `Limits` that was broken, or "timeout"; allowed, reached: values in its unit; killer: who ended the session's
    process, None where it goes on, or ended by itself; incarnation: which process of the session the call ran in, from
    1: a recovery, a rollback and a restart each begin another.
    """

    call: int
    outcome: Outcome
    survived: bool = True
    error: ErrorInfo | None = None
    usage: Usage | None = None
    exit_code: int | None = None
    signal: str | None = None
    steps: tuple[Step, ...] = ()
    recovered: bool = False
    limit: str | None = None
    allowed: float | None = None
    reached: float | None = None
    killer: Killer | None = None
    incarnation: int = 1

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end (or left with SystemExit(0))."""
        return self.outcome is Outcome.FINISHED or (self.outcome is Outcome.EXITED and self.exit_code == 0)

    @property
    def state(self) -> SessionState:
        """What became of the session's state."""
        if not self.survived:
            return SessionState.GONE
        return SessionState.ROLLED_BACK if self.recovered else SessionState.INTACT

    def __str__(self) -> str:
        told = False  # that the session has ended
        text = f"call {self.call} {_WORDS.get(self.outcome, self.outcome.value)}"
        if self.limit is not None and self.reached is not None and self.allowed is not None:
            text += f"{broken(self.limit, self.allowed, self.reached)}"
            if self.steps:
                text += f", and was stopped by {_STOPPED[self.steps[-1]]}"
        elif self.error is not None:
            text += f": {self.error.type_name}"
            if self.error.message:
                text += f": {self.error.message}"
        elif self.outcome in (Outcome.LOST, Outcome.KILLED) or self.signal is not None:
            text += f": {how_it_ended(self.killer, self.signal, self.exit_code)}"
            told = True
        elif self.exit_code is not None:
            text += f" with status {self.exit_code}"
        if self.usage is not None and self.limit not in ("timeout", "wall"):
            text += f", after {self.usage.wall:.3g} s"
        if self.outcome is Outcome.CANCELLED:
            return text + " before its turn came"
        if self.recovered:
            return text + "; its session goes on with the state from before it"
        return text if self.survived or told else text + "; its session is over"


_WORDS = {Outcome.TIMED_OUT: "timed out: ", Outcome.OVER_LIMIT: "is over limit: "}
_STOPPED = {Step.INTERRUPT: "an interrupt", Step.TERMINATE: "SIGTERM", Step.KILL: "SIGKILL"}

#: limit -> what it is about, and its unit
_LIMITS = {
    "timeout": ("ran for", "s"),
    "wall": ("ran for", "s"),
    "cpu": ("used CPU time of", "s"),
    "output": ("printed", "bytes"),
    "memory": ("held", "bytes of memory"),
    "processes": ("had", "processes and threads"),
    "file_size": ("wrote a file of", "bytes"),
    "work_size": ("had a work directory of", "bytes"),
    "session_wall": ("lived for", "s"),
    "session_cpu": ("used CPU time of", "s"),
    "idle": ("was idle for", "s"),
}


def broken(limit: str, allowed: float, reached: float) -> str:
    """A limit that was broken, in words."""
    what, unit = _LIMITS[limit]
    name = "" if limit == "timeout" else f"{limit}: "
    return f"{name}it {what} {_number(reached)} {unit}, where {_number(allowed)} are allowed"


def how_it_ended(killer: Killer | None, signal: str | None, exit_code: int | None) -> str:
    """How a session's process ended, in words."""
    facts = signal or ("its end was not seen" if exit_code is None else f"exit status {exit_code}")
    if killer is None:
        return f"its session ended by itself ({facts})"
    return f"its session {_BY[killer]} ({facts})"


_BY = {
    Killer.CALLER: "was ended by its user",
    Killer.TIMEOUT: "was ended for the timeout of a call",
    Killer.LIMIT: "was ended for a limit",
    Killer.PROTOCOL: "was ended because it broke the protocol",
    Killer.MEMORY_KILLER: "was ended by the kernel's memory killer, since the machine or its group had no memory left",
    Killer.CRASH: "crashed",
    Killer.OUTSIDE: "was ended from outside, or by a signal of its own",
}


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
