"""Side by side with other plugins. Those that are not installed are told by the reason of a skip."""

from __future__ import annotations

import re
import sys

import pytest

SOURCE = """
import asyncio, os
import pytest
import covered

def test_a(): assert covered.one(1) == 2
def test_b(): assert covered.one(2) == 3
def test_crash(): os.abort()
def test_fail(): assert 0
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(covered="def one(x):\n    if x == 1:\n        return 2\n    return 3\n", test_it=SOURCE)
    return pytester


def _run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(
        "-p", "no:randomly", "-p", "no:cacheprovider", "--isolated", *args, timeout=60
    )


def test_xdist_and_coverage(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytest.importorskip("pytest_cov")
    result = _run(suite, "-n2", "--cov=covered", "--cov-branch")
    result.assert_outcomes(passed=2, failed=2)
    assert re.search(r"covered.py +4 +0 +2 +0 +100%", str(result.stdout)), str(result.stdout)


def test_pytest_cov(suite: pytest.Pytester) -> None:
    pytest.importorskip("pytest_cov")
    result = _run(suite, "--cov=covered", "-v")
    result.assert_outcomes(passed=2, failed=2)
    assert re.search(r"covered.py +4 +0 +100%", str(result.stdout)), str(result.stdout)
    result.stdout.fnmatch_lines(["*what this test has run is not counted*"])


def test_coverage_run(suite: pytest.Pytester) -> None:
    command = (sys.executable, "-m", "coverage", "run", "--include=covered.py")
    args = ("-m", "pytest", "--isolated", "-p", "no:randomly", "-k", "test_a or test_b", "-Wdefault")
    result = suite.run(*command, "-p", *args, timeout=60)
    result.assert_outcomes(passed=2)
    suite.run(sys.executable, "-m", "coverage", "combine")
    assert "100%" in str(suite.run(sys.executable, "-m", "coverage", "report").stdout)
    result = suite.run(*command, *args, timeout=60)
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*isolated: coverage of isolated tests needs [[]run[]] parallel = true"])


def test_xdist_modes(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        "import os, warnings, pytest\n\n@pytest.mark.parametrize('i', range(6))\ndef test_a(i):\n"
        "    warnings.warn('w')\n    if i == 3:\n        os._exit(1)\n"
    )
    result = _run(pytester, "-n2", "--dist=worksteal", "-Wdefault", "--isolated-usage")
    result.assert_outcomes(passed=5, failed=1, warnings=5)
    result.stdout.fnmatch_lines(["isolated test exited: status 1 during call", "*usage of isolated tests*"])


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout(pytester: pytest.Pytester, method: str) -> None:
    pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.fixture(scope="module")
        def wide(): pass

        def test_slow(wide): time.sleep(60)
        def test_next(wide): time.sleep(0.1)

        @pytest.mark.isolated(timeout=0.3)
        def test_ours(): time.sleep(60)
        """
    )
    result = _run(pytester, "--timeout=1", f"--timeout-method={method}", "--durations=3")
    result.assert_outcomes(passed=1, failed=2)
    text = str(result.stdout)
    assert "isolated test timed out: 0.3s, stopped during call" in text
    expected = "isolated test timed out: 1s, stopped during call" if method == "thread" else "Timeout (>1.0s) from pytest"
    assert expected in text


def test_pytest_timeout_in_c_is_ended_from_outside(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a():\n    sum(iter(int, 1))\n")
    result = _run(pytester, "--timeout=0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["isolated test timed out: 0.5s, stopped during call", "*in test_a*"])


def test_async_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import trio
        import pytest

        @pytest.mark.trio
        async def test_trio(nursery):
            await trio.sleep(0)

        @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
        @pytest.mark.anyio
        async def test_anyio(anyio_backend): pass
        """
    )
    _run(pytester, "-Wdefault").assert_outcomes(passed=3)


def test_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """Not among what the suite installs: it warns in every run, and warnings are errors here. benchmarks/ has it."""
    pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is for benchmarks/pytest_releases.py only")
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        import pytest_asyncio

        @pytest_asyncio.fixture(loop_scope="module", scope="module")
        async def loop(): return asyncio.get_running_loop()

        @pytest.mark.asyncio
        async def test_function_loop(): await asyncio.sleep(0)

        @pytest.mark.asyncio(loop_scope="module")
        @pytest.mark.parametrize("i", [1, 2])
        async def test_module_loop(loop, i): assert asyncio.get_running_loop() is loop
        """
    )
    _run(pytester, "-Wdefault").assert_outcomes(passed=3)


def test_hypothesis(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "from hypothesis import given, strategies as st\n\n@given(st.integers())\ndef test_a(i):\n    assert i < 100\n"
    )
    result = _run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*i=100*"])


def test_plugins_that_cannot_be_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        pytest_benchmark_stub="import pytest\n\n@pytest.fixture\ndef benchmark():\n    return 1\n",
        rerun_stub="def pytest_addoption(parser):\n    parser.addoption('--reruns', type=int)\n",
        test_it="def test_bench(benchmark):\n    pass\n\ndef test_b():\n    pass\n",
    )
    pytester.makeconftest(
        """
        import pytest_benchmark_stub, rerun_stub

        def pytest_addoption(parser, pluginmanager):
            pluginmanager.register(pytest_benchmark_stub, "benchmark")
            pluginmanager.register(rerun_stub, "rerunfailures")
        """
    )
    pytester.syspathinsert()
    result = _run(pytester, "--reruns=2", "-Wdefault", "-p", "no:rerunfailures.x")
    result.assert_outcomes(passed=1, errors=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "isolated: the benchmark fixture cannot be used in an isolated test",
            "*isolated: reruns do not apply to isolated tests*",
        ]
    )


def test_a_rival_runs_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="import os, pytest\nPARENT = os.getpid()\n\ndef test_a():\n    assert os.getpid() == PARENT\n")
    pytester.makepyfile(rival="def pytest_addoption(parser):\n    parser.addoption('--isolate', action='store_true')\n")
    pytester.makeconftest(
        "import rival\n\ndef pytest_addoption(pluginmanager):\n    pluginmanager.register(rival, 'pytest_isolate')\n"
    )
    pytester.syspathinsert()
    result = _run(pytester, "--isolate", "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*isolated: pytest-isolate gives tests processes of their own too*"])
