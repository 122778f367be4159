"""Ask a Python interpreter what it is.

Harder than it looks, because what is asked need not be Python at all: it may print without end, never
answer, read its stdin, or leave processes behind. So the question is one short process in a session of
its own, with a deadline, a bound on what it prints and a kill of its whole group; and the answer is
recognised by a random token that a program which merely repeats its arguments does not put together.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import platform
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from binascii import a2b_base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO

from ..errors import InterpreterError
from .places import Key, key_of

OLDEST = (3, 8)
_FLOOD = 16 * 2**20  #: bytes that an interpreter may print in all before it is given up
_STDERR_KEPT = 8 * 1024

# Runs in any Python from 2.7 on. argv: two halves of a token, our magic, the oldest version we serve.
# Prints "\n<second half><first half> <fields in hex>\n" and, asked to compile and able to, the payload.
# Nothing is imported from sys.path, where a module of the current directory could stand in the way.
_PROBE = r"""
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import os
def text(value):
    if not isinstance(value, bytes):
        value = value.encode("utf-8", "surrogateescape")
    return "".join(["%02x" % byte for byte in bytearray(value)])
def put(*words):
    data = ("\n" + sys.argv[2] + sys.argv[1] + " " + " ".join(words) + "\n").encode("ascii")
    while data:
        data = data[os.write(1, data):]
try:
    from _frozen_importlib_external import MAGIC_NUMBER as magic
except ImportError:
    magic = b""
kind = getattr(sys, "implementation", None)
put("facts", "%d.%d.%d" % tuple(sys.version_info[:3]),
    text(getattr(kind, "name", "")), text(magic), text(getattr(kind, "cache_tag", None) or ""),
    text(sys.prefix), text(sys.executable or ""), text(getattr(sys, "abiflags", "")))
if kind is not None and kind.name == "cpython" and sys.argv[4] == "compile" and text(magic) != sys.argv[3]:
    import marshal
    try:
        codes = {}
        for name, source in marshal.loads(sys.stdin.buffer.read()).items():
            code = compile(source, "<extsession>/%s.py" % name, "exec", dont_inherit=True)
            codes[name] = marshal.dumps(code)
        codes = marshal.dumps(codes, 2)
    except BaseException as error:
        put("refused", text("%s: %s" % (type(error).__name__, error)))
    else:
        from binascii import b2a_base64
        put("payload", b2a_base64(codes, newline=False).decode("ascii"))
