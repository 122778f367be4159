"""Values between trusted sides: pickle 5, large buffers beside it; the safe codec where it does as well."""

from __future__ import annotations

from .faults import BadValue, CannotTravel
from .values import decode, encode, text_of, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from .values import Buffer

NONE, SAFE, PICKLE, BYTES, BYTEARRAY = range(5)

BIG = 1 << 16  # bytes from which a buffer travels beside the pickle, not in it
_SHORT = (bool, int, float, str)


def pack(
    value: object, safe_only: bool = False, dumps: Callable[..., bytes] | None = None
) -> tuple[int, bytes, list[Any]]:
    """(kind, head, buffers) of `value`; the buffers are its own memory, not copies.

    safe_only: use the safe codec alone. dumps: what to try where plain pickle fails; it takes
    `protocol` and `buffer_callback`. Raises CannotTravel.
    """
    cls = type(value)
    if value is None:
        return NONE, b"", []
    if safe_only:
        return SAFE, encode(value), []
    if cls is bytes or cls is bytearray:
        if len(value) >= BIG:  # type: ignore[arg-type]
            return (BYTES if cls is bytes else BYTEARRAY), b"", [value]
        if cls is bytes:
            return SAFE, encode(value), []
    elif cls in _SHORT:
        try:
            return SAFE, encode(value), []
        except CannotTravel:
            pass  # over a bound that pickle does not have
    return _pickled(value, dumps)


def _pickled(value: object, dumps: Callable[..., bytes] | None) -> tuple[int, bytes, list[Any]]:
    import pickle

    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < BIG:
            return True
        buffers.append(raw)
        return False

    try:
        return PICKLE, pickle.dumps(value, protocol=5, buffer_callback=keep_inside), buffers
    except Exception as error:  # anything: a `__reduce__` of the user's ran
        failure = error
    if dumps is not None:
        buffers.clear()
        try:
            return PICKLE, dumps(value, protocol=5, buffer_callback=keep_inside), buffers
        except Exception as error:
            failure = error
    raise cannot(value, failure) from failure


def cannot(value: object, failure: Exception) -> CannotTravel:
    """What to raise for a value that could not be pickled."""
    why = text_of(failure)
    return CannotTravel(_culprit(why) or type_name(type(value)), why or type(failure).__name__)


def _culprit(why: str) -> str:
    """The type that a message of pickle's blames, or ''."""
    for start, end in (("cannot pickle '", "'"), ("an't pickle <class '", "'"), (" local object '", "'")):
        _, found, rest = why.partition(start)
        if found and end in rest:
            return rest.partition(end)[0]
    return "function" if "an't pickle <function " in why else ""


def unpack(kind: int, head: Buffer, buffers: Sequence[Any], trusted: bool) -> Any:
    """What `pack` was given. The value may keep `buffers` as its memory: they must be its alone.

    Raises BadValue for what is not a value, and for a pickle unless `trusted`; CannotTravel for
    a pickle that cannot be read on this side.
    """
    if kind == PICKLE:
        if not trusted:
            raise BadValue("a pickle from a side that is not trusted")
        return _unpickled(head, buffers)
    if kind in (BYTES, BYTEARRAY):
        if len(head) or len(buffers) != 1:
            raise BadValue("bytes take one buffer and no head")
        cls = bytes if kind == BYTES else bytearray
        return buffers[0] if type(buffers[0]) is cls else cls(buffers[0])
    if buffers:
        raise BadValue("buffers with a value that takes none")
    if kind == SAFE:
        return decode(head)
    if kind != NONE or len(head):
        raise BadValue("not a kind of value: %r" % (kind,))
    return None


def _unpickled(head: Buffer, buffers: Sequence[Any]) -> Any:
    import pickle

    try:
        return pickle.loads(head, buffers=buffers)
    except Exception as error:
        why = text_of(error)
        name = "<pickled>"
        if isinstance(error, ModuleNotFoundError) and error.name:
            name, why = error.name, "it cannot be found on this side (%s)" % why
        elif isinstance(error, AttributeError) and why.startswith("Can't get attribute '"):
            pieces = why.split("'")  # Can't get attribute 'Foo' on <module '__main__' ...>
            if len(pieces) > 4:
                name, why = pieces[4] + "." + pieces[2], "it cannot be found on this side"
        else:
            why = "%s: %s" % (type_name(type(error)), why)
        raise CannotTravel(name, why) from error
