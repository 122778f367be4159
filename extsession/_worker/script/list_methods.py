"""The methods of lists and tuples; sorting."""

from __future__ import annotations

from . import costs
from .guards import compare_all
from .meter import item_count, spend
from .method_table import positions, register
from .sizes import SCALARS, sequence, weigh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@register(list, "append(value)", "add a value at the end")
def _append(items: Any, value: Any) -> None:
    spend(1)
    if len(items) >= costs.MAX_ITEMS:
        item_count(len(items) + 1)
    items.append(value)


@register(list, "extend(values)", "add all values of a list at the end")
def _extend(items: Any, values: Any) -> None:
    spend(1)
    values = sequence(values)
    if len(items) + len(values) > costs.MAX_ITEMS:
        item_count(len(items) + len(values))
    items.extend(values)


@register(list, "insert(position, value)", "add a value before a position")
def _insert(items: Any, position: Any, value: Any) -> None:
    positions(position)
    spend(1 + (len(items) >> 7))
    if len(items) >= costs.MAX_ITEMS:
        item_count(len(items) + 1)
    items.insert(position, value)


@register(list, "remove(value)", "take out the first element that is equal; none: ValueError")
def _remove(items: Any, value: Any) -> None:
    compare_all(value, items)
    items.remove(value)


@register(list, "pop(position)", "take out the last element (or that of a position) and return it")
def _pop(items: Any, position: Any = -1) -> Any:
    positions(position)
    if position is None:
        raise TypeError("a position must be a whole number")
    if position != -1:
        spend(len(items) >> 7)
    return items.pop(position)


@register(list, "reverse()", "turn the order around")
def _reverse(items: Any) -> None:
    item_count(len(items))
    items.reverse()


@register(list, "copy()", "another list with the same elements")
def _copy(items: Any) -> Any:
    item_count(len(items))
    return items.copy()


@register(list, "clear()", "take out everything")
def _clear(items: Any) -> None:
    items.clear()


@register(list, "sort(key=function, reverse=False)", "put in order")
def _sort(items: Any, *, key: Any = None, reverse: Any = False) -> None:
    items[:] = in_order(items, key, reverse)


def in_order(items: Any, key: Any, reverse: Any) -> list[Any]:
    """sorted(items, key=key, reverse=reverse) of a list, tuple or text, charged."""
    items = list(items)
    by = items if key is None else [key(item) for item in items]
    sort_cost(by)
    if key is None:
        return sorted(items, reverse=bool(reverse))
    return [items[index] for index in sorted(range(len(items)), key=by.__getitem__, reverse=bool(reverse))]


def sort_cost(items: Any) -> None:
    count = len(items)
    rounds = count.bit_length()
    spend(count + (count * rounds >> costs.ITEMS))
    if not SCALARS.issuperset(map(type, items)):
        for item in items:
            spend(weigh(item) * rounds)


def _sequence_methods(kind: type) -> None:
    @register(kind, "count(value)", "how many elements are equal to a value")
    def _count(items: Any, value: Any) -> int:
        compare_all(value, items)
        return items.count(value)  # type: ignore[no-any-return]

    @register(kind, "index(value, start, end)", "where the first element is that is equal; none: ValueError")
    def _index(items: Any, value: Any, start: Any = 0, end: Any = costs.MAX_ITEMS) -> int:
        positions(start, end)
        compare_all(value, items)
        item_count(len(items))
        if value not in items[start:end]:  # CPython's own error would have the text of the value, however large
            raise ValueError("the value is not in the list")
        return items.index(value, start, end)  # type: ignore[no-any-return]


_sequence_methods(list)
_sequence_methods(tuple)
