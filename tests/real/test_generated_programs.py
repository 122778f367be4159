"""A thousand small programs: what a session shows of them is what `python -c` shows.

Each program runs in a fresh session and in a fresh interpreter; stdout, stderr and exit status are compared.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extsession import ExtSession
from extsession._engine.completion import Outcome
from extsession._launch.interpreter import Interpreter, candidates

PYTHONS = candidates()
#: a thousand in all, on the newest and on the oldest
PROGRAMS = {PYTHONS[0]: 600, PYTHONS[-1]: 400} if len(PYTHONS) > 1 else {PYTHONS[0]: 1000}

NAMES = st.sampled_from("abcd")
TEXTS = st.text(st.sampled_from("xyz \t'\"\\é☃\0\r\n{}%"), max_size=8)
NUMBERS = st.integers(-3, 12)
ERRORS = st.sampled_from(["ValueError", "KeyError", "OSError", "ArithmeticError", "Custom", "StopIteration"])
STREAMS = st.sampled_from(["stdout", "stderr"])


def _block(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines] or ["    pass"]


def _flat(parts: list[list[str]]) -> list[str]:
    return [line for part in parts for line in part]


@st.composite
def _expression(draw: st.DrawFn) -> str:
    one, other, number, text = draw(NAMES), draw(NAMES), draw(NUMBERS), draw(TEXTS)
    return draw(
        st.sampled_from(
            [
                repr(number),
                repr(text),
                one,
                f"[{one}, {other}]",
                f"({one}, {number})",
                f"{{{text!r}: {one}}}",
                f"[{other} for {other} in range({number})]",
                f"sum(i * {number} for i in range(5) if i % 2)",
                f"{{i: str(i) for i in range({number})}}",
                f"{one} + {number}",
                f"{number} // {draw(NUMBERS)}",
                f"f'{{{one}!r:>10}}'",
                f"(lambda x: (x, {one}))({number})",
                f"len(repr({one})) if {number} > 3 else {other}",
                f"{one}[{number}]",
                "undefined",
                "Custom.__module__",
                "__name__",
            ]
        )
    )


@st.composite
def _simple(draw: st.DrawFn) -> list[str]:
    stream, text, value, name = draw(STREAMS), draw(TEXTS), draw(_expression()), draw(NAMES)
    return [
        draw(
            st.sampled_from(
                [
                    f"{name} = {value}",
                    f"print({value})",
                    f"print({name}, {value}, sep={text!r})",
                    f"print({text!r}, end='', file=sys.{stream})",
                    f"print({value}, file=sys.{stream}, flush=True)",
                    f"sys.{stream}.write({text!r})",
                    f"sys.{stream}.writelines([{text!r}, {text!r}])",
                    f"sys.{stream}.buffer.write({text.encode()!r}); sys.{stream}.flush()",
                    f"sys.{stream}.flush()",
                    f"assert bool({value}), {text!r}",
                    f"{name}, *rest = {value}",
                    f"del {name}",
                ]
            )
        )
    ]


@st.composite
def _raise(draw: st.DrawFn) -> list[str]:
    error, other, text = draw(ERRORS), draw(ERRORS), draw(TEXTS)
    return [
        draw(
            st.sampled_from(
                [
                    f"raise {error}({text!r})",
                    f"raise {error}",
                    f"raise {error}({text!r}) from {other}({draw(NUMBERS)})",
                    f"raise {error}({text!r}) from None",
                    "raise KeyboardInterrupt",
                    f"sys.exit({draw(NUMBERS)})",
                    f"sys.exit({text!r})",
                    "sys.exit()",
                    f"raise SystemExit({draw(_expression())})",
                ]
            )
        )
    ]


def _compound(inner: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    body = st.lists(inner, min_size=1, max_size=3).map(_flat)

    @st.composite
    def statement(draw: st.DrawFn) -> list[str]:
        name, number, one, other = draw(NAMES), draw(NUMBERS), draw(body), draw(body)
        kind = draw(st.integers(0, 6))
        if kind == 0:
            return [f"for {name} in range({number % 4}):", *_block(one), "else:", *_block(other)]
        if kind == 1:
            return [f"if {draw(_expression())}:", *_block(one), "else:", *_block(other)]
        if kind == 2:
            return ["try:", *_block(one), f"except {draw(ERRORS)} as error:", *_block(other)]
        if kind == 3:
            return ["try:", *_block(one), "finally:", *_block(other)]
        if kind == 4:
            return [f"def function({name}={number}):", *_block([*one, f"return {name}"]), "print(function())"]
        if kind == 5:
            inside = ["def inner():", *_block(one), "yield from inner() or ()", f"yield {number}"]
            return ["def outer():", *_block(inside), f"{name} = list(outer())"]
        return [f"class Thing:\n    {name} = {number}", "    def __del__(self):", "        pass", *one]

    return statement()


SIMPLE = st.one_of(_simple(), _simple(), _simple(), _raise())
STATEMENT = st.recursive(SIMPLE, _compound, max_leaves=6)


@st.composite
def programs(draw: st.DrawFn) -> str:
    body = _flat(draw(st.lists(STATEMENT, min_size=1, max_size=5)))
    start = ["import sys", "a, b, c, d = 1, 'b', [3], {'d': 4}", "class Custom(Exception): pass"]
    return "\n".join([*start, *body, ""])


def normal(stderr: str, python: Interpreter) -> str:
    """What is the same in both: our file names carry a number, and before 3.13 an interpreter does not know the
    text of its -c, so that no source lines stand below its frames. Tracebacks of ours come from the module
    traceback, those of old interpreters from C, which says `__main__.` (3.8, 3.9) and gives hints (3.10, 3.11)."""
    stderr = re.sub(r'"<session \d+>"', '"<string>"', stderr)
    if python.version >= (3, 13):
        return stderr
    lines = []
    own = False  # below a frame of the program itself
    for line in stderr.splitlines(True):
        if not line.startswith("    "):
            own = line.startswith('  File "<string>"')
        elif own:
            continue
        if python.version < (3, 10):
            line = re.sub(r"__main__\.(?=Custom\b)", "", line)  # also behind what was printed without a line end
        elif python.version < (3, 12):
            line = re.sub(r"\. Did you mean: '\w+'\?$", "", line)
        lines.append(line)
    return "".join(lines)


def _directly(python: Interpreter, program: str) -> tuple[str, str, int]:
    # -u: what the program prints and what it writes below the text layer stay in order, as in a session
    done = subprocess.run([python.path, "-u", "-c", program], stdin=subprocess.DEVNULL, capture_output=True)
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def _in_session(python: Interpreter, program: str) -> tuple[str, str, int]:
    with ExtSession(python.path) as session:
        results = session.execute(program).wait(60)
        if results.outcome is Outcome.EXITED:
            assert session.exit() == results.exit_code
            status = results.exit_code
        else:
            assert session.eval("1 + 1") == 2  # it lives on
            status = {Outcome.FINISHED: 0, Outcome.FAILED: 1, Outcome.INTERRUPTED: -2}[results.outcome]
        return results.stdout_bytes.decode(), results.stderr_bytes.decode(), status


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(int).result()
        yield executor


@pytest.mark.timeout(300)
@pytest.mark.parametrize("python", PROGRAMS, ids=lambda python: ".".join(map(str, python.version)))
def test_same_as_python_c(python: Interpreter, executor: ThreadPoolExecutor) -> None:
    @settings(
        max_examples=PROGRAMS[python],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(programs())
    def check(program: str) -> None:
        reference = executor.submit(_directly, python, program)
        out, err, status = _in_session(python, program)
        wanted_out, wanted_err, wanted_status = reference.result()
        assert out == wanted_out
        assert normal(err, python) == normal(wanted_err, python)
        assert status == wanted_status

    check()
