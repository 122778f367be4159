"""What is done with output while it comes: shown, and given to callbacks, by a thread that may be held up by that.

The command is read by another one, so a terminal that is slow, or a callback, never blocks it.
"""

from __future__ import annotations

import codecs
import io
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from .api import LOGGER

#: seconds of silence after which the beginning of a line is shown, for it may be a prompt
_SILENCE: Final = 0.1
#: seconds without any progress after which the rest of what a stopped command has written is not shown
_PATIENCE: Final = 1.0
#: seconds between two looks for that
_LOOK: Final = 0.1
_RED: Final = b"\033[31m"
_PLAIN: Final = b"\033[39m"


class Listener:
    """Of one command. sinks: for each stream, 1 and 2, what its output goes to."""

    def __init__(self, sinks: dict[int, list[Sink]]) -> None:
        self._sinks = sinks
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._given = 0  # pieces
        self._is_abandoned = False

    def start(self) -> None:
        """RuntimeError: there are too many threads."""
        thread = threading.Thread(target=self._run, name="extsession-listener", daemon=True)
        thread.start()
        self._thread = thread

    def is_current(self) -> bool:
        """Whether this is called from something that output is given to."""
        return threading.current_thread() is self._thread

    def put(self, stream: int, data: bytes) -> None:
        self._queue.put((stream, data))

    def finish(self, is_hurried: Callable[[], bool]) -> None:
        """Return when all that was put has been given on: it waits as any program does whose output nobody reads.

        While `is_hurried`, it does so for as long as there is some progress: nothing that is stopped may hang here.
        """
        if self._thread is None:
            return
        self._queue.put(None)
        given, since = self._given, time.monotonic()
        while self._thread.is_alive():
            self._thread.join(_LOOK)
            now = time.monotonic()
            if self._given != given or not is_hurried():
                given, since = self._given, now
            elif now - since > _PATIENCE and self._thread.is_alive():
                self._is_abandoned = True
                LOGGER.warning("output is not shown any more: what it goes to has taken nothing for %g s", _PATIENCE)
                return

    def _run(self) -> None:
        sinks = [sink for each in self._sinks.values() for sink in each]
        while True:
            due = min((sink.due for sink in sinks if sink.due is not None), default=None)
            try:
                item = self._queue.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
            except queue.Empty:
                for sink in sinks:
                    if sink.due is not None and sink.due <= time.monotonic():
                        sink.pause()
                continue
            if item is None:
                for sink in sinks:
                    sink.flush()
                return
            stream, data = item
            for sink in self._sinks.get(stream, ()):
                sink.give(data)
            self._given += 1
            if self._is_abandoned:
                return


class Sink:
    """Something that output goes to. due: when `pause` is to be called, unless more has come."""

    due: float | None = None

    def give(self, data: bytes) -> None:
        raise NotImplementedError

    def pause(self) -> None:
        """Nothing has come for a while: give on what was kept back."""

    def flush(self) -> None:
        """Nothing comes any more: give on what was kept back."""


class Callback(Sink):
    """A function that is called with each piece. One that raises is not called again."""

    def __init__(self, function: Callable[[bytes], Any]) -> None:
        self._function: Callable[[bytes], Any] | None = function

    def give(self, data: bytes) -> None:
        if self._function is None:
            return
        try:
            self._function(data)
        except BaseException:  # SystemExit too: the thread goes on
            LOGGER.exception("the callback %r for output has raised, and is not called again", self._function)
            self._function = None


class Shown(Sink):
    """A stream, binary or text, that is written to in whole lines, and in parts of them after some silence.

    One that breaks is not written to again.
    """

    def __init__(self, stream: Any, painted: bool) -> None:
        self._write: Callable[[bytes], Any] | None = _writer(stream)
        self._stream = stream
        self._painted = painted
        self._kept = bytearray()

    def give(self, data: bytes) -> None:
        self._kept += data
        end = data.rfind(b"\n")
        if end >= 0:
            size = len(self._kept) - len(data) + end + 1
            lines = bytes(self._kept[:size])
            del self._kept[:size]
            self._show(lines)
        self.due = time.monotonic() + _SILENCE if self._kept else None

    def flush(self) -> None:
        self.due = None
        if self._kept:
            rest = bytes(self._kept)
            self._kept.clear()
            self._show(rest)

    def pause(self) -> None:
        end = _whole(self._kept)
        if end:
            part = bytes(self._kept[:end])
            del self._kept[:end]
            self._show(part)
        self.due = None

    def _show(self, data: bytes) -> None:
        if self._write is None:
            return
        try:
            self._write(_RED + data + _PLAIN if self._painted else data)
        except Exception as error:
            LOGGER.warning("output is not shown any more: %r has failed: %s", self._stream, error)
            self._write = None


def _whole(data: bytearray) -> int:
    """How many bytes there are before a UTF-8 character at the end of which a part is still to come."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return len(data) - back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else len(data)
        if byte < 0x80:
            break
    return len(data)


def _writer(stream: Any) -> Callable[[bytes], Any]:
    """What writes bytes to a stream of any kind, at once."""
    buffer = getattr(stream, "buffer", None)
    if buffer is not None:

        def below(data: bytes) -> None:
            stream.flush()  # what was written as text comes first
            buffer.write(data)
            buffer.flush()

        return below
    if _is_text(stream):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def as_text(data: bytes) -> None:
            stream.write(decoder.decode(data))
            _flush(stream)

        return as_text

    def as_bytes(data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # a raw file may take a part of it
            count = stream.write(rest)
            rest = rest[len(rest) if count is None else count :]
        _flush(stream)

    return as_bytes


def _is_text(stream: Any) -> bool:
    if isinstance(stream, (io.RawIOBase, io.BufferedIOBase)):
        return False
    return isinstance(stream, io.TextIOBase) or "b" not in getattr(stream, "mode", "")


def _flush(stream: Any) -> None:
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()
