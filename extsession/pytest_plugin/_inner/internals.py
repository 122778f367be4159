"""Every touch of pytest's internals is here; tests/pytest_plugin/test_internals.py fails when one of them moves.

`missing()` tells what this pytest does not have. Without what shared fixtures need, they are set up in the child, with
one warning; without the rest there are no isolated tests, and pytest says so at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from fnmatch import fnmatch

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

#: what shared fixtures need, and what nothing can do without
FOR_SHARED = "shared fixtures"
FOR_ALL = "isolated tests"


def missing(session: pytest.Session) -> dict[str, str]:
    """The internals that this pytest does not have -> what they are for."""
    found = {}
    state = getattr(session, "_setupstate", None)
    if not isinstance(getattr(state, "stack", None), dict):
        found["Session._setupstate.stack"] = FOR_SHARED
    for name in ("setup", "teardown_exact"):
        if not callable(getattr(state, name, None)):
            found["Session._setupstate." + name] = FOR_SHARED
    request = _attribute("_pytest.fixtures", "FixtureRequest")
    if not callable(getattr(request, "_get_active_fixturedef", None)):
        found["FixtureRequest._get_active_fixturedef"] = FOR_SHARED
    if not hasattr(_attribute("_pytest.fixtures", "FixtureDef"), "execute"):
        found["FixtureDef.execute"] = FOR_SHARED
    for module, name in (("_pytest.runner", "runtestprotocol"), ("_pytest.warnings", "catch_warnings_for_item")):
        if not callable(_attribute(module, name)):
            found[module + "." + name] = FOR_ALL
    capture = _attribute("_pytest.capture", "CaptureManager")
    for name in ("read_global_capture", "resume_global_capture", "suspend_global_capture"):
        if not callable(getattr(capture, name, None)):
            found["CaptureManager." + name] = FOR_ALL
    return found


def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(__import__(module, fromlist=[name]), name, None)
    except ImportError:
        return None


# the test itself


def run_protocol(item: pytest.Item) -> None:
    """Set up, call and tear down, with hooks and logged reports; warnings are caught as pytest does around it."""
    from _pytest.runner import runtestprotocol

    if not item.config.pluginmanager.hasplugin("warnings"):
        runtestprotocol(item, log=True, nextitem=None)
        return
    from _pytest.warnings import catch_warnings_for_item

    with catch_warnings_for_item(config=item.config, ihook=item.ihook, when="runtest", item=item):
        runtestprotocol(item, log=True, nextitem=None)


def redirect(item: pytest.Item, on_report: Callable[[Any], None], on_warning: Callable[..., None]) -> None:
    """In the child: reports and warnings go there instead of to the plugins which would show them."""

    def log_report(*, report: Any) -> list[None]:
        on_report(report)
        return []

    warning = _Historic(on_warning)
    for relay in (item.ihook, item.config.hook):
        relay.pytest_runtest_logreport = log_report  # type: ignore[attr-defined]
        relay.pytest_warning_recorded = warning  # type: ignore[attr-defined]


class _Historic:
    """A hook caller for `pytest_warning_recorded`."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, **kwargs: Any) -> list[None]:
        self._function(**kwargs)
        return []

    def call_historic(self, result_callback: Any = None, kwargs: Any = None) -> None:
        self._function(**(kwargs or {}))


def rendered(report: Any, config: pytest.Config) -> str | None:
    """The text of a failure that reports as data have no form for, as those of doctests; None: they have."""
    longrepr = report.longrepr
    if not hasattr(longrepr, "toterminal") or hasattr(longrepr, "reprtraceback"):
        return None
    from _pytest._io import TerminalWriter

    text = io.StringIO()
    writer = TerminalWriter(text)
    writer.hasmarkup = config.get_terminal_writer().hasmarkup
    longrepr.toterminal(writer)
    return text.getvalue()


