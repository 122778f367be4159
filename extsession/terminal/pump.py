"""The thread of a terminal session: it types calls, reads what is printed, and holds deadlines.

It alone reads the terminal, so output never waits for anybody, and a call's end is where its prompt is. Others leave it
notes under the lock, and ring.
"""

from __future__ import annotations

import contextlib
import os
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
from .._engine.completion import Completion, Outcome
from .._launch.base import ExitReport
from .._launch.terminal import LONGEST_LINE, TerminalProcess
from ..errors import (
    CallCancelled,
    ExtSessionError,
    IncompleteSource,
    Killer,
    LaunchError,
    NotReady,
    SessionClosed,
)
from ..options import Ladder
from .definitions import Definition, Tags
from .endings import died, last_words, timed_out
from .results import ONE_STREAM, Call, new_condition
from .steps import Steps
from .turn import Turns
from .wire import OUTPUT, Search, Wire

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
        self._killer: Killer | None = None
        self._turns = Turns(
            self._wire, process, definition, encoding, Steps(self._wire, process, definition, ladder, self), self
        )
        self._owner = os.getpid()
        self._thread = threading.Thread(target=self._main, name=f"extsession-terminal-{process.pid}", daemon=True)
        _pumps.add(self)

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
            self._wire.await_end(_LAST)
            self._finish()

    def _begin(self) -> None:
        """See the program to its first prompt of ours."""
        self._turns.begin()
        with self._changed:
            self._current = None
            self.ready = True
            self._notify()

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
            outcome = self._turns.carry_out(call)
        except IncompleteSource as error:
            call.error, outcome = error, Outcome.FAILED
        if call.cause is not None:
            outcome = call.cause
        took = time.monotonic() - call.began
        completion = Completion(call.number, outcome, steps=call.steps)
        if outcome is Outcome.TIMED_OUT:
            allowed, reached = call.timeout or 0.0, max(took, call.timeout or 0.0)
            completion = completion._replace(limit="timeout", allowed=allowed, reached=reached)
            call.error = timed_out(call, reached, True)
        elif outcome is Outcome.INTERRUPTED:
            call.error = KeyboardInterrupt(f"call {call.number} was interrupted")
        with self._changed:
            callbacks = self._over(call, completion)
            self._current, self._last, self._late = None, call, 0
        _deliver(call, callbacks)
        if call.rung[1] and self._definition.prompt is None:
            self._turns.agree(_LAST)

    def on_turn(self, call: Call) -> None:
        with self._changed:
            call.began = time.monotonic()
            self._notify()

    def take_sent(self, call: Call) -> list[bytes]:
        with self._changed:
            pieces, call.to_send = call.to_send, []
            return pieces

    def kill_for(self, killer: Killer) -> None:
        with self._changed:
            self._killer = self._killer or killer
            self._process.kill_tree(self._process.pid)

    def print_in(self, call: Call, data: bytes) -> None:
        with self._changed:
            call.output.add(ONE_STREAM, data)
            call.held = b""
            self._notify()

    def hold(self, call: Call, data: bytes) -> None:
        if call.held != data:
            with self._changed:
                call.held = data
                self._notify()

    def print_before(self, data: bytes) -> None:
        """It came before a call's own output: the start of the program, or late output and old prompts."""
        if not self.ready:
            self.startup = (self.startup + data)[-_LATE:]
        else:
            self._print_late(data)

    def _print_late(self, data: bytes) -> None:
        for prompt in self._turns.stale:
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
            self.error = error = died(report, killer, call, self.encoding)
            done = []
            if call is not None:
                done.append((call, self._over(call, last_words(call, report, killer, error))))
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
