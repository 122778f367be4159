"""ScriptRunner, run_script and their twins: scripts in isolated sessions, from the application's side."""

from __future__ import annotations

import builtins
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from extsession import InterpreterError, Isolation, ValueRefused
from extsession.script import (
    AsyncScriptRunner,
    OverBudget,
    Script,
    ScriptError,
    ScriptLimits,
    ScriptRejected,
    ScriptRunner,
    ScriptStatus,
    async_run_script,
    run_script,
)

RULE = """\
ratio = 1.2345678
minimum = 10

def convert(money):
    return money * ratio

if price < minimum:
    cost = convert(minimum)
else:
    cost = convert(price)
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[ScriptRunner]:
    with ScriptRunner() as found:
        yield found


def honest(runner: ScriptRunner) -> None:
    """Whatever was run before: the next one gives the right answer."""
    outcome = runner.run(RULE, {"price": 20})
    assert outcome.ok
    assert outcome.globals["cost"] == 20 * 1.2345678


def test_the_rule(runner: ScriptRunner) -> None:
    script = Script(RULE, name="pricing", runner=runner)
    outcome = runner.run(script, {"price": 7.5})
    assert outcome.status is ScriptStatus.FINISHED
    assert outcome.globals == {"price": 7.5, "ratio": 1.2345678, "minimum": 10, "cost": 12.345678}
    assert "convert" in outcome.dropped or "convert" not in outcome.globals
    assert runner.run(script, {"price": 7.5}).cycles == outcome.cycles
    lines = runner.explain(script)
    assert sum(lines.values()) == outcome.cycles
    assert list(lines.values()) == sorted(lines.values(), reverse=True)
    assert runner.explain("x = 1  # never run") == {}


def test_the_limit_is_exact(runner: ScriptRunner) -> None:
    cycles = runner.run(RULE, {"price": 7.5}).cycles
    assert runner.run(RULE, {"price": 7.5}, limits=ScriptLimits(cycles=cycles)).ok
    over = runner.run(RULE, {"price": 7.5}, limits=ScriptLimits(cycles=cycles - 1))
    assert (over.status, over.over, over.globals) == (ScriptStatus.OVER_BUDGET, "cycles", {})


def test_the_host_parses_nothing(runner: ScriptRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the host has parsed the text of a script")

    import ast
    import tokenize

    for module, name in ((builtins, "compile"), (builtins, "exec"), (builtins, "eval"), (ast, "parse"), (tokenize, "tokenize")):
        monkeypatch.setattr(module, name, refuse)
    script = Script(RULE + "# and no other\n", runner=runner)
    assert runner.run(script, {"price": 1}).ok
    with pytest.raises(ScriptRejected):
        Script("import os", runner=runner)


def test_what_is_no_script(runner: ScriptRunner) -> None:
    with pytest.raises(ScriptRejected) as caught:
        Script("x = 1\nimport os\ny = x.__class__", name="bad", runner=runner)
    error = caught.value
    assert (error.line, error.column) == (2, 1)
    assert error.construct
    assert error.why
    assert error.findings is not None
    assert [each["line"] for each in error.findings] == [2, 3]
    assert str(error).startswith("bad: line 2: ")
    with pytest.raises(ScriptRejected):
        runner.run("class A: pass")
    with pytest.raises(ScriptRejected, match="at most 65536 characters"):
        Script("#" * 70_000, runner=runner)
    with pytest.raises(TypeError):
        Script(b"x = 1", runner=runner)  # type: ignore[arg-type]
    honest(runner)


ENDS = {
    "an error": ("x = 1\ny = x / 0", ScriptStatus.FAILED, None, "ZeroDivisionError", 2),
    "a name": ("x = nobody", ScriptStatus.FAILED, None, "NameError", 1),
    "cycles": ("n = 0\nwhile True:\n    n += 1", ScriptStatus.OVER_BUDGET, "cycles", "OverBudget", None),
    "output": ("while True:\n    print('x' * 100)", ScriptStatus.OVER_BUDGET, "output", "OverBudget", None),
    "depth": ("def f(n):\n    return f(n + 1)\nf(0)", ScriptStatus.OVER_BUDGET, "depth", "OverBudget", None),
    "hidden work": ("while True: x = sorted(range(100_000))", ScriptStatus.OVER_BUDGET, "cycles", "OverBudget", 1),
    "swallowed": ("while True:\n    try:\n        x = 1\n    except:\n        pass", ScriptStatus.OVER_BUDGET, "cycles", "OverBudget", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_each_end(runner: ScriptRunner, name: str) -> None:
    source, status, over, kind, line = ENDS[name]
    outcome = runner.run(source)
    assert (outcome.status, outcome.over) == (status, over), outcome
    assert outcome.error is not None
    assert outcome.error.type == kind
    assert line is None or outcome.error.line == line
    assert "extsession" not in str(outcome.error)
    assert "/" not in outcome.error.message
    honest(runner)


def test_over_budget_is_told() -> None:
    told: list[OverBudget] = []
    with ScriptRunner(limits=ScriptLimits(cycles=1000), on_over_budget=told.append) as runner:
        assert runner.run("while True: pass", name="forever").over == "cycles"
        assert runner.run("x = 1").ok
    assert told == [OverBudget("forever", "cycles", 1000, 1)]


def test_prints(runner: ScriptRunner) -> None:
    outcome = runner.run("print('one', 2)\nprint('drei')")
    assert outcome.stdout == "one 2\ndrei\n"


# functions of the host


def test_functions(runner: ScriptRunner) -> None:
    asked: list[Any] = []

    def lookup(name: str, default: int = 0) -> int:
        asked.append((name, default, threading.current_thread()))
        return {"a": 1}.get(name, default)

    source = "x = lookup('a')\ny = lookup('b', default=7)"
    outcome = runner.run(source, functions={"lookup": lookup})
    assert (outcome.globals["x"], outcome.globals["y"]) == (1, 7)
    assert [each[:2] for each in asked] == [("a", 0), ("b", 7)]
    dear = runner.run(source, functions={"lookup": (lookup, 1000)})
    assert dear.cycles == outcome.cycles + 2 * 900
    count = len(asked)
    assert sum(runner.explain(source).values()) == dear.cycles
    assert len(asked) == count  # what it said then is used again


def test_functions_get_copies(runner: ScriptRunner) -> None:
    kept: list[Any] = []

    def take(value: Any) -> Any:
        kept.append(value)
        value.append("mine")
        return value

    outcome = runner.run("a = [1]\nb = take(a)\nb.append(2)\nc = a == [1]", functions={"take": take})
    assert outcome.globals["c"] is True
    assert kept == [[1, "mine"]]


def test_functions_that_fail(runner: ScriptRunner, capsys: pytest.CaptureFixture[str]) -> None:
    def secret() -> None:
        raise RuntimeError("password is hunter2")

    def known() -> None:
        raise ScriptError("no such customer")

    def odd() -> object:
        return object()

    functions = {"secret": secret, "known": known, "odd": odd}
    for name in ("secret", "odd"):
        outcome = runner.run(f"{name}()", functions=functions)
        assert outcome.error is not None
        assert outcome.status is ScriptStatus.FAILED
        assert "hunter2" not in str(outcome)
        assert "object" not in str(outcome.error.message)
    assert "hunter2" in capsys.readouterr().err  # it is for us
    outcome = runner.run("known()", functions=functions)
    assert outcome.error is not None
    assert outcome.error.message == "no such customer"
    caught = runner.run("try:\n    known()\nexcept ScriptError as e:\n    x = str(e)", functions=functions)
    assert caught.globals["x"] == "no such customer"
    honest(runner)


def test_a_function_that_runs_a_script_itself() -> None:
    with ScriptRunner(size=2) as runner:
        outcome = runner.run("x = inner(3)", functions={"inner": lambda n: runner.run("y = n * 2", {"n": n}).globals["y"]})
        assert outcome.globals["x"] == 6


@pytest.mark.parametrize("name", ["_x", "a b", "1x", "x.y", "", "print()"])
def test_names_that_a_script_cannot_have(runner: ScriptRunner, name: str) -> None:
    with pytest.raises(ValueError):
        runner.run("x = 1", {name: 1})
    with pytest.raises(ValueError):
        runner.run("x = 1", functions={name: abs})


@pytest.mark.parametrize("value", [object(), b"bytes", {1: object()}, 1j, lambda: 1, type], ids=lambda each: type(each).__name__)
def test_values_that_are_no_plain_data(runner: ScriptRunner, value: Any) -> None:
    with pytest.raises((ValueRefused, ValueError)):
        runner.run("x = 1", {"given": value})
    honest(runner)


def test_arguments_that_are_none() -> None:
    for wrong in ({"cycles": 0}, {"seconds": 0}, {"memory": 5}, {"depth": -1}):
        with pytest.raises(ValueError):
            ScriptLimits(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ScriptLimits(cycles="many")  # type: ignore[arg-type]
    for options in ({"runs": 0}, {"functions": {"f": 3}}, {"functions": {"f": (abs, -1)}}):
        with pytest.raises((ValueError, TypeError)):
            ScriptRunner(**options)  # type: ignore[arg-type]


def test_limits_of_a_run(runner: ScriptRunner) -> None:
    with pytest.raises(ValueError, match="cannot have more memory"):
        runner.run("x = 1", limits=ScriptLimits(memory=2**30))
    assert runner.run("x = 1", limits=ScriptLimits(cycles=10**6)).ok


# sessions


def test_walls(runner: ScriptRunner) -> None:
    with runner._pool.acquire() as session:
        assert session.walls is not None
        assert session.walls.tier in ("full", "bwrap", "weak")
        assert session.eval("__import__('sys').flags.hash_randomization") == 0


def test_no_walls_have_to_be_written_out() -> None:
    with ScriptRunner(isolation=None) as runner:
        honest(runner)
        with runner._pool.acquire() as session:
            assert session.walls is None


def test_a_session_that_is_killed() -> None:
    with ScriptRunner() as runner:
        started = threading.Event()

        def wait() -> int:
            started.set()
            return 1

        def kill() -> None:
            assert started.wait(20)
            session = next(iter(runner._used))
            assert session.pid is not None
            os.kill(session.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        source = "wait()\n" + "x = [n * n for n in range(1000)]\n" * 50 + "while True: pass"
        outcome = runner.run(source, functions={"wait": wait}, limits=ScriptLimits(cycles=10**9))
        thread.join()
        assert outcome.status is ScriptStatus.KILLED
        honest(runner)


def test_a_session_is_replaced_after_so_many_runs() -> None:
    with ScriptRunner(runs=3) as runner:
        pids = set()
        for _ in range(9):
            honest(runner)
            with runner._pool.acquire() as session:
                pids.add(session.pid)
        assert 3 <= len(pids) <= 4


def test_seconds_are_the_belt() -> None:
    with ScriptRunner(limits=ScriptLimits(cycles=10**12, seconds=0.3)) as runner:
        outcome = runner.run("while True: pass")
        assert (outcome.status, outcome.over) == (ScriptStatus.OVER_BUDGET, "seconds")
        honest(runner)


def test_a_script_that_swallows_the_interrupt() -> None:
    source = "while True:\n    try:\n        while True:\n            x = 1\n    finally:\n        continue\n"
    with ScriptRunner(limits=ScriptLimits(cycles=10**12, seconds=0.3)) as runner:
        outcome = runner.run(source)
        assert (outcome.status, outcome.over) == (ScriptStatus.OVER_BUDGET, "seconds")
        honest(runner)


def test_several_threads() -> None:
    with ScriptRunner(size=2) as runner:
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda n=n: found.append((n, runner.run("y = n * n", {"n": n}).globals["y"])))
            for n in range(20)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(found) == [(n, n * n) for n in range(20)]


def test_one_call() -> None:
    assert run_script(RULE, {"price": 7.5}).globals["cost"] == 12.345678
    with pytest.raises(ScriptRejected):
        run_script("import os")


def test_a_script_without_a_runner_is_checked() -> None:
    assert repr(Script("x = 1\ny = 2", name="two")) == "<Script 'two', 2 lines>"
    with pytest.raises(ScriptRejected):
        Script("del __builtins__")


def test_walls_that_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession import IsolationUnavailable
    from extsession._launch import walled

    monkeypatch.setattr(walled, "acceptable", lambda isolation: ())
    with pytest.raises(IsolationUnavailable):
        ScriptRunner(isolation=Isolation(tier="weak"))


def test_a_python_that_is_too_old(pythons: list[Any]) -> None:
    old = [each for each in pythons if each.version < (3, 10)]
    if not old:
        pytest.skip("there is no CPython before 3.10 here")
    with pytest.raises(InterpreterError, match=r"scripts need 3\.10"):
        ScriptRunner(python=old[0].path)


# async


@pytest.mark.trio
async def test_async_runner() -> None:
    import trio

    async def lookup(name: str) -> int:
        await trio.sleep(0)
        return len(name)

    told: list[OverBudget] = []

    async def tell(over: OverBudget) -> None:
        told.append(over)

    async with AsyncScriptRunner(functions={"lookup": lookup, "twice": lambda x: 2 * x}, on_over_budget=tell) as runner:
        outcome = await runner.run("x = lookup('four') + twice(3)")
        assert outcome.globals == {"x": 10}
        assert sum((await runner.explain("x = lookup('four') + twice(3)")).values()) == outcome.cycles
        with pytest.raises(ScriptRejected):
            await runner.check("import os")
        assert (await runner.run("while True: pass", name="on")).over == "cycles"
        assert [each.script for each in told] == ["on"]
        with trio.move_on_after(0.2) as scope:
            await runner.run("while True: pass", limits=ScriptLimits(cycles=10**12))
        assert scope.cancelled_caught
        assert (await runner.run(RULE, {"price": 20})).ok


@pytest.mark.trio
async def test_async_one_call() -> None:
    assert (await async_run_script(RULE, {"price": 7.5})).globals["cost"] == 12.345678


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize("way", ["timeout", "close"])
def test_a_function_that_still_runs_when_nobody_waits_for_it_is_cancelled(loop: str, way: str) -> None:
    import anyio

    ended: list[str] = []

    async def main() -> None:
        begun = anyio.Event()

        async def wait_for_ever() -> None:
            begun.set()
            try:
                await anyio.sleep_forever()
            except BaseException:
                ended.append("cancelled")
                raise

        with anyio.fail_after(60):
            limits = ScriptLimits(seconds=1.0) if way == "timeout" else ScriptLimits()
            async with AsyncScriptRunner(functions={"f": wait_for_ever}, limits=limits) as runner:
                async with anyio.create_task_group() as group:
                    group.start_soon(runner.run, "f()")
                    await begun.wait()
                    if way == "close":
                        group.cancel_scope.cancel()
            while not ended:
                await anyio.sleep(0.01)

    anyio.run(main, backend=loop)
    assert ended == ["cancelled"]


def test_on_asyncio() -> None:
    import asyncio

    async def main() -> Any:
        async with AsyncScriptRunner(functions={"later": later}) as runner:
            return (await runner.run("x = later(2)")).globals

    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    assert asyncio.run(main()) == {"x": 3}
