"""Branches, checkpoints, rollback: state, output, ends and errors (core-api.md, section 6)."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import (
    CallTimeout,
    CheckpointGone,
    Display,
    ExtResults,
    ExtSession,
    ForkRefused,
    Outcome,
    SessionClosed,
    SessionDied,
    warm_up,
)
from extsession._launch.interpreter import Interpreter

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sessions are branched on Linux only")

SOON = 20.0


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession() as session:
        yield session


def run(session: ExtSession, source: str, **options: Any) -> ExtResults:
    results = session.execute(source, **options).wait(SOON)
    assert results.error is None, results.stderr
    return results


def until(condition: Any, timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


# state

STATE = """
import collections, io, os, random, sys, tempfile, asyncio, decimal
random.seed(5); random.random()
n = 1; text = 'äß'; nested = {'a': [1, {2}, (3,)]}; nested['self'] = nested
class Thing:
    def __init__(self, value): self.value = value
    def get(self): return self.value
thing = Thing([1, 2])
def generator():
    for number in range(100): yield number
running = generator(); next(running); next(running)
function = lambda x: x + n
file = tempfile.TemporaryFile('w+'); file.write('hello'); file.flush()
os.chdir('/tmp'); os.environ['MINE'] = 'here'; os.umask(0o27)
decimal.getcontext().prec = 7
sys.path.append('/nowhere'); sys.setrecursionlimit(4321)
import signal
def on_alarm(*args): pass
signal.signal(signal.SIGALRM, on_alarm)
lock = __import__('threading').RLock()
lock.acquire()
async def later(): await asyncio.sleep(0.01); return 'later'
result = await later()
sys.argv = ['me', 'too']
"""
LOOK = """(n, text, nested['a'], nested['self'] is nested, thing.get(), next(running), function(1), file.read(), file.tell(),
os.getcwd(), os.environ['MINE'], os.umask(0o27), decimal.getcontext().prec, sys.path[-1], sys.getrecursionlimit(),
signal.getsignal(signal.SIGALRM) is on_alarm, random.random(), result, sys.argv, lock.acquire(blocking=False),
sorted(name for name in globals() if not name.startswith('_')), len(sys.modules), os.getpid() == os.getsid(0))"""


def test_a_branch_has_the_same_state(each_python: Interpreter) -> None:
    with ExtSession(each_python.path) as session:
        run(session, STATE)
        with session.fork() as branch:
            assert branch.pid != session.pid
            here, there = session.eval(LOOK), branch.eval(LOOK)
            assert here == there
            run(branch, "n = 2; thing.value.append(3); os.chdir('/'); os.environ['MINE'] = 'x'; sys.path.clear()")
            assert session.eval("n, thing.value, os.getcwd(), os.environ['MINE'], len(sys.path) > 1") == (
                1, [1, 2], "/tmp", "here", True,
            )
            for each in (session, branch):
                assert run(each, "print(await later())").stdout == "later\n"
                assert each.execute("n").wait(SOON).repr == str(each.eval("n"))
        assert run(session, "print(await later())").stdout == "later\n"


def test_a_rollback_has_the_state_of_then(each_python: Interpreter) -> None:
    with ExtSession(each_python.path) as session:
        run(session, STATE)
        session.checkpoint("here")
        first = session.eval(LOOK)
        for _ in range(3):
            run(session, "n = 2; thing.value.append(3); os.chdir('/'); os.environ['MINE'] = 'x'; sys.path.clear()")
            session.rollback("here")
            found = session.eval(LOOK)
            assert found[7:9] in (("hello", 5), ("", 5))  # the position of an open file is the kernel's: shared
            assert (*found[:7], *found[9:]) == (*first[:7], *first[9:])
            assert run(session, "print(await later())").stdout == "later\n"


def test_random_numbers_go_on_where_they_were() -> None:
    with ExtSession() as session:
        run(session, "import random")
        session.checkpoint("here")
        first = session.eval("[random.random() for _ in range(3)]")
        with session.fork() as branch:
            session.rollback("here")
            assert session.eval("[random.random() for _ in range(3)]") == first
            assert branch.eval("random.random()") == session.eval("random.random()")


def test_numpy_goes_on_where_it_was(session: ExtSession) -> None:
    pytest.importorskip("numpy")
    run(session, "import numpy; numpy.random.seed(1); g = numpy.random.default_rng(); a = numpy.arange(1000000.0)")
    with session.fork() as branch:
        look = "(numpy.random.rand(), g.random(), float(a.sum()))"
        assert session.eval(look) == branch.eval(look)
        run(branch, "a[:] = 0; b = numpy.ones((300, 300)) @ numpy.ones((300, 300))")
        assert session.eval("float(a[-1])") == 999999.0
        assert run(session, "b = numpy.ones((300, 300)) @ numpy.ones((300, 300)); print(b[0, 0])").stdout == "300.0\n"


@pytest.mark.parametrize("module", ["random", "socket", "select", "resource", "tempfile", "weakref", "multiprocessing", "threading"])
def test_a_module_of_the_users_with_a_name_of_the_library(module: str) -> None:
    with ExtSession() as session:
        run(session, f"import sys, types; sys.modules[{module!r}] = types.ModuleType({module!r}); x = 1")
        with session.fork() as branch:
            assert branch.eval("x") == 1
        session.checkpoint("here")
        session.rollback("here")
        assert session.eval("x") == 1


@pytest.mark.parametrize("module", ["random", "threading", "asyncio", "tempfile", "multiprocessing", "signal"])
def test_a_module_of_the_users_that_is_none(module: str) -> None:
    with ExtSession() as session:
        run(session, f"import sys; sys.modules[{module!r}] = None; x = 1")
        with session.fork() as branch:
            assert branch.eval("x") == 1


def test_a_branch_of_a_branch_of_a_branch(session: ExtSession) -> None:
    made = [session]
    for number in range(5):
        run(made[-1], f"x = {number}")
        made.append(made[-1].fork())
        run(made[-1], f"y = {number}")
    for number, each in enumerate(made[:-1]):
        assert each.eval("x") == number
    assert made[-1].eval("(x, y)") == (4, 4)
    made[2].close()
    for each in (*made[:2], *made[3:]):
        assert each.eval("1 + 1") == 2
    for each in made[1:]:
        each.close()
    assert session.eval("x") == 0


def test_many_at_once(session: ExtSession) -> None:
    run(session, "x = list(range(100000))")
    branches = session.fork(count=5)
    assert len({each.pid for each in (*branches, session)}) == 6
    for number, each in enumerate(branches):
        each.execute(f"x.append({number})")
    assert [each.eval("x[-1]") for each in branches] == [0, 1, 2, 3, 4]
    assert session.eval("len(x)") == 100000
    for each in branches:
        each.close()
    assert session.fork(count=0) == []
    for wrong in (-1, True, "2", 1.0):
        with pytest.raises((ValueError, TypeError)):
            session.fork(count=wrong)  # type: ignore[call-overload]


def test_facts_of_a_branch_are_its_own(session: ExtSession) -> None:
    run(session, "import os, threading; threads = threading.active_count()")
    with session.fork() as branch:
        assert branch.eval("os.getpid()") == branch.pid
        assert branch.eval("threading.main_thread().native_id == threading.get_native_id() == os.getpid()")
        assert branch.eval("threading.active_count() == threads == 1")
        assert branch.eval("os.getppid()") == session.eval("os.getppid()")
        for each in (branch, session):  # neither is the other's child
            assert isinstance(each.execute("os.waitpid(-1, os.WNOHANG)").wait(SOON).error, ChildProcessError)
        found = branch.eval("sorted(os.listdir('/proc/self/fd'))")
        assert session.eval("sorted(os.listdir('/proc/self/fd'))") == found


def test_usage_of_a_branch_is_its_own(session: ExtSession) -> None:
    run(session, "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass")
    with session.fork() as branch:
        usage = run(branch, "pass").usage
        assert usage is not None
        assert usage.cpu < 0.25


# order


def test_branching_waits_for_the_calls_before_it(session: ExtSession) -> None:
    session.execute("import time; x = 1; time.sleep(0.2); x = 2")
    second = session.execute("x = 3")
    with session.fork() as branch:
        assert second.done
        assert branch.eval("x") == 3


def test_calls_after_it_wait(session: ExtSession) -> None:
    run(session, "import time; x = 1")
    session.execute("time.sleep(0.1)")
    made: list[ExtSession] = []
    thread = threading.Thread(target=lambda: made.append(session.fork()))
    thread.start()
    until(lambda: len(session._core.machine._queue) == 1)
    session.execute("x = 2")
    assert session.eval("x") == 2
    thread.join(SOON)
    with made[0] as branch:
        assert branch.eval("x") == 1


def test_several_threads_branch_one_session(session: ExtSession) -> None:
    run(session, "x = 5")
    made: list[ExtSession] = []
    threads = [threading.Thread(target=lambda: made.append(session.fork())) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert [each.eval("x") for each in made] == [5] * 6
    for branch in made:
        branch.close()


def test_calls_are_counted_on(session: ExtSession) -> None:
    for _ in range(3):
        run(session, "pass")
    with session.fork() as branch:
        assert branch.execute("pass").number > 3
        checkpoint = branch.checkpoint()
        assert checkpoint.call >= 4


# output


def test_output_is_never_mixed(session: ExtSession) -> None:
    run(session, "import os, sys")
    with session.fork() as branch:
        code = (
            "for n in range(300):\n    print('{0}', n)\n    os.write(1, b'{0} w\\n')\n    print('{0} e', file=sys.stderr)\n"
            "    if n % 100 == 0: os.system('echo {0} s')\n"
        )
        pairs = [(each, each.execute(code.format(name))) for each, name in ((session, "S"), (branch, "B"))]
        for each, results in pairs:
            results.wait(SOON)
            name = "S" if each is session else "B"
            lines = results.stdout.splitlines()
            assert {line[0] for line in lines} == {name}
            assert len(lines) == 603
            assert [line for line in lines if line[2] not in "ws"] == [f"{name} {n}" for n in range(300)]
            assert results.stderr == f"{name} e\n" * 300
            text = "".join(chunk.data.decode() for chunk in results.events)
            assert f"{name} 1\n{name} w\n{name} e\n{name} 2\n{name} w\n{name} e\n{name} 3" in text


def test_floods_in_both(session: ExtSession) -> None:
    run(session, "for n in range(3000): print(n)")
    expected = "".join(f"{n}\n" for n in range(5000))
    with session.fork() as branch:
        both = [each.execute("for n in range(5000): print(n)") for each in (session, branch)]
        assert [each.wait(SOON).stdout for each in both] == [expected, expected]
        with branch.fork() as leaf:
            assert run(leaf, "import os\nfor n in range(5000): print(n)\nos.write(1, b'end')").stdout == expected + "end"
        session.checkpoint("here")
        session.rollback("here")
        assert run(session, "for n in range(5000): print(n)").stdout == expected


def test_c_output(session: ExtSession) -> None:
    run(session, "import ctypes; libc = ctypes.CDLL(None); libc.printf(b'before ')")
    with session.fork() as branch:
        assert run(branch, "libc.printf(b'branch\\n')").stdout == "branch\n"
        assert run(session, "libc.printf(b'session\\n')").stdout == "session\n"
        assert run(branch, "libc.puts(b'x'); print('y'); libc.fflush(None)").stdout.split() in (["y", "x"], ["x", "y"])


def test_redirected_stdout(session: ExtSession, tmp_path: Path) -> None:
    run(session, f"import io, sys; old = sys.stdout; sys.stdout = io.StringIO(); file = open({str(tmp_path / 'f')!r}, 'w')")
    run(session, "print('before')")
    with session.fork() as branch:
        run(branch, "print('branch')")
        run(session, "print('session')")
        assert branch.eval("sys.stdout.getvalue()") == "before\nbranch\n"
        assert session.eval("sys.stdout.getvalue()") == "before\nsession\n"
        assert run(branch, "sys.stdout = old; print('here')").stdout == "here\n"


def test_descriptor_1_redirected(session: ExtSession, tmp_path: Path) -> None:
    run(session, f"import os, sys; keep = os.dup(1); f = os.open({str(tmp_path / 'f')!r}, os.O_WRONLY | os.O_CREAT); os.dup2(f, 1)")
    with session.fork(force=True) as branch:
        assert run(branch, "print('to the file'); os.write(keep, b'to the pipe')").stdout == "to the pipe"
        assert run(session, "os.write(keep, b'session')").stdout == "session"
        assert run(branch, "os.dup2(keep, 1); print('back')").stdout == "back\n"
        assert run(branch, "os.system('echo sub')").stdout == "sub\n"
    assert (tmp_path / "f").read_text() == "to the file\n"


@pytest.mark.parametrize("close", ["os.close(1)", "os.close(1); os.close(2)", "os.close(0)", "sys.stdout.close()", "sys.stdout = None"])
def test_closed_streams(session: ExtSession, close: str) -> None:
    session.execute("import os, sys; " + close).wait(SOON)
    with session.fork() as branch:
        assert branch.eval("1 + 1") == 2
        run(branch, "x = 1")
    session.checkpoint("here")
    session.rollback("here")
    assert session.eval("1 + 1") == 2


def test_late_output_of_earlier_calls(session: ExtSession) -> None:
    """Of a process that goes on: it stays with the call of the session that started it."""
    results = run(session, "import subprocess, sys; p = subprocess.Popen(['sh', '-c', 'sleep 0.3; echo late'])")
    with session.fork(force=True) as branch:
        assert run(branch, "print('x')").stdout == "x\n"
        assert run(session, "print('y')").stdout == "y\n"
        until(lambda: results.late_stdout)
        assert (results.stdout, results.late_stdout) == ("", "late\n")


def test_tasks_that_go_on_in_both(session: ExtSession) -> None:
    results = run(
        session,
        "import asyncio\nasync def tick():\n    for n in range(3):\n        await asyncio.sleep(0.05); print('tick', n)\n"
        "async def begin(): return asyncio.ensure_future(tick())\ntask = await begin()",
    )
    with pytest.raises(ForkRefused, match="tick"):
        session.fork()
    with session.fork(force=True) as branch:
        assert run(branch, "await task; print('done')").stdout.endswith("done\n")
        assert run(session, "await task; print('done')").stdout.endswith("done\n")
        assert results.late_stdout.count("tick") == 3


def test_input(session: ExtSession) -> None:
    run(session, "import sys", stdin="left over")
    with session.fork() as branch:
        assert run(branch, "print(input('? '))", stdin="branch\n").stdout == "? branch\n"
        assert run(session, "print(input('? '))", stdin="session\n").stdout == "? session\n"
        results = branch.execute("print(sys.stdin.readline())", stdin=lambda prompt, password: "by function")
        assert "by function" in results.wait(SOON).stdout
        assert isinstance(branch.execute("input()").wait(SOON).error, EOFError)


def test_values_and_front_ends(session: ExtSession) -> None:
    run(session, "class Rich:\n    def _repr_html_(self): return '<b>x</b>'\nx = b'z' * 3_000_000")
    with session.fork() as branch:
        assert branch.eval("x") == session.eval("x") == b"z" * 3_000_000
        branch["y"] = b"q" * 3_000_000
        assert branch["y"] == b"q" * 3_000_000
        assert "y" not in session
        assert branch.call(len, [1, 2]) == 2
        assert "Rich" in branch.complete("Ri")["matches"]
        assert branch.inspect("Rich")["found"]
        assert branch.is_complete("for x in y:")["status"] == "incomplete"
        results = branch.execute("Rich()", display=Display.MIME).wait(SOON)
        assert results.displays[0].data["text/html"] == "<b>x</b>"


def test_errors_show_their_source(session: ExtSession) -> None:
    run(session, "def f():\n    raise ValueError('here')\n")
    with session.fork() as branch:
        results = branch.execute("f()").wait(SOON)
        assert "raise ValueError('here')" in results.stderr
        assert isinstance(results.error, ValueError)


def test_events_and_lines(session: ExtSession) -> None:
    with session.fork() as branch:
        events = branch.events()
        branch.execute("print('one')\nprint('two')").wait(SOON)
        assert branch.readline(SOON) == "one\n"
        assert next(events).data
        assert not session.readcodes() or True


# ends


def test_an_interrupt_is_for_one_of_them(session: ExtSession) -> None:
    run(session, "import time")
    with session.fork() as branch:
        ours = session.execute("print('on', flush=True)\ntime.sleep(60)")
        theirs = branch.execute("print('on', flush=True)\ntime.sleep(60)")
        session.readline(SOON)
        branch.readline(SOON)
        assert branch.interrupt()
        assert theirs.wait(SOON).outcome is Outcome.INTERRUPTED
        assert not ours.done
        session.interrupt()
        assert ours.wait(SOON).outcome is Outcome.INTERRUPTED
        assert branch.eval("1 + 1") == session.eval("1 + 1") == 2


def test_a_timeout_is_for_one_of_them(session: ExtSession) -> None:
    with session.fork() as branch:
        results = branch.execute("while True: pass", timeout=0.3).wait(SOON)
        assert isinstance(results.error, CallTimeout)
        assert branch.eval("1 + 1") == session.eval("1 + 1") == 2


@pytest.mark.parametrize("end", ["kill", "exit", "os._exit", "crash", "close", "SIGKILL", "SystemExit"])
@pytest.mark.parametrize("which", ["branch", "session"])
def test_the_end_of_one_is_not_that_of_the_other(session: ExtSession, end: str, which: str) -> None:
    run(session, "import os, ctypes; x = 1")
    branch = session.fork()
    one, other = (branch, session) if which == "branch" else (session, branch)
    if end in ("kill", "close"):
        getattr(one, end)()
    elif end == "exit":
        assert one.exit(3) == 3
    elif end == "SIGKILL":
        os.kill(one.pid, signal.SIGKILL)  # type: ignore[arg-type]
        until(lambda: not one.is_alive)
    else:
        code = {"os._exit": "os._exit(1)", "crash": "ctypes.string_at(0)", "SystemExit": "raise SystemExit(2)"}[end]
        assert not one.execute(code).wait(SOON).completion.survived
    assert not one.is_alive
    assert other.eval("x") == 1
    with other.fork() as leaf:
        assert leaf.eval("x") == 1
    branch.close()


def test_exit_handlers_run_once_in_each(session: ExtSession, tmp_path: Path) -> None:
    path = tmp_path / "log"
    run(session, f"import atexit, os\natexit.register(lambda: open({str(path)!r}, 'a').write('%d ' % os.getpid()))")
    branch = session.fork()
    session.checkpoint("here")
    pids = [session.pid, branch.pid]
    assert branch.exit() == 0
    assert session.exit() == 0
    assert sorted(map(int, path.read_text().split())) == sorted(pids)  # type: ignore[type-var]


def test_restart_of_a_branch(session: ExtSession) -> None:
    run(session, "x = 1")
    with session.fork() as branch:
        branch.restart()
        assert "x" not in branch
        assert session.eval("x") == 1


def test_ended_sessions_are_not_branched(session: ExtSession) -> None:
    dead = ExtSession()
    dead.execute("import os; os._exit(1)").wait(SOON)
    for _ in range(2):
        with pytest.raises(SessionDied):
            dead.fork()
        with pytest.raises(SessionDied):
            dead.checkpoint()
    session.close()
    with pytest.raises((SessionClosed, SessionDied)):
        session.fork()
    with pytest.raises((SessionClosed, SessionDied)):
        session.fork(count=3)
    dead.close()


def test_a_session_that_dies_before_its_branch_is_made(session: ExtSession) -> None:
    session.execute("import os, time; time.sleep(0.1); os._exit(1)")
    with pytest.raises(SessionDied):
        session.fork()


def test_the_object_of_a_branch_is_dropped(session: ExtSession) -> None:
    branch = session.fork()
    pid = branch.pid
    del branch
    import gc

    gc.collect()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert session.eval("1 + 1") == 2


# refused


def test_live_threads_are_refused_by_name(session: ExtSession) -> None:
    run(
        session,
        "import threading\ngo = threading.Event()\nthread = threading.Thread(target=go.wait, name='my worker')\nthread.start()\nx = 1",
    )
    for ask in (session.fork, session.checkpoint):
        for force in (False, True):
            with pytest.raises(ForkRefused, match="my worker") as caught:
                ask(force=force)
            assert caught.value.threads == ("my worker",)
    assert session.eval("x, thread.is_alive()") == (1, True)
    assert run(session, "go.set(); thread.join(); print('joined')").stdout == "joined\n"
    with session.fork() as branch:
        assert branch.eval("x") == 1


def test_a_thread_of_c_is_refused(session: ExtSession) -> None:
    run(
        session,
        "import ctypes\nlibc = ctypes.CDLL(None)\nkeep = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)\n"
        "thread = ctypes.c_ulong()\nlibc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)",
    )
    with pytest.raises(ForkRefused):
        session.fork(force=True)
    assert session.eval("1 + 1") == 2


def test_risks_are_refused_and_forced(session: ExtSession) -> None:
    run(session, "import socket; a, b = socket.socketpair(); x = 1")
    with pytest.raises(ForkRefused, match="force=True") as caught:
        session.fork()
    assert caught.value.census.verdict == "risky"
    with session.fork(force=True) as branch:
        assert branch.eval("x") == 1
        run(branch, "a.send(b'x')")
        assert session.eval("b.recv(10)") == b"x"


def test_refusals_leave_nothing_open(session: ExtSession) -> None:
    run(session, "import os, socket; a, b = socket.socketpair()")
    inside = session.eval("len(os.listdir('/proc/self/fd'))")
    outside = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(ForkRefused):
            session.fork()
    assert session.eval("len(os.listdir('/proc/self/fd'))") == inside
    assert len(os.listdir("/proc/self/fd")) <= outside


# checkpoints


def test_rollback_many_times(session: ExtSession) -> None:
    run(session, "x = []")
    here = session.checkpoint("here")
    pids = set()
    for number in range(20):
        run(session, f"x.append({number})")
        session.rollback(here if number % 2 else "here")
        assert session.eval("x") == []
        pids.add(session.pid)
    assert len(pids) == 20
    assert here.is_alive
    assert session.statistics().checkpoints == 1


def test_back_and_forth(session: ExtSession) -> None:
    for number in range(4):
        run(session, f"x = {number}")
        session.checkpoint(str(number))
    for number in (1, 3, 0, 2, 2):
        session.rollback(str(number))
        assert session.eval("x") == number
        run(session, "x = 'changed'")
    assert [each.name for each in session.checkpoints] == ["0", "1", "2", "3"]


def test_a_checkpoint_of_what_was_rolled_back(session: ExtSession) -> None:
    run(session, "x = 1")
    session.checkpoint("one")
    session.rollback("one")
    run(session, "x = 2")
    session.checkpoint("two")
    session.rollback("one")
    session.rollback("two")
    assert session.eval("x") == 2
    with session.fork() as branch:
        assert branch.checkpoints == ()
        with pytest.raises(CheckpointGone):
            branch.rollback("one")


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "raise SystemExit"])
def test_back_from_the_dead(session: ExtSession, end: str) -> None:
    run(session, "import os, ctypes; x = 1")
    session.checkpoint("here")
    for _ in range(2):
        assert not session.execute(end).wait(SOON).completion.survived
        assert not session.is_alive
        session.rollback("here")
        assert session.is_alive
        assert session.error is None
        assert session.eval("x") == 1


def test_calls_that_a_rollback_overtakes(session: ExtSession) -> None:
    run(session, "import time; x = 1")
    session.checkpoint("here")
    calls = [session.execute("time.sleep(60)"), session.execute("x = 2"), session.execute("x = 3")]
    session.rollback("here")
    for each in calls:
        assert isinstance(each.wait(SOON).error, SessionClosed)
        assert "here" in str(each.error)
    assert session.eval("x") == 1


def test_a_rollback_ends_what_was_started(session: ExtSession) -> None:
    run(session, "import subprocess")
    session.checkpoint("here")
    pid = run(session, "p = subprocess.Popen(['sleep', '1000']); print(p.pid)").stdout
    session.rollback("here")
    assert not Path(f"/proc/{int(pid)}").exists() or Path(f"/proc/{int(pid)}/stat").read_text().split()[2] == "Z"


def test_children_of_before_end_too(session: ExtSession) -> None:
    run(session, "import subprocess; p = subprocess.Popen(['sleep', '1000'])")
    pid = session.eval("p.pid")
    session.checkpoint("here", force=True)
    session.rollback("here")
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert session.eval("p.poll() is None or True")


def test_temporary_directories(session: ExtSession) -> None:
    """They are the session's, whichever process that is now, and go with it."""
    run(session, "import tempfile, os; d = tempfile.TemporaryDirectory(); n = tempfile.NamedTemporaryFile()")
    folder, file = session.eval("d.name"), session.eval("n.name")
    session.checkpoint("here")
    session.rollback("here")
    assert os.path.isdir(folder)
    assert os.path.exists(file)
    with session.fork() as branch:
        branch.exit()
        assert os.path.isdir(folder)
        assert os.path.exists(file)
    session.rollback("here")
    run(session, "open(os.path.join(d.name, 'x'), 'w').close()")
    session.exit()
    assert not os.path.exists(folder)
    assert not os.path.exists(file)


