"""The table of --isolated-usage."""

from __future__ import annotations

from typing import Any

import pytest

#: rows of the table
_ROWS = 10


class Table:
    """Collects what isolated tests have used, also those of xdist's workers, and shows it after the run."""

    def __init__(self) -> None:
        self._used: list[tuple[str, float, int]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts: dict[str, Any] | None = getattr(report, "isolated", None)
        if facts is not None and "cpu" in facts:
            self._used.append((report.nodeid, facts["cpu"], facts["peak_memory"]))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._used:
            return
        terminalreporter.section("usage of isolated tests")
        by_memory = sorted(self._used, key=lambda each: -each[2])[:_ROWS]
        by_cpu = sorted(self._used, key=lambda each: -each[1])[:_ROWS]
        terminalreporter.write_line("peak memory, with what a test's process has in common with pytest:")
        for nodeid, _, peak in by_memory:
            terminalreporter.write_line(f"  {peak / 2**20:8.1f} MiB  {nodeid}")
        terminalreporter.write_line("CPU time:")
        for nodeid, cpu, _ in by_cpu:
            terminalreporter.write_line(f"  {cpu:8.3f} s    {nodeid}")
