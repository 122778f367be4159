"""The life of a test's process, from the fork to `os._exit`.

It has all that its parent had. So before anything of the test runs it is put apart: a process group of its own, death
with the parent, nothing to read on stdin, limits, a mark by which all that it starts is found. What would be shown is
sent.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import os
import resource
import signal
import sys
import threading
import traceback

import pytest

from . import internals, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

#: on this one all threads' stacks are written, and the process ends: nothing else uses it
STACK_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
#: bytes above the memory limit that are left for telling of a MemoryError
RESERVE = 32 * 2**20
NO_DEBUGGER = "isolated: no debugger in an isolated test; run it with --no-isolated"
_RLIMIT_LOCKS = 10
_PR_SET_PDEATHSIG = 1


@functools.lru_cache(maxsize=None)
def _prctl() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return ctypes.CDLL(None).prctl


def prepare() -> None:
    """Before the first fork: what every child needs."""
    _prctl()


class Life:
    """A plugin that does nothing but in a child."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._pid = 0
        self._channel = -1
        self._log = -1
        self._logs: list[logging.LogRecord] = []
        self._memory: int | None = None
        self._lock: Any = None
        self._waiting = b""

    def live(
        self,
        item: pytest.Item,
        order: dict[str, Any],
        fds: tuple[int, int, int],
        first: Callable[[], None] | None,
        logs: list[logging.LogRecord],
        mask: Any,
    ) -> NoReturn:
        """Run the test and end.

        order: fixtures ("shared" or "fresh"), fresh (patterns), memory and cpu (bytes, seconds, or None), mark, env,
        dump_after (seconds of faulthandler_timeout, 0: none). fds, first: see `host.Host.start`. logs: of fixtures that
        the parent has set up. mask: signals to be blocked.
        """
        try:
            self._pid, self._logs = os.getpid(), logs
            self._channel, trace, self._log = fds
            parent = os.getppid()
            self._lock = threading.Lock()
            _put_apart(order, trace, parent, mask)
            self._memory = order["memory"]
            self._run(item, order, first)
        except BaseException:
            with contextlib.suppress(BaseException):
                self._send(["failed", traceback.format_exc()])
        finally:
            with contextlib.suppress(BaseException):
                internals.flush(self._config)
            os._exit(0)

    def _run(self, item: pytest.Item, order: dict[str, Any], first: Callable[[], None] | None) -> None:
        session = item.session
        internals.redirect(item, self._on_report, self._on_warning)
        if order["fixtures"] == "fresh":
            internals.forget_fixtures(session, ["*"])
        elif order["fresh"]:
            internals.forget_fixtures(session, order["fresh"])
        internals.keep_what_is_there(session)
        _without_debugger()
        before = session.shouldstop, session.shouldfail
        dumps_to = internals.stderr_for_dumps(self._config)
        if order["dump_after"] and dumps_to is not None:
            faulthandler.dump_traceback_later(order["dump_after"], file=dumps_to)
        if first is not None:
            first()
        try:
            with self._logged():
                internals.run_protocol(item)
        except KeyboardInterrupt:
            self._send(["interrupt"])
        except pytest.exit.Exception as end:
            self._send(["exit", str(end.msg), end.returncode])
        except Exception as end:  # what test runners stop a session with
            if type(end).__name__ not in ("BdbQuit",):
                raise
        if (session.shouldstop, session.shouldfail) != before:
            self._send(["stop", session.shouldstop, session.shouldfail])
        _save_coverage()
        self._send(["done"])

    # what is told

    def _send(self, message: list[Any], later: bool = False) -> None:
        """later: along with the next one, which comes at once; it saves the parent from being woken up twice."""
        if os.getpid() != self._pid:  # a fork of the test's that came back to us: it has nothing to tell
            os._exit(0)
        with self._lock:
            self._waiting += wire.pack(message)
            if not later:
                wire.write(self._channel, self._waiting)
                self._waiting = b""

    def _on_report(self, report: Any) -> None:
        config = self._config
        # subtests are counted when the status of a report is asked for, and the test that has them fails by it
        is_plain = type(report) is pytest.TestReport
        if report.when == "call":
            config.hook.pytest_report_teststatus(report=report, config=config)
        if not is_plain:
            session = config.pluginmanager.getplugin("session")
            if session is not None:  # -x stops a test between two of its subtests
                session.pytest_runtest_logreport(report=report)
        if config.getoption("setupshow", False):  # what it shows comes before what the parent shows of the report
            internals.flush(config)
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        self._send(["report", data, internals.rendered(report, config)], later=is_plain)

    def _on_warning(self, *, warning_message: Any, when: str, nodeid: str, location: Any = None) -> None:
        message = warning_message.message
        category = warning_message.category
        self._send(
            [
                "warning",
                {
                    "module": category.__module__,
                    "name": category.__name__,
                    "text": str(message),
                    "filename": warning_message.filename,
                    "lineno": warning_message.lineno,
                    "line": warning_message.line,
                    "when": when,
                    "nodeid": nodeid,
                    "location": location,
                },
            ]
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._pid:
            self._begin("setup", None)
            for record in self._logs:  # of fixtures that were set up in the parent
                logging.getLogger(record.name).handle(record)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        if self._pid:
            self._begin("call", internals.xfail_of(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if self._pid:
            self._begin("teardown", None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self) -> None:
        if self._pid and self._memory is not None:  # there may be nothing left, and a MemoryError to be told of
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))

    def _begin(self, when: str, xfail: Any) -> None:
        if os.getpid() != self._pid:
            return
        os.ftruncate(self._log, 0)
        os.lseek(self._log, 0, os.SEEK_SET)
        if self._memory is not None:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (max(0, hard - RESERVE), hard))
        self._send(["phase", when, xfail])

    @contextlib.contextmanager
    def _logged(self) -> Any:
        """Log records go to a file as well: in memory they would be lost in a crash."""
        settings = internals.log_settings(self._config)
        if settings is None:
            yield
            return
        formatter, level = settings
        handler = _ToFile(level)
        handler.setFormatter(formatter)
        handler.fd, handler.pid = self._log, self._pid
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)