def test_names(session: ExtSession) -> None:
    run(session, "x = 1")
    first = session.checkpoint("a")
    run(session, "x = 2")
    second = session.checkpoint("a")
    third = session.checkpoint()
    assert not first.is_alive
    assert second.is_alive
    assert [each.name for each in session.checkpoints] == ["a", third.name]
    session.rollback("a")
    assert session.eval("x") == 2
    with pytest.raises(CheckpointGone, match="'a'"):
        session.rollback(first)
    with pytest.raises(CheckpointGone, match=r"'b'.*'a'") as caught:
        session.rollback("b")
    assert caught.value.name == "b"
    with pytest.raises(TypeError):
        session.rollback(3)  # type: ignore[arg-type]
    assert session.eval("x") == 2


def test_dropped(session: ExtSession) -> None:
    here = session.checkpoint("here")
    assert here.memory > 0
    here.drop()
    here.drop()
    assert not here.is_alive
    assert here.memory == 0
    assert "gone" in repr(here)
    with pytest.raises(CheckpointGone, match="'here'"):
        session.rollback(here)
    with pytest.raises(CheckpointGone):
        session.rollback("here")
    assert session.checkpoints == ()


def test_of_another_session(session: ExtSession) -> None:
    with ExtSession() as other:
        theirs = other.checkpoint("here")
        with pytest.raises(CheckpointGone, match="another"):
            session.rollback(theirs)
        assert other.eval("1 + 1") == session.eval("1 + 1") == 2


