"""Values on the wire: a codec that is safe to decode.

It has few rules, because what it reads may come from a hostile session. A leaf is a
tag and its bytes; all else is a tag, a count, and that many values. Both ways run on a stack of
their own: the depth is bounded, and it costs nothing of the caller's recursion limit. There are
no references, so a decoded value is never larger than some hundred times its bytes. `encode`
refuses all that `decode` would: an honest sender hears of it, and no session dies of it.

Known and accepted: hashes that collide in part make a dict slow by a constant factor. Keys of
equal hash, which would make it quadratic, are refused.
"""

from __future__ import annotations

import marshal  # built in, and in every interpreter already: floats without importing struct

from .faults import BadValue, CannotTravel
from .late_types import LATE_CLOSE, check, late_type, small_ints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Sequence, Union

    from .late_types import Open

    Buffer = Union[bytes, bytearray, memoryview]

LIMIT = 1 << 30  # bytes of one encoded value
MAX_DEPTH = 200
MAX_ITEMS = 10000000  # shared parts are written each time: [x, x] fifty times over is 2 ** 50
_MAX_KEY_BITS = 1 << 10  # of an int among keys of equal hash
_FEW = 64  # keys up to which equal hashes do no harm

_TYPE_FIELDS = type.__dict__


def type_name(cls: type) -> str:
    """'module.Qualname', without 'builtins.'. Runs no code of `cls` or of its metaclass."""
    name = str.__str__(_TYPE_FIELDS["__qualname__"].__get__(cls))
    try:
        module = _TYPE_FIELDS["__module__"].__get__(cls)
    except AttributeError:
        module = None
    # type(), not isinstance(): that asks the object. Never a bare name: it would read as a built-in.
    module = str.__str__(module) if issubclass(type(module), str) else ""
    module = module or "<unknown>"
    return name if module == "builtins" else module + "." + name


def text_of(error: BaseException) -> str:
    """str(error), whatever its `__str__` does."""
    try:
        return str.__str__(str(error))
    except BaseException:  # SystemExit too: it is a method of the user's, called by us
        return "<exception str() failed>"


# Leaves. A function takes a value of exactly its type and returns its bytes.


def _size(size: int) -> bytes:
    if size < 0x80:
        return _SMALL[size]
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _put_int(value: int) -> bytes:
    size = (value.bit_length() + 8) >> 3
    if size < 0x80:
        return _INT[size] + value.to_bytes(size, "little", signed=True)
    return b"i" + _size(size) + value.to_bytes(size, "little", signed=True)


def _put_str(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
    size = len(raw)
    return (_STR[size] if size < 0x80 else b"s" + _size(size)) + raw


def _put_bytes(value: bytes) -> bytes:
    return b"b" + _size(len(value)) + value


def _put_bytearray(value: bytearray) -> bytes:
    raw = bytes(value)  # at once: another thread may change its size
    return b"a" + _size(len(raw)) + raw


def _put_float(value: float) -> bytes:
    return marshal.dumps(value, 2)  # b"g" and the 8 bytes, little endian, of all platforms


def _put_complex(value: complex) -> bytes:
    return b"c" + marshal.dumps(value.real, 2)[1:] + marshal.dumps(value.imag, 2)[1:]


_SMALL = [bytes((size,)) for size in range(0x80)]
_INT = [b"i" + size for size in _SMALL]
_STR = [b"s" + size for size in _SMALL]
_CONSTANTS: dict[int, object] = {ord("N"): None, ord("T"): True, ord("F"): False, ord("E"): Ellipsis}
_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    type(Ellipsis): lambda value: b"E",
    int: _put_int,
    str: _put_str,
    float: _put_float,
    bytes: _put_bytes,
    bytearray: _put_bytearray,
    complex: _put_complex,
}


# What is made of other values. A function of _OPEN gives the parts of a value, at once, so that
# another thread cannot change their number; one of _CLOSE makes a value of parts of any type.


