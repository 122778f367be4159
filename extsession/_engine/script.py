"""Locked-down scripts, for both colours: what is sent to a session, and what came of it.

The text of a script is never parsed here: that is the session's part (`_worker/script`).
"""

from __future__ import annotations

import enum
import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .._launch.interpreter import Interpreter
from .._launch.scripted import ScriptLauncher
from .._launch.templates import WarmLauncher
from .._launch.walled import WalledLauncher
from .._protocol import values
from .._protocol.faults import CannotTravel
from ..errors import (
    CallTimeout,
    ExtSessionError,
    InterpreterError,
    LimitExceeded,
    RemoteProtocolError,
    ScriptError,
    ScriptRejected,
    SessionDied,
    ValueRefused,
)
from ..options import Isolation, Ladder, Limits, seconds
from .call import Call
from .completion import Outcome

#: Python of scripts
OLDEST: Final = (3, 10)
#: characters of a script, at most
LONGEST: Final = 65536
#: cycles that a call of a host function costs, where nothing else is said
PRICE: Final = 100
#: bytes that a session needs besides what its script may use
_OWN_MEMORY: Final = 64 * 2**20
#: answers of the host's functions that are kept to explain a run
_MOST_ANSWERS: Final = 10_000
#: scripts whose last run can be explained
MOST_EXPLAINED: Final = 64
#: seconds that a session is given besides what its script may take
_OWN_SECONDS: Final = 1.0


class ScriptStatus(enum.Enum):
    """How a run of a script ended."""

    FINISHED = "finished"
    FAILED = "failed"  # an error that the script did not handle
    OVER_BUDGET = "over_budget"  # see `over`
    KILLED = "killed"  # its session was ended


