"""Script, ScriptRunner and run_script: locked-down scripts with a budget."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from .._engine import script as engine
from .._engine.call import Call
from .._engine.script import Host, OverBudget, ScriptLimits, ScriptOutcome
from ..options import Isolation, seconds
from .pool import SessionPool
from .results import ExtResults
from .session import ExtSession

#: the walls that scripts have where nothing else is said: the best that the host allows, and weak at least
_WALLS: Final = Isolation(tier="weak")


class Script:
    """A script that has been checked: it uses nothing but the language of docs/script-language.md.

    name: for messages. runner: by whose sessions it is checked, in its walls; None: by one that this process keeps.
    Raises ScriptRejected, which has all that is wrong as `findings`.
    """

    def __init__(self, source: str, name: str = "script", *, runner: ScriptRunner | None = None) -> None:
        engine.check_source(source, name)
        self.source = source
        self.name = name
        (runner or _checker()).check(source, name)

    def __repr__(self) -> str:
        return f"<Script {self.name!r}, {self.source.count(chr(10)) + 1} lines>"


class ScriptRunner:
    """Runs scripts in warm, isolated sessions. Safe to use from several threads; a context manager.

    limits: of each run. functions: that scripts may call: {name: function} or {name: (function, price in cycles)};
    they are called here, with copies of plain data. on_over_budget: called with an OverBudget when one was stopped.
    size: sessions, for as many runs at a time. runs: after so many a session is replaced. python: as of ExtSession.
    isolation: the walls; None, which has to be written out: none at all.

    Raises IsolationUnavailable where the host allows no walls, InterpreterError for a Python before 3.10.
    """

    def __init__(
        self,
        *,
        limits: ScriptLimits | None = None,
        functions: Mapping[str, Any] | None = None,
        on_over_budget: Callable[[OverBudget], Any] | None = None,
        isolation: Isolation | None = _WALLS,
        size: int = 1,
        runs: int = 1000,
        python: str | os.PathLike[str] | None = None,
    ) -> None:
        self.limits = ScriptLimits() if limits is None else limits
        self._functions = engine.check_functions(functions)
        self._on_over_budget = on_over_budget
        self._runs = engine.check_runs(runs)
        self._used: dict[ExtSession, int] = {}
        self._last: dict[bytes, engine.LastRun] = {}
        self._lock = threading.Lock()
        options = engine.session_options(self.limits, isolation)
        self._pool = SessionPool(size, reuse=True, python=python, **options)
        try:
            with self._pool.acquire() as session:  # what is wrong with the walls is told here
                engine.check_interpreter(session.interpreter)
                self._used[session] = 0
        except BaseException:
            self._pool.close(drain=False)
            raise

    def run(
        self,
        script: Script | str,
        globals: Mapping[str, Any] | None = None,
        *,
        name: str = "script",
        functions: Mapping[str, Any] | None = None,
        limits: ScriptLimits | None = None,
    ) -> ScriptOutcome:
        """Run a script with these names, plain data; what came of it. What the script does wrong is on the outcome.

        name: of a script that is given as text. functions: besides the runner's. limits: instead of the runner's, and
        with no more memory, output or seconds than those. Raises ScriptRejected for a text that is no script;
        ValueRefused for a name that is no plain data.
        """
        source, name = (script.source, script.name) if isinstance(script, Script) else (script, name)
        engine.check_source(source, name)
        limits = engine.check_limits(limits, self.limits)
        known = {**self._functions, **engine.check_functions(functions)}
        prices = {each: price for each, (_, price) in known.items()}
        given = dict(globals or {})
        data = engine.pack_run(source, name, given, prices, limits)
        host = Host(known, _show)
        outcome = engine.outcome_of(*self._do(name, data, limits, host))
        with self._lock:
            self._last.pop(key := engine.key_of(source), None)
            self._last[key] = engine.LastRun(given, prices, limits, host.answers)
            while len(self._last) > engine.MOST_EXPLAINED:
                del self._last[next(iter(self._last))]
        over = engine.over_budget(name, outcome, limits)
        if over is not None and self._on_over_budget is not None:
            self._on_over_budget(over)
        return outcome

    def check(self, source: str, name: str = "script") -> None:
        """ScriptRejected, if it is no script."""
        engine.check_source(source, name)
        self._do(name, engine.pack_check(source, name), self.limits, None)

    def explain(self, script: Script | str) -> Mapping[int, int]:
        """Cycles by line of the script's last run here, where the most went first.

        It is run again for that, on the same names and on what the functions said then. Empty before there was one.
        """
        source = script.source if isinstance(script, Script) else script
        last = self._last.get(engine.key_of(source))
        if last is None:
            return {}
        data = engine.pack_run(source, "script", last.given, last.prices, last.limits, lines=True)
        return engine.lines_of(self._do("script", data, self.limits, engine.Replay(last.answers))[0])

    def close(self) -> None:
        """End its sessions, after the runs that are on."""
        self._pool.close()

    def _do(self, name: str, data: bytes, limits: ScriptLimits, host: Any) -> tuple[Any, str]:
        """(the record, what was printed) of a script that is run, or checked."""
        with self._pool.acquire() as session:
            call: Call = session._submit(lambda core: core.script(name, data, seconds(limits.seconds, "seconds"), host))
            results = ExtResults(session._driver, call).wait()
            record = engine.record_of(call, lambda: session._core.value_of(call), results.stdout)
            with self._lock:
                self._used[session] = used = self._used.get(session, 0) + 1
                if used >= self._runs or not results.completion.survived:
                    del self._used[session]
                    session.close()
            return record, results.stdout

    def __enter__(self) -> ScriptRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def run_script(
    source: str,
    globals: Mapping[str, Any] | None = None,
    *,
    functions: Mapping[str, Any] | None = None,
    limits: ScriptLimits | None = None,
    isolation: Isolation | None = _WALLS,
    name: str = "script",
) -> ScriptOutcome:
    """Run a script once, in a session of its own; as ScriptRunner.run. ScriptRejected; IsolationUnavailable."""
    engine.check_source(source, name)
    with ScriptRunner(limits=limits, functions=functions, isolation=isolation) as runner:
        script = Script(source, name, runner=runner)
        return runner.run(script, globals)


_kept: ScriptRunner | None = None
_keeping = threading.Lock()


def _checker() -> ScriptRunner:
    """The runner that checks scripts for who has none."""
    global _kept
    with _keeping:
        if _kept is None:
            _kept = ScriptRunner()
        return _kept


def _forget() -> None:
    """In a forked process: its sessions are not ours."""
    global _kept, _keeping
    _kept = None
    _keeping = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _show(error: Exception) -> None:
    """A function of the host has failed: its script is not to know how."""
    sys.excepthook(type(error), error, error.__traceback__)