put("end")
os._exit(0)
"""


@dataclass(frozen=True)
class Interpreter:
    """A CPython that can run a worker.

    path: absolute, symlinks kept; implementation: as sys.implementation.name; magic: of its .pyc files;
    is_this: the program and environment of this very process; abiflags: "t" if free-threaded;
    payload: the worker's code as compiled and marshalled by that interpreter, opaque to us; None where
    our own compiler does as well (same magic) or none was asked for.
    """

    path: str
    version: tuple[int, int, int]
    implementation: str
    magic: bytes
    cache_tag: str
    prefix: str
    is_this: bool
    abiflags: str = ""
    payload: bytes | None = field(default=None, repr=False, compare=False)


# Plain dicts, no lock: each access is one atomic operation and the worst of a race is a second probe, so
# that neither a thread nor a fork can find them locked.
_probed: dict[Key, tuple[Interpreter, str]] = {}


def asked(path: str, timeout: float, sources: Mapping[str, str] | None) -> tuple[Interpreter, str]:
    """Return what the interpreter at `path` is and the sys.executable it states, asking once."""
    file = key_of(path)
    bare = known = (*file, None)
    wire = None
    if sources is not None and (bare not in _probed or _probed[bare][0].magic != importlib.util.MAGIC_NUMBER):
        wire = marshal.dumps(dict(sources), 2)
        known = (*file, hashlib.sha256(wire).digest())
    if known not in _probed:
        one, executable = _probed[known] = _ask(path, timeout, wire)
        _probed[bare] = (replace(one, payload=None), executable)
    return _probed[known]


def _ask(path: str, timeout: float, wire: bytes | None) -> tuple[Interpreter, str]:
    """Return what the interpreter at `path` answers and the sys.executable it states."""
    first, second = secrets.token_hex(16), secrets.token_hex(16)
    task = "describe" if wire is None else "compile"
    command = [path, "-c", _PROBE, first, second, importlib.util.MAGIC_NUMBER.hex(), task]
    token = (second + first).encode()
    out, err, status = _run(command, wire or b"", token, timeout)

    def bad(why: str) -> InterpreterError:
        return InterpreterError(
            f"{path!r} {why}", python=path, command=[path, "-c", "..."], stderr=err.decode("utf-8", "replace")
        )

    answers: dict[bytes, list[bytes]] = {}
    for line in out.split(b"\n"):
        start, _, words = line.partition(token + b" ")
        if not start and words:
            kind, *values = words.split(b" ")
            answers.setdefault(kind, values)
    if b"facts" not in answers:
        why = {
            "late": f"did not answer within {timeout:g} s",
            "flood": f"printed {_FLOOD} bytes and no answer",
        }.get(status, f"ended with {status} and no answer")
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise bad(f"is not a Python interpreter, or cannot start: it {why}" + (f" ({last})" if last else ""))
    try:
        number, *texts = answers[b"facts"]
        version = tuple(int(part) for part in number.split(b"."))
        name, magic, cache_tag, prefix, executable, abiflags = (_unhex(text) for text in texts)
        if len(version) != 3:
            raise ValueError(number)
    except ValueError:
        raise bad("does not answer as Python does") from None
    if version < OLDEST:
        raise bad(f"is Python {number.decode()}, which is too old: extsession needs 3.8 or newer")
    if name != b"cpython":
        raise InterpreterError(not_cpython(path, os.fsdecode(name)), python=path)
    payload = None
    if wire is not None and magic != importlib.util.MAGIC_NUMBER:
        if b"payload" not in answers:
            said = _unhex(b"".join(answers.get(b"refused", ()))).decode("utf-8", "replace")
            raise bad(f"cannot compile the worker's code: {said or status}")
        payload = a2b_base64(b"".join(answers[b"payload"]))
    one = Interpreter(
        path=path,
        version=version,
        implementation=os.fsdecode(name),
        magic=magic,
        cache_tag=os.fsdecode(cache_tag),
        prefix=os.fsdecode(prefix),
        is_this=False,
        abiflags=os.fsdecode(abiflags),
        payload=payload,
    )
    if sys.executable and one.prefix == sys.prefix:
        one = replace(one, is_this=os.path.realpath(path) == os.path.realpath(sys.executable))
    return one, os.fsdecode(executable)


def _unhex(text: bytes) -> bytes:
    return bytes.fromhex(text.decode("ascii"))


def not_cpython(path: str, name: str) -> str:
    return f"{path!r} is {name}: extsession needs CPython ({platform.python_implementation()} runs it here)"


def _run(command: list[str], data: bytes, token: bytes, timeout: float) -> tuple[bytes, bytes, str]:
    """Run `command` to its answer, its end or the deadline: (stdout, tail of stderr, how it ended).

    Nothing of its process group is left. `data` is its stdin, a file: nobody has to wait until it is read.
    """
    deadline = time.monotonic() + timeout
    with _stdin(data) as stdin:
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise InterpreterError(
                f"{command[0]!r} cannot be run: {error.strerror or error}",
                python=command[0],
                command=[*command[:2], "..."],
            ) from error
    try:
        out, err, status = _collect(process, b"\n" + token + b" end\n", deadline)
    finally:
        # The leader is not reaped yet, so the group's number cannot have passed to others.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        try:
            code = process.wait(5.0)
        except subprocess.TimeoutExpired:  # killed, but stuck in the kernel: a dead network disk
            code = -signal.SIGKILL
    return out, err, status or _ended(code)


def _stdin(data: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile() if data else open(os.devnull, "rb")
    if data:
        file.write(data)
        file.seek(0)
    return file


def _collect(process: subprocess.Popen[bytes], end: bytes, deadline: float) -> tuple[bytes, bytes, str]:
    out, err, total, status = bytearray(), bytearray(), 0, ""
    with selectors.DefaultSelector() as selector:
        for stream, buffer in ((process.stdout, out), (process.stderr, err)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, buffer)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                total += len(chunk)
                key.data.extend(chunk)
                if key.data is out and end in out[-len(chunk) - len(end) :]:
                    return bytes(out), bytes(err), "answered"
            del err[:-_STDERR_KEPT]
            if total > _FLOOD:
                status = "flood"
                break
            if time.monotonic() >= deadline:
                status = "late"
                break
        else:
            # Both streams are at their end: it exits now, or closed them and lives on until the deadline.
            status = _await_exit(process.pid, deadline)
    return bytes(out), bytes(err), status


def _await_exit(pid: int, deadline: float) -> str:
    """Wait for `pid` to exit, without reaping it; return "late" if it does not."""
    pause = 0.001
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: nothing else leaves it unreaped
        time.sleep(max(0.0, min(0.2, deadline - time.monotonic())))
        return ""
    with suppress(ChildProcessError):  # reaped by someone else: SIGCHLD ignored, or a wait for any child
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() >= deadline:
                return "late"
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
    return ""


def _ended(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
