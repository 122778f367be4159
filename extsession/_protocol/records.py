"""How a call ended, as data: `Usage`, and `ErrorInfo`, an exception that can cross the wire.

Both ends are hostile ground. In the child, an exception is an object of the user's, whose methods
may raise or lie; in the controller, an `ErrorInfo` may have been made up by the session, and some
built-in exceptions crash the interpreter when they are built of nonsense.
"""

from __future__ import annotations

import builtins

from .faults import BadValue, CannotTravel
from .values import encode, text_of, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

MAX_CHAIN = 50  # levels of causes, contexts and members below an exception
MAX_ERRORS = 200  # exceptions in one tree
MAX_NOTES = 100
MAX_TEXT = 1 << 20  # characters of a message, note or traceback
MAX_TEXTS = 1 << 22  # of them all
MAX_ARGS = 1 << 16  # encoded bytes of args or details
_MAX_LINE = 1 << 63
_ARGS_DEPTH = 40  # levels in args: with MAX_CHAIN, each of two levels, under values.MAX_DEPTH

_SYNTAX = ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset")
_DETAILS = (
    (SyntaxError, _SYNTAX),
    (OSError, ("errno", "strerror", "filename", "filename2")),
    (ImportError, ("name", "path")),
)


class _Record:
    """Fields in `__slots__`, set once, by `_fill`."""

    __slots__: tuple[str, ...] = ()

    def _fill(self, *values: object) -> None:
        for name, value in zip(self.__slots__, values):
            object.__setattr__(self, name, value)

    def _fields(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__slots__])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("%s is a record of the past: %s cannot change" % (type(self).__name__, name))

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        pairs = ["%s=%r" % pair for pair in zip(self.__slots__, self._fields())]
        return "%s(%s)" % (type(self).__name__, ", ".join(pairs))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._fields()