def test_most_checkpoints() -> None:
    with ExtSession(max_checkpoints=3) as session:
        made = []
        for number in range(6):
            run(session, f"x = {number}")
            made.append(session.checkpoint())
        assert [each.is_alive for each in made] == [False] * 3 + [True] * 3
        session.rollback(made[3])
        assert session.eval("x") == 3
        session.checkpoint()
        assert not made[3].is_alive
        assert session.statistics().checkpoints == 3
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="max_checkpoints"):
            ExtSession(max_checkpoints=wrong)  # type: ignore[arg-type]


def test_most_memory() -> None:
    with ExtSession(checkpoint_memory=60_000_000) as session:
        made = []
        for _ in range(4):
            run(session, "x = bytearray(b'x') * 25_000_000")  # each has its own
            made.append(session.checkpoint())
        alive = [each.is_alive for each in made]
        assert alive[-1]
        assert not alive[0]
        assert session.statistics().checkpoint_memory < 80_000_000
    with ExtSession(checkpoint_memory=0) as session:
        session.checkpoint("a")
        session.checkpoint("b")
        assert [each.name for each in session.checkpoints] == ["b"]  # the last is kept


def test_closed_with_checkpoints(session: ExtSession) -> None:
    made = [session.checkpoint() for _ in range(3)]
    session.close()
    assert not any(each.is_alive for each in made)
    with pytest.raises((CheckpointGone, SessionClosed)):
        session.rollback(made[0])