@dataclass(frozen=True)
class ScriptLimits:
    """What one run of a script may use.

    cycles: of work, see docs/script-language.md: the same number on every machine. memory: bytes; seconds: wall time;
    output: characters that it prints; depth: calls within calls.
    """

    cycles: int = 100_000
    memory: int = 64 * 2**20
    seconds: float = 2.0
    output: int = 65_536
    depth: int = 200

    def __post_init__(self) -> None:
        for name, least in (("cycles", 1), ("memory", 2**20), ("output", 0), ("depth", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"ScriptLimits.{name} takes a whole number, not {value!r}")
            if not least <= value < 2**53:
                raise ValueError(f"ScriptLimits.{name} takes a number from {least} up, not {value!r}")
        if not seconds(self.seconds, "ScriptLimits.seconds"):
            raise ValueError("ScriptLimits.seconds takes seconds above 0")


@dataclass(frozen=True)
class ScriptProblem:
    """An error in a script. type: its name; line, column: in the script, from 1, None where that is not known."""

    type: str
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        return f"{where}{self.type}: {self.message}"


@dataclass(frozen=True)
class ScriptOutcome:
    """What came of a run.

    globals: names that the script has left, as plain data; cycles: that it took; over: which limit it broke ("cycles",
    "memory", "seconds", "output", "depth"); line: where it was then, if that is known; error: what it did not handle;
    stdout: what it printed; dropped: names that it has left and that are no plain data, as functions.
    """

    status: ScriptStatus
    globals: Mapping[str, Any] = field(default_factory=dict)
    cycles: int = 0
    over: str | None = None
    line: int | None = None
    error: ScriptProblem | None = None
    stdout: str = ""
    dropped: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.status is ScriptStatus.FINISHED


@dataclass(frozen=True)
class OverBudget:
    """For `on_over_budget`: which script broke which limit. amount: what was allowed; line: where, if that is known."""

    script: str
    limit: str
    amount: float
    line: int | None


def check_source(source: Any, name: Any) -> None:
    """TypeError; ScriptRejected for a text that is longer than any script."""
    if not isinstance(source, str):
        raise TypeError(f"a script is a str, not {type(source).__name__}")
    if not isinstance(name, str):
        raise TypeError(f"a script's name is a str, not {type(name).__name__}")
    if len(source) > LONGEST:
        raise rejected(
            name,
            [{"line": 1, "column": 1, "construct": "length", "why": f"a script has at most {LONGEST} characters"}],
        )


def key_of(source: str) -> bytes:
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()


def pack_check(source: str, name: str) -> bytes:
    return _pack({"source": source, "name": name})


def pack_run(
    source: str,
    name: str,
    given: Mapping[str, Any],
    prices: Mapping[str, int],
    limits: ScriptLimits,
    lines: bool = False,
) -> bytes:
    """ValueRefused for a value that is no plain data, ValueError for a name that a script cannot have."""
    for each in (*given, *prices):
        if not isinstance(each, str) or not each.isidentifier() or each.startswith("_"):
            raise ValueError(f"a script can have no name {each!r}: names are identifiers, and do not begin with _")
    limited = {"cycles": limits.cycles, "output": limits.output, "depth": limits.depth, "lines": lines}
    wanted = {"source": source, "name": name, "globals": dict(given), "functions": dict(prices), "limits": limited}
    return _pack(wanted)


def _pack(fields: dict[str, Any]) -> bytes:
    try:
        return values.encode(fields)
    except CannotTravel as fault:
        text = f"a script gets plain data only, and not a {fault.type_name}"
        raise ValueRefused(text, type_name=fault.type_name) from None


def rejected(name: str, findings: list[dict[str, Any]]) -> ScriptRejected:
    """An error that names all that was found."""
    first = findings[0]
    lines = [_finding(each) for each in findings]
    return ScriptRejected(
        f"{name}: " + "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else ""),
        line=first.get("line"),
        column=first.get("column"),
        construct=first.get("construct"),
        why=first.get("why"),
        findings=tuple(findings),
    )


def _finding(found: Mapping[str, Any]) -> str:
    text = f"line {found.get('line')}: {found.get('why')}"
    return f"{text} ({found['hint']})" if found.get("hint") else text


def check_functions(functions: Mapping[str, Any] | None) -> dict[str, tuple[Callable[..., Any], int]]:
    """name -> (function, price): each is given alone, or with its price in cycles."""
    found = {}
    for name, given in (functions or {}).items():
        function, price = given if isinstance(given, tuple) and len(given) == 2 else (given, PRICE)
        if not callable(function):
            raise TypeError(f"functions takes callables, and {name!r} is {type(function).__name__}")
        if isinstance(price, bool) or not isinstance(price, int) or price < 0:
            raise ValueError(f"the price of {name!r} is a number of cycles from 0 up, not {price!r}")
        found[name] = (function, price)
    return found


class Host:
    """Calls the functions of the host for a script. Nothing of an error of theirs gets there, but of a ScriptError."""

    def __init__(
        self, functions: Mapping[str, tuple[Callable[..., Any], int]], show: Callable[[Exception], None]
    ) -> None:
        self._functions = functions
        self._show = show
        self.answers: list[bytes] = []

    def _keep(self, body: bytes) -> bytes:
        if len(self.answers) < _MOST_ANSWERS:
            self.answers.append(body)
        return body

    def __call__(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The body of an answer, or an awaitable of it."""
        try:
            value = self._functions[name][0](*args, **kwargs)
        except Exception as error:
            return self._failed(name, error)
        return self._later(name, value) if inspect.isawaitable(value) else self._value(name, value)

    async def _later(self, name: str, value: Any) -> bytes:
        try:
            return self._value(name, await value)
        except Exception as error:
            return self._failed(name, error)

    def _value(self, name: str, value: Any) -> bytes:
        try:
            return self._keep(values.encode(["value", value]))
        except CannotTravel as fault:
            return self._failed(name, ValueRefused(f"{name} returned a {fault.type_name}", type_name=fault.type_name))

    def _failed(self, name: str, error: Exception) -> bytes:
        if isinstance(error, ScriptError):
            return self._keep(values.encode(["error", str(error)[:1000]]))
        self._show(error)
        return self._keep(values.encode(["failed", name]))


def session_options(limits: ScriptLimits, isolation: Isolation | None) -> dict[str, Any]:
    """Of sessions that run scripts: limits are the belt to the budget's braces, and hashes are the same in each."""
    held = Limits(
        wall=limits.seconds + _OWN_SECONDS,
        cpu=limits.seconds + _OWN_SECONDS,
        memory=limits.memory + _OWN_MEMORY,
        processes=8,
        output=4 * limits.output + 2**16,
    )
    ladder = Ladder(interrupt=0.2, terminate=0.1)  # another session is soon there
    if isolation is None:
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        plain = {"limits": replace(held, processes=None), "env": env, "ladder": ladder}
        return {**plain, "launcher": ScriptLauncher(WarmLauncher())}
    walls = replace(isolation, env={**isolation.env, "PYTHONHASHSEED": "0"})
    return {"limits": held, "isolation": walls, "ladder": ladder, "launcher": ScriptLauncher(WalledLauncher(walls))}


def check_limits(limits: ScriptLimits | None, most: ScriptLimits) -> ScriptLimits:
    """Of one run. ValueError: the session would not allow so much."""
    if limits is None:
        return most
    if not isinstance(limits, ScriptLimits):
        raise TypeError(f"limits takes a ScriptLimits, not {limits!r}")
    for name in ("memory", "output", "seconds"):
        if getattr(limits, name) > getattr(most, name):
            raise ValueError(f"limits of a run cannot have more {name} than the {getattr(most, name)} of its runner")
    return limits


def check_interpreter(interpreter: Interpreter) -> None:
    """InterpreterError: its scripts would not take the same cycles as others'."""
    if interpreter.version < OLDEST:
        version = ".".join(map(str, interpreter.version))
        raise InterpreterError(
            f"{interpreter.path} is Python {version}: scripts need 3.10 or newer", python=interpreter.path
        )


def check_runs(runs: Any) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ValueError(f"runs takes a number from 1 up, not {runs!r}")
    return runs


def record_of(call: Call, value: Callable[[], Any], stdout: str) -> dict[str, Any] | ScriptOutcome:
    """What a run's call says, or its outcome where it could not say so itself. value: gives what came back.

    ScriptRejected; ValueError for what could not be fed in; ExtSessionError for what is no fault of the script's.
    """
    completion = call.completion
    assert completion is not None
    error = call.error
    if completion.outcome is Outcome.FINISHED:
        record = value()
        if type(record) is not dict:
            raise RemoteProtocolError("the session answered nonsense")
        if "rejected" in record:
            raise rejected(call.label, record["rejected"])
        if "bad" in record:
            raise ValueError(f"{call.label}: {record['bad']}")
        return record
    if isinstance(error, CallTimeout):
        return ScriptOutcome(ScriptStatus.OVER_BUDGET, over="seconds", stdout=stdout)
    if isinstance(error, LimitExceeded):
        over = {"wall": "seconds", "cpu": "seconds", "memory": "memory", "output": "output"}.get(error.limit or "")
        return ScriptOutcome(ScriptStatus.OVER_BUDGET if over else ScriptStatus.KILLED, over=over, stdout=stdout)
    if isinstance(error, MemoryError):
        return ScriptOutcome(ScriptStatus.OVER_BUDGET, over="memory", stdout=stdout)
    if isinstance(error, SessionDied) or completion.outcome in (Outcome.LOST, Outcome.KILLED):
        return ScriptOutcome(ScriptStatus.KILLED, stdout=stdout)
    if error is not None:
        raise error
    raise ExtSessionError(f"a script ended in a way that it cannot: {completion}")


def outcome_of(record: dict[str, Any] | ScriptOutcome, stdout: str) -> ScriptOutcome:
    """Of a run that was not only a check."""
    if isinstance(record, ScriptOutcome):
        return record
    problem = record.get("error")
    over = record.get("over")
    status = _STATUSES.get(str(record.get("status")))
    if status is None:
        raise RemoteProtocolError("the session answered nonsense")
    told = None
    if problem is not None:
        told = ScriptProblem(
            str(problem.get("type")), str(problem.get("message")), problem.get("line"), problem.get("column")
        )
    return ScriptOutcome(
        status,
        dict(record.get("globals") or {}),
        int(record.get("cycles", 0)),
        None if over is None else str(over),
        None if told is None else told.line,
        told,
        stdout,
        tuple(map(str, record.get("dropped") or ())),
    )


def lines_of(record: dict[str, Any] | ScriptOutcome) -> dict[int, int]:
    """Cycles by line, where the most went first."""
    found = {} if isinstance(record, ScriptOutcome) else dict(record.get("lines") or {})
    return dict(sorted(((int(line), int(cycles)) for line, cycles in found.items()), key=lambda item: -item[1]))


_STATUSES: Final = {
    "finished": ScriptStatus.FINISHED,
    "failed": ScriptStatus.FAILED,
    "over_budget": ScriptStatus.OVER_BUDGET,
}


@dataclass
class LastRun:
    """What is run again to be explained. answers: of the host's functions."""

    given: dict[str, Any]
    prices: dict[str, int]
    limits: ScriptLimits
    answers: list[bytes]


class Replay:
    """Answers as a `Host` did before."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = iter(answers)

    def __call__(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
        return next(self._answers, values.encode(["failed", name]))


def over_budget(name: str, outcome: ScriptOutcome, limits: ScriptLimits) -> OverBudget | None:
    if outcome.status is not ScriptStatus.OVER_BUDGET or outcome.over is None:
        return None
    return OverBudget(name, outcome.over, getattr(limits, outcome.over, 0), outcome.line)