class ErrorInfo(_Record):
    """An exception as data.

    type_name: "ValueError" for a built-in, else "module.Qualname".
    lineno, filename: of the innermost frame in the source that was sent; None if there is none.
    traceback: as an interpreter prints it; "" for the exceptions below the first.
    cause, context: an ErrorInfo or None. An exception is told of once in the whole tree: a context
        that is the cause too is None, and circles are cut.
    exceptions: the members of an exception group.
    args: None if they are too large or cannot travel.
    details: fields of a SyntaxError, OSError, ImportError or group that its args do not tell.
    """

    __slots__ = (  # noqa: RUF023 (the order of the arguments)
        "type_name", "message", "lineno", "filename", "traceback", "notes", "cause", "context",
        "suppress_context", "exceptions", "args", "details",
    )  # fmt: skip
    type_name: str
    message: str
    lineno: int | None
    filename: str | None
    traceback: str
    notes: tuple[str, ...]
    cause: ErrorInfo | None
    context: ErrorInfo | None
    suppress_context: bool
    exceptions: tuple[ErrorInfo, ...]
    args: tuple[Any, ...] | None
    details: dict[str, Any] | None

    def __init__(
        self,
        type_name: str,
        message: str,
        lineno: int | None = None,
        filename: str | None = None,
        traceback: str = "",
        notes: tuple[str, ...] = (),
        cause: ErrorInfo | None = None,
        context: ErrorInfo | None = None,
        suppress_context: bool = False,
        exceptions: tuple[ErrorInfo, ...] = (),
        args: tuple[Any, ...] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        self._fill(
            type_name, message, lineno, filename, traceback, notes, cause, context,
            suppress_context, exceptions, args, details,
        )  # fmt: skip

    def to_wire(self) -> tuple[Any, ...]:
        """A tuple for the safe codec."""
        fields = list(self._fields())
        fields[6] = self.cause and self.cause.to_wire()
        fields[7] = self.context and self.context.to_wire()
        fields[9] = tuple([member.to_wire() for member in self.exceptions])
        return tuple(fields)

    @classmethod
    def from_wire(cls, wire: Any) -> ErrorInfo:
        """The inverse of `to_wire`. Raises BadValue for a tree too large, or a field of a wrong type."""
        return _read(wire, 0, [MAX_ERRORS])

    @classmethod
    def from_exception(
        cls,
        exc: BaseException,
        format_traceback: Callable[[BaseException], str],
        is_source: Callable[[str], bool] | None = None,
    ) -> ErrorInfo:
        """What can be told of a live exception. Raises nothing, whatever the user's methods do.

        is_source: whether a frame of that filename counts for `lineno`; None counts all.
        """
        try:
            traceback = str.__str__(format_traceback(exc))
        except BaseException:  # methods of the user's take part in it
            traceback = "%s: %s\n" % (type_name(type(exc)), text_of(exc))
        return _Teller(is_source).tell(exc, traceback)

    def to_exception(
        self, fallback: Callable[[ErrorInfo], BaseException] | None = None
    ) -> BaseException | None:
        """The exception again, without cause and context; None if it is no built-in or not to be rebuilt.

        fallback: makes a member of a group that cannot be rebuilt. Without it, the group cannot either.
        """
        known = vars(builtins).get(self.type_name)
        if not isinstance(known, type) or not issubclass(known, BaseException):
            return None
        if known.__module__ != "builtins" or known.__name__ != self.type_name:
            return None  # an alias, or something that was put there
        try:
            result = _rebuilt(known, self, fallback)
            if self.notes and result is not None:
                result.__notes__ = list(self.notes)  # type: ignore[attr-defined,unused-ignore]
        except Exception:
            return None
        return result


# In the child. type() and not isinstance(), which asks the object for its `__class__`.


class _Teller:
    """Goes through the tree of an exception, and keeps it and its texts within bounds."""

    __slots__ = ("is_source", "room", "seen")

    def __init__(self, is_source: Callable[[str], bool] | None) -> None:
        self.is_source = is_source
        self.room = MAX_TEXTS
        self.seen: set[int] = set()

    def tell(self, exc: BaseException, traceback: str = "", depth: int = 0) -> ErrorInfo:
        self.seen.add(id(exc))
        # getset descriptors of BaseException itself: a subclass may have put a property over them
        fields = vars(BaseException)
        message, traceback, notes = self._cut(text_of(exc)), self._cut(traceback), self._notes(exc)
        cause = self._below(fields["__cause__"].__get__(exc), depth)
        context = self._below(fields["__context__"].__get__(exc), depth)
        members = _attribute(exc, "exceptions")
        told = [self._below(member, depth) for member in members] if type(members) is tuple else []
        lineno, filename = self._place(exc)
        args, details = _args_of(exc, fields["args"].__get__(exc)), _details(exc, any(told))
        return ErrorInfo(
            type_name(type(exc)), message, lineno, filename, traceback, notes, cause, context,
            fields["__suppress_context__"].__get__(exc) is True,
            tuple([info for info in told if info is not None]), args, details,
        )  # fmt: skip

    def _below(self, other: Any, depth: int) -> ErrorInfo | None:
        if not issubclass(type(other), BaseException) or id(other) in self.seen:
            return None
        if depth >= MAX_CHAIN or len(self.seen) >= MAX_ERRORS:
            return None
        return self.tell(other, "", depth + 1)

    def _cut(self, text: str) -> str:
        room = min(self.room, MAX_TEXT)
        self.room -= min(room, len(text))
        if len(text) <= room:
            return text
        return "%s\n<%d characters cut>" % (text[:room], len(text) - room)

    def _notes(self, exc: BaseException) -> tuple[str, ...]:
        notes = _attribute(exc, "__notes__")
        if notes is None:
            return ()
        if type(notes) not in (list, tuple):
            notes = (notes,)
        return tuple([self._cut(_note(note)) for note in notes[:MAX_NOTES]])

    def _place(self, exc: BaseException) -> tuple[int | None, str | None]:
        place: tuple[int | None, str | None] = (None, None)
        traceback = vars(BaseException)["__traceback__"].__get__(exc)
        while traceback is not None:
            filename = str.__str__(traceback.tb_frame.f_code.co_filename)
            if self.is_source is None or self.is_source(filename):
                place = (traceback.tb_lineno, filename)
            traceback = traceback.tb_next
        if place[0] is None and self.is_source is not None and issubclass(type(exc), SyntaxError):
            # of our compile() of what was sent: no frame of it has run
            filename, lineno = _attribute(exc, "filename"), _attribute(exc, "lineno")
            if type(filename) is str and type(lineno) is int and self.is_source(filename):
                return (lineno if abs(lineno) < _MAX_LINE else None, filename)
        return place


def _attribute(exc: BaseException, name: str) -> Any:
    try:
        return getattr(exc, name, None)
    except BaseException:  # a property of the user's, called by us
        return None


def _note(note: object) -> str:
    try:
        return str.__str__(str(note))
    except BaseException:
        return "<note str() failed>"


def _sendable(value: Any) -> Any:
    """`value` if it can travel and is small, or None."""
    try:
        return value if len(encode(value, depth=_ARGS_DEPTH)) <= MAX_ARGS else None
    except CannotTravel:
        return None


def _args_of(exc: BaseException, args: Any) -> Any:
    if _sendable(args) is None and issubclass(type(exc), UnicodeError) and _sane_unicode(type(exc), args):
        # No such error can be made without its subject: take the bad part of it alone.
        subject, start, end, reason = args[-4:]
        reason = "%s (at %d of %d)" % (reason, start, len(subject))
        args = args[:-4] + (subject[start : start + 64], 0, min(end - start, 64), reason)
    return _sendable(args)


def _details(exc: BaseException, is_group: bool) -> dict[str, Any] | None:
    names: tuple[str, ...] = ("message",) if is_group else ()
    for cls, fields in _DETAILS:
        if issubclass(type(exc), cls):
            names = fields
    found = {name: _sendable(_attribute(exc, name)) for name in names}
    return {name: value for name, value in found.items() if value is not None} or None


# In the controller.


def _is(value: object, *types: type | None) -> bool:
    return (None if value is None else type(value)) in types


def _texts(value: object) -> bool:
    return type(value) is tuple and len(value) <= MAX_NOTES and all(type(text) is str for text in value)


def _read(wire: Any, depth: int, room: list[int]) -> ErrorInfo:
    room[0] -= 1
    if depth > MAX_CHAIN or room[0] < 0:
        raise BadValue("an error of too many errors")
    if type(wire) is not tuple or len(wire) != len(ErrorInfo.__slots__):
        raise BadValue("not an error")
    name, message, lineno, filename, traceback, notes, cause, context, suppress, members, args, details = wire
    good = (
        _is(name, str) and _is(message, str) and _is(traceback, str) and _is(filename, str, None)
        and (lineno is None or (_is(lineno, int) and abs(lineno) < _MAX_LINE)) and _texts(notes)
        and _is(suppress, bool) and _is(members, tuple) and _is(args, tuple, None)
        and (details is None or (_is(details, dict) and all(type(key) is str for key in details)))
    )  # fmt: skip
    if not good:
        raise BadValue("an error with a field of a wrong type")
    return ErrorInfo(
        name, message, lineno, filename, traceback, notes,
        None if cause is None else _read(cause, depth + 1, room),
        None if context is None else _read(context, depth + 1, room),
        suppress, tuple([_read(member, depth + 1, room) for member in members]), args, details,
    )  # fmt: skip


def _rebuilt(
    cls: type[BaseException],
    info: ErrorInfo,
    fallback: Callable[[ErrorInfo], BaseException] | None,
) -> BaseException | None:
    args, details = info.args, info.details or {}
    if issubclass(cls, getattr(builtins, "BaseExceptionGroup", ())):
        members = [
            member.to_exception(fallback) or (fallback(member) if fallback else None)
            for member in info.exceptions
        ]
        message = details.get("message")
        if type(message) is not str or None in members:
            return None
        result: Any = cls(message, members)
    elif issubclass(cls, SyntaxError) and (details or (args is not None and len(args) > 1)):
        result = _syntax_error(cls, details)
    elif issubclass(cls, OSError) and args is not None and "errno" in details and "filename" in details:
        names = (details["filename"], None, details.get("filename2"))
        result = cls(details["errno"], details.get("strerror"), *names[: 3 if "filename2" in details else 1])
    elif issubclass(cls, UnicodeError) and cls is not UnicodeError:
        if not _sane_unicode(cls, args):
            return None
        result = cls(*args)  # type: ignore[misc]
    else:
        result = cls(info.message) if args is None else cls(*args)
        if issubclass(cls, ImportError):
            result.name, result.path = details.get("name"), details.get("path")
    return result if isinstance(result, cls) else None


def _syntax_error(cls: Any, details: dict[str, Any]) -> Any:
    msg, filename, lineno, offset, text, end_lineno, end_offset = [details.get(name) for name in _SYNTAX]
    for number in (lineno, offset, end_lineno, end_offset):  # C code prints them
        if not _is(number, int, None) or abs(number or 0) >= 1 << 31:
            return None
    if not (_is(msg, str) and _is(filename, str, None) and _is(text, str, None)):
        return None
    place = (filename, lineno, offset, text)
    if end_lineno is None or not hasattr(SyntaxError, "end_lineno"):  # new in 3.10
        return cls(msg, place)
    return cls(msg, place + (end_lineno, end_offset))


def _sane_unicode(cls: type, args: tuple[Any, ...] | None) -> bool:
    """Whether str() of such an error is harmless: before 3.14 it reads the memory at `start` unchecked."""
    types: list[type] = [str, bytes if cls is UnicodeDecodeError else str, int, int, str]
    if cls is UnicodeTranslateError:
        del types[0]
    if args is None or [type(arg) for arg in args] != types:
        return False
    subject, start, end = args[-4], args[-3], args[-2]
    return bool(0 <= start <= end <= len(subject))
