"""The merger: barriers are found wherever the bytes are cut, order is kept, and no byte is lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from extsession._engine.merge import Merger
from extsession._protocol.messages import BARRIER_SIZE, RICH, STDERR, STDOUT, TOKEN_SIZE

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

TOKEN = b"\xff0123456789abcde"
assert len(TOKEN) == TOKEN_SIZE
#: repeats itself, so that a search which skips too far misses it
REPEATING = b"ab" * 8

Emitted = list[tuple[int, bytes]]


def mark(number: int, token: bytes = TOKEN) -> bytes:
    return token + number.to_bytes(8, "little")


class Log:
    """What a merger gives out: text, and places of rich output as (0, number)."""

    def __init__(self, token: bytes = TOKEN) -> None:
        self.emitted: Emitted = []
        self.places: list[tuple[int, int]] = []  # (number, bytes emitted before it)
        self.merger = Merger(token, self._emit, self._place)

    def _emit(self, stream: int, data: bytes) -> None:
        assert data
        self.emitted.append((stream, data))

    def _place(self, number: int) -> None:
        self.places.append((number, len(b"".join(data for _, data in self.emitted))))

    def text(self, stream: int) -> bytes:
        return b"".join([data for each, data in self.emitted if each == stream])

    @property
    def joined(self) -> Emitted:
        """Neighbouring pieces of the same stream as one."""
        return list(merged(self.emitted))


def merged(pieces: Emitted) -> Iterator[tuple[int, bytes]]:
    stream, text = 0, b""
    for each, data in pieces:
        if each != stream:
            if text:
                yield stream, text
            stream, text = each, b""
        text += data
    if text:
        yield stream, text


# words that look like parts of a barrier, so that hypothesis need not find them
def words(token: bytes) -> st.SearchStrategy[bytes]:
    parts = [token[:n] for n in range(1, TOKEN_SIZE)] + [token[1:], token[5:], token[:3] * 3, b"\0" * 8, b"\n", b"x"]
    return st.lists(st.sampled_from(parts) | st.binary(min_size=1, max_size=5), min_size=1, max_size=4).map(b"".join)


def writes(token: bytes) -> st.SearchStrategy[Emitted]:
    """What Python code wrote, in order; no text holds the token."""
    clean = words(token).filter(lambda text: token not in text)
    return st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), clean), max_size=12)


def wire(pieces: Emitted, token: bytes) -> dict[int, bytes]:
    """The bytes of both pipes: a barrier in each wherever the stream changes."""
    pipes = {STDOUT: b"", STDERR: b""}
    last = number = 0
    for stream, data in pieces:
        if last and last != stream:
            number += 1
            for each in pipes:
                pipes[each] += mark(number, token)
        last = stream
        pipes[stream] += data
    return pipes


def could_be_sent(pieces: Emitted, pipes: dict[int, bytes], token: bytes) -> bool:
    """Whether no two texts, nor a text and a barrier, make a token together: no writer could know it."""
    turns = sum(1 for one, two in zip(pieces, pieces[1:], strict=False) if one[0] != two[0])
    for stream, data in pipes.items():
        parts = data.split(token)
        plain = b"".join([text for each, text in pieces if each == stream])
        if len(parts) - 1 != turns or b"".join([parts[0], *[part[8:] for part in parts[1:]]]) != plain:
            return False
    return True


def feed_cut(log: Log, pipes: dict[int, bytes], chance: random.Random, after: Callable[[], None] = bool) -> None:
    """Feed both pipes in pieces of random sizes, in a random order between them."""
    left = {stream: data for stream, data in pipes.items() if data}
    while left:
        stream = chance.choice(sorted(left))
        count = min(len(left[stream]), chance.choice((1, 2, 5, 15, 16, 17, 23, 24, 25, 100)))
        log.merger.feed(stream, left[stream][:count])
        after()
        left[stream] = left[stream][count:]
        if not left[stream]:
            del left[stream]


@pytest.mark.parametrize("token", [TOKEN, REPEATING, b"a" * 15 + b"b"], ids=["usual", "repeating", "long run"])
def test_any_interleaving_gives_the_order_it_was_written_in(token: bytes) -> None:
    @given(writes(token), st.integers(0, 2**32))
    @QUICK
    def check(pieces: Emitted, seed: int) -> None:
        pipes = wire(pieces, token)
        if not could_be_sent(pieces, pipes, token):
            return
        log = Log(token)
        feed_cut(log, pipes, random.Random(seed))
        log.merger.settle()
        assert log.joined == list(merged(pieces))

    check()


@given(writes(TOKEN), st.integers(0, 2**32))
@QUICK
def test_nothing_is_given_out_before_its_turn(pieces: Emitted, seed: int) -> None:
    """At every moment what was given out is a beginning of what was written, as far as barriers order it."""
    pipes = wire(pieces, TOKEN)
    if not could_be_sent(pieces, pipes, TOKEN):
        return
    log = Log()
    whole = list(merged(pieces))

    def check() -> None:
        seen = log.joined
        for index, (stream, data) in enumerate(seen[:-1]):
            assert whole[index] == (stream, data)
        if seen:
            stream, data = seen[-1]
            assert whole[len(seen) - 1][0] == stream
            assert whole[len(seen) - 1][1].startswith(data)

    feed_cut(log, pipes, random.Random(seed), check)


@given(words(TOKEN).filter(lambda text: TOKEN not in text), st.integers(0, 2**32))
@example(TOKEN[:15], 1)
@example(b"line\n" + TOKEN[:1], 1)
@QUICK
def test_text_that_looks_like_a_barrier_comes_through(text: bytes, seed: int) -> None:
    log = Log()
    feed_cut(log, {STDOUT: text, STDERR: text[::-1] if TOKEN not in text[::-1] else b""}, random.Random(seed))
    log.merger.settle()
    assert log.text(STDOUT) == text


@pytest.mark.parametrize("cut", range(1, BARRIER_SIZE + 2))
def test_a_barrier_cut_anywhere(cut: int) -> None:
    log = Log()
    stream = b"a" + mark(1) + b"c"
    log.merger.feed(STDOUT, stream[:cut])
    log.merger.feed(STDOUT, stream[cut:])
    assert log.emitted == [(STDOUT, b"a")]
    log.merger.feed(STDERR, mark(1)[:cut])
    log.merger.feed(STDERR, mark(1)[cut:])
    assert log.joined == [(STDOUT, b"ac")]


@pytest.mark.parametrize("size", range(1, TOKEN_SIZE))
def test_only_what_may_be_a_token_is_held_back(size: int) -> None:
    log = Log()
    log.merger.feed(STDOUT, b"prompt: " + TOKEN[:size])
    assert log.text(STDOUT) == b"prompt: "
    log.merger.feed(STDOUT, b"!")
    assert log.text(STDOUT) == b"prompt: " + TOKEN[:size] + b"!"


def test_the_end_of_a_line_is_never_held_back() -> None:
    """Of a real session's token: what ends a prompt or a line must not wait for what comes next."""
    log = Log()
    for text in (b"name? ", b"line\n", "\u20ac".encode(), b"\0"):
        log.merger.feed(STDOUT, text)
        assert log.emitted[-1] == (STDOUT, text)


