"""The code that is shipped to a child, and stage 0, which takes it over there.

The child needs no file of ours: stage 0 is the argument of `-c`; it reads all modules from the channel, as
marshalled code, and runs `_worker/boot.py` first.
"""

from __future__ import annotations

import functools
import importlib.machinery
import marshal
import socket
import subprocess
from pathlib import Path
from typing import Any

#: of marshal: one that every Python 3 reads
_VERSION = 2
_PACKAGES = ("_protocol", "_worker")

#: what a session needs before its first reply; the rest follows when it is ready
_EAGER = frozenset(
    [
        "_protocol",
        "_protocol.faults",
        "_protocol.frames",
        "_protocol.messages",
        "_worker",
        "_worker.accounts",
        "_worker.boot",
        "_worker.burst",
        "_worker.channel",
        "_worker.descriptors",
        "_worker.evaluate",
        "_worker.serve",
        "_worker.stdin",
        "_worker.streams",
        "_worker.threads",
        "_worker.trace",
        "_worker.warden",
    ]
)

#: what only an isolated session needs: it is sent where its settings have "isolation"
_CONFINE = ("_worker.bubble", "_worker.confine", "_worker.walled")
#: what only a session that runs locked-down scripts needs: sent where its settings have "script"
_SCRIPT = ("_worker.script",)
#: what no session needs: a program that is not ours is started with it (`foreign_bytes`)
_FOREIGN = ("_worker.foreign",)

STAGE0 = """\
import builtins, gc, os, sys, marshal
gc.disable()
def take(fd, os=os, marshal=marshal):
    def read(size):
        data = bytearray(size)
        have = 0
        while have < size:
            count = os.readv(fd, [memoryview(data)[have:]])
            if not count: os._exit(71)
            have += count
        return data
    return marshal.loads(read(int.from_bytes(read(4), "little")))
fd = int(sys.argv[1])
codes = take(fd)
scope = {"__name__": "_extsession._worker.boot", "__package__": "_extsession._worker"}
scope["__builtins__"] = dict(vars(builtins))  # whatever the user's code does to its own
exec(marshal.loads(codes["_worker.boot"]), scope)
scope["main"](codes, take(fd), take)
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


@functools.cache
def sources() -> dict[str, str]:
    """{"_worker.serve": source, ...}: what an interpreter of another version compiles for itself."""
    return {name: path.read_text("utf-8") for name, path in _files().items()}


@functools.cache
def compiled() -> bytes:
    """The shipped modules as code for this very interpreter: marshalled {name: marshalled code}."""
    codes: dict[str, bytes] = {}
    for name, path in _files().items():
        full = f"extsession.{name}"
        # the loader keeps byte code beside the source, so this costs no compilation after the first time
        code = importlib.machinery.SourceFileLoader(full, str(path)).get_code(full)
        codes[name] = marshal.dumps(code)  # one by one: a child unpacks only what it uses
    return marshal.dumps(codes, _VERSION)


@functools.lru_cache(16)
def _parts(modules: bytes, isolated: bool, scripts: bool) -> tuple[bytes, bytes]:
    """What is sent first, and the rest."""
    codes: dict[str, bytes] = marshal.loads(modules)
    unused = _FOREIGN + (() if isolated else _CONFINE) + (() if scripts else _SCRIPT)
    eager = {name: code for name, code in codes.items() if name in _EAGER}
    later = {name: code for name, code in codes.items() if name not in _EAGER and not name.startswith(unused)}
    return marshal.dumps(eager, _VERSION), marshal.dumps(later, _VERSION)


def first_bytes(modules: bytes, config: dict[str, Any]) -> bytes:
    """What stage 0 reads from the channel: three marshalled dicts, each behind its length."""
    template = config.get("template", {})
    isolated, scripts = (bool(config.get(key) or template.get(key)) for key in ("isolation", "script"))
    eager, later = _parts(modules, isolated, scripts)
    settings = marshal.dumps(config, _VERSION)
    return b"".join(len(each).to_bytes(4, "little") + each for each in (eager, settings, later))


def foreign_bytes(config: dict[str, Any]) -> bytes:
    """What stage 0 reads for a program that is not ours: `foreign.py` takes the place of `boot.py`."""
    codes: dict[str, bytes] = marshal.loads(compiled())
    first = {"_worker.boot": codes["_worker.foreign"], "_worker.warden": codes["_worker.warden"]}
    parts = (marshal.dumps(first, _VERSION), marshal.dumps(config, _VERSION))
    return b"".join(len(each).to_bytes(4, "little") + each for each in parts)


#: seconds for an answer
_MOST = 60.0


def answer(ours: socket.socket, child: subprocess.Popen[bytes], first: bytes) -> tuple[bytes, bytes]:
    """What a throwaway process that was started with stage 0 answers by the channel, and what it printed to stderr."""
    try:
        ours.settimeout(_MOST)
        ours.sendall(first)
        data = b""
        while piece := ours.recv(65536):
            data += piece
        printed = child.communicate(timeout=_MOST)[1]
    except (OSError, subprocess.TimeoutExpired) as error:
        late = isinstance(error, (TimeoutError, subprocess.TimeoutExpired))
        child.kill()
        printed = child.communicate()[1] or (b"it did not end in time" if late else b"")
        data = b""
    return data, printed or b""
