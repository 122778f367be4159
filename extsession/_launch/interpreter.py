"""Find a Python interpreter and ask it what it is.

Harder than it looks, because what is asked need not be Python at all: it may print without end, never
answer, read its stdin, or leave processes behind. So the question is one short process in a session of
its own, with a deadline, a bound on what it prints and a kill of its whole group; and the answer is
recognised by a random token that a program which merely repeats its arguments does not put together.

Paths are made absolute but symlinks are kept: it is the path by which a virtual environment's python
knows that it belongs there.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import marshal
import os
import platform
import re
import secrets
import selectors
import signal
import stat
import subprocess
import sys
import tempfile
import time
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO, TypeAlias

from ..errors import InterpreterError

Python: TypeAlias = "str | os.PathLike[str] | None"

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


_Key: TypeAlias = "tuple[object, ...]"

# Plain dicts, no lock: each access is one atomic operation and the worst of a race is a second probe, so
# that neither a thread nor a fork can find them locked.
_probed: dict[_Key, tuple[Interpreter, str]] = {}
_looked_up: dict[_Key, tuple[str, _Key]] = {}


def find(
    python: Python = None, *, sources: Mapping[str, str] | None = None, timeout: float = 10.0
) -> Interpreter:
    """Return the interpreter that `python` names.

    python: None is this process's own (no process is started to look); a path to an executable; a version
    ("3.12", "3.12.1", "python3.12"), looked up on PATH, then in the usual places, where the newest patch
    wins; the folder of a virtual environment; or a command on PATH.
    sources, timeout: as for `probe`; timeout is for each interpreter asked.
    Raises InterpreterError, which names it, for one that is missing, too old, not CPython, or not Python;
    TypeError for a number: 3.10 is 3.1.
    """
    if python is None:
        return _this()
    if not isinstance(python, (str, os.PathLike)):
        hint = f': write python="{python}"' if isinstance(python, (int, float)) else ""
        raise TypeError(f"python must be a path or a version as a string, not {python!r}{hint}")
    name = os.fsdecode(python)
    if not name or "\0" in name:
        raise InterpreterError(f"python={name!r} names no interpreter", python=name)
    if isinstance(python, str) and os.sep not in name:
        wanted = re.fullmatch(r"(?:python)?(\d+(?:\.\d+){0,2})?(t?)", name)
        if wanted and (wanted[1] or name == "python"):
            version = tuple(int(part) for part in (wanted[1] or "3").split("."))
            return _find_version(name, version, wanted[2], sources, timeout)
        if not os.path.exists(name):
            for path in _on_path([name]):
                return probe(path, timeout, sources)
            raise InterpreterError(
                f"no Python interpreter {name!r}: it is neither a file, a version such as '3.12', "
                "nor a command on PATH",
                python=name,
            )
    return probe(_in_folder(_absolute(os.path.expanduser(name))), timeout, sources)


def probe(
    path: str | os.PathLike[str], timeout: float = 10.0, sources: Mapping[str, str] | None = None
) -> Interpreter:
    """Run the interpreter at `path` once and return what it says of itself.

    timeout: seconds until it is given up and killed with all of its process group.
    sources: module name -> source, compiled by that interpreter into `payload` if its magic is not ours.
    The answer is kept until the file changes. Raises InterpreterError as `find` does.
    """
    return _asked(_absolute(os.fsdecode(path)), timeout, sources)[0]


def candidates(timeout: float = 5.0) -> list[Interpreter]:
    """Return every usable CPython on PATH and in the usual places, newest first.

    One for each real file; this process's own interpreter stands for its file. timeout: seconds for each
    one asked. What does not answer, or is none we can use, is left out.
    """
    own = []
    with suppress(InterpreterError):
        own.append(_this())
    paths: dict[str, list[str]] = {}
    for path in [*_path_entries(), *_usual_places()]:
        # A version manager's shims lead to what is found below its own folder.
        if os.path.basename(os.path.dirname(path)) != "shims":
            paths.setdefault(os.path.realpath(path), []).append(path)
    for this in own:
        paths.pop(os.path.realpath(this.path), None)

    def first(names: Iterable[str]) -> Interpreter | None:
        for name in dict.fromkeys(names):
            with suppress(InterpreterError):
                return probe(name, timeout)
        return None

    with ThreadPoolExecutor(4, thread_name_prefix="extsession-probe") as threads:
        found = own + [one for one in threads.map(first, paths.values()) if one is not None]
    return sorted(found, key=lambda one: one.version, reverse=True)


# -- by name


def _this() -> Interpreter:
    path = sys.executable
    if not path:
        raise InterpreterError(
            "this process does not know its own interpreter (sys.executable is empty, as when Python is "
            "embedded): name one with python="
        )
    path = _absolute(path)
    _key(path)
    if sys.implementation.name != "cpython":
        raise InterpreterError(_not_cpython(path, sys.implementation.name), python=path)
    return Interpreter(
        path=path,
        version=sys.version_info[:3],
        implementation=sys.implementation.name,
        magic=importlib.util.MAGIC_NUMBER,
        cache_tag=sys.implementation.cache_tag or "",
        prefix=sys.prefix,
        is_this=True,
        abiflags=sys.abiflags,
    )


def _find_version(
    name: str, version: tuple[int, ...], flags: str, sources: Mapping[str, str] | None, timeout: float
) -> Interpreter:
    if version < OLDEST[: len(version)]:
        raise InterpreterError(f"Python {name!r} is too old: extsession needs 3.8 or newer", python=name)
    # What a version manager's shim leads to depends on these.
    around = [os.environ.get(variable) for variable in ("PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION")]
    spec = (version, flags, *around, _here())
    with suppress(KeyError, InterpreterError):
        path, key = _looked_up[spec]
        if _key(path) == key:
            return probe(path, timeout, sources)

    def fits(one: Interpreter) -> bool:
        return one.version[: len(version)] == version and ("t" in one.abiflags) == bool(flags)

    best: Interpreter | None = None
    for path in _on_path(_names(version, flags)):
        with suppress(InterpreterError):
            one = _direct(path, timeout, sources)
            if fits(one):
                best = one
                break
    else:
        others: list[Interpreter] = []
        with suppress(InterpreterError):
            others.append(_this())
        for path in dict.fromkeys(_usual_places(version)):
            with suppress(InterpreterError):
                others.append(probe(path, timeout, sources))
        best = max(filter(fits, others), key=lambda one: one.version, default=None)
    if best is None:
        raise InterpreterError(
            f"no Python {name!r} found on PATH or in the usual places: name its path with python=",
            python=name,
        )
    _looked_up[spec] = (best.path, _key(best.path))
    return best


def _direct(path: str, timeout: float, sources: Mapping[str, str] | None) -> Interpreter:
    """Return what is found on PATH at `path`, or what that leads to if it is a shim.

    A shim is slow, and where it leads may change with the folder it is run in.
    """
    one, behind = _asked(path, timeout, sources)
    if _is_script(path) and os.path.isabs(behind):
        with suppress(InterpreterError):
            real = probe(behind, timeout, sources)
            # A script that sets something up, without which the program is another one, stays.
            if (real.version, real.prefix) == (one.version, one.prefix):
                return real
    return one


def _in_folder(path: str) -> str:
    """Return the interpreter of the virtual environment, or prefix, at `path`; a file is itself."""
    if not os.path.isdir(path):
        return path
    for name in ("python", "python3"):
        inner = os.path.join(path, "bin", name)
        if os.path.lexists(inner):
            return inner
    is_venv = os.path.exists(os.path.join(path, "pyvenv.cfg"))
    what = "a virtual environment without bin/python" if is_venv else "a folder, and no virtual environment"
    raise InterpreterError(f"no Python interpreter at {path!r}: it is {what}", python=path)


def _names(version: tuple[int, ...], flags: str) -> list[str]:
    names = [f"python{'.'.join(map(str, version[:2]))}{flags}"] if len(version) > 1 else []
    return list(dict.fromkeys([*names, f"python{version[0]}", "python"]))


def _path_folders() -> list[str]:
    return [_absolute(folder) for folder in os.get_exec_path() if folder]


def _on_path(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        for folder in _path_folders():
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                yield path


def _path_entries() -> Iterator[str]:
    for folder in dict.fromkeys(_path_folders()):
        yield from _pythons_in(folder)


def _pythons_in(pattern: str) -> Iterator[str]:
    """Yield the files named as an interpreter is in the folders that match `pattern`."""
    for path in sorted(glob.glob(os.path.join(pattern, "python*"))):
        if re.fullmatch(r"python(3(\.\d+)?t?)?", os.path.basename(path)) and os.access(path, os.X_OK):
            yield path


def _usual_places(version: tuple[int, ...] = ()) -> Iterator[str]:
    """Yield what may be an interpreter in the places where installers put them.

    version: leave out what by its path is of another one.
    """
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    pyenv = os.environ.get("PYENV_ROOT") or f"{home}/.pyenv"
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python"
    number = ".".join(map(str, version)) + "*" if version else "3.*"
    minor = ".".join(map(str, version[:2])) + "*" if version else "3.*"
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/*/bin", f"{home}/.local/bin", "/opt/homebrew/bin"):
        yield from _pythons_in(folder)
    for pattern in (
        f"{pyenv}/versions/{number}/bin/python",
        f"{uv}/cpython-{number}/bin/python",
        f"{home}/.asdf/installs/python/{number}/bin/python",
        f"{data}/mise/installs/python/{number}/bin/python",
        f"/Library/Frameworks/Python.framework/Versions/{minor}/bin/python3",
        f"/opt/homebrew/opt/python@{minor}/bin/python3.*",
        f"/usr/local/opt/python@{minor}/bin/python3.*",
    ):
        yield from sorted(path for path in glob.glob(pattern) if not path.endswith("-config"))
    roots = [os.environ.get("CONDA_PREFIX") or "", "/opt/conda"]
    roots += [f"{home}/{name}" for name in ("miniconda3", "anaconda3", "miniforge3", "mambaforge")]
    for root in roots:
        if root:
            yield from glob.glob(f"{glob.escape(root)}/bin/python")
            yield from sorted(glob.glob(f"{glob.escape(root)}/envs/*/bin/python"))
    yield from sorted(glob.glob(f"{home}/.conda/envs/*/bin/python"))


# -- by path


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # removed under us
        return None


def _absolute(path: str) -> str:
    if not os.path.isabs(path):
        here = _here()
        if here is None:
            raise InterpreterError(
                f"{path!r} is relative and the current directory is gone: name an absolute path", python=path
            )
        path = os.path.join(here, path)
    # "link/.." is not the folder of the link: only the kernel may resolve that.
    return path if os.pardir in path.split(os.sep) else os.path.normpath(path)


def _is_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _key(path: str) -> _Key:
    """Return what the file at `path` is known by, or raise InterpreterError if it cannot be run."""

    def bad(why: str) -> InterpreterError:
        return InterpreterError(f"no Python interpreter at {path!r}: {why}", python=path)

    try:
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise bad(f"it is a broken link to {os.readlink(path)!r}") from None
        raise bad("there is no such file") from None
    except OSError as error:
        raise bad(error.strerror or str(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise bad("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise bad("it is not a regular file")
    if not os.access(path, os.X_OK):
        raise bad("it is not executable")
    key = (path, status.st_mtime_ns, status.st_size, status.st_ino)
    # What a script runs may depend on where, and on what a version manager is told.
    return (*key, _here(), os.environ.get("PYENV_VERSION")) if _is_script(path) else key


# -- the question


def _asked(path: str, timeout: float, sources: Mapping[str, str] | None) -> tuple[Interpreter, str]:
    """Return what the interpreter at `path` is and the sys.executable it states, asking once."""
    file = _key(path)
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
        raise InterpreterError(_not_cpython(path, os.fsdecode(name)), python=path)
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


def _not_cpython(path: str, name: str) -> str:
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
