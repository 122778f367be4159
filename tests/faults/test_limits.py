"""Programs that take what they can: with the kernel's groups where there are any, and with the watch alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from extsession import ExtSession, LimitExceeded, Limits, Outcome, SessionDied
from extsession._launch import cgroup

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
MB = 2**20
ROOT = Path(__file__).parent.parent.parent

#: four children, each of which stays below the limit: 100 MB a step together
HOGS = """
import os, time
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        hoard = []
        for _ in range(16):
            hoard.append(bytearray(b"x") * (25 << 20))
            time.sleep(0.05)
        time.sleep(60)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""
BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


@pytest.fixture(params=["groups", "watch"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "watch":
        monkeypatch.setattr(cgroup, "where", lambda limit: None)
    elif cgroup.where("memory") is None:
        pytest.skip("no control groups can be made here")
    return str(request.param)


def groups() -> list[str]:
    """Folders of control groups that were made by this process."""
    found = []
    for limit in ("memory", "processes"):
        place = cgroup._find(limit, os.getpid())
        if place is not None:
            found += [name for name in os.listdir(place.home) if name.startswith(f"extsession-{os.getpid()}-")]
    return found


class Pulse(threading.Thread):
    """Another thread of the controller: the longest that it had to wait for its turn."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self.over = False

    def __enter__(self) -> Pulse:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over = True
        self.join()

    def run(self) -> None:
        last = time.monotonic()
        while not self.over:
            time.sleep(0.002)
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now


def test_children_that_hold_too_much_together(held: str, watch: object) -> None:
    with ExtSession(limits=Limits(memory=500 * MB)) as session:
        results = session.execute(HOGS).wait()
        assert results.outcome is Outcome.OVER_LIMIT, results
        error = results.error
        assert isinstance(error, LimitExceeded)
        assert (error.limit, error.allowed, error.survived) == ("memory", 500 * MB, False)
        assert 500 * MB <= (error.reached or 0) < 700 * MB
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "memory"
        assert "over limit: memory" in str(session.error)
    assert groups() == []


def test_a_session_that_allocates_step_by_step(held: str) -> None:
    with ExtSession(limits=Limits(memory=500 * MB)) as session:
        results = session.execute("hoard = []\nwhile True: hoard.append(bytearray(b'x') * (100 << 20))").wait()
        assert results.outcome is Outcome.FAILED
        assert isinstance(results.error, MemoryError)
        assert results.completion.survived
        assert session.eval("len(hoard)") == 4


def test_a_daemon_that_a_call_has_left_is_watched(held: str) -> None:
    daemon = """
import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        time.sleep(0.2)
        hoard = [bytearray(b"x") * (10 << 20) for _ in range(15)]
        time.sleep(60)
    os._exit(0)
os.wait()
"""
    with ExtSession(limits=Limits(memory=100 * MB)) as session:
        # more than it may have by itself: so the kernel lets it have two halves of that
        assert session.execute(daemon.replace("range(15)", "range(7)") * 2).wait().completion.ok
        end = time.monotonic() + 10
        while session.error is None and time.monotonic() < end:
            time.sleep(0.01)
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "memory"


def test_what_was_over_the_limit_is_rolled_back(held: str) -> None:
    with ExtSession(limits=Limits(memory=500 * MB), recover=True) as session:
        session["x"] = 3
        for _ in range(2):
            results = session.execute("x = 4\n" + HOGS).wait()
            assert (results.completion.limit, results.completion.recovered) == ("memory", True), results
            assert isinstance(results.error, LimitExceeded)
            assert results.error.survived
            assert session["x"] == 3
        session.checkpoint("here")
        assert session.execute("x = 5").wait().completion.ok
        session.rollback("here")
        assert session["x"] == 3
    assert groups() == []


def test_a_bomb_in_a_group() -> None:
    if cgroup.where("processes") is None:
        pytest.skip("no control groups can be made here")
    with ExtSession() as neighbour, ExtSession(limits=Limits(processes=20)) as session, Pulse() as pulse:
        assert neighbour.eval("1") == 1
        results = session.execute(BOMB, timeout=0.5)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:  # how long it takes: `python -m benchmarks --only bomb`
            assert neighbour.eval("1", timeout=5) == 1
        began = time.monotonic()
        assert session.limits_in_force()["processes"].mechanism == "control group"
        assert session.is_alive
        assert time.monotonic() - began < 0.1
        results.wait()
        assert results.outcome is Outcome.TIMED_OUT
        session.kill()
        with ExtSession() as other:
            assert other.eval("1") == 1
    assert pulse.longest < 0.5  # on a machine that others use as well
    assert groups() == []


def test_cpu_burnt_by_a_child_that_has_left_its_parent() -> None:
    burn = "import os\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n        while True: pass\n    os._exit(0)\nos.wait()"
    with ExtSession(limits=Limits(session_cpu=0.5)) as session:
        assert session.execute(burn).wait().completion.ok
        end = time.monotonic() + 20
        while session.error is None and time.monotonic() < end:
            time.sleep(0.01)
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "session_cpu"


def test_code_that_does_not_react_costs_the_session() -> None:
    stubborn = "sum(iter(int, 1))"
    from extsession import Ladder

    with ExtSession(limits=Limits(cpu=0.2), ladder=Ladder(0.2, 5.0)) as session:
        results = session.execute(stubborn).wait()
        assert results.completion.limit == "cpu"
        assert not results.completion.survived
        assert [step.value for step in results.completion.steps] == ["interrupt", "terminate"]
        assert isinstance(session.error, SessionDied)
        assert session.error.limit == "cpu"


def test_a_flood_from_a_subprocess() -> None:
    with ExtSession(limits=Limits(output=MB)) as session:
        results = session.execute("import subprocess; subprocess.run(['yes'])").wait()
        assert results.completion.limit == "output"
        assert results.completion.survived
        assert len(results.stdout_bytes) == MB
        assert session.eval("1") == 1


def test_idle_sessions_are_not_looked_at() -> None:
    from extsession._launch.local import LocalProcess

    looks = []
    sample = LocalProcess.sample

    def counted(self: LocalProcess, *more: int) -> object:
        looks.append(self)
        return sample(self, *more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalProcess, "sample", counted)
        with ExtSession(limits=Limits(memory=500 * MB, session_cpu=100)) as session:
            for _ in range(5):
                session.execute("1").wait()
            count = len(looks)
            time.sleep(0.5)
            assert len(looks) == count <= 5


AS_A_USER = """
import os, sys, time
sys.path.insert(0, %r)
from extsession import ExtSession, Limits, Outcome
MB = 2**20
HOGS = %r
BOMB = %r
"""


@pytest.fixture
def as_a_user(tmp_path: Path) -> Callable[[str], str]:
    """Run a program as an ordinary user, with no groups to be made; its output."""
    prefix = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine")
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "extsession", copy / "extsession", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (*reversed(copy.parents[:3]), copy):
        if os.stat(folder).st_uid == os.geteuid() and not os.stat(folder).st_mode & 0o001:
            folder.chmod(0o755)
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import extsession; extsession.ExtSession().close()"
    for python in (sys.executable, "/usr/bin/python3"):
        found = subprocess.run([*prefix, python, "-B", "-c", probe, copy], cwd=copy, capture_output=True, check=False)
        if not found.returncode:
            break
    else:
        pytest.skip("another user can run no interpreter here that the package works with")

    def run(code: str) -> str:
        program = AS_A_USER % (os.fspath(copy), HOGS, BOMB) + textwrap.dedent(code)
        result = subprocess.run(
            [*prefix, python, "-B", "-c", program], cwd=copy, capture_output=True, text=True, timeout=100, check=False
        )
        assert result.stderr == ""
        return result.stdout

    return run


def test_an_ordinary_user_is_held_by_the_watch(as_a_user: Callable[[str], str]) -> None:
    text = as_a_user(
        """
        with ExtSession(limits=Limits(memory=500 * MB), recover=True) as session:
            session["x"] = 3
            results = session.execute(HOGS).wait()
            print(results.completion.limit, results.completion.recovered, session["x"])
            print(results.error.reached < 700 * MB, results.error.reached)
        """
    )
    assert text.startswith("memory True 3\nTrue")


def test_a_bomb_of_an_ordinary_user(as_a_user: Callable[[str], str]) -> None:
    text = as_a_user(
        """
        with ExtSession(limits=Limits(processes=20)) as session:
            print("RLIMIT_NPROC" in session.limits_in_force()["processes"].mechanism)
            began = time.monotonic()
            results = session.execute(BOMB).wait()
            print(results.completion.limit, results.error.allowed, results.error.reached > 20)
            print(time.monotonic() - began < 20, session.error.limit)
        with ExtSession() as other:
            print(other.eval("1"))
        """
    )
    assert text == "True\nprocesses 20 True\nTrue processes\n1\n"
