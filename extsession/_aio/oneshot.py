"""One-shots: a fresh process for one expression or one program."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any

import anyio.lowlevel

from .._engine.completion import Outcome
from .._engine.oneshot import ExecResult
from ..errors import NotReady
from .results import AsyncExtResults
from .session import AsyncExtSession


async def async_exteval(expression: str, *, timeout: float | None = None, **options: Any) -> Any:
    """The value of an expression, computed in a new interpreter process; as `exteval`."""
    async with AsyncExtSession(**options) as session:
        return await session.eval(expression, timeout=timeout)


async def async_extexec(source: str, *, stdin: Any = None, timeout: float | None = None, **options: Any) -> ExecResult:
    """Run a program in a new interpreter process, to the process's end: (stdout, stderr); as `extexec`."""
    options.setdefault("output_limit", None)
    async with AsyncExtSession(**options) as session:
        results = await session.execute(source, stdin=stdin, timeout=timeout)
        completion = (await results).completion
        status = 1 if completion.outcome is not Outcome.FINISHED else 0
        if completion.survived:
            await session.exit(status, timeout=timeout)
        out, err = session.exit_output
        error = None if completion.outcome is Outcome.EXITED else results.error
        return ExecResult(results.stdout + out, results.stderr + err, session.exit_code, error)


class AsyncExtEval:
    """The value of an expression that a new interpreter process computes meanwhile; as ExtEval.

    `async with AsyncExtEval(expression) as value:` starts the process, and ends it; in between, `result` is
    there when it is done and `await value` waits for it. `await AsyncExtEval(expression)` does all three.
    """

    def __init__(self, expression: str, *, timeout: float | None = None, **options: Any) -> None:
        self._expression = expression
        self._timeout = timeout
        self._session = AsyncExtSession(**options)
        self._results: AsyncExtResults | None = None

    async def __aenter__(self) -> AsyncExtEval:
        session = self._session
        await session._enter()
        try:
            driver = session._here()
            call = driver.submit(lambda core: core.evaluate(self._expression, self._timeout))
        except BaseException:
            await session.aclose()
            raise
        self._results = AsyncExtResults(driver, call)
        self._results.add_done_callback(lambda _: session._end_soon())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.aclose()

    @property
    def done(self) -> bool:
        """Whether the value, or an error, is there."""
        return self._results is not None and self._results.done

    @property
    def result(self) -> Any:
        """The value; raises what the expression raised; NotReady while it is computed."""
        if self._results is None or not self._results.done:
            raise NotReady("the expression is not evaluated yet; wait() returns when it is")
        return self._results._core.value_of(self._results._call)

    async def wait(self, timeout: float | None = None) -> AsyncExtEval:
        """Return when the value is there: itself. TimeoutError after `timeout` seconds."""
        if self._results is None:
            self._session._here()  # says what is missing
        else:
            await self._results.wait(timeout)
        return self

    async def cancel(self) -> bool:
        """End the process, if it is not done; False if it is."""
        if self.done or not self._session.is_alive:
            await anyio.lowlevel.checkpoint()
            return False
        await self._session.kill()
        return True

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value().__await__()

    async def _value(self) -> Any:
        if self._results is not None:
            return (await self.wait()).result
        async with self:
            return (await self.wait()).result

    def __repr__(self) -> str:
        return f"<AsyncExtEval {self._results or 'not started'!r}>"
