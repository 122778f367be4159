"""A flood of output: lines that are printed, and raw bytes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from . import limits, ours
from .harness import LIMIT, OURS, PEER, Bench, Goal, row, seconds

IN_PROCESS = "exec in this process into a StringIO"
DEV_NULL = "exec in this process into a line-buffered /dev/null"
STREAMED = "extsession, streamed"
TO_CALLBACK = "extsession, on_output"
RUN = "subprocess.run, python -c"


def _unread(session: Any, source: str) -> Any:
    return session.execute(source, output_limit=None).wait()


def _streamed(session: Any, source: str) -> int:
    return sum(len(chunk.data) for chunk in session.execute(source, output_limit=None))


def _to_callback(session: Any, source: str) -> int:
    sizes: list[int] = []
    session.execute(source, on_output=lambda chunk: sizes.append(len(chunk.data))).wait()
    return sum(sizes)


def _require(found: int, size: int) -> None:
    if found != size:
        raise ValueError(f"{found} bytes of output instead of {size}")


@row(
    "lines",
    "1,000,000 printed lines of 50 bytes",
    unit="ms",
    reference=IN_PROCESS,
    goals=[Goal(ours.NAME, 1.1, IN_PROCESS), Goal(STREAMED, 1.1, IN_PROCESS)],
)
def lines(bench: Bench) -> None:
    bench.rounds = bench.pick(5, 3)
    count = bench.pick(1_000_000, 100_000)
    if bench.quick:
        bench.notes.append(f"quick: {count:,} lines")
    source = f"for i in range({count}): print('line %044d' % i)"
    session = ours.session(bench)
    null = bench.enter(open("/dev/null", "w", buffering=1))
    _require(len(_unread(session, source).stdout_bytes), 50 * count)
    _require(_streamed(session, source), 50 * count)

    bench.add(IN_PROCESS, LIMIT, lambda: seconds(lambda: limits.execute_printing(source)))
    bench.add(DEV_NULL, LIMIT, lambda: seconds(lambda: limits.execute_printing(source, null)))
    bench.add(ours.NAME, OURS, lambda: seconds(lambda: _unread(session, source)))
    bench.add(STREAMED, OURS, lambda: seconds(lambda: _streamed(session, source)))
    command = [sys.executable, "-c", source]
    bench.add(RUN, PEER, lambda: seconds(lambda: subprocess.run(command, capture_output=True, text=True)))


DRAIN = "drain a pipe of 1 MiB, reads of 64 KiB"
DRAIN_LARGE = "drain a pipe of 1 MiB, reads of 1 MiB"


@row("raw", "200 MB by os.write(1, 64 KiB)", unit="ms", reference=DRAIN, goals=[Goal(ours.NAME, 2.7, DRAIN)])
def raw(bench: Bench) -> None:
    bench.rounds = bench.pick(7, 3)
    blocks = bench.pick(200, 50) * 10**6 // limits.BLOCK
    if bench.quick:
        bench.notes.append("quick: 50 MB")
    # the pipe takes parts of a block where it is not a multiple, so what was written is counted
    source = (
        f"import os\nblock = bytes({limits.BLOCK})\nfor _ in range({blocks}):\n"
        "    done = os.write(1, block)\n"
        "    while done < len(block): done += os.write(1, block[done:])"
    )
    session = ours.session(bench)
    _require(len(_unread(session, source).stdout_bytes), blocks * limits.BLOCK)

    for name, size in ((DRAIN, limits.BLOCK), (DRAIN_LARGE, limits.PIPE_SIZE)):
        drain = limits.Drain(size)
        bench.closing(drain.close)
        bench.add(name, LIMIT, lambda drain=drain: seconds(lambda: drain(blocks)))
    bench.add(ours.NAME, OURS, lambda: seconds(lambda: _unread(session, source)))
    bench.add(STREAMED, OURS, lambda: seconds(lambda: _streamed(session, source)))
    bench.add(TO_CALLBACK, OURS, lambda: seconds(lambda: _to_callback(session, source)))
    command = [sys.executable, "-c", source]
    bench.add(RUN, PEER, lambda: seconds(lambda: subprocess.run(command, capture_output=True)))
