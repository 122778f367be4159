"""Doctests of the standard library, typed into sessions example by example, as a front end would.

What is expected stands in the docstrings, written by others: output and repr of what is executed, names that stay from one
call to the next, the last line of a traceback.
"""

from __future__ import annotations

import doctest
from typing import NamedTuple

import pytest

from extsession import ExtSession
from extsession._launch.interpreter import Interpreter, candidates

MODULES = [
    "collections",
    "difflib",
    "fractions",
    "itertools",
    "random",
    "statistics",
    "test.test_extcall",
    "test.test_generators",
    "test.test_metaclass",
    "test.test_unpack",
]

#: Examples, by test and first line, whose answer is another: execute() shows the value of the last statement alone,
#: while a prompt (compile mode "single") shows every expression that stands inside a `with`, `for` or `try` as well.
INSIDE = {
    ("test.test_extcall", "try:"),
    ("test.test_generators.__test__.coroutine", "with support.catch_unraisable_exception() as cm:"),
    ("test.test_generators.__test__.refleaks", "with support.catch_unraisable_exception() as cm:"),
}

# What an interpreter's own `doctest` finds in a module: [(test name, [(source, want, exc_msg, options)])].
# The recipes of itertools are examples in its documentation, of which test_itertools had a copy until 3.11.
FIND = """
import doctest, importlib

def find(name):
    if name == "itertools":
        try:
            from test.test_itertools import libreftest
        except ImportError:
            return []
        tests = [doctest.DocTestParser().get_doctest(libreftest, {}, "recipes", None, 0)]
    else:
        tests = doctest.DocTestFinder().find(importlib.import_module(name))
    flags = doctest.OPTIONFLAGS_BY_NAME.items()
    return [(test.name, [
        (each.source, each.want, each.exc_msg, {name: each.options[flag] for name, flag in flags if flag in each.options})
        for each in test.examples]) for test in tests if test.examples]
"""
# Each docstring's examples see the names of its module.
NAMES = """
import {0} as module
globals().update({{name: value for name, value in vars(module).items() if not name.startswith("__")}}, __name__="{0}")
del module
"""


class Example(NamedTuple):
    source: str
    want: str
    exc_msg: str | None
    options: dict[str, bool]

    @property
    def flags(self) -> int:
        return sum(doctest.OPTIONFLAGS_BY_NAME[name] for name, is_set in self.options.items() if is_set)


def _chosen() -> list[Interpreter]:
    found = candidates()
    return [found[0], found[-1]] if len(found) > 1 else found


def _version(python: Interpreter) -> str:
    return ".".join(map(str, python.version))


def _find(python: Interpreter, module: str) -> list[tuple[str, list[Example]]]:
    with ExtSession(python.path) as session:
        session.execute(FIND).wait().raise_for_error()
        found = session.eval(f"find({module!r})")
    return [(name, [Example(*each) for each in examples]) for name, examples in found]


def _wrong(session: ExtSession, example: Example) -> str | None:
    """Type an example in; what is wrong with the answer, or None."""
    check = doctest.OutputChecker().check_output
    results = session.execute(example.source).wait(60)
    if results.error is not None:
        want = example.exc_msg or "no exception\n"
        got = "".join(results.stderr.splitlines(True)[-want.count("\n") :])
        if example.flags & doctest.IGNORE_EXCEPTION_DETAIL:
            want, got = (text.partition(":")[0].rpartition(".")[2].strip() + "\n" for text in (want, got))
    elif example.exc_msg is not None:
        want, got = example.exc_msg, "no exception\n"
    else:
        want = example.want
        got = results.stdout + ("" if results.repr is None else results.repr + "\n")
        if got and not got.endswith("\n"):
            got += "\n"  # as doctest does
    if check(want, got, example.flags):
        return None
    return f"{example.source}  wanted: {want!r}\n  got: {got!r}\n  stderr: {results.stderr!r}"


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("python", _chosen(), ids=_version)
def test_of_the_standard_library(python: Interpreter, module: str) -> None:
    tests = _find(python, module)
    if not tests:
        pytest.skip(f"Python {_version(python)} has no doctests for {module} installed")
    wrong = []
    for name, examples in tests:
        with ExtSession(python.path) as session:
            session.execute(NAMES.format(module)).wait().raise_for_error()
            for example in examples:
                if example.options.get("SKIP") or (name, example.source.partition("\n")[0]) in INSIDE:
                    continue
                fault = _wrong(session, example)
                if fault is not None:
                    wrong.append(f"{name}: {fault}")
    assert not wrong, f"{len(wrong)} examples:\n" + "\n".join(wrong)
