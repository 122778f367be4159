"""What a script may raise and catch, and what ends it whatever it does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


class ScriptError(Exception):
    """Raised by an exposed function whose message is meant for the script."""


class HostFailed(Exception):
    """An exposed function raised something else: the script is told that it failed, and no more."""


class BadValue(ValueError):
    """What was fed in is no plain data, or too much of it."""


class OverBudget(BaseException):
    """A limit is spent. No script can name or catch it; `meter` raises it again at each tick."""


class Aborted(BaseException):
    """`ask` or `write` failed for reasons of their own: the run ends, and `run` raises the cause."""


class AnyError(Exception):
    """What `raise Exception(...)` raises."""


class RunError(Exception):
    """What `raise RuntimeError(...)` raises: not CPython's, of which RecursionError is one."""


AnyError.__name__ = AnyError.__qualname__ = "Exception"
RunError.__name__ = RunError.__qualname__ = "RuntimeError"

#: what `except Exception` and a bare `except` catch: no MemoryError, no RecursionError, no OverBudget
CATCHABLE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
    ScriptError,
    AnyError,
    RunError,
)

#: names in `except`
CAUGHT: dict[str, tuple[type[Exception], ...]] = {
    "ArithmeticError": (ArithmeticError,),
    "AssertionError": (AssertionError,),
    "AttributeError": (AttributeError,),
    "Exception": CATCHABLE,
    "IndexError": (IndexError,),
    "KeyError": (KeyError,),
    "LookupError": (LookupError,),
    "NameError": (NameError,),
    "OverflowError": (OverflowError,),
    "RuntimeError": (RunError,),
    "ScriptError": (ScriptError,),
    "TypeError": (TypeError,),
    "ValueError": (ValueError,),
    "ZeroDivisionError": (ZeroDivisionError,),
}

#: names in `raise`
RAISED: dict[str, type[Exception]] = {name: classes[0] for name, classes in CAUGHT.items()}
RAISED["Exception"] = AnyError
