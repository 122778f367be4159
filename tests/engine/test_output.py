"""The captured output of a call, and the session's unread lines."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extsession._engine.output import Output, OutputChunk, Unread
from extsession._protocol.messages import STDERR, STDOUT

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

pieces = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=20)), max_size=20)


def text(given_pieces: list[tuple[int, bytes]], stream: int) -> bytes:
    return b"".join([data for each, data in given_pieces if each == stream])


@given(pieces, pieces)
@QUICK
def test_all_is_kept_apart_and_in_order(own: list[tuple[int, bytes]], late: list[tuple[int, bytes]]) -> None:
    output = Output(3, None)
    for stream, data in own:
        output.add(stream, data)
        output.joined("stdout")  # what a reader has seen must not stick
    output.close()
    for stream, data in late:
        output.add(stream, data)
    assert output.joined("stdout") == text(own, STDOUT)
    assert output.joined("stderr") == text(own, STDERR)
    assert output.joined("stdout", True) == text(late, STDOUT)
    assert output.joined("stderr", True) == text(late, STDERR)
    names = {STDOUT: "stdout", STDERR: "stderr"}
    assert output.events == [OutputChunk(names[s], d, 3, False) for s, d in own] + [
        OutputChunk(names[s], d, 3, True) for s, d in late
    ]
    assert output.dropped == 0


@given(pieces, st.integers(0, 200))
@QUICK
def test_a_limit_holds_to_the_byte(given_pieces: list[tuple[int, bytes]], limit: int) -> None:
    output = Output(1, limit)
    for stream, data in given_pieces:
        output.add(stream, data)
    whole = b"".join([data for _, data in given_pieces])
    assert b"".join([chunk.data for chunk in output.events]) == whole[:limit]
    assert output.dropped == max(0, len(whole) - limit)
    assert all(chunk.data for chunk in output.events)


def test_late_output_counts_for_the_same_limit() -> None:
    output = Output(1, 5)
    output.add(STDOUT, b"123")
    output.close()
    output.add(STDOUT, b"456")
    assert (output.joined("stdout"), output.joined("stdout", True), output.dropped) == (b"123", b"45", 1)


def test_a_sink_takes_all_and_nothing_is_kept() -> None:
    output = Output(1, 2)
    seen: list[OutputChunk] = []
    output.sink = seen.append
    output.add(STDOUT, b"12345")
    output.add(STDERR, b"67890")
    assert [(chunk.stream, chunk.data) for chunk in seen] == [("stdout", b"12345"), ("stderr", b"67890")]
    assert output.events == []
    assert output.dropped == 0


def test_the_text_of_a_chunk_is_never_an_error() -> None:
    assert OutputChunk("stdout", b"a\xff\xc3", 1).text == "a\ufffd\ufffd"


@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"a\n", b"a\nb\nc"]), max_size=15), st.data())
@QUICK
def test_unread_gives_the_lines(parts: list[bytes], data: st.DataObject) -> None:
    unread = Unread()
    lines: list[bytes] = []
    for part in parts:
        if part:
            unread.add(part)
        if data.draw(st.booleans()):
            while (line := unread.take_line(False)) is not None:
                lines.append(line)
    while (line := unread.take_line(False)) is not None:
        lines.append(line)
    rest = unread.take_line(True)
    whole = b"".join(parts)
    expected = whole.split(b"\n")
    assert lines == [line + b"\n" for line in expected[:-1]]
    assert rest == expected[-1]
    assert unread.take_line(True) == b""


def test_unread_keeps_the_last_of_a_flood() -> None:
    unread = Unread(keep=100)
    for number in range(10_000):
        unread.add(b"line %d\n" % number)
    line = unread.take_line(False)
    assert line is not None
    assert int(line.split()[1]) > 9_980
    assert line.endswith(b"\n")
