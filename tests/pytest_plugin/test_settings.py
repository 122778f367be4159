"""The mark, options and ini settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from extsession.pytest_plugin.settings import WrongSetting, size

from .conftest import QUIET, Ran

Run = Callable[..., Ran]


@pytest.mark.parametrize(
    "mark, said",
    [
        ("isolated(timout=3)", "has no argument timout=3"),
        ("isolated(timeout='3')", "timeout takes seconds above 0, not '3'"),
        ("isolated(timeout=0)", "timeout takes seconds above 0, not 0"),
        ("isolated(timeout=float('nan'))", "timeout takes seconds above 0, not nan"),
        ("isolated(memory='5Q')", "memory takes bytes, as 500000000, '500M' or '1.5G', not '5Q'"),
        ("isolated(memory=10)", "memory takes bytes from 1M up, not 10"),
        ("isolated(cpu=-1)", "cpu takes seconds above 0, not -1"),
        ("isolated(fixtures='both')", "fixtures takes 'shared' or 'fresh', not 'both'"),
        ("isolated(start='thread')", "start takes 'fork' or 'spawn', not 'thread'"),
        ("isolated(python=3.9)", "not 3.9"),
        ("isolated(python=[3.9])", "write '3.9'"),
        ("isolated(python=[])", "python takes a version, path or virtual environment, or a list of these, not []"),
        ("isolated(python=['3.9', '3.9'])", "has one of them twice"),
        ("isolated(python='3.9', fixtures='shared')", "together with fixtures='shared'"),
        ("isolated(python='3.9', start='fork')", "together with start='fork'"),
        ("isolated(env={'A': 3})", "env['A'] takes a string or None, not 3"),
        ("isolated(env=['A'])", "env takes a dict, not ['A']"),
        ("isolated('yes')", "enabled takes True or False, not 'yes'"),
        ("isolated(True, False)", "takes one argument without a name"),
    ],
)
def test_a_wrong_mark_is_an_error_of_the_collection(pytester: pytest.Pytester, mark: str, said: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.{mark}\ndef test_wrong():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(errors=1)
    text = str(result.stdout)
    assert "test_wrong: mark isolated" in text and said in text, text


def test_the_closest_mark_wins_for_each_argument(ran: Run) -> None:
    found = ran(
        """
        import os, time
        import pytest

        pytestmark = pytest.mark.isolated(timeout=0.2, env={"A": "module", "HOME": None})

        class TestClass:
            pytestmark = pytest.mark.isolated(env={"A": "class"})

            def test_env(self):
                assert os.environ["A"] == "class" and "HOME" in os.environ
                time.sleep(60)

            @pytest.mark.isolated(timeout=None)
            def test_none(self):
                time.sleep(0.4)

            @pytest.mark.isolated(False)
            def test_not(self):
                assert "A" not in os.environ

        def test_module():
            assert os.environ["A"] == "module" and "HOME" not in os.environ
        """,
        "--isolated",
    )
    assert found.failed("TestClass::test_env").longrepr.startswith("isolated test timed out: 0.2s")
    for name in ("TestClass::test_none", "TestClass::test_not", "test_module"):
        assert found.reports[name]["call"].passed, found.reports[name]["call"].longreprtext
    assert not hasattr(found.reports["TestClass::test_not"]["teardown"], "isolated")


def test_options_before_ini(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        isolated = all
        isolated_timeout = 20
        isolated_memory = 1.5G
        isolated_fixtures = fresh
        """
    )
    pytester.makepyfile("def test_a():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET, "--isolated-timeout=10", "--isolated-cpu=4")
    result.stdout.fnmatch_lines(["isolated: all, timeout 10s, memory 1536 MiB, cpu 4s, fresh fixtures, fork"])
    result = pytester.runpytest_inprocess(*QUIET, "--no-isolated")
    assert "isolated:" not in str(result.stdout)


@pytest.mark.parametrize(
    "args, said",
    [
        (("--isolated", "--isolated-timeout=x"), "--isolated-timeout takes seconds above 0, not 'x'"),
        (("--isolated", "--isolated-memory=x"), "--isolated-memory takes bytes"),
        (("--isolated", "--isolated-fixtures=x"), "--isolated-fixtures takes 'shared' or 'fresh', not 'x'"),
        (("-o", "isolated=some"), "the ini setting isolated takes all, marked, none, not 'some'"),
        (("--isolated", "-o", "isolated_cpu=-1"), "isolated_cpu takes seconds above 0, not -1.0"),
    ],
)
def test_a_wrong_option_is_an_error_of_usage(pytester: pytest.Pytester, args: tuple[str, ...], said: str) -> None:
    result = pytester.runpytest_inprocess(*QUIET, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in str(result.stderr) + str(result.stdout)


def test_sizes() -> None:
    assert [size(each, "m") for each in ("1M", "1.5G", "2048K", " 3 MiB ", 2**21)] == [
        2**20,
        3 * 2**29,
        2**21,
        3 * 2**20,
        2**21,
    ]
    for wrong in ("", "M", "-1M", "1e9", 1.5, True, None, "99999999T"):
        with pytest.raises(WrongSetting):
            size(wrong, "m")


def test_what_pytest_shows_of_it(pytester: pytest.Pytester) -> None:
    assert "isolated(enabled=True, *, timeout" in str(pytester.runpytest_inprocess("--markers").stdout)
    text = str(pytester.runpytest_inprocess("--help").stdout)
    assert "--isolated-memory=SIZE" in text and "isolated_fresh_fixtures" in text
    text = str(pytester.runpytest_inprocess("--fixtures").stdout)
    assert "ext_session" in text and "ext_branch" in text


def test_forked_means_fresh(ran: Run) -> None:
    found = ran(
        """
        import os
        import pytest

        @pytest.fixture(scope="module")
        def pid():
            return os.getpid()

        @pytest.mark.forked
        def test_a(pid):
            assert pid == os.getpid()
        """,
        "-v",
    )
    assert found.ret == 0
    assert found.reports["test_a"]["teardown"].isolated["kind"] == ""


@pytest.mark.parametrize("option", ["--pdb", "--trace"])
def test_off_for_debuggers(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile("def test_a():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET, "--isolated", option, "--collect-only")
    result.stdout.fnmatch_lines([f"isolated: off ({option})"])


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan"])
def test_not_isolated_if_nothing_runs(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile("def test_a():\n    pass\n")
    assert pytester.runpytest_inprocess(*QUIET, "--isolated", option).ret == 0


def test_usage(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a():\n    bytearray(b'x') * 10**8\n\ndef test_b():\n    sum(range(10**7))\n")
    result = pytester.runpytest_inprocess(*QUIET, "--isolated", "--isolated-usage")
    lines = [line.split() for line in result.stdout.lines if "test_usage.py::" in line]
    assert [line[-1].rpartition("::")[2] for line in lines] == ["test_a", "test_b", "test_b", "test_a"]
