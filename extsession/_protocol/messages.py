"""The messages, the bounds of their sizes, and who may say what when.

A message is a frame (see `frames`). Bodies that are always the same few fields are packed by
`struct`; what is rare or open-ended travels as a dict of safe values (see `values`).
"""

from __future__ import annotations

import struct

from .faults import BadMessage, BadValue
from .values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1

# controller to worker
RUN = 1  # do something as the next call
INTERRUPT = 2  # raise KeyboardInterrupt in this call, if it is still running
STDIN = 3  # an answer to INPUT
EXIT = 4  # end as an interpreter ends
# worker to controller
READY = 65  # the first message: what this session is
DONE = 66  # a call is over, and all that it wrote is in the pipes
INPUT = 67  # the code reads stdin
LATE = 68  # output of a call by a thread or task that outlived it, or that runs beside others
DISPLAY = 69  # rich output, at a barrier of the text streams
PIPES = 70  # stdout may go on in another pipe, whose reading end comes along: see SWITCH

SMALL = 64 * 1024
BULK = 2**32 - 1
#: most bytes a body may have, by type: what the worker accepts, and what the controller does
TO_WORKER = {RUN: BULK, INTERRUPT: 0, STDIN: 16 * 2**20, EXIT: 16}
TO_CONTROLLER = {READY: SMALL, DONE: BULK, INPUT: 64, LATE: 64 * 2**20, DISPLAY: BULK, PIPES: 4}
#: the same from a session that may be hostile
TO_CONTROLLER_STRICT = {READY: SMALL, DONE: 2**26, INPUT: 64, LATE: 2**24, DISPLAY: 2**26, PIPES: 4}

#: Who may say what when. State of the session -> messages the *worker* may send in it.
WORKER_MAY_SEND = {
    "starting": (READY,),
    "idle": (LATE,),
    "running": (DONE, INPUT, LATE, DISPLAY, PIPES),
    "exiting": (LATE,),
}
#: State of the session -> messages the *controller* may send in it.
CONTROLLER_MAY_SEND = {
    "starting": (),
    "idle": (RUN, EXIT),
    "running": (INTERRUPT, STDIN),
    "exiting": (),
}
NAMES = {
    RUN: "Run",
    INTERRUPT: "Interrupt",
    STDIN: "Stdin",
    EXIT: "Exit",
    READY: "Ready",
    DONE: "Done",
    INPUT: "Input",
    LATE: "Late",
    DISPLAY: "Display",
    PIPES: "Pipes",
}

# what a RUN does
EXEC = 0  # run source
EVAL = 1  # value of an expression
CALL = 2  # call a pickled function
GET = 3  # value of a name
SET = 4
DELETE = 5
CONTAINS = 6
NAMES_OF = 7
COMPLETE = 8
INSPECT = 9
IS_COMPLETE = 10
ACTIONS = frozenset(range(11))

# what a RUN asks for besides (bits)
WANT_REPR = 1  # repr of the last expression's value
WANT_MIME = 2  # its MIME bundle, and figures, as DISPLAY
SAFE_ONLY = 4  # values by the safe codec only
KEEP_ON_EXIT = 8  # SystemExit is reported and does not end the session
OWN_STDIN = 16  # the call brings its own stdin: what it leaves unread is dropped

# how a call ended, as the worker sees it
FINISHED = 0
FAILED = 1  # an exception
INTERRUPTED = 2  # KeyboardInterrupt left the code
EXITED = 3  # SystemExit left the code
REFUSED = 4  # the value cannot travel
OUTCOMES = frozenset(range(5))

# bits of DONE
NEW_PIPES = 1  # two descriptors come along: the read ends of the next call's stdout and stderr
SHARED = 2  # one descriptor comes along: a sealed memory file with the buffers
LEAVING = 4  # the session ends now
OUTLIVED = 8  # threads or tasks are alive that may write later

STDOUT = 1
STDERR = 2

#: A barrier in a text pipe: this many secret bytes, then its number, 8 bytes little endian.
TOKEN_SIZE = 16
BARRIER_SIZE = TOKEN_SIZE + 8
#: this bit in a barrier's number: a DISPLAY belongs there
RICH = 1 << 63
#: this bit in stdout's pipe: no barrier, but stdout goes on in the pipe that came with PIPES of this number
SWITCH = 1 << 62

_RUN = struct.Struct("<BBII")
_DONE = struct.Struct("<BBBBddQII")
_U64 = struct.Struct("<Q")


