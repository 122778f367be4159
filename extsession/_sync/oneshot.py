"""One-shots: a fresh process for one expression or one program."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Generator
from typing import Any

from .._engine.completion import Outcome
from .._engine.machine import Phase
from .._engine.oneshot import ExecResult as ExecResult
from ..errors import NotReady
from .hub import Hub
from .results import ExtResults
from .session import ExtSession


def exteval(expression: str, *, timeout: float | None = None, **options: Any) -> Any:
    """The value of an expression, computed in a new interpreter process.

    options: as of ExtSession. Raises what the expression raises, CallTimeout, ValueRefused if the value cannot travel.
    """
    with ExtSession(**options) as session:
        return session.eval(expression, timeout=timeout)


def extexec(source: str, *, stdin: Any = None, timeout: float | None = None, **options: Any) -> ExecResult:
    """Run a program in a new interpreter process, to the end of the process: its (stdout, stderr).

    What the program raises is printed on its stderr, and is `error` of the result. options: as of ExtSession.
    """
    options.setdefault("output_limit", None)
    with ExtSession(**options) as session:
        results = session.execute(source, stdin=stdin, timeout=timeout).wait()
        completion = results.completion
        status = 1 if completion.outcome is not Outcome.FINISHED else 0
        if completion.survived:
            session.exit(status, timeout=timeout)
        out, err = session.exit_output
        out = results.stdout + results.late_stdout + out
        err = results.stderr + results.late_stderr + err
        error = None if completion.outcome is Outcome.EXITED else results.error
        return ExecResult(out, err, session.exit_code, error)


class ExtEval:
    """The value of an expression that a new interpreter process computes meanwhile.

    `result` is there when the process is done; reading it earlier raises NotReady, a ValueError. Awaitable under
    asyncio and trio. options: as of ExtSession.
    """

    def __init__(self, expression: str, *, timeout: float | None = None, **options: Any) -> None:
        self._session = ExtSession._starting(**options)
        call = self._session._submit(lambda core: core.evaluate(expression, timeout))
        self._results = ExtResults(self._session._driver, call)
        self._results.add_done_callback(lambda _: self._session._end_soon())
        Hub.get().notice(self._session._driver)

    @property
    def done(self) -> bool:
        """Whether the value, or an error, is there."""
        return self._results.done

    @property
    def result(self) -> Any:
        """The value; raises what the expression raised; NotReady while it is computed."""
        if not self._results.done:
            self._session._driver.step()
        if not self._results.done:
            raise NotReady("the expression is not evaluated yet; wait() returns when it is")
        return self._results.result()

    def wait(self, timeout: float | None = None) -> ExtEval:
        """Return when the value is there: itself. TimeoutError after `timeout` seconds."""
        self._results.wait(timeout)
        return self

    def cancel(self) -> bool:
        """End the process, if it is not done; False if it is."""
        if self._results.done or self._session._core.machine.phase is Phase.DEAD:
            return False
        self._session.kill()
        return True

    def future(self) -> concurrent.futures.Future[Any]:
        """A future of the value. Cancelling it has no effect on the process."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def settle(results: ExtResults) -> None:
            try:
                value = results.result()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)

        self._results.add_done_callback(settle)
        return future

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value().__await__()

    async def _value(self) -> Any:
        return (await self._results).result()

    def __repr__(self) -> str:
        return f"<ExtEval {self._results!r}>"
