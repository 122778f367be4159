"""Tests under other interpreters. This one has pytest for certain: it stands for the others where it must be there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extsession.pytest_plugin.elsewhere import label

from .conftest import QUIET, Ran, section

if TYPE_CHECKING:
    from extsession._launch.interpreter import Interpreter

Run = Callable[..., Ran]


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """This interpreter under two names."""
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "python").symlink_to(sys.executable)
        (folder / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
        script = folder / "bin"
        script.mkdir()
        path = script / "python"
        path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        path.chmod(0o755)
        found.append(str(path))
    return found


def test_tests_under_two_interpreters(ran: Run, two: list[str]) -> None:
    found = ran(
        f"""
        import os, time, warnings
        import pytest

        pytestmark = pytest.mark.isolated(python={two!r}, timeout=5)

        def test_pid():
            print(os.getppid())
            warnings.warn("here")

        @pytest.mark.parametrize("i", [1, 2])
        def test_params(i, tmp_path):
            assert i == 1

        def test_crash():
            print("last words")
            os.abort()

        @pytest.mark.isolated(timeout=0.3)
        def test_loop():
            while True:
                pass

        def test_doc():
            '''
            >>> 1 + 1
            3
            '''
        """,
        "--doctest-modules",
        "-Wdefault",
    )
    names = [
        *(f"test_pid[py-{each}]" for each in ("one", "two")),
        *(f"test_params[py-{each}-{i}]" for i in (1, 2) for each in ("one", "two")),
        *(f"test_crash[py-{each}]" for each in ("one", "two")),
        *(f"test_loop[py-{each}]" for each in ("one", "two")),
        *(f"test_doc[py-{each}]" for each in ("one", "two")),
    ]
    mine = [name for name in found.reports if "." not in name]
    assert mine == names
    workers = {section(found.reports[name]["call"], "Captured stdout call") for name in names[:2]}
    assert len(workers) == 2 and str(os.getpid()) not in workers
    assert "assert 2 == 1" in found.failed("test_params[py-one-2]").longreprtext
    crash = found.failed("test_crash[py-two]")
    assert crash.longrepr == "isolated test crashed: signal 6 (SIGABRT) during call"
    assert section(crash, "Captured stdout call") == "last words\n"
    assert "in test_crash" in section(crash, "Fatal error")
    assert found.failed("test_loop[py-one]").longrepr == "isolated test timed out: 0.3s, stopped during call"
    assert [str(each.message) for each in found.warnings] == ["here", "here"]
    assert found.ret == 1


def test_they_run_at_the_same_time(ran: Run, two: list[str], tmp_path: Path) -> None:
    """Each waits for the other."""
    found = ran(
        f"""
        import os, pathlib, time
        import pytest

        FOLDER = pathlib.Path({str(tmp_path)!r})

        @pytest.mark.isolated(python={two!r}, timeout=20)
        def test_a():
            (FOLDER / ("there-%d" % os.getpid())).touch()
            while len(list(FOLDER.glob("there-*"))) < 2:
                time.sleep(0.01)
        """,
        "-v",
    )
    assert found.ret == 0, [report.longreprtext for report in found.every]


def test_chosen_by_name(pytester: pytest.Pytester, two: list[str]) -> None:
    pytester.makepyfile("def test_a():\n    pass\n\ndef test_b():\n    pass\n")
    every = ("--isolated", f"--isolated-python={','.join(two)}")
    pytester.runpytest_inprocess(*QUIET, *every, "-k", "two").assert_outcomes(passed=2, deselected=2)
    result = pytester.runpytest_inprocess(*QUIET, *every, "test_chosen_by_name.py::test_a[py-one]")
    result.assert_outcomes(passed=1)


def test_spawn_is_a_clean_process(ran: Run) -> None:
    found = ran(
        """
        import sys
        import pytest

        sys.__dict__.setdefault("_forks", []).append(1)

        @pytest.mark.isolated(start="spawn", memory="50M", env={"A": "b"})
        def test_a():
            import os, threading
            assert os.environ["A"] == "b" and "extsession._sync.session" not in sys.modules
            assert len(sys._forks) == 1 and threading.active_count() == 1
            with pytest.raises(MemoryError):
                bytearray(2**28)

        def test_here(): pass
        """,
        "-v",
    )
    assert found.ret == 0, [report.longreprtext for report in found.every]
    assert list(found.reports) == ["test_a", "test_here"]


def test_missing_interpreter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n\n@pytest.mark.isolated(python='3.99')\ndef test_a():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*isolated: no Python 3.99 found"])
    result = pytester.runpytest_inprocess(*QUIET, "--isolated-python-required")
    result.assert_outcomes(errors=1)


def test_interpreters_without_pytest_say_so(pytester: pytest.Pytester, pythons: list[Interpreter]) -> None:
    without = [
        one for one in pythons if not one.is_this and os.system(f"{one.path} -c 'import pytest' 2>/dev/null")
    ]
    if not without:
        pytest.skip("every other interpreter of this machine has pytest")
    version = "%d.%d" % without[0].version[:2]
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.isolated(python={without[0].path!r})\ndef test_a():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"isolated: pytest is not installed in Python {version} (*); *pip install pytest there"])


def test_not_collected_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest

        if "PARENT" not in os.environ:
            raise RuntimeError("not there")

        @pytest.mark.isolated(start="spawn")
        def test_a(): pass
        """
    )
    pytester.makeconftest(
        "import os\n\ndef pytest_collection(session):\n"
        "    if session.config.pluginmanager.hasplugin('extsession'):\n        os.environ['PARENT'] = '1'\n\n"
        "def pytest_collection_finish():\n    os.environ.pop('PARENT', None)\n"
    )
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["isolated: Python * did not collect *::test_a", "*RuntimeError: not there*"])


def test_a_configuration_that_does_not_start_there(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n\n@pytest.mark.isolated(start='spawn')\ndef test_a():\n    pass\n")
    pytester.makeconftest(
        "import pytest\n\ndef pytest_configure(config):\n"
        "    if not config.pluginmanager.hasplugin('extsession'):\n        raise pytest.UsageError('not here')\n"
    )
    began = time.monotonic()
    result = pytester.runpytest_inprocess(*QUIET)
    assert time.monotonic() - began < 20
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["isolated: pytest in Python * did not start", "*not here*"])


@pytest.mark.parametrize(
    "python, said",
    [
        ("3.9", "py3.9"),
        ("3.13t", "py3.13t"),
        ("python3.8", "py3.8"),
        ("/usr/bin/python3.9", "py-usr"),
        ("/home/x/.venv/bin/python", "py-.venv"),
        ("venvs/my env/", "py-my_env"),
    ],
)
def test_labels(python: str, said: str) -> None:
    assert label(python) == said
