"""How a call is stopped: Ctrl-C, also again where it has met nobody, and the ladder of a timeout."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Final, Protocol

from .._engine.completion import Outcome, Step
from .._launch.terminal import TerminalProcess
from ..errors import Killer
from ..options import Ladder
from .definitions import Definition
from .results import Call
from .wire import Wire

#: seconds after a Ctrl-C at which it is looked whether it has met anybody
_RINGS: Final = (0.05, 0.15, 0.35, 0.75)
#: seconds in which a process may not have become the program that it is to be
_YOUNG: Final = 0.2
#: seconds after which it is looked again whether a program has begun to run a call's code
_LONG: Final = 1.0


class Keeper(Protocol):
    """Who keeps what is printed, and knows what others want: the Pump."""

    def on_turn(self, call: Call) -> None:
        """A call begins."""

    def print_in(self, call: Call, data: bytes) -> None:
        """It was printed in a call."""

    def print_before(self, data: bytes) -> None:
        """It came before a call's own output: the start of the program, or late output and old prompts."""

    def hold(self, call: Call, data: bytes) -> None:
        """It was printed last in a call, and may be the beginning of a prompt."""

    def take_sent(self, call: Call) -> list[bytes]:
        """What is to be typed for a call."""

    def kill_for(self, killer: Killer) -> None:
        """End the program."""


class Steps:
    """What is done to a call from outside, while its thread waits for its end."""

    def __init__(
        self, wire: Wire, process: TerminalProcess, definition: Definition, ladder: Ladder, keeper: Keeper
    ) -> None:
        self._wire = wire
        self._process = process
        self._definition = definition
        self._ladder = ladder
        self._keeper = keeper

    def next_deadline(self, call: Call) -> float | None:
        """When `look_after` has to be called, at the latest."""
        due = [] if call.deadline is None else [call.deadline]
        due += call.rings[:1]
        if call.to_interrupt:
            due.append(time.monotonic() + self._until_it_runs(call))
        return min(due, default=None)

    def _until_it_runs(self, call: Call) -> float:
        """Seconds until the code runs for sure, if it has not ended: until then, an interrupt would meet a prompt."""
        if not call.typed:
            return _LONG
        return max(0.0, call.typed + self._definition.interrupt_after - time.monotonic())

    def look_after(self, call: Call) -> None:
        """Carry out what others have asked for, and what is due."""
        if call.to_send and call.takes_input:
            for piece in self._keeper.take_sent(call):
                self._wire.type(piece)
        if call.to_interrupt and not self._until_it_runs(call):
            call.to_interrupt = False
            call.interrupted = True
            self.interrupt(call)
        if call.rings and time.monotonic() >= call.rings[0]:
            self._ring_again(call)
        if call.deadline is not None and time.monotonic() >= call.deadline:
            self._climb(call)

    def interrupt(self, call: Call) -> None:
        """Ctrl-C, for whoever is in the foreground."""
        self._wire.forget_typed()
        self._process.drop_typed()  # as Ctrl-C does (no NOFLSH): it was for what is interrupted
        now = time.monotonic()
        call.rings = [now + pause for pause in _RINGS]
        self._ring(call)

    def _ring(self, call: Call) -> None:
        call.rung = self._process.foreground()
        with contextlib.suppress(OSError):
            self._process.interrupt(self._definition.has_jobs)

    def _ring_again(self, call: Call) -> None:
        """Ctrl-C once more, where the last has met nobody: a shell that was about to start a job, or a process that was
        about to become one, which forgets what came before its exec.
        """
        call.rings.pop(0)
        bell = self._definition.bell
        if bell is not None:
            self._process.signal_job(bell, leader=True)
        group, age = call.rung
        if age < _YOUNG or self._process.foreground()[0] != group:
            self._ring(call)
        elif bell is None:
            call.rings.clear()

    def _climb(self, call: Call) -> None:
        """The next step of the ladder: Ctrl-C, SIGTERM and SIGKILL for the foreground job, then SIGKILL for all."""
        call.cause = Outcome.TIMED_OUT
        process, now = self._process, time.monotonic()
        if not call.steps:
            call.steps = (Step.INTERRUPT,)
            call.deadline = now + self._ladder.interrupt
            self.interrupt(call)
        elif call.steps[-1] is Step.INTERRUPT:
            call.steps += (Step.TERMINATE,)
            call.deadline = now + self._ladder.terminate
            if not process.signal_job(signal.SIGTERM) and process.pid is not None:
                process.signal(process.pid, signal.SIGTERM)
        else:
            if call.steps[-1] is not Step.KILL:
                call.steps += (Step.KILL,)
            call.deadline = now + self._ladder.terminate
            if call.job_killed or not process.signal_job(signal.SIGKILL):
                call.deadline = None
                self._keeper.kill_for(Killer.TIMEOUT)
            call.job_killed = True
