"""How large values are, charged before anything is done with all of them; and what may be a key."""

from __future__ import annotations

from . import costs, sets
from .meter import STATE, B, item_count, over, spend
from .sets import OrderedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCALARS = frozenset([int, float, bool, type(None)])
CONTAINERS: frozenset[Any] = frozenset([list, tuple, dict, OrderedSet])
#: whole numbers up to here are quick, and hashed as themselves
SMALL = 1 << 60


def weigh(value: Any, depth: int = 0) -> int:
    """Charge for a look at all of a value, as a comparison may take: shared parts count each time. Returns it."""
    kind = type(value)
    if kind is str:
        size = len(value) >> costs.TEXT
        if size:
            spend(size)
        return size
    if kind not in CONTAINERS:
        return 0
    if depth >= costs.MAX_NESTING:
        raise ValueError("a value is nested more than %d deep, or contains itself" % costs.MAX_NESTING)
    total = 1 + len(value)
    spend(total)
    for each in value:
        kind_of = type(each)
        if kind_of in CONTAINERS or (kind_of is str and len(each) > 63):
            total += weigh(each, depth + 1)
    if kind is dict:
        for each in value.values():
            kind_of = type(each)
            if kind_of in CONTAINERS or (kind_of is str and len(each) > 63):
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
        elif kind not in SCALARS:
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
        if -SMALL < value < SMALL:
            return value
        spend(value.bit_length() >> 9)
    elif kind is tuple:
        _weigh_key(value, 0)
    elif kind is range:
        raise TypeError("a range cannot be a key")
    elif kind in CONTAINERS:
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
        elif kind is not int or not -SMALL < value < SMALL:
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
    if kind in CONTAINERS or kind is str or kind is range:
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


def make_set(values: Any) -> OrderedSet:
    return sets.of(dict.fromkeys(keys(values)))
