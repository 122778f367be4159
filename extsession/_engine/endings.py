"""The part of SessionMachine that is about ends: of calls, and of the session's process."""

from __future__ import annotations

from collections import deque
from typing import Any

from .._launch.base import ExitReport
from .._protocol import messages
from .._protocol.records import ErrorInfo
from ..errors import ExtSessionError, Killer, SessionClosed, SessionDied, remote_exception
from . import reasons
from .call import Call, State
from .completion import Completion, Outcome, Usage
from .limits import FINAL, Breach, Rules
from .merge import Merger
from .orders import Phase
from .output import RichOutput
from .reasons import CRASHES
from .recovery import Recovery
from .said import Said


class Endings:
    """Of a machine whose calls and process end."""

    closed: bool
    codes: deque[Completion]
    current: Call | None
    draining: messages.Done | None
    error: ExtSessionError | None
    finished: list[Call]
    flooding: float | None
    incarnation: int
    outgoing: deque[Any]
    outlived: bool
    phase: Phase
    ready: dict[str, Any] | None
    recovery: Recovery | None
    report: ExitReport | None
    rules: Rules | None
    said: Said
    _broken: bool
    _command: list[str]
    _deadline: float | None
    _done_error: ErrorInfo | None
    _ended_by: Outcome | None
    _eof: bool
    _exit_code: int | None
    _fallen: tuple[ExitReport, Call | None, Breach | None] | None
    _fell: tuple[float, Usage | None]
    _known_cpu: float
    _last: Call | None
    _merger: Merger
    _placed: dict[int, int]
    _python: str
    _queue: deque[Call]
    _start_timeout: float | None
    _startup: bytearray
    _unplaced: dict[int, RichOutput]

    def _text(self, stream: int, data: bytes) -> None:
        raise NotImplementedError

    def _place(self, number: int) -> None:
        raise NotImplementedError

    def _printed(self) -> str:
        raise NotImplementedError

    def on_exit(self, report: ExitReport, now: float, final: bool = True) -> None:
        """The process has ended, and all that it wrote has been given in.

        final: nothing is done about it; else, where it is to be brought back, `revive` has to follow: `is_to_revive`.
        """
        if self.phase is Phase.DEAD:
            return
        self._merger.settle()
        was, usage = self.phase, None
        current, self.current = self.current, None
        self._deadline = None
        breach = None
        if self.rules is not None and self._ended_by is None:
            breach = self.rules.on_exit(report.signal_name, report.oom)
        if breach is not None and current is not None and current.stop_cause is None:
            current.stop_cause, current.breach = Outcome.OVER_LIMIT, breach
        if not final and self._can_recover(was, current):
            assert self.recovery is not None
            self.recovery.is_tried = True
            self.phase = Phase.STARTING
            self._fallen = report, current, breach
            self._fell = now, None if current is None else self._usage_until(current, report, now)
            if current is not None:
                current.deadline = None
                current.input_waiting = False
            return
        if self._fallen is not None:  # it could not be brought back
            assert self.recovery is not None
            self.recovery.why_none = str(report)
            (report, current, breach), self._fallen = self._fallen, None
            now, usage = self._fell
            was = Phase.RUNNING
            if self.error is None:
                self.error = self._died(report, current, unprotected=self.recovery.why_none, breach=breach)
        elif current is not None:
            usage = self._usage_until(current, report, now)
        self.phase = Phase.DEAD
        self._merger.end()
        self.report = report
        self._last = None
        if self.error is None:
            self.error = self._why(was, report, current)
        if current is not None:
            if current.hidden and current.branch is not None:
                current.branch.drop()
            self._end_current(current, report, now, usage)
        waiting, self._queue = self._queue, deque()
        for call in waiting:
            call.error = self.error
            self._complete(
                call,
                Completion(
                    call.number,
                    self._ended_by or Outcome.LOST,
                    survived=False,
                    exit_code=report.exit_code,
                    signal=report.signal_name,
                    killer=self._killer(report, current),
                    incarnation=self.incarnation,
                ),
            )

    @property
    def is_to_revive(self) -> bool:
        """Whether the process has ended and another one is to take its place."""
        return self.recovery is not None and self.recovery.is_tried and self.ready is not None

    @property
    def may_begin_again(self) -> bool:
        """Whether a process that has ended before it was a session may be replaced by another."""
        return self.phase is Phase.STARTING and self.error is None and self._ended_by is None and not self.closed

    def begin_again(self, first: bytes, now: float) -> None:
        """Another process takes the place of one that has never said a word."""
        self._eof = False
        self.outgoing.clear()
        self.outgoing.append(first)
        self._deadline = None if self._start_timeout is None else now + self._start_timeout

    def revive(self, token: bytes, first: bytes, now: float) -> None:
        """Another process has been made of the checkpoint: it says Ready soon, and the queue goes on."""
        assert self.recovery is not None
        self.recovery.count += 1
        self.incarnation += 1
        self._known_cpu = 0.0
        if self.rules is not None:
            self.rules.on_revival()
        self.ready = None
        self.draining = self.flooding = None
        self.outlived = self._eof = False
        self.outgoing.clear()
        self.outgoing.append(first)
        self._merger = Merger(token, self._text, self._place)
        self._placed.clear()
        self._unplaced.clear()
        self._startup.clear()
        self._deadline = None if self._start_timeout is None else now + self._start_timeout

    def _can_recover(self, was: Phase, current: Call | None) -> bool:
        """Whether a process that has ended was not meant to, and can be brought back as it was."""
        recovery = self.recovery
        if recovery is None or recovery.checkpoint is None or recovery.is_tried or was is Phase.STARTING:
            return False
        if self.closed or self.error is not None or self._ended_by is not None or self._exit_code is not None:
            return False
        if self.rules is not None and self.rules.breach is not None and self.rules.breach.limit in FINAL:
            return False
        if current is not None and current.hidden:
            return False  # what the last call has left, the checkpoint does not have
        return current is None or current.done is None or not current.done.flags & messages.LEAVING

    def _settle(self, call: Call, done: messages.Done) -> None:
        """A call ended in the ordinary way; the session lives on."""
        usage = Usage(done.wall, done.cpu, done.peak_memory)
        self._known_cpu += done.cpu
        over = None if self.rules is None else self.rules.too_much_output(call.output.written)
        if done.outcome == messages.FINISHED and done.extra is None and over is None:
            call.done = done
            call.value = (done.kind, done.head, done.buffers)
            completion = Completion(call.number, Outcome.FINISHED, True, None, usage, None, None, call.steps)
            if self.incarnation != 1:
                completion = completion._replace(incarnation=self.incarnation)
            self._complete(call, completion)
            return
        self._placed.clear()
        self._unplaced.clear()
        outcome, error = self._judge(call, done)
        if call.stop_cause is not None and outcome is Outcome.INTERRUPTED:
            outcome = call.stop_cause
            if outcome is Outcome.TIMED_OUT:
                call.error = reasons.timed_out(call, done.wall, True)
        elif over is not None:  # whatever it has made of that, or before: this is no question of who was first
            outcome, call.breach = Outcome.OVER_LIMIT, over
        limit = allowed = reached = None
        if outcome is Outcome.OVER_LIMIT:
            assert call.breach is not None
            breach = call.breach
            if breach.limit == "wall":
                breach = breach._replace(reached=max(breach.allowed, done.wall))
            elif breach.limit == "output":
                breach = over or breach
            call.error = reasons.over_limit(call, breach, True)
            (limit, allowed, reached), error = breach, None
        elif outcome is Outcome.TIMED_OUT:
            (limit, allowed, reached), error = _time_of(call, done.wall), None
        self._complete(
            call,
            Completion(
                call.number,
                outcome,
                error=error,
                usage=usage,
                exit_code=(done.extra or {}).get("exit") if outcome is Outcome.EXITED else None,
                steps=call.steps,
                limit=limit,
                allowed=allowed,
                reached=reached,
                incarnation=self.incarnation,
            ),
        )

    def _judge(self, call: Call, done: messages.Done) -> tuple[Outcome, ErrorInfo | None]:
        call.done = done
        call.value = (done.kind, done.head, done.buffers)
        return _OUTCOMES[done.outcome], self._done_error

    def _end_current(
        self, call: Call, report: ExitReport, now: float, usage: Usage | None, recovered: SessionDied | None = None
    ) -> None:
        """The session's process ended while a call was running. recovered: the error of it, if the session goes on."""
        done = call.done
        goes_on = recovered is not None
        incarnation = self.incarnation - 1 if goes_on else self.incarnation
        error = limit = allowed = reached = None
        was_stopped = call.stop_cause is not None and (report.signal is not None or done is None)
        if done is not None and done.flags & messages.LEAVING and self._ended_by is None and not was_stopped:
            outcome, error = self._judge(call, done)
            usage = Usage(done.wall, done.cpu, done.peak_memory)
        elif call.stop_cause is not None:
            outcome = call.stop_cause
            call.error = recovered or self.error
            if outcome is Outcome.TIMED_OUT:
                limit, allowed, reached = _time_of(call, now - call.began)
                call.error = reasons.timed_out(call, now - call.began, goes_on, goes_on)
            elif outcome is Outcome.OVER_LIMIT and call.breach is not None:
                limit, allowed, reached = call.breach
                call.error = reasons.over_limit(call, call.breach, goes_on, goes_on)
        else:
            outcome = self._ended_by or Outcome.LOST
            call.error = recovered or self.error
        self._complete(
            call,
            Completion(
                call.number,
                outcome,
                survived=goes_on,
                error=error,
                usage=usage,
                exit_code=report.exit_code,
                signal=report.signal_name,
                steps=call.steps,
                recovered=goes_on,
                limit=limit,
                allowed=allowed,
                reached=reached,
                killer=self._killer(report, call),
                incarnation=incarnation,
            ),
        )

    def _usage_until(self, call: Call, report: ExitReport, now: float) -> Usage | None:
        """What a call has taken that its session did not survive; None where the end was not seen."""
        if report.cpu is None or report.peak_memory is None or self.ready is None:
            return None
        before = self.ready.get("cpu_us", 0)
        known = self._known_cpu + (before / 1e6 if type(before) is int else 0.0)
        return Usage(now - call.began, max(0.0, report.cpu - known), report.peak_memory)

    def _killer(self, report: ExitReport, call: Call | None) -> Killer | None:
        """Who has ended the session's process. Whoever has begun to is told of, also where it gave in by itself."""
        if self._ended_by is not None:
            return Killer.CALLER
        if call is not None and call.stop_cause is Outcome.TIMED_OUT:
            return Killer.TIMEOUT
        if (self.rules is not None and self.rules.breach is not None) or (
            call is not None and call.stop_cause is Outcome.OVER_LIMIT
        ):
            return Killer.LIMIT
        if self._broken:
            return Killer.PROTOCOL
        if report.exit_code is not None:
            return None
        if report.memory_killer:
            return Killer.MEMORY_KILLER
        return Killer.CRASH if report.signal_name in CRASHES else Killer.OUTSIDE

    def _died(
        self,
        report: ExitReport,
        running: Call | None,
        recovered: bool = False,
        unprotected: str = "",
        breach: Breach | None = None,
    ) -> SessionDied:
        """The error for the end of a process. running: the call it was in."""
        return reasons.died(
            report,
            self._killer(report, running),
            running,
            self.said,
            recovered,
            unprotected,
            breach,
            self.incarnation - 1 if recovered else self.incarnation,
        )

    def _complete(self, call: Call, completion: Completion) -> None:
        call.state = State.DONE
        call.deadline = None
        call.input_waiting = False
        call.output.close()
        if completion.error is not None and call.error is None:
            call.error = remote_exception(completion.error)
        if not call.hidden:
            self.codes.append(completion)
        if call.has_callbacks:
            self.finished.append(call)
        call.completion = completion  # last: another thread may look for it

    def _why(self, was: Phase, report: ExitReport, current: Call | None) -> ExtSessionError:
        """The error for all that can no longer be done."""
        if was is Phase.STARTING and self._ended_by is None:
            what = f"ended ({report})"
            return reasons.not_started(self._python, self._command, what, self._printed())
        if self._exit_code is not None and current is None:
            return SessionClosed("the session was ended by exit()")
        recovery = self.recovery
        unprotected = ""
        if recovery is not None and self._ended_by is None and recovery.checkpoint is None:
            unprotected = recovery.why_none
        if current is not None and current.hidden:
            current = None
            if not unprotected and self._ended_by is None:
                unprotected = "it ended while that was made"
        breach = None if self.rules is None else self.rules.breach
        if breach is None and current is not None and current.stop_cause is Outcome.OVER_LIMIT:
            breach = current.breach
        return self._died(report, current, False, unprotected, breach)


def _time_of(call: Call, wall: float) -> tuple[str, float, float]:
    """(limit, allowed, reached) of a call that ran longer than its timeout."""
    allowed = wall if call.timeout is None else call.timeout
    return "timeout", allowed, max(wall, allowed)  # its own clock starts a moment after ours


_OUTCOMES = {
    messages.FINISHED: Outcome.FINISHED,
    messages.FAILED: Outcome.FAILED,
    messages.INTERRUPTED: Outcome.INTERRUPTED,
    messages.EXITED: Outcome.EXITED,
    messages.REFUSED: Outcome.FAILED,
}
