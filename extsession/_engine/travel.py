"""How functions and their arguments are made ready to travel: by name where that leads somewhere, else by cloudpickle.

Pickle takes a function of `__main__` by its name as well, but the `__main__` of a session is another one: what is
defined there goes by cloudpickle. It takes ten milliseconds to import, so only what needs it does.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from .._protocol import pickles
from .._protocol.faults import CannotTravel
from ..errors import ValueRefused


class Request:
    """A function call, packed. label: what it is known by in errors."""

    __slots__ = ("buffers", "data", "label")

    def __init__(self, label: str, data: bytes, buffers: Any) -> None:
        self.label = label
        self.data = data
        self.buffers = buffers


class Function:
    """A function that is called many times, packed once. TypeError; ValueRefused, which names it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"a function is wanted, not {type(function).__name__}")
        self.label = label_of(function)
        try:
            data = _pack_function(function)
        except CannotTravel as fault:
            text = f"the function {_full_name(function)} cannot travel to a session: {fault}"
            raise ValueRefused(text, type_name=fault.type_name) from None
        self._carried = function if data is None else _Packed(data)

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        """A call of it. ValueRefused if an argument cannot travel."""
        try:
            data, buffers = _pack((self._carried, args, kwargs))
        except CannotTravel as fault:
            text = f"an argument of {self.label} cannot travel to a session: {fault}"
            raise ValueRefused(text, type_name=fault.type_name) from None
        return Request(self.label, data, buffers)


class _Packed:
    """Is unpacked where it arrives."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._data,)


def pack(value: Any) -> tuple[bytes, Any]:
    """A value as the messages to a session carry it. ValueRefused."""
    try:
        kind, head, buffers = pickles.pack(value, dumps=_cloudpickle)
    except CannotTravel as fault:
        raise refused(fault) from None
    return bytes((kind,)) + head, buffers


def pack_call(function: Any, args: Any, kwargs: Any) -> tuple[bytes, Any]:
    """A call of a function that is used once. ValueRefused."""
    if getattr(function, "__module__", None) != "__main__":
        return pack((function, args, kwargs))
    request = Function(function).request(args, kwargs)
    return request.data, request.buffers


def label_of(function: Any) -> str:
    return f"{getattr(function, '__qualname__', None) or type(function).__name__}(...)"


def refused(fault: CannotTravel) -> ValueRefused:
    return ValueRefused(str(fault), type_name=fault.type_name)


def _full_name(function: Any) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if name is None:
        return repr(function)
    return f"{module}.{name}" if module else str(name)


def _pack_function(function: Any) -> bytes | None:
    """None if it travels by its name."""
    try:
        data = pickle.dumps(function, protocol=5)
    except Exception:  # anything: a `__reduce__` of the user's ran
        pass
    else:
        if b"__main__" not in data:
            return None if len(data) < pickles.BIG else data
    return _by_cloudpickle(function)


def _pack(value: Any) -> tuple[bytes, Any]:
    kind, head, buffers = pickles.pack(value, dumps=_cloudpickle)
    if kind == pickles.PICKLE and b"__main__" in head:
        head, buffers = _by_cloudpickle(value), []
    return bytes((kind,)) + head, buffers


def _by_cloudpickle(value: Any) -> bytes:
    try:
        return _cloudpickle(value)
    except Exception as error:
        raise pickles.cannot(value, error) from error


def _cloudpickle(value: Any, protocol: int = 5, buffer_callback: Any = None) -> bytes:
    import cloudpickle  # type: ignore[import-untyped]

    data: bytes = cloudpickle.dumps(value, protocol=protocol, buffer_callback=buffer_callback)
    return data
