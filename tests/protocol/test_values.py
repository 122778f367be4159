"""The safe codec: round trips, hostile bytes, refusals."""

from __future__ import annotations

import datetime
import decimal
import fractions
import marshal
import math
import operator
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import time
import uuid
from collections import Counter, OrderedDict, namedtuple
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from extsession._launch.interpreter import Interpreter
from extsession._protocol import late_types, values
from extsession._protocol.faults import BadValue, CannotTravel
from extsession._protocol.pickles import PICKLE, pack, unpack
from extsession._protocol.values import MAX_DEPTH, decode, encode, type_name

PACKAGE = pathlib.Path(values.__file__).parent.parent
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.text(st.characters(), max_size=20)  # lone surrogates too
timezones = st.one_of(
    st.just(datetime.timezone.utc),
    st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
        texts,
    ),
)
any_zone = st.none() | timezones
keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**1000), 2**1000),  # a larger one is refused among keys of equal hash
    st.floats(),
    st.complex_numbers(),
    texts,
    st.binary(max_size=20),
    st.just(...),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    st.dates(),
    st.times(timezones=any_zone),
    st.datetimes(timezones=any_zone),
    st.timedeltas(),
    timezones,
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.builds(pathlib.PurePosixPath, texts),
    st.builds(pathlib.PosixPath, texts),
    st.builds(pathlib.PureWindowsPath, texts),
)
hashables = st.recursive(
    keys,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3).map(frozenset),
    max_leaves=5,
)
trees = st.recursive(
    keys | st.integers(-(2**2000), 2**2000) | st.binary(max_size=20).map(bytearray) | st.decimals(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(slice, inner, inner, inner),
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type, order and bits, all the way down. Sets by the encodings of their items."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return struct.pack("d", a) == struct.pack("d", b)
    if type(a) is complex:
        return same(a.real, b.real) and same(a.imag, b.imag)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return same(list(a.items()), list(b.items()))
    if type(a) in (set, frozenset):
        return sorted(map(canonical, a)) == sorted(map(canonical, b))
    if type(a) is slice:
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    if type(a) is range:
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    if type(a) in (datetime.time, datetime.datetime):
        return repr(a) == repr(b) and a.fold == b.fold
    if type(a) is datetime.timezone:
        return repr(a) == repr(b)
    if type(a) is decimal.Decimal:
        return bool(a.as_tuple() == b.as_tuple())
    return bool(a == b)


def canonical(value: Any) -> bytes:
    """The encoding, with the items of sets in the order of their encodings."""
    if type(value) in (set, frozenset):
        return b"set" + b"".join(sorted(map(canonical, value)))
    if type(value) is tuple:
        return b"tuple" + b"".join(map(canonical, value))
    return encode(value)


@settings(QUICK, max_examples=300)
@given(trees)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    data = encode(value)
    assert type(data) is bytes
    assert same(decode(data), value)
    assert same(decode(memoryview(bytearray(b"..." + data))[3:]), value)


@QUICK
@given(st.integers(0, 2**64 - 1))
@example(0x7FF0000000000001)  # a signalling NaN
@example(0xFFF8000000000123)
def test_every_bit_of_a_float_is_kept(bits: int) -> None:
    (value,) = struct.unpack("<d", bits.to_bytes(8, "little"))
    assert encode(value) == b"g" + bits.to_bytes(8, "little")
    assert struct.pack("<d", decode(encode(value))) == bits.to_bytes(8, "little")


@pytest.mark.parametrize(
    "value",
    [
        1 << 100000,
        -(1 << 1015),
        "x" * 200,
        b"y" * 70000,
        "\ud800 \U0001f600",
        decimal.Decimal("sNaN123"),
        decimal.Decimal("-Infinity"),
        decimal.Decimal("-0E-20"),
        datetime.datetime(2024, 10, 27, 2, 30, fold=1),
        datetime.timezone(datetime.timedelta(hours=1), "Ours"),
        {"b": 1, "a": 2},
        {(): frozenset()},
        [[], {}, set(), (), frozenset(), "", b"", bytearray()],
        [None] * 300,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_at_the_edges(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_decimals_do_not_depend_on_the_context() -> None:
    value = decimal.Decimal("1.5E+40")
    with decimal.localcontext() as context:
        context.prec, context.capitals = 2, 0
        data = encode(value)
        assert same(decode(data), value)
    assert data == encode(value)


# Hostile bytes.

SAMPLES = [
    encode(value)
    for value in (
        [1, -300, 1 << 70, 1.5, 2j, "ab\u00e9", b"cd", bytearray(b"e"), None, True, False, ...],
        {"a": (1, 2), b"b": {3, 4}, (5, frozenset({6})): [slice(1, None, 2), range(3, 9, 2)]},
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone(datetime.timedelta(1, -5), "X"), fold=1),
        [datetime.date(2000, 1, 1), datetime.time(1), datetime.timedelta(-1, 5)],
        [decimal.Decimal("-1.50"), decimal.Decimal("NaN12"), fractions.Fraction(-3, 4)],
        [uuid.UUID(int=5), pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:/d")],
        ["x" * 130, [0] * 130],
    )
]


def survives(data: bytes) -> None:
    try:
        decode(data)
    except BadValue:
        pass


@pytest.mark.parametrize("data", SAMPLES, ids=range(len(SAMPLES)))
def test_any_cut_is_refused_and_any_changed_byte_harmless(data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(BadValue):
            decode(data[:cut])
    with pytest.raises(BadValue):
        decode(data + b"N")
    tags = list(values._CLOSE) + list(values._TAKE) + list(values._CONSTANTS)
    for place in range(len(data)):
        for byte in {data[place] ^ (1 << bit) for bit in range(8)} | {0, 255, *tags}:
            survives(data[:place] + bytes([byte]) + data[place + 1 :])


TAGS = bytes(list(values._CLOSE) + list(values._TAKE) + list(values._CONSTANTS)) + b"gc\x00\x01\x02\x03"


@settings(QUICK, max_examples=300)
@given(st.binary(max_size=60) | st.lists(st.sampled_from(TAGS), max_size=40).map(bytes))
def test_random_bytes(data: bytes) -> None:
    survives(data)


LATE = {name: entry[0] for name, entry in late_types.LATE.items()}


def late(name: str, *parts: Any) -> bytes:
    return LATE[name] + bytes([len(parts)]) + b"".join(map(encode, parts))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"?\x00",
        b"i",
        b"g1234567",
        b"s\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"[\xff\xff\xff\xff\xff\xff\xff\x7fN",
        b"s" + b"\xff" * 20 + b"\x01",
        b"s\x02\xff\xfe",
        b"{\x01[\x00N",  # a list as a key
        b"#\x01#\x00",
        b"#\x02NN",  # twice
        b"{\x02NNTF",
        b"r\x03" + encode(0) + encode(1) + encode(0),
        b"r\x03" + encode(0) + encode(1) + b"T",
        b"r\x03" + encode(1 << 40000) + encode(0) + encode(1 << 20000),
        b":\x02NN",
        late("date", 2023, 2, 29),
        late("date", pickle.dumps(1)),
        late("date", 1 << 80, 1, 1),
        late("datetime", b"\x07\xe7\x01\x01\x00\x00\x00\x00\x00\x00", None),
        late("time", 1, 2, 3, 4, 2, None),
        late("time", 1, 2, 3, 4, 0, "UTC"),
        late("time"),
        late("timedelta", 10**10, 0, 0),
        late("timezone", datetime.timedelta(2)),
        late("timezone", None),
        late("UUID", b"short"),
        late("Fraction", 2, 4),
        late("Fraction", 1, 0),
        late("Fraction", 1 << 40000, 1),
        late("Decimal", " 1"),
        late("Decimal", "1_0E0"),
        late("Decimal", "1E99999999"),
        late("Decimal", "1" * 70000 + "E0"),
        late("PurePosixPath", b"a"),
        late("PurePosixPath", "a", "b"),
        b"#\x01" + late("Decimal", "sNaN"),
    ],
)
def test_what_is_no_value(data: bytes) -> None:
    with pytest.raises(BadValue):
        decode(data)


def test_a_limit_on_the_size() -> None:
    assert decode(encode("abc"), limit=5) == "abc"
    with pytest.raises(BadValue):
        decode(encode("abcd"), limit=5)


def test_keys_of_equal_hash_cannot_stall_the_reader() -> None:
    prime = sys.hash_info.modulus
    flood = [n * prime for n in range(50000)]
    items = b"".join(map(encode, flood))
    started = time.monotonic()
    for data in (b"#" + values._size(len(flood)) + items, b"{" + values._size(len(flood)) + items * 2):
        with pytest.raises(BadValue):
            decode(data)
    huge = 10 + (((1 << 4000000) // prime) * prime)  # the hash of Decimal(10)
    assert hash(huge) == hash(decimal.Decimal(10))
    with pytest.raises(BadValue):
        decode(b"#\x02" + encode(huge) + encode(decimal.Decimal(10)))
    assert time.monotonic() - started < 5
    # The writer refuses what the reader would; a few clashes are nobody's fault.
    with pytest.raises(CannotTravel):
        encode(set(flood[:100]))
    assert decode(encode(set(flood[:50]))) == set(flood[:50])
    assert decode(encode({-1: 1, -2: 2})) == {-1: 1, -2: 2}


# Refusals.


class Odd:
    pass


class IntSub(int):
    pass


class Meta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("never asked")


class Liar(metaclass=Meta):
    pass


class BadHash:
    def __hash__(self) -> int:
        return 1 // armed


armed = 1
Point = namedtuple("Point", "x y")
HERE = __name__


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Odd(), HERE + ".Odd"),
        (IntSub(3), HERE + ".IntSub"),
        ([1, {"a": Odd()}], HERE + ".Odd"),
        ({Odd(): 1}, HERE + ".Odd"),
        (Point(1, 2), HERE + ".Point"),
        (OrderedDict(), "collections.OrderedDict"),
        (Counter(), "collections.Counter"),
        (operator.itemgetter(1), "operator.itemgetter"),
        (len, "builtin_function_or_method"),
        (int, "type"),
        (object(), "object"),
        (datetime.datetime(2020, 1, 1, tzinfo=type("Zone", (datetime.tzinfo,), {})()), HERE + ".Zone"),
        (fractions.Fraction(1 << 40000), "fractions.Fraction"),
        (decimal.Decimal("1E99999999"), "decimal.Decimal"),
        (range(1 << 40000), "range"),
    ],
)
def test_a_refusal_names_the_type(value: Any, name: str) -> None:
    with pytest.raises(CannotTravel) as caught:
        encode(value)
    assert caught.value.type_name == name


def test_a_key_with_a_hash_that_raises() -> None:
    global armed
    value = {BadHash(): 1}
    armed = 0
    try:
        with pytest.raises(CannotTravel):
            encode(value)
    finally:
        armed = 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="slices are hashable from 3.12 on")
def test_a_slice_as_a_key_is_for_new_pythons_only() -> None:
    for value in ({slice(1): 1}, {(1, slice(1)): 1}, {frozenset({slice(1)})}):
        with pytest.raises(CannotTravel) as caught:
            encode(value)
        assert caught.value.type_name == "slice"
    assert encode({1: slice(1), 2: (slice(2),)})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth() -> None:
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(CannotTravel):
        encode(nested(MAX_DEPTH + 1))
    with pytest.raises(CannotTravel):
        encode(nested(4), depth=3)
    with pytest.raises(BadValue):
        decode(b"[\x01" * (MAX_DEPTH + 1) + b"N")
    with pytest.raises(BadValue):
        decode(b"[\x01" * 1000000 + b"N")
    with pytest.raises(BadValue):
        decode(b"[\x01" * MAX_DEPTH + b"[\x00")
    deep: Any = {}
    for _ in range(MAX_DEPTH - 1):
        deep = {0: deep}
    assert decode(encode(deep)) == deep
    with pytest.raises(CannotTravel):
        encode({0: deep})


def test_circles_and_shared_parts_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    ring: dict[str, Any] = {}
    ring["self"] = [ring]
    for value in (circle, ring):
        with pytest.raises(CannotTravel):
            encode(value)


def test_parts_shared_many_times_over_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_ITEMS", 10000)
    shared: Any = []
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(CannotTravel, match="items"):
        encode(shared)
    monkeypatch.setattr(values, "LIMIT", 10000)
    text = "x" * 1000
    for value in ([text] * 20, "x" * 10001):
        with pytest.raises(CannotTravel, match="10000 bytes"):
            encode(value)


def test_names_of_odd_classes() -> None:
    assert type_name(int) == "int"
    assert type_name(decimal.Decimal) == "decimal.Decimal"
    assert type_name(Liar) == HERE + ".Liar"
    assert type_name(type("ValueError", (), {"__module__": 5})) == "<unknown>.ValueError"
    assert type_name(type("ValueError", (), {"__module__": ""})) == "<unknown>.ValueError"

    class Text(str):
        pass

    odd = type("X", (), {"__module__": Text("m"), "__qualname__": Text("q")})
    assert type_name(odd) == "m.q"
    assert type(type_name(odd)) is str


# Packing, of the same values. More of it is in test_pickles.py.


@QUICK
@given(trees, st.booleans())
def test_packed_values_come_back(value: Any, safe_only: bool) -> None:
    kind, head, buffers = pack(value, safe_only)
    assert not (safe_only and kind == PICKLE)
    back = unpack(kind, head, buffers, not safe_only)
    assert same(back, value)


# Other interpreters. The folder above is on the path, so that the package itself is not imported.

SMOKE = """
import sys
sys.path.insert(0, %r)
before = set(sys.modules)
from _protocol import pickles, values, records
new = {name for name in set(sys.modules) - before if not name.startswith("_protocol")} - {"__future__"}
assert not new, new
value = [1, -2, 1 << 80, 1.5, 2j, "ab", b"c", bytearray(b"d"), None, True, ...,
         {1: {2}, (3,): frozenset({4})}, slice(1), range(3)]
assert values.decode(values.encode(value)) == value
values._LEAVES[float](float("nan"))
assert not {"datetime", "decimal", "pickle"} & set(sys.modules)
import datetime, decimal, fractions, pathlib, uuid
value = [datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), datetime.date(2020, 1, 1),
         datetime.timezone(datetime.timedelta(hours=1), "x"), datetime.time(1, fold=1),
         decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=3),
         pathlib.PurePosixPath("a/b"), pathlib.PosixPath("/c"), pathlib.PureWindowsPath("c:/x")]
assert pickles.unpack(*pickles.pack(value, True), False) == value
assert pickles.unpack(*pickles.pack(value), True) == value
try:
    pickles.pack(lambda: 1)
except values.CannotTravel as refused:
    assert "lambda" in str(refused) or "function" in str(refused), refused
else:
    raise AssertionError
def fails():
    class Local: pass
    pickles.pack(Local)
try:
    fails()
except values.CannotTravel as refused:
    assert "Local" in refused.type_name, refused.type_name
try:
    pickles.unpack(2, b"c__main__\\nFoo\\n.", [], True)
except values.CannotTravel as refused:
    assert refused.type_name == "__main__.Foo", refused.type_name
for make in (lambda: 1 // 0, lambda: {}["k"], lambda: open("/no/such"), lambda: compile("a b", "<x>", "exec"),
             lambda: b"\\xff".decode(), lambda: __import__("no_such"), lambda: sys.exit(3)):
    try:
        make()
    except BaseException as exc:
        info = records.ErrorInfo.from_exception(exc, lambda exc: "tb")
        wire = values.decode(values.encode(info.to_wire()))
        back = records.ErrorInfo.from_wire(wire)
        assert back == info
        again = back.to_exception()
        assert type(again) is type(exc) and str(again) == str(exc), (again, exc)
print("good")
"""


def test_it_works_on_every_python(each_python: Interpreter) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHON"))}
    command = [each_python.path, "-S", "-B", "-c"]
    smoke = [*command, SMOKE % str(PACKAGE)]
    done = subprocess.run(smoke, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_marshal_writes_a_float_as_this_module_expects() -> None:
    assert marshal.dumps(math.pi, 2) == b"g" + struct.pack("<d", math.pi)
