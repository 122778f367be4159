"""What is reported is what pytest would have reported without isolation."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from .conftest import QUIET, Ran, section

Run = Callable[..., Ran]

SUITE = """
    import asyncio, logging, os, sys, unittest, warnings
    import pytest

    @pytest.fixture
    def before():
        print("set up")
        yield 1
        print("torn down")

    def test_output(before, record_property):
        print("out")
        print("err", file=sys.stderr)
        logging.getLogger("a").warning("log")
        record_property("key", ("value", 3))
        assert 0, "said"

    @pytest.mark.parametrize("a", [1, "x", None])
    def test_params(a):
        assert a

    def test_warns():
        warnings.warn("careful", FutureWarning)

    class Own(Warning):
        def __init__(self, one, two):
            super().__init__(one + two)

    def test_own_warning():
        warnings.warn(Own("a", "b"))

    @pytest.mark.filterwarnings("error")
    def test_warning_is_error():
        warnings.warn("careful")

    @pytest.mark.skip(reason="because")
    def test_skip(): pass

    def test_skips():
        pytest.skip("inside")

    @pytest.mark.xfail(strict=True)
    def test_strict(): pass

    def test_subtests(subtests):
        for i in range(3):
            with subtests.test("m", i=i):
                assert i == 1

    class TestUnit(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            cls.value = 3
        def test_sub(self):
            for i in range(2):
                with self.subTest(i=i):
                    self.assertEqual(i, 0)
        def test_ok(self):
            self.assertEqual(self.value, 3)
        @unittest.expectedFailure
        def test_expected(self):
            self.fail()
        @unittest.skip("no")
        def test_skipped(self): pass

    def test_capsys(capsys):
        print("x")
        assert capsys.readouterr().out == "x\\n"

    def test_capfd(capfd):
        os.write(1, b"x")
        assert capfd.readouterr().out == "x"

    def test_caplog(caplog):
        logging.getLogger("b").error("e")
        assert caplog.messages == ["e"]

    def test_paths(tmp_path, monkeypatch, recwarn):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("X", "1")
        warnings.warn("w")
        assert len(recwarn) == 1 and os.listdir(".") == []

    def test_double(before):
        '''
        >>> 1 + 1
        3
        '''
        raise ValueError from KeyError("k")

    def test_group():
        raise SystemExit(3)

    @pytest.fixture
    def fails_later():
        yield
        raise RuntimeError("late")

    def test_error_later(fails_later): pass

    def test_missing(no_such_fixture): pass
"""


def _shape(ran: Ran) -> dict[str, object]:
    """Of all reports what does not depend on time or process."""
    found: dict[str, object] = {}
    for report in ran.every:
        context = getattr(report, "context", None)
        key = f"{report.nodeid} {report.when} {context}"
        text = re.sub(r"0x[0-9a-f]+", "0x", report.longreprtext)
        sections = [(name, text) for name, text in report.sections]
        properties = [(name, list(value)) for name, value in report.user_properties]
        found[key] = (report.outcome, text, sections, properties, getattr(report, "wasxfail", None), report.location)
    return found


@pytest.mark.parametrize("mode", ["shared", "fresh"])
def test_the_same_reports(ran: Run, mode: str) -> None:
    args = ("--doctest-modules", "-Wdefault", "--durations=3")
    plain = ran(SUITE, "--no-isolated", *args)
    isolated = ran(SUITE, "--isolated", f"--isolated-fixtures={mode}", *args)
    assert _shape(isolated) == _shape(plain)
    assert len(_shape(plain)) > 60
    assert isolated.ret == plain.ret == 1

    def warned(found: Ran) -> list[tuple[str, str, int]]:
        return [(each.category.__name__, str(each.message), each.lineno) for each in found.warnings]

    assert warned(isolated) == warned(plain) != []


@pytest.mark.parametrize("args", [("-x",), ("--maxfail=2",), ("--capture=sys",), ("-s",), ("-p", "no:logging"), ("-v",)])
def test_the_same_summary(pytester: pytest.Pytester, args: tuple[str, ...]) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_a(): print("a")
        def test_b(): assert 0
        @pytest.fixture
        def f():
            yield
            assert 0
        def test_c(f): pass
        def test_d(): assert 0
        """
    )
    counts = [pytester.runpytest_inprocess(*QUIET, each, *args).parseoutcomes() for each in ("--no-isolated", "--isolated")]
    assert counts[0] == counts[1]


