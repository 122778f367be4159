"""A run with isolated tests, in the parent: pytest's hooks, and what lives as long as the run."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from ._inner import internals
from ._inner.host import Host
from .one_test import OneTest
from .others import Others
from .settings import Defaults, Settings, WrongSetting, settings_of
from .verdict import report_of

if TYPE_CHECKING:
    from .elsewhere import Elsewhere

NAME = "extsession-run"
NO_FORK = 'isolated: this platform has no fork; use start="spawn"'


def activate(config: pytest.Config) -> None:
    """This run has isolated tests, perhaps. UsageError: what is asked for cannot be."""
    from . import _has_forked, _is_forked

    defaults = Defaults(config, _is_forked(config))
    if defaults.mode == "none":
        return
    if defaults.mode == "all" and defaults.settings.start == "fork" and not hasattr(os, "fork"):
        raise pytest.UsageError("isolated: this platform has no fork; use --isolated-start=spawn")
    config.pluginmanager.register(Runner(config, defaults, not _has_forked()), NAME)


class Runner:
    """The plugin of a run with isolated tests."""

    def __init__(self, config: pytest.Config, defaults: Defaults, with_forked: bool) -> None:
        self.config = config
        self.defaults = defaults
        self._with_forked = with_forked
        self._host: Host | None = None
        self._files: tuple[Any, Any] | None = None
        self.others = Others(config)
        self._elsewhere: Elsewhere | None = None
        self._no_sharing = False
        self._threads_told = False
        self.off = self._why_off()

    def _why_off(self) -> str:
        for name in ("usepdb", "trace"):
            if self.config.getoption(name, False):
                return "--pdb" if name == "usepdb" else "--trace"
        return ""

    def settings_of(self, item: pytest.Item, runs: bool = True) -> Settings | None:
        """How it is isolated; None: it is not. runs: it is about to run, else it is collected. WrongSetting."""
        option = self.config.getoption
        if self.off or (runs and (option("collectonly", False) or option("setupplan", False))):
            return None
        return settings_of(item, self.defaults, self._with_forked)

    def settings_there(self, item: pytest.Item) -> Settings | None:
        """How it is isolated, if it runs in a worker."""
        try:
            settings = self.settings_of(item)
        except WrongSetting:
            return None
        if settings is None or settings.start != "spawn" or self.others.refuses(item):
            return None
        return self.others.adapted(item, settings)

    def pytest_report_header(self) -> str | None:
        if self.off:
            return f"isolated: off ({self.off})"
        found = self.defaults.settings
        words = [self.defaults.mode]
        if found.timeout is not None:
            words.append(f"timeout {found.timeout:g}s")
        if found.memory is not None:
            words.append(f"memory {found.memory / 2**20:g} MiB")
        if found.cpu is not None:
            words.append(f"cpu {found.cpu}s")
        if found.fixtures != "shared":
            words.append(f"{found.fixtures} fixtures")
        words += found.python or [found.start]
        return "isolated: " + ", ".join(words)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        try:
            settings = self.settings_of(item)
        except WrongSetting as error:  # a mark that was added after the collection
            return self._only(item, nextitem, str(error))
        if settings is None or self.others.runs(item):
            return None
        if settings.start == "fork" and not hasattr(os, "fork"):
            return self._only(item, nextitem, NO_FORK)
        why = self.others.refuses(item)
        if why:
            return self._only(item, nextitem, why)
        settings = self.others.adapted(item, settings)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        test = OneTest(self, item, nextitem, settings)
        if settings.start == "spawn":
            test.run_there()
        else:
            test.run_here()
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def elsewhere(self) -> Elsewhere:
        if self._elsewhere is None:
            from .elsewhere import Elsewhere

            self._elsewhere = Elsewhere(self.config)
        return self._elsewhere

    def order(self, settings: Settings) -> dict[str, Any]:
        """What a test's process is told, see `_inner/child.py`."""
        return {
            "fixtures": "fresh" if self._no_sharing or settings.start == "spawn" else settings.fixtures,
            "fresh": list(settings.fresh),
            "memory": settings.memory,
            "cpu": settings.cpu,
            "mark": 0,
            "env": dict(settings.env),
            "dump_after": self.others.dump_after,
        }

    def _only(self, item: pytest.Item, nextitem: pytest.Item | None, error: str) -> bool:
        """The test cannot be started: an error of its setup."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        now = time.time()
        item.ihook.pytest_runtest_logreport(report=report_of(item, "setup", error, stop=now))
        problem, _ = self.host(item).tear_down(item, nextitem)
        text = "" if problem is None else str(problem)
        item.ihook.pytest_runtest_logreport(report=report_of(item, "teardown", text, stop=now))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def host(self, item: pytest.Item) -> Host:
        if self._host is None:
            found = internals.missing(item.session)
            fatal = [name for name, what in found.items() if what == internals.FOR_ALL]
            if fatal:
                raise pytest.UsageError(
                    f"isolated: pytest {pytest.__version__} does not have {', '.join(fatal)}; use --no-isolated, and "
                    "tell the authors of extsession"
                )
            if found:
                self._no_sharing = True
                self.warn(
                    f"isolated: pytest {pytest.__version__} does not have {', '.join(found)}: all fixtures of isolated "
                    "tests are set up in their processes (fixtures='fresh')"
                )
            self._host = Host(self.config)
        return self._host

    def warn(self, text: str) -> None:
        """A warning of the run's."""
        self.config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)

    def tell_threads(self, names: list[str]) -> None:
        """With -v, once: what is running here besides the thread that forks."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if names and not self._threads_told and reporter is not None and self.config.get_verbosity() > 0:
            self._threads_told = True
            reporter.ensure_newline()
            text = ", ".join(names)
            reporter.write_line(f"isolated: threads are running in pytest's process, which is forked: {text}")

    def files(self) -> tuple[int, int]:
        """Empty files for the stacks and the log of a test, one pair for all of them."""
        if self._files is None:
            self._files = tempfile.TemporaryFile(buffering=0), tempfile.TemporaryFile(buffering=0)
        for file in self._files:
            file.seek(0)
            file.truncate()
        return self._files[0].fileno(), self._files[1].fileno()

    def pytest_keyboard_interrupt(self) -> None:
        self.pytest_sessionfinish()

    def pytest_sessionfinish(self) -> None:
        found, self._elsewhere = self._elsewhere, None
        if found is not None:
            found.close()

    def pytest_unconfigure(self) -> None:
        self.pytest_sessionfinish()
        for file in self._files or ():
            file.close()
        self._files = None
