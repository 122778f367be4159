"""Frames: a fixed header, then a body of the length it states.

    length  u32   bytes of the body
    type    u8    a message type of `messages`
    call    u32   the call it is about; 0: none
    check   u32   a mix of the three: bytes that are no header are not taken for one

All little endian. A receiver allows only the types that the other side may send and bounds each
body before it keeps one byte of it. The check is against accidents (the session's code writes to a descriptor
that it did not open), not against forgery: code in the session could read this module.
"""

from __future__ import annotations

from .faults import BadFrame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Union

    Body = Union[bytes, bytearray]

HEADER_SIZE = 13
MAX_CALL = 2**32 - 1
#: bodies above this are collected in place instead of being put together from pieces
LARGE = 256 * 1024
#: room made for a large body at first; more is made only as bytes arrive, for a header alone proves nothing
_FIRST_ROOM = 16 * 2**20

_from_bytes = int.from_bytes


_FIELDS = 2**72 - 1
_MIX = 0x9E3779B97F4A7C15F39D  # odd, and its bits are as good as random: 2**80 divided by the golden ratio
_SALT = 0x65787453  # a header of zeros is none


def pack_frame(kind: int, call: int, body: bytes = b"") -> bytes:
    """One whole frame."""
    return pack_header(kind, call, len(body)) + body


def pack_header(kind: int, call: int, length: int) -> bytes:
    """The header of a frame whose body of `length` bytes is sent separately; OverflowError: it does not fit."""
    if length >> 32 or kind >> 8 or call >> 32:
        raise OverflowError("a frame of type %d with %d bytes does not fit its header" % (kind, length))
    return header_number(length | kind << 32 | call << 40).to_bytes(HEADER_SIZE, "little")


def header_number(fields: int) -> int:
    """A header as one number: length, type and call, as they stand in it, and their check behind them."""
    return fields | (((fields * _MIX) >> 56 ^ _SALT) & 0xFFFFFFFF) << 72


def unpack_header(data: bytes, bounds: Mapping[int, int]) -> tuple[int, int, int]:
    """(type, call, length) of a header; BadFrame for no header, a type not in `bounds`, a body over its bound."""
    number = _from_bytes(data, "little")
    fields = number & _FIELDS
    if number != header_number(fields):
        raise BadFrame("what arrived is no frame: %s" % data.hex())
    length = fields & 0xFFFFFFFF
    kind = fields >> 32 & 0xFF
    bound = bounds.get(kind)
    if bound is None:
        raise BadFrame("frame of the unknown type %d" % kind)
    if length > bound:
        raise BadFrame("frame of type %d with %d bytes; at most %d are allowed" % (kind, length, bound))
    return kind, fields >> 40, length


class FrameDecoder:
    """Cuts a stream of bytes into frames, however it arrives.

    bounds: {type: most bytes of a body}. room: makes a writable buffer of so many bytes for a large body, or None; it
    should take memory only as it is filled. After a BadFrame the stream has lost its meaning: every later
    call raises it again. A body over `LARGE` is collected in place and comes as that buffer: a reader
    that has nothing else to take may read right into `space()` and tell with `filled()`, which ends the view.
    """

    __slots__ = ("_bounds", "_data", "_failed", "_have", "_head", "_large", "_room", "_size", "_view")

    def __init__(
        self, bounds: Mapping[int, int], room: Callable[[int], Any] | None = None
    ) -> None:
        self._bounds = bounds
        self._room = room
        self._data = b""  # of a frame that is not whole
        self._large: Any = None  # a large body, of which _have bytes are there
        self._have = 0
        self._size = 0  # that it will have
        self._view: memoryview | None = None  # what space() gave: a bytearray cannot grow under it
        self._head = (0, 0)
        self._failed: BadFrame | None = None

    def feed(self, data: bytes) -> list[tuple[int, int, Body]]:
        """Take more bytes; returns the frames (type, call, body) that are complete now."""
        if self._failed is not None:
            raise self._failed
        frames: list[tuple[int, int, Body]] = []
        if self._large is not None:
            taken = 0
            while self._large is not None and taken < len(data):
                count = min(len(self._large) - self._have, len(data) - taken)
                self._large[self._have : self._have + count] = data[taken : taken + count]
                frames += self.filled(count)
                taken += count
            if taken == len(data):
                return frames
            data = data[taken:]
        elif self._data:
            data = self._data + data
            self._data = b""
        try:
            self._take(data, frames)
        except BadFrame as fault:
            self._failed = fault
            if not frames:
                raise
        return frames

    def space(self) -> memoryview | None:
        """Where the next part of a large body belongs, if one has begun."""
        if self._large is None:
            return None
        if self._view is None:
            self._view = memoryview(self._large)[self._have :]
        return self._view

    def filled(self, count: int) -> list[tuple[int, int, Body]]:
        """`count` bytes of `space()` are there now; the frame, if that was the last of it."""
        assert self._large is not None
        if self._view is not None:
            self._view.release()
            self._view = None
        self._have += count
        have = len(self._large)
        if self._have < have:
            return []
        if have < self._size:
            self._large += bytes(min(have, self._size - have))
            return []
        kind, call = self._head
        body = self._large
        self._large = None
        return [(kind, call, body)]

    def _take(self, data: bytes, frames: list[tuple[int, int, Body]]) -> None:
        start = 0
        size = len(data)
        while size - start >= HEADER_SIZE:
            kind, call, length = unpack_header(data[start : start + HEADER_SIZE], self._bounds)
            body = start + HEADER_SIZE
            end = body + length
            if end > size:
                if length > LARGE:
                    self._have = size - body
                    self._size = length
                    large = self._room(length) if self._room is not None else None
                    if large is None:
                        large = bytearray(min(length, max(_FIRST_ROOM, 2 * self._have)))
                    self._large = large
                    self._large[: self._have] = data[body:]
                    self._head = (kind, call)
                    return
                break
            frames.append((kind, call, data[body:end]))
            start = end
        if start < size:
            self._data = data[start:] if start else data

    @property
    def pending(self) -> int:
        """Bytes held that are no whole frame yet."""
        return len(self._data) + (HEADER_SIZE + self._have if self._large is not None else 0)
