"""Other plugins: who does what when both are there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from .settings import Settings

NO_BENCHMARK = "isolated: the benchmark fixture cannot be used in an isolated test"
NO_RERUNS = "isolated: reruns do not apply to isolated tests"
#: seconds after its own timeout at which a test is ended from outside
_GRACE: Final = 1.0
#: fixtures that write to what is lost with the test's process
_LOST: Final = frozenset(["record_testsuite_property", "record_xml_attribute"])
#: plugins that fork for a test as well -> (distribution, mark, option)
_RIVALS = {
    "pytest_forked": ("pytest-forked", "forked", "forked"),
    "pytest_isolate": ("pytest-isolate", "isolate", "isolate"),
}
NOT_PARALLEL = "isolated: coverage of isolated tests needs [run] parallel = true"


class Others:
    """The other plugins of a run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._warned: set[str] = set()
        plugins = {name for name, plugin in config.pluginmanager.list_name_plugin() if plugin is not None}
        self._rivals = [_RIVALS[name] for name in _RIVALS if name in plugins]
        self._timeouts = sys.modules.get("pytest_timeout") if "timeout" in plugins else None
        self._has_benchmark = "benchmark" in plugins
        self._has_reruns = "rerunfailures" in plugins
        self._dump_after = float(config.getini("faulthandler_timeout") or 0.0) if "faulthandler" in plugins else 0.0
        self.has_coverage = False
        self._looked_for_coverage = False

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)

    def runs(self, item: pytest.Item) -> bool:
        """Whether another plugin forks for this test. That one runs it."""
        for distribution, mark, option in self._rivals:
            if self._config.getoption(option, False) or item.get_closest_marker(mark):
                self._warn_once(
                    f"isolated: {distribution} gives tests processes of their own too; it runs {item.nodeid}"
                )
                return True
        return False

    def refuses(self, item: pytest.Item) -> str:
        """Why the test cannot be isolated; empty: it can."""
        return NO_BENCHMARK if self._has_benchmark and "benchmark" in getattr(item, "fixturenames", ()) else ""

    def adapted(self, item: pytest.Item, settings: Settings) -> Settings:
        """With what others say about the test."""
        if self._has_reruns and (self._config.getoption("reruns", None) or item.get_closest_marker("flaky")):
            self._warn_once(NO_RERUNS)
        for name in _LOST.intersection(getattr(item, "fixturenames", ())):
            self._warn_once(f"isolated: {name} has no effect in an isolated test")
        found = self._timeout_of(item)
        if found is None:
            return settings
        if found.func_only:
            return replace(settings, call_timeout=found.timeout + _GRACE)
        if settings.timeout is not None and settings.timeout <= found.timeout:
            return settings
        # its own timer is nicer, for it raises where the test is; but what does not react is ended from outside
        return replace(settings, timeout=found.timeout, grace=_GRACE if found.method == "signal" else 0.0)

    def _timeout_of(self, item: pytest.Item) -> Any:
        """What pytest-timeout has for a test: timeout, method, func_only."""
        find = getattr(self._timeouts, "_get_item_settings", None)
        found = None if find is None else find(item)
        return found if found is not None and found.timeout is not None and found.timeout > 0 else None

    def before_fork(self, item: pytest.Item) -> None:
        """Just before the test's process comes to be, with its shared fixtures set up."""
        if self._timeouts is not None:
            self._config.hook.pytest_timeout_cancel_timer(item=item)
        if not self._looked_for_coverage:
            self._looked_for_coverage = True
            coverage = sys.modules.get("coverage")
            current = None if coverage is None else coverage.Coverage.current()
            self.has_coverage = current is not None
            if current is not None and not current.get_option("run:parallel"):
                self._warn_once(NOT_PARALLEL)

    def in_child(self, item: pytest.Item, settings: Settings) -> Callable[[], None] | None:
        """What the child does first, for others."""
        if not settings.grace:
            return None
        found = self._timeout_of(item)
        return lambda: self._config.hook.pytest_timeout_set_timer(item=item, settings=found)

    @property
    def dump_after(self) -> float:
        """Seconds of `faulthandler_timeout`; 0: none."""
        return self._dump_after
