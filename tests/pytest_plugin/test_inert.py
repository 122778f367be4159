"""A run that does not ask for it does not notice the plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent / "extsession"


def test_nothing_of_the_package_is_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            assert [name for name in sys.modules if name.startswith("extsession")] == [
                "extsession", "extsession.pytest_plugin"
            ]
            assert "ctypes" not in sys.modules and "psutil" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:trio", "-p", "no:anyio", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)


def test_its_import_takes_less_than_5_ms() -> None:
    script = (
        "import pytest, dataclasses, time, sys\nbegan = time.process_time()\nimport extsession.pytest_plugin\n"
        "print(time.process_time() - began)"
    )
    found = [float(subprocess.run([sys.executable, "-c", script], capture_output=True).stdout) for _ in range(5)]
    assert min(found) < 0.005


def test_the_output_is_unchanged(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a():\n    pass\n\ndef test_b():\n    assert 0\n")

    def lines(*args: str) -> list[str]:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-v", *args)
        return [line.partition(" in ")[0] for line in result.stdout.lines if not line.startswith("plugins:")]

    assert lines() == lines("-p", "no:extsession")


def test_internals_of_pytest_are_touched_in_one_module() -> None:
    touched = {
        path.name
        for path in (ROOT / "pytest_plugin").rglob("*.py")
        if any("_pytest" in line and "import" in line for line in path.read_text("utf-8").splitlines())
        or "_setupstate" in path.read_text("utf-8")
        or "_fixtureinfo" in path.read_text("utf-8")
    }
    assert touched == {"internals.py"}


def test_this_pytest_has_all_internals(request: pytest.FixtureRequest) -> None:
    """It fails when pytest moves: look at what `missing` names, and at internals.py."""
    from extsession.pytest_plugin._inner import internals

    assert internals.missing(request.session) == {}
    for module, name in (
        ("_pytest.skipping", "xfailed_key"),
        ("_pytest.skipping", "evaluate_skip_marks"),
        ("_pytest.skipping", "evaluate_xfail_marks"),
        ("_pytest.faulthandler", "fault_handler_stderr_fd_key"),
        ("_pytest._io", "TerminalWriter"),
    ):
        assert internals._attribute(module, name) is not None, name
    plugins = request.config.pluginmanager
    assert hasattr(plugins.getplugin("logging-plugin"), "formatter")
    assert hasattr(request.config, "_tmp_path_factory")
    assert hasattr(request.node, "_fixtureinfo") and hasattr(request.node, "_initrequest")


def test_without_internals_fixtures_are_fresh(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession.pytest_plugin._inner import internals

    monkeypatch.setattr(internals, "missing", lambda session: {"Session._setupstate.setup": internals.FOR_SHARED})
    pytester.makepyfile(
        "import os, pytest\n\n@pytest.fixture(scope='module')\ndef pid():\n    return os.getpid()\n\n"
        "def test_a(pid):\n    assert pid == os.getpid()\n"
    )
    result = pytester.runpytest_inprocess("--isolated", "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*does not have Session._setupstate.setup: all fixtures*"])
    monkeypatch.setattr(internals, "missing", lambda session: {"runtestprotocol": internals.FOR_ALL})
    result = pytester.runpytest_inprocess("--isolated")
    assert result.ret != 0
    assert "does not have runtestprotocol; use --no-isolated" in str(result.stdout) + str(result.stderr)