def test_warnings_as_errors(ran: Run) -> None:
    """Nothing of ours is left open."""
    found = ran("import gc\n\ndef test_a():\n    gc.collect()\n\ndef test_b():\n    gc.collect()\n", "--isolated", "-Werror")
    assert found.ret == 0


def test_exit_ends_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n\ndef test_a():\n    pytest.exit('enough', 5)\n\ndef test_b():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET, "--isolated")
    assert result.ret == 5
    result.stdout.fnmatch_lines(["*Exit: enough*"])


def test_stop_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(request):\n    request.session.shouldstop = 'enough'\n\ndef test_b():\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET, "--isolated")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*enough*"])


def test_last_failed_and_junit(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import os\n\ndef test_a():\n    os._exit(3)\n\ndef test_b():\n    pass\n")
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--isolated", "--junitxml=out.xml")
    result.assert_outcomes(failed=1, passed=1)
    xml = (pytester.path / "out.xml").read_text()
    assert 'tests="2"' in xml and 'failures="1"' in xml and 'errors="0"' in xml
    assert '<property name="isolated" value="exit"' in xml
    result = pytester.runpytest_inprocess("-p", "no:randomly", "--isolated", "--lf")
    result.assert_outcomes(failed=1)


def test_setup_show(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n\n@pytest.fixture(scope='module')\ndef wide():\n    yield\n\n"
        "@pytest.fixture\ndef own():\n    yield\n\ndef test_a(wide, own):\n    pass\n"
    )
    result = pytester.runpytest_subprocess(*QUIET, "--isolated", "--setup-show")
    result.stdout.fnmatch_lines(["*SETUP    M wide*", "*SETUP    F own*", "*TEARDOWN F own*", "*TEARDOWN M wide*"])
    assert str(result.stdout).count("SETUP ") == 2


def test_temporary_folders_have_one_base(ran: Run) -> None:
    found = ran("def test_a(tmp_path):\n    print(tmp_path.parent, end='')\n\ntest_b = test_a\n", "--isolated")
    bases = {section(reports["call"], "Captured stdout call") for reports in found.reports.values()}
    assert len(bases) == 1


def test_faulthandler_timeout(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import time\n\ndef test_a():\n    time.sleep(0.4)\n\ndef test_b():\n    assert 0\n")
    result = pytester.runpytest_subprocess(*QUIET, "--isolated", "-o", "faulthandler_timeout=0.1", timeout=30)
    result.assert_outcomes(passed=1, failed=1)
    assert "in test_a" in str(result.stderr)
    assert sys.version_info >= (3, 10)


def test_what_is_lost_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(record_testsuite_property):\n    record_testsuite_property('a', 'b')\n")
    result = pytester.runpytest_inprocess(*QUIET, "--isolated", "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*isolated: record_testsuite_property has no effect in an isolated test"])


def test_threads_are_named_with_v(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import threading\nend = threading.Event()\n\ndef setup_module():\n"
        "    threading.Thread(target=end.wait, name='waits', daemon=True).start()\n\n"
        "def teardown_module():\n    end.set()\n\ndef test_a():\n    pass\n\ndef test_b():\n    pass\n"
    )
    result = pytester.runpytest_subprocess(*QUIET, "--isolated", "-v")
    result.assert_outcomes(passed=2)
    assert str(result.stdout).count("threads are running in pytest's process, which is forked: waits") == 1