def test_restarted_with_checkpoints(session: ExtSession) -> None:
    made = session.checkpoint("here")
    session.restart()
    assert not made.is_alive
    assert session.checkpoints == ()
    session.checkpoint("here")
    session.rollback("here")
    assert session.eval("1 + 1") == 2


def test_a_dead_session_that_is_closed(session: ExtSession) -> None:
    session.checkpoint("here")
    session.execute("import os; os._exit(1)").wait(SOON)
    session.close()
    assert session.checkpoints == ()
    with pytest.raises((CheckpointGone, SessionClosed)):
        session.rollback("here")


def test_output_after_a_rollback(session: ExtSession) -> None:
    run(session, "for n in range(2000): print(n)")
    session.checkpoint("here")
    before = run(session, "print('before')")
    session.rollback("here")
    after = run(session, "import sys; print('after'); print('e', file=sys.stderr)")
    assert (before.stdout, after.stdout, after.stderr) == ("before\n", "after\n", "e\n")
    assert after.number > before.number


def test_listeners_and_lines_after_a_rollback(session: ExtSession) -> None:
    session.checkpoint("here")
    session.rollback("here")
    session.execute("print('line')").wait(SOON)
    assert session.readline(SOON) == "line\n"
    assert [each.call for each in session.readcodes()]


