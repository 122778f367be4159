"""Limits of real sessions: what ends, what lives on, who holds it, in all the ways that a session comes to be."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from extsession import (
    CallTimeout,
    ExtSession,
    LaunchError,
    LimitExceeded,
    Limits,
    Outcome,
    SessionDied,
    SessionPool,
    exteval,
    extexec,
)
from extsession._launch import cgroup

if TYPE_CHECKING:
    from extsession._launch.interpreter import Interpreter

MB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="resource limits as Linux has them")
FILES = "files = []\nwhile True: files.append(open('/dev/null'))"
HOARD = "hoard = []\nwhile True: hoard.append(bytearray(b'x') * (50 << 20))"
WRITE = "import tempfile\nwith tempfile.TemporaryFile(buffering=0) as file:\n    for _ in range(300): file.write(bytes(1000))"


@pytest.fixture
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no control group can be made."""
    monkeypatch.setattr(cgroup, "where", lambda limit: None)


def until(check: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_limits_by_default() -> None:
    with ExtSession() as session:
        assert session.limits_in_force() == {}
    with pytest.raises(TypeError, match="limits takes a Limits"):
        ExtSession(limits={"wall": 3})  # type: ignore[arg-type]


def test_wall_and_timeout() -> None:
    with ExtSession(limits=Limits(wall=0.2)) as session:
        session["x"] = 3
        results = session.execute("import time; time.sleep(60)").wait()
        assert results.outcome is Outcome.OVER_LIMIT
        assert results.completion.limit == "wall"
        assert results.completion.survived
        with pytest.raises(LimitExceeded, match=r"over limit: wall: it ran .* s, where 0\.2 are allowed"):
            results.result()
        with pytest.raises(CallTimeout):
            session.eval("__import__('time').sleep(60)", timeout=0.05)
        with pytest.raises(LimitExceeded) as caught:
            session.eval("__import__('time').sleep(60)", timeout=50)
        assert caught.value.limit == "wall"
        assert session["x"] == 3


def test_cpu_of_the_session_and_of_its_children() -> None:
    with ExtSession(limits=Limits(cpu=0.3)) as session:
        results = session.execute("while True: pass").wait()
        assert (results.completion.limit, results.completion.survived) == ("cpu", True)
        burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
        results = session.execute(burn).wait()
        assert (results.completion.limit, results.completion.survived) == ("cpu", True)
        assert isinstance(results.error, LimitExceeded)
        assert 0.3 <= (results.error.reached or 0) < 1
        assert session.execute("import time; time.sleep(0.5)").wait().completion.ok


def test_output_ends_the_call_and_keeps_what_is_allowed() -> None:
    with ExtSession(limits=Limits(output=10_000)) as session:
        results = session.execute("while True: print('x' * 99)").wait()
        assert results.completion.limit == "output"
        assert len(results.stdout) + len(results.stderr) == 10_000
        assert results.dropped > 0
        chunks: list[Any] = []
        results = session.execute("while True: print('x' * 99)", on_output=chunks.append).wait()
        assert results.completion.limit == "output"
        assert session.execute("print('y' * 9_999)").wait().completion.ok
        results = session.execute("print('y' * 9_999)\nprint('z')", output_limit=50).wait()
        assert results.completion.limit == "output"
        assert len(results.stdout) == 50


@linux
@pytest.mark.parametrize("warm", [True, False])
def test_the_kernel_refuses_and_the_session_lives_on(each_python: Interpreter, warm: bool) -> None:
    limits = Limits(memory=200 * MB, open_files=300, file_size=100_000)
    with ExtSession(each_python.path, warm=warm, limits=limits) as session:
        session["x"] = 3
        for source, error in ((WRITE, "File too large"), (HOARD, "MemoryError"), (FILES, "Too many open files")):
            results = session.execute(source).wait()
            assert results.outcome is Outcome.FAILED, results
            assert error in results.stderr
        assert 270 < session.eval("len(files)") < 300
        assert session.eval("len(hoard)") == 3
        session.execute("del files, hoard").wait()
        assert session["x"] == 3
        assert session.execute("import subprocess; print(subprocess.check_output(['echo', 'hi']))").wait().completion.ok
        held = session.limits_in_force()
        assert {name: each.value for name, each in held.items()} == limits.given()
        assert "RLIMIT_DATA" in held["memory"].mechanism


@linux
@pytest.mark.parametrize("open_files", [32, 300])
def test_few_descriptors_are_enough_for_all_that_a_session_does(open_files: int) -> None:
    with ExtSession(limits=Limits(open_files=open_files)) as session:
        session["x"] = 3
        assert session.execute("import subprocess; subprocess.run(['true'])").wait().completion.ok
        assert session.execute("print('flood ' * 10**6)").wait().completion.ok
        with session.fork() as branch:
            assert branch["x"] == 3
            assert branch.execute(FILES).wait().outcome is Outcome.FAILED
        session.checkpoint("here")
        session["x"] = 4
        session.rollback("here")
        assert session["x"] == 3
        assert session.execute(FILES).wait().outcome is Outcome.FAILED
        assert session.eval("len(files)") < open_files
        assert session["x"] == 3


@linux
def test_memory_that_code_keeps_leaves_enough_for_us() -> None:
    with ExtSession(limits=Limits(memory=150 * MB)) as session:
        greedy = "hoard = []\nsize = 1 << 20\nwhile size:\n try: hoard.append(bytearray(size))\n except MemoryError: size //= 2"
        results = session.execute(greedy).wait()
        assert results.completion.survived
        for _ in range(3):
            assert session.execute("1 / 0").wait().completion.survived
        session.execute("hoard.clear()").wait()
        assert session.eval("6 * 7") == 42


@linux
def test_too_little_memory_is_told_at_the_start() -> None:
    for warm in (True, False):
        with pytest.raises(LaunchError, match=r"Limits\.memory=1000000 cannot be held here: the session has \d+ bytes"):
            ExtSession(limits=Limits(memory=1_000_000), warm=warm)


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is held otherwise")
def test_root_without_groups_is_refused_processes(no_groups: None) -> None:
    with pytest.raises(LaunchError, match=r"Limits\.processes=5 cannot be held here: root"):
        ExtSession(limits=Limits(processes=5))


def test_idle() -> None:
    with ExtSession(limits=Limits(idle=0.3)) as session:
        assert session.execute("import time; time.sleep(0.5)").wait().completion.ok
        time.sleep(0.1)
        session["x"] = 3
        until(lambda: session.error)
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "idle"
        with pytest.raises(SessionDied, match="over limit: idle"):
            session.execute("1")
        session.restart()
        assert session.eval("1") == 1
        assert list(session.limits_in_force()) == ["idle"]


def test_session_wall_is_the_end_also_with_recovery() -> None:
    with ExtSession(limits=Limits(session_wall=0.5), recover=True) as session:
        results = session.execute("import time; time.sleep(60)")
        after = session.execute("1")
        assert results.wait().completion.limit == "session_wall"
        assert not results.completion.survived
        assert isinstance(after.wait().error, SessionDied)
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "session_wall"


def test_session_cpu_adds_up() -> None:
    with ExtSession(limits=Limits(session_cpu=0.5)) as session:
        spend = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass"
        outcomes = []
        while session.error is None and len(outcomes) < 20:
            outcomes.append(session.execute(spend).wait().completion.limit)
        assert outcomes[-1] == "session_cpu"
        assert 3 < len(outcomes) < 9


@linux
def test_branches_and_recovered_sessions_have_the_limits_of_their_original() -> None:
    limits = Limits(memory=200 * MB, file_size=100_000, wall=1)
    with ExtSession(limits=limits, recover=True) as session:
        session["x"] = 3
        with session.fork() as branch:
            assert branch.limits_in_force() == session.limits_in_force()
            for source in (HOARD, WRITE):
                assert branch.execute(source).wait().outcome is Outcome.FAILED
        assert session.execute("import os; os.abort()").wait().completion.recovered
        assert session.execute("import time; time.sleep(60)").wait().completion.limit == "wall"
        for source in (HOARD, WRITE):
            assert session.execute(source).wait().outcome is Outcome.FAILED
        assert session["x"] == 3
        assert {name: each.value for name, each in session.limits_in_force().items()} == limits.given()


# changes


def test_limits_of_a_living_session() -> None:
    with ExtSession() as session:
        session.set_limits(Limits(wall=0.2))
        assert session.execute("import time; time.sleep(60)").wait().completion.limit == "wall"
        session.set_limits(Limits(output=100))
        assert session.execute("import time; time.sleep(0.3)").wait().completion.ok
        assert session.execute("print('x' * 200)").wait().completion.limit == "output"
        session.set_limits(Limits())
        assert session.execute("print('x' * 200)").wait().completion.ok
    with ExtSession() as session:
        results = session.execute("while True: pass")
        session.set_limits(Limits(cpu=0.2))  # also of the call that runs, from now on
        assert results.wait().completion.limit == "cpu"
        session.set_limits(Limits(idle=0.1))
        until(lambda: session.error)
        with pytest.raises(SessionDied):
            session.set_limits(Limits())
    with pytest.raises(TypeError, match="set_limits takes a Limits"), ExtSession() as session:
        session.set_limits(3)  # type: ignore[arg-type]


@linux
def test_resource_limits_of_a_living_session_go_down_only() -> None:
    with ExtSession(limits=Limits(memory=400 * MB, open_files=100)) as session:
        session.set_limits(Limits(memory=200 * MB, open_files=100, file_size=100_000))
        for source in (HOARD, WRITE):
            assert session.execute(source).wait().outcome is Outcome.FAILED
        assert session.eval("len(hoard)") == 3
        for wrong in (Limits(memory=400 * MB, open_files=100), Limits(memory=200 * MB, open_files=50)):
            with pytest.raises(ValueError, match="cannot become"):
                session.set_limits(wrong)
        session.execute("hoard.clear()").wait()
        with session.fork() as branch:
            assert branch.limits_in_force()["memory"].value == 200 * MB
            with pytest.raises(ValueError, match="only be lowered"):
                branch.set_limits(Limits(memory=400 * MB, open_files=100, file_size=100_000))


# others that take options


def test_one_shots_and_pools() -> None:
    limits = Limits(wall=0.2)
    with pytest.raises(LimitExceeded):
        exteval("__import__('time').sleep(60)", limits=limits)
    assert isinstance(extexec("import time; time.sleep(60)", limits=limits).error, LimitExceeded)
    with SessionPool(1, limits=limits) as pool, pool.acquire() as session:
        assert session.execute("import time; time.sleep(60)").wait().completion.limit == "wall"
