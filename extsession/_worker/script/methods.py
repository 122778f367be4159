"""The methods that scripts have, by exact type: `x.append(v)` is compiled to `_m_append(x, v)`.

Each charges for its work before it does it. Nothing here returns a lazy view or an iterator.
"""

from __future__ import annotations

from . import costs, sets
from .guards import compare_all, key, keys, make_set, search_text, sequence, shrink, weigh
from .meter import B, item_count, over, spend, text_size
from .sets import OrderedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_SCALARS = frozenset([int, float, bool, type(None)])

#: {type: {name: (function, how it is written, what it does)}}
TABLE: dict[type, dict[str, tuple[Callable[..., Any], str, str]]] = {
    each: {} for each in (str, list, tuple, dict, OrderedSet, int, float)
}


def _method(kind: type, usage: str, text: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        name = usage.partition("(")[0]
        function.__name__ = function.__qualname__ = name
        TABLE[kind][name] = (function, usage, text)
        return function

    return register


# ---- text


def _needs_text(*values: Any) -> None:
    for value in values:
        if type(value) is not str:
            raise TypeError(f"a text is needed here, not {type(value).__name__}")


def _positions(*values: Any) -> None:
    for value in values:
        if value is not None and type(value) is not int and type(value) is not bool:
            raise TypeError(f"a position must be a whole number, not {type(value).__name__}")


def _checked(text: str) -> str:
    if len(text) > costs.MAX_TEXT:
        text_size(len(text))
    return text


def _plain(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any) -> Any:
        spend(len(value) >> costs.TEXT)
        result = native(value)
        return _checked(result) if type(result) is str else result

    _method(str, name + "()", text)(method)


for _name, _text in (
    ("capitalize", "the first character big, the others small"),
    ("casefold", "small characters, to compare texts without regard to case"),
    ("lower", "all characters small"),
    ("upper", "all characters big"),
    ("swapcase", "big characters small, and small ones big"),
    ("title", "each word with a big first character"),
    ("isalnum", "whether there are only letters and digits, at least one"),
    ("isalpha", "whether there are only letters, at least one"),
    ("isascii", "whether there are only characters of ASCII"),
    ("isdecimal", "whether there are only decimal digits, at least one"),
    ("isdigit", "whether there are only digits, at least one"),
    ("isnumeric", "whether there are only characters that mean numbers, at least one"),
    ("islower", "whether the letters are small"),
    ("isupper", "whether the letters are big"),
    ("isspace", "whether there are only spaces and the like, at least one"),
    ("istitle", "whether the words begin with a big letter"),
):
    _plain(_name, _text)


def _stripping(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any, characters: Any = None) -> Any:
        if characters is not None:
            _needs_text(characters)
            search_text(value, characters, True)
        spend(len(value) >> costs.TEXT)
        return native(value, characters)

    _method(str, name + "(characters)", text)(method)


_stripping("strip", "without spaces (or the given characters) at both ends")
_stripping("lstrip", "without spaces (or the given characters) at the begin")
_stripping("rstrip", "without spaces (or the given characters) at the end")


def _searching(name: str, text: str) -> None:
    native = getattr(str, name)
    backwards = name.startswith("r")

    def method(value: Any, what: Any, start: Any = None, end: Any = None) -> Any:
        _needs_text(what)
        _positions(start, end)
        search_text(value, what, backwards)
        return native(value, what, start, end)

    _method(str, name + "(text, start, end)", text)(method)


_searching("count", "how often a text is in it")
_searching("find", "where a text is in it first; -1: nowhere")
_searching("index", "where a text is in it first; nowhere: ValueError")
_searching("rfind", "where a text is in it last; -1: nowhere")
_searching("rindex", "where a text is in it last; nowhere: ValueError")


def _ending(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any, what: Any, start: Any = None, end: Any = None) -> Any:
        for each in what if type(what) is tuple else (what,):
            _needs_text(each)
            spend(1 + (len(each) >> costs.TEXT))
        _positions(start, end)
        return native(value, what, start, end)

    _method(str, name + "(text, start, end)", text)(method)


_ending("startswith", "whether it begins with a text (or one of a tuple of texts)")
_ending("endswith", "whether it ends with a text (or one of a tuple of texts)")


def _padding(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any, width: Any, character: Any = " ") -> Any:
        _positions(width)
        text_size(max(width, len(value)))
        return native(value, width, character)

    _method(str, name + "(width, character)", text)(method)


_padding("center", "filled up with spaces (or a character) on both sides")
_padding("ljust", "filled up with spaces (or a character) at the end")
_padding("rjust", "filled up with spaces (or a character) at the begin")


@_method(str, "zfill(width)", "filled up with zeros at the begin")
def _zfill(value: Any, width: Any) -> Any:
    _positions(width)
    text_size(max(width, len(value)))
    return value.zfill(width)


@_method(str, "join(texts)", "the texts of a list, with this one between them")
def _join(value: Any, texts: Any) -> Any:
    parts = sequence(texts)
    spend(len(parts))
    size = len(value) * max(0, len(parts) - 1)
    for part in parts:
        _needs_text(part)
        size += len(part)
    text_size(size)
    return value.join(parts)


@_method(str, "replace(old, new, count)", "with another text in the place of one")
def _replace(value: Any, old: Any, new: Any, count: Any = -1) -> Any:
    _needs_text(old, new)
    _positions(count)
    search_text(value, old)
    found = value.count(old)
    if 0 <= count < found:
        found = count
    spend(found)
    text_size(len(value) + found * (len(new) - len(old)))
    return value.replace(old, new, count)


def _splitting(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any, sep: Any = None, maxsplit: Any = -1) -> Any:
        _positions(maxsplit)
        spend(len(value) >> costs.TEXT)
        if sep is not None:
            _needs_text(sep)
            if not sep:
                raise ValueError("empty separator")
            search_text(value, sep, name == "rsplit")
            spend(value.count(sep))
            return native(value, sep, maxsplit)
        parts = native(value, None, maxsplit)
        spend(len(parts))
        return parts

    _method(str, name + "(sep, maxsplit)", text)(method)


_splitting("split", "the list of its parts between spaces (or a given text)")
_splitting("rsplit", "as split, but maxsplit counts from the end")


@_method(str, "splitlines()", "the list of its lines")
def _splitlines(value: Any) -> Any:
    spend(len(value) >> costs.TEXT)
    parts = value.splitlines()
    spend(len(parts))
    return parts


def _parting(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any, sep: Any) -> Any:
        _needs_text(sep)
        search_text(value, sep, name.startswith("r"))
        return native(value, sep)

    _method(str, name + "(sep)", text)(method)


_parting("partition", "three texts: before the first sep, sep, and what is after it")
_parting("rpartition", "three texts: before the last sep, sep, and what is after it")


@_method(str, "removeprefix(text)", "without a text at its begin")
def _removeprefix(value: Any, what: Any) -> Any:
    _needs_text(what)
    text_size(len(value))
    return value[len(what) :] if what and value.startswith(what) else value


@_method(str, "removesuffix(text)", "without a text at its end")
def _removesuffix(value: Any, what: Any) -> Any:
    _needs_text(what)
    text_size(len(value))
    return value[: -len(what)] if what and value.endswith(what) else value


# ---- lists and tuples


@_method(list, "append(value)", "add a value at the end")
def _append(items: Any, value: Any) -> None:
    spend(1)
    if len(items) >= costs.MAX_ITEMS:
        item_count(len(items) + 1)
    items.append(value)


@_method(list, "extend(values)", "add all values of a list at the end")
def _extend(items: Any, values: Any) -> None:
    spend(1)
    values = sequence(values)
    if len(items) + len(values) > costs.MAX_ITEMS:
        item_count(len(items) + len(values))
    items.extend(values)


@_method(list, "insert(position, value)", "add a value before a position")
def _insert(items: Any, position: Any, value: Any) -> None:
    _positions(position)
    spend(1 + (len(items) >> 7))
    if len(items) >= costs.MAX_ITEMS:
        item_count(len(items) + 1)
    items.insert(position, value)


@_method(list, "remove(value)", "take out the first element that is equal; none: ValueError")
def _remove(items: Any, value: Any) -> None:
    compare_all(value, items)
    items.remove(value)


@_method(list, "pop(position)", "take out the last element (or that of a position) and return it")
def _pop(items: Any, position: Any = -1) -> Any:
    _positions(position)
    if position is None:
        raise TypeError("a position must be a whole number")
    if position != -1:
        spend(len(items) >> 7)
    return items.pop(position)


@_method(list, "reverse()", "turn the order around")
def _reverse(items: Any) -> None:
    item_count(len(items))
    items.reverse()


@_method(list, "copy()", "another list with the same elements")
def _copy(items: Any) -> Any:
    item_count(len(items))
    return items.copy()


@_method(list, "clear()", "take out everything")
def _clear(items: Any) -> None:
    items.clear()


@_method(list, "sort(key=function, reverse=False)", "put in order")
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
    if not _SCALARS.issuperset(map(type, items)):
        for item in items:
            spend(weigh(item) * rounds)


def _sequence_methods(kind: type) -> None:
    @_method(kind, "count(value)", "how many elements are equal to a value")
    def _count(items: Any, value: Any) -> int:
        compare_all(value, items)
        return items.count(value)  # type: ignore[no-any-return]

    @_method(kind, "index(value, start, end)", "where the first element is that is equal; none: ValueError")
    def _index(items: Any, value: Any, start: Any = 0, end: Any = costs.MAX_ITEMS) -> int:
        _positions(start, end)
        compare_all(value, items)
        try:
            return items.index(value, start, end)  # type: ignore[no-any-return]
        except ValueError:
            raise ValueError("the value is not in the list") from None


_sequence_methods(list)
_sequence_methods(tuple)

# ---- dicts


@_method(dict, "get(key, default)", "the value of a key; None (or the default) if there is no such key")
def _get(items: Any, wanted: Any, default: Any = None) -> Any:
    return items.get(key(wanted), default)


@_method(dict, "keys()", "the list of its keys")
def _keys(items: Any) -> Any:
    item_count(len(items))
    return list(items)


@_method(dict, "values()", "the list of its values")
def _values(items: Any) -> Any:
    item_count(len(items))
    return list(items.values())


@_method(dict, "items()", "the list of its pairs: key, value")
def _items(items: Any) -> Any:
    spend(len(items) >> 1)
    return list(items.items())


@_method(dict, "pop(key, default)", "take a key out and return its value; no such key: the default, or KeyError")
def _dict_pop(items: Any, wanted: Any, *default: Any) -> Any:
    if len(default) > 1:
        raise TypeError("pop() takes a key and one default")
    wanted = key(wanted)
    if wanted not in items and default:
        return default[0]
    value = items.pop(wanted)
    shrink(items)
    return value


@_method(dict, "popitem()", "take out the pair that was added last and return it")
def _popitem(items: Any) -> Any:
    pair = items.popitem()
    shrink(items)
    return pair


@_method(dict, "setdefault(key, default)", "the value of a key, which is added if it is not there")
def _setdefault(items: Any, wanted: Any, default: Any = None) -> Any:
    spend(1)
    return items.setdefault(key(wanted), default)


@_method(dict, "update(other)", "take over all pairs of another dict, or a list of pairs")
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


@_method(dict, "copy()", "another dict with the same pairs")
def _dict_copy(items: Any) -> Any:
    item_count(len(items))
    return dict(items)


_method(dict, "clear()", "take out everything")(lambda items: items.clear())

# ---- sets


def _as_set(value: Any) -> OrderedSet:
    if type(value) is OrderedSet:
        return keys(value)  # type: ignore[no-any-return]
    return make_set(sequence(value))


@_method(OrderedSet, "add(value)", "add an element")
def _add(items: Any, value: Any) -> None:
    items.d[key(value)] = None


@_method(OrderedSet, "discard(value)", "take an element out, if it is there")
def _discard(items: Any, value: Any) -> None:
    value = key(value)
    if value in items.d:
        del items.d[value]
        shrink(items.d)


@_method(OrderedSet, "remove(value)", "take an element out; not there: KeyError")
def _set_remove(items: Any, value: Any) -> None:
    del items.d[key(value)]
    shrink(items.d)


@_method(OrderedSet, "pop()", "take out the element that was added last and return it")
def _set_pop(items: Any) -> Any:
    if not items.d:
        raise KeyError("pop from an empty set")
    value = items.d.popitem()[0]
    shrink(items.d)
    return value


@_method(OrderedSet, "clear()", "take out everything")
def _set_clear(items: Any) -> None:
    items.d.clear()


@_method(OrderedSet, "copy()", "another set with the same elements")
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

    _method(OrderedSet, name + "(other)", text)(method)
    if change:
        _method(OrderedSet, change + "(other)", "become " + text)(in_place)


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

    _method(OrderedSet, name + "(other)", text)(method)


_relation("issubset", "whether all its elements are in another", lambda one, two: one <= two)
_relation("issuperset", "whether it has all elements of another", lambda one, two: one >= two)
_relation("isdisjoint", "whether they have no element in common", lambda one, two: one.d.keys().isdisjoint(two.d))

# ---- numbers

_method(int, "bit_length()", "how many binary digits it has")(lambda value: value.bit_length())
_method(float, "is_integer()", "whether nothing is behind the point")(lambda value: value.is_integer())

#: every name that may stand behind a point
NAMES = frozenset(name for table in TABLE.values() for name in table)


def _kind(value: Any) -> str:
    return "error" if isinstance(value, Exception) else type(value).__name__


def _dispatchers(name: str) -> dict[str, Callable[..., Any]]:
    """What the call of a method becomes: "_m_" any, "_m0_" without arguments, "_m1_" with one: these are quicker."""
    by_type = {kind: table[name][0] for kind, table in TABLE.items() if name in table}

    def missing(value: Any) -> AttributeError:
        return AttributeError(f"'{_kind(value)}' object has no attribute '{name}'")

    def call(value: Any, *arguments: Any, **named: Any) -> Any:
        function = by_type.get(type(value))
        if function is None:
            raise missing(value)
        return function(value, *arguments, **named)

    def call_0(value: Any) -> Any:
        function = by_type.get(type(value))
        if function is None:
            raise missing(value)
        return function(value)

    def call_1(value: Any, argument: Any) -> Any:
        function = by_type.get(type(value))
        if function is None:
            raise missing(value)
        return function(value, argument)

    return {"_m_" + name: call, "_m0_" + name: call_0, "_m1_" + name: call_1}


#: {"_m_append": what `x.append(...)` calls, with x in front}
DISPATCH: dict[str, Callable[..., Any]] = {}
for _name in NAMES:
    DISPATCH.update(_dispatchers(_name))
for _function in DISPATCH.values():
    _function.__name__ = _function.__qualname__ = "method"


def _append_quickly(items: Any, value: Any) -> None:
    if type(items) is not list:
        raise AttributeError(f"'{_kind(items)}' object has no attribute 'append'")
    B[0] = left = B[0] - 1
    if left < 0:
        over()
    if len(items) >= costs.MAX_ITEMS:
        item_count(len(items) + 1)
    items.append(value)


_append_quickly.__name__ = _append_quickly.__qualname__ = "append"
DISPATCH["_m1_append"] = _append_quickly
