"""Comparisons, searches, slices and elements: sizes are checked and charged before the work is done.

Comparisons with a number the compiler leaves to CPython.
"""

from __future__ import annotations

import operator

from . import costs
from .arithmetic import NUMBERS
from .meter import item_count, spend, text_size
from .sets import OrderedSet
from .sizes import CONTAINERS, SCALARS, key, sequence, shrink, weigh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def _comparison(native: Callable[[Any, Any], Any]) -> Any:
    def guard(left: Any, right: Any) -> Any:
        kind = type(left)
        if kind in SCALARS:
            return native(left, right)
        if kind is str:
            if len(left) > 63:
                weigh(left)
            return native(left, right)
        if kind in CONTAINERS:
            if type(right) is kind:
                weigh(left)
            return native(left, right)
        return native(left, right)

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
        return type(item) in NUMBERS and item in container
    raise TypeError(f"argument of type '{kind.__name__}' is not iterable")


def compare_all(item: Any, container: Any) -> None:
    """Charge for comparing an item with each element."""
    spend(len(container) * (1 + (0 if type(item) in SCALARS else weigh(item))))


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


def del_item(target: Any, index: Any) -> None:
    if type(target) is list:
        spend(len(target) >> 7)  # what is behind moves up
    del target[key(index)]
    if type(target) is dict:
        shrink(target)