class Run:
    """RUN: `source` is text for EXEC and EVAL; what other actions need is in `data` and `buffers`."""

    __slots__ = ("action", "buffers", "data", "flags", "source")

    def __init__(
        self, action: int, flags: int = 0, source: str = "", data: bytes = b"", buffers: Any = ()
    ) -> None:
        self.action = action
        self.flags = flags
        self.source = source
        self.data = data
        self.buffers = buffers

    def encode(self) -> list[Any]:
        """The body in pieces: small ones joined, each buffer as it is."""
        source = self.source.encode("utf-8", "surrogatepass")
        head = _RUN.pack(self.action, self.flags, len(source), len(self.data)) + source + self.data
        if not self.buffers:
            return [head]
        sizes = b"".join([_U64.pack(_size(piece)) for piece in self.buffers])
        return [head + sizes, *self.buffers]

    @classmethod
    def decode(cls, body: bytes | memoryview) -> Run:
        """BadMessage where the body is not a Run."""
        if len(body) < _RUN.size:
            raise BadMessage("Run of %d bytes" % len(body))
        action, flags, source_size, data_size = _RUN.unpack_from(body)
        if action not in ACTIONS:
            raise BadMessage("Run with the unknown action %d" % action)
        start = _RUN.size
        middle = start + source_size
        end = middle + data_size
        if end > len(body):
            raise BadMessage("Run is shorter than it says")
        try:
            source = str(body[start:middle], "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise BadMessage("Run with a source that is not UTF-8") from None
        buffers = _cut(memoryview(body)[end:]) if end < len(body) else ()
        return cls(action, flags, source, bytes(body[middle:end]), buffers)


class Done:
    """DONE: outcome, the value (see `values.pack`), what it cost, and `extra`, a dict of safe values."""

    __slots__ = ("buffers", "cpu", "extra", "flags", "head", "kind", "outcome", "peak_memory", "wall")

    def __init__(
        self,
        outcome: int,
        kind: int = 0,
        head: bytes = b"",
        flags: int = 0,
        wall: float = 0.0,
        cpu: float = 0.0,
        peak_memory: int = 0,
        extra: dict[str, Any] | None = None,
        buffers: Any = (),
    ) -> None:
        self.outcome = outcome
        self.kind = kind
        self.head = head
        self.flags = flags
        self.wall = wall
        self.cpu = cpu
        self.peak_memory = peak_memory
        self.extra = extra
        self.buffers = buffers

    def encode(self) -> list[Any]:
        """The body in pieces, as Run.encode."""
        extra = encode(self.extra) if self.extra else b""
        head = _DONE.pack(
            self.outcome,
            self.kind,
            self.flags,
            0,
            self.wall,
            self.cpu,
            self.peak_memory,
            len(self.head),
            len(extra),
        )
        head += self.head + extra
        if not self.buffers:
            return [head]
        sizes = b"".join([_U64.pack(_size(piece)) for piece in self.buffers])
        return [head + sizes, *self.buffers]

    @classmethod
    def decode(cls, body: bytes) -> Done:
        """BadMessage where the body is not a Done."""
        if len(body) < _DONE.size:
            raise BadMessage("Done of %d bytes" % len(body))
        outcome, kind, flags, spare, wall, cpu, peak, head_size, extra_size = _DONE.unpack_from(body)
        if outcome not in OUTCOMES or spare or flags > NEW_PIPES | SHARED | LEAVING | OUTLIVED:
            raise BadMessage("Done with unknown fields")
        if not (wall >= 0.0 and cpu >= 0.0):
            raise BadMessage("Done with impossible times")
        start = _DONE.size
        middle = start + head_size
        end = middle + extra_size
        if end > len(body):
            raise BadMessage("Done is shorter than it says")
        extra = None
        if extra_size:
            extra = _dict(body[middle:end], "Done")
        buffers = _cut(memoryview(body)[end:]) if end < len(body) else ()
        return cls(outcome, kind, body[start:middle], flags, wall, cpu, peak, extra, buffers)


def pack_dict(fields: dict[str, Any]) -> bytes:
    """The body of a message that is a dict of safe values (READY, DISPLAY)."""
    return encode(fields)


def unpack_dict(body: bytes, kind: int) -> dict[str, Any]:
    """BadMessage where the body is no dict with text for keys."""
    return _dict(body, NAMES[kind])


def pack_display(barrier: int, fields: dict[str, Any]) -> bytes:
    """DISPLAY: belongs where `barrier` stands in the text streams."""
    return _U64.pack(barrier) + encode(fields)


def unpack_display(body: bytes) -> tuple[int, dict[str, Any]]:
    if len(body) < 8:
        raise BadMessage("Display of %d bytes" % len(body))
    return _U64.unpack_from(body)[0], _dict(body[8:], "Display")


def unpack_stream(body: bytes) -> tuple[int, bytes]:
    """LATE: (STDOUT or STDERR, bytes)."""
    if not body or body[0] not in (STDOUT, STDERR):
        raise BadMessage("Late for no stream")
    return body[0], body[1:]


def pack_stdin(data: bytes, eof: bool) -> bytes:
    return (b"\1" if eof else b"\0") + data


def pack_exit(code: int) -> bytes:
    return code.to_bytes(8, "little", signed=True)


def unpack_exit(body: bytes) -> int:
    if len(body) != 8:
        raise BadMessage("Exit of %d bytes" % len(body))
    return int.from_bytes(body, "little", signed=True)


def _dict(body: bytes, name: str) -> dict[str, Any]:
    try:
        fields = decode(body)
    except BadValue as fault:
        raise BadMessage("%s: %s" % (name, fault)) from None
    if type(fields) is not dict or not all(type(key) is str for key in fields):
        raise BadMessage("%s without fields" % name)
    return fields


def _size(piece: Any) -> int:
    return piece.nbytes if isinstance(piece, memoryview) else len(piece)


def _cut(view: memoryview) -> list[memoryview]:
    """The buffers behind a table of their sizes; the table ends where the sizes add up."""
    sizes: list[int] = []
    total = 0
    at = 0
    while at + 8 <= len(view):
        size = _U64.unpack_from(view, at)[0]
        sizes.append(size)
        total += size
        at += 8
        if at + total == len(view):
            break
        if at + total > len(view):
            raise BadMessage("buffers longer than the message")
    else:
        raise BadMessage("buffers shorter than the message")
    pieces = []
    for size in sizes:
        pieces.append(view[at : at + size])
        at += size
    return pieces
