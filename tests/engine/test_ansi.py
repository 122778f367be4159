"""Control sequences are taken out, and nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extsession._engine.ansi import plain, without_escapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;5;196mred\x1b[m", "red"),
        ("\x1b[38:2::1:2:3mred", "red"),
        ("\x1b[?2004h$ \x1b[?2004l", "$ "),
        ("\x1b[2J\x1b[1;1Htop", "top"),
        ("\x1b[4 qcursor", "cursor"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1$r0m\x1b\\dcs", "dcs"),
        ("\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\text", "text"),
        ("\x1b(Bcharset\x1b=\x1b>\x1b7\x1b8\x1bM", "charset"),
        ("cut off\x1b", "cut off"),
        ("cut off\x1b[", "cut off"),
        ("\x1b]no end", "no end"),
        ("\x1b[31\nm", "31\nm"),
        ("[31m is no sequence", "[31m is no sequence"),
        ("\x1b[31mred\x1b[39m \x1b[1;4;38;2;1;2;3mx\x1b[0m", "red x"),
        ("\x1b[2K\x1b[1A\x1b[?25lx\x1b[?25h", "x"),
        ("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "xlink"),
        ("\x1b(B\x1b7x\x1b8\x1bM\x1b=", "x"),
        ("a[31mb", "a[31mb"),
        ("\r\n\t", "\r\n\t"),
    ],
)
def test_sequences(text: str, expected: str) -> None:
    assert without_escapes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\r\nb\r\n", "a\nb\n"), ("a\r\r\nb", "a\nb"), ("50%\r100%\r\n", "50%\r100%\n"), ("a\x1b[K\r\n", "a\n")],
)
def test_line_ends(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(st.text())
def test_text_without_escapes_stays(text: str) -> None:
    text = text.replace("\x1b", "")
    assert without_escapes(text) == text


@given(st.lists(st.sampled_from(["\x1b", "[", "]", "P", "31", "m", "\x07", "\\", "\n", "a", ";", " "])))
def test_no_escape_is_left_and_what_is_left_was_there(pieces: list[str]) -> None:
    text = "".join(pieces)
    left = without_escapes(text)
    assert "\x1b" not in left
    rest = iter(text)
    assert all(character in rest for character in left)


@pytest.mark.parametrize("piece", ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1b[1", "\x1b]0;x"])
def test_the_time_is_linear(piece: str) -> None:
    """What never ends costs no more than what does: sixteen times as much takes about sixteen times as long."""

    def measure(count: int) -> float:
        text = piece * count + "1" * count
        best = min(_timed(text) for _ in range(3))
        return max(best, 1e-4)

    assert measure(64000) < 16 * 8 * measure(4000)


def _timed(text: str) -> float:
    began = time.thread_time()  # of this thread alone, however busy the machine
    without_escapes(text)
    return time.thread_time() - began
