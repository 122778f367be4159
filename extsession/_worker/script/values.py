"""Values in and out: copies of plain data, with a budget, so that shared and endless structures end there."""

from __future__ import annotations

from . import costs
from .errors import BadValue
from .sets import OrderedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SCALARS = frozenset([type(None), bool, float])
_BIG = 10**costs.MAX_DIGITS


class TooMuch(Exception):
    """What is to be handed over is too large ("output") or too deep ("depth")."""

    def __init__(self, limit: str, message: str) -> None:
        Exception.__init__(self, message)
        self.limit = limit


class NotPlain(Exception):
    """There is a function or an error in what is to be handed over."""


class Outwards:
    """Copies what leaves the script; one for all that leaves together."""

    def __init__(self, nodes: int = costs.MAX_NODES_OUT, text: int = costs.MAX_TEXT_OUT) -> None:
        self.nodes = nodes
        self.text = text

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.nodes -= 1
        if self.nodes < 0:
            raise TooMuch("output", "has too many values to be handed over")
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is int:
            if not -_BIG < value < _BIG:
                raise TooMuch("output", "has a whole number of more than %d digits" % costs.MAX_DIGITS)
            self.text -= value.bit_length() >> 3
            if self.text < 0:
                raise TooMuch("output", "has too many digits to be handed over")
            return value
        if kind is str:
            self.text -= len(value)
            if self.text < 0:
                raise TooMuch("output", "has too much text to be handed over")
            return value
        if depth >= costs.MAX_DEPTH_OUT:
            raise TooMuch("depth", "is nested more than %d deep, or contains itself" % costs.MAX_DEPTH_OUT)
        depth += 1
        if kind is range:
            if len(value) > self.nodes:
                raise TooMuch("output", "has too many values to be handed over")
            return [self.copy(each, depth) for each in value]
        if kind is list:
            return [self.copy(each, depth) for each in value]
        if kind is tuple:
            return tuple([self.copy(each, depth) for each in value])
        if kind is dict:
            return {self.copy(key, depth): self.copy(each, depth) for key, each in value.items()}
        if kind is OrderedSet:
            return {self.copy(each, depth) for each in value}
        raise NotPlain(kind.__name__)


class Inwards:
    """Copies what comes from the host; `nodes` are left of the budget."""

    def __init__(self, nodes: int = costs.MAX_NODES_IN) -> None:
        self.nodes = nodes

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.nodes -= 1
        if self.nodes < 0:
            raise BadValue("there are too many values")
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is str:
            if len(value) > costs.MAX_TEXT:
                raise BadValue("a text is longer than %d characters" % costs.MAX_TEXT)
            if not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise BadValue("a text has a character that is no text") from None
            return value
        if kind is int:
            if not -_BIG < value < _BIG:
                raise BadValue("a whole number has more than %d digits" % costs.MAX_DIGITS)
            return value
        if depth >= costs.MAX_DEPTH_OUT:
            raise BadValue("a value is nested more than %d deep" % costs.MAX_DEPTH_OUT)
        if kind not in (list, tuple, dict, set, frozenset):
            raise BadValue(f"a script takes plain data only, not {kind.__name__}")
        if len(value) > costs.MAX_ITEMS:
            raise BadValue("there are more than %d elements" % costs.MAX_ITEMS)
        depth += 1
        if kind is list:
            return [self.copy(each, depth) for each in value]
        if kind is tuple:
            return tuple([self.copy(each, depth) for each in value])
        if kind is dict:
            return {self._key(key, depth): self.copy(each, depth) for key, each in value.items()}
        return OrderedSet(_in_order([self._key(each, depth) for each in value]))

    def _key(self, value: Any, depth: int) -> Any:
        if type(value) is tuple and depth > costs.MAX_KEY_NESTING:
            raise BadValue("a key is nested too deeply")
        return self.copy(value, depth)


def _in_order(values: list[Any]) -> list[Any]:
    """The elements of a set of the host in an order that does not depend on how they are hashed."""
    if len({type(value) for value in values}) == 1 and type(values[0]) in (int, str):
        return sorted(values)
    return sorted(values, key=_rank)


def _rank(value: Any) -> Any:
    kind = type(value)
    if value is None:
        return (0,)
    if kind is str:
        return (3, value)
    if kind is tuple:
        return (4, len(value), [_rank(each) for each in value])
    return (1,) if value != value else (2, value)
