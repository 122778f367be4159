"""AsyncScriptRunner and async_run_script."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from .._engine import script as engine
from .._engine.script import Host, OverBudget, ScriptLimits, ScriptOutcome
from ..options import Isolation
from .driver import show
from .pool import AsyncSessionPool
from .results import AsyncExtResults
from .session import AsyncExtSession

_WALLS: Final = Isolation(tier="weak")


class AsyncScriptRunner:
    """As ScriptRunner, for trio and asyncio: `async with AsyncScriptRunner() as runner:`.

    Functions that scripts call may be coroutine functions, and so may `on_over_budget`.
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
        self._used: dict[AsyncExtSession, int] = {}
        self._last: dict[bytes, engine.LastRun] = {}
        options = engine.session_options(self.limits, isolation)
        self._pool = AsyncSessionPool(size, reuse=True, python=python, **options)

    async def run(
        self,
        source: str,
        globals: Mapping[str, Any] | None = None,
        *,
        name: str = "script",
        functions: Mapping[str, Any] | None = None,
        limits: ScriptLimits | None = None,
    ) -> ScriptOutcome:
        """Run a script; as ScriptRunner.run."""
        engine.check_source(source, name)
        limits = engine.check_limits(limits, self.limits)
        known = {**self._functions, **engine.check_functions(functions)}
        prices = {each: price for each, (_, price) in known.items()}
        given = dict(globals or {})
        data = engine.pack_run(source, name, given, prices, limits)
        host = Host(known, show)
        outcome = engine.outcome_of(*await self._do(name, data, limits, host))
        self._last.pop(key := engine.key_of(source), None)
        self._last[key] = engine.LastRun(given, prices, limits, host.answers)
        while len(self._last) > engine.MOST_EXPLAINED:
            self._last.pop(next(iter(self._last)), None)
        over = engine.over_budget(name, outcome, limits)
        if over is not None and self._on_over_budget is not None:
            told = self._on_over_budget(over)
            if inspect.isawaitable(told):
                await told
        return outcome

    async def check(self, source: str, name: str = "script") -> None:
        """ScriptRejected, if it is no script."""
        engine.check_source(source, name)
        await self._do(name, engine.pack_check(source, name), self.limits, None)

    async def explain(self, source: str) -> Mapping[int, int]:
        """Cycles by line of the script's last run here; as ScriptRunner.explain."""
        last = self._last.get(engine.key_of(source))
        if last is None:
            return {}
        data = engine.pack_run(source, "script", last.given, last.prices, last.limits, lines=True)
        return engine.lines_of((await self._do("script", data, self.limits, engine.Replay(last.answers)))[0])

    async def _do(self, name: str, data: bytes, limits: ScriptLimits, host: Any) -> tuple[Any, str]:
        async with self._pool.acquire() as session:
            engine.check_interpreter(session.interpreter)
            driver = session._here()
            call = driver.submit(lambda core: core.script(name, data, limits.seconds, host))
            results = await AsyncExtResults(driver, call).wait()
            record = engine.record_of(call, lambda: driver.core.value_of(call), results.stdout)
            self._used[session] = used = self._used.get(session, 0) + 1
            if used >= self._runs or not results.completion.survived:
                del self._used[session]
                await session.aclose()
            return record, results.stdout

    async def __aenter__(self) -> AsyncScriptRunner:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, traceback)


async def async_run_script(
    source: str,
    globals: Mapping[str, Any] | None = None,
    *,
    functions: Mapping[str, Any] | None = None,
    limits: ScriptLimits | None = None,
    isolation: Isolation | None = _WALLS,
    name: str = "script",
) -> ScriptOutcome:
    """Run a script once; as run_script."""
    engine.check_source(source, name)
    async with AsyncScriptRunner(limits=limits, functions=functions, isolation=isolation) as runner:
        return await runner.run(source, globals, name=name)
