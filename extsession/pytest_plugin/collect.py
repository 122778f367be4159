"""Tests as they are collected: a mark that is wrong is an error of the collection."""

from __future__ import annotations

import pytest

from .run import NAME, Runner, activate
from .settings import WrongSetting


def checked(collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Look at the marks of what was collected."""
    config = collector.config
    if config.pluginmanager.getplugin(NAME) is None:
        activate(config)
    runner: Runner | None = config.pluginmanager.getplugin(NAME)
    if runner is None:
        return
    try:
        for item in report.result:
            if isinstance(item, pytest.Item):
                runner.settings_of(item)
    except WrongSetting as error:
        report.outcome = "failed"
        report.longrepr = str(error)
        report.result = []
