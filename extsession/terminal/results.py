"""What a call of a terminal session gives."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .._engine import ansi
from .._engine.completion import Completion, Outcome, Step
from .._engine.output import Output, OutputChunk
from .._engine.results import EndOfCall
from .definitions import Tags

#: of `Output`: a terminal has one stream for all
ONE_STREAM = 1


class Call:
    """A call, as the thread that carries it out sees it. Changed by that alone, but for what is said."""

    def __init__(
        self, number: int, source: str, lines: Sequence[bytes], tags: Tags, timeout: float | None, limit: int | None
    ) -> None:
        self.number = number
        self.source = source
        self.lines = lines  # what is typed
        self.tags = tags
        self.timeout = timeout
        self.output = Output(number, limit)
        self.held = b""  # printed last; it may be the beginning of a prompt
        self.began = 0.0  # 0: its turn has not come
        self.typed = 0.0  # when its start marker came, or a line of it was typed; 0: not yet
        self.takes_input = False  # what is sent from now on is for the code
        self.to_send: list[bytes] = []  # by any thread, under the lock
        self.to_interrupt = False  # by any thread
        self.is_exit = False  # it is none of the user's, and ends the program
        self.interrupted = False
        self.rung: tuple[int, float] = (0, 0.0)  # `TerminalProcess.foreground` at the last Ctrl-C; 0.0: none was sent
        self.rings: list[float] = []  # when to look whether it has to be sent again
        self.cause: Outcome | None = None  # why the ladder was begun
        self.deadline: float | None = None  # of its next step
        self.steps: tuple[Step, ...] = ()
        self.job_killed = False
        self.is_unfinished = False
        self.status: int | None = None
        self.completion: Completion | None = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[Call], Any]] | None = []  # under the lock; None: they were called


class TerminalResults(EndOfCall):
    """The results of one `execute()`. They arrive by themselves; `wait()` returns when they are complete.

    Accessors raise NotReady, which is a ValueError, until then; but for `partial`, `raw_partial` and the iteration.
    `error` is None if the call came to its end, whatever its status.
    """

    _call: Call

    def __init__(self, call: Call, pump: Any) -> None:
        self._call = call
        self._pump = pump

    # how it went

    @property
    def source(self) -> str:
        return self._call.source

    @property
    def done(self) -> bool:
        return self._call.completion is not None

    def wait(self, timeout: float | None = None) -> TerminalResults:
        """Return when the call is complete: itself. TimeoutError after `timeout` seconds; the call goes on.

        Does not raise what ended the call: see `error` and `raise_for_error()`.
        """
        if not self._pump.wait_until(lambda: self._call.completion is not None, timeout):
            raise TimeoutError(f"call {self.number} is not complete after {timeout} s")
        return self

    @property
    def timed_out(self) -> bool:
        return self.outcome is Outcome.TIMED_OUT

    @property
    def exit_code(self) -> int | None:
        """The status of what was executed, where the program tells one; or that which the program ended with.

        bash: `$?`; Python and Node.js: 1 if an exception left the code, else 0; others: None.
        """
        completion = self.completion
        return self._call.status if completion.survived else completion.exit_code

    # output

    @property
    def output(self) -> str:
        """What was printed in this call: without control sequences, lines ending in LF, bad bytes replaced."""
        return self._text(self.raw)

    @property
    def raw(self) -> bytes:
        """The same, byte by byte as it came."""
        _ = self.completion
        return self._call.output.joined("stdout")

    @property
    def partial(self) -> str:
        """The output so far, also before the end."""
        return self._text(self.raw_partial)

    @property
    def raw_partial(self) -> bytes:
        return self._pump.so_far(self._call)  # type: ignore[no-any-return]

    @property
    def late_output(self) -> str:
        """What was printed since, while nothing ran: by processes that were left in the background."""
        return self._text(self._call.output.joined("stdout", True))

    def wait_for(self, text: str, timeout: float | None = None) -> str:
        """Return the output so far as soon as `text` is in it, such as a question that is to be answered.

        TimeoutError after `timeout` seconds; EOFError if the call is over without it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self._pump.count
            is_over = self.done
            began = time.monotonic()
            found = self.partial
            if text in found:
                return found
            cost = time.monotonic() - began
            if is_over:
                raise EOFError(f"call {self.number} is over, and has not printed {text!r}")
            left = None if deadline is None else deadline - time.monotonic()
            if not self._pump.wait_until(lambda seen=seen: self._pump.count != seen, left):
                raise TimeoutError(f"call {self.number} has not printed {text!r} after {timeout} s")
            if cost > 0.001:  # of a flood: to look at all of it for each piece would take longer and longer
                self._pump.wait_until(lambda: self.done, cost)

    def chunks(self) -> Iterator[OutputChunk]:
        """The output as it comes, from its beginning, until the call is over. As bytes of the terminal: `raw`."""
        events = self._call.output.events
        index = 0

        def has_more() -> bool:
            return len(events) > index or self.done

        while True:
            is_over = self.done
            while index < len(events):
                if events[index].late:
                    return
                yield events[index]
                index += 1
            if is_over:
                return
            self._pump.wait_until(has_more, None)

    def __iter__(self) -> Iterator[OutputChunk]:
        return self.chunks()

    # what can be done to it

    def send(self, text: str) -> None:
        """Type `text` for the code that runs, once it runs. NotReady if it is over; ValueError for a line too long."""
        self._pump.send(self._call, text)

    def writeline(self, line: str) -> None:
        """`send` a line."""
        self.send(line + "\n")

    def send_eof(self) -> None:
        """Type Ctrl-D: at the beginning of a line, the end of the file for the code that reads."""
        self.send("\x04")

    def interrupt(self) -> bool:
        """Ctrl-C for the code, if it is running; False if it is not."""
        return self._pump.interrupt(self._call)  # type: ignore[no-any-return]

    def cancel(self) -> bool:
        """Take the call back if its turn has not come; False if it has."""
        return self._pump.cancel(self._call)  # type: ignore[no-any-return]

    def add_done_callback(self, callback: Callable[[TerminalResults], Any]) -> None:
        """Have `callback(results)` called when the call is complete, at once if it is.

        It is called in the session's thread, and must not wait for the session. What it raises is shown by
        `sys.excepthook`.
        """

        def deliver(_call: Call) -> None:
            try:
                callback(self)
            except Exception as error:
                sys.excepthook(type(error), error, error.__traceback__)

        if not self._pump.on_done(self._call, deliver):
            deliver(self._call)

    def _text(self, data: bytes) -> str:
        return ansi.plain(data.decode(self._pump.encoding, "replace"))

    def __repr__(self) -> str:
        state = self._call.completion or f"call {self.number} {'running' if self._call.began else 'queued'}"
        return f"<{type(self).__name__} {state}>"


def new_condition() -> threading.Condition:
    return threading.Condition(threading.RLock())
