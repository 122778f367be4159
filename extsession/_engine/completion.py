"""How a call ended, as the controller knows it."""

from __future__ import annotations

import enum
from typing import NamedTuple

from .._protocol.records import ErrorInfo


class Outcome(enum.Enum):
    """Exactly one of these is true of a call that is over."""

    FINISHED = "finished"
    FAILED = "failed"  # the code raised an exception
    INTERRUPTED = "interrupted"  # KeyboardInterrupt left the code
    TIMED_OUT = "timed out"  # its `timeout` was over; see `steps`
    OVER_LIMIT = "over limit"  # of `Limits`; see `limit`
    EXITED = "exited"  # SystemExit left the code
    KILLED = "killed"  # the caller ended the session
    LOST = "lost"  # the session's process ended by itself or from outside
    CANCELLED = "cancelled"  # before its turn came


class Step(enum.Enum):
    """A step of the ladder that was taken."""

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"


class Usage(NamedTuple):
    """What a call took: `wall` seconds, `cpu` seconds (user and system), `peak_memory` of the session in bytes."""

    wall: float
    cpu: float
    peak_memory: int


class Completion(NamedTuple):
    """The done marker of a call.

    call: its number in the session, from 1; survived: the session goes on; exit_code: where the session's process
    ended with the call; signal: name of the signal that ended it; steps: of the ladder, in order; recovered: the
    process ended, and the session goes on in another one, with the state from before the call; limit: the field of
    `Limits` that was broken.
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

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end (or left with SystemExit(0))."""
        return self.outcome is Outcome.FINISHED or (self.outcome is Outcome.EXITED and self.exit_code == 0)

    def __str__(self) -> str:
        text = f"call {self.call} {self.outcome.value}"
        if self.limit is not None:
            text += f": {self.limit}"
        elif self.error is not None:
            text += f": {self.error.type_name}"
            if self.error.message:
                text += f": {self.error.message}"
        elif self.signal is not None:
            text += f": the session was ended by {self.signal}"
        elif self.exit_code is not None:
            text += f" with status {self.exit_code}"
        if self.steps:
            text += f" after {', '.join(step.value for step in self.steps)}"
        if self.usage is not None:
            text += f", {self.usage.wall:.3g} s"
        if self.recovered:
            text += "; its session is what it was before the call"
        return text if self.survived else text + "; the session is over"
