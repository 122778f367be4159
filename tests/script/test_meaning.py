"""Scripts mean what they mean in Python: the same globals as plain `exec` gives; and they cost the same each time."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extsession._worker.script import engine

NAMES = ["a", "b", "c", "d"]
_names = st.sampled_from(NAMES)


def _expressions() -> Any:
    atoms = st.one_of(
        _names,
        st.integers(-5, 40).map(str),
        st.sampled_from(["0.5", "1e3", "True", "None", "'ab'", "''", "'x y'", "[]", "()", "{}", "[3, 1, 2]", "(1, 2)"]),
        st.sampled_from(["{'k': 1, 2: 'v'}", "{1, 2}", "range(4)", "len('abc')", "10 ** 20", "-7 // 2", "7 % -3"]),
    )

    def grow(inner: Any) -> Any:
        pair = st.tuples(inner, inner)
        operators = st.sampled_from("+ - * / // % ** & | ^ << >>".split())
        comparisons = st.sampled_from("== != < <= > >= in".split()) | st.just("not in")
        return st.one_of(
            st.tuples(inner, operators, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            st.tuples(inner, comparisons, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            st.tuples(inner, comparisons, inner, comparisons, inner).map(lambda t: "(" + " ".join(t) + ")"),
            st.tuples(st.sampled_from(["-", "+", "~", "not "]), inner).map(lambda t: f"({t[0]}{t[1]})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
            pair.map(lambda t: f"{t[0]}[{t[1]}]"),
            st.tuples(inner, inner, inner).map(lambda t: f"{t[0]}[{t[1]}:{t[2]}]"),
            pair.map(lambda t: f"[{t[0]}, {t[1]}]"),
            pair.map(lambda t: f"({t[0]}, {t[1]})"),
            pair.map(lambda t: f"{{{t[0]}: {t[1]}}}"),
            pair.map(lambda t: f"[({t[0]}) for a in ({t[1]})]"),
            pair.map(lambda t: f"[a for a in ({t[0]}) if {t[1]}]"),
            pair.map(lambda t: f"{{b: {t[0]} for b in ({t[1]})}}"),
            pair.map(lambda t: f"[(a, b) for a in ({t[0]}) for b in ({t[1]})]"),
            pair.map(lambda t: f"(lambda a, b=2: {t[0]})({t[1]})"),
            inner.map(lambda t: f"f'<{{{t}!r}}>'" if "'" not in t and "{" not in t else f"str({t})"),
            st.tuples(st.sampled_from("str len sorted list bool int abs sum any all tuple max min repr".split()), inner).map(
                lambda t: f"{t[0]}({t[1]})"
            ),
            st.tuples(
                inner, st.sampled_from("upper() strip() split() title() copy() count(1) index(2) get(1,5) pop()".split())
            ).map(lambda t: f"({t[0]}).{t[1]}"),
            inner.map(lambda t: f"f({t})"),
        )

    return st.recursive(atoms, grow, max_leaves=6)


expressions = _expressions()


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def _blocks() -> Any:
    simple = st.one_of(
        st.tuples(_names, expressions).map(lambda t: [f"{t[0]} = {t[1]}"]),
        st.tuples(_names, st.sampled_from("+= -= *= //= %= |= &=".split()), expressions).map(lambda t: [" ".join(t)]),
        st.tuples(_names, expressions, expressions).map(lambda t: [f"{t[0]}[{t[1]}] = {t[2]}"]),
        st.tuples(_names, expressions, expressions).map(lambda t: [f"{t[0]}[{t[1]}] += {t[2]}"]),
        st.tuples(_names, _names, expressions).map(lambda t: [f"{t[0]}, {t[1]} = {t[2]}"]),
        st.tuples(_names, _names, expressions).map(lambda t: [f"{t[0]}, *{t[1]} = {t[2]}"]),
        st.tuples(_names, expressions).map(lambda t: [f"{t[0]}.append({t[1]})"]),
        _names.map(lambda t: [f"del {t}"]),
        expressions.map(lambda t: [f"assert {t}, 'no'"]),
        expressions.map(lambda t: [f"raise ValueError({t})"]),
        st.sampled_from([["break"], ["continue"]]),
    )

    def grow(inner: Any) -> Any:
        body = st.lists(inner, min_size=1, max_size=3).map(lambda parts: _indent([line for part in parts for line in part]))
        return st.one_of(
            st.tuples(expressions, body, body).map(lambda t: [f"if {t[0]}:", *t[1], "else:", *t[2]]),
            st.tuples(_names, expressions, body).map(lambda t: [f"for {t[0]} in {t[1]}:", *t[2]]),
            st.tuples(body, st.integers(1, 4)).map(lambda t: ["n = 0", f"while n < {t[1]}:", "    n += 1", *t[0]]),
            st.tuples(body, body, body).map(lambda t: ["try:", *t[0], "except (TypeError, ValueError) as e:", *t[1], "finally:", *t[2]]),
            st.tuples(body, body).map(lambda t: ["try:", *t[0], "except:", *t[1]]),
            st.tuples(body, expressions).map(lambda t: ["def f(a, b=1):", "    n = 0", *t[0], f"    return {t[1]}"]),
        )

    return st.recursive(simple, grow, max_leaves=6)


def _valid(source: str) -> bool:
    try:
        compile(source, "x", "exec")
    except SyntaxError:
        return False
    return True


programs = st.lists(_blocks(), min_size=1, max_size=6).map(
    lambda parts: "\n".join(["a = 3", "b = [1, 2]", "c = 'text'", "d = {'k': 1}", "def f(x): return x"] + [line for part in parts for line in part])
)


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return one == two or (math.isnan(one) and math.isnan(two)) or math.isclose(one, two, rel_tol=1e-12)
    if isinstance(two, range):
        two = list(two)
    if type(one) is not type(two):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(_same(one[key], two[key]) for key in one)
    return bool(one == two)


class Stop(BaseException):
    pass


def _plain(source: str) -> tuple[str | None, dict[str, Any], bool]:
    """(the error, the names, whether a method was missing on the way)."""
    scope: dict[str, Any] = {}
    count = 0
    missing = False

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count, missing
        missing = missing or (event == "exception" and argument[0] is AttributeError)
        count += 1
        if count > 3000:
            raise Stop
        return trace

    error = None
    old = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(compile(source, "x", "exec", dont_inherit=True), scope)
    except Exception as raised:
        error = type(raised).__name__
    finally:
        sys.settrace(old)
    return error, scope, missing


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > 40:
        return False
    if isinstance(value, dict):
        return all(_is_plain(each, depth + 1) for pair in value.items() for each in pair)
    if isinstance(value, (list, tuple, set)):
        return all(_is_plain(each, depth + 1) for each in value)
    return isinstance(value, (int, float, str, type(None), range))


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@settings(max_examples=150, derandomize=True, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
@given(programs.filter(_valid))
def test_generated_scripts(source: str) -> None:
    # Python's meaning differs on purpose where dicts and sets change while a loop goes through them, where text is
    # formatted by %, where a range is a key, and where lists are made text that contain themselves
    program = engine.prepare(source)
    if isinstance(program, engine.Rejected):
        assert [each["why"] for each in program.findings] == ["a comparison of three values cannot stand behind in"]
        return
    ends = [engine.run(program, {}, {}, {"cycles": 300_000}, None, None) for _ in range(2)]
    assert ends[0]["cycles"] == ends[1]["cycles"]
    assert ends[0]["status"] == ends[1]["status"]
    explained = engine.explain(program)
    assert explained["cycles"] == ends[0]["cycles"] == sum(explained["lines"].values())
    if ends[0]["status"] == "over_budget":
        return
    try:
        error, scope, missing = _plain(source)
    except Stop:
        return
    except MemoryError:
        return
    mine = ends[0]
    if missing:
        return  # Python looks for a method before it evaluates the arguments of its call, scripts afterwards
    if ".pop()" in source and "{1, 2}" in source:
        return  # sets keep their order: the last element is taken
    if ("%" in source or "range" in source) and error != (mine["error"] or {}).get("type"):
        return
    if error is not None or mine["error"] is not None:
        assert error is not None and mine["error"] is not None, (source, error, mine)
        assert mine["error"]["type"] == error, (source, error, mine)
        return
    for name, value in scope.items():
        if name.startswith("_") or callable(value) or isinstance(value, Exception) or not _is_plain(value):
            continue
        assert _same(mine["globals"][name], value), (source, name, value, mine["globals"])