def _hostile(keys: Sequence[Any]) -> bool:
    """Whether so many keys have equal hashes that a table of them is slow on purpose."""
    clashes = len(keys) - len(set(map(hash, keys)))
    if not clashes:
        return False
    if len(keys) > _FEW and clashes > len(keys) // 2:
        return True
    todo = list(keys)  # what has equal hashes is compared; an int with a Decimal in quadratic time
    while todo:
        key = todo.pop()
        if type(key) is int and key.bit_length() > _MAX_KEY_BITS:
            return True
        if type(key) in (tuple, frozenset):
            todo += key
        elif type(key) is slice:
            todo += (key.start, key.stop, key.step)
    return False


def _close_set(items: list[Any], cls: Callable[[list[Any]], Any] = set) -> Any:
    if _hostile(items):
        raise BadValue("a set of items with equal hashes")
    result = cls(items)
    if len(result) != len(items):
        raise BadValue("an item twice in a set")
    return result


def _close_dict(items: list[Any]) -> dict[Any, Any]:
    half = len(items) // 2
    if _hostile(items[:half]):
        raise BadValue("a dict of keys with equal hashes")
    result = dict(zip(items[:half], items[half:]))
    if len(result) != half:
        raise BadValue("a key twice in a dict")
    return result


def _open_range(value: range) -> tuple[int, ...]:
    small_ints(value.start, value.stop, value.step)
    return (value.start, value.stop, value.step)


def _close_range(items: list[Any]) -> range:
    check(items, int, int, int)
    small_ints(*items)
    return range(*items)


def _close_slice(items: list[Any]) -> slice:
    check(items, object, object, object)
    return slice(*items)


_OPEN: dict[type, Open] = {
    list: (b"[", tuple),
    tuple: (b"(", tuple),
    set: (b"#", tuple),
    frozenset: (b"<", tuple),
    range: (b"r", _open_range),
    slice: (b":", lambda value: (value.start, value.stop, value.step)),
}
_DICT = ord("{")
_CLOSE: dict[int, Callable[[list[Any]], Any]] = {
    ord("["): list,
    ord("("): tuple,
    ord("#"): _close_set,
    ord("<"): lambda items: _close_set(items, frozenset),
    _DICT: _close_dict,
    ord("r"): _close_range,
    ord(":"): _close_slice,
    **LATE_CLOSE,
}


def encode(value: object, *, depth: int = MAX_DEPTH) -> bytes:
    """The bytes of `value`; CannotTravel names the type of what has none. Subclasses have none."""
    leaf = _LEAVES.get(type(value))
    out = _put_all(value, depth) if leaf is None else leaf(value)
    if len(out) > LIMIT:
        raise CannotTravel(type_name(type(value)), "it is over %d bytes" % LIMIT)
    return out


def _put_all(value: object, bound: int) -> bytes:
    out = bytearray()
    leaves = _LEAVES.get
    room = MAX_ITEMS
    stack: list[Any] = []
    # `hashed`: part of a key. A slice is hashable from 3.12 on, but the other side may be older.
    todo: Any = iter((value,))
    parts: Sequence[Any]
    hashed, depth = False, 0
    while True:
        for item in todo:
            cls = type(item)
            leaf = leaves(cls)
            if leaf is not None:
                out += leaf(item)
                if len(out) > LIMIT:
                    _refuse(item, "with what is around it, it is over %d bytes" % LIMIT)
                continue
            if depth >= bound:
                _refuse(item, "it is nested over %d levels deep, or contains itself" % bound)
            stack.append((todo, hashed, depth))
            depth += 1
            if cls is dict:
                pairs = tuple(item.items())
                parts = [key for key, _ in pairs]
                out += b"{" + _size(len(parts))
                stack.append((iter([value for _, value in pairs]), False, depth))
                hashed = True
            else:
                tag, parts = _opened(item, hashed)
                out += tag + _size(len(parts))
                hashed = hashed or cls is set or cls is frozenset
            if cls is dict or cls is set or cls is frozenset:
                _check_keys(item, parts)
            room -= len(parts)
            if room < 0:
                _refuse(item, "with what is around it, it has over %d items" % MAX_ITEMS)
            todo = iter(parts)
            break
        else:
            if not stack:
                return bytes(out)
            todo, hashed, depth = stack.pop()


