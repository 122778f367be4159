"""The methods of dicts and sets."""

from __future__ import annotations

from . import sets
from .meter import item_count, spend
from .method_table import register
from .sets import OrderedSet
from .sizes import key, keys, make_set, sequence, shrink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


@register(dict, "get(key, default)", "the value of a key; None (or the default) if there is no such key")
def _get(items: Any, wanted: Any, default: Any = None) -> Any:
    return items.get(key(wanted), default)


@register(dict, "keys()", "the list of its keys")
def _keys(items: Any) -> Any:
    item_count(len(items))
    return list(items)


@register(dict, "values()", "the list of its values")
def _values(items: Any) -> Any:
    item_count(len(items))
    return list(items.values())


@register(dict, "items()", "the list of its pairs: key, value")
def _items(items: Any) -> Any:
    spend(len(items) >> 1)
    return list(items.items())


@register(dict, "pop(key, default)", "take a key out and return its value; no such key: the default, or KeyError")
def _dict_pop(items: Any, wanted: Any, *default: Any) -> Any:
    if len(default) > 1:
        raise TypeError("pop() takes a key and one default")
    wanted = key(wanted)
    if wanted not in items and default:
        return default[0]
    value = items.pop(wanted)
    shrink(items)
    return value


@register(dict, "popitem()", "take out the pair that was added last and return it")
def _popitem(items: Any) -> Any:
    pair = items.popitem()
    shrink(items)
    return pair


@register(dict, "setdefault(key, default)", "the value of a key, which is added if it is not there")
def _setdefault(items: Any, wanted: Any, default: Any = None) -> Any:
    spend(1)
    return items.setdefault(key(wanted), default)


@register(dict, "update(other)", "take over all pairs of another dict, or a list of pairs")
def _update(items: Any, other: Any = None, **more: Any) -> None:
    items.update(pairs(other) if other is not None else {}, **more)


def pairs(value: Any) -> dict[Any, Any]:
    """A dict of another one, or of a list of pairs; charged."""
    if type(value) is dict:
        return dict(keys(value))
    found = {}
    values = sequence(value)
    spend(2 * len(values))
    for each in values:
        pair = sequence(each)
        if len(pair) != 2:
            raise ValueError("a pair is needed, not %d values" % len(pair))
        found[key(pair[0])] = pair[1]
    return found


@register(dict, "copy()", "another dict with the same pairs")
def _dict_copy(items: Any) -> Any:
    item_count(len(items))
    return dict(items)


register(dict, "clear()", "take out everything")(lambda items: items.clear())


def _as_set(value: Any) -> OrderedSet:
    if type(value) is OrderedSet:
        return keys(value)  # type: ignore[no-any-return]
    return make_set(sequence(value))


@register(OrderedSet, "add(value)", "add an element")
def _add(items: Any, value: Any) -> None:
    items.d[key(value)] = None


@register(OrderedSet, "discard(value)", "take an element out, if it is there")
def _discard(items: Any, value: Any) -> None:
    value = key(value)
    if value in items.d:
        del items.d[value]
        shrink(items.d)


@register(OrderedSet, "remove(value)", "take an element out; not there: KeyError")
def _set_remove(items: Any, value: Any) -> None:
    del items.d[key(value)]
    shrink(items.d)


@register(OrderedSet, "pop()", "take out the element that was added last and return it")
def _set_pop(items: Any) -> Any:
    if not items.d:
        raise KeyError("pop from an empty set")
    value = items.d.popitem()[0]
    shrink(items.d)
    return value


@register(OrderedSet, "clear()", "take out everything")
def _set_clear(items: Any) -> None:
    items.d.clear()


@register(OrderedSet, "copy()", "another set with the same elements")
def _set_copy(items: Any) -> Any:
    item_count(len(items))
    return OrderedSet(items.d)


def _algebra(name: str, change: str | None, text: str, function: Callable[[Any, Any], Any]) -> None:
    def method(items: Any, *others: Any) -> Any:
        keys(items)
        made = sets.of(dict(items.d))
        for other in others:
            keys(made)
            made = function(made, _as_set(other))
        return made

    def in_place(items: Any, *others: Any) -> None:
        items.d = method(items, *others).d

    register(OrderedSet, name + "(other)", text)(method)
    if change:
        register(OrderedSet, change + "(other)", "become " + text)(in_place)


_algebra("union", "update", "the set of what is in one of them", sets.union)
_algebra("intersection", "intersection_update", "the set of what is in both", sets.intersection)
_algebra("difference", "difference_update", "the set of what is in this one only", sets.difference)
_algebra(
    "symmetric_difference",
    "symmetric_difference_update",
    "the set of what is in just one of them",
    sets.symmetric_difference,
)


def _relation(name: str, text: str, function: Callable[[Any, Any], bool]) -> None:
    def method(items: Any, other: Any) -> bool:
        keys(items)
        return function(items, _as_set(other))

    register(OrderedSet, name + "(other)", text)(method)


_relation("issubset", "whether all its elements are in another", lambda one, two: one <= two)
_relation("issuperset", "whether it has all elements of another", lambda one, two: one >= two)
_relation("isdisjoint", "whether they have no element in common", lambda one, two: one.d.keys().isdisjoint(two.d))
