"""Every exception of the package.

Facts are attributes, all of them keyword arguments of the constructor; errors pickle with them.
"""

from __future__ import annotations

import builtins
import enum
from collections.abc import Sequence
from typing import Any

from ._protocol.census import Census
from ._protocol.records import ErrorInfo


class Killer(enum.Enum):
    """Who has ended a session's process."""

    CALLER = "caller"  # kill(), terminate(), close()
    TIMEOUT = "timeout"  # the ladder of a call that ran longer than its `timeout`
    LIMIT = "limit"  # of `Limits`: by the controller, or by the kernel for it
    PROTOCOL = "protocol"  # the controller, because it sent nonsense
    MEMORY_KILLER = "memory killer"  # the kernel's: the machine, or a group that the session is in, had no memory left
    CRASH = "crash"  # a signal that a process gets for what it does, as SIGSEGV
    OUTSIDE = "outside"  # a signal that none of these has sent: of another process, or of the code itself


class ExtSessionError(Exception):
    """Base of all errors of this package."""

    _facts: tuple[str, ...] = ()

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name in self._facts:
            setattr(self, name, facts.pop(name, None))
        if facts:
            raise TypeError(f"{type(self).__name__} has no fact {', '.join(facts)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {name: getattr(self, name) for name in self._facts})


def _rebuild(kind: type[ExtSessionError], args: tuple[str, ...], facts: dict[str, Any]) -> ExtSessionError:
    return kind(*args, **facts)


class LaunchError(ExtSessionError):
    """A session could not be started.

    python: the interpreter asked for; command: what was run; stderr: the last it printed.
    """

    _facts: tuple[str, ...] = ("python", "command", "stderr")
    python: str | None
    command: Sequence[str] | None
    stderr: str | None


class InterpreterError(LaunchError):
    """The interpreter is missing, too old, or not Python."""


class IsolationUnavailable(LaunchError):
    """This host does not allow the isolation that was asked for.

    step: what it has denied; cure: what an administrator can change, in words.
    """

    _facts = ("python", "command", "stderr", "step", "cure")
    step: str | None
    cure: str | None


class SessionDied(ExtSessionError):
    """The session's process ended while something was still expected of it.

    exit_code: as of an interpreter, None if a signal ended it; signal: its name ("SIGSEGV"); killer: who has sent that;
    running: the source of the call it was in; stderr: the last of that call's stderr; traceback: of a crash, as
    faulthandler has written it; limit: the limit that ended it; survived: the session goes on in another process
    (recover=True); incarnation: which process of the session it was, from 1.
    """

    _facts = ("exit_code", "signal", "killer", "running", "stderr", "traceback", "limit", "survived", "incarnation")
    exit_code: int | None
    signal: str | None
    killer: Killer | None
    running: str | None
    stderr: str | None
    traceback: str | None
    limit: str | None
    survived: bool | None
    incarnation: int | None


class SessionClosed(ExtSessionError):
    """The session was closed, or belongs to another process (it does not survive a fork of its owner)."""


class PoolTimeout(ExtSessionError, builtins.TimeoutError):
    """No session of a pool came free in time. waited: seconds; size, used: sessions of the pool, and those in use."""

    _facts = ("waited", "size", "used")
    waited: float | None
    size: int | None
    used: int | None


class LimitExceeded(ExtSessionError):
    """A limit was reached. limit: its name; allowed, reached: values in its unit; survived: the session lives on."""

    _facts = ("limit", "allowed", "reached", "survived")
    limit: str | None
    allowed: float | None
    reached: float | None
    survived: bool | None


class CallTimeout(LimitExceeded, builtins.TimeoutError):
    """A call ran longer than its `timeout`."""

    def __init__(self, message: str = "", **facts: Any) -> None:
        facts.setdefault("limit", "timeout")
        super().__init__(message, **facts)


class RemoteError(ExtSessionError):
    """The code in the session raised an exception that is no built-in one.

    info: all that is known of it; type_name: its type; remote_traceback: as it was printed there.
    """

    _facts = ("info",)
    info: ErrorInfo

    @property
    def type_name(self) -> str:
        return self.info.type_name

    @property
    def remote_traceback(self) -> str:
        return self.info.traceback


class RemoteTraceback(ExtSessionError):
    """The cause of an exception that was raised in a session: shows the traceback from there."""

    def __str__(self) -> str:
        return "\n" + super().__str__().rstrip("\n")


class ValueRefused(ExtSessionError, TypeError):
    """A value cannot travel between the processes. type_name: the type that is in the way."""

    _facts = ("type_name",)
    type_name: str | None


class NotReady(ExtSessionError, ValueError):
    """A result was read before its call is complete."""


class IncompleteSource(ExtSessionError, ValueError):
    """A program in a terminal session waits for more of the source, as at an open quote. source: of the call."""

    _facts = ("source",)
    source: str | None


class CallCancelled(ExtSessionError):
    """The call was cancelled before its turn came."""


class ForkRefused(ExtSessionError):
    """The session cannot be branched safely.

    threads: names of the threads that are alive in it; census: all that was found, see docs/branching.md.
    """

    _facts = ("threads", "census")
    threads: Sequence[str] | None
    census: Census | None


class CheckpointGone(ExtSessionError):
    """A checkpoint was dropped, or its process was ended from outside. name: its name."""

    _facts = ("name",)
    name: str | None


class ScriptRejected(ExtSessionError):
    """A locked-down script uses what is not allowed.

    line, column: where, from 1; construct: what; why: in words for its author; of the first of the `findings`, which
    are dicts of these, and of `hint`.
    """

    _facts = ("line", "column", "construct", "why", "findings")
    line: int | None
    column: int | None
    construct: str | None
    why: str | None
    findings: Sequence[dict[str, Any]] | None


class ScriptError(ExtSessionError):
    """To be raised by functions that scripts call: its text is what the script's author is shown."""


class ProtocolError(ExtSessionError):
    """The two sides do not understand each other."""


class LocalProtocolError(ProtocolError):
    """This side broke the protocol: an error in this package."""


class RemoteProtocolError(ProtocolError):
    """The session sent what the protocol does not allow. It was ended for that."""


def remote_exception(info: ErrorInfo) -> BaseException:
    """What to raise for an exception of the session's code.

    The same built-in type where it is one, else a RemoteError; the remote traceback is its cause.
    """
    error = info.to_exception()
    if error is None:
        error = RemoteError(f"{info.type_name}: {info.message}" if info.message else info.type_name, info=info)
        for note in info.notes:
            _add_note(error, note)
    error.__cause__ = RemoteTraceback(info.traceback)
    return error


def _add_note(error: BaseException, note: str) -> None:
    notes = getattr(error, "__notes__", [])
    error.__notes__ = [*notes, note]  # type: ignore[attr-defined]
