"""The captured output of one call: one list of events that readers share."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._protocol.messages import STDERR, STDOUT

STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class OutputChunk(NamedTuple):
    """A piece of output. stream: "stdout" or "stderr"; late: it came after its call was over."""

    stream: str
    data: bytes
    call: int
    late: bool = False

    @property
    def text(self) -> str:
        """As UTF-8; a character cut in two by the chunk's edge shows as U+FFFD (`ExtResults.stdout` is exact)."""
        return self.data.decode("utf-8", "replace")


@dataclass
class RichOutput:
    """Something to show that is not text. role: "result" or "display"; position: events of output before it."""

    role: str
    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    position: int = 0


class Output:
    """What a call wrote, in order, up to `limit` bytes; the rest is counted and dropped.

    limit: bytes of both streams together, None for no end.
    """

    dropped = 0
    late_from: int | None = None  # index of the first event after the call was over
    sink: Any = None  # called with each chunk instead of keeping it
    _size = 0

    def __init__(self, call: int, limit: int | None) -> None:
        self._call = call
        self._limit = limit
        self._joined: dict[tuple[str, bool], bytes] = {}
        self.events: list[OutputChunk] = []
        self.displays: list[RichOutput] = []

    def add(self, stream: int, data: bytes) -> OutputChunk | None:
        """Keep a piece; returns it as it is kept."""
        late = self.late_from is not None
        if self._limit is not None and self.sink is None:
            room = self._limit - self._size
            if len(data) > room:
                self.dropped += len(data) - room
                data = data[:room]
                if not data:
                    return None
        self._size += len(data)
        chunk = OutputChunk(STREAM_NAMES[stream], data, self._call, late)
        if self.sink is not None and self._gave(chunk):
            return chunk
        self.events.append(chunk)
        if self._joined:
            self._joined.clear()
        return chunk

    def _gave(self, chunk: OutputChunk) -> bool:
        """Give a chunk to the sink. One that raises is not asked again: the output is kept from there on."""
        try:
            self.sink(chunk)
        except Exception as error:
            self.sink = None
            sys.excepthook(type(error), error, error.__traceback__)
            return False
        return True

    @property
    def written(self) -> int:
        """Bytes that were written, kept or not."""
        return self._size + self.dropped

    def close(self) -> None:
        """The call is over: what comes now is late."""
        self.late_from = len(self.events)

    def joined(self, stream: str, late: bool = False) -> bytes:
        """All bytes of a stream: of the call itself, or those that came late."""
        key = (stream, late)
        found = self._joined.get(key)
        if found is None:
            found = b"".join([chunk.data for chunk in self.events if chunk.stream == stream and chunk.late is late])
            self._joined[key] = found
        return found


_SMALL_PIECE = 1024  # smaller ones are put together: each costs as much again to keep


class Unread:
    """What the session has printed on stdout and `readline` has not read: the last `keep` bytes of it."""

    def __init__(self, keep: int = 2**20) -> None:
        self._keep = keep
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        pieces = self._pieces
        if pieces and len(pieces[-1]) < _SMALL_PIECE:
            pieces[-1] += data
        else:
            pieces.append(data)
        self._size += len(data)
        while self._size > self._keep and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft())

    def take_line(self, rest: bool) -> bytes | None:
        """The next line; None if it is not there yet. rest: what has no line end will get none."""
        for index, piece in enumerate(self._pieces):
            end = piece.find(b"\n")
            if end >= 0:
                head = [self._pieces.popleft() for _ in range(index + 1)]
                if end + 1 < len(piece):
                    self._pieces.appendleft(piece[end + 1 :])
                head[-1] = piece[: end + 1]
                return self._taken(b"".join(head))
        if not rest:
            return None
        line = b"".join(self._pieces)
        self._pieces.clear()
        return self._taken(line)

    def _taken(self, line: bytes) -> bytes:
        self._size -= len(line)
        return line
