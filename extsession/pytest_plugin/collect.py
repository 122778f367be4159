"""Tests as they are collected: a mark that is wrong is an error, and other interpreters have tests of their own."""

from __future__ import annotations

import pytest

from .elsewhere import OtherPython, expanded
from .run import NAME, Runner, activate
from .settings import WrongSetting


def checked(collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Look at the marks of what was collected, and put tests of other interpreters in place of those that want them."""
    config = collector.config
    if config.pluginmanager.getplugin(NAME) is None:
        activate(config)
    runner: Runner | None = config.pluginmanager.getplugin(NAME)
    if runner is None:
        return
    found: list[pytest.Item | pytest.Collector] = []
    try:
        for item in report.result:
            settings = runner.settings_of(item, runs=False) if isinstance(item, pytest.Item) else None
            if settings is None or not settings.python or isinstance(item, OtherPython):  # it may be looked at again
                found.append(item)
            else:
                found += expanded(item, settings.python)  # type: ignore[arg-type]
        report.result = found
    except WrongSetting as error:
        report.outcome = "failed"
        report.longrepr = str(error)
        report.result = []
