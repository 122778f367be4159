"""The budget is exact; host functions, values in and out, the cost of each line."""

from __future__ import annotations

from typing import Any

import pytest

from extsession._worker.script import costs, engine
from extsession._worker.script.errors import BadValue, HostFailed, ScriptError

SCRIPTS = [
    "x = 1",
    "for i in range(100):\n    x = i * 2\n",
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nx = f(12)\n",
    "xs = [i * i for i in range(50) if i % 3]\ns = sorted(xs, key=lambda v: -v)\n",
    "t = 'abc' * 1000\nu = t.replace('b', 'xyz').upper()\nn = len(u.split('X'))\n",
    "try:\n    1 / 0\nexcept ZeroDivisionError:\n    x = [0] * 1000\nfinally:\n    y = x + x\n",
    "d = {}\nfor i in range(200):\n    d[(i, i)] = d.get((i - 1, i - 1), 0) + 1\n",
    "n = 0\nwhile True:\n    n += 1\n    if n > 30:\n        break\n    for i in range(3):\n        if i == 1:\n            continue\n        n += 1\n",
]


@pytest.mark.parametrize("source", SCRIPTS)
def test_exactly(script: Any, source: str) -> None:
    needed = script(source).cycles
    assert script(source, cycles=needed).status == "finished"
    for less in (1, 2, needed // 2, needed - 1):
        ran = script(source, cycles=max(0, needed - less))
        assert (ran.status, ran.over) == ("over_budget", "cycles")
        assert ran.cycles > max(0, needed - less)
        assert ran.error["line"] >= 1


def test_it_stops_at_the_same_line_every_time(script: Any) -> None:
    source = "a = 0\nwhile True:\n    a += 1\n    for i in range(10):\n        a += i\n"
    ends = {(ran.error["line"], ran.cycles) for ran in [script(source, cycles=1000) for _ in range(5)]}
    assert len(ends) == 1


@pytest.mark.parametrize("source", ["def f(a):\n    n = 0\n    a = f(-a)\n    return a\na = f(1)", "while True:\n    x = 1"])
def test_lines_add_up_also_where_a_limit_ends_it(source: str) -> None:
    """The depth of calls, and the cycles."""
    program = engine.prepare(source)
    assert not isinstance(program, engine.Rejected)
    engine.run(program, {}, {}, {"cycles": 300_000}, None, None)
    record = engine.explain(program)
    assert record["status"] == "over_budget"
    assert sum(record["lines"].values()) == record["cycles"]


@pytest.mark.parametrize("source", SCRIPTS)
def test_lines_add_up_and_change_nothing(script: Any, source: str) -> None:
    program = engine.prepare(source)
    ran = script.program(program)
    record = engine.explain(program)
    assert record["cycles"] == ran.cycles
    assert sum(record["lines"].values()) == ran.cycles
    assert record["globals"] == ran.globals
    assert set(record["lines"]) <= set(range(1, source.count("\n") + 2))
    assert script.program(program, lines=True).record["lines"] == record["lines"]


def test_lines_say_where_the_cycles_went(script: Any) -> None:
    program = engine.prepare("x = 1\ny = [0] * 80000\nz = 2\n")
    script.program(program)
    lines = engine.explain(program)["lines"]
    assert lines[2] > 10000 > lines[1] + lines[3]


def test_lines_of_a_run_over_budget(script: Any) -> None:
    program = engine.prepare("x = 1\nwhile True:\n    x += 1\n")
    ran = script.program(program, cycles=1000)
    record = engine.explain(program)
    assert (record["over"], record["cycles"], record["error"]) == ("cycles", ran.cycles, ran.record["error"])
    assert sum(record["lines"].values()) == ran.cycles


def test_depth(script: Any) -> None:
    program = engine.prepare("def f(n):\n    return n if n == 0 else f(n - 1)\nf(depth)\n")
    assert script.program(program, values={"depth": costs.MAX_CALLS - 1}).status == "finished"
    ran = script.program(program, values={"depth": costs.MAX_CALLS})
    assert (ran.status, ran.over, ran.error["line"]) == ("over_budget", "depth", 1)
    assert script.program(program, values={"depth": 9}, depth=10).status == "finished"
    assert script.program(program, values={"depth": 10}, depth=10).over == "depth"


def test_output(script: Any) -> None:
    program = engine.prepare("for i in range(10):\n    print('äbc')\n")
    ran = script.program(program, output=50)
    assert (ran.status, ran.written) == ("finished", "äbc\n" * 10)
    ran = script.program(program, output=49)
    assert (ran.status, ran.over, ran.written, ran.error["line"]) == ("over_budget", "output", "äbc\n" * 9, 2)


def test_the_limit_of_what_is_handed_over(script: Any) -> None:
    program = engine.prepare("x = [0] * 50\n")
    assert script.program(program, nodes_out=51).status == "finished"
    ran = script.program(program, nodes_out=50)
    assert (ran.status, ran.over, ran.globals) == ("over_budget", "output", {})
    assert "x" in ran.error["message"]


# ---- functions of the host


def test_a_function_of_the_host(script: Any) -> None:
    asked = []

    def ask(name: str, args: Any, kwargs: Any) -> Any:
        asked.append((name, args, kwargs))
        return {"price": args[0] * 2, "tags": {"b", "a"}}

    program = engine.prepare("found = lookup(xs, mode='fast')\nxs.append(1)\ntags = list(found['tags'])\n")
    ran = script.program(program, values={"xs": [1, 2]}, functions={"lookup": 100}, ask=ask)
    assert asked == [("lookup", [[1, 2]], {"mode": "fast"})]
    assert ran.globals["found"] == {"price": [1, 2, 1, 2], "tags": {"a", "b"}}
    assert ran.globals["tags"] == ["a", "b"]
    dear = script.program(program, values={"xs": [1, 2]}, functions={"lookup": 1100}, ask=ask)
    assert dear.cycles == ran.cycles + 1000


def test_what_it_gets_and_gives_is_a_copy(script: Any) -> None:
    kept: list[Any] = []

    def ask(name: str, args: Any, kwargs: Any) -> Any:
        args[0].append("host")
        kept.append([1])
        return kept[-1]

    program = engine.prepare("xs = [0]\nys = f(xs)\nys.append(2)\n")
    ran = script.program(program, functions={"f": 1}, ask=ask)
    assert ran.globals == {"xs": [0], "ys": [1, 2]}
    assert kept == [[1]]


@pytest.mark.parametrize("error, message", [(ScriptError("no such item"), "no such item"), (HostFailed("secret"), "the function f() failed")])
def test_its_errors(script: Any, error: Exception, message: str) -> None:
    def ask(name: str, args: Any, kwargs: Any) -> Any:
        raise error

    ran = script.program(engine.prepare("x = 1\nf()\n"), functions={"f": 1}, ask=ask)
    assert (ran.status, ran.error["type"], ran.error["message"], ran.error["line"]) == ("failed", "ScriptError", message, 2)
    program = engine.prepare("try:\n    f()\nexcept ScriptError as e:\n    m = str(e)\n")
    ran = script.program(program, functions={"f": 1}, ask=ask)
    assert ran.globals["m"] == message
    assert engine.explain(program)["globals"]["m"] == message


def test_a_broken_host_ends_the_run(script: Any) -> None:
    def ask(name: str, args: Any, kwargs: Any) -> Any:
        raise ConnectionError("gone")

    source = "try:\n    f()\nexcept:\n    x = 1\nfinally:\n    y = 1\n"
    with pytest.raises(ConnectionError):
        script.program(engine.prepare(source), functions={"f": 1}, ask=ask)
    script.honest()


def test_what_is_handed_to_it_is_bounded(script: Any) -> None:
    program = engine.prepare("x = []\nx.append(x)\ntry:\n    f(x)\nexcept:\n    pass\n")
    assert script.program(program, functions={"f": 1}, ask=lambda *a: None).over == "depth"
    program = engine.prepare("try:\n    f(print)\nexcept TypeError as e:\n    m = str(e)\n")
    assert "plain" in script.program(program, functions={"f": 1}, ask=lambda *a: None).globals["m"]
    program = engine.prepare("f()\n")
    assert script.program(program, functions={"f": 1}, ask=lambda *a: object()).error["type"] == "ScriptError"


def test_a_run_inside_a_run_is_refused(script: Any) -> None:
    inner = engine.prepare("x = 1")

    def ask(name: str, args: Any, kwargs: Any) -> Any:
        return engine.run(inner, {}, {}, {"cycles": 10}, None, None)

    with pytest.raises(RuntimeError, match="running already"):
        script.program(engine.prepare("f()"), functions={"f": 1}, ask=ask)
    script.honest()


# ---- values in


@pytest.mark.parametrize("value", [None, True, 5, 2.5, "ä", [1, [2]], (1, 2), {"a": {1: 2}}, {1, 2}, -(10**3000)])
def test_plain_data_comes_back(script: Any, value: Any) -> None:
    ran = script("y = x", x=value)
    assert ran.globals["y"] == value and type(ran.globals["y"]) is type(value)


def test_values_in_are_copies(script: Any) -> None:
    xs = [1, {"a": [2]}]
    script("x[1]['a'].append(3)\nx.append(4)", x=xs)
    assert xs == [1, {"a": [2]}]


def _endless() -> Any:
    xs: list[Any] = []
    xs.append(xs)
    return xs


OTHERS = [b"a", object(), 1j, len, _endless(), 10**5000, "a" * 1_000_001, "\ud800", [[object()]], {b"a": 1}]


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_other_values_are_refused(script: Any, value: Any) -> None:
    with pytest.raises(BadValue):
        script("y = 1", x=value)
    script.honest()


@pytest.mark.parametrize("name", ["_x", "__builtins__", "_b", "a b", "", "ValueError", "1"])
def test_other_names_are_refused(script: Any, name: str) -> None:
    with pytest.raises(BadValue):
        script("y = 1", **{name: 1})
    with pytest.raises(BadValue):
        script.program(engine.prepare("y = 1"), functions={name: 1})


def test_sets_from_the_host_have_an_order(script: Any) -> None:
    assert script("y = list(x)", x={"c", "a", "b"}).globals["y"] == ["a", "b", "c"]
    ran = script("y = list(x)", x={None, 2, "a", (1, "b"), 1.5, True})
    assert ran.globals["y"] == [None, True, 1.5, 2, "a", (1, "b")]


# ---- findings


def test_findings_are_for_authors() -> None:
    found = engine.prepare("import os\nclass A: pass\nx = a.b\nwith x: pass\n", "mine")
    assert isinstance(found, engine.Rejected)
    assert [(each["line"], each["construct"]) for each in found.findings] == [(1, "import"), (2, "class"), (3, ".b"), (4, "with")]
    assert all(each["why"] and each["hint"] for each in found.findings)
    assert found.name == "mine"


def test_place_of_an_error(script: Any) -> None:
    ran = script("x = 1\ndef f():\n    return [1][5]\ny = 2 + f()\n")
    assert (ran.error["type"], ran.error["line"]) == ("IndexError", 3)
    assert ran.error["column"] in (12, None)  # not known before 3.11


def test_few_programs_are_kept(script: Any) -> None:
    old = engine.prepare("x = 0", "old")
    script.program(old)
    for number in range(engine.KEPT + 1):
        script.program(engine.prepare(f"x = {number}", "many"))
    assert engine.prepare("x = 0", "old") is not old
    assert len(engine._known) <= engine.KEPT
    with pytest.raises(BadValue):
        engine.explain(old)
    for number in range(20):
        engine.prepare(f"x = {number}\n" + "#" * 60000, "long")
    assert sum(len(source) for source, _ in engine._known) <= engine.KEPT_TEXT


def test_programs_are_kept() -> None:
    assert engine.prepare("x = 1", "a") is engine.prepare("x = 1", "a")
    assert engine.prepare("x = 1", "a") is not engine.prepare("x = 1", "b")
    assert engine.prepare("x = ", "a") is engine.prepare("x = ", "a")
