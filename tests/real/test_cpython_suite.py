"""The interpreter's own test suite, run by sessions and by `python -c`: the same tests, the same outcomes.

What no test of ours thinks of, somebody in CPython has tested: streams, forks, signals, threads, terminals, `__main__`.
A test whose outcome differs is a defect of the session unless `EXPLAINED` says why it has to differ.

Each module runs in a process of its own, in both ways, on the newest and on the oldest CPython found. Most of
the time they sleep, so many run at once; where that has upset one that measures time, the module is run
again, alone, and only a difference that is there again counts. EXTSESSION_FULL=1 runs more modules.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession
from extsession._launch.interpreter import Interpreter, candidates

AT_ONCE = 12
PATIENCE = 240.0

#: seconds that each takes, roughly: the long ones start first
MODULES = {
    "test_subprocess": 28,
    "test_io": 28,
    "test_signal": 21,
    "test_asyncio.test_tasks": 15,
    "test_threading": 15,
    "test_pickle": 5,
    "test_json": 2,
    "test_asyncgen": 1,
    "test_asyncio.test_runners": 1,
    "test_atexit": 1,
    "test_builtin": 1,
    "test_code": 1,
    "test_coroutines": 1,
    "test_dataclasses": 1,
    "test_fileinput": 1,
    "test_generators": 1,
    "test_getpass": 1,
    "test_grammar": 1,
    "test_inspect": 1,
    "test_print": 1,
    "test_pty": 1,
    "test_sys_settrace": 1,
    "test_thread": 1,
    "test_traceback": 1,
    "test_typing": 1,
}
MORE = {
    "test_frame": 1,
    "test_context": 1,
    "test_fileio": 1,
    "test_warnings": 1,
    "test_sys": 1,
    "test_readline": 1,
    "test_linecache": 1,
    "test_contextlib": 1,
    "test_collections": 1,
    "test_asyncio.test_events": 8,
    "test_asyncio.test_subprocess": 20,
    "test_asyncio.test_unix_events": 1,
    "test_bdb": 1,
    "test_cmd": 1,
    "test_compile": 9,
    "test_descr": 1,
    "test_doctest": 1,
    "test_enum": 1,
    "test_epoll": 1,
    "test_exceptions": 2,
    "test_faulthandler": 18,
    "test_fcntl": 1,
    "test_file": 1,
    "test_fork1": 6,
    "test_functools": 1,
    "test_gc": 2,
    "test_ioctl": 1,
    "test_logging": 18,
    "test_module": 1,
    "test_openpty": 1,
    "test_os": 13,
    "test_pdb": 5,
    "test_poll": 11,
    "test_posix": 1,
    "test_pprint": 1,
    "test_profile": 1,
    "test_raise": 1,
    "test_resource": 1,
    "test_runpy": 1,
    "test_scope": 1,
    "test_select": 11,
    "test_selectors": 14,
    "test_shutil": 2,
    "test_symtable": 1,
    "test_syntax": 1,
    "test_sys_setprofile": 1,
    "test_tempfile": 2,
    "test_trace": 3,
    "test_tty": 1,
    "test_wait3": 6,
    "test_wait4": 6,
    "test_weakref": 8,
    "test_with": 1,
}
if os.environ.get("EXTSESSION_FULL"):
    MODULES = {**MODULES, **MORE}

#: Tests whose outcome differs, and why it must.
EXPLAINED = {
    "test.test_pdb.test_pdb_issue_20766": "prints the handler of SIGINT, which is the session's own",
}

# Runs in the interpreter under test. What a test could hang on or is not meant for a shared machine
# (network, gigabytes) is off, as in a plain `python -m test`.
RECORDER = """
import json, re, unittest
from test import support
support.use_resources = {}
support.verbose = 0

