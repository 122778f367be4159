"""Programs whose every byte can be told, and the check of what came of them.

A call writes pieces, lines of the form `<tag|stream|index|length|filling>`, by one way or by several in turn. It
computes a check sum of each stream while it writes, and gives it as its value, with the state of its session.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, NamedTuple

from .tally import Tally

#: executed once in each session
PRELUDE = r"""
import os, random, subprocess, sys, threading, time, zlib
state = 0
late_threads = []

def soak(tag, ways, seed, count, most):
    rng = random.Random(seed)
    sizes, sums, indices = [0, 0], [0, 0], [0, 0]
    for _ in range(count):
        stream = int(rng.random() < 0.3)
        filling = rng.choice("abcdefghij") * rng.randrange(most)
        line = "<%s|%d|%d|%d|%s>\n" % (tag, stream, indices[stream], len(filling), filling)
        data = line.encode()
        indices[stream] += 1
        sizes[stream] += len(data)
        sums[stream] = zlib.crc32(data, sums[stream])
        way = rng.choice(ways)
        if way == "print":
            print(line, end="", file=(sys.stdout, sys.stderr)[stream])
        elif way == "raw":
            view = memoryview(data)
            while view:
                view = view[os.write(stream + 1, view):]
        elif way == "child":
            subprocess.run(["cat"], input=data, stdout=stream + 1, check=True)
        elif way == "thread":
            file = (sys.stdout, sys.stderr)[stream]
            thread = threading.Thread(target=print, args=(line,), kwargs={"end": "", "file": file})
            thread.start()
            thread.join()
        elif way == "sleep":
            print(line, end="", file=(sys.stdout, sys.stderr)[stream])
            time.sleep(0.01)
    return state, sizes, sums

def late(tag, count):
    def work():
        for index in range(count):
            print("<%s|0|%d|1|x>\n" % (tag, index), end="")
            time.sleep(0.003)
    thread = threading.Thread(target=work)
    late_threads.append(thread)
    thread.start()

def join_late():
    while late_threads:
        late_threads.pop().join()
"""
WAYS = (
    ("print",),
    ("raw",),
    ("print", "raw"),
    ("print", "raw", "child"),
    ("print", "raw", "thread"),
    ("print", "child", "thread", "sleep"),
)

_PIECE = re.compile(rb"<([a-z0-9]+)\|([01])\|(\d+)\|(\d+)\|([a-z]*)>\n")


def source_of(tag: str, ways: tuple[str, ...], seed: int, count: int, most: int) -> str:
    return f"state += 1\nsoak({tag!r}, {ways!r}, {seed}, {count}, {most})"


class Told(NamedTuple):
    """What a call says of itself, once it has ended as it should."""

    state: int
    sizes: list[int]
    sums: list[int]


def told(text: str | None) -> Told | None:
    if text is None:
        return None
    # not by ast.literal_eval: in several threads at once it raises SystemError now and then, seen with CPython 3.11.7
    state, *numbers = map(int, re.findall(r"\d+", text))
    return Told(state, numbers[:2], numbers[2:])


def check_complete(tally: Tally, tag: str, streams: tuple[bytes, bytes], said: Told, what: str) -> None:
    """A call that has finished: each byte of it has to be there."""
    for stream, data in enumerate(streams):
        if len(data) == said.sizes[stream] and zlib.crc32(data) == said.sums[stream]:
            continue
        wrong = _compare(tally, tag, stream, data, what)
        missing = said.sizes[stream] - wrong["own"]
        if missing > 0:
            tally.wrong("lost bytes", missing, f"{what}, stream {stream}: {len(data)} of {said.sizes[stream]}")
        elif not wrong["any"]:
            tally.wrong("wrong order", 1, f"{what}, stream {stream}: another check sum")


def check_partial(tally: Tally, tag: str, streams: tuple[bytes, bytes], what: str) -> None:
    """A call that was cut off: what is there has to be a beginning of what it wrote, and its own."""
    for stream, data in enumerate(streams):
        _compare(tally, tag, stream, data, what)


def check_late(tally: Tally, tag: str, data: bytes, count: int, what: str) -> None:
    """Output of a thread that has ended: all of it, whenever it was written."""
    _compare(tally, tag, 0, data, what)
    found = len(_PIECE.findall(data))
    if found < count:
        tally.wrong("lost bytes", count - found, f"{what}: {found} late lines of {count}")


def check_foreign(tally: Tally, streams: tuple[bytes, bytes], what: str) -> None:
    """A program that writes no pieces has none."""
    for data in streams:
        if _PIECE.search(data):
            tally.wrong("wrong attributions", 1, f"{what} has output of another call")


def _compare(tally: Tally, tag: str, stream: int, data: bytes, what: str) -> dict[str, Any]:
    own, last, any_wrong = 0, -1, False
    for match in _PIECE.finditer(data):
        index = int(match[3])
        size = len(match[0])
        if match[1] != tag.encode() or int(match[2]) != stream:
            tally.wrong("wrong attributions", 1, f"{what}, stream {stream}: has {match[0][:40]!r}")
            any_wrong = True
        elif index <= last:
            tally.wrong("doubled bytes", size, f"{what}, stream {stream}: piece {index} after {last}")
            any_wrong = True
        else:
            if index != last + 1:
                tally.wrong("lost bytes", 1, f"{what}, stream {stream}: pieces {last + 1} to {index - 1}")
                any_wrong = True
            last = index
            own += size
    return {"own": own, "any": any_wrong}
