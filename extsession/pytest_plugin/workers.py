"""A worker: pytest in another interpreter, as `_inner/worker.py` is there, and the tests that it was asked for.

An ExtSession finds the interpreter, starts the worker, and is who ends all that is below it, whatever becomes of us.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from extsession import ExtSession, ExtSessionError, InterpreterError
from extsession.processes import ProcessTree, new_mark

from . import INI, MARKERS
from ._inner import wire
from .settings import Settings
from .watch import Ended, Seen, Watch

#: seconds in which a worker must have collected its tests
COLLECT: Final = 120.0
#: the oldest pytest that a worker runs with
OLDEST: Final = (7, 4)
_MODULES: Final = ("wire", "internals", "child", "host", "worker")
#: in the session: a process that has nothing of the session's
_START: Final = """
import os, subprocess, sys
with open(output, "wb") as file:
    process = subprocess.Popen([sys.executable, "-c", boot, path], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                               cwd=cwd, env=env)
"""
#: in that process: takes the modules over and runs them from memory
_BOOT: Final = """
import json, socket, struct, sys, types
control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
control.connect(sys.argv[1])
def take(size):
    data = b""
    while len(data) < size:
        more = control.recv(size - len(data))
        if not more:
            sys.exit("nobody is there")
        data += more
    return data
told = json.loads(take(struct.unpack("!I", take(4))[0]).decode("ascii"))
sys.argv[:] = ["pytest"]
package = sys.modules["extsession_isolated"] = types.ModuleType("extsession_isolated")
package.__path__ = []
for name, text in told["modules"]:
    module = types.ModuleType("extsession_isolated." + name)
    module.__package__ = "extsession_isolated"
    module.__file__ = "<extsession>/_inner/%s.py" % name
    sys.modules[module.__name__] = module
    exec(compile(text, module.__file__, "exec", dont_inherit=True), module.__dict__)
    setattr(package, name, module)
sys.exit(package.worker.main(control, told["settings"]))
"""


class CannotRun(Exception):
    """A test cannot be run there. is_missing: for want of the interpreter."""

    def __init__(self, text: str, is_missing: bool = False) -> None:
        super().__init__(text)
        self.is_missing = is_missing


@dataclass
class Result:
    """Of one test, for who reports it. problem: why there is none; output: of its last phase, if that was not told."""

    problem: CannotRun | None = None
    seen: Seen = field(default_factory=Seen)
    messages: list[list[Any]] = field(default_factory=list)
    output: tuple[str, str] = ("", "")
    stacks: int = -1
    log: int = -1
    files: list[Any] = field(default_factory=list)

    def close(self) -> None:
        for file in self.files:
            file.close()


class Job:
    """A test that was asked for. done: it has a result."""

    def __init__(self, nodeid: str, settings: Settings, order: dict[str, Any]) -> None:
        self.nodeid = nodeid
        self.settings = settings
        self.order = order
        self.done = threading.Event()
        self.result = Result()


class _Remote:
    """A test's process in a worker, for `Watch`."""

    def __init__(self, pid: int, control: socket.socket, read: Callable[[], list[Any] | None]) -> None:
        self.pid = pid
        self.fd = control.fileno()
        self._read = read
        self.output = ("", "")

    def collect(self) -> Ended | None:
        message = self._read()
        if message is None:  # the worker has ended
            return Ended(-1)
        _, status, cpu, peak, out, err = message
        self.output = out, err
        return Ended(status, cpu, peak)

    def close(self) -> None:
        pass


