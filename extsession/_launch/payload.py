"""The code that is shipped to a child, and stage 0, which takes it over there.

The child needs no file of ours: stage 0 is the argument of `-c`; it reads all modules from the channel, as
marshalled code, and runs `_worker/boot.py` first.
"""

from __future__ import annotations

import functools
import importlib.machinery
import marshal
from pathlib import Path
from typing import Any

_PACKAGES = ("_protocol", "_worker")

STAGE0 = """\
import os, sys, marshal
def take(fd, data=b""):
    size = 4
    while len(data) < size or size == 4:
        piece = os.read(fd, size - len(data))
        if not piece: os._exit(71)
        data += piece
        if size == 4 and len(data) == 4: size += int.from_bytes(data, "little")
    return marshal.loads(data[4:])
fd = int(sys.argv[1])
codes = take(fd)
scope = {"__name__": "_extsession._worker.boot", "__package__": "_extsession._worker"}
exec(codes["_worker.boot"], scope)
scope["main"](codes, take(fd))
"""


def _files() -> dict[str, Path]:
    root = Path(__file__).parent.parent
    found = {}
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


def sources() -> dict[str, str]:
    """{"_worker.serve": source, ...}: what an interpreter of another version compiles for itself."""
    return {name: path.read_text("utf-8") for name, path in _files().items()}


@functools.cache
def compiled() -> bytes:
    """The shipped modules as marshalled code for this very interpreter."""
    codes: dict[str, Any] = {}
    for name, path in _files().items():
        full = f"extsession.{name}"
        # the loader keeps byte code beside the source, so this costs no compilation after the first time
        codes[name] = importlib.machinery.SourceFileLoader(full, str(path)).get_code(full)
    return marshal.dumps(codes)


def first_bytes(modules: bytes, config: dict[str, Any]) -> bytes:
    """What stage 0 reads from the channel."""
    settings = marshal.dumps(config, 2)  # a version that every Python 3 reads
    return b"".join(len(each).to_bytes(4, "little") + each for each in (modules, settings))
