"""Bytes that a command has written, and the text that they are."""

from __future__ import annotations

import codecs
import re
import threading
from typing import Any, Final

from .. import without_escapes

#: the beginning of a control sequence (ECMA-48), at the end of a text
_CUT: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)\Z")


class Text:
    """What one stream has got so far. plain: without ANSI escape sequences in the text."""

    def __init__(self, plain: bool = False, data: bytearray | None = None) -> None:
        self._bytes = bytearray() if data is None else data
        self._plain = plain
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decoded = 0  # bytes
        self._pieces: list[str] = []
        self._rest = ""  # an escape sequence that has begun
        self._ended = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, text: str) -> Text:
        """Made by hand."""
        if not isinstance(text, str):
            raise TypeError(f"out and err take text, not {type(text).__name__}")
        return cls(data=bytearray(text, "utf-8", "surrogateescape")).end()

    def end(self) -> Text:
        """Nothing more comes."""
        self._ended = True
        return self

    @property
    def data(self) -> bytes:
        return bytes(self._bytes)

    @property
    def text(self) -> str:
        """UTF-8 with what is none as surrogates (PEP 383). Of a stream that goes on, without a character cut in two."""
        with self._lock:
            return self._decode()

    def _decode(self) -> str:
        new = self._bytes[self._decoded :]  # no view of it: it may grow at this moment
        if new or self._ended:
            self._decoded += len(new)
            piece = self._rest + self._decoder.decode(new, self._ended)
            self._rest = ""
            if self._plain:
                if not self._ended and (cut := _CUT.search(piece)) is not None:
                    piece, self._rest = piece[: cut.start()], piece[cut.start() :]
                piece = without_escapes(piece)
            if piece:
                self._pieces.append(piece)
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _ended, (self._plain, bytes(self._bytes))


def _ended(plain: bool, data: bytes) -> Text:
    return Text(plain, bytearray(data)).end()
