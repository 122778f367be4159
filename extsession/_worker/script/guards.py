"""Operators, comparisons, keys and slices: sizes are checked and charged before the work is done.

What the compiler leaves to CPython needs no guard: arithmetic on a float; `+` and `-` on a whole number (which grow by
one bit); comparisons with a number. So `add` and the others meet texts, collections and what has no such operator.
"""

from __future__ import annotations

import operator

from . import costs, sets
from .meter import STATE, B, item_count, over, spend, text_size
from .sets import OrderedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_NUMBERS = frozenset([int, float, bool])
_SCALARS = frozenset([int, float, bool, type(None)])
_CONTAINERS: frozenset[Any] = frozenset([list, tuple, dict, OrderedSet])
_SMALL = 1 << 60
_BITS = costs.MAX_BITS


def _wrong(symbol: str, left: Any, right: Any) -> TypeError:
    return TypeError(f"unsupported operand type(s) for {symbol}: '{type(left).__name__}' and '{type(right).__name__}'")


# ---- sizes


def weigh(value: Any, depth: int = 0) -> int:
    """Charge for a look at all of a value, as a comparison may take: shared parts count each time. Returns it."""
    kind = type(value)
    if kind is str:
        size = len(value) >> costs.TEXT
        if size:
            spend(size)
        return size
    if kind not in _CONTAINERS:
        return 0
    if depth >= costs.MAX_NESTING:
        raise ValueError("a value is nested more than %d deep, or contains itself" % costs.MAX_NESTING)
    total = 1 + len(value)
    spend(total)
    for each in value:
        kind_of = type(each)
        if kind_of in _CONTAINERS or (kind_of is str and len(each) > 63):
            total += weigh(each, depth + 1)
    if kind is dict:
        for each in value.values():
            kind_of = type(each)
            if kind_of in _CONTAINERS or (kind_of is str and len(each) > 63):
                total += weigh(each, depth + 1)
    return total


def _weigh_key(value: Any, depth: int) -> None:
    if depth >= costs.MAX_KEY_NESTING:
        raise ValueError("a key is nested more than %d deep" % costs.MAX_KEY_NESTING)
    spend(1 + len(value))
    for each in value:
        kind = type(each)
        if kind is tuple:
            _weigh_key(each, depth + 1)
        elif kind is str:
            if len(each) > 63:
                spend(len(each) >> costs.TEXT)
        elif kind not in _SCALARS:
            raise TypeError(f"unhashable type: '{kind.__name__}'")


def key(value: Any) -> Any:
    """The value, if it may be a key of a dict or an element of a set."""
    kind = type(value)
    if kind is str:
        if len(value) > 63:
            spend(len(value) >> costs.TEXT)
        return value
    if kind is float or kind is bool or value is None:
        return value
    if kind is int:
        if -_SMALL < value < _SMALL:
            return value
        spend(value.bit_length() >> 9)
    elif kind is tuple:
        _weigh_key(value, 0)
    elif kind is range:
        raise TypeError("a range cannot be a key")
    elif kind in _CONTAINERS:
        raise TypeError(f"unhashable type: '{kind.__name__}'")
    else:
        raise TypeError("a function cannot be a key")
    # such keys can be made to collide by whoever knows how they are hashed: each costs those that came before
    number = hash(value)
    first = STATE.hashes.setdefault(number, value)
    if first is not value and first != value:
        STATE.collisions[number] = count = STATE.collisions.get(number, 0) + 1
        spend(count)
    return value


def keys(values: Any) -> Any:
    """The values (a list, tuple, dict or set of ours), each of which may be a key. Charges for all."""
    spend(len(values))
    for value in values:
        kind = type(value)
        if kind is str:
            if len(value) > 63:
                spend(len(value) >> costs.TEXT)
        elif kind is not int or not -_SMALL < value < _SMALL:
            key(value)
    return values


def sequence(value: Any) -> Any:
    """What can be gone through from the begin to the end, as a list, tuple, text or dict's own; charged as a copy."""
    kind = type(value)
    if kind is list or kind is tuple or kind is str:
        item_count(len(value))
        return value
    if kind is dict or kind is OrderedSet or kind is range:
        item_count(length(value))
        return list(value)
    raise TypeError(f"'{kind.__name__}' object is not iterable")


def starred(value: Any) -> Any:
    """Charge for `a, *b = value`."""
    sequence(value)
    return value


def length(value: Any) -> int:
    kind = type(value)
    if kind in _CONTAINERS or kind is str or kind is range:
        return len(value)
    raise TypeError(f"object of type '{kind.__name__}' has no len()")


def loop(value: Any) -> Any:
    """What a `for` statement goes through: dicts and sets as they are now."""
    kind = type(value)
    if kind is range or kind is list or kind is tuple or kind is str:
        return value
    return sequence(value)


def comprehend(value: Any, cycles: int) -> Any:
    """What a comprehension goes through, all of it charged now."""
    kind = type(value)
    if kind is not range and kind is not tuple and kind is not str and kind is not list:
        value = sequence(value)
    B[0] = left = B[0] - len(value) * cycles
    if left < 0:
        over()
    if kind is list:
        return value.copy()  # else it could grow on the way, and what is charged be too little
    if kind is range and len(value) > costs.MAX_ITEMS:
        item_count(len(value))
    return value


# ---- arithmetic


