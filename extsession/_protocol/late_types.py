"""Types of modules that may not be loaded: datetime, Decimal, Fraction, UUID, paths.

A value is written as the parts that its constructor takes. Nothing is imported to write one.
"""

from __future__ import annotations

import sys

from .faults import BadValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence, Tuple

    Open = Tuple[bytes, Callable[[Any], Sequence[Any]]]  # the tag, and what gives the parts of a value

_MAX_BITS = 1 << 15  # of the ints that their constructor divides: Fraction, range
_MAX_DIGITS = 1 << 16  # of a Decimal
_MAX_EXPONENT = 10000000  # of a Decimal: int() or a sum of one writes out all its zeros


def check(parts: Sequence[object], *types: type) -> None:
    """BadValue unless the parts are of exactly these types; `object` stands for any."""
    if len(parts) != len(types):
        raise BadValue("%d parts where %d are due" % (len(parts), len(types)))
    for part, cls in zip(parts, types):
        if cls is not object and type(part) is not cls:
            raise BadValue("a part is of type %s, not %s" % (type(part).__name__, cls.__name__))


def small_ints(*parts: int) -> None:
    """ValueError for an int of over _MAX_BITS."""
    for part in parts:
        if part.bit_length() > _MAX_BITS:  # whoever makes one divides them, in quadratic time
            raise ValueError("it has an int of more than %d bits" % _MAX_BITS)


def _from_fields(cls: Any, parts: list[Any]) -> Any:
    """A time or datetime of its ints, fold and tzinfo."""
    check(parts, *([int] * (len(parts) - 1)), object)
    return cls(*parts[:-2], parts[-1], fold=parts[-2])


def _from_ints(cls: Any, parts: list[Any]) -> Any:
    check(parts, *[int] * len(parts))  # a date also takes the bytes of a pickle
    return cls(*parts)


def _from_text(cls: Any, parts: list[Any]) -> Any:
    check(parts, str)
    return cls(parts[0])


def _from_timezone(cls: Any, parts: list[Any]) -> Any:
    check(parts, object, *([str] * (len(parts) - 1)))
    return cls(*parts)


def _from_uuid(cls: Any, parts: list[Any]) -> Any:
    check(parts, bytes)
    return cls(bytes=parts[0])


def _open_fraction(value: Any) -> tuple[int, int]:
    small_ints(value.numerator, value.denominator)
    return (value.numerator, value.denominator)


def _from_fraction(cls: Any, parts: list[Any]) -> Any:
    check(parts, int, int)
    small_ints(*parts)
    result = cls(*parts)
    if result.denominator != parts[1]:
        raise BadValue("a fraction that is not in lowest terms")
    return result


def _open_decimal(value: Any) -> tuple[str]:
    """The text, of no context: str() of a Decimal asks the current one."""
    sign, digits, exponent = value.as_tuple()
    if len(digits) > _MAX_DIGITS:
        raise ValueError("it has over %d digits" % _MAX_DIGITS)
    text = "".join(map(str, digits))
    if exponent == "F":
        text = "Infinity"
    elif exponent in ("n", "N"):
        text = ("NaN" if exponent == "n" else "sNaN") + text
    elif abs(exponent) > _MAX_EXPONENT:
        raise ValueError("its exponent is over %d" % _MAX_EXPONENT)
    else:
        text += "E%d" % exponent
    return ("-" + text if sign else text,)


def _from_decimal(cls: Any, parts: list[Any]) -> Any:
    check(parts, str)
    if len(parts[0]) > _MAX_DIGITS + 20:
        raise BadValue("a Decimal of over %d digits" % _MAX_DIGITS)
    result = cls(parts[0])
    if _open_decimal(result) != (parts[0],):
        raise BadValue("a Decimal that is not written as one")
    return result


def _open_date(value: Any) -> tuple[Any, ...]:
    return (value.year, value.month, value.day)


def _open_time(value: Any) -> tuple[Any, ...]:
    return (value.hour, value.minute, value.second, value.microsecond, value.fold, value.tzinfo)


def _open_timedelta(value: Any) -> tuple[Any, ...]:
    return (value.days, value.seconds, value.microseconds)


def _open_path(value: Any) -> tuple[str]:
    return (str(value),)


#: name -> its tag, its module, what opens a value, what closes parts
LATE: dict[str, tuple[bytes, str, Callable[[Any], Sequence[Any]], Callable[[Any, list[Any]], Any]]] = {
    "date": (b"d", "datetime", _open_date, _from_ints),
    "time": (b"t", "datetime", _open_time, _from_fields),
    "datetime": (b"D", "datetime", lambda value: _open_date(value) + _open_time(value), _from_fields),
    "timedelta": (b"l", "datetime", _open_timedelta, _from_ints),
    "timezone": (b"z", "datetime", lambda value: value.__getinitargs__(), _from_timezone),
    "Decimal": (b"m", "decimal", _open_decimal, _from_decimal),
    "Fraction": (b"f", "fractions", _open_fraction, _from_fraction),
    "UUID": (b"u", "uuid", lambda value: (value.bytes,), _from_uuid),
    "PurePosixPath": (b"p", "pathlib", _open_path, _from_text),
    "PosixPath": (b"P", "pathlib", _open_path, _from_text),
    "PureWindowsPath": (b"w", "pathlib", _open_path, _from_text),
}


def late_type(cls: type) -> Open | None:
    """What opens values of `cls`, if it is one of LATE. Imports nothing."""
    name = type.__dict__["__name__"].__get__(cls)
    entry = LATE.get(name)
    if entry is None:
        return None
    try:
        if getattr(sys.modules.get(entry[1]), name, None) is not cls:
            return None
    except Exception:  # something lazy in the place of the module
        return None
    return entry[0], entry[2]


def _closer(name: str, module: str, build: Callable[[Any, list[Any]], Any]) -> Callable[[list[Any]], Any]:
    return lambda parts: build(getattr(__import__(module), name), parts)


#: tag -> what makes a value of parts; it imports the module
LATE_CLOSE = {entry[0][0]: _closer(name, entry[1], entry[3]) for name, entry in LATE.items()}