class Recorder(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.found = {}
    def note(self, test, what, why=""):
        name = re.sub("0x[0-9a-f]+", "0x", test.id())
        self.found.setdefault(name, []).append([what, why])
    def addSuccess(self, test):
        self.note(test, "passed")
    def addSkip(self, test, reason):
        self.note(test, "skipped: " + reason)
    def addError(self, test, err):
        self.note(test, "error", self._exc_info_to_string(err, test))
    def addFailure(self, test, err):
        self.note(test, "failed", self._exc_info_to_string(err, test))
    def addExpectedFailure(self, test, err):
        self.note(test, "failed as expected")
    def addUnexpectedSuccess(self, test):
        self.note(test, "passed unexpectedly")
    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(subtest, "subtest failed", self._exc_info_to_string(err, test))

def record(module, path):
    recorder = Recorder()
    try:
        unittest.defaultTestLoader.loadTestsFromName(module).run(recorder)
    except unittest.SkipTest as skip:
        recorder.found[module] = [["skipped: " + str(skip), ""]]
    with open(path, "w") as file:
        json.dump(recorder.found, file)
"""

#: test id -> (outcome, details) pairs: more than one where subtests or a tearDown failed as well
Found = dict[str, list[list[str]]]


def _environment() -> dict[str, str]:
    """Ours, without what would measure coverage there: tests of sys.settrace would be upset by it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def _run_directly(python: Interpreter, source: str, folder: Path) -> str:
    done = subprocess.run(
        [python.path, "-c", source],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        start_new_session=True,  # a session has no controlling terminal either
    )
    return f"exit status {done.returncode}\n{done.stdout}"


def _run_in_session(python: Interpreter, source: str, folder: Path) -> str:
    with ExtSession(python.path, cwd=folder, env=_environment()) as session:
        results = session.execute(source, timeout=PATIENCE).wait()
        if session.is_alive:
            assert session.eval("1 + 1") == 2
        return f"{results.completion}\n{results.stdout}\n{results.stderr}"


def _record(how: Any, python: Interpreter, module: str) -> Found:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name, "work")
        folder.mkdir()
        path = Path(name, "found.json")
        output = how(python, f"{RECORDER}\nrecord('test.{module}', {str(path)!r})\n", folder)
        if not path.exists():
            return {f"test.{module}": [["did not finish", output[-3000:]]]}
        found: Found = json.loads(path.read_text())
        return found


def _differences(direct: Found, session: Found) -> dict[str, str]:
    """Of the tests whose outcomes are not the same: what they are."""
    differences = {}
    for test in sorted({*direct, *session}):
        ours, theirs = session.get(test), direct.get(test)
        if [what for what, _ in ours or ()] != [what for what, _ in theirs or ()]:
            differences[test] = f"{test}\n  python -c: {_told(theirs)}\n  session: {_told(ours)}"
    return differences


def _told(outcomes: list[list[str]] | None) -> str:
    if outcomes is None:
        return "not run"
    return "\n".join(" ".join((what, why[-1500:])).strip() for what, why in outcomes)


@functools.cache
def _has_tests(python: Interpreter) -> bool:
    source = "import test.support, test.test_grammar"
    return subprocess.run([python.path, "-c", source], capture_output=True, timeout=30).returncode == 0


def _chosen() -> list[Interpreter]:
    """The newest and the oldest, of those that have the test package if any has."""
    found = candidates()
    newest = next(filter(_has_tests, found), found[0])
    oldest = next(filter(_has_tests, reversed(found)), found[-1])
    return [newest] if newest == oldest else [newest, oldest]


def _version(python: Interpreter) -> str:
    return ".".join(map(str, python.version))


PYTHONS = _chosen()


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], tuple[Found, Found]]]:
    """What was found, directly and in a session, for each (version, module) that was asked for."""
    wanted: list[tuple[Interpreter, str]] = []
    for item in request.session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if item.path == request.path and "module" in parameters and _has_tests(parameters["python"]):
            wanted.append((parameters["python"], parameters["module"]))
    wanted.sort(key=lambda each: -MODULES[each[1]])
    with ThreadPoolExecutor(AT_ONCE) as executor:
        running = {
            (_version(python), module): [
                executor.submit(_record, how, python, module) for how in (_run_directly, _run_in_session)
            ]
            for python, module in wanted
        }
        yield {key: (direct.result(), session.result()) for key, (direct, session) in running.items()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("python", PYTHONS, ids=map(_version, PYTHONS))
def test_same_as_directly(
    python: Interpreter,
    module: str,
    runs: dict[tuple[str, str], tuple[Found, Found]],
) -> None:
    if (_version(python), module) not in runs:
        pytest.skip(f"{python.path} comes without the test package")
    direct, session = runs[_version(python), module]
    assert direct
    differences = _differences(direct, session)
    if differences.keys() - EXPLAINED.keys():
        direct, session = (_record(how, python, module) for how in (_run_directly, _run_in_session))
        again = _differences(direct, session)
        differences = {test: again[test] for test in differences if test in again}
    for test in EXPLAINED.keys() & direct.keys():
        assert test in differences, f"{test} does not differ any more: {EXPLAINED[test]!r} is not true"
    unexplained = [text for test, text in differences.items() if test not in EXPLAINED]
    assert not unexplained, f"{len(unexplained)} tests differ:\n" + "\n".join(unexplained)


def test_the_explanations_name_tests_that_run() -> None:
    names = re.compile("|".join(re.escape(f"test.{module}.") for module in {**MODULES, **MORE}))
    assert all(names.match(test) for test in EXPLAINED)
