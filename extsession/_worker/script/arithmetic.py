"""Arithmetic: sizes are checked and charged before the work is done.

What the compiler leaves to CPython needs no guard: arithmetic on a float; `+` and `-` on a whole number (which grow by
one bit). So `add` and the others meet texts, collections and what has no such operator.
"""

from __future__ import annotations

import operator

from . import costs, sets
from .meter import item_count, spend, text_size
from .sets import OrderedSet
from .sizes import SMALL, keys, sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

NUMBERS = frozenset([int, float, bool])
_BITS = costs.MAX_BITS


def _wrong(symbol: str, left: Any, right: Any) -> TypeError:
    return TypeError(f"unsupported operand type(s) for {symbol}: '{type(left).__name__}' and '{type(right).__name__}'")


def add(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind in NUMBERS:
        return left + right
    if kind is not type(right):
        if type(right) in NUMBERS or kind is str:
            return left + right  # a TypeError with CPython's words
        raise _wrong("+", left, right)
    if kind is str:
        size = len(left) + len(right)
        if size > 63:
            text_size(size)
        return left + right
    if kind is list or kind is tuple:
        item_count(len(left) + len(right))
        return left + right
    raise _wrong("+", left, right)


def iadd(left: Any, right: Any) -> Any:
    if type(left) is list:
        right = sequence(right)
        item_count(len(left) + len(right) if len(left) + len(right) > costs.MAX_ITEMS else 8)
        left += right
        return left
    return add(left, right)


def sub(left: Any, right: Any) -> Any:
    if type(left) is OrderedSet and type(right) is OrderedSet:
        keys(left)
        return sets.difference(left, right)
    if type(left) in NUMBERS:
        return left - right
    raise _wrong("-", left, right)


def bits(left: int, right: int) -> None:
    """Charge for a product or quotient."""
    one, two = left.bit_length(), right.bit_length()
    if one > _BITS or two > _BITS:
        raise OverflowError("a whole number has more than %d digits" % costs.MAX_DIGITS)
    spend(one * two >> costs.PRODUCT)


def mul(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is int and other is int:
        if -SMALL < left < SMALL and -SMALL < right < SMALL:
            return left * right
        bits(left, right)
        if left.bit_length() + right.bit_length() > _BITS:
            raise OverflowError("the product would have more than %d digits" % costs.MAX_DIGITS)
        return left * right
    if kind in NUMBERS:
        if other in NUMBERS:
            return left * right
        left, right, kind, other = right, left, other, kind
    if other is int or other is bool:
        if kind is str:
            text_size(len(left) * right if right > 0 else 0)
            return left * right
        if kind is list or kind is tuple:
            item_count(len(left) * right if right > 0 else 0)
            return left * right
    raise _wrong("*", left, right)


def imul(left: Any, right: Any) -> Any:
    if type(left) is list and (type(right) is int or type(right) is bool):
        item_count(len(left) * right if right > 0 else 0)
        left *= right
        return left
    return mul(left, right)


def floordiv(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int and not -SMALL < left < SMALL:
        bits(left, right)
    return left // right


def mod(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is int:
        if type(right) is int and not -SMALL < left < SMALL:
            bits(left, right)
        return left % right
    if kind is float or kind is bool:
        return left % right
    if kind is str:
        raise TypeError("'%' does not format text here: use an f-string")
    raise _wrong("%", left, right)


def power(left: Any, right: Any) -> Any:
    if type(left) not in NUMBERS or type(right) not in NUMBERS:
        raise _wrong("** or pow()", left, right)
    if type(left) is not float and type(right) is not float and right > 0:
        bits = left.bit_length() if left not in (0, 1, -1) else 0
        if bits and (right > _BITS or (bits - 1) * right > _BITS):
            raise OverflowError("the power would have more than %d digits" % costs.MAX_DIGITS)
        spend((bits * right) ** 2 >> costs.PRODUCT)
        if bits and bits * right > _BITS:
            result = left**right
            if result.bit_length() > _BITS:
                raise OverflowError("the power would have more than %d digits" % costs.MAX_DIGITS)
            return result
    if type(left) is int and type(right) is int and right < 0 and left.bit_length() > 1024:
        raise OverflowError("int too large to convert to float")
    result = left**right
    if type(result) is complex:
        raise ValueError("a negative number has no such power")
    return result


def power_mod(left: Any, right: Any, modulus: Any) -> int:
    if type(left) is not int or type(right) is not int or type(modulus) is not int:
        raise TypeError("pow() with three numbers is for whole numbers")
    bits(left, modulus)
    bits(right, 1)
    spend((right.bit_length() * (modulus.bit_length() + 30) ** 2) >> costs.PRODUCT)
    if right < 0:
        raise ValueError("pow() with three numbers is for exponents from 0 on")
    return pow(left, right, modulus)


def lshift(left: Any, right: Any) -> Any:
    if type(left) not in (int, bool) or type(right) not in (int, bool):
        raise _wrong("<<", left, right)
    if left and right > 0 and (right > _BITS or left.bit_length() + right > _BITS):
        raise OverflowError("the number would have more than %d digits" % costs.MAX_DIGITS)
    return left << right


def _bitwise(symbol: str, numbers: Callable[[Any, Any], Any], of_sets: Callable[[Any, Any], Any]) -> Any:
    def guard(left: Any, right: Any) -> Any:
        if type(left) is OrderedSet and type(right) is OrderedSet:
            keys(left)
            keys(right)
            return of_sets(left, right)
        if type(left) is dict and type(right) is dict and symbol == "|":
            item_count(len(left) + len(right))
            keys(left)
            keys(right)
            return {**left, **right}
        if type(left) in NUMBERS and type(right) in NUMBERS:
            return numbers(left, right)
        raise _wrong(symbol, left, right)

    return guard


bit_or = _bitwise("|", operator.or_, sets.union)
bit_and = _bitwise("&", operator.and_, sets.intersection)
bit_xor = _bitwise("^", operator.xor, sets.symmetric_difference)


def _in_place(guard: Any) -> Any:
    def change(left: Any, right: Any) -> Any:
        made = guard(left, right)
        if type(left) is OrderedSet:
            left.d = made.d
            return left
        if type(left) is dict:
            left.update(right)
            return left
        return made

    return change


ior, iand, ixor, isub = _in_place(bit_or), _in_place(bit_and), _in_place(bit_xor), _in_place(sub)
