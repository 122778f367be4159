"""Messages: each comes back as it was sent; bodies that are none are refused, and cost nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extsession._protocol import messages
from extsession._protocol.faults import BadMessage, ProtocolFault
from extsession._protocol.frames import MAX_CALL, FrameDecoder, pack_frame, pack_header
from extsession._protocol.messages import Done, Run
from extsession._protocol.pickles import BIG, BYTES, unpack
from extsession._protocol.records import ErrorInfo
from extsession._protocol.values import encode

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.text(st.characters(), max_size=40)  # lone surrogates too
# with a size of 0 a table ends early; honest buffers are large (pickles.BIG), see below
buffers = st.lists(st.binary(min_size=1, max_size=60), max_size=5)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(texts, plain, max_size=4)
times = st.integers(0, 2**43).map(lambda ns: ns / 2**10)  # seconds that floats of nanoseconds hold
runs = st.builds(
    Run, st.sampled_from(sorted(messages.ACTIONS)), st.integers(0, 255), texts, st.binary(max_size=60), buffers
)
FLAGS = (messages.NEW_PIPES, messages.LEAVING, messages.OUTLIVED)
FIELDS = ("outcome", "kind", "head", "flags", "wall", "cpu", "peak_memory", "extra", "buffers")


def make_done(*given_values: Any) -> Done:
    """A Done of its first fields, in the order of FIELDS."""
    return Done(**dict(zip(FIELDS, given_values, strict=False)))


dones = st.builds(
    make_done,
    st.sampled_from(sorted(messages.OUTCOMES)),
    st.integers(0, 255),
    st.binary(max_size=60),
    st.lists(st.sampled_from(FLAGS), max_size=3, unique=True).map(sum),
    times,
    times,
    st.integers(0, 2**64 - 1),
    st.none() | st.dictionaries(texts, plain, min_size=1, max_size=4),
    buffers,
)


def joined(pieces: list[Any]) -> bytes:
    return b"".join([bytes(piece) for piece in pieces])


def facts(message: Any) -> list[Any]:
    return [
        [bytes(piece) for piece in value]
        if name == "buffers"
        else pytest.approx(value, abs=1e-8, rel=1e-12)
        if isinstance(value, float)
        else value
        for name, value in ((name, getattr(message, name)) for name in (FIELDS if type(message) is Done else message.__slots__))
    ]


@given(runs)
@QUICK
def test_run_round_trip(run: Run) -> None:
    assert facts(Run.decode(joined(run.encode()))) == facts(run)
    assert facts(Run.decode(memoryview(joined(run.encode())))) == facts(run)
    assert facts(Run.decode(bytearray(joined(run.encode())))) == facts(run)  # type: ignore[arg-type]


@given(dones)
@QUICK
def test_done_round_trip(done: Done) -> None:
    body = joined(done.encode())
    for given_body in (body, bytearray(body)):
        assert facts(Done.decode(given_body)) == facts(done)  # type: ignore[arg-type]


@given(dones, st.integers(0, MAX_CALL))
@QUICK
def test_a_plain_done_is_the_same_frame(done: Done, call: int) -> None:
    done.extra = None
    done.buffers = ()
    frame = messages.pack_plain_done(call, done)
    assert frame == pack_frame(messages.DONE, call, joined(done.encode()))
    found = messages.unpack_plain_done(frame, call)
    if done.outcome == messages.FINISHED and not done.flags:
        assert found is not None
        assert facts(found) == facts(done)
    else:
        assert found is None


def test_a_done_with_an_unknown_bit() -> None:
    for bit in set(range(8)) - {flag.bit_length() - 1 for flag in FLAGS}:
        with pytest.raises(BadMessage, match="unknown fields"):
            Done.decode(joined(Done(messages.FINISHED, flags=1 << bit).encode()))


@given(st.lists(st.builds(lambda n: n, st.integers(0, 3 * BIG)), min_size=1, max_size=6), st.integers(0, 2**32))
@QUICK
def test_buffers_are_cut_where_they_were_joined(sizes: list[int], seed: int) -> None:
    """Sizes as `pickles.pack` makes them are not 0; one that is can only be an empty one too many at the end."""
    sent = [random.Random(seed + size).randbytes(size) for size in sizes]
    got = Run.decode(joined(Run(messages.SET, buffers=sent).encode())).buffers
    assert [bytes(piece) for piece in got] == sent or not sizes[-1] or not sizes[0]
    assert b"".join(map(bytes, got)) == b"".join(sent) or not all(sizes)


def test_buffers_are_not_copied() -> None:
    """Neither when a message is packed nor when it is read: they are views of the body."""
    array = bytearray(10 * BIG)
    pieces = Run(messages.SET, data=b"x", buffers=[memoryview(array)]).encode()
    assert pieces[1].obj is array
    body = bytearray(joined(pieces))
    (piece,) = Done.decode(bytearray(joined(Done(0, kind=BYTES, buffers=[array]).encode()))).buffers  # type: ignore[arg-type]
    assert type(piece) is memoryview
    (piece,) = Run.decode(memoryview(body)).buffers
    assert piece.obj is body


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(10**18), 10**18)
ready_fields = st.dictionaries(names, names | numbers | st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=5)


@given(ready_fields)
@QUICK
def test_ready_round_trip(sent: dict[str, Any]) -> None:
    assert messages.unpack_ready(messages.pack_ready(sent)) == sent


@pytest.mark.parametrize(
    "body",
    [b"", b"pid", b"pid\0", b"pid\0x5", b"pid\0i", b"pid\0ifive", b"pid\0i5\0", b"pid\0i5\0version", b"\xff\xfe",
     b"pid\0i" + b"9" * 5000, b"version\0l3,,1", b"version\0l", b"pid\0i1_0", b"pid\0i 5", b"pid\0i--5"],
)  # fmt: skip
def test_a_ready_that_is_none(body: bytes) -> None:
    with pytest.raises(BadMessage, match="Ready"):
        messages.unpack_ready(body)


@given(fields, st.integers(0, 2**64 - 1))
@QUICK
def test_display_round_trip(sent: dict[str, Any], barrier: int) -> None:
    assert messages.unpack_display(messages.pack_display(barrier, sent)) == (barrier, sent)


@given(st.sampled_from([messages.STDOUT, messages.STDERR]), st.binary(max_size=60))
@QUICK
def test_late_round_trip(stream: int, data: bytes) -> None:
    assert messages.unpack_stream(bytes((stream,)) + data) == (stream, data)


@given(st.binary(max_size=60), st.booleans())
@QUICK
def test_stdin_says_whether_it_is_the_end(data: bytes, eof: bool) -> None:
    body = messages.pack_stdin(data, eof)
    assert (body[1:], body[:1] == b"\1") == (data, eof)


@given(st.integers(-(2**63), 2**63 - 1))
@QUICK
def test_exit_round_trip(code: int) -> None:
    body = messages.pack_exit(code)
    assert messages.unpack_exit(body) == code
    assert len(body) <= messages.TO_WORKER[messages.EXIT]


def test_the_tables_are_of_the_messages_that_exist() -> None:
    kinds = messages.TO_WORKER.keys() | messages.TO_CONTROLLER.keys() | messages.FROM_TEMPLATE.keys()
    assert kinds == messages.NAMES.keys()
    assert {kind for row in messages.WORKER_MAY_SEND.values() for kind in row} == messages.TO_CONTROLLER.keys()
    assert {kind for row in messages.CONTROLLER_MAY_SEND.values() for kind in row} == messages.TO_WORKER.keys()
    assert messages.WORKER_MAY_SEND.keys() == messages.CONTROLLER_MAY_SEND.keys()


# what is no message


@pytest.mark.parametrize("size", range(10))
def test_a_run_too_short(size: int) -> None:
    with pytest.raises(BadMessage, match=f"Run of {size} bytes"):
        Run.decode(bytes(size))


@pytest.mark.parametrize("size", range(36))
def test_a_done_too_short(size: int) -> None:
    with pytest.raises(BadMessage, match=f"Done of {size} bytes"):
        Done.decode(bytes(size))


@pytest.mark.parametrize("action", sorted(set(range(256)) - messages.ACTIONS))
def test_unknown_actions(action: int) -> None:
    with pytest.raises(BadMessage, match=f"unknown action {action}"):
        Run.decode(run_bytes(action))


def run_bytes(action: int = 0, source: int = 0, data: int = 0) -> bytes:
    """The fixed fields of a Run."""
    return bytes((action, 0)) + source.to_bytes(4, "little") + data.to_bytes(4, "little")


def done_bytes(**changes: int) -> bytes:
    """The fixed fields of a Done."""
    sizes = {"outcome": 1, "kind": 1, "flags": 1, "spare": 1, "wall": 8, "cpu": 8, "peak": 8, "head": 4, "extra": 4}
    return b"".join([changes.get(name, 0).to_bytes(size, "little") for name, size in sizes.items()])


def test_the_fixed_fields_are_laid_out_as_the_other_side_reads_them() -> None:
    run = Run.decode(run_bytes(3, 2, 1) + b"abc")
    assert facts(run) == facts(Run(3, 0, "ab", b"c"))
    fields = {"outcome": 1, "kind": 2, "flags": 5, "wall": 4 * 10**9, "cpu": 5 * 10**9, "peak": 6, "head": 3}
    assert facts(Done.decode(done_bytes(**fields) + b"abc")) == facts(make_done(1, 2, b"abc", 5, 4.0, 5.0, 6))
    assert joined(make_done(1, 2, b"abc", 5, 4.0, 5.0, 6).encode()) == done_bytes(**fields) + b"abc"
    most = {"wall": 2**64 - 1, "cpu": 2**64 - 1, "peak": 2**64 - 1}
    assert Done.decode(done_bytes(**most)).wall == pytest.approx(2**64 / 1e9)


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": 5}, {"outcome": 255}, {"flags": 2}, {"flags": 16}, {"flags": 255}, {"spare": 1},
        {"head": 1}, {"head": 2**32 - 1}, {"extra": 1}, {"extra": 2**32 - 1},
        {"head": 2**32 - 1, "extra": 2**32 - 1},
    ],
)  # fmt: skip
def test_done_fields_that_cannot_be(changes: dict[str, int]) -> None:
    Done.decode(done_bytes())
    with pytest.raises(BadMessage):
        Done.decode(done_bytes(**changes))


@pytest.mark.parametrize("extra", [None, [], "text", 5, {1: 2}, {b"a": 1}, {("a",): 1}])
def test_extra_that_is_no_dict_of_texts(extra: Any) -> None:
    body = encode(extra)
    with pytest.raises(BadMessage):
        Done.decode(done_bytes(extra=len(body)) + body)
    with pytest.raises(BadMessage, match="Display"):
        messages.unpack_display(bytes(8) + body)


@pytest.mark.parametrize(
    "source", [b"\xff", b"\xc3", b"\xf8\x88\x80\x80\x80", b"\xc0\x80"], ids=["byte", "cut", "five", "overlong"]
)
def test_a_source_that_is_no_text(source: bytes) -> None:
    with pytest.raises(BadMessage, match="not UTF-8"):
        Run.decode(run_bytes(source=len(source)) + source)


def table(*sizes: int) -> bytes:
    return b"".join([size.to_bytes(8, "little") for size in sizes])


@pytest.mark.parametrize(
    "tail",
    [
        b"x", b"1234567", table(1), table(2) + b"x", table(0) + b"x", table(2**64 - 1),
        table(2**63, 2**63), table(8) + b"1234567", table(2**64 - 8) + bytes(8),
        bytes(8) + table(1),
    ],
)  # fmt: skip
def test_a_table_of_buffers_that_does_not_add_up(tail: bytes) -> None:
    with pytest.raises(BadMessage, match="buffers"):
        Run.decode(run_bytes() + tail)
    with pytest.raises(BadMessage, match="buffers"):
        Done.decode(done_bytes() + tail)


def test_a_table_of_very_many_buffers_is_refused() -> None:
    """8 bytes on the wire would become a list of objects of some hundred bytes each."""
    tail = table(1) + bytes(8 * messages.MAX_BUFFERS) + b"x"
    with pytest.raises(BadMessage, match="buffers"):
        Done.decode(done_bytes() + tail)
    with pytest.raises(BadMessage, match="buffers"):
        Run.decode(run_bytes() + tail)


def test_an_honest_message_has_room_for_all_its_buffers() -> None:
    assert messages.MAX_BUFFERS * BIG >= messages.BULK


@given(st.binary(max_size=200))
@QUICK
def test_any_bytes_as_any_body(body: bytes) -> None:
    _decode_all(body)


def _decode_all(body: bytes) -> int:
    good = 0
    for decode in (
        Run.decode,
        Done.decode,
        messages.unpack_display,
        messages.unpack_stream,
        messages.unpack_exit,
        lambda data: messages.unpack_ready(data),
    ):
        try:
            message = decode(body)
        except ProtocolFault:
            continue
        good += 1
        if isinstance(message, Done):
            _use(message)
    return good


def _use(done: Done) -> None:
    """What the controller does with a Done."""
    for use in (
        lambda: unpack(done.kind, done.head, done.buffers, False),
        lambda: ErrorInfo.from_wire((done.extra or {}).get("error")),
    ):
        try:
            use()
        except (ProtocolFault, TypeError):  # CannotTravel is a TypeError: a pickle from a hostile session
            continue


def test_good_bodies_with_bytes_changed() -> None:
    """Mutations of a real Done and a real Run: nothing but ProtocolFault, nothing over the body's size."""
    chance = random.Random(5)
    info = ErrorInfo.from_exception(ValueError("x"), lambda _: "Traceback\n")
    bodies = [
        joined(make_done(1, 0, b"", 0, 0.5, 0.25, 10**6, {"error": info.to_wire()}).encode()),
        joined(make_done(0, BYTES, b"", 0, 0.5, 0.25, 10**6, {"repr": "5"}, [b"a" * 30, b"b" * 5]).encode()),
        joined(Run(messages.CALL, 3, "f(...)", b"data", [b"a" * 30, b"b" * 5]).encode()),
    ]
    good = 0
    for _ in range(5000):
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.randrange(1, 4)):
            body[chance.randrange(len(body))] = chance.choice((0, 1, 7, 8, 127, 128, 255, chance.randrange(256)))
        if chance.random() < 0.3:
            del body[chance.randrange(len(body)) :]
        good += _decode_all(bytes(body))
    assert good


def test_a_large_done_comes_through_the_decoder_in_place() -> None:
    array = random.Random(6).randbytes(3 * 2**20)
    pieces = Done(0, kind=BYTES, buffers=[array]).encode()
    size = sum(len(piece) for piece in pieces)
    decoder = FrameDecoder(messages.TO_CONTROLLER)
    got: list[Any] = []
    for piece in (pack_header(messages.DONE, 3, size), *pieces):
        got += decoder.feed(piece)
    ((kind, call, body),) = got
    assert (kind, call, type(body)) == (messages.DONE, 3, bytearray)
    done = Done.decode(body)
    assert done.buffers[0].obj is body
    assert unpack(done.kind, done.head, done.buffers, False) == array
