"""What is decided about a running command: how it is stopped, and when all of its output is there. Pure.

The times, ends and orders go in; what is to be done comes out of `due`. The command is over when its process has ended
and its output is complete: at the end of file, or, where a process that it left holds a pipe open, what was in the pipe
`drain_timeout` seconds after its end.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import NamedTuple

from .completion import Step


@dataclass(frozen=True)
class StopTimes:
    """Seconds that a command is given: to end by itself, after an interrupt, after SIGTERM; for output that lags."""

    suicide: float = 0.0
    interrupt: float = 0.3
    terminate: float = 0.2
    drain: float = 0.1


class StopCause(enum.Enum):
    """Why a command was stopped."""

    TIMEOUT = "timeout"
    INTERRUPT = "interrupt"  # somebody asked for it
    TERMINATE = "terminate"  # the same, without an interrupt first
    LEFT = "left"  # nobody waits for it any more
    KEYBOARD = "keyboard"  # Ctrl-C
    LIMIT = "limit"


class StopAction(enum.Enum):
    """What is to be done with the process."""

    INTERRUPT = "SIGINT"
    TERMINATE = "SIGTERM"
    KILL = "SIGKILL"
    GIVE_UP = "give up"  # it sits in the kernel and cannot be ended by anyone


#: seconds after SIGKILL
_UNKILLABLE = 5.0
_STEPS = {StopAction.INTERRUPT: Step.INTERRUPT, StopAction.TERMINATE: Step.TERMINATE, StopAction.KILL: Step.KILL}


class _Rung(NamedTuple):
    action: StopAction
    when: float


class CommandMachine:
    """One command. began: when its process was there; timeout: seconds it may run. is_told: the terminal that it shares
    with us has sent Ctrl-C to it as well.
    """

    def __init__(self, times: StopTimes, timeout: float | None, began: float) -> None:
        self._times = times
        self.began = began
        self.timeout = timeout
        self.cause: StopCause | None = None
        self.steps: list[Step] = []
        self.exit_code: int | None = None
        self.ended: float | None = None  # when
        self._open = {1, 2}
        self._ladder: list[_Rung] = []

    @property
    def is_over(self) -> bool:
        """Nothing more comes of it."""
        return self.ended is not None and not self._open

    @property
    def drain_until(self) -> float:
        """When what lies in the pipes is taken, and no more."""
        assert self.ended is not None
        return self.ended + self._times.drain

    def stop(self, cause: StopCause, now: float, is_told: bool = False) -> bool:
        """Begin the ladder; whether this has begun it: it has not ended, and is not being stopped already."""
        if self.ended is not None or self.cause is not None:
            return False
        self.cause = cause
        times = self._times
        if cause is StopCause.LIMIT:
            self._ladder = [_Rung(StopAction.KILL, now)]
        elif cause is StopCause.TERMINATE:
            self._ladder = [_Rung(StopAction.TERMINATE, now), _Rung(StopAction.KILL, now + times.terminate)]
        else:
            ring = now + times.suicide
            rungs = [
                _Rung(StopAction.INTERRUPT, ring),
                _Rung(StopAction.TERMINATE, ring + times.interrupt),
                _Rung(StopAction.KILL, ring + times.interrupt + times.terminate),
            ]
            self._ladder = rungs[1:] if is_told else rungs
        self._ladder.append(_Rung(StopAction.GIVE_UP, self._ladder[-1].when + _UNKILLABLE))
        return True

    def on_exit(self, code: int | None, now: float) -> None:
        """Its process has ended. None: nobody can tell how."""
        self.exit_code = code
        self.ended = now
        self._ladder = []

    def on_eof(self, stream: int) -> None:
        """All of a stream, 1 or 2, is there."""
        self._open.discard(stream)

    def is_open(self, stream: int) -> bool:
        return stream in self._open

    def next_time(self) -> float:
        """When `due` has something to say at the latest; math.inf: nothing is planned."""
        if self.ended is not None:
            return self.drain_until if self._open else math.inf
        if self._ladder:
            return self._ladder[0].when
        if self.timeout is not None and self.cause is None:
            return self.began + self.timeout
        return math.inf

    def due(self, now: float) -> StopAction | None:
        """What is to be done now. Asked again until there is nothing."""
        if self.ended is not None:
            return None
        if self.cause is None and self.timeout is not None and now >= self.began + self.timeout:
            self.stop(StopCause.TIMEOUT, now)
        if not self._ladder or now < self._ladder[0].when:
            return None
        action, when = self._ladder.pop(0)
        # each step has its full time, also where this was late
        self._ladder = [rung._replace(when=rung.when + now - when) for rung in self._ladder]
        if action in _STEPS:
            self.steps.append(_STEPS[action])
        return action
