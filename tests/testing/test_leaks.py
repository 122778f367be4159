"""The leak check finds each kind of leak, and only those."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from extsession import ExtSession, templates, warm_up
from extsession.testing import LeakError, ManualClock, no_leaks, own_folder

ROOT = Path(__file__).parent.parent.parent


def test_nothing() -> None:
    with no_leaks():
        with ExtSession() as session:
            session.execute("import subprocess; subprocess.Popen(['sleep', '30'])")
        file = open(os.devnull)
        file.close()


def test_a_descriptor() -> None:
    with pytest.raises(LeakError, match=r"left after 0\.1 s:\n  descriptor \d+: pipe") as caught, no_leaks(0.1):
        ends = os.pipe()
    assert len(caught.value.left) == 2
    for end in ends:
        os.close(end)


def test_a_thread() -> None:
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="left behind")
    with pytest.raises(LeakError, match="thread 'left behind'"), no_leaks(0.1):
        thread.start()
    event.set()
    thread.join()


def test_a_thread_that_is_about_to_end() -> None:
    with no_leaks():
        threading.Thread(target=time.sleep, args=(0.1,)).start()


def test_processes_and_zombies() -> None:
    with pytest.raises(LeakError) as caught, no_leaks(0.1):
        child = subprocess.Popen(["sleep", "30"])
        zombie = subprocess.Popen(["true"])
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    text = str(caught.value)
    assert f"process {child.pid} (sleeping): ['sleep', '30']" in text
    assert f"process {zombie.pid} (zombie)" in text
    child.kill()
    child.wait()
    zombie.wait()


def test_a_session() -> None:
    with pytest.raises(LeakError, match="process"), no_leaks(0.1):
        session = ExtSession()
    session.close()


def test_files_in_the_given_folder() -> None:
    with own_folder() as folder:
        with no_leaks(0.1, folder=folder), ExtSession() as session:
            session.execute("import tempfile\nwith tempfile.NamedTemporaryFile() as file: print(file.name)").wait()
        with pytest.raises(LeakError, match=f"file {folder}/"), no_leaks(0.1, folder=folder), ExtSession() as session:
            assert session.eval("__import__('tempfile').mkstemp()[1]").startswith(str(folder))
    assert not folder.exists()


def test_memory_on_request() -> None:
    with no_leaks(0.1, memory=20_000_000):
        bytearray(os.urandom(1)) * 50_000_000
    with pytest.raises(LeakError, match="bytes of memory"), no_leaks(0.1, memory=20_000_000):
        kept = bytearray(b"x") * 200_000_000
    del kept


def test_templates_stay_or_end() -> None:
    warm_up()
    there = {each.pid for each in templates()}
    with no_leaks():
        warm_up(preload=["json"])
        assert {each.pid for each in templates()} > there
    assert {each.pid for each in templates()} == there


def test_an_exception_of_the_block_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), no_leaks(0.1):
        1 / 0


def run_pytest(folder: Path, conftest: str, test: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60)


TESTS = """
import os, pytest

def test_leaky():
    os.pipe()

def test_clean():
    pass

@pytest.mark.leaks("on purpose")
def test_allowed():
    os.pipe()
"""


def test_plugin(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
import pytest
pytest_plugins = ["extsession.testing.pytest"]

@pytest.fixture(scope="session")
def leak_patience():
    return 0.1

@pytest.fixture(autouse=True)
def _leaves_nothing(no_leaks):
    pass
""",
        TESTS,
    )
    assert "3 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "left after 0.1 s" in done.stdout
    assert "ERROR at teardown of test_leaky" in done.stdout


def test_plugin_checks_who_asks_only(tmp_path: Path) -> None:
    asks = TESTS.replace("def test_clean()", "def test_clean(no_leaks)")
    done = run_pytest(tmp_path, 'pytest_plugins = ["extsession.testing.pytest"]', asks)
    assert "3 passed" in done.stdout and "error" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("read", [lambda clock: clock(), lambda clock: clock.monotonic(), lambda clock: clock.now])
def test_manual_clock(read: Callable[[ManualClock], float]) -> None:
    clock = ManualClock(10.0)
    assert read(clock) == 10.0
    assert clock.advance(0.5) == 10.5
    assert clock.advance_to(20.0) == 20.0
    assert clock.advance_to(15.0) == clock.advance_to(None) == read(clock) == 20.0
    with pytest.raises(ValueError, match=r"does not go back by 1 s"):
        clock.advance(-1)
