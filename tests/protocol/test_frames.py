"""Frames: round trips however the bytes are cut, bounds, and bytes that are no frames at all."""

from __future__ import annotations

import mmap
import random
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from extsession._protocol import messages
from extsession._protocol.faults import BadFrame, ProtocolFault
from extsession._protocol.frames import (
    HEADER_SIZE,
    LARGE,
    MAX_CALL,
    FrameDecoder,
    pack_frame,
    pack_header,
    unpack_header,
)

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
BOTH = {**messages.TO_WORKER, **messages.TO_CONTROLLER}
TABLES = {
    "to worker": messages.TO_WORKER,
    "to controller": messages.TO_CONTROLLER,
    "strict": messages.TO_CONTROLLER_STRICT,
}

Frame = tuple[int, int, bytes]

small = st.builds(
    lambda kind, call, body: (kind, call, body[: BOTH[kind]]),
    st.sampled_from(sorted(BOTH)),
    st.integers(0, MAX_CALL) | st.sampled_from([0, 1, MAX_CALL]),
    st.binary(max_size=300),
)
# a body of a size around LARGE, from one byte: hypothesis is slow with real ones
bulky = st.builds(
    lambda kind, call, size, fill: (kind, call, bytes([fill]) * (LARGE + size)),
    st.sampled_from([messages.RUN, messages.DONE, messages.DISPLAY]),
    st.integers(0, MAX_CALL),
    st.integers(-2, 3) | st.integers(0, LARGE),
    st.integers(0, 255),
)
frames = st.lists(small | bulky, max_size=6) | st.lists(small, max_size=30)


def pack(sent: list[Frame]) -> bytes:
    return b"".join([pack_frame(*frame) for frame in sent])


def _in_mapping(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size)


def plain(got: list[tuple[int, int, bytes | bytearray]]) -> list[Frame]:
    return [(kind, call, bytes(body)) for kind, call, body in got]


@given(frames, st.data())
@QUICK
def test_any_cut_gives_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = pack(sent)
    at = st.integers(0, len(stream))
    cuts = sorted(data.draw(st.lists(at, max_size=12), label="cuts"))
    decoder = FrameDecoder(BOTH)
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
        assert decoder.pending == end - len(pack(plain(got)))
    assert plain(got) == sent
    assert decoder.pending == 0
    assert decoder.space() is None


@given(st.lists(small, max_size=8))
@QUICK
def test_a_byte_at_a_time(sent: list[Frame]) -> None:
    decoder = FrameDecoder(BOTH)
    got = []
    for byte in pack(sent):
        got += decoder.feed(bytes([byte]))
    assert plain(got) == sent


@given(frames, st.integers(0, 2**32), st.booleans(), st.sampled_from([None, _in_mapping, lambda _: None]))
@QUICK
def test_a_reader_that_uses_space_and_filled(sent: list[Frame], seed: int, sometimes: bool, room: Any) -> None:
    """As the link reads: right into a large body where one has begun, with any size of a read."""
    chance = random.Random(seed)
    stream = memoryview(pack(sent))
    decoder = FrameDecoder(BOTH, room)
    got = []
    while stream:
        space = decoder.space()
        if space is not None and not (sometimes and chance.random() < 0.3):
            count = min(len(stream), chance.randrange(1, len(space) + 1))
            space[:count] = stream[:count]
            got += decoder.filled(count)
        else:
            count = min(len(stream), chance.choice([1, 9, 10, 100, 65536, 10**6]))
            got += decoder.feed(bytes(stream[:count]))
        stream = stream[count:]
    assert plain(got) == sent


