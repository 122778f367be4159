"""What answers the code's `input()`.

In this order: the call's own `stdin=`, lines from `writeline()`, the callback; then the end of the file. Code that
asks while nobody waits for its result yet may still be answered by a `writeline()` that is on its way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..options import PIPE

#: takes (prompt, password) and returns a line, or None for the end of the file
InputCallback = Callable[[str, bool], str | None]


class LineSource:
    """Bytes to be handed out a line at a time."""

    def __init__(self) -> None:
        self._data: deque[bytes] = deque()
        self.closed = False

    def put(self, data: bytes) -> None:
        self._data.extend(data.splitlines(keepends=True))

    def take(self) -> bytes:
        """The next line; b"" if there is none (now)."""
        if not self._data:
            return b""
        line = self._data.popleft()
        while not line.endswith(b"\n") and self._data:
            line += self._data.popleft()
        return line


class CallStdin:
    """The stdin of one call. given: text or bytes, PIPE, a callback, or None."""

    def __init__(self, given: str | bytes | InputCallback | None) -> None:
        self.waits = given == PIPE and isinstance(given, str)
        self.callback: InputCallback | None = None
        self.own: LineSource | None = None
        self.seen: dict[str, int] = {}  # stream -> bytes of it that earlier prompts were taken from
        self.password = False  # what is asked for now must not be shown
        self.asks = False  # the callback is to be called
        self.asked = False  # and was not called for this line before
        self.until: float | None = None  # when the end of the file is the answer
        if self.waits or given is None:
            return
        if isinstance(given, str):
            given = given.encode("utf-8")
        if isinstance(given, (bytes, bytearray, memoryview)):
            self.own = LineSource()
            self.own.put(bytes(given))
        elif callable(given):
            self.callback = given
        else:
            raise TypeError(f"stdin takes str, bytes, a function, PIPE or None, not {type(given).__name__}")
