"""A pytest in another interpreter: it collects once, and forks for each test that is asked for.

It is told what to do through a socket, and has one test at a time. A request comes with three descriptors, those of
`host.Host.start`; so what a test's process tells goes straight to who asked.

    -> ["run", node id, order] + descriptors      <- ["pid", number] | ["missing", why]
                                                  <- ["ended", status, cpu, peak memory, stdout, stderr]
    -> ["quit"], or end of file
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import sys

import pytest

from . import wire
from .host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FDS = 3
_PR_SET_CHILD_SUBREAPER = 36


def main(control: socket.socket, settings: dict[str, Any]) -> int:
    """settings: args of pytest; ini (name, type, default, help) and markers (lines) that the plugin has registered."""
    return int(pytest.main(settings["args"], plugins=[Worker(control, settings)]))


class Worker:
    """The plugin that answers requests instead of running all tests."""

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self._control = control
        self._settings = settings
        self._decoder = wire.Decoder()
        self._errors: list[str] = []
        self._fds: list[int] = []

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        for name, kind, default, text in self._settings["ini"]:
            parser.addini(name, text, type=kind, default=default)

    def pytest_configure(self, config: pytest.Config) -> None:
        for line in self._settings["markers"]:
            config.addinivalue_line("markers", line)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.append("%s\n%s" % (report.nodeid, report.longreprtext))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        _become_reaper()
        host = Host(session.config)
        items = {item.nodeid: item for item in session.items}
        self._tell(["ready", ".".join(map(str, sys.version_info[:3])), pytest.__version__])
        while True:
            request = self._next()
            if request is None or request[0] == "quit":
                return True
            fds, self._fds = self._fds, []
            try:
                self._run(host, items, request[1], request[2], fds)
            finally:
                for fd in fds:
                    with contextlib.suppress(OSError):
                        os.close(fd)

    def _run(self, host: Host, items: dict[str, Any], nodeid: str, order: dict[str, Any], fds: list[int]) -> None:
        item = items.get(nodeid)
        if item is None:
            self._tell(["missing", "\n".join(self._errors)])
            return
        started = host.start(item, order, (fds[0], fds[1], fds[2]), _nothing, None)
        host.unmask()
        os.close(fds.pop(0))  # so that its end is seen
        self._tell(["pid", started.pid])
        _, status, usage = os.wait4(started.pid, 0)
        out, err = host.taken_output()
        with contextlib.suppress(ChildProcessError):  # of those that it has left, which come to us
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        self._tell(["ended", status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, out, err])

    def _tell(self, message: list[Any]) -> None:
        self._control.sendall(wire.pack(message))

    def _next(self) -> list[Any] | None:
        """The next request; None: nobody asks any more."""
        while True:
            size = array.array("i").itemsize * _FDS
            data, extra, _, _ = self._control.recvmsg(1 << 16, socket.CMSG_SPACE(size))
            for level, kind, body in extra:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(body[: len(body) - len(body) % numbers.itemsize])
                    self._fds += numbers
            if not data:
                return None
            found = self._decoder.feed(data)
            if found:
                return found[0]


def _nothing() -> None:
    pass


def _become_reaper() -> None:
    """What a test leaves comes to us, where its marks tell whose it is (Linux 3.4)."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
