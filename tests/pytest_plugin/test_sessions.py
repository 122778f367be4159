"""The fixtures that give sessions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import QUIET, Ran, section

Run = Callable[..., Ran]


def test_each_fixture(ran: Run) -> None:
    found = ran(
        """
        import pytest

        @pytest.fixture(scope="module")
        def ext_setup():
            return "x = [1]; import os"

        pids = []

        def test_session(ext_session):
            ext_session["a"] = 3
            assert ext_session.eval("a * 2") == 6
            pids.append(ext_session.pid)

        def test_sessions(ext_sessions):
            one, two = ext_sessions(2)
            one["a"] = 1
            assert "a" not in two and one.pid != two.pid
            pids.extend([one.pid, two.pid])

        @pytest.mark.parametrize("i", [1, 2])
        def test_branches(ext_branch, ext_base, i):
            ext_branch.execute("x.append(%d)" % i).wait()
            assert ext_branch.eval("x") == [1, i] and ext_base.eval("x") == [1]

        def test_factory(ext_session_factory):
            (session,) = ext_session_factory(1)
            assert session.eval("1") == 1

        @pytest.mark.ext_options(env={"A": "b"})
        class TestOptions:
            def test_options(self, ext_session, ext_run):
                assert ext_session.eval("__import__('os').environ['A']") == "b"
                assert ext_run("import os; print(os.environ['A'])").stdout == "b\\n"

        def test_async(ext_async_session):
            import trio

            async def use():
                async with ext_async_session as session:
                    return await session.eval("3")

            assert trio.run(use) == 3

        def test_gone():
            import os
            assert len(pids) == 3
            for pid in pids:
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)

        def test_call_still_running(ext_session):
            ext_session.execute("import time; time.sleep(60)")
        """,
        "-v",
    )
    assert found.ret == 0, [report.longreprtext for report in found.every if report.failed]


def test_failures_show_what_sessions_did(ran: Run) -> None:
    found = ran(
        """
        def test_calls(ext_session):
            for i in range(12):
                ext_session.execute("x = %d" % i).wait()
            ext_session.eval("x")
            assert 0

        def test_died(ext_session):
            print("here")
            ext_session.execute("import os, sys; sys.stderr.write('last'); os.abort()").wait()

        def test_fine(ext_session):
            ext_session.eval("1")
        """,
        "-v",
    )
    calls = section(found.failed("test_calls"), "extsession: calls").splitlines()
    assert len(calls) == 10
    assert calls[0].startswith("execute('x = 3') -> ")
    assert calls[-1] == "eval('x') -> 11"
    died = section(found.reports["test_died"]["call"], "extsession: session died")
    assert "signal: SIGABRT" in died and "running: " in died and "last" in died
    assert not any(name.startswith("extsession") for name, _ in found.reports["test_fine"]["call"].sections)


def test_in_isolated_tests(ran: Run) -> None:
    found = ran("def test_a(ext_session):\n    assert ext_session.eval('6 * 7') == 42\n")
    assert found.ret == 0, [report.longreprtext for report in found.every if report.failed]


def test_wrong_options(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n\n@pytest.mark.ext_options(3)\ndef test_a(ext_session):\n    pass\n")
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mark ext_options takes keywords only, not (3,)*"])
