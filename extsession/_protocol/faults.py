"""The protocol's own exceptions. `extsession.errors` wraps them for users."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ProtocolFault(Exception):
    """What arrived is not what the protocol allows."""


class BadFrame(ProtocolFault):
    """A frame header is not one, or a size is over its bound."""


class BadMessage(ProtocolFault):
    """A frame holds no message, or one that may not come now."""


class BadValue(ProtocolFault):
    """An encoded value is not one."""


class CannotTravel(TypeError):
    """A value that cannot be sent: `type_name` says which type, the text says why."""

    def __init__(self, type_name: str, why: str) -> None:
        super().__init__("a value of type %s cannot travel: %s" % (type_name, why))
        self.type_name = type_name
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return (CannotTravel, (self.type_name, self.why))
