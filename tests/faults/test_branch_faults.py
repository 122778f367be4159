"""Branches and checkpoints whose processes are killed or stopped, in programs that fork, have threads, or just die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import CheckpointGone, ExtSession, ForkRefused, LaunchError, SessionDied

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sessions are branched on Linux only")

SOON = 20.0
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession() as session:
        run(session, "import os, signal, time; x = 1")
        yield session


def run(session: ExtSession, source: str, **options: Any) -> Any:
    results = session.execute(source, **options).wait(SOON)
    assert results.error is None, results.stderr
    return results


def kill(pid: int | None, number: int = signal.SIGKILL) -> None:
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def warden_of(session: ExtSession) -> int:
    return int(Path(f"/proc/{session.pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# killed at each step

#: delays that hit the census, the descriptors, the clone, its start
DELAYS = (0.0, 0.0003, 0.0006, 0.001, 0.0015, 0.002, 0.003)


@pytest.mark.parametrize("what", ["fork", "checkpoint"])
def test_the_session_is_killed_at_some_moment(session: ExtSession, what: str) -> None:
    """An error, or a branch that lives: nothing between, and nothing left."""
    with session.fork() as parent:
        for delay in DELAYS:
            for _ in range(4):
                one = parent.fork()
                timer = threading.Timer(delay, kill, (one.pid,))
                timer.start()
                try:
                    made: Any = getattr(one, what)()
                except SessionDied as error:
                    assert error.signal == "SIGKILL"
                else:
                    if what == "fork":
                        assert made.eval("x") == 1
                        made.close()
                    else:
                        timer.join()
                        one.rollback(made)
                        assert one.eval("x") == 1
                timer.join()
                one.close()
        assert parent.eval("x") == session.eval("x") == 1


@contextlib.contextmanager
def hunting(session: ExtSession) -> Iterator[None]:
    """Whoever is a new child of the session's warden is killed at once."""
    warden = warden_of(session)
    known = set(children(warden))
    stop = threading.Event()

    def hunt() -> None:
        while not stop.is_set():
            for pid in set(children(warden)) - known:
                kill(pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield
    finally:
        stop.set()
        hunter.join()


def test_the_clone_is_killed_at_some_moment(session: ExtSession) -> None:
    """It is refused or there; the session is unharmed."""
    with hunting(session):
        for _ in range(40):
            with contextlib.suppress(ForkRefused, LaunchError, SessionDied):
                session.fork().close()
    assert session.eval("x") == 1
    with session.fork() as branch:
        assert branch.eval("x") == 1


@pytest.mark.parametrize("which", ["checkpoint", "session"])
def test_killed_at_some_moment_of_a_rollback(session: ExtSession, which: str) -> None:
    for delay in DELAYS:
        for _ in range(3):
            here = session.checkpoint("here")
            pid = here._process.pid if which == "checkpoint" else session.pid
            timer = threading.Timer(delay, kill, (pid,))
            timer.start()
            try:
                session.rollback(here)
            except (CheckpointGone, LaunchError):
                assert which == "checkpoint"
            timer.join()
            if session.is_alive:
                assert session.eval("x") == 1
            else:
                session.restart()
                run(session, "import os, signal, time; x = 1")


def test_the_new_process_of_a_rollback_is_killed(session: ExtSession) -> None:
    """The session is what it was, and can be rolled back later."""
    here = session.checkpoint("here")
    for _ in range(100):  # until the hunter was quick enough
        run(session, "x = 2")
        pid = session.pid
        with hunting(session):
            try:
                session.rollback(here)
            except (LaunchError, SessionDied):
                assert session.pid == pid
                assert session.eval("x") == 2
                break
        if not session.is_alive or session.execute("x").wait(SOON).error is not None:
            session.rollback(here)  # it was killed when it was there
    session.rollback(here)
    assert session.eval("x") == 1


def test_a_checkpoint_that_was_killed(session: ExtSession, watch: Any) -> None:
    here = session.checkpoint("here")
    kill(here._process.pid)
    watch.until(lambda: not here.is_alive, SOON)
    assert not here.is_alive
    assert session.checkpoints == ()
    with pytest.raises(CheckpointGone):
        session.rollback(here)
    assert session.eval("x") == 1


def test_the_warden_is_killed(session: ExtSession, watch: Any) -> None:
    branch = session.fork()
    here = session.checkpoint("here")
    pids = [session.pid, branch.pid, here._process.pid]
    kill(warden_of(session))
    assert watch.gone(pids)
    assert watch.until(lambda: not session.is_alive and not branch.is_alive and not here.is_alive, SOON)
    with pytest.raises((CheckpointGone, SessionDied)):
        session.rollback("here")
    with pytest.raises(SessionDied):
        branch.fork()
    branch.close()
    session.restart()
    assert session.eval("1 + 1") == 2


# stopped


@pytest.mark.parametrize("what", ["fork", "checkpoint"])
def test_a_stopped_session(session: ExtSession, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever; when it is let, it goes on, and what it makes then is dropped."""
    monkeypatch.setattr("extsession._sync.session.MOST_TIME", 0.3)
    kill(session.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(LaunchError, match="did not branch"):
        getattr(session, what)()
    assert time.monotonic() - began < 15
    kill(session.pid, signal.SIGCONT)
    assert session.eval("x") == 1
    monkeypatch.undo()
    with session.fork() as branch:
        assert branch.eval("x") == 1


def test_a_stopped_checkpoint(session: ExtSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extsession._engine.core._CLONE_TIME", 1.0)
    here = session.checkpoint("here")
    run(session, "x = 2")
    kill(here._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(LaunchError):
        session.rollback(here)
    assert time.monotonic() - began < 15
    assert session.eval("x") == 2
    kill(here._process.pid, signal.SIGCONT)
    monkeypatch.undo()
    session.rollback(here)
    assert session.eval("x") == 1
    kill(here._process.pid, signal.SIGSTOP)
    here.drop()


def test_a_stopped_warden(session: ExtSession, watch: Any) -> None:
    warden = warden_of(session)
    kill(warden, signal.SIGSTOP)
    branch = session.fork()
    here = session.checkpoint("here")
    assert branch.eval("x") == 1
    session.rollback(here)
    assert session.eval("x") == 1
    kill(warden, signal.SIGSTOP)
    pid = branch.pid
    branch.close()
    assert watch.gone([pid])


# interrupted


@pytest.mark.parametrize("what", ["fork", "five", "checkpoint", "rollback"])
@pytest.mark.parametrize("where", ["in its turn", "before its turn"])
def test_a_keyboard_interrupt_while_it_is_waited_for(session: ExtSession, what: str, where: str, watch: Any) -> None:
    """Ctrl-C in the caller: it goes through, nothing of the branch is left, and the session works."""
    here = session.checkpoint("here")
    warden = warden_of(session)
    count = len(children(warden))
    used = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        stopped = here._process.pid if what == "rollback" else session.pid
        if where == "in its turn":
            kill(stopped, signal.SIGSTOP)
        else:
            if what == "rollback":
                return
            session.execute("time.sleep(0.4)")
        timer = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            if what == "fork":
                session.fork()
            elif what == "five":
                session.fork(count=5)
            elif what == "checkpoint":
                session.checkpoint("there")
            else:
                session.rollback("here")
        kill(stopped, signal.SIGCONT)
        assert session.eval("x") == 1
    assert watch.until(lambda: len(children(warden)) <= count, SOON)
    assert watch.until(lambda: len(os.listdir("/proc/self/fd")) <= used + 1, SOON)
    session.rollback("here")
    with session.fork() as branch:
        assert branch.eval("x") == 1


# few resources


def test_no_descriptors_in_the_controller(session: ExtSession) -> None:
    here = session.checkpoint("here")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    used = len(os.listdir("/proc/self/fd"))
    try:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, before[1]))
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        for free in range(9):
            for fd in taken[:free]:
                os.close(fd)
            for ask in (session.fork, session.checkpoint, lambda: session.rollback(here)):
                try:
                    made = ask()
                except (LaunchError, OSError) as error:
                    assert free < 8
                    assert "descriptors" in str(error) or "Too many open files" in str(error)
                else:
                    assert free >= 4
                    if isinstance(made, ExtSession):
                        made.close()
                    elif made is not None:
                        made.drop()
            assert here.is_alive
            assert session.eval("x") == 1
            for index in range(free):
                taken[index] = os.open("/dev/null", os.O_RDONLY)
    finally:
        for fd in taken:
            with contextlib.suppress(OSError):
                os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(os.listdir("/proc/self/fd")) <= used + 2
    with session.fork() as branch:
        assert branch.eval("x") == 1


def test_failed_ones_leave_nothing_in_the_session(session: ExtSession) -> None:
    inside = "len(os.listdir('/proc/self/fd'))"
    session.fork().close()
    session.eval(inside)
    used, here = session.eval(inside), len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        session.fork().close()
        session.checkpoint().drop()
    run(session, "import threading; t = threading.Thread(target=time.sleep, args=(0.5,)); t.start()")
    for _ in range(5):
        with pytest.raises(ForkRefused):
            session.fork()
    run(session, "t.join()")
    assert session.eval(inside) <= used
    assert len(os.listdir("/proc/self/fd")) <= here + 1


# the controller


BEGIN = f"""
import os, sys, time, threading, signal
sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import *
def say(*what): print(*what, flush=True)
def warden(session):
    with open('/proc/%d/stat' % session.pid) as file: return int(file.read().rpartition(')')[2].split()[1])
ORPHAN = '''
import os, time
def orphan():
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, b'%d' % os.getpid())
            os.closerange(0, 5000)
            while True: time.sleep(1000)
        os._exit(0)
    os.waitpid(pid, 0)
    found = int(os.read(reading, 100))
    os.close(reading); os.close(writing)
    return found
'''
"""
Program = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def program() -> Iterator[Program]:
    """Start a program that uses sessions."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", BEGIN + textwrap.dedent(code)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


ALL_OF_IT = """
s = ExtSession(recover=True)
s.execute(ORPHAN + 'x = 1').wait()
orphan = s.eval('orphan()')
here = [s.checkpoint(force=True) for _ in range(3)]
b = s.fork(count=3, force=True)
theirs = b[0].eval('orphan()')
c = b[0].fork(force=True)
d = c.checkpoint(force=True)
busy = ExtSession(preload=['json'])
busy.execute('while True: pass')
cold = ExtSession(warm=False)
e = cold.fork()
pids = [s.pid, *[x.pid for x in b], c.pid, busy.pid, cold.pid, e.pid, orphan, theirs]
pids += [x._process.pid for x in (*here, d)] + [t.pid for t in templates()] + [warden(x) for x in (s, busy, cold)]
"""


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "os._exit(0)", "sys.exit(0)", "1 / 0"])
def test_the_controller_ends_with_all_of_it_alive(program: Program, end: str, watch: Any) -> None:
    process = program(
        ALL_OF_IT + "say(*pids)\nsys.stdin.readline()\n" + ("" if end.startswith("SIG") else end)
    )
    assert process.stdout is not None
    found = [int(word) for word in process.stdout.readline().split()]
    assert len(found) >= 17, process.communicate()
    assert all(watch.state(pid) not in ("", "Z") for pid in found)
    if end.startswith("SIG"):
        process.send_signal(getattr(signal, end))
        process.wait(5)
    else:
        _, err = process.communicate("\n", timeout=20)
        assert "ZeroDivisionError" in err if end == "1 / 0" else err == ""
    left = [] if watch.gone(found, 2.0) else [pid for pid in found if watch.state(pid) not in ("", "Z")]
    for pid in left:
        kill(pid)
    assert not left