def test_options_are_those_of_the_session(tmp_path: Path) -> None:
    with ExtSession(cwd=tmp_path, env={"A": "b"}, end_on_exit=False, display=Display.NONE, output_limit=10) as session:
        session.checkpoint("here")
        for each in (session.fork(), session):
            if each is session:
                session.rollback("here")
            assert each.eval("__import__('os').getcwd()") == os.fspath(tmp_path)
            assert each.execute("raise SystemExit(3)").wait(SOON).outcome is Outcome.EXITED
            assert each.execute("5").wait(SOON).repr is None
            results = each.execute("print('x' * 100)").wait(SOON)
            assert len(results.stdout) <= 10
            each.close()


# other ways to start


@pytest.mark.parametrize("options", [{"warm": False}, {"preload": ["json"]}, {"warm": False, "preload": ["json"]}])
def test_sessions_that_were_started_otherwise(options: dict[str, Any]) -> None:
    with ExtSession(**options) as session:
        run(session, "import json; x = 1")
        session.checkpoint("here")
        with session.fork() as branch:
            assert branch.eval("json.dumps(x)") == "1"
        run(session, "x = 2")
        session.rollback("here")
        assert session.eval("x") == 1


def test_its_template_is_gone() -> None:
    env = {**os.environ, "EXTSESSION_TEST": "gone"}
    template = warm_up(env=env)
    assert template is not None
    with ExtSession(env=env) as session:
        template.end()
        run(session, "x = 1")
        session.checkpoint("here")
        with session.fork() as branch:
            assert branch.eval("x") == 1
        session.rollback("here")
        assert session.eval("x") == 1