class _ToFile(logging.Handler):
    """Writes to a descriptor, in one process only."""

    fd = pid = -1

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() == self.pid:
            with contextlib.suppress(Exception):
                os.write(self.fd, (self.format(record) + "\n").encode("utf-8", "replace"))


def _put_apart(order: dict[str, Any], trace: int, parent: int, mask: Any) -> None:
    os.setpgid(0, 0)
    prctl = _prctl()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has died before that
            os._exit(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    if order["mark"]:
        resource.setrlimit(_RLIMIT_LOCKS, (order["mark"], order["mark"]))
    if order["cpu"] is not None:
        _limit(resource.RLIMIT_CPU, order["cpu"], 1)
    if order["memory"] is not None and sys.platform.startswith("linux"):
        with open("/proc/self/statm", "rb") as file:
            has = int(file.read().split()[5]) * resource.getpagesize()
        _limit(resource.RLIMIT_DATA, has + order["memory"], RESERVE)
    for name, value in order["env"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    faulthandler.enable(file=trace)
    faulthandler.register(STACK_SIGNAL, file=trace, all_threads=True, chain=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _limit(kind: int, value: int, more: int) -> None:
    hard = resource.getrlimit(kind)[1]
    wanted = value + more
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(kind, (min(value, wanted), wanted))


def _without_debugger() -> None:
    import pdb  # noqa: T100

    def refuse(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        pytest.fail(NO_DEBUGGER, pytrace=False)

    sys.breakpointhook = refuse
    pdb.set_trace = refuse
    pytest.set_trace = refuse


def _save_coverage() -> None:
    """Save what coverage has measured in this process, where it has a file of its own for that."""
    coverage = sys.modules.get("coverage")
    current = None if coverage is None else coverage.Coverage.current()
    if current is not None and current.get_option("run:parallel"):
        current.stop()
        current.save()