def test_a_chunk_without_barriers_is_not_copied() -> None:
    log = Log()
    text = b"x" * 100_000
    log.merger.feed(STDOUT, text)
    assert log.emitted[0][1] is text


# barriers that one stream never got: its pipe was closed or filled by the code


def test_settle_gives_out_what_waits_for_a_missing_barrier() -> None:
    log = Log()
    log.merger.feed(STDOUT, b"one" + mark(1) + b"two" + mark(2) + b"three")
    assert log.joined == [(STDOUT, b"one")]
    log.merger.settle()
    assert log.joined == [(STDOUT, b"onetwothree")]


def test_settle_takes_the_lowest_barrier_first() -> None:
    log = Log()
    log.merger.feed(STDOUT, mark(1) + b"after 1" + mark(4) + b"after 4")
    log.merger.feed(STDERR, mark(2) + b"after 2" + mark(3) + b"after 3")
    assert log.emitted == []
    log.merger.settle()
    assert log.emitted == [(STDOUT, b"after 1"), (STDERR, b"after 2"), (STDERR, b"after 3"), (STDOUT, b"after 4")]


def test_settle_gives_out_half_a_barrier_as_text() -> None:
    """The session was killed while it wrote one: the bytes are all there is to show."""
    log = Log()
    log.merger.feed(STDOUT, b"a" + mark(1)[:20])
    log.merger.feed(STDERR, b"b" + TOKEN[:3])
    assert log.joined == [(STDOUT, b"a"), (STDERR, b"b")]
    log.merger.settle()
    assert log.text(STDOUT) == b"a" + mark(1)[:20]
    assert log.text(STDERR) == b"b" + TOKEN[:3]
    log.merger.feed(STDOUT, b"next")  # and nothing of it is remembered
    assert log.text(STDOUT).endswith(b"next")


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.integers(0, 5) | st.just(RICH | 3), words(TOKEN)), max_size=12),
    st.integers(0, 2**32),
)
@QUICK
def test_any_barriers_at_all_lose_no_text(parts: list[tuple[int, int, bytes]], seed: int) -> None:
    """Numbers doubled, missing, backwards: code that knows the token can make a mess of its own output only."""
    pipes = {STDOUT: b"", STDERR: b""}
    texts = {STDOUT: b"", STDERR: b""}
    for stream, number, text in parts:
        text = text.replace(TOKEN, b"").replace(TOKEN[:1], b"")
        pipes[stream] += mark(number) + text
        texts[stream] += text
    log = Log()
    feed_cut(log, pipes, random.Random(seed))
    log.merger.settle()
    for stream, text in texts.items():
        assert log.text(stream) == text
    log.merger.feed(STDOUT, b"goes on")
    assert log.emitted[-1] == (STDOUT, b"goes on")


# rich output


def test_rich_output_is_placed_between_the_texts() -> None:
    log = Log()
    log.merger.feed(STDERR, b"22" + mark(1 | RICH) + b"4444")
    assert log.places == []
    log.merger.feed(STDOUT, b"1" + mark(1 | RICH) + b"333")
    assert log.places == [(1 | RICH, 3)]
    log.merger.settle()
    assert log.places == [(1 | RICH, 3)]


def test_rich_output_of_a_closed_stream_is_placed_when_the_call_ends() -> None:
    log = Log()
    log.merger.feed(STDOUT, b"1" + mark(1 | RICH) + b"333" + mark(2))
    log.merger.settle()
    assert log.places == [(1 | RICH, 1)]


# new pipes


def test_a_stream_that_goes_on_in_another_pipe() -> None:
    log = Log()
    log.merger.feed(STDOUT, b"old" + TOKEN[:4])
    log.merger.close_stream(STDOUT)
    log.merger.close_stream(STDERR)
    assert log.text(STDOUT) == b"old" + TOKEN[:4]
    log.merger.feed(STDOUT, TOKEN[4:] + b"new")
    assert log.text(STDOUT) == b"old" + TOKEN[:4] + TOKEN[4:] + b"new"