def with_context(report: Any, data: dict[str, Any]) -> None:
    """The arguments of a subtest as they were: pytest 9 takes the repr of each again when it reads them from data."""
    found = data.get("_subtest.context")
    context = getattr(report, "context", None)
    if isinstance(found, dict) and getattr(context, "kwargs", None):
        object.__setattr__(context, "kwargs", found["kwargs"])


class Rendered:
    """Such a failure, from its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text.strip()

    def toterminal(self, writer: Any) -> None:
        writer.write(self._text)


def xfail_of(item: pytest.Item) -> dict[str, Any] | None:
    """The xfail mark in force, as pytest has found it when the test was set up."""
    key = _attribute("_pytest.skipping", "xfailed_key")
    found = None if key is None else item.stash.get(key, None)
    if found is None:
        return None
    return {"reason": found.reason, "raises": found.raises is not None, "run": found.run}


# collectors and fixtures of a scope wider than function


def set_up_wide(item: pytest.Item, leave_out: Iterable[str]) -> None:
    """Set up the collectors above a test, and its fixtures that live longer than it, as pytest would with the test.

    leave_out: patterns of names; these, and what depends on them, are not. What fails is cached by pytest, and fails
    again in the test's own process, where it is reported. KeyboardInterrupt and pytest.exit() come out.
    """
    state: Any = item.session._setupstate
    assert item.parent is not None
    if _is_skipped(item):
        return
    with contextlib.suppress(*_outcomes()):
        state.setup(item.parent)
        _set_up_fixtures(item, state, list(leave_out))


def _is_skipped(item: pytest.Item) -> bool:
    """Whether marks skip it before anything is set up for it, or have a wrong condition, of which its setup tells."""
    evaluate = _attribute("_pytest.skipping", "evaluate_skip_marks")
    evaluate_xfail = _attribute("_pytest.skipping", "evaluate_xfail_marks")
    try:
        if evaluate is not None and evaluate(item):
            return True
        xfail = None if evaluate_xfail is None else evaluate_xfail(item)
        return xfail is not None and not xfail.run and not item.config.getoption("runxfail", False)
    except _outcomes():
        return True


def _outcomes() -> tuple[type[BaseException], ...]:
    from _pytest.outcomes import OutcomeException

    return (OutcomeException, Exception)


def _set_up_fixtures(item: Any, state: Any, patterns: list[str]) -> None:
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return
    names = wide_names(info, patterns)
    if not names:
        return
    if not getattr(item, "_request", None):
        item._initrequest()
    # pytest 9.1 warns when a fixture is asked for by a test that is not being set up
    state.stack[item] = ([], None)
    try:
        for name in names:
            item._request._get_active_fixturedef(name)
    finally:
        state.stack.pop(item, None)
        # what it has found out is of this request: the child asks for them again, and gets what is cached
        item._initrequest()


def wide_names(info: Any, patterns: list[str]) -> list[str]:
    """The fixtures of a test that live longer than it, in their order, without those that `patterns` leave out."""
    definitions = info.name2fixturedefs
    names = []
    for name in info.names_closure:
        found = definitions.get(name)
        if found and found[-1].scope != "function" and not (patterns and _depends(name, definitions, patterns, set())):
            names.append(name)
    return names


def _depends(name: str, definitions: Any, patterns: list[str], seen: set[str]) -> bool:
    if any(fnmatch(name, pattern) for pattern in patterns):
        return True
    seen.add(name)
    for definition in definitions.get(name) or ():
        for each in definition.argnames:
            if each not in seen and _depends(each, definitions, patterns, seen):
                return True
    return False


def tear_down(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Tear down what `nextitem` does not need."""
    session = item.session
    if session.shouldfail or session.shouldstop:
        nextitem = None  # as runtestprotocol does
    session._setupstate.teardown_exact(nextitem)


