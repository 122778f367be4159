"""One isolated test: its fork, what that tells, and what comes of it in the reports."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from extsession.processes import ProcessTree, become_reaper, new_mark

from ._inner import internals
from ._inner.host import Host
from .settings import Settings
from .verdict import Verdict, When, excuse, judge, report_of, stacks, text_of
from .watch import Child, Forked, Seen, Watch

if TYPE_CHECKING:
    from .run import Runner

#: what torch says; the driver's own text is "initialization error"
_CUDA = "re-initialize CUDA in forked subprocess"
_PHASES: tuple[When, ...] = ("setup", "call", "teardown")


class OneTest:
    """One run of one isolated test."""

    def __init__(self, runner: Runner, item: pytest.Item, nextitem: pytest.Item | None, settings: Settings) -> None:
        self._runner = runner
        self._item = item
        self._nextitem = nextitem
        self._settings = settings
        self._wide = 0.0
        self._logged: set[str] = set()
        self._teardown: pytest.TestReport | None = None
        self._xfail: dict[str, Any] | None = None
        self._failed = ""
        self._raise: BaseException | None = None

    def run_here(self) -> None:
        """In a fork of this process."""
        runner = self._runner
        host = runner.host(self._item)
        threads = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
        runner.tell_threads(threads)
        stacks_file, log = runner.files()
        become_reaper()
        try:
            seen, killer = self._fork(host, (stacks_file, log))
        except BlockingIOError as error:  # EAGAIN, fork(2)
            self._report_problem(host, f"isolated test failed to start: {error}", False)
            return
        finally:
            become_reaper(False)
        verdict = judge(seen, self._settings, self._failed, killer, threads)
        self._conclude(host, seen, verdict, host.taken_output(), (stacks_file, log))

    def run_there(self) -> None:
        """In a worker of another interpreter, or of a clean process of this one."""
        runner, item = self._runner, self._item
        settings, result = runner.elsewhere().result(item, self._nextitem, runner.settings_there, runner.order)
        host = runner.host(item)
        try:
            if result.problem is not None:
                self._report_problem(host, str(result.problem), result.problem.is_missing)
                return
            for message in result.messages:
                self._on_message(message)
            verdict = judge(result.seen, settings, self._failed, False, [])
            self._conclude(host, result.seen, verdict, result.output, (result.stacks, result.log))
        finally:
            result.close()

    def _report_problem(self, host: Host, text: str, is_missing: bool) -> None:
        report = report_of(self._item, "setup", text, stop=time.time())
        if is_missing and not self._runner.defaults.python_required:
            report.outcome = "skipped"
            path, line, _ = self._item.location
            report.longrepr = path, (line or 0) + 1, f"Skipped: {text}"
        self._item.ihook.pytest_runtest_logreport(report=report)
        problem, output = host.tear_down(self._item, self._nextitem)
        self._report_teardown(Seen(), problem, output, time.time())

    def _conclude(
        self, host: Host, seen: Seen, verdict: Verdict | None, output: tuple[str, str], files: tuple[int, int]
    ) -> None:
        now = time.time()
        if verdict is not None:
            self._report_end(seen, verdict, self._sections(seen, verdict, output, files), now)
        problem, written = (None, ("", "")) if self._raise is not None else host.tear_down(self._item, self._nextitem)
        self._report_teardown(seen, problem, written, now)
        if self._raise is not None:
            raise self._raise

    def _fork(self, host: Host, files: tuple[int, int]) -> tuple[Seen, bool]:
        """Returns what was seen, and whether it was the kernel's memory killer."""
        settings, others = self._settings, self._runner.others
        reader, writer = os.pipe()
        mark = new_mark(os.getpid())
        order = {**self._runner.order(settings), "mark": mark[0]}
        try:
            try:
                started = host.start(
                    self._item,
                    order,
                    (writer, *files),
                    lambda: others.before_fork(self._item),
                    others.in_child(self._item, settings),
                )
            finally:
                os.close(writer)
            self._wide = started.wide
            child: Child = Forked(started.pid)
            try:
                tree = ProcessTree(started.pid, mark, os.getpid(), settings.memory)
                timeout = None if settings.timeout is None else settings.timeout + settings.grace
                watch = Watch(child, tree, reader, timeout, settings.call_timeout, self._on_message)
                seen = watch.run(host.unmask)
            finally:
                child.close()
        finally:
            os.close(reader)
        assert seen.ended is not None
        killer = seen.ended.status == signal.SIGKILL and not seen.stopped
        return seen, killer and tree.was_memory_killer(seen.ended.peak_memory)

    # what it tells

    def _on_message(self, message: list[Any]) -> None:
        kind = message[0]
        if kind == "report":
            self._on_report(message[1], message[2])
        elif kind == "phase":
            self._xfail = message[2]
        elif kind == "warning":
            self._on_warning(message[1])
        elif kind == "exit":
            self._raise = pytest.exit.Exception(message[1], message[2])
        elif kind == "interrupt":
            self._raise = KeyboardInterrupt()
        elif kind == "stop":
            session = self._item.session
            if message[1] and not session.shouldstop:
                session.shouldstop = message[1]
            if message[2] and not session.shouldfail:
                session.shouldfail = message[2]
        elif kind == "failed":
            self._failed = message[1]

    def _on_report(self, data: dict[str, Any], rendered: str | None) -> None:
        config = self._runner.config
        data["nodeid"], data["location"] = self._item.nodeid, self._item.location
        is_main = data.get("$report_type") == "TestReport"
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        if report is None:  # of a kind that this pytest does not know: what it is part of tells of it
            return
        _as_it_was(report)
        internals.with_context(report, data)
        if rendered is not None:
            report.longrepr = internals.Rendered(rendered)
        if report.failed and _CUDA in report.longreprtext:
            report.sections.append(("isolated", 'CUDA does not survive a fork: use start="spawn", or fixtures="fresh"'))
        if is_main:
            self._logged.add(report.when)
            if report.when == "setup":
                report.duration += self._wide
                report.start -= self._wide
            elif report.when == "teardown":
                self._teardown = report  # what is torn down here belongs to it
                return
        self._item.ihook.pytest_runtest_logreport(report=report)

    def _on_warning(self, data: dict[str, Any]) -> None:
        category = _category(data["module"], data["name"])
        try:
            message = category(data["text"])
        except Exception:  # it takes other arguments
            category = type(data["name"], (Warning,), {"__module__": data["module"]})
            message = category(data["text"])
        record = warnings.WarningMessage(message, category, data["filename"], data["lineno"], line=data["line"])
        location = data["location"]
        self._item.ihook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": record,
                "when": data["when"],
                "nodeid": self._item.nodeid,
                "location": None if location is None else tuple(location),
            }
        )

    # what comes of it

    def _sections(
        self, seen: Seen, verdict: Verdict, output: tuple[str, str], files: tuple[int, int]
    ) -> list[tuple[str, str]]:
        phase = seen.phase or "setup"
        found = [(f"Captured {name} {phase}", text) for name, text in zip(("stdout", "stderr"), output, strict=True)]
        found.append((f"Captured log {phase}", text_of(files[1]).rstrip("\n")))
        is_ours = verdict.facts["kind"] in ("timeout", "start")
        found.append(("Stack of threads" if is_ours else "Fatal error", stacks(text_of(files[0]))))
        if self._runner.others.has_coverage and self._runner.config.get_verbosity() > 0:
            found.append(("Coverage", "what this test has run is not counted: its process has not told"))
        return [(name, text) for name, text in found if text]

    def _report_end(self, seen: Seen, verdict: Verdict, sections: list[tuple[str, str]], now: float) -> None:
        """Exactly one report fails, that of the phase in which it was."""
        phase: When = seen.phase or "setup"  # type: ignore[assignment]
        if phase in self._logged and phase != "teardown":
            phase = _PHASES[_PHASES.index(phase) + 1]  # it ended between two
        elif phase == "teardown" and self._teardown is not None:
            self._teardown = None
        facts = {**verdict.facts, "phase": phase}
        self._item.user_properties.append(("isolated", facts["kind"]))  # junit takes those of the last report
        duration = time.monotonic() - seen.since
        report = report_of(
            self._item, phase, verdict.text, sections=sections, duration=duration, stop=now, facts=facts
        )
        excuse(report, self._xfail)
        self._logged.add(phase)
        if phase == "teardown":
            self._teardown = report
        else:
            self._item.ihook.pytest_runtest_logreport(report=report)

    def _report_teardown(
        self, seen: Seen, problem: BaseException | None, output: tuple[str, str], now: float
    ) -> None:
        report = self._teardown
        if report is None:
            report = report_of(self._item, "teardown", "", stop=now)
        if problem is not None:
            _add_problem(self._item, report, problem, output)
        if seen.ended is not None and not hasattr(report, "isolated"):
            report.isolated = {  # type: ignore[attr-defined]
                "kind": "", "cpu": round(seen.ended.cpu, 4), "peak_memory": seen.ended.peak_memory,
            }
        self._item.ihook.pytest_runtest_logreport(report=report)


def _add_problem(
    item: pytest.Item, report: pytest.TestReport, problem: BaseException, output: tuple[str, str]
) -> None:
    """Fixtures that are torn down here have failed: an error of the test that was the last to need them."""
    own = pytest.CallInfo.from_call(lambda: _throw(problem), when="teardown")
    found = item.ihook.pytest_runtest_makereport(item=item, call=own)
    for name, text in zip(("stdout", "stderr"), output, strict=True):
        if text:
            report.sections.append((f"Captured {name} teardown", text))
    if report.passed:
        report.outcome = found.outcome
        report.longrepr = found.longrepr
    else:
        report.sections.append(("Teardown of shared fixtures", str(found.longrepr)))


def _throw(problem: BaseException) -> None:
    raise problem


def _as_it_was(report: Any) -> None:
    """JSON has no tuples."""
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    report.location = tuple(report.location)
    report.sections = [tuple(each) for each in report.sections]
    report.user_properties = [tuple(each) for each in report.user_properties]


def _category(module: str, name: str) -> type[Warning]:
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    return type(name, (Warning,), {"__module__": module})
