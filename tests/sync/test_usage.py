"""What a session uses: of its whole tree, while it runs code, and after its end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from extsession import ExtSession, SessionUsage
from extsession.testing import ManualClock

LINUX = sys.platform.startswith("linux")


@pytest.fixture(params=["warm", "spawned"])
def session(request: pytest.FixtureRequest) -> Iterator[ExtSession]:
    with ExtSession(warm=request.param == "warm") as session:
        yield session


def until(session: ExtSession, check: Callable[[SessionUsage], object]) -> SessionUsage:
    end = time.monotonic() + 5
    while not check(usage := session.usage()):
        assert time.monotonic() < end, usage
        time.sleep(0.01)
    return usage


def test_of_an_idle_session(session: ExtSession) -> None:
    usage = session.usage()
    assert (usage.processes, usage.threads, usage.pss) == (1, 1, None)
    assert 1_000_000 < usage.rss < 200_000_000
    assert usage.descriptors is not None and usage.descriptors >= 3
    assert 0 < usage.wall < 60
    assert usage.cpu < 5
    with pytest.raises(AttributeError):
        usage.cpu = 0  # type: ignore[misc]


def test_while_it_runs_code(session: ExtSession) -> None:
    call = session.execute("while True: pass")
    before = session.usage()
    until(session, lambda usage: usage.cpu > before.cpu + 0.1)
    assert not call.done
    assert session.usage().wall > before.wall


def test_while_it_is_stopped(session: ExtSession) -> None:
    session.execute("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    begin = time.monotonic()
    assert session.usage().processes == 1
    assert time.monotonic() - begin < 1


def test_memory(session: ExtSession) -> None:
    before = session.usage(pss=LINUX)
    session.execute("kept = bytearray(b'x') * 50_000_000").wait()
    usage = session.usage(pss=LINUX)
    assert usage.rss - before.rss > 45_000_000
    if LINUX:
        assert before.pss is not None and usage.pss is not None
        assert usage.pss - before.pss > 45_000_000
        assert usage.pss < usage.rss


def test_threads_and_descriptors(session: ExtSession) -> None:
    before = session.usage()
    session.execute(
        "import threading, os; e = threading.Event(); kept = [os.dup(0) for _ in range(10)]\n"
        "for _ in range(3): threading.Thread(target=e.wait, daemon=True).start()"
    ).wait()
    usage = session.usage()
    assert usage.threads == before.threads + 3
    assert before.descriptors is not None and usage.descriptors is not None
    assert usage.descriptors >= before.descriptors + 10


CHILD = "import subprocess; child = subprocess.Popen(['sleep', '60']{})"


def test_children_and_theirs(session: ExtSession) -> None:
    session.execute("import subprocess; subprocess.Popen(['sh', '-c', 'sleep 60 & sleep 60; true'])").wait()
    assert until(session, lambda usage: usage.processes == 4).threads == 4


def test_children_of_threads(session: ExtSession) -> None:
    session.execute(
        "import subprocess, threading, time\n"
        "def work():\n    subprocess.Popen(['sleep', '60']); time.sleep(60)\n"
        "threading.Thread(target=work, daemon=True).start()"
    ).wait()
    until(session, lambda usage: usage.processes == 2 and usage.threads == 3)


def test_time_of_children(session: ExtSession) -> None:
    session.execute(
        "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'while True: pass'])"
    ).wait()
    until(session, lambda usage: usage.cpu > 0.3)
    session.execute("child.kill(); child.wait()").wait()
    usage = session.usage()
    assert usage.processes == 1
    assert usage.cpu > 0.3  # a child that was waited for


@pytest.mark.skipif(not LINUX, reason="orphans are found by their marks, which Linux has")
def test_orphans(session: ExtSession) -> None:
    with ExtSession() as other:
        session.execute(
            "import os, time\n"
            "for _ in range(3):\n"
            "    if not os.fork():\n"
            "        os.setsid()\n"
            "        if not os.fork():\n            os.closerange(0, 100); time.sleep(60)\n"
            "        os._exit(0)\n"
            "    os.wait()"
        ).wait()
        until(session, lambda usage: usage.processes == 4)
        time.sleep(0.1)
        assert other.usage().processes == 1


@pytest.mark.skipif(not LINUX, reason="there are no branches elsewhere")
def test_branches_are_sessions_of_their_own(session: ExtSession) -> None:
    session.checkpoint()
    with session.fork() as branch:
        branch.execute("import subprocess; subprocess.Popen(['sleep', '60'])").wait()
        until(branch, lambda usage: usage.processes == 2)
        assert session.usage().processes == 1


def test_bytes(session: ExtSession) -> None:
    session.execute("pass").wait()  # a spawned session gets the rest of our code before it
    before = session.usage()
    session.execute("print('x' * 100_000, end='')").wait()
    session["data"] = bytes(200_000)
    usage = session.usage()
    assert 200_000 < usage.bytes_in - before.bytes_in < 202_000
    assert 100_000 < usage.bytes_out - before.bytes_out < 102_000
    before, _ = usage, session["data"]
    usage = session.usage()
    assert usage.bytes_in - before.bytes_in < 1000
    assert 200_000 < usage.bytes_out - before.bytes_out < 202_000
    for _ in range(10):
        session.execute("pass").wait()
    later = session.usage()
    assert later.bytes_in > usage.bytes_in and later.bytes_out > usage.bytes_out


def test_of_a_dead_session(session: ExtSession) -> None:
    session.execute("print('x' * 100)").wait()
    session.close()
    usage = session.usage()
    assert (usage.processes, usage.threads, usage.rss, usage.cpu, usage.descriptors) == (0, 0, 0, 0.0, None)
    assert usage.bytes_out > 100


def test_from_another_thread_while_somebody_waits(session: ExtSession) -> None:
    found: list[SessionUsage] = []
    thread = threading.Thread(target=lambda: found.extend(session.usage() for _ in range(100)))
    call = session.execute("import time; time.sleep(0.3)")
    thread.start()
    call.wait(5)
    thread.join(5)
    assert len(found) == 100
    assert all(usage.processes == 1 for usage in found)


def test_samples(session: ExtSession) -> None:
    begin = time.monotonic()
    samples = session.samples(0.05)
    assert next(samples).processes == 1
    walls = [next(samples).wall for _ in range(4)]
    assert time.monotonic() - begin >= 0.19
    assert walls == sorted(walls)
    session.close()
    assert list(samples) == []


@pytest.mark.parametrize("end", ["close", "die", "kill"])
def test_samples_end_with_the_session(session: ExtSession, end: str) -> None:
    samples = session.samples(30)
    next(samples)

    def finish() -> None:
        if end == "die":
            os.kill(session.pid or 0, 9)
        else:
            getattr(session, end)()

    timer = threading.Timer(0.05, finish)
    timer.start()
    begin = time.monotonic()
    assert list(samples) == []
    assert time.monotonic() - begin < 3
    timer.join()


@pytest.mark.parametrize(
    ("interval", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (float("nan"), ValueError)]
)
def test_intervals_that_are_none(session: ExtSession, interval: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="interval takes seconds"):
        session.samples(interval)  # type: ignore[arg-type]


def test_missed_samples_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession._engine import usage

    clock = ManualClock(100.0)
    monkeypatch.setattr(usage.time, "monotonic", clock)
    pace = usage.Pace(1.0)
    assert pace.next() == 1.0
    clock.advance(1.5)  # half a second late: the next one is in time
    assert pace.next() == 0.5
    clock.advance(10.0)
    assert pace.next() == 0.0
    assert pace.next() == 1.0


def test_after_recovery() -> None:
    with ExtSession(recover=True) as session:
        first = session.pid
        session.execute("import os; os._exit(1)").wait()
        session.execute("pass").wait()
        assert session.pid != first
        until(session, lambda usage: usage.processes == 1 and usage.rss > 1_000_000)
