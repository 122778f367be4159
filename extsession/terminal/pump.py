"""The thread of a terminal session: it types calls, reads what is printed, and holds deadlines.

It alone reads the terminal, so output never waits for anybody, and a call's end is where its prompt is. Others leave it
notes under the lock, and ring.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

import pexpect

from .._engine import ansi
from .._engine.completion import Completion, Outcome, Step, how_it_ended
from .._launch.base import ExitReport
from .._launch.terminal import LONGEST_LINE, TerminalProcess
from ..errors import (
    CallCancelled,
    CallTimeout,
    ExtSessionError,
    IncompleteSource,
    Killer,
    LaunchError,
    NotReady,
    SessionClosed,
    SessionDied,
)
from ..options import Ladder
from .definitions import Definition, Tags
from .results import ONE_STREAM, Call, new_condition
from .wire import NOTHING, OUTPUT, Search, Wire

#: seconds of silence after which a prompt that is not ours alone is believed
_SETTLED: Final = 0.05
#: seconds for the prompt after each line that is to lead out of source that is not complete
_WAY_OUT: Final = 0.5
#: seconds for an answer to nothing before it is asked again
_PATIENCE: Final = 0.25
#: seconds after a Ctrl-C at which it is looked whether it has met anybody
_RINGS: Final = (0.05, 0.15, 0.35, 0.75)
#: seconds in which a process may not have become the program that it is to be
_YOUNG: Final = 0.2
#: seconds after which it is looked again whether a program has begun to run a call's code
_LONG: Final = 1.0
#: seconds for the thread to see that the program was killed
_LAST: Final = 10.0
#: bytes of late output that are kept for each call
_LATE: Final = 2**20


class Pump:
    """Carries out the calls of one program, in order, until that ends."""

    def __init__(self, process: TerminalProcess, definition: Definition, encoding: str, ladder: Ladder) -> None:
        self.encoding = encoding
        self.startup = b""  # printed before the first prompt
        self.report: ExitReport | None = None
        self.error: ExtSessionError | None = None
        self.ready = False
        self.count = 0  # of what has happened, for those who wait
        self._definition = definition
        self._process = process
        self._wire = Wire(process)
        self.ladder = ladder
        self.lock = self._changed = new_condition()
        self._queue: deque[Call] = deque()
        self._current: Call | None = None
        self._last: Call | None = None  # whose late output it is that comes now
        self._late = 0
        self._stale: list[re.Pattern[bytes]] = []  # prompts of ours that are no output
        self._killer: Killer | None = None
        self._owner = os.getpid()
        self._thread = threading.Thread(target=self._main, name=f"extsession-terminal-{process.pid}", daemon=True)
        _pumps.add(self)

    # for the session, in any thread

    def start(self, timeout: float | None) -> None:
        """Wait for the first prompt. LaunchError."""
        self._thread.start()
        try:
            is_there = self.wait_until(lambda: self.ready or self.error is not None, timeout)
        except BaseException:
            self.kill()
            raise
        if self.ready:
            return
        command = self._process.command
        if not is_there:
            self.kill()
            self._thread.join(_LAST)
            what = f"showed no prompt within {timeout:g} s"
        else:
            self._thread.join()
            what = "showed no prompt: it ended" + (f" ({self.report})" if self.report is not None else "")
        printed = self.startup_text()
        raise LaunchError(f"{command[0]!r} {what}; it printed: {printed[-2000:]!r}", command=command, stderr=printed)

    def add(self, call: Call) -> None:
        """Queue a call. SessionDied, SessionClosed."""
        with self._changed:
            if self.error is not None:
                raise self.error
            self._queue.append(call)
            self._wire.wake()

    def wait_until(self, is_true: Callable[[], bool], timeout: float | None) -> bool:
        """False after `timeout` seconds. SessionClosed in a process that was forked from the session's."""
        if self._owner != os.getpid() and not is_true():
            raise self.error or SessionClosed("the session belongs to another process")
        with self._changed:
            return self._changed.wait_for(is_true, timeout)

    def so_far(self, call: Call) -> bytes:
        with self._changed:
            return call.output.joined("stdout") + call.held

    def current_call(self) -> Call:
        """The call whose turn it is, or is next. NotReady, SessionDied."""
        with self._changed:
            if self.error is not None:
                raise self.error
            found = self._current or (self._queue[0] if self._queue else None)
            if found is None:
                raise NotReady("nothing runs that could read")
            return found

    def startup_text(self) -> str:
        return ansi.plain(self.startup.decode(self.encoding, "replace"))

    def send(self, call: Call, text: str) -> None:
        data = text.encode(self.encoding)
        with self._changed:
            if call.completion is not None:
                raise NotReady(f"call {call.number} is over: nobody reads {text!r}")
            if self._process.takes_lines():
                check_lines(data, "what is sent")
            call.to_send.append(data)
            self._wire.wake()

    def interrupt(self, call: Call | None) -> bool:
        with self._changed:
            runs = self._current or (self._queue[0] if self._queue else None)
            if runs is None or (call is not None and call is not runs):
                return False
            call = runs
            call.to_interrupt = True
            self._wire.wake()
            return True

    def cancel(self, call: Call) -> bool:
        with self._changed:
            if call not in self._queue or (self._current is None and call is self._queue[0]):
                return False
            self._queue.remove(call)
            call.error = CallCancelled(f"call {call.number} was cancelled before its turn came")
            callbacks = self._over(call, Completion(call.number, Outcome.CANCELLED))
        _deliver(call, callbacks)
        return True

    def on_done(self, call: Call, callback: Callable[[Call], object]) -> bool:
        with self._changed:
            if call.callbacks is None:
                return False
            call.callbacks.append(callback)
            return True

    def resize(self, rows: int, columns: int) -> None:
        with self._changed:
            if self.error is not None:
                raise self.error
            self._process.resize(rows, columns)

    def terminate(self, number: signal.Signals) -> None:
        """Send a signal to the foreground job and the program."""
        with self._changed:
            if self.error is not None or self._owner != os.getpid():
                return
            self._killer = Killer.CALLER
            self._process.signal_job(number)
            if self._process.pid is not None:
                self._process.signal(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL for all that the program has started, and itself. Does not wait."""
        with self._changed:
            if self.error is not None or self._owner != os.getpid():
                return
            self._killer = self._killer or Killer.CALLER
            self._process.kill_tree(self._process.pid)

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; False if it has not come."""
        if self._owner == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def exit(self, timeout: float | None) -> int | None:
        """Have the program end by itself; kill it if it does not."""
        definition, tags = self._definition, Tags.new()
        end = definition.quit.encode()
        lines = [end] if definition.wrap is None else definition.wrap(end, tags)
        call = Call(0, "", lines, tags, None, None)
        call.is_exit = True
        with contextlib.suppress(ExtSessionError):
            self.add(call)
        if not self.wait_until(lambda: self.error is not None or (timeout is None and call.began > 0), timeout):
            self.kill()
        elif not self.join(self.ladder.interrupt + self.ladder.terminate):
            self.kill()
        self.join(None)
        return None if self.report is None else self.report.exit_code

    def abandon(self) -> None:
        """In a forked process: let go of the descriptors, and leave the program to its owner."""
        self._changed = new_condition()
        if self.error is None:
            self.error = SessionClosed("the session belongs to the process that this one was forked from")
        self._process.disown()
        self._wire.close()

    # the thread

    def _main(self) -> None:
        try:
            self._begin()
            while True:
                self._run(self._next_call())
        except pexpect.EOF:
            self._finish()
        except BaseException as error:  # an error of ours: nobody is to wait for ever, and nothing is to be left
            sys.excepthook(type(error), error, error.__traceback__)
            self._process.kill_tree(self._process.pid)
            with contextlib.suppress(pexpect.EOF):
                while self._wire.next(Search(), None)[0] == OUTPUT or not self._wire.report:
                    pass
            self._finish()

    def _begin(self) -> None:
        """See the program to its first prompt of ours."""
        for line in self._definition.setup:
            self._wire.type(line.encode() + b"\n")
        if self._definition.prompt is None:
            self._agree()
        else:
            self._await(self._nobody(), self._search(self._nobody()), self._print_before)
        with self._changed:
            self._current = None
            self.ready = True
            self._notify()

    def _nobody(self, tags: Tags | None = None) -> Call:
        """A call that is none of the user's."""
        return Call(0, "", [], tags or Tags.new(), None, None)

    def _agree(self, longest: float | None = None) -> None:
        """Have the program carry out nothing at all, and again until it answers: it is at its prompt then.

        A line may be lost at the start, and after an interrupt: a shell that has been hit between two calls throws away
        what it reads next. longest: seconds, after which it is killed.
        """
        began, pause = time.monotonic(), _PATIENCE
        while True:
            call = self._nobody()
            for data, search in self._handshake(call.tags):
                self._wire.type(data)
                until = time.monotonic() + pause
                event = OUTPUT
                while event < 0 and time.monotonic() < until:
                    event, printed = self._wire.next(search, until)
                    if event == OUTPUT:
                        self._print_before(printed)
                if event < 0:
                    break
            else:
                return
            pause = min(pause * 2, _LONG)
            if longest is not None and time.monotonic() > began + longest:
                self._kill(Killer.PROTOCOL)
                longest = None  # its end is seen in `next`

    def _handshake(self, tags: Tags) -> list[tuple[bytes, Search]]:
        """What is typed, and what then has to come."""
        wrap = self._definition.wrap
        if wrap is None:
            return [(self._arming(tags), self._search(self._nobody(tags)))]
        start = tags.start.encode()
        lines = b"".join(line + b"\n" for line in wrap(b"", tags))
        return [(lines, Search((re.compile(re.escape(start)), start))), (b"", self._end_of(tags))]

    def _next_call(self) -> Call:
        """Wait for one; what is printed meanwhile is late output of the last."""
        while True:
            with self._changed:
                if self._queue:
                    self._current = self._queue.popleft()
                    return self._current
            event, data = self._wire.next(Search(), None)
            if event == OUTPUT:
                self._print_late(data)

    def _run(self, call: Call) -> None:
        try:
            outcome = self._turn(call)
        except IncompleteSource as error:
            call.error, outcome = error, Outcome.FAILED
        if call.cause is not None:
            outcome = call.cause
        took = time.monotonic() - call.began
        completion = Completion(call.number, outcome, steps=call.steps)
        if outcome is Outcome.TIMED_OUT:
            allowed, reached = call.timeout or 0.0, max(took, call.timeout or 0.0)
            completion = completion._replace(limit="timeout", allowed=allowed, reached=reached)
            call.error = _timed_out(call, reached, True)
        elif outcome is Outcome.INTERRUPTED:
            call.error = KeyboardInterrupt(f"call {call.number} was interrupted")
        with self._changed:
            callbacks = self._over(call, completion)
            self._current, self._last, self._late = None, call, 0
        _deliver(call, callbacks)
        if call.rung[1] and self._definition.prompt is None:
            self._agree(_LAST)

    def _turn(self, call: Call) -> Outcome:
        """Have a call's lines carried out, up to its last prompt."""
        with self._changed:
            call.began = time.monotonic()
            self._notify()
        if call.timeout is not None:
            call.deadline = call.began + call.timeout
        if self._process.is_echoing():  # the code of a call has switched it on
            self._process.stop_echo()
        definition = self._definition
        if call.is_exit:
            for line in call.lines:
                self._wire.type(line + b"\n" if line else b"\x04")
            while True:
                self._wire.next(Search(), None)
        if definition.wrap is not None:
            self._turn_wrapped(call)
        else:
            self._turn_typed(call)
        return Outcome.INTERRUPTED if call.interrupted else Outcome.FINISHED

    def _turn_wrapped(self, call: Call) -> None:
        tags = call.tags
        for line in call.lines:
            self._wire.type(line + b"\n")
        start = tags.start.encode()
        self._await(call, Search((re.compile(re.escape(start)), start)), self._print_before)
        call.takes_input, call.typed = True, time.monotonic()
        search = self._end_of(tags, lambda data: self._hold(call, data))
        _, found = self._await(call, search, lambda data: self._print(call, data))
        call.status = int(found.split(b":")[1])

    def _end_of(self, tags: Tags, on_held: Callable[[bytes], None] | None = None) -> Search:
        """For the prompt of a wrapped call: after a status."""
        head = tags.prompt.encode()
        prompt = re.compile(re.escape(head) + rb":(\d+):")
        self._stale = [*self._stale[-1:], prompt]
        return Search((prompt, head), on_held=on_held)

    def _arming(self, tags: Tags) -> bytes:
        self._stale = [re.compile(re.escape(each.encode())) for each in (tags.prompt, tags.more)]
        return self._definition.arm.format(prompt=tags.prompt, more=tags.more).encode() + b"\n"

    def _turn_typed(self, call: Call) -> None:
        """Piece by piece, each at a prompt; what is printed in between is output, the prompts are not."""
        definition, tags = self._definition, call.tags
        search = self._search(call)
        if definition.arm:
            self._wire.type(self._arming(tags))
            self._await(call, search, self._print_before)
        index = 0
        for number, line in enumerate(call.lines, 1):
            self._wire.type(line + b"\n")
            call.typed = time.monotonic()
            call.takes_input = number == len(call.lines)
            index, _ = self._await(call, search, lambda data: self._print(call, data))
            if call.interrupted or call.cause is not None:  # what is left of it would run on its own
                break
        if index == 1:
            self._leave_unfinished(call, search)

    def _search(self, call: Call) -> Search:
        """For the prompt, 0, and that inside of what is not complete, 1."""
        definition = self._definition

        def held(data: bytes) -> None:
            self._hold(call, data)

        if definition.arm:
            pairs = [(re.compile(re.escape(each.encode())), each.encode()) for each in (call.tags.prompt, call.tags.more)]
            return Search(*pairs, on_held=held)
        found = []
        for given in (definition.prompt, definition.more):
            if given is not None:
                text, flags = (re.escape(given), 0) if isinstance(given, str) else (given.pattern, given.flags)
                bytes_ = f"(?:{text})\\Z".encode(self.encoding)
                found.append((re.compile(bytes_, flags & ~re.UNICODE), b""))
        return Search(*found, at_end=True, on_held=held)

    def _leave_unfinished(self, call: Call, search: Search) -> None:
        """The last prompt was that inside of something: get out, and say so. The program ends if there is no way out."""
        definition = self._definition
        call.is_unfinished = True  # should the program end of this
        ways: list[str | None] = [None, None, None] if definition.abort_interrupts else []
        ways += definition.abort
        for way in ways:
            if way is None:
                self._pass(search, definition.interrupt_after)  # it is to be at its prompt
                self._interrupt(call)
            else:
                self._wire.type(way.encode() + b"\n")
            until = time.monotonic() + _WAY_OUT
            while time.monotonic() < until:
                event, _ = self._wire.next(search, until)
                if event == 0:
                    call.is_unfinished = False
                    raise IncompleteSource(f"the source of call {call.number} is not complete", source=call.source)
                if event == 1 and way is not None:
                    break  # still inside
        self._kill(Killer.PROTOCOL)
        self._await(call, search, lambda data: None)

    def _pass(self, search: Search, pause: float) -> None:
        until = time.monotonic() + pause
        while time.monotonic() < until:
            self._wire.next(search, until)

    # waiting

    def _await(self, call: Call, search: Search, give: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Wait for a pattern: its number, and what has matched. What comes before it goes to `give`."""
        while True:
            self._look_after(call)
            event, data = self._wire.next(search, self._next_deadline(call))
            if event >= 0 and search.at_end and not self._is_settled(data):
                event, data = OUTPUT, b""
            if event == OUTPUT:
                give(data)
            elif event != NOTHING:
                self._hold(call, b"")
                return event, data

    def _is_settled(self, prompt: bytes) -> bool:
        """Whether nothing comes after it. Else all of it is looked at again."""
        until = time.monotonic() + _SETTLED
        while time.monotonic() < until:
            event, data = self._wire.next(Search(), until)
            if event == OUTPUT:
                self._wire.put_back(prompt + data)
                return False
        return True

    def _next_deadline(self, call: Call) -> float | None:
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

    def _look_after(self, call: Call) -> None:
        """Carry out what others have asked for, and what is due."""
        if call.to_send and call.takes_input:
            with self._changed:
                pieces, call.to_send = call.to_send, []
            for piece in pieces:
                self._wire.type(piece)
        if call.to_interrupt and not self._until_it_runs(call):
            call.to_interrupt = False
            call.interrupted = True
            self._interrupt(call)
        if call.rings and time.monotonic() >= call.rings[0]:
            self._ring_again(call)
        if call.deadline is not None and time.monotonic() >= call.deadline:
            self._climb(call)

    def _interrupt(self, call: Call) -> None:
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
        group, age = call.rung
        if age < _YOUNG or self._process.foreground()[0] != group:
            self._ring(call)
        else:
            call.rings.clear()

    def _climb(self, call: Call) -> None:
        """The next step of the ladder: Ctrl-C, SIGTERM and SIGKILL for the foreground job, then SIGKILL for all."""
        call.cause = Outcome.TIMED_OUT
        process, now = self._process, time.monotonic()
        if not call.steps:
            call.steps = (Step.INTERRUPT,)
            call.deadline = now + self.ladder.interrupt
            self._interrupt(call)
        elif call.steps[-1] is Step.INTERRUPT:
            call.steps += (Step.TERMINATE,)
            call.deadline = now + self.ladder.terminate
            if not process.signal_job(signal.SIGTERM) and process.pid is not None:
                process.signal(process.pid, signal.SIGTERM)
        else:
            if call.steps[-1] is not Step.KILL:
                call.steps += (Step.KILL,)
            call.deadline = now + self.ladder.terminate
            if call.job_killed or not process.signal_job(signal.SIGKILL):
                call.deadline = None
                self._kill(Killer.TIMEOUT)
            call.job_killed = True

    def _kill(self, killer: Killer) -> None:
        with self._changed:
            self._killer = self._killer or killer
            self._process.kill_tree(self._process.pid)

    # output

    def _print(self, call: Call, data: bytes) -> None:
        with self._changed:
            call.output.add(ONE_STREAM, data)
            call.held = b""
            self._notify()

    def _hold(self, call: Call, data: bytes) -> None:
        if call.held != data:
            with self._changed:
                call.held = data
                self._notify()

    def _print_before(self, data: bytes) -> None:
        """It came before a call's own output: the start of the program, or late output and old prompts."""
        if not self.ready:
            self.startup = (self.startup + data)[-_LATE:]
        else:
            self._print_late(data)

    def _print_late(self, data: bytes) -> None:
        for prompt in self._stale:
            data = prompt.sub(b"", data)
        last = self._last
        if last is None or not data:
            return
        with self._changed:
            room = max(0, _LATE - self._late)
            last.output.dropped += max(0, len(data) - room)
            if room:
                self._late += len(data[:room])
                last.output.add(ONE_STREAM, data[:room])
            self._notify()

    # ends

    def _finish(self) -> None:
        """The program has ended, and with it all that it had started."""
        self.report = report = self._wire.report or ExitReport(None, None)
        rest = self._wire.rest()
        call = self._current
        if call is not None and rest:
            call.output.add(ONE_STREAM, rest)
        elif not self.ready:
            self.startup += rest
        with self._changed:
            killer = self._killer
            if call is not None and call.cause is Outcome.TIMED_OUT:
                killer = Killer.TIMEOUT
            if killer is None and call is not None and call.is_unfinished:
                killer = Killer.PROTOCOL
            if killer is None and report.exit_code is None:
                killer = Killer.OUTSIDE
            self.error = error = self._died(report, killer, call)
            done = []
            if call is not None:
                done.append((call, self._over(call, self._last_words(call, report, killer, error))))
            while self._queue:
                each = self._queue.popleft()
                each.error = error
                completion = Completion(
                    each.number,
                    Outcome.KILLED if killer is Killer.CALLER else Outcome.LOST,
                    survived=False,
                    exit_code=report.exit_code,
                    signal=report.signal_name,
                    killer=killer,
                )
                done.append((each, self._over(each, completion)))
            self._current = None
            self._wire.close()
            self._notify()
        for each, callbacks in done:
            _deliver(each, callbacks)

    def _last_words(
        self, call: Call, report: ExitReport, killer: Killer | None, error: ExtSessionError
    ) -> Completion:
        """How the call ended that the program did not survive."""
        if call.cause is not None:
            outcome = call.cause
        elif killer is Killer.CALLER:
            outcome = Outcome.KILLED
        elif killer is Killer.PROTOCOL:
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
            text = f"the source of call {call.number} is not complete, and there was no way out of it: its session is over"
            call.error = IncompleteSource(text, source=call.source)
        if outcome is Outcome.TIMED_OUT:
            reached = max(time.monotonic() - call.began, call.timeout or 0.0)
            completion = completion._replace(limit="timeout", allowed=call.timeout, reached=reached)
            call.error = _timed_out(call, reached, False)
        return completion

    def _died(self, report: ExitReport, killer: Killer | None, call: Call | None) -> SessionDied:
        text = how_it_ended(killer, report.signal_name, report.exit_code).replace("its session", "the session", 1)
        printed = ""
        if call is not None:
            tail = call.output.joined("stdout")[-4096:]
            printed = ansi.plain(tail.decode(self.encoding, "replace"))
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

    def _over(self, call: Call, completion: Completion) -> list[Callable[[Call], object]]:
        """Under the lock. What is to be called, outside of it."""
        call.held = b""
        call.output.close()
        call.completion = completion
        callbacks, call.callbacks = call.callbacks or [], None
        self._notify()
        return callbacks

    def _notify(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()


def _deliver(call: Call, callbacks: list[Callable[[Call], object]]) -> None:
    for callback in callbacks:
        callback(call)


def _timed_out(call: Call, reached: float, survived: bool) -> CallTimeout:
    return CallTimeout(
        f"call {call.number} ran longer than its timeout of {call.timeout} s"
        + ("" if survived else "; it did not react, so its session was ended"),
        allowed=call.timeout,
        reached=reached,
        survived=survived,
    )


def check_lines(data: bytes, what: str) -> None:
    longest = max(map(len, data.split(b"\n")))
    if longest > LONGEST_LINE:
        raise ValueError(f"a terminal takes {LONGEST_LINE} bytes a line (termios(3)), and {what} has one of {longest}")


_pumps: weakref.WeakSet[Pump] = weakref.WeakSet()


def _let_go() -> None:
    for pump in list(_pumps):
        pump.abandon()
    _pumps.clear()


os.register_at_fork(after_in_child=_let_go)