def add(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind in _NUMBERS:
        return left + right
    if kind is not type(right):
        if type(right) in _NUMBERS or kind is str:
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
    if type(left) in _NUMBERS:
        return left - right
    raise _wrong("-", left, right)


def _bits(left: int, right: int) -> None:
    """Charge for a product or quotient."""
    one, two = left.bit_length(), right.bit_length()
    if one > _BITS or two > _BITS:
        raise OverflowError("a whole number has more than %d digits" % costs.MAX_DIGITS)
    spend(one * two >> costs.PRODUCT)


def mul(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is int and other is int:
        if -_SMALL < left < _SMALL and -_SMALL < right < _SMALL:
            return left * right
        _bits(left, right)
        if left.bit_length() + right.bit_length() > _BITS:
            raise OverflowError("the product would have more than %d digits" % costs.MAX_DIGITS)
        return left * right
    if kind in _NUMBERS:
        if other in _NUMBERS:
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
    if type(left) is int and type(right) is int and not -_SMALL < left < _SMALL:
        _bits(left, right)
    return left // right


def mod(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is int:
        if type(right) is int and not -_SMALL < left < _SMALL:
            _bits(left, right)
        return left % right
    if kind is float or kind is bool:
        return left % right
    if kind is str:
        raise TypeError("'%' does not format text here: use an f-string")
    raise _wrong("%", left, right)


def power(left: Any, right: Any) -> Any:
    if type(left) not in _NUMBERS or type(right) not in _NUMBERS:
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
    _bits(left, modulus)
    _bits(right, 1)
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
        if type(left) in _NUMBERS and type(right) in _NUMBERS:
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


# ---- comparisons


def _comparison(native: Callable[[Any, Any], Any]) -> Any:
    def guard(left: Any, right: Any) -> Any:
        kind = type(left)
        if kind in _SCALARS:
            return native(left, right)
        if kind is str:
            if len(left) > 63:
                weigh(left)
            return native(left, right)
        if kind in _CONTAINERS:
            if type(right) is kind:
                weigh(left)
            return native(left, right)
        return native(left, right) if kind is not range or type(right) is range else native is operator.ne

    return guard


eq, ne = _comparison(operator.eq), _comparison(operator.ne)
lt, le = _comparison(operator.lt), _comparison(operator.le)
gt, ge = _comparison(operator.gt), _comparison(operator.ge)


def search_text(text: str, what: str, backwards: bool = False) -> None:
    """Charge for a search. CPython's is linear for long texts, unless it goes backwards."""
    size = len(text)
    if size > 63 or len(what) > 63:
        spend((size >> costs.TEXT) + (len(what) >> costs.TEXT))
        spend(size * (len(what) if size < 30000 or backwards else 8) >> costs.SEARCH)


def contains(item: Any, container: Any) -> bool:
    kind = type(container)
    if kind is str:
        if type(item) is not str:
            raise TypeError(f"'in <text>' needs a text as left side, not {type(item).__name__}")
        search_text(container, item)
        return item in container
    if kind is list or kind is tuple:
        compare_all(item, container)
        return item in container
    if kind is dict or kind is OrderedSet:
        return key(item) in container
    if kind is range:
        if type(item) is float:
            return item.is_integer() and int(item) in container
        return type(item) in _NUMBERS and item in container
    raise TypeError(f"argument of type '{kind.__name__}' is not iterable")


def compare_all(item: Any, container: Any) -> None:
    """Charge for comparing an item with each element."""
    spend(len(container) * (1 + (0 if type(item) in _SCALARS else weigh(item))))


# ---- slices and elements


def _slice_of(value: Any, start: Any, stop: Any, step: Any) -> slice:
    for each in (start, stop, step):
        if each is not None and type(each) is not int and type(each) is not bool:
            raise TypeError("slice indices must be whole numbers or nothing")
    return slice(start, stop, step)


def get_slice(value: Any, start: Any, stop: Any, step: Any) -> Any:
    part = _slice_of(value, start, stop, step)
    kind = type(value)
    if kind is str:
        text_size(len(range(*part.indices(len(value)))))
    elif kind is list or kind is tuple:
        item_count(len(range(*part.indices(len(value)))))
    elif kind is not range:
        raise TypeError(f"'{kind.__name__}' object has no slices")
    return value[part]


def set_slice(target: Any, start: Any, stop: Any, step: Any, value: Any) -> None:
    part = _slice_of(target, start, stop, step)
    if type(target) is not list:
        raise TypeError(f"'{type(target).__name__}' object does not support assignment to slices")
    value = sequence(value)
    if len(target) + len(value) > costs.MAX_ITEMS:
        item_count(len(target) + len(value))
    spend(1 + (len(target) >> costs.ITEMS))
    target[part] = value


def del_slice(target: Any, start: Any, stop: Any, step: Any) -> None:
    part = _slice_of(target, start, stop, step)
    if type(target) is not list:
        raise TypeError(f"'{type(target).__name__}' object does not support deletion of slices")
    item_count(len(target))
    del target[part]


def shrink(keys_of: dict[Any, Any]) -> None:
    """After a deletion: make a dict that has lost half of its keys as small as it is.

    Else going through it would take the time of all that it ever had.
    """
    count = len(keys_of)
    if count >= 8 and not count & (count - 1):
        keys(keys_of)
        items = list(keys_of.items())
        keys_of.clear()
        keys_of.update(items)


def del_item(target: Any, index: Any) -> None:
    if type(target) is list:
        spend(len(target) >> 7)  # what is behind moves up
    del target[key(index)]
    if type(target) is dict:
        shrink(target)


def make_set(values: Any) -> OrderedSet:
    return sets.of(dict.fromkeys(keys(values)))
