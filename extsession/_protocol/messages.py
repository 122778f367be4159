"""The messages, the bounds of their sizes, and who may say what when.

A message is a frame (see `frames`). Bodies that are always the same few fields have a fixed
layout; what is rare or open-ended travels as a dict of safe values (see `values`).
"""

from __future__ import annotations

from .faults import BadMessage, BadValue
from .frames import HEADER_SIZE, header_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1

# controller to worker
RUN = 1  # do something as the next call
INTERRUPT = 2  # raise KeyboardInterrupt in this call, if it is still running
STDIN = 3  # an answer to INPUT
EXIT = 4  # end as an interpreter ends
ANSWER = 6  # an answer to ASK
ENDS = 5  # what a clone of the session is to have: four descriptors come along, and its mark
# worker to controller
READY = 65  # the first message: what this session is
DONE = 66  # a call is over, and all that it wrote is in the pipes
INPUT = 67  # the code reads stdin
LATE = 68  # output of a call by a thread or task that outlived it, or that runs beside others
DISPLAY = 69  # rich output, at a barrier of the text streams
PIPES = 70  # stdout may go on in another pipe, whose reading end comes along: see SWITCH
CLONING = 71  # a clone may be made: asks for ENDS
ASK = 73  # the code calls a function of the controller's: its name and arguments, safe values
PRELOADING = 72  # from a template only, before its READY: a module is about to be imported

SMALL = 64 * 1024
BULK = 2**32 - 1
#: buffers in one message; those that `pickles.pack` sets apart are so large that no more fit (`pickles.BIG`)
MAX_BUFFERS = 2**16
#: most bytes a body may have, by type: what the worker accepts, and what the controller does
TO_WORKER = {RUN: BULK, INTERRUPT: 0, STDIN: 16 * 2**20, EXIT: 16, ENDS: 8, ANSWER: 2**26}
TO_CONTROLLER = {
    READY: SMALL,
    DONE: BULK,
    INPUT: 64,
    LATE: 64 * 2**20,
    DISPLAY: BULK,
    PIPES: 4,
    CLONING: 0,
    ASK: 2**24,
}
#: the same from a session that may be hostile
TO_CONTROLLER_STRICT = {**TO_CONTROLLER, DONE: 2**26, LATE: 2**24, DISPLAY: 2**26}
#: and from a template
FROM_TEMPLATE = {READY: 2**20, PRELOADING: SMALL}