def _opened(item: object, hashed: bool) -> tuple[bytes, Sequence[Any]]:
    cls = type(item)
    entry = _OPEN.get(cls)
    if entry is None:
        entry = late_type(cls)
        if entry is None:
            _refuse(item, "only basic types can be sent here, and no subclasses of them")
        _OPEN[cls] = entry
    if hashed and cls is slice:
        _refuse(item, "a slice as a key is not known to every Python")
    try:
        return entry[0], entry[1](item)
    except Exception as error:
        _refuse(item, text_of(error))


def _check_keys(item: object, keys: Sequence[object]) -> None:
    try:
        hostile = _hostile(keys)
    except Exception as error:  # a key may still be of any type, with a hash of the user's
        _refuse(item, text_of(error))
    if hostile:
        _refuse(item, "too many of its keys have equal hashes, or they are too large ints")


def _refuse(item: object, why: str) -> NoReturn:
    raise CannotTravel(type_name(type(item)), why) from None


def decode(data: Buffer, *, limit: int = LIMIT) -> Any:
    """The value that `data` holds, all of it. Anything else is a BadValue, whoever wrote it."""
    if len(data) > limit:
        raise BadValue("a value of %d bytes, more than %d" % (len(data), limit))
    try:
        return _take_all(data)
    except BadValue:
        raise
    except IndexError:
        raise BadValue("a value that ends too early") from None
    except Exception as error:  # of a constructor, or a hash
        raise BadValue("not a value: %s: %.200s" % (type(error).__name__, text_of(error))) from None


def _take_all(data: Buffer) -> Any:
    end = len(data)
    pos = 0
    stack: list[tuple[int, int, list[Any]]] = []  # tag, number of items, those so far
    value: Any
    while True:
        tag = data[pos]
        pos += 1
        if tag in _CONSTANTS:
            value = _CONSTANTS[tag]
        elif tag == 0x67:  # g
            value = _take_float(data[pos : pos + 8])
            pos += 8
        elif tag == 0x63:  # c
            value = complex(_take_float(data[pos : pos + 8]), _take_float(data[pos + 8 : pos + 16]))
            pos += 16
        else:
            size = data[pos]
            pos += 1
            if size >= 0x80:
                size, pos = _long_size(data, pos)
            leaf = _TAKE.get(tag)
            if leaf is not None:
                start, pos = pos, pos + size
                if pos > end:
                    raise BadValue("a length of more than is there")
                value = leaf(data[start:pos])
            elif tag in _CLOSE:
                if tag == _DICT:
                    size *= 2
                if size > end - pos:
                    raise BadValue("a count of more than is there")
                if len(stack) >= MAX_DEPTH:
                    raise BadValue("nested over %d levels deep" % MAX_DEPTH)
                if size:
                    stack.append((tag, size, []))
                    continue
                value = _CLOSE[tag]([])
            else:
                raise BadValue("the tag %#04x is not known" % tag)
        while stack:
            tag, size, items = stack[-1]
            items.append(value)
            if len(items) < size:
                break
            stack.pop()
            value = _CLOSE[tag](items)
        else:
            if pos != end:
                raise BadValue("%d bytes after the value" % (end - pos))
            return value


def _long_size(data: Buffer, pos: int) -> tuple[int, int]:
    size, shift = data[pos - 1] & 0x7F, 7
    while True:
        byte = data[pos]
        pos += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, pos
        shift += 7
        if shift > 56:
            raise BadValue("a length of too many bytes")


def _take_float(raw: Buffer) -> float:
    if len(raw) != 8:  # marshal is given this one form only: it is not safe for others
        raise BadValue("a value that ends too early")
    return float(marshal.loads(b"g" + raw))


_TAKE: dict[int, Callable[[Buffer], Any]] = {
    ord("i"): lambda raw: int.from_bytes(raw, "little", signed=True),
    ord("s"): lambda raw: str(raw, "utf-8", "surrogatepass"),
    ord("b"): bytes,
    ord("a"): bytearray,
}
