"""Exceptions as data: there, across, and back."""

from __future__ import annotations

import builtins
import copy
import pickle
import sys
import threading
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extsession._engine.completion import Usage
from extsession._protocol import records
from extsession._protocol.faults import BadValue
from extsession._protocol.records import ErrorInfo
from extsession._protocol.values import decode, encode

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
HERE = __name__
needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of 3.11")


def formatted(exc: BaseException) -> str:
    return "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))


def told(exc: BaseException, **options: Any) -> ErrorInfo:
    """What arrives on the other side."""
    info = ErrorInfo.from_exception(exc, formatted, **options)
    assert ErrorInfo.from_wire(decode(encode(info.to_wire()))) == info
    return info


def caught(source: str, filename: str = "<sent>") -> BaseException:
    try:
        exec(compile(source, filename, "exec"), {"__name__": "sent"})
    except BaseException as exc:
        return exc
    raise AssertionError("it did not raise")


def test_records_are_values() -> None:
    usage = Usage(1.5, 0.5, 1000)
    assert usage == Usage(1.5, 0.5, 1000) != Usage(1.5, 0.5, 1001)
    assert hash(usage) == hash(Usage(1.5, 0.5, 1000))
    assert repr(usage) == "Usage(wall=1.5, cpu=0.5, peak_memory=1000)"
    for same in (pickle.loads(pickle.dumps(usage)), copy.deepcopy(usage)):
        assert same == usage
    with pytest.raises(AttributeError):
        usage.wall = 2.0
    with pytest.raises(AttributeError):
        del usage.wall
    with pytest.raises(AttributeError):
        usage.other = 1  # type: ignore[attr-defined]
    info = told(caught("1 / 0"))
    assert pickle.loads(pickle.dumps(info)) == info
    assert "ZeroDivisionError" in repr(info)


def test_an_exception_is_told() -> None:
    exc = caught("def f():\n    raise ValueError('bad', 3)\n\nf()")
    info = told(exc, is_source="<sent>".__eq__)
    assert (info.type_name, info.message, info.args) == ("ValueError", "('bad', 3)", ("bad", 3))
    assert (info.lineno, info.filename) == (2, "<sent>")
    assert info.traceback == formatted(exc)
    assert info.cause is info.context is info.details is None
    assert info.notes == info.exceptions == ()


def test_only_frames_of_the_source_count() -> None:
    exc = caught("import json\n\njson.loads('{')")
    assert told(exc, is_source="<sent>".__eq__).lineno == 3
    assert "decoder" in str(told(exc).filename)
    assert told(exc, is_source=lambda filename: False).lineno is None
    error = caught("x = 1\ny = = 2")
    info = told(error, is_source="<sent>".__eq__)
    assert (info.lineno, info.filename) == (2, "<sent>")
    error.lineno = 1 << 70  # type: ignore[attr-defined]
    assert told(error, is_source="<sent>".__eq__).lineno is None


def test_chains() -> None:
    info = told(caught("try:\n  1 / 0\nexcept Exception as e:\n  raise KeyError('x') from e"))
    assert info.suppress_context
    assert info.cause is not None
    assert info.cause.type_name == "ZeroDivisionError"
    assert info.cause.traceback == ""
    assert info.context is None  # the same one
    info = told(caught("try:\n  1 / 0\nfinally:\n  {}['k']"))
    assert not info.suppress_context
    assert info.cause is None
    assert info.context is not None
    assert info.context.message == "division by zero"


def test_circles_and_long_chains_are_cut() -> None:
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__, b.__context__ = b, a, b
    info = told(a)
    assert info.cause is not None
    assert info.cause.cause is info.cause.context is None

    first = last = ValueError(0)
    for number in range(1000):
        last.__context__ = last.__cause__ = following = ValueError(number)
        last = following
    count, at = 0, told(first).cause
    while at is not None:
        count, at = count + 1, at.cause
    assert count == records.MAX_CHAIN