def test_killed_while_it_branches(program: Program, watch: Any) -> None:
    for _ in range(5):
        process = program(
            """
            s = ExtSession()
            say(warden(s))
            while True:
                s.checkpoint("a"); s.fork().close(); s.rollback("a")
            """
        )
        assert process.stdout is not None
        warden = int(process.stdout.readline())
        time.sleep(0.05)
        found = [warden, *children(warden)]
        process.kill()
        process.wait()
        assert watch.gone(found, 3.0)


def test_a_program_that_forks_in_between(program: Program) -> None:
    """The child does not disturb the parent's, cannot use them, and makes its own."""
    process = program(
        """
        s = ExtSession(recover=True)
        s.execute("x = 1").wait()
        here = s.checkpoint("here")
        b = s.fork()
        def own():
            with ExtSession(recover=True) as t:
                t.execute("y = 2").wait()
                t.checkpoint("there")
                with t.fork() as u: assert u.eval("y") == 2
                t.execute("import os; os._exit(1)").wait()
                t.rollback("there")
                assert t.eval("y") == 2
                assert len(templates()) == 1
        for turn in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    for use in (s.fork, s.checkpoint, lambda: s.rollback("here"), lambda: s.eval("x"), lambda: b.eval("x")):
                        try:
                            use()
                        except ExtSessionError as error:
                            pass
                        else:
                            say("used", use)
                    assert not here.is_alive
                    here.drop()
                    assert templates() == []
                    own()
                    s.close(); b.close()
                    leash = [n for n in os.listdir('/proc/self/fd') if 'socket' in (os.path.exists('/proc/self/fd/' + n) and os.readlink('/proc/self/fd/' + n) or '')]
                    say("sockets", sum('socket' in os.readlink('/proc/self/fd/' + n) for n in leash if os.path.islink('/proc/self/fd/' + n)) - 3 * len(templates()) <= 1)
                except BaseException:
                    import traceback; traceback.print_exc()
                finally:
                    sys.stdout.flush(); sys.stderr.flush()
                    os._exit(0) if turn else sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert s.eval("x") == b.eval("x") == 1
            assert here.is_alive
            s.execute("import os; os._exit(1)").wait()
            assert s.eval("x") == 1
            s.rollback("here")
            with s.fork() as c: assert c.eval("x") == 1
            own_template = [t.pid for t in templates()]
            with ExtSession() as d: assert d.eval("1") == 1
            assert [t.pid for t in templates()] == own_template
        b.close(); s.close()
        say("end")
        """
    )
    out, err = process.communicate(timeout=100)
    assert err == ""
    assert out.splitlines() == ["sockets True"] * 3 + ["end"]


