"""Other plugins: who does what when both are there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from .settings import Settings

NO_BENCHMARK = "isolated: the benchmark fixture cannot be used in an isolated test"
NO_RERUNS = "isolated: reruns do not apply to isolated tests"
#: names of plugins -> the distribution, which fork for a test as well
_RIVALS = {"pytest_forked": "pytest-forked", "pytest_isolate": "pytest-isolate"}


class Others:
    """The other plugins of a run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._warned: set[str] = set()

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)

    def runs(self, item: pytest.Item) -> bool:
        """Whether another plugin forks for this test. That one runs it."""
        return False

    def refuses(self, item: pytest.Item) -> str:
        """Why the test cannot be isolated; empty: it can."""
        if "benchmark" in getattr(item, "fixturenames", ()) and self._config.pluginmanager.hasplugin("benchmark"):
            return NO_BENCHMARK
        return ""

    def adapted(self, item: pytest.Item, settings: Settings) -> Settings:
        """With what others say about the test."""
        return settings

    def before(self, item: pytest.Item) -> None:
        """Just before the test's process comes to be."""

    def order(self, item: pytest.Item, settings: Settings) -> dict[str, Any]:
        """What the child is to do about others."""
        return {"dump_after": float(self._config.getini("faulthandler_timeout") or 0.0), "timer": False}