class Nasty(Exception):
    """Everything that is asked of it fails."""

    def __str__(self) -> str:
        raise SystemExit("never")

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)


class BadNote:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Disguised:
    __class__ = str  # type: ignore[assignment]


def test_exceptions_that_do_not_want_to_be_told() -> None:
    info = told(Nasty(1))
    assert info.type_name == HERE + ".Nasty"
    assert info.message == "<exception str() failed>"
    assert info.args == (1,)

    def fails(exc: BaseException) -> str:
        raise RuntimeError

    info = ErrorInfo.from_exception(ValueError("x"), fails)
    assert info.traceback == "ValueError: x\n"
    for notes, seen in (
        (["a", 1, BadNote()], ("a", "1", "<note str() failed>")),
        (5, ("5",)),
        (BadNote(), ("<note str() failed>",)),
        ([], ()),
    ):
        exc = ValueError("x")
        exc.__notes__ = notes  # type: ignore[attr-defined]
        assert told(exc).notes == seen
    exc = ValueError("x")
    exc.__notes__ = [Disguised()]  # type: ignore[attr-defined]
    exc.exceptions = (Disguised(), 5)  # type: ignore[attr-defined]
    assert len(told(exc).notes) == 1
    assert told(exc).exceptions == ()


class Text(str):
    pass


def test_texts_are_plain_and_bounded() -> None:
    exc = ValueError(Text("x"))
    exc.__notes__ = [Text("note")]  # type: ignore[attr-defined]
    info = told(exc)
    assert type(info.message) is type(info.notes[0]) is str
    assert info.args is None  # it has a subclass in it
    exc = ValueError("x" * (records.MAX_TEXT + 5))
    exc.__notes__ = ["y" * records.MAX_TEXT] * 50  # type: ignore[attr-defined]
    info = told(exc)
    assert info.message.endswith("x\n<5 characters cut>")
    assert len(encode(info.to_wire())) < records.MAX_TEXTS + 10000
    assert info.args is None


def test_args_travel_if_they_can() -> None:
    assert told(ValueError([1, {"a": None}])).args == ([1, {"a": None}],)
    assert told(ValueError(threading.Lock())).args is None
    assert told(ValueError("x" * records.MAX_ARGS)).args is None
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert told(ValueError(deep)).args is None


def test_the_deepest_tree_still_fits() -> None:
    deep: Any = 1
    for _ in range(records._ARGS_DEPTH - 1):
        deep = (deep,)
    exc: BaseException = ValueError(*deep)
    for _ in range(80):
        outer = ValueError(*deep)
        outer.exceptions = (exc,)  # type: ignore[attr-defined]
        exc = outer
    assert told(exc).exceptions


BUILTIN = [
    "1 / 0",
    "{}['k']",
    "[][1]",
    "undefined",
    "None.x",
    "int('x')",
    "x = 1\ny = = 2",
    "if 1:\nx",
    "if 1:\n\tx\n        y",
    "open('/no/such/file')",
    "import os; os.rename('/no/such/a', '/no/such/b')",
    "raise OSError('just text')",
    "raise OSError(5, 'text')",
    "raise BlockingIOError(11, 'text', 7)",
    "b'\\xff'.decode()",
    "'\\xe9'.encode('ascii')",
    "raise UnicodeTranslateError('abc', 1, 2, 'why')",
    "raise UnicodeError('plain')",
    "raise StopIteration(5)",
    "raise KeyboardInterrupt",
    "raise SystemExit(3)",
    "raise BaseException('b')",
    "import no_such_module",
    "from os import no_such_name",
    "assert 0, 'text'",
    "raise SyntaxError('only text')",
    "raise SyntaxError",
    "raise DeprecationWarning('w')",
]


