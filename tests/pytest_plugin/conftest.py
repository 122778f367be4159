"""Runs of pytest inside of pytest: in this process where that is sound, else in one of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

# runs in this process forget what they were the first to import: it would be there twice
from extsession.pytest_plugin import collect, elsewhere, one_test, sessions, usage, workers  # noqa: F401
from extsession.pytest_plugin._inner import worker  # noqa: F401

#: plugins that change what the runs would show; the suite's own options are not theirs
QUIET = ("-p", "no:randomly", "-p", "no:cacheprovider")


class Ran(NamedTuple):
    """reports: test -> phase -> report, subtests left out; every: all reports; ret: pytest's status."""

    reports: dict[str, dict[str, Any]]
    every: list[Any]
    warnings: list[Any]
    ret: int

    def failed(self, name: str) -> Any:
        """The one report of a test that did not pass; there is exactly one."""
        found = [report for report in self.reports[name].values() if not report.passed]
        assert len(found) == 1, found
        assert list(self.reports[name]) == (["setup", "teardown"] if found[0].when == "setup" else PHASES)
        return found[0]


PHASES = ["setup", "call", "teardown"]


@pytest.fixture
def ran(pytester: pytest.Pytester) -> Callable[..., Ran]:
    """ran(source, *args): isolated, in this process."""

    def run(source: str, *args: str) -> Ran:
        pytester.makepyfile(source)
        recorder = pytester.inline_run(*QUIET, *(args or ("--isolated",)))
        reports: dict[str, dict[str, Any]] = {}
        every = recorder.getreports("pytest_runtest_logreport")
        for report in every:
            if not hasattr(report, "context"):
                of_test = reports.setdefault(report.nodeid.partition("::")[2], {})
                assert report.when not in of_test, f"two reports of {report.nodeid} {report.when}"
                of_test[report.when] = report
        warnings = [call.warning_message for call in recorder.getcalls("pytest_warning_recorded")]
        return Ran(reports, every, warnings, int(recorder.ret))

    return run


def section(report: Any, title: str) -> str:
    """The text of a report's section; empty: there is none."""
    return "".join(text for name, text in report.sections if name == title)
