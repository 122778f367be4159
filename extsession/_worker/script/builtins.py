"""The builtins of scripts: plain functions that charge for their work and return lists where Python is lazy.

Their parameters are what a script may give; no default is a place to keep something of ours.
"""

from __future__ import annotations

import functools
import math
import operator

from . import arithmetic, costs
from .dict_methods import pairs
from .list_methods import in_order
from .meter import STATE, over, spend, text_size
from .render import repr_of, text_of
from .sets import OrderedSet
from .sizes import SMALL, length, make_set, sequence, weigh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_NUMBERS = frozenset([int, float, bool])

#: {name: (function or value, how it is written, what it does)}
TABLE: dict[str, tuple[Any, str, str]] = {}


def _builtin(usage: str, text: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        name = usage.partition("(")[0]
        function.__name__ = function.__qualname__ = name
        TABLE[name] = (function, usage, text)
        return function

    return register


def _number(name: str, *values: Any) -> None:
    for value in values:
        if type(value) not in _NUMBERS:
            raise TypeError(f"{name}() needs a number, not {type(value).__name__}")


_builtin("len(x)", "how many characters or elements it has")(length)


@_builtin("range(start, stop, step)", "the whole numbers from start (or 0) on, before stop")
def _range(start: Any, *more: Any) -> range:
    return range(start, *more)


# ---- conversions


@_builtin("str(x)", "as text")
def _str(x: Any = "") -> str:
    return text_of(x)


@_builtin("repr(x)", "as text that shows what it is: texts in quotes")
def _repr(x: Any) -> str:
    return repr_of(x)


@_builtin("int(x, base)", "as a whole number: of a number what is before the point, of a text its digits")
def _int(x: Any = 0, base: Any = None) -> int:
    if type(x) is str:
        text_size(len(x))
        if len(x) > costs.MAX_DIGITS:
            raise ValueError("a text of more than %d characters is no number" % costs.MAX_DIGITS)
        spend((len(x) * 4) ** 2 >> costs.PRODUCT)
        if base is None:
            base = 10
        if type(base) is not int:
            raise TypeError("the base must be a whole number")
        if base != 0 and not 2 <= base <= 36:
            raise ValueError("int() base must be >= 2 and <= 36, or 0")
        try:
            return int(x, base)
        except ValueError:
            raise ValueError("invalid literal for int() with base %d: %s" % (base, repr(x[:60]))) from None
    _number("int", x)
    if base is not None:
        raise TypeError("int() with a base needs a text")
    return int(x)


@_builtin("float(x)", "as a number with a point")
def _float(x: Any = 0.0) -> float:
    if type(x) is str:
        text_size(len(x))
        if len(x) > costs.MAX_DIGITS:
            raise ValueError("a text of more than %d characters is no number" % costs.MAX_DIGITS)
        try:
            return float(x)
        except ValueError:
            raise ValueError(f"could not convert string to float: {x[:60]!r}") from None
    _number("float", x)
    return float(x)


@_builtin("bool(x)", "False of zero, None and what is empty, else True")
def _bool(x: Any = False) -> bool:
    return bool(x)


@_builtin("list(x)", "a list of the elements")
def _list(x: Any = ()) -> list[Any]:
    return list(sequence(x))


@_builtin("tuple(x)", "a tuple of the elements")
def _tuple(x: Any = ()) -> tuple[Any, ...]:
    return tuple(sequence(x))


@_builtin("set(x)", "a set of the elements")
def _set(x: Any = ()) -> OrderedSet:
    return make_set(sequence(x))


@_builtin("dict(x, name=value)", "a dict of another one or of a list of pairs, and of what is named")
def _dict(*x: Any, **named: Any) -> dict[Any, Any]:
    if len(x) > 1:
        raise TypeError("dict() takes one dict or list of pairs, not %d" % len(x))
    made = pairs(x[0]) if x else {}
    made.update(named)
    return made


@_builtin("chr(number)", "the character with this number")
def _chr(number: Any) -> str:
    if type(number) is not int:
        raise TypeError("chr() needs a whole number")
    if not 0 <= number < 0x110000 or 0xD800 <= number < 0xE000:
        raise ValueError("chr() of a number that is no character")
    return chr(number)


@_builtin("ord(character)", "the number of a character")
def _ord(character: Any) -> int:
    if type(character) is not str or len(character) != 1:
        raise TypeError("ord() needs one character")
    return ord(character)


# ---- numbers


@_builtin("abs(x)", "without its sign")
def _abs(x: Any) -> Any:
    _number("abs", x)
    return abs(x)


@_builtin("round(x, digits)", "the nearest whole number, or number with so many digits after the point")
def _round(x: Any, digits: Any = None) -> Any:
    _number("round", x)
    if digits is None:
        return round(x)
    if type(digits) is not int and type(digits) is not bool:
        raise TypeError("round() needs a whole number of digits")
    if type(x) is not float:
        if digits < -costs.MAX_DIGITS:
            return 0
        arithmetic.bits(x, 10 ** max(0, -digits))
        return round(x, digits)
    return round(x, max(-400, min(digits, 400)))


@_builtin("divmod(x, y)", "two numbers: x // y and x % y")
def _divmod(x: Any, y: Any) -> Any:
    _number("divmod", x, y)
    return arithmetic.floordiv(x, y), arithmetic.mod(x, y)


@_builtin("pow(x, y, modulus)", "x ** y, or its remainder")
def _pow(x: Any, y: Any, modulus: Any = None) -> Any:
    return arithmetic.power(x, y) if modulus is None else arithmetic.power_mod(x, y, modulus)


@_builtin("sum(xs, start)", "all added up, from left to right")
def _sum(xs: Any, start: Any = 0) -> Any:
    values = sequence(xs)
    spend(len(values))
    if type(start) in _NUMBERS and _NUMBERS.issuperset(map(type, values)):
        # not CPython's: from 3.12 on it adds floats in another way
        return functools.reduce(operator.add, values, start)
    if type(start) is str:
        raise TypeError("sum() can't sum texts: use ''.join(texts)")
    for value in values:
        start = arithmetic.add(start, value)
    return start


def _extreme(name: str, pick: Callable[..., Any]) -> Callable[..., Any]:
    def function(*xs: Any, key: Any = None, **default: Any) -> Any:
        if not default.keys() <= {"default"}:
            raise TypeError(f"{name}() has no such option")
        if not xs:
            raise TypeError(f"{name}() needs at least one value")
        values = sequence(xs[0]) if len(xs) == 1 else xs
        if not values:
            if default:
                return default["default"]
            raise ValueError(f"{name}() of nothing")
        by = values if key is None else [key(value) for value in values]
        spend(len(by))
        for each in by:
            if type(each) not in _NUMBERS:
                spend(2 * weigh(each))
        return pick(by) if key is None else values[pick(range(len(by)), key=by.__getitem__)]

    return function


_builtin("min(xs, key=function, default=value)", "the smallest of a list, or of several values")(_extreme("min", min))
_builtin("max(xs, key=function, default=value)", "the biggest of a list, or of several values")(_extreme("max", max))

# ---- lists


@_builtin("sorted(xs, key=function, reverse=False)", "a list of the elements in order")
def _sorted(xs: Any, *, key: Any = None, reverse: Any = False) -> list[Any]:
    return in_order(sequence(xs), key, reverse)


@_builtin("reversed(xs)", "a list of the elements from the last to the first")
def _reversed(xs: Any) -> list[Any]:
    return list(sequence(xs))[::-1]


@_builtin("enumerate(xs, start=0)", "a list of pairs: number, element")
def _enumerate(xs: Any, start: Any = 0) -> list[Any]:
    values = sequence(xs)
    spend(len(values))
    return list(enumerate(values, start))


@_builtin("zip(xs, ys)", "a list of tuples: the first elements, the second ones, and so on")
def _zip(*xs: Any, strict: Any = False) -> list[Any]:
    lists = [sequence(each) for each in xs]
    spend(len(xs) * (1 + min([len(each) for each in lists], default=0)))
    if strict and len({len(each) for each in lists}) > 1:
        raise ValueError("zip() of lists that are not equally long")
    return list(zip(*lists))


@_builtin("map(function, xs)", "a list of what the function returns for each element")
def _map(function: Any, *xs: Any) -> list[Any]:
    if len(xs) == 1:
        values = sequence(xs[0])
        spend(len(values))
        return [function(value) for value in list(values)]
    return [function(*values) for values in _zip(*xs)]


@_builtin("filter(function, xs)", "a list of the elements for which the function returns something true")
def _filter(function: Any, xs: Any) -> list[Any]:
    values = sequence(xs)
    spend(len(values))
    if function is None:
        return [value for value in values if value]
    return [value for value in list(values) if function(value)]


@_builtin("any(xs)", "whether one element is true")
def _any(xs: Any) -> bool:
    values = sequence(xs)
    spend(len(values))
    return any(values)


@_builtin("all(xs)", "whether all elements are true")
def _all(xs: Any) -> bool:
    values = sequence(xs)
    spend(len(values))
    return all(values)


#: what `isinstance` takes
_TYPES: dict[Any, tuple[type, ...]] = {
    _str: (str,),
    _int: (int, bool),
    _float: (float,),
    _bool: (bool,),
    _list: (list,),
    _tuple: (tuple,),
    _set: (OrderedSet,),
    _dict: (dict,),
    _range: (range,),
}


@_builtin("isinstance(x, type)", "whether it is a str, int, float, bool, list, tuple, set, dict or range")
def _isinstance(x: Any, kind: Any) -> bool:
    for each in kind if type(kind) is tuple else (kind,):
        spend(1)
        if type(each) is not type(_str) or each not in _TYPES:
            raise TypeError(
                "isinstance() needs str, int, float, bool, list, tuple, set, dict or range, or a tuple of them"
            )
        if type(x) in _TYPES[each]:
            return True
    return False


@_builtin("print(x, y, sep=' ', end='\\n')", "write it")
def _print(*xs: Any, sep: Any = " ", end: Any = "\n") -> None:
    sep, end = " " if sep is None else sep, "\n" if end is None else end
    if type(sep) is not str or type(end) is not str:
        raise TypeError("sep and end must be texts")
    parts = [text_of(x) for x in xs]
    size = sum(map(len, parts)) + len(sep) * max(0, len(parts) - 1) + len(end)
    text_size(size)
    text = sep.join(parts) + end
    data = text.encode("utf-8", "replace")
    if len(data) > STATE.output:
        over("output", "the script printed more than it may")
    STATE.output -= len(data)
    if data:
        STATE.write(data.decode("utf-8"))


# ---- math


def _math(name: str, usage: str, text: str) -> None:
    native = getattr(math, name)

    def function(*numbers: Any) -> Any:
        for number in numbers:
            if type(number) not in _NUMBERS:
                raise TypeError(f"{name}() needs numbers, not {type(number).__name__}")
            if type(number) is int and not -SMALL < number < SMALL:
                arithmetic.bits(number, number)
        return native(*numbers)

    _builtin(usage, text)(function)


for _name, _usage, _text in (
    ("sqrt", "sqrt(x)", "square root"),
    ("floor", "floor(x)", "the next whole number below"),
    ("ceil", "ceil(x)", "the next whole number above"),
    ("trunc", "trunc(x)", "what is before the point"),
    ("fabs", "fabs(x)", "without its sign, as a number with a point"),
    ("exp", "exp(x)", "e to the power of x"),
    ("log", "log(x, base)", "logarithm, natural or to a base"),
    ("log2", "log2(x)", "logarithm to base 2"),
    ("log10", "log10(x)", "logarithm to base 10"),
    ("sin", "sin(x)", "sine of an angle in radians"),
    ("cos", "cos(x)", "cosine"),
    ("tan", "tan(x)", "tangent"),
    ("asin", "asin(x)", "arc sine"),
    ("acos", "acos(x)", "arc cosine"),
    ("atan", "atan(x)", "arc tangent"),
    ("atan2", "atan2(y, x)", "angle of a point"),
    ("sinh", "sinh(x)", "hyperbolic sine"),
    ("cosh", "cosh(x)", "hyperbolic cosine"),
    ("tanh", "tanh(x)", "hyperbolic tangent"),
    ("hypot", "hypot(x, y)", "length of a diagonal"),
    ("degrees", "degrees(x)", "an angle from radians to degrees"),
    ("radians", "radians(x)", "an angle from degrees to radians"),
    ("fmod", "fmod(x, y)", "remainder with the sign of x"),
    ("copysign", "copysign(x, y)", "x with the sign of y"),
    ("gcd", "gcd(x, y)", "greatest common divisor"),
    ("isqrt", "isqrt(x)", "whole part of the square root"),
    ("isnan", "isnan(x)", "whether it is no number"),
    ("isinf", "isinf(x)", "whether it is infinite"),
    ("isfinite", "isfinite(x)", "whether it is neither infinite nor no number"),
):
    _math(_name, _usage, _text)

TABLE["pi"] = (math.pi, "pi", "3.14159...")
TABLE["inf"] = (math.inf, "inf", "more than every number")
TABLE["nan"] = (math.nan, "nan", "no number")

#: what scripts have as builtins
SCOPE = {name: entry[0] for name, entry in TABLE.items()}