@pytest.mark.parametrize("source", BUILTIN)
def test_a_builtin_exception_is_rebuilt(source: str) -> None:
    exc = caught(source)
    back = told(exc).to_exception()
    assert back is not None
    assert type(back) is type(exc)
    assert str(back) == str(exc)
    assert back.__cause__ is back.__context__ is None
    for name in ("errno", "filename", "filename2", "characters_written", "lineno", "text", "name", "code"):
        if not isinstance(exc, (AttributeError, NameError)):  # their name: of the object, that is not here
            assert getattr(back, name, None) == getattr(exc, name, None)
    if sys.version_info >= (3, 10) and isinstance(exc, SyntaxError):
        assert back.end_offset == exc.end_offset  # type: ignore[attr-defined]


def test_notes_come_back() -> None:
    exc = ValueError("x")
    exc.__notes__ = ["one", "two"]  # type: ignore[attr-defined]
    back = told(exc).to_exception()
    assert back.__notes__ == ["one", "two"]  # type: ignore[union-attr]


def test_without_its_args_an_exception_has_its_message() -> None:
    exc = ValueError(threading.Lock())
    back = told(exc).to_exception()
    assert type(back) is ValueError
    assert str(back) == str(exc)
    large = caught("(b'a' * 100000 + b'\\xff').decode()")
    back = told(large).to_exception()
    assert type(back) is UnicodeDecodeError
    assert back.object == b"\xff"
    assert "at 100000 of 100001" in str(back)


def test_what_is_not_builtin_is_not_rebuilt() -> None:
    assert told(Nasty(1)).to_exception() is None
    for name in (
        "len",
        "int",
        "IOError",
        "os.error",
        "__import__",
        "ValueError ",
        "",
        "<unknown>.ValueError",
    ):
        assert ErrorInfo(name, "x", args=("x",)).to_exception() is None
    fake = type("ValueError", (Exception,), {"__module__": None})
    assert told(fake("x")).to_exception() is None


def test_nothing_put_into_builtins_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Exception):
        def __init__(self, *args: object) -> None:
            raise AssertionError("it was called")

    monkeypatch.setattr(builtins, "Mine", Mine, raising=False)
    monkeypatch.setattr(builtins, "ValueError", Mine)
    assert ErrorInfo("Mine", "x").to_exception() is None
    assert ErrorInfo("ValueError", "x").to_exception() is None


@pytest.mark.parametrize(
    "info",
    [
        # str() of these two would read memory anywhere, on many a release
        ErrorInfo("UnicodeDecodeError", "", args=("x", b"", -(10**9), -(10**9) + 1, "r")),
        ErrorInfo("UnicodeEncodeError", "", args=("x", "", -1, 0, "r")),
        ErrorInfo("UnicodeDecodeError", "", args=("x", b"abc", 2, 1, "r")),
        ErrorInfo("UnicodeDecodeError", "", args=("x", "abc", 0, 1, "r")),
        ErrorInfo("UnicodeTranslateError", "", args=("x", "abc", 0, 1, "r")),
        ErrorInfo("UnicodeTranslateError", ""),
        ErrorInfo("SyntaxError", "", args=("msg", ("f", {}, [], 5))),
        ErrorInfo("SyntaxError", "", details={"msg": "m", "lineno": 1 << 40}),
        ErrorInfo("SyntaxError", "", details={"msg": 5}),
        ErrorInfo("SyntaxError", "", details={"msg": "m", "text": b""}),
        ErrorInfo("ExceptionGroup", "", details={"message": "m"}),
        ErrorInfo("ExceptionGroup", "", args=("m", ())),
    ],
)
def test_made_up_errors_are_not_rebuilt(info: ErrorInfo) -> None:
    assert info.to_exception() is None


def test_odd_arguments_do_no_harm() -> None:
    odd = [(), (1,), (None, None), ({}, [], 5), (1, 2, 3, 4, 5), tuple(range(9)), (1 << 100,) * 3]
    for cls in vars(builtins).values():
        if isinstance(cls, type) and issubclass(cls, BaseException):
            for args in odd:
                back = ErrorInfo(cls.__name__, "m", args=args).to_exception()
                assert back is None or (isinstance(back, cls) and formatted(back))


