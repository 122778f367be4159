"""The methods of text."""

from __future__ import annotations

from . import costs
from .guards import search_text
from .meter import spend, text_size
from .method_table import positions, register
from .sizes import sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _needs_text(*values: Any) -> None:
    for value in values:
        if type(value) is not str:
            raise TypeError(f"a text is needed here, not {type(value).__name__}")


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

    register(str, name + "()", text)(method)


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

    register(str, name + "(characters)", text)(method)


_stripping("strip", "without spaces (or the given characters) at both ends")
_stripping("lstrip", "without spaces (or the given characters) at the begin")
_stripping("rstrip", "without spaces (or the given characters) at the end")


def _searching(name: str, text: str) -> None:
    native = getattr(str, name)
    backwards = name.startswith("r")

    def method(value: Any, what: Any, start: Any = None, end: Any = None) -> Any:
        _needs_text(what)
        positions(start, end)
        search_text(value, what, backwards)
        return native(value, what, start, end)

    register(str, name + "(text, start, end)", text)(method)


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
        positions(start, end)
        return native(value, what, start, end)

    register(str, name + "(text, start, end)", text)(method)


_ending("startswith", "whether it begins with a text (or one of a tuple of texts)")
_ending("endswith", "whether it ends with a text (or one of a tuple of texts)")


def _padding(name: str, text: str) -> None:
    native = getattr(str, name)

    def method(value: Any, width: Any, character: Any = " ") -> Any:
        positions(width)
        text_size(max(width, len(value)))
        return native(value, width, character)

    register(str, name + "(width, character)", text)(method)


_padding("center", "filled up with spaces (or a character) on both sides")
_padding("ljust", "filled up with spaces (or a character) at the end")
_padding("rjust", "filled up with spaces (or a character) at the begin")


@register(str, "zfill(width)", "filled up with zeros at the begin")
def _zfill(value: Any, width: Any) -> Any:
    positions(width)
    text_size(max(width, len(value)))
    return value.zfill(width)


@register(str, "join(texts)", "the texts of a list, with this one between them")
def _join(value: Any, texts: Any) -> Any:
    parts = sequence(texts)
    spend(len(parts))
    size = len(value) * max(0, len(parts) - 1)
    for part in parts:
        _needs_text(part)
        size += len(part)
    text_size(size)
    return value.join(parts)


@register(str, "replace(old, new, count)", "with another text in the place of one")
def _replace(value: Any, old: Any, new: Any, count: Any = -1) -> Any:
    _needs_text(old, new)
    positions(count)
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
        positions(maxsplit)
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

    register(str, name + "(sep, maxsplit)", text)(method)


_splitting("split", "the list of its parts between spaces (or a given text)")
_splitting("rsplit", "as split, but maxsplit counts from the end")


@register(str, "splitlines()", "the list of its lines")
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

    register(str, name + "(sep)", text)(method)


_parting("partition", "three texts: before the first sep, sep, and what is after it")
_parting("rpartition", "three texts: before the last sep, sep, and what is after it")


@register(str, "removeprefix(text)", "without a text at its begin")
def _removeprefix(value: Any, what: Any) -> Any:
    _needs_text(what)
    text_size(len(value))
    return value[len(what) :] if what and value.startswith(what) else value


@register(str, "removesuffix(text)", "without a text at its end")
def _removesuffix(value: Any, what: Any) -> Any:
    _needs_text(what)
    text_size(len(value))
    return value[: -len(what)] if what and value.endswith(what) else value