def test_a_large_body_is_collected_in_place() -> None:
    decoder = FrameDecoder(BOTH)
    body = random.Random(1).randbytes(LARGE + 1)
    assert decoder.feed(pack_header(messages.DONE, 5, len(body)) + body[:10]) == []
    space = decoder.space()
    assert space is not None
    assert len(space) == len(body) - 10
    space[:] = body[10:]
    whole = space.obj
    ((kind, call, got),) = decoder.filled(len(space))
    assert (kind, call) == (messages.DONE, 5)
    assert type(got) is bytearray
    assert got == body
    assert got is whole
    got += b"it can grow: nothing looks at it"
    assert decoder.space() is None
    assert decoder.feed(pack_frame(messages.INPUT, 6, b"\1")) == [(messages.INPUT, 6, b"\1")]


def test_a_header_alone_takes_no_memory() -> None:
    """It may be nonsense: room is made as the bytes come."""
    tracemalloc.start()
    try:
        decoder = FrameDecoder(messages.TO_CONTROLLER)
        assert decoder.feed(pack_header(messages.DONE, 1, 2**32 - 1) + b"x") == []
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_body_larger_than_the_first_room_made_for_it(in_place: bool) -> None:
    body = random.Random(7).randbytes(2**20) * 70
    tail = pack_frame(messages.INPUT, 6, b"")
    stream = memoryview(pack_header(messages.DONE, 5, len(body)) + body + tail)
    decoder = FrameDecoder(BOTH)
    got = decoder.feed(bytes(stream[:100]))
    stream = stream[100:]
    while stream:
        space = decoder.space() if in_place else None
        if space is not None:
            count = min(len(space), len(stream), 5_000_001)
            space[:count] = stream[:count]
            got += decoder.filled(count)
        else:
            count = min(40 * 2**20, len(stream))
            got += decoder.feed(bytes(stream[:count]))
        stream = stream[count:]
    assert got == [(messages.DONE, 5, body), (messages.INPUT, 6, b"")]


def test_a_body_up_to_large_comes_as_bytes() -> None:
    decoder = FrameDecoder(BOTH)
    stream = pack_frame(messages.DONE, 1, bytes(LARGE))
    assert decoder.feed(stream[:-1]) == []
    assert decoder.space() is None
    ((_, _, got),) = decoder.feed(stream[-1:])
    assert type(got) is bytes
    assert got == bytes(LARGE)


@pytest.mark.parametrize("table", TABLES)
def test_each_bound_holds_to_the_byte(table: str) -> None:
    bounds = TABLES[table]
    for kind, bound in bounds.items():
        assert unpack_header(pack_header(kind, 7, bound), bounds) == (kind, 7, bound)
        if bound < 2**32 - 1:
            for over in (bound + 1, 2**32 - 1):
                with pytest.raises(BadFrame, match=f"{over} bytes; at most {bound}"):
                    unpack_header(pack_header(kind, 7, over), bounds)
    for kind in set(range(256)) - set(bounds):
        with pytest.raises(BadFrame, match=f"unknown type {kind}$"):
            unpack_header(pack_header(kind, 7, 0), bounds)


@pytest.mark.parametrize("table", TABLES)
def test_a_body_over_its_bound_is_refused_before_a_byte_of_it_is_kept(table: str) -> None:
    bounds = TABLES[table]
    for kind, bound in bounds.items():
        if bound == 2**32 - 1:
            continue
        decoder = FrameDecoder(bounds)
        with pytest.raises(BadFrame):
            decoder.feed(pack_header(kind, 1, bound + 1) + b"x" * 100)
        assert decoder.pending == 0
        assert decoder.space() is None


def test_a_small_bound_is_met_by_a_whole_frame() -> None:
    decoder = FrameDecoder(messages.TO_CONTROLLER)
    body = bytes(messages.TO_CONTROLLER[messages.READY])
    assert decoder.feed(pack_frame(messages.READY, 0, body)) == [(messages.READY, 0, body)]


def test_the_bounds_for_a_hostile_session_are_no_wider() -> None:
    assert messages.TO_CONTROLLER_STRICT.keys() == messages.TO_CONTROLLER.keys()
    for kind, bound in messages.TO_CONTROLLER_STRICT.items():
        assert bound <= min(messages.TO_CONTROLLER[kind], 2**26)


