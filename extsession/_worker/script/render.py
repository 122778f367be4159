"""Text of values: `str`, `repr`, `print`, f-strings. No address, no name of ours, a bounded size."""

from __future__ import annotations

import re

from . import costs
from .meter import spend, text_size
from .sets import OrderedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EXACT = frozenset([bool, float, type(None)])
_BRACKETS: dict[Any, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}"), OrderedSet: ("{", "}")}
_TOO_BIG = 10**costs.MAX_DIGITS

#: what stands after the colon in an f-string
_SPEC = re.compile(r"(?:[^{}]?[<>=^])?[-+ ]?#?0?(?P<width>\d*)[,_]?(?:\.(?P<precision>\d+))?[bdeEfFgGosxX%]?\Z")


def spec_problem(spec: str) -> str | None:
    """Why a format is refused."""
    found = _SPEC.match(spec)
    if found is None:
        return f"the format {spec[:20]!r} is not known"
    if len(found["width"] or "") > 6 or int(found["width"] or 0) > costs.MAX_WIDTH:
        return "the width is more than %d" % costs.MAX_WIDTH
    if len(found["precision"] or "") > 6 or int(found["precision"] or 0) > costs.MAX_PRECISION:
        return "the precision is more than %d" % costs.MAX_PRECISION
    return None


def digits(number: int) -> int:
    """The number, if it may be made a text."""
    if not -_TOO_BIG < number < _TOO_BIG:
        raise OverflowError("a whole number of more than %d digits cannot be made a text" % costs.MAX_DIGITS)
    spend(number.bit_length() ** 2 >> costs.PRODUCT)
    return number


def text_of(value: Any) -> str:
    """str(value)."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind in _EXACT:
        return str(value)
    if kind is int:
        return str(digits(value))
    if isinstance(value, Exception):
        return message_of(value)
    return _container(value)


def repr_of(value: Any) -> str:
    """repr(value)."""
    if type(value) is str:
        text_size(len(value))
        text = repr(value)
        if len(text) > costs.MAX_TEXT:
            text_size(len(text))
        return text
    return text_of(value)


def _container(value: Any) -> str:
    parts: list[str] = []
    size = _append(value, parts, 0, 0)
    text_size(size)
    return "".join(parts)


def _append(value: Any, parts: list[str], size: int, depth: int) -> int:
    """Append the pieces of repr(value); returns the size of all pieces."""
    kind = type(value)
    if kind is list or kind is tuple or kind is dict or kind is OrderedSet:
        if depth >= costs.MAX_NESTING:
            raise ValueError("a value is nested more than %d deep, or contains itself" % costs.MAX_NESTING)
        spend(1 + len(value))
        if kind is OrderedSet and not value:
            first, last = "set()", ""
        else:
            first, last = _BRACKETS[kind]
        parts.append(first)
        size += 2 * len(value) + 2
        comma = ""
        for each in value:
            parts.append(comma)
            size = _append(each, parts, size, depth + 1)
            if kind is dict:
                parts.append(": ")
                size = _append(value[each], parts, size + 2, depth + 1)
            comma = ", "
        parts.append(",)" if kind is tuple and len(value) == 1 else last)
        return size
    piece = repr_of(value) if kind is str or kind is int or kind in _EXACT else _other(value)
    parts.append(piece)
    size += len(piece)
    if size > costs.MAX_TEXT:
        text_size(size)
    return size


def _other(value: Any) -> str:
    if type(value) is range:
        # the step is shown where it is not 1, as in Python
        parts = [str(digits(each)) for each in (value.start, value.stop, value.step)]
        return "range({})".format(", ".join(parts if value.step != 1 else parts[:2]))
    if isinstance(value, Exception):
        return f"{type(value).__name__}({repr_of(message_of(value))})"
    name = getattr(value, "__name__", "")
    return "<function %s>" % (name if type(name) is str and name.isidentifier() else "lambda")


def message_of(error: BaseException) -> str:
    """What an error says, shortened; nothing of where in our code it came from."""
    arguments = error.args
    if not arguments:
        return ""
    first = arguments[0]
    if type(first) is not str:
        try:
            first = text_of(first)
        except (ValueError, OverflowError):
            first = "a value that is too large to show"
    elif isinstance(error, KeyError):
        first = repr(first[: costs.MAX_MESSAGE])
    return str(first[: costs.MAX_MESSAGE]).replace("_main.<locals>.", "")


def field(value: Any, conversion: str, spec: str) -> str:
    """A field of an f-string. `spec` has passed `spec_problem`."""
    if conversion:
        value = repr_of(value) if conversion == "r" else text_of(value)
    if not spec:
        return text_of(value)
    kind = type(value)
    if kind is int:
        digits(value)
    elif kind is str:
        text_size(len(value))
    elif kind is not float and kind is not bool:
        raise TypeError(f"a {kind.__name__} cannot be given a format")
    return format(value, spec)


def joined(*parts: str) -> str:
    """The whole f-string."""
    size = 0
    for part in parts:
        size += len(part)
    if size > 63:
        text_size(size)
    return "".join(parts)
