"""Memory for large bodies."""

from __future__ import annotations

import mmap

import pytest

from extsession._engine import room


def test_small_ones_are_left_to_malloc() -> None:
    assert room.make(2**20) is None


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages on request")
def test_a_large_one_is_writable_memory() -> None:
    size = 3 * 2**20 + 5
    buffer = room.make(size)
    assert len(buffer) == size and buffer[-1] == 0
    memoryview(buffer)[-3:] = b"abc"
    assert buffer[-3:] == b"abc"
    assert room.make(2**62) is None
