"""Put the two text streams of a session back into one order.

The worker writes a barrier, the session's secret token and a number, into both pipes whenever Python code
changes the stream (see `_worker/streams.py`). What follows a barrier on one stream is held back until
the other has reached it too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .._protocol.messages import RICH, STDERR, STDOUT, SWITCH, TOKEN_SIZE

_NUMBER_SIZE = 8


class Merger:
    """Cuts barriers out of the streams' bytes and gives the rest to `emit(stream, data)` in order.

    token: the session's; `place(number)` is called when both streams have reached the barrier of a rich
    output (`messages.RICH` is in its number).
    """

    def __init__(
        self, token: bytes, emit: Callable[[int, bytes], None], place: Callable[[int], None] | None = None
    ) -> None:
        assert len(token) == TOKEN_SIZE
        self._token = token
        self._first = token[:1]
        self._emit = emit
        self._place = place
        self.switched = 0  # stdout goes on in the pipe of this number, which stands by
        self._tail = {STDOUT: b"", STDERR: b""}  # may be the beginning of a barrier
        # what waits behind a barrier that the other stream has not reached: bytes, or a barrier's number
        self._held: dict[int, deque[Any]] = {STDOUT: deque(), STDERR: deque()}

    def feed(self, stream: int, data: bytes) -> None:
        """Bytes that were read from a stream."""
        tail = self._tail[stream]
        if tail:
            data = tail + data
            self._tail[stream] = b""
        if data.find(self._first) < 0:  # it is in no UTF-8 text; to look for one byte is much faster than for many
            if data:
                self._text(stream, data)
            return
        token = self._token
        start = 0
        while True:
            found = data.find(token, start)
            if found < 0:
                break
            end = found + TOKEN_SIZE + _NUMBER_SIZE
            if end > len(data):
                self._tail[stream] = data[found:]
                if found > start:
                    self._text(stream, data[start:found])
                return
            if found > start:
                self._text(stream, data[start:found])
            number = int.from_bytes(data[found + TOKEN_SIZE : end], "little")
            if number & SWITCH:
                self.switched = number & ~SWITCH
            else:
                self._barrier(stream, number)
            start = end
        keep = self._begun(data)
        if keep:
            self._tail[stream] = data[len(data) - keep :]
            data = data[: len(data) - keep]
        if len(data) > start:
            self._text(stream, data[start:] if start else data)

    def settle(self) -> None:
        """Nothing more belongs to what was read: give out what is held, barriers met or not."""
        tail, held = self._tail, self._held
        if not (tail[STDOUT] or tail[STDERR] or held[STDOUT] or held[STDERR]):
            return
        for stream in (STDOUT, STDERR):
            if self._tail[stream]:
                self._text(stream, self._tail[stream])
                self._tail[stream] = b""
        while self._held[STDOUT] or self._held[STDERR]:
            # a barrier that one stream never got (its pipe was closed by the code): the lowest goes first
            self._pass(min((held[0] for held in self._held.values() if held), key=lambda n: n & ~RICH))

    def end(self) -> None:
        """Nothing is fed any more: let go of who gets it, which holds this, and with it all that was printed."""
        self._emit = lambda stream, data: None
        self._place = None

    def close_stream(self, stream: int) -> None:
        """A stream goes on in another pipe: what looked like the beginning of a barrier was none."""
        tail, self._tail[stream] = self._tail[stream], b""
        if tail:
            self._text(stream, tail)

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of a token."""
        first = self._first
        at = max(0, len(data) - TOKEN_SIZE + 1)
        while True:
            at = data.find(first, at)
            if at < 0:
                return 0
            if self._token.startswith(data[at:]):
                return len(data) - at
            at += 1

    def _text(self, stream: int, data: bytes) -> None:
        held = self._held[stream]
        if held:
            held.append(data)
        else:
            self._emit(stream, data)

    def _barrier(self, stream: int, number: int) -> None:
        held = self._held[stream]
        held.append(number)
        other = self._held[STDERR if stream == STDOUT else STDOUT]
        while held and other and held[0] == other[0]:
            self._pass(held[0])

    def _pass(self, number: int) -> None:
        """Open a barrier: what is behind it goes out, up to the next one."""
        for held in self._held.values():
            if held and held[0] == number:
                held.popleft()
        if self._place is not None and number & RICH:
            self._place(number)
        for stream, held in self._held.items():
            while held and type(held[0]) is bytes:
                self._emit(stream, held.popleft())
