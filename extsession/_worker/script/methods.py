"""The methods that scripts have, by exact type: `x.append(v)` is compiled to `_m_append(x, v)`.

Each charges for its work before it does it. Nothing here returns a lazy view or an iterator.
"""

from __future__ import annotations

from . import costs, dict_methods, list_methods, text_methods
from .meter import B, item_count, over
from .method_table import TABLE, register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

assert dict_methods and list_methods and text_methods  # they have filled the table

register(int, "bit_length()", "how many binary digits it has")(lambda value: value.bit_length())
register(float, "is_integer()", "whether nothing is behind the point")(lambda value: value.is_integer())

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
