"""The plugin for pytest: isolated tests, fixtures that give sessions, and the same tests under other interpreters.

pytest imports this module at each start, so it imports nothing of the package; what does the work is imported once a
run asks for it.

    settings.py   the marker, options and ini settings as values, checked
    collect.py    marks that are wrong, and tests that run under other interpreters, as they are collected
    run.py        one isolated test after the other, in the parent
    watch.py      waits for a test's process, with all its deadlines
    verdict.py    what its end means, as a report
    others.py     other plugins: who does what when both are there
    elsewhere.py  workers of other interpreters
    sessions.py   what the fixtures do
    usage.py      the table of --isolated-usage
    _inner/       what runs where tests run, also in other interpreters
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from extsession import AsyncExtSession, ExtSession

MARKERS = (
    "isolated(enabled=True, *, timeout, memory, cpu, fixtures, start, python, env): run the test in a process of its "
    "own; timeout: seconds of setup, call and teardown; memory: bytes, or '200M', that it may need; cpu: seconds; "
    "fixtures: 'shared' or 'fresh'; start: 'fork' or 'spawn'; python: version, path or virtual environment, or a list "
    "of these; env: environment variables, None removes one. isolated(False): never. [extsession]",
    "ext_options(**keywords): of the sessions that the ext_* fixtures give to the test. [extsession]",
)
FORKED = "forked: as isolated(fixtures='fresh'), for those who come from pytest-forked. [extsession]"

# flags, keywords for argparse
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--isolated", {"action": "store_const", "const": "all", "help": "run every test in a process of its own"}),
    (
        "--no-isolated",
        {"action": "store_const", "const": "none", "dest": "isolated", "help": "run no test in a process of its own"},
    ),
    ("--isolated-timeout", {"metavar": "S", "help": "seconds that an isolated test may take"}),
    ("--isolated-memory", {"metavar": "SIZE", "help": "bytes that an isolated test may need, as 500M or 1.5G"}),
    ("--isolated-cpu", {"metavar": "S", "help": "seconds of CPU time that an isolated test may take"}),
    ("--isolated-fixtures", {"metavar": "MODE", "help": "where fixtures of a wide scope live: 'shared' or 'fresh'"}),
    ("--isolated-start", {"metavar": "MODE", "help": "'fork' of this process, or 'spawn': of a clean one"}),
    ("--isolated-python", {"metavar": "LIST", "help": "run isolated tests under each of these Pythons, as 3.9,3.12"}),
    (
        "--isolated-python-required",
        {"action": "store_true", "default": None, "help": "a Python that is not found is an error, no skip"},
    ),
    ("--isolated-usage", {"action": "store_true", "help": "show which isolated tests used most memory and CPU time"}),
)
# name, type, default, help
INI: tuple[tuple[str, str, Any, str], ...] = (
    ("isolated", "string", "marked", "which tests run in a process of their own: all, marked or none"),
    ("isolated_timeout", "string", "", "seconds that an isolated test may take"),
    ("isolated_memory", "string", "", "bytes that an isolated test may need, as 500M or 1.5G"),
    ("isolated_cpu", "string", "", "seconds of CPU time that an isolated test may take"),
    ("isolated_fixtures", "string", "", "where fixtures of a wide scope of isolated tests live: shared or fresh"),
    ("isolated_start", "string", "", "how the process of an isolated test comes to be: fork or spawn"),
    ("isolated_python", "string", "", "Pythons that isolated tests run under, each of them"),
    ("isolated_fresh_fixtures", "linelist", [], "patterns of fixtures to be set up in the process of an isolated test"),
    ("isolated_python_required", "bool", False, "a Python that is not found is an error, no skip"),
)

#: of a test or collector: what its fixtures have given to it
GIVEN = pytest.StashKey[list[Any]]()


def _has_forked() -> bool:
    from importlib.util import find_spec

    return find_spec("pytest_forked") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("isolated", "isolated tests (extsession)")
    for flag, keywords in OPTIONS:
        group.addoption(flag, **{"default": None, **keywords})
    if not _has_forked():
        group.addoption("--forked", action="store_true", help="as --isolated --isolated-fixtures=fresh")
    for name, kind, default, text in INI:
        parser.addini(name, text, type=kind, default=default)  # type: ignore[arg-type]


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS if _has_forked() else (*MARKERS, FORKED):
        config.addinivalue_line("markers", line)
    if config.getoption("isolated") or config.getini("isolated") != "marked" or _is_forked(config):
        from .run import activate

        activate(config)
    if config.getoption("isolated_usage"):
        from .usage import Table

        config.pluginmanager.register(Table(), "extsession-usage")


def _is_forked(config: pytest.Config) -> bool:
    return bool(config.getoption("forked", False)) and not _has_forked()


def _is_marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("isolated") is not None or item.get_closest_marker("forked") is not None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    plugin = collector.config.pluginmanager.getplugin("extsession-run")
    items = [each for each in report.result or () if isinstance(each, pytest.Item)]
    if plugin is not None or any(map(_is_marked, items)):
        from .collect import checked

        checked(collector, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if GIVEN in item.stash:
        from .sessions import add_sections

        add_sections(item, report)
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # marks that a conftest adds are there by now
    if config.pluginmanager.getplugin("extsession-run") is None and any(map(_is_marked, items)):
        from .run import activate

        activate(config)


# fixtures


@pytest.fixture
def ext_session(request: pytest.FixtureRequest) -> Iterator[ExtSession]:
    """A fresh `extsession.ExtSession`; it and all that it started is gone after the test."""
    from .sessions import Given

    with Given(request) as given:
        yield given.start(1)[0]


@pytest.fixture
def ext_sessions(request: pytest.FixtureRequest) -> Iterator[Any]:
    """`ext_sessions(n, python=None, **keywords)`: a list of n sessions, which are started together."""
    from .sessions import Given

    with Given(request) as given:
        yield given.start


@pytest.fixture(scope="session")
def ext_session_factory(request: pytest.FixtureRequest) -> Iterator[Any]:
    """As `ext_sessions`, for all tests: the sessions are closed at the end of the run."""
    from .sessions import Given

    with Given(request) as given:
        yield given.start


@pytest.fixture(scope="module")
def ext_setup() -> str:
    """Source that `ext_base` runs once; to be overridden."""
    return ""


@pytest.fixture(scope="module")
def ext_base(request: pytest.FixtureRequest, ext_setup: str) -> Iterator[ExtSession]:
    """A session in which `ext_setup` has run, for the tests of a module."""
    from .sessions import Given

    with Given(request) as given:
        yield given.prepared(ext_setup)


@pytest.fixture
def ext_branch(request: pytest.FixtureRequest, ext_base: ExtSession) -> Iterator[ExtSession]:
    """A copy of `ext_base`, of the test's own."""
    from .sessions import Given

    with Given(request) as given:
        yield given.branch_of(ext_base)


@pytest.fixture
def ext_async_session(request: pytest.FixtureRequest) -> AsyncExtSession:
    """An `extsession.AsyncExtSession` for a test that pytest-trio, anyio or pytest-asyncio runs: `async with` it."""
    from .sessions import Given

    return Given(request).asynchronous()


@pytest.fixture
def ext_run(request: pytest.FixtureRequest) -> Any:
    """`ext_run(source, **keywords)`: run it in a process of its own; (stdout, stderr), with status and error."""
    from .sessions import one_shot

    return one_shot(request)