def test_code_that_hooks_forks(session: ExtSession) -> None:
    """os.register_at_fork is called, as in any fork; what it prints belongs to no call of the branch."""
    run(
        session,
        "import os\nlog = []\nos.register_at_fork(before=lambda: log.append('b'), after_in_parent=lambda: (log.append('p'), print('P')),"
        " after_in_child=lambda: (log.append('c'), print('C')))",
    )
    with session.fork() as branch:
        assert branch.eval("log") == ["b", "c"]
        assert session.eval("log") == ["b", "p"]
        assert run(branch, "print('x')").stdout == run(session, "print('x')").stdout == "x\n"


def test_code_that_traces(session: ExtSession) -> None:
    run(session, "import sys, gc\ngc.set_threshold(1)\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\nx = 1")
    with session.fork() as branch:
        assert branch.eval("x") == 1
        run(branch, "sys.settrace(None); sys.setprofile(None)")
    session.checkpoint("here")
    session.rollback("here")
    assert session.eval("x") == 1


def test_all_descriptors_are_taken_in_the_session(session: ExtSession) -> None:
    run(
        session,
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))\ntaken = []\n"
        "try:\n    while True: taken.append(os.open('/dev/null', os.O_RDONLY))\nexcept OSError: pass\nx = 1",
    )
    with pytest.raises(Exception) as caught:
        session.fork()
    assert not isinstance(caught.value, (SessionDied, AssertionError))
    assert session.eval("x") == 1
    run(session, "for each in taken[:20]: os.close(each)")
    with session.fork() as branch:
        assert branch.eval("x") == 1


def test_a_large_session(session: ExtSession) -> None:
    run(session, "x = [bytes(1000) for _ in range(200_000)]")
    began = time.monotonic()
    with session.fork() as branch:
        assert time.monotonic() - began < 5
        assert branch.eval("len(x)") == 200_000