def is_anything_left(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Whether `tear_down` has anything to do."""
    if item.session.shouldfail or item.session.shouldstop:
        nextitem = None
    stack = list(item.session._setupstate.stack)
    return stack != ([] if nextitem is None else nextitem.listchain()[: len(stack)])


class _Next:
    """Stands for the next test, which needs all that is there."""

    def __init__(self, there: list[Any]) -> None:
        self._there = there

    def listchain(self) -> list[Any]:
        return self._there


def keep_what_is_there(session: pytest.Session) -> None:
    """In the child: tearing down ends where the child has begun, and takes with it what it was the first to ask for."""
    state: Any = session._setupstate
    there = list(state.stack)
    counts = {node: len(finalizers) for node, (finalizers, _) in state.stack.items()}
    original = state.teardown_exact

    def teardown_exact(nextitem: Any) -> None:
        errors: list[BaseException] = []
        try:
            original(_Next(there) if there else None)
        except _outcomes() as error:
            errors.append(error)
        for node in reversed(there):
            finalizers = state.stack[node][0]
            while len(finalizers) > counts[node]:
                try:
                    finalizers.pop()()
                except _outcomes() as error:
                    errors.append(error)
        if len(errors) > 1 and sys.version_info >= (3, 11):
            raise BaseExceptionGroup("errors during test teardown", errors)  # noqa: F821
        if errors:
            raise errors[0]

    state.teardown_exact = teardown_exact


def forget_fixtures(session: pytest.Session, patterns: list[str]) -> None:
    """In the child: fixtures of these names that others have set up are to be set up again. What was there stays.

    patterns: also for what depends on them.
    """
    every: dict[str, list[Any]] = {}
    for finalizers, _ in session._setupstate.stack.values():
        for finalizer in finalizers:
            # partial(definition.finish, ...)
            definition: Any = getattr(getattr(finalizer, "func", None), "__self__", None)
            if getattr(definition, "cached_result", None) is not None:
                every.setdefault(definition.argname, []).append(definition)
    for name, definitions in every.items():
        if patterns == ["*"] or _depends(name, every, patterns, set()):
            for definition in definitions:
                definition.cached_result = None
                definition._finalizers.clear()


# output


class _Capture:
    """The part of pytest's capture manager that is used."""

    def __init__(self, config: pytest.Config) -> None:
        manager = config.pluginmanager.getplugin("capturemanager")
        self._manager = manager if manager is not None and manager.is_globally_capturing() else None

    @contextlib.contextmanager
    def resumed(self) -> Iterator[None]:
        """What is written in the block is captured, to be read later."""
        if self._manager is None:
            yield
            return
        self._manager.resume_global_capture()
        try:
            yield
        finally:
            self._manager.suspend_global_capture(in_=False)

    def taken(self) -> tuple[str, str]:
        """What was captured and not read yet, stdout and stderr. Parent and child have one file, so it is from both."""
        if self._manager is None or getattr(self._manager, "_global_capturing", None) is None:
            return "", ""
        out, err = self._manager.read_global_capture()
        return out, err


capture_of = _Capture


def flush(config: pytest.Config) -> None:
    """So that a fork does not have, and write again, what was written before it."""
    streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        streams.append(getattr(reporter._tw, "_file", None))
    for stream in streams:
        if stream is not None:
            with contextlib.suppress(Exception):
                stream.flush()


def log_settings(config: pytest.Config) -> tuple[Any, int] | None:
    """(formatter, level) of the logs that reports show; None: they show none."""
    plugin = config.pluginmanager.getplugin("logging-plugin")
    formatter = getattr(plugin, "formatter", None)
    return None if formatter is None else (formatter, getattr(plugin, "log_level", None) or 0)


def stderr_for_dumps(config: pytest.Config) -> int | None:
    """The descriptor that pytest's faulthandler plugin writes to."""
    key = _attribute("_pytest.faulthandler", "fault_handler_stderr_fd_key")
    return None if key is None else config.stash.get(key, None)


def make_base_folder(config: pytest.Config) -> None:
    """The base temporary directory, which each child would make its own else."""
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        with contextlib.suppress(OSError):
            os.fspath(factory.getbasetemp())