#: Who may say what when. State of the session -> messages the *worker* may send in it.
WORKER_MAY_SEND = {
    "starting": (READY,),
    "idle": (LATE,),
    "running": (DONE, INPUT, LATE, DISPLAY, PIPES, CLONING, ASK),
    "exiting": (LATE,),
}
#: State of the session -> messages the *controller* may send in it.
CONTROLLER_MAY_SEND = {
    "starting": (),
    "idle": (RUN, EXIT),
    "running": (INTERRUPT, STDIN, ENDS, ANSWER),
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
    CLONING: "Cloning",
    PRELOADING: "Preloading",
    ENDS: "Ends",
    ASK: "Ask",
    ANSWER: "Answer",
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
BRANCH = 11  # make a clone that is a session, or, as `data` says, a checkpoint
SCRIPT = 12  # run a locked-down script
ACTIONS = frozenset(range(13))
#: those that may leave the session another than it was
CHANGING = frozenset([EXEC, EVAL, CALL, GET, SET, DELETE, CONTAINS])

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

#: bytes of memory that a session with a limit of it has for itself, above what the user's code may have
MEMORY_RESERVE = 16 * 2**20

# Fixed fields are packed by int.to_bytes: the struct module is an extension, slow to load in a fresh child.
_RUN_SIZE = 10  # action u8, flags u8, bytes of source u32, of data u32
_DONE_SIZE = 36  # outcome, kind, flags, 0: u8; wall, cpu in ns, peak memory: u64; bytes of head, of extra: u32
_U32 = 0xFFFFFFFF
PLAIN_DONE_SIZE = HEADER_SIZE + _DONE_SIZE
_HEADER_BITS = 8 * HEADER_SIZE
_HEADER = 2**_HEADER_BITS - 1
_ALL_FLAGS = NEW_PIPES | LEAVING | OUTLIVED
_U64 = 0xFFFFFFFFFFFFFFFF


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
        fixed = self.action | self.flags << 8 | len(source) << 16 | len(self.data) << 48
        head = fixed.to_bytes(_RUN_SIZE, "little") + source + self.data
        if not self.buffers:
            return [head]
        sizes = b"".join([_size(piece).to_bytes(8, "little") for piece in self.buffers])
        return [head + sizes, *self.buffers]

    @classmethod
    def decode(cls, body: bytes | memoryview) -> Run:
        """BadMessage where the body is not a Run."""
        if len(body) < _RUN_SIZE:
            raise BadMessage("Run of %d bytes" % len(body))
        fixed = int.from_bytes(body[:_RUN_SIZE], "little")
        action, flags = fixed & 0xFF, fixed >> 8 & 0xFF
        source_size, data_size = fixed >> 16 & _U32, fixed >> 48
        if action not in ACTIONS:
            raise BadMessage("Run with the unknown action %d" % action)
        start = _RUN_SIZE
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


def pack_plain_run(call: int, action: int, flags: int, source: str) -> bytes:
    """The whole frame of a RUN that has a source and nothing else; the same as frame and Run make of it."""
    text = source.encode("utf-8", "surrogatepass")
    size = len(text)
    header = header_number(_RUN_SIZE + size | RUN << 32 | call << 40)
    fixed = header | (action | flags << 8 | size << 16) << _HEADER_BITS
    return fixed.to_bytes(HEADER_SIZE + _RUN_SIZE, "little") + text


def unpack_plain_run(frame: bytes) -> tuple[int, Run] | None:
    """(call, Run) if `frame` is one whole RUN that has a source and nothing else; else None: look closer."""
    size = len(frame) - HEADER_SIZE - _RUN_SIZE
    if size <= 0:
        return None
    number = int.from_bytes(frame[: HEADER_SIZE + _RUN_SIZE], "little")
    call = number >> 40 & _U32
    fixed = number >> _HEADER_BITS
    if number & _HEADER != header_number(_RUN_SIZE + size | RUN << 32 | call << 40) or fixed >> 16 != size:
        return None
    if fixed & 0xFF not in ACTIONS:
        return None
    try:
        source = str(frame[HEADER_SIZE + _RUN_SIZE :], "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return call, Run(fixed & 0xFF, fixed >> 8 & 0xFF, source)


def pack_plain_done(call: int, done: Done) -> bytes:
    """The whole frame of a DONE without extra and buffers; the same as frame and Done make of it."""
    head = done.head
    size = len(head)
    number = header_number(_DONE_SIZE + size | DONE << 32 | call << 40) | done.fixed(size, 0) << _HEADER_BITS
    frame = number.to_bytes(PLAIN_DONE_SIZE, "little")
    return frame + head if size else frame


def unpack_plain_done(frame: bytes, call: int) -> Done | None:
    """The DONE of `call`, if `frame` is just that, with at most a value, and nothing came along; else None."""
    size = len(frame) - HEADER_SIZE
    number = int.from_bytes(frame[:PLAIN_DONE_SIZE], "little")
    if size < _DONE_SIZE or number & _HEADER != header_number(size | DONE << 32 | call << 40):
        return None
    fixed = number >> _HEADER_BITS
    # outcome FINISHED, flags and spare 0; no extra, and the head is all the rest
    if fixed & 0xFFFF00FF or fixed >> 224 != size - _DONE_SIZE:
        return None
    done = Done(FINISHED)
    if size > _DONE_SIZE:
        done.head = frame[PLAIN_DONE_SIZE:]
    done.kind = fixed >> 8 & 0xFF
    done.wall = (fixed >> 32 & _U64) / 1e9
    done.cpu = (fixed >> 96 & _U64) / 1e9
    done.peak_memory = fixed >> 160 & _U64
    return done


class Done:
    """DONE: outcome, the value (see `pickles.pack`), what it cost, and `extra`, a dict of safe values."""

    kind = 0
    head = b""
    flags = 0
    wall = 0.0  # seconds
    cpu = 0.0
    peak_memory = 0
    extra: dict[str, Any] | None = None
    buffers: Any = ()

    def __init__(self, outcome: int, **fields: Any) -> None:
        self.outcome = outcome
        if fields:
            self.__dict__.update(fields)

    def fixed(self, head: int, extra: int) -> int:
        """The fixed fields as one number; head, extra: bytes of these."""
        return (
            self.outcome
            | self.kind << 8
            | self.flags << 16
            | int(self.wall * 1e9) << 32
            | int(self.cpu * 1e9) << 96
            | self.peak_memory << 160
            | head << 224
            | extra << 256
        )

    def encode(self) -> list[Any]:
        """The body in pieces, as Run.encode."""
        extra = b""
        if self.extra:
            from .values import encode

            extra = encode(self.extra)
        fixed = self.fixed(len(self.head), len(extra))
        head = fixed.to_bytes(_DONE_SIZE, "little") + self.head + extra
        if not self.buffers:
            return [head]
        sizes = b"".join([_size(piece).to_bytes(8, "little") for piece in self.buffers])
        return [head + sizes, *self.buffers]

    @classmethod
    def decode(cls, body: bytes) -> Done:
        """BadMessage where the body is not a Done."""
        size = len(body)
        if size < _DONE_SIZE:
            raise BadMessage("Done of %d bytes" % size)
        fixed = int.from_bytes(body[:_DONE_SIZE], "little")
        outcome = fixed & 0xFF
        flags = fixed >> 16 & 0xFF
        if outcome not in OUTCOMES or fixed >> 24 & 0xFF or flags & ~_ALL_FLAGS:
            raise BadMessage("Done with unknown fields")
        done = cls(outcome)
        done.kind = fixed >> 8 & 0xFF
        done.flags = flags
        done.wall = (fixed >> 32 & _U64) / 1e9
        done.cpu = (fixed >> 96 & _U64) / 1e9
        done.peak_memory = fixed >> 160 & _U64
        if size == _DONE_SIZE:
            if fixed >> 224:
                raise BadMessage("Done is shorter than it says")
            return done
        middle = _DONE_SIZE + (fixed >> 224 & _U32)
        end = middle + (fixed >> 256)
        if end > size:
            raise BadMessage("Done is shorter than it says")
        done.head = body[_DONE_SIZE:middle]
        if end > middle:
            done.extra = _dict(body[middle:end], "Done")
        if end < size:
            done.buffers = _cut(memoryview(body)[end:])
        return done


def pack_ready(fields: dict[str, Any]) -> bytes:
    """READY: fields of type str, int or list of int. Plain text, so that a fresh child need not load the codec."""
    parts = []
    for name, value in fields.items():
        if type(value) is list:
            parts += [name, "l" + ",".join(map(str, value))]
        else:
            parts += [name, ("s" if type(value) is str else "i") + str(value)]
    return "\0".join(parts).encode("utf-8", "surrogateescape")


def unpack_ready(body: bytes) -> dict[str, Any]:
    """BadMessage where the body is no such text."""
    parts = bytes(body).decode("utf-8", "surrogateescape").split("\0")
    fields: dict[str, Any] = {}
    try:
        if len(parts) % 2:
            raise ValueError(parts[-1])
        for name, value in zip(parts[::2], parts[1::2]):
            kind, text = value[:1], value[1:]
            if kind == "s":
                fields[name] = text
            elif kind == "l":
                fields[name] = [_small_int(each) for each in text.split(",")]
            elif kind == "i":
                fields[name] = _small_int(text)
            else:
                raise ValueError(kind)
    except ValueError:
        raise BadMessage("Ready with a field that is none") from None
    return fields


def _small_int(text: str) -> int:
    if len(text) > 20 or not text.lstrip("-").isdecimal():
        raise ValueError(text)
    return int(text)


def pack_display(barrier: int, fields: dict[str, Any]) -> bytes:
    """DISPLAY: belongs where `barrier` stands in the text streams."""
    from .values import encode

    return barrier.to_bytes(8, "little") + encode(fields)


def unpack_display(body: bytes) -> tuple[int, dict[str, Any]]:
    if len(body) < 8:
        raise BadMessage("Display of %d bytes" % len(body))
    return int.from_bytes(body[:8], "little"), _dict(body[8:], "Display")


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
    from .values import decode

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
        if len(sizes) == MAX_BUFFERS:
            raise BadMessage("too many buffers")
        size = int.from_bytes(view[at : at + 8], "little")
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