def test_a_child_that_outlives_the_program(program: Program, watch: Any) -> None:
    """It holds nothing that would keep the sessions of its parent alive."""
    process = program(
        ALL_OF_IT
        + "pid = os.fork()\nif pid == 0:\n    os.close(1); os.close(2); time.sleep(1000)\nsay(pid, *pids)\ntime.sleep(1000)"
    )
    assert process.stdout is not None
    child, *found = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.wait()
    try:
        assert watch.gone(found, 2.0)
        assert watch.state(child) not in ("", "Z")
    finally:
        kill(child)


def test_forked_while_other_threads_branch(program: Program, watch: Any) -> None:
    process = program(
        """
        stop = threading.Event()
        sessions = [ExtSession(recover=True) for _ in range(3)]
        wardens = [warden(s) for s in sessions]
        def work(s):
            while not stop.is_set():
                s.checkpoint("a"); s.fork().close(); s.rollback("a")
                s.execute("import os; os._exit(1)").wait()
                assert s.eval("1 + 1") == 2
        threads = [threading.Thread(target=work, args=(s,)) for s in sessions]
        for t in threads: t.start()
        pids = []
        for turn in range(10):
            pid = os.fork()
            if pid == 0:
                with ExtSession() as own:
                    ok = own.eval("1 + 1") == 2
                os._exit(0 if ok else 1)
            pids.append(pid)
            time.sleep(0.02)
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        stop.set()
        for t in threads: t.join()
        for s in sessions:
            assert s.eval("1 + 1") == 2
            s.close()
        say(codes)
        """
    )
    out, err = process.communicate(timeout=100)
    assert "Error" not in err, err
    assert out == f"{[0] * 10}\n"