class Worker:
    """One for each interpreter. Its thread runs what was asked for, one test after the other.

    paths: what it collects. is_free: as many are at work at the same time as this lets through.
    """

    def __init__(
        self, python: str | None, config: pytest.Config, paths: list[str], is_free: threading.Semaphore
    ) -> None:
        self._python = python
        self._config = config
        self._paths = paths
        self._is_free = is_free
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._session: ExtSession | None = None
        self._control: socket.socket | None = None
        self._folder = ""
        self._name = "this Python" if python is None else f"Python {python}"
        self._broken: CannotRun | None = None
        self._closed = False
        self._pid = 0
        self.outstanding = 0
        self._thread = threading.Thread(target=self._work, name=f"isolated-{python or 'spawn'}", daemon=True)
        self._thread.start()

    def ask(self, job: Job) -> None:
        self.outstanding += 1
        self._jobs.put(job)

    def close(self) -> None:
        """End it, and all that it has started, at once."""
        self._closed = True
        self._jobs.put(None)
        session = self._session
        if session is not None:
            session.kill()
        self._thread.join(10.0)

    # in the thread

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._is_free:
                try:
                    self._run(job)
                except CannotRun as error:
                    job.result.problem = error
                except Exception as error:
                    job.result.problem = CannotRun(f"isolated: {self._name} failed: {type(error).__name__}: {error}")
                    self._end()
            job.done.set()
        self._end()

    def _run(self, job: Job) -> None:
        if self._broken is not None:
            raise self._broken
        if self._control is None:
            try:
                self._start()
            except CannotRun as error:  # it would not be there the next time either
                self._broken = error
                self._end()
                raise
        assert self._control is not None
        result = job.result
        files = [tempfile.TemporaryFile(buffering=0), tempfile.TemporaryFile(buffering=0)]
        result.files = files
        result.stacks, result.log = files[0].fileno(), files[1].fileno()
        reader, writer = os.pipe()
        mark = new_mark(self._pid)
        try:
            try:
                request = wire.pack(["run", job.nodeid, {**job.order, "mark": mark[0]}])
                socket.send_fds(self._control, [request[:1]], [writer, result.stacks, result.log])
                self._control.sendall(request[1:])
            finally:
                os.close(writer)
            answer = self._next(COLLECT)
            if answer is None:
                raise self._ended_early()
            if answer[0] == "missing":
                raise CannotRun(f"isolated: {self._name} did not collect {job.nodeid}\n{answer[1]}".rstrip())
            child = _Remote(answer[1], self._control, lambda: self._next(COLLECT))
            tree = ProcessTree(child.pid, mark, self._pid, job.settings.memory)
            timeout = job.settings.timeout
            watch = Watch(child, tree, reader, timeout, job.settings.call_timeout, result.messages.append)
            result.seen = watch.run(_nothing)
            result.output = child.output
            if result.seen.ended is not None and result.seen.ended.status < 0:
                raise self._ended_early()
        finally:
            os.close(reader)

    def _ended_early(self) -> CannotRun:
        text = f"isolated: pytest in {self._name} has ended\n{self._output()}".rstrip()
        self._end()
        return CannotRun(text)

    def _start(self) -> None:
        try:
            session = self._session = ExtSession(self._python)
        except InterpreterError as error:
            name = "Python" if self._python is None else f"Python {self._python}"
            raise CannotRun(f"isolated: no {name} found", is_missing=True) from error
        except ExtSessionError as error:
            raise CannotRun(f"isolated: {self._name} did not start: {error}") from error
        path, version = session.interpreter.path, session.interpreter.version
        self._name = f"Python {version[0]}.{version[1]}"
        found = session.eval("__import__('importlib.util', fromlist=['x']).find_spec('pytest') is not None")
        if not found:
            raise CannotRun(
                f"isolated: pytest is not installed in {self._name} ({path}); {path} -m pip install pytest there"
            )
        installed = session.eval("tuple(int(x) for x in __import__('pytest').__version__.split('.')[:2])")
        if tuple(installed) < OLDEST:
            number = ".".join(map(str, installed))
            raise CannotRun(f"isolated: pytest {number} in {self._name} is too old; 7.4 is the oldest")
        self._folder = tempfile.mkdtemp(prefix="extsession-")
        if len(self._folder) > 80:  # sun_path has 108 bytes, unix(7)
            os.rmdir(self._folder)
            self._folder = tempfile.mkdtemp(prefix="extsession-", dir="/tmp")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.path.join(self._folder, "control"))
            listener.listen(1)
            listener.settimeout(30.0)
            session["boot"], session["path"] = _BOOT, os.path.join(self._folder, "control")
            session["output"] = os.path.join(self._folder, "output")
            session["cwd"] = str(self._config.invocation_params.dir)
            session["env"] = _environment(os.environ)
            results = session.execute(_START).wait()
            if results.error is not None:
                raise CannotRun(f"isolated: {self._name} did not start: {results.error}") from results.error
            try:
                self._control, _ = listener.accept()
            except OSError as error:
                raise CannotRun(f"isolated: {self._name} did not start: {error}\n{self._output()}".rstrip()) from None
        self._pid = session.eval("process.pid")
        told = {"modules": _modules(), "settings": self._settings()}
        self._control.sendall(wire.pack(told))
        ready = self._next(COLLECT)
        if ready is None:
            text = f"isolated: pytest in {self._name} did not start\n{self._output()}"
            raise CannotRun(text.rstrip())

    def _settings(self) -> dict[str, Any]:
        """What is the same there: the configuration. Options of plugins are not: they may not be installed there."""
        option = self._config.option
        args = [f"--rootdir={self._config.rootpath}", "-p", "no:extsession", "-o", "addopts="]
        args += ["-o", f"cache_dir={os.path.join(self._folder, 'cache')}"]
        if self._config.inipath is not None:
            args += ["-c", str(self._config.inipath)]
        for name in option.plugins or ():
            args += ["-p", name]
        for text in option.override_ini or ():
            args += ["-o", text]
        for text in getattr(option, "pythonwarnings", None) or ():
            args += ["-W", text]
        args += [f"--import-mode={option.importmode}", *self._paths]
        return {"args": args, "ini": [list(each) for each in INI], "markers": list(MARKERS)}

    def _next(self, timeout: float) -> list[Any] | None:
        """The next message of the worker; None: it has ended, or does not answer."""
        try:
            (length,) = wire.LENGTH.unpack(self._exactly(wire.LENGTH.size, timeout))
            (found,) = wire.Decoder().feed(wire.LENGTH.pack(length) + self._exactly(length, timeout))
            return found
        except (OSError, ValueError, EOFError):
            return None

    def _exactly(self, size: int, timeout: float) -> bytes:
        """Not a byte more: what comes after it is waited for by a poll."""
        assert self._control is not None
        self._control.settimeout(timeout)
        data = b""
        while len(data) < size:
            more = self._control.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _output(self) -> str:
        with contextlib.suppress(OSError):
            return Path(self._folder, "output").read_text("utf-8", "replace")[-4000:]
        return ""

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(ExtSessionError):
                session.kill()
            session.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""


def _nothing() -> None:
    pass


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Of this process, without what is for this pytest or this interpreter only."""
    return {
        name: text
        for name, text in env.items()
        if name not in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTHONHOME", "__PYVENV_LAUNCHER__")
        and not name.startswith(("PYTEST_XDIST_", "COV_CORE_", "COVERAGE_PROCESS_"))
    }


def _modules() -> list[tuple[str, str]]:
    folder = Path(__file__).parent / "_inner"
    return [(name, (folder / f"{name}.py").read_text("utf-8")) for name in _MODULES]