@needs_groups
def test_groups() -> None:
    source = "raise ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [OSError(2, 'x', 'f')])])"
    info = told(caught(source))
    assert [member.type_name for member in info.exceptions] == ["ValueError", "ExceptionGroup"]
    back = info.to_exception()
    assert repr(back) == repr(caught(source))
    base = told(caught("raise BaseExceptionGroup('g', [KeyboardInterrupt()])")).to_exception()
    assert type(base).__name__ == "BaseExceptionGroup"

    info = told(caught("class E(Exception): pass\nraise ExceptionGroup('g', [E('e'), ValueError('v')])"))
    assert info.to_exception() is None
    back = info.to_exception(lambda member: LookupError(member.type_name))
    assert [type(member) for member in back.exceptions] == [LookupError, ValueError]  # type: ignore[union-attr]

    def fails(member: ErrorInfo) -> BaseException:
        raise RuntimeError

    assert info.to_exception(fails) is None


@needs_groups
def test_a_group_of_too_many() -> None:
    info = told(caught("raise ExceptionGroup('g', [ValueError(i) for i in range(1000)])"))
    assert len(info.exceptions) == records.MAX_ERRORS - 1
    assert info.to_exception() is not None


# What a hostile session may send.

good = ErrorInfo(
    "ValueError", "m", 1, "f", "t", ("n",), ErrorInfo("A", "b"), ErrorInfo("C", "d"), True,
    (ErrorInfo("E", "f"),), (1,), {"a": 1},
)  # fmt: skip
wrong: dict[int, list[Any]] = {
    0: [None, 5, b""],
    1: [None, b""],
    2: ["1", True, 1.0, 1 << 70],
    3: [5],
    4: [None],
    5: [None, [], (5,), ("x",) * 101],
    6: [5, (), ("x",) * 12],
    7: ["x"],
    8: [None, 1],
    9: [None, [], (None,), (5,)],
    10: [[], "x"],
    11: [(), {5: 5}],
}


@pytest.mark.parametrize("field", wrong)
def test_every_field_is_checked(field: int) -> None:
    wire = good.to_wire()
    assert ErrorInfo.from_wire(wire) == good
    for value in wrong[field]:
        with pytest.raises(BadValue):
            ErrorInfo.from_wire(wire[:field] + (value,) + wire[field + 1 :])


def test_trees_too_large_are_refused() -> None:
    leaf = ErrorInfo("A", "b")
    with pytest.raises(BadValue):
        ErrorInfo.from_wire(ErrorInfo("A", "b", exceptions=(leaf,) * records.MAX_ERRORS).to_wire())
    deep = leaf
    for _ in range(records.MAX_CHAIN):
        deep = ErrorInfo("A", "b", cause=deep)
    assert ErrorInfo.from_wire(deep.to_wire()) == deep
    with pytest.raises(BadValue):
        ErrorInfo.from_wire(ErrorInfo("A", "b", context=deep).to_wire())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=13).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


@QUICK
@given(plain | st.tuples(*[plain] * 12))
def test_any_value_is_an_error_or_refused(wire: Any) -> None:
    for candidate in (wire, [wire]):
        try:
            info = ErrorInfo.from_wire(candidate)
        except BadValue:
            continue
        info.to_exception()


names = st.sampled_from([name for name, cls in vars(builtins).items() if isinstance(cls, type)])
details = st.dictionaries(
    st.sampled_from([*records._SYNTAX, "errno", "strerror", "filename2", "name", "path", "message"]),
    plain,
    max_size=6,
)


@settings(QUICK, max_examples=300)
@given(names, st.none() | st.lists(plain, max_size=6).map(tuple), st.none() | details)
def test_rebuilding_never_raises(name: str, args: Any, details: Any) -> None:
    back = ErrorInfo(name, "m", args=args, details=details).to_exception()
    assert back is None or type(back).__module__ == "builtins"
    if back is not None:
        str(back)
        repr(back)