def test_threads_of_the_program(session: ExtSession) -> None:
    """Many at once: each with branches and rollbacks of its own."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with session.fork() as mine:
                run(mine, f"y = {number}")
                mine.checkpoint("a")
                for _ in range(5):
                    run(mine, "y = None")
                    with mine.fork() as leaf:
                        assert leaf.eval("y") is None
                    mine.rollback("a")
                    assert mine.eval("y") == number
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(100)
    assert not errors
    assert session.eval("x") == 1


def _in_another() -> None:
    with ExtSession(recover=True) as session:
        session.execute("import os; x = 1").wait(SOON)
        session.execute("os._exit(1)").wait(SOON)
        with session.fork() as branch:
            sys.exit(branch.eval("x") + 10)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_process_of_multiprocessing(session: ExtSession, method: str) -> None:
    process = multiprocessing.get_context(method).Process(target=_in_another)  # type: ignore[attr-defined]
    process.start()
    process.join(SOON)
    assert process.exitcode == 11
    process.close()
    with session.fork() as branch:
        assert branch.eval("x") == 1
    if method == "spawn":
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


NEST = "import sys; sys.path.insert(0, %r); from extsession import *" % os.fspath(ROOT)


@pytest.mark.parametrize("options", [{}, {"warm": False}])
def test_in_a_session(options: dict[str, Any]) -> None:
    """A session that has sessions, branches, checkpoints and recovery of its own, two levels deep."""
    inner = NEST + (
        "\ns = ExtSession(recover=True)\ns.execute('import os; x = 1').wait()\ns.checkpoint('a')\nb = s.fork()\n"
        "s.execute('os._exit(1)').wait()\nb.execute('x = 2').wait()\ns.rollback('a')\nresult = (s.eval('x'), b.eval('x'))\n"
        "b.close(); s.close()\n"
    )
    with ExtSession(**options) as session:
        run(session, inner)
        assert session.eval("result") == (1, 2)
        run(session, f"t = ExtSession(**{options!r}); r = t.execute({inner!r}).wait()")
        assert session.eval("(r.error, t.eval('result'))") == (None, (1, 2))
        run(session, "t.close()")


def test_a_session_with_sessions_is_refused_and_works_on(session: ExtSession) -> None:
    """Its hub is a thread."""
    run(session, NEST + "\nt = ExtSession(); t.execute('x = 5')")
    with pytest.raises(ForkRefused) as caught:
        session.fork(force=True)
    assert any("hub" in each for each in caught.value.threads)
    assert session.eval("t.eval('x')") == 5