def test_the_two_directions_share_no_type() -> None:
    assert not messages.TO_WORKER.keys() & messages.TO_CONTROLLER.keys()


@given(st.lists(small.filter(lambda frame: frame[0] in messages.TO_CONTROLLER), max_size=4))
@example([])
@QUICK
def test_after_a_bad_frame_nothing_is_believed(before: list[Frame]) -> None:
    decoder = FrameDecoder(messages.TO_CONTROLLER)
    good = pack_frame(messages.INPUT, 1, b"")
    bad = pack_frame(messages.RUN, 1, b"")
    stream = pack(before) + bad + good
    if before:
        assert plain(decoder.feed(stream)) == before
    for data in (stream, good, good, b""):
        with pytest.raises(BadFrame, match="unknown type 1"):
            decoder.feed(data)
    assert decoder.pending == 0


@pytest.mark.parametrize(("kind", "call", "length"), [(1, 0, 2**32), (1, 2**32, 0), (256, 0, 0), (1, -1, 0)])
def test_what_does_not_fit_a_header_is_no_header_of_something_else(kind: int, call: int, length: int) -> None:
    with pytest.raises(OverflowError):
        pack_header(kind, call, length)


def _check(stream: bytes, bounds: Mapping[int, int], chance: random.Random) -> int:
    """Feed a stream to the end or its first fault; no more is kept than arrived or a bound allows."""
    decoder = FrameDecoder(bounds)
    at = believed = 0
    try:
        while at < len(stream):
            size = chance.choice((1, 8, 9, 10, 64, 4096, 65536))
            for kind, call, body in decoder.feed(stream[at : at + size]):
                assert len(body) <= bounds[kind]
                assert 0 <= call <= MAX_CALL
                believed += HEADER_SIZE + len(body)
            at += size
            if believed + decoder.pending != min(at, len(stream)):
                with pytest.raises(BadFrame):  # it came behind frames that were good
                    decoder.feed(b"")
                break
    except ProtocolFault:
        assert believed <= len(stream)
    return believed


def _small(bounds: Mapping[int, int]) -> dict[int, int]:
    # so that a believed length does not swallow the rest of the stream
    return {kind: min(bound, 200) for kind, bound in bounds.items()}


@pytest.mark.parametrize("table", TABLES)
def test_random_bytes_are_no_frames(table: str) -> None:
    """Pure noise: 10^6 headers, none of which is believed."""
    chance = random.Random(2)
    bounds = TABLES[table]
    noise = chance.randbytes(10**6 + HEADER_SIZE)
    believed = 0
    for at in range(10**6):
        header = noise[at : at + HEADER_SIZE]
        try:
            kind, call, length = unpack_header(header, bounds)
        except BadFrame:
            continue
        assert length <= bounds[kind]
        assert pack_header(kind, call, length) == header
        believed += 1
    assert believed == 0


@pytest.mark.parametrize("table", TABLES)
def test_random_streams(table: str) -> None:
    chance = random.Random(3)
    bounds = TABLES[table]
    for _ in range(300):
        _check(chance.randbytes(chance.choice((5, 9, 90, 5000))), bounds, chance)


@pytest.mark.parametrize("table", TABLES)
def test_nearly_valid_streams(table: str) -> None:
    """1,000 streams of 1,000 headers of allowed types whose lengths lie, over all three tables."""
    chance = random.Random(4)
    bounds = _small(TABLES[table])
    kinds = sorted(bounds)
    believed = 0
    for _ in range(334):
        parts = []
        for _ in range(1000):
            kind = chance.choice(kinds)
            length = chance.randrange(0, bounds[kind] + 1) if chance.random() < 0.998 else chance.getrandbits(32)
            parts.append(pack_header(kind, chance.getrandbits(32), length))
            if chance.random() < 0.9:
                parts.append(bytes(length if length < 300 else 3))
        believed += _check(b"".join(parts), bounds, chance)
    assert believed  # else the streams tell nothing
