"""100 MB back from a warm session that has them: bytes, and a NumPy array.

What arrives is used, a read a page, within the time: memory that is only mapped is not there yet.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from . import limits, ours, peers
from .harness import LIMIT, OURS, PEER, Bench, Goal, row, seconds

MEMCPY = "memcpy into fresh memory"
PIPE = peers.PipeWorker.name
_PAGE = 4096


def _use_bytes(data: Any) -> Any:
    data[::_PAGE]
    return data


def _use_array(array: Any) -> Any:
    array[:: _PAGE // array.itemsize].sum()
    return array


def _compare(
    bench: Bench,
    source: str,
    copy: Callable[[], Any],
    fetch: Callable[[peers.Peer], Any],
    use: Callable[[Any], Any],
) -> None:
    bench.rounds = bench.pick(7, 3)
    if bench.quick:
        bench.notes.append("quick: 40 MB")
    bench.add(MEMCPY, LIMIT, lambda: seconds(copy))
    session = ours.session(bench)
    session.execute(source).wait().raise_for_error()
    bench.add(ours.NAME, OURS, lambda: seconds(lambda: use(session["data"])))
    for kind in peers.ALL:
        peer = peers.start(bench, kind) if kind.large else None
        if peer is not None:
            with bench.optional(kind.name):
                peer.run("exec", source)
                bench.add(kind.name, PEER, lambda peer=peer: seconds(lambda: use(fetch(peer))))


@row("bytes", "100 MB of bytes back", unit="ms", reference=MEMCPY, goals=[Goal(ours.NAME, 2.6, MEMCPY)])
def large_bytes(bench: Bench) -> None:
    data = bytes(range(256)) * (_size(bench) // 256)
    source = f"data = bytes(range(256)) * {_size(bench) // 256}"
    _compare(bench, source, lambda: limits.copy(data), lambda peer: peer.run("eval", "data"), _use_bytes)


@row(
    "array",
    "a NumPy array of 100 MB back",
    unit="ms",
    reference=MEMCPY,
    goals=[Goal(ours.NAME, 1 / 4, PIPE)],
)
def array(bench: Bench) -> None:
    if importlib.util.find_spec("numpy") is None:
        bench.leave_out("all", "numpy is not installed")
        return
    import numpy

    data = numpy.arange(_size(bench) // 8, dtype=float)
    source = f"import numpy; data = numpy.arange({_size(bench) // 8}, dtype=float)"
    _compare(bench, source, data.copy, lambda peer: peer.array("data"), _use_array)


def _size(bench: Bench) -> int:
    # never below 32 MB: malloc would take it from what was freed, and it would not be fresh
    return int(bench.pick(100, 40)) * 10**6 // 2048 * 2048
