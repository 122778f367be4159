"""Each kind of death is one failed test with the right reason, and the run goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Ran, section

Run = Callable[..., Ran]


def test_deaths_in_each_phase(ran: Run) -> None:
    found = ran(
        """
        import logging, os, sys, time, ctypes
        import pytest

        @pytest.fixture
        def bad(request):
            if request.param == "setup":
                print("in setup")
                os._exit(3)
            yield
            os.kill(os.getpid(), 9)

        @pytest.mark.parametrize("bad", ["setup", "teardown"], indirect=True)
        def test_fixture(bad):
            print("called")

        def test_crash():
            print("to stdout")
            os.write(2, b"to stderr")
            logging.getLogger("x").warning("logged")
            ctypes.string_at(0)

        def test_exit():
            os._exit(7)

        def test_exit_0():
            os._exit(0)

        def test_next():
            pass
        """
    )
    setup = found.failed("test_fixture[setup]")
    assert (setup.when, setup.longrepr) == ("setup", "isolated test exited: status 3 during setup")
    assert section(setup, "Captured stdout setup") == "in setup\n"
    teardown = found.failed("test_fixture[teardown]")
    assert (teardown.when, teardown.longrepr) == (
        "teardown",
        "isolated test crashed: signal 9 (SIGKILL) during teardown",
    )
    assert section(found.reports["test_fixture[teardown]"]["call"], "Captured stdout call") == "called\n"
    crash = found.failed("test_crash")
    assert crash.longrepr == "isolated test crashed: signal 11 (SIGSEGV) during call"
    assert section(crash, "Captured stdout call") == "to stdout\n"
    assert section(crash, "Captured stderr call") == "to stderr"
    assert section(crash, "Captured log call").endswith("logged")
    fatal = section(crash, "Fatal error")
    assert "Segmentation fault" in fatal and "in test_crash" in fatal and "_inner" not in fatal
    assert crash.isolated["kind"] == "crash" and crash.isolated["signal"] == "SIGSEGV"
    assert ("isolated", "crash") in crash.user_properties
    assert found.failed("test_exit").longrepr == "isolated test exited: status 7 during call"
    assert found.failed("test_exit_0").longrepr == "isolated test exited: status 0 during call"
    after = found.reports["test_next"]
    assert all(report.passed and not report.sections for report in after.values())


def test_timeouts(ran: Run) -> None:
    began = time.monotonic()
    found = ran(
        """
        import signal, threading, time
        import pytest

        pytestmark = pytest.mark.isolated(timeout=0.3)

        @pytest.fixture
        def slow():
            yield
            time.sleep(60)

        def test_loop():
            while True:
                pass

        def test_in_c():
            print("before")
            sum(iter(int, 1))

        def test_teardown(slow):
            pass

        def test_blocked():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            time.sleep(60)

        def test_next():
            pass
        """,
        "-s",
    )
    assert time.monotonic() - began < 50
    for name in ("test_loop", "test_in_c", "test_blocked"):
        report = found.failed(name)
        assert report.longrepr == "isolated test timed out: 0.3s, stopped during call"
        assert 0 < report.duration < 20
    assert "in test_in_c" in section(found.failed("test_in_c"), "Stack of threads")
    assert found.failed("test_teardown").longrepr == "isolated test timed out: 0.3s, stopped during teardown"
    assert found.reports["test_next"]["call"].passed


def test_memory_and_cpu(ran: Run) -> None:
    found = ran(
        """
        import mmap, os, subprocess, sys
        import pytest

        @pytest.mark.isolated(memory="64M")
        def test_refused():
            bytearray(200 * 2**20)

        @pytest.mark.isolated(memory="64M")
        def test_of_all_together():
            code = "import time; x = bytearray(b'x') * (50 * 2**20); time.sleep(60)"
            for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]:
                process.wait()

        @pytest.mark.isolated(cpu=1)
        def test_cpu():
            while True:
                pass

        @pytest.mark.isolated(memory="64M")
        def test_enough():
            bytearray(20 * 2**20)
        """
    )
    assert "MemoryError" in found.failed("test_refused").longreprtext
    memory = found.failed("test_of_all_together")
    assert memory.longrepr.startswith("isolated test exceeded memory: ")
    assert memory.longrepr.endswith(" MiB used, 64 MiB allowed, during call")
    assert memory.isolated["used"] > memory.isolated["limit"] == 64 * 2**20
    assert found.failed("test_cpu").longrepr == "isolated test exceeded cpu time: 1s during call"
    assert found.reports["test_enough"]["call"].passed


def test_what_a_test_leaves_is_gone_before_the_next(ran: Run, tmp_path: Path) -> None:
    found = ran(
        f"""
        import os, pathlib, subprocess, sys, time
        import pytest

        FILE = {str(tmp_path / "pids")!r}

        left = []

        def pids():
            return pathlib.Path(FILE).read_text().split()

        def leave():
            # one that is a daemon: in a session of its own, without a parent
            if not os.fork():
                os.setsid()
                if not os.fork():
                    with open(FILE, "a") as file:
                        file.write("%d\\n" % os.getpid())
                    time.sleep(60)
                os._exit(0)
            os.wait()
            process = subprocess.Popen(["sleep", "60"])
            left.append(process)
            with open(FILE, "a") as file:
                file.write("%d\\n" % process.pid)
            while len(pids()) % 2:
                time.sleep(0.001)

        def gone():
            for pid in map(int, pids()):
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)

        def test_passes():
            leave()

        @pytest.mark.isolated(timeout=0.5)
        def test_hangs():
            gone()
            leave()
            time.sleep(60)

        def test_crashes():
            gone()
            leave()
            os.abort()

        @pytest.mark.isolated(False)
        def test_last():
            gone()
            assert len(pids()) == 6
        """
    )
    assert found.reports["test_passes"]["call"].passed
    assert found.reports["test_last"]["call"].passed
    assert "timed out" in found.failed("test_hangs").longrepr
    assert "SIGABRT" in found.failed("test_crashes").longrepr


def test_a_fork_of_the_test_that_comes_back_tells_nothing(ran: Run) -> None:
    found = ran("import os\n\ndef test_a():\n    if os.fork():\n        os.wait()\n")
    assert [report.when for report in found.every] == ["setup", "call", "teardown"]
    assert found.ret == 0


def test_all_descriptors_closed(ran: Run) -> None:
    found = ran("import os\n\ndef test_a():\n    os.closerange(3, 256)\n\ndef test_b():\n    pass\n")
    assert found.failed("test_a").longrepr.startswith("isolated test ")
    assert found.reports["test_b"]["call"].passed


def test_expected_deaths(ran: Run) -> None:
    found = ran(
        """
        import os
        import pytest

        @pytest.mark.xfail(reason="known")
        def test_known():
            os.abort()

        @pytest.mark.xfail(raises=ValueError)
        def test_other():
            os.abort()

        @pytest.mark.xfail(run=False)
        def test_never():
            os.abort()

        @pytest.mark.xfail
        def test_ordinary():
            assert 0
        """
    )
    known = found.reports["test_known"]["call"]
    assert known.skipped
    assert known.wasxfail == "known [isolated test crashed: signal 6 (SIGABRT) during call]"
    assert found.failed("test_other").outcome == "failed"
    assert "[NOTRUN]" in found.reports["test_never"]["setup"].wasxfail
    assert found.reports["test_ordinary"]["call"].wasxfail == ""
    assert found.ret == 1


def test_a_debugger_is_refused(ran: Run) -> None:
    found = ran("import pytest\n\ndef test_a():\n    breakpoint()\n\ndef test_b():\n    pytest.set_trace()\n")
    for name in ("test_a", "test_b"):
        assert found.failed(name).longreprtext.startswith(
            "isolated: no debugger in an isolated test; run it with --no-isolated"
        )


def test_no_progress_before_the_first_phase(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession.pytest_plugin import watch

    monkeypatch.setattr(watch, "START", 0.3)
    monkeypatch.setattr("extsession.pytest_plugin._inner.internals.redirect", lambda *args: time.sleep(60))
    report = ran("def test_a():\n    pass\n").failed("test_a")
    assert report.when == "setup"
    assert report.longrepr.startswith("isolated test failed to start: ")
    assert report.longrepr.endswith('use start="spawn"')


def test_failures_of_ours_are_told(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError("none of the test's")

    monkeypatch.setattr("extsession.pytest_plugin._inner.child._put_apart", fail)
    report = ran("def test_a():\n    pass\n").failed("test_a")
    assert report.longrepr.startswith("isolated test failed to report: Traceback")
    assert "none of the test's" in report.longrepr


def test_what_cannot_be_told(ran: Run) -> None:
    """A message that is none."""
    found = ran(
        """
        import os

        def test_a():
            for fd in range(3, 64):
                try:
                    os.write(fd, b"\\0\\0\\0\\2{}")
                except OSError:
                    pass
        def test_b():
            pass
        """
    )
    assert found.failed("test_a").longrepr.startswith("isolated test failed to report")
    assert found.reports["test_b"]["call"].passed


def test_pids_of_reports_are_children(ran: Run) -> None:
    found = ran("import os\n\ndef test_a():\n    print(os.getpid(), os.getpgid(0), end='')\n")
    pid, group = section(found.reports["test_a"]["call"], "Captured stdout call").split()
    assert pid == group != str(os.getpid())


def test_no_process_more(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("extsession.pytest_plugin._inner.host._fork", refuse)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    found = ran("def test_a():\n    pass\n")
    assert found.failed("test_a").longrepr.startswith("isolated test failed to start: [Errno 11]")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
