"""The part of SessionMachine that is about what code asks for, and who answers: input, and functions of ours."""

from __future__ import annotations

from collections import deque
from typing import Any

from .._protocol import messages, values
from .._protocol.faults import ProtocolFault
from .._protocol.frames import pack_frame
from .call import Call
from .stdin import CallStdin, InputCallback, LineSource

#: seconds that code which asks for input is left to wait for a writeline() while nobody waits for its result
INPUT_GRACE = 1.0


class Asking:
    """Of a machine whose code may ask for input."""

    current: Call | None
    outgoing: deque[Any]
    lines: LineSource
    input_callback: InputCallback | None
    attended: bool

    def _running(self, number: int, what: str) -> Call:
        raise NotImplementedError

    def write_stdin(self, data: bytes, now: float) -> None:
        """Lines for the code's stdin."""
        self.lines.put(data)
        if self.current is not None and self.current.input_waiting:
            self._answer(self.current, now)

    def close_stdin(self, now: float) -> None:
        """No more lines come for now: who asks gets the end of the file."""
        self.lines.closed = True
        if self.current is not None and self.current.input_waiting:
            self._answer(self.current, now)

    def _on_input(self, number: int, body: bytes, now: float) -> None:
        call = self._running(number, "Input")
        if call.input_waiting:
            raise ProtocolFault("Input while an Input waits")
        call.input_waiting = True
        if call.stdin is None:
            call.stdin = CallStdin(None)
        stdin: CallStdin = call.stdin
        stdin.password = body == b"\1"
        stdin.until = now + INPUT_GRACE
        self._answer(call, now)

    def _answer(self, call: Call, now: float) -> None:
        """Answer the code that asks for input, if it can be said what with."""
        stdin: CallStdin = call.stdin
        eof = False
        if stdin.own is not None:
            line = stdin.own.take()
            eof = not line
        else:
            line = self.lines.take()
            if not line:
                callback = stdin.callback or self.input_callback
                if callback is not None and not stdin.waits:
                    if not stdin.asked:
                        stdin.asks = stdin.asked = True  # the colour calls it, outside of all locks
                    stdin.until = None
                    return
                if stdin.waits:
                    eof = self.lines.closed
                    stdin.until = None
                else:
                    eof = self.attended or self.lines.closed or stdin.until is None or now >= stdin.until
                if not eof:
                    return
        self.answer_input(call, line)

    def answer_input(self, call: Call, line: bytes) -> None:
        """Send a line for the call's input; b"" is the end of the file."""
        if not call.input_waiting:
            return
        call.input_waiting = False
        call.stdin.asks = call.stdin.asked = False
        self.outgoing.append(pack_frame(messages.STDIN, call.number, messages.pack_stdin(line, not line)))

    # functions of ours

    def _on_ask(self, number: int, body: bytes) -> None:
        call = self._running(number, "Ask")
        if call.host is None or call.question is not None:
            raise ProtocolFault("Ask that nobody has allowed")
        wanted = values.decode(body)
        if type(wanted) is not list or len(wanted) != 3:
            raise ProtocolFault("Ask with unknown fields")
        name, args, kwargs = wanted
        if type(name) is not str or type(args) is not list or type(kwargs) is not dict:
            raise ProtocolFault("Ask with unknown fields")
        call.question = name, args, kwargs
        call.asks = True  # the colour calls it, outside of all locks

    def answer_host(self, call: Call, body: bytes) -> None:
        """Send what a function of ours has said, if the code still waits for it."""
        if call.question is None or call is not self.current:
            return
        call.question = None
        call.asks = False
        self.outgoing.append(pack_frame(messages.ANSWER, call.number, body))
