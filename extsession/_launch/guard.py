"""The guard: ends running commands when this process is gone, also by SIGKILL.

Commands are children of ours, so that they inherit what any child does, and have no warden. The guard is one small
process for all of them. It is told of each, and reads the end of file when we are gone. It is started with the first
command, and ends with us.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from .offspring import Offspring

#: loads the modules beside this one, and not the package, which takes long
_START = """\
import sys, types
package = types.ModuleType("guard_of_extsession")
package.__path__ = [sys.argv[1]]
sys.modules[package.__name__] = package
sys.path += sys.argv[2:]
from guard_of_extsession.guard import serve
serve()
"""


class Guard:
    """Of this process. Its lines: + pid signature began, of a command that runs; - pid, of one that has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, offspring: Offspring) -> None:
        pid = offspring.pid
        line = b"+ %d %d %d\n" % (pid, offspring.signature, offspring.began)
        with self._lock:
            self._running[pid] = line
            self._tell(line)

    def remove(self, pid: int) -> None:
        with self._lock:
            if self._running.pop(pid, None) is not None:
                self._tell(b"- %d\n" % pid)

    def _tell(self, line: bytes) -> None:
        """Where there is no guard, because it was killed or never came to be, there is another one."""
        process = self._process
        if process is not None:
            assert process.stdin is not None
            try:
                os.write(process.stdin.fileno(), line)
                return
            except OSError:
                self._dismiss(process)
        if not self._running or not sys.executable:
            return
        try:
            self._process = process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, str(Path(__file__).parent), *_needed_paths()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
                cwd="/",
            )
        except OSError:  # no process, no memory: the command runs all the same
            return
        assert process.stdin is not None
        try:
            process.stdin.write(b"".join(self._running.values()))  # all of it, however much, for a new one reads
            os.set_blocking(process.stdin.fileno(), False)  # one that does not read, as it is stopped, is replaced
        except OSError:
            self._dismiss(process)

    def _dismiss(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.kill()
        process.wait()
        self._process = None

    def leave(self) -> None:
        """This process ends: so does the guard, and what still runs with it. It is not waited for."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                assert process.stdin is not None
                process.stdin.close()
                process.returncode = 0  # or Popen complains that it runs

    def forked(self) -> None:
        """In a child of ours: the commands are our parent's."""
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # so that Popen does not wait for a process that is not its child
            assert process.stdin is not None
            process.stdin.close()
        self.__init__()  # type: ignore[misc]


def _needed_paths() -> list[str]:
    """Where that is which looks at processes on other systems than Linux."""
    if sys.platform == "linux":
        return []
    psutil = importlib.util.find_spec("psutil")
    return [] if psutil is None or psutil.origin is None else [str(Path(psutil.origin).parent.parent)]


guard = Guard()
atexit.register(lambda: guard.leave())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: guard.forked())


def serve() -> None:
    """The guard's main function."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    running: dict[int, Offspring] = {}
    rest = b""
    while data := os.read(0, 2**16):
        *lines, rest = (rest + data).split(b"\n")
        for words in map(bytes.split, lines):
            if words[0] == b"+":
                pid, signature, began = map(int, words[1:])
                running[pid] = Offspring(pid, signature, began)
            else:
                running.pop(int(words[1]), None)
    for offspring in running.values():
        offspring.strike()  # all of them first: the search for orphans takes a while
    for offspring in running.values():
        offspring.end(with_root=True)
