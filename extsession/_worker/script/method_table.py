"""The table of methods, which the modules `*_methods` fill."""

from __future__ import annotations

from .sets import OrderedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


#: {type: {name: (function, how it is written, what it does)}}
TABLE: dict[type, dict[str, tuple[Callable[..., Any], str, str]]] = {
    each: {} for each in (str, list, tuple, dict, OrderedSet, int, float)
}


def register(kind: type, usage: str, text: str) -> Callable[[Any], Any]:
    def enter(function: Any) -> Any:
        name = usage.partition("(")[0]
        function.__name__ = function.__qualname__ = name
        TABLE[kind][name] = (function, usage, text)
        return function

    return enter


def positions(*values: Any) -> None:
    for value in values:
        if value is not None and type(value) is not int and type(value) is not bool:
            raise TypeError(f"a position must be a whole number, not {type(value).__name__}")
