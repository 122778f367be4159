"""recover=True: whatever ends the process costs that call only, or the session says why it could not be."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from extsession import (
    AsyncExtSession,
    CallTimeout,
    ExtResults,
    ExtSession,
    Ladder,
    Outcome,
    SessionClosed,
    SessionDied,
    Step,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sessions are brought back on Linux only")

SOON = 20.0
QUICK = Ladder(interrupt=0.2, terminate=0.2)


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession(recover=True, ladder=QUICK) as session:
        run(session, "import os, signal, time, ctypes; x = 1")
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


def is_protected(session: ExtSession) -> bool:
    session.is_alive  # takes in what has arrived
    return session.statistics().unprotected is None and not session._core.machine.is_busy


def checkpoint_pid(session: ExtSession) -> int:
    recovery = session._core.machine.recovery
    assert recovery is not None
    assert recovery.checkpoint is not None
    pid = recovery.checkpoint.pid
    assert pid is not None
    return pid


ENDS = {
    "os._exit": ("os._exit(3)", 3, None),
    "SIGKILL": ("os.kill(os.getpid(), 9)", None, "SIGKILL"),
    "a segfault": ("ctypes.string_at(0)", None, "SIGSEGV"),
    "abort": ("os.abort()", None, "SIGABRT"),
    "SIGTERM": ("os.kill(os.getpid(), 15)", None, "SIGTERM"),
    "a limit of CPU time": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", None, "SIGKILL",
    ),
    "a recursion in C": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "f = ctypes.CFUNCTYPE(None)(lambda: f())\nimport sys; sys.setrecursionlimit(10**8)\nf()", None, "SIGSEGV",
    ),
    "closed descriptors": ("os.closerange(3, 1000); os._exit(4)", 4, None),
    "exec": ("os.execv('/bin/true', ['true'])", 0, None),
    "the end of its group": ("os.killpg(0, 9)", None, "SIGKILL"),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_ends_the_process(session: ExtSession, case: str) -> None:
    code, status, number = ENDS[case]
    for turn in range(3):
        pid = session.pid
        results = session.execute(f"x = 'lost'; print('before the end', flush=True)\n{code}").wait(SOON)
        assert isinstance(results.error, SessionDied)
        assert (results.error.exit_code, results.error.signal) == (status, number)
        assert "goes on with the state from before" in str(results.error)
        assert results.stdout == "before the end\n"
        completion = results.completion
        assert (completion.survived, completion.recovered, completion.outcome) == (True, True, Outcome.LOST)
        assert session.is_alive
        assert session.error is None
        assert session.eval("x") == 1
        assert session.pid != pid
        assert session.statistics().recoveries == turn + 1
        assert run(session, "print('goes on')").stdout == "goes on\n"


def test_state_of_every_call_before_it(session: ExtSession) -> None:
    for number in range(5):
        run(session, f"x = {number}; y = [x] * 10")
        session["z"] = number
        session.call(exec, f"import os; os.environ['N'] = '{number}'")
        session.execute("os._exit(1)").wait(SOON)
        assert session.eval("x, y[3], z, os.environ['N']") == (number, number, number, str(number))


def test_queued_calls_go_on(session: ExtSession) -> None:
    calls = [session.execute(each) for each in ("x = 2", "os._exit(1)", "x += 1", "os._exit(2)", "print(x)")]
    calls[-1].wait(SOON)
    assert [each.completion.recovered for each in calls] == [False, True, False, True, False]
    assert calls[-1].stdout == "3\n"


def test_a_failing_call_loses_nothing(session: ExtSession) -> None:
    results = session.execute("x = 2\n1 / 0").wait(SOON)
    assert isinstance(results.error, ZeroDivisionError)
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 2


def test_memory_errors_are_no_ends(session: ExtSession) -> None:
    results = session.execute("x = 2\ny = bytearray(10**15)").wait(SOON)
    assert isinstance(results.error, MemoryError)
    assert not results.completion.recovered
    assert session.eval("x") == 2
    assert session.statistics().recoveries == 0


def test_killed_as_by_a_lack_of_memory(session: ExtSession) -> None:
    """As the kernel does it: SIGKILL in the middle of the work, from outside."""
    results = session.execute("x = []\nprint('on', flush=True)\nwhile True: x.append(bytes(1000)); time.sleep(0.001)")
    session.readline(SOON)
    os.kill(session.pid, signal.SIGKILL)  # type: ignore[arg-type]
    assert results.wait(SOON).completion.recovered
    assert session.eval("x") == 1


def test_a_timeout_that_needs_a_kill(session: ExtSession) -> None:
    results = session.execute(
        "x = 2\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass", timeout=0.3
    ).wait(SOON)
    assert isinstance(results.error, CallTimeout)
    assert results.error.survived
    assert "what it was before" in str(results.error)
    completion = results.completion
    assert (completion.outcome, completion.recovered) == (Outcome.TIMED_OUT, True)
    assert completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert session.eval("x") == 1
    assert session.eval("signal.getsignal(15) == signal.SIG_DFL")


def test_killed_while_idle(session: ExtSession) -> None:
    run(session, "x = 'latest'")
    until(lambda: is_protected(session))
    for _ in range(3):
        pid = session.pid
        os.kill(session.pid, signal.SIGKILL)  # type: ignore[arg-type]
        until(lambda pid=pid: session.is_alive and session.pid not in (None, pid))
        assert session.eval("x") == "latest"
        until(lambda: is_protected(session))


def test_killed_again_and_again(session: ExtSession) -> None:
    """At any moment of its life, for a while: each time it is there again, or has said why it is not."""
    for delay in (0.0, 0.0005, 0.001, 0.002, 0.004):
        for _ in range(6):
            pid = session.pid
            assert pid is not None
            timer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
            results = session.execute("x = 2")
            timer.start()
            results.wait(SOON)
            timer.join()
            until(lambda pid=pid: not session.is_alive or (session.pid not in (None, pid) and is_protected(session)))
            if session.is_alive:
                assert session.eval("x") in (1, 2)
            else:
                assert isinstance(session.error, SessionDied)
                assert "it had no checkpoint" in str(session.error)
                session.restart()
                run(session, "x = 1")


def test_killed_while_the_checkpoint_is_made(session: ExtSession) -> None:
    """What the last call has left is in no checkpoint: better no session than one that has forgotten it."""
    run(session, "x = bytearray(80_000_000)")  # so that it takes a moment
    pid = session.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    queued = session.execute("x = 3")
    os.kill(pid, signal.SIGKILL)
    queued.wait(SOON)
    if queued.error is None or queued.completion.recovered:
        pytest.skip("the checkpoint was quicker")
    assert isinstance(queued.error, SessionDied)
    assert not session.is_alive


def test_stopped_while_a_checkpoint_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession._engine import recovery

    monkeypatch.setattr(recovery, "MOST_TIME", 0.3)
    with ExtSession(recover=True, ladder=QUICK) as session:
        # stops itself as soon as the call after next, which is the checkpoint's, begins
        run(session, "import os, signal, sys, gc")
        results = session.execute(
            "def stop(phase, info):\n    os.kill(os.getpid(), signal.SIGSTOP)\n"
            "os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGSTOP))"
        )
        queued = session.execute("x = 2", timeout=5)
        results.wait(SOON)
        assert isinstance(queued.wait(SOON).error, SessionDied)
        assert "no checkpoint" in str(queued.error)
        assert not session.is_alive


def test_the_checkpoint_is_killed(session: ExtSession, watch: Any) -> None:
    until(lambda: is_protected(session))
    pid = checkpoint_pid(session)
    os.kill(pid, signal.SIGKILL)
    assert watch.gone([pid])
    until(lambda: session.statistics().unprotected is not None)
    assert session.eval("x") == 1  # after which there is another one
    until(lambda: is_protected(session))
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 1


def test_the_checkpoint_is_killed_and_then_the_session(session: ExtSession, watch: Any) -> None:
    until(lambda: is_protected(session))
    pid = checkpoint_pid(session)
    os.kill(pid, signal.SIGKILL)
    assert watch.gone([pid])
    results = session.execute("os._exit(1)").wait(SOON)
    assert not session.is_alive
    assert results.error is not None
    assert not results.completion.survived or not session.is_alive
    with pytest.raises(Exception, match="checkpoint"):
        session.eval("x")


def test_the_checkpoint_is_stopped(session: ExtSession) -> None:
    until(lambda: is_protected(session))
    pid = checkpoint_pid(session)
    os.kill(pid, signal.SIGSTOP)
    session._core.machine._start_timeout = 1.0
    began = time.monotonic()
    session.execute("os._exit(1)").wait(SOON)
    until(lambda: not session.is_alive)
    assert time.monotonic() - began < 15
    assert session.error is not None


def test_threads_stand_in_the_way(session: ExtSession) -> None:
    run(session, "import threading; t = threading.Thread(target=time.sleep, args=(100,), name='my worker', daemon=True); t.start()")
    until(lambda: not session._core.machine.is_busy)
    unprotected = session.statistics().unprotected
    assert unprotected is not None
    assert "my worker" in unprotected
    results = session.execute("os._exit(1)").wait(SOON)
    assert isinstance(results.error, SessionDied)
    assert "my worker" in str(results.error)
    assert not results.completion.survived
    assert not session.is_alive


def test_threads_that_have_ended_do_not(session: ExtSession) -> None:
    run(session, "import threading; go = threading.Event(); t = threading.Thread(target=go.wait, name='my worker'); t.start()")
    run(session, "go.set(); t.join()")
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 1


def test_what_prints_while_the_checkpoint_is_made(session: ExtSession) -> None:
    """Text of a thread that writes past Python's streams is the last call's, not lost."""
    results = run(
        session,
        "import threading\ndef work():\n    for n in range(200): os.write(1, b'%d\\n' % n); time.sleep(0.0005)\n"
        "t = threading.Thread(target=work); t.start()",
    )
    until(lambda: not session._core.machine.is_busy)
    time.sleep(0.3)
    last = run(session, "t.join()")
    text = results.stdout + results.late_stdout + last.stdout
    assert text == "".join(f"{n}\n" for n in range(200))


# ends that are meant


@pytest.mark.parametrize("end", ["kill", "close", "exit", "terminate", "SystemExit", "sys.exit in a call"])
def test_ends_that_are_meant(session: ExtSession, end: str, watch: Any) -> None:
    until(lambda: is_protected(session))
    pids = [session.pid, checkpoint_pid(session)]
    if end == "exit":
        assert session.exit(5) == 5
    elif end == "SystemExit":
        assert session.execute("raise SystemExit(4)").wait(SOON).completion.exit_code == 4
    elif end == "sys.exit in a call":
        session.call(sys.exit, 3)
    else:
        getattr(session, end)()
    until(lambda: not session.is_alive)
    assert watch.gone(pids)
    with pytest.raises((SessionDied, SessionClosed)):
        session.eval("x")
    assert session.statistics().recoveries == 0


def test_killed_in_a_call(session: ExtSession) -> None:
    results = session.execute("while True: pass")
    session.kill()
    assert results.wait(SOON).outcome is Outcome.KILLED
    assert not session.is_alive


def test_an_exit_that_crashes(session: ExtSession) -> None:
    run(session, "import atexit; atexit.register(os._exit, 9)")
    assert session.exit(0) == 9
    assert not session.is_alive


def test_end_on_exit_false() -> None:
    with ExtSession(recover=True, end_on_exit=False) as session:
        run(session, "x = 1")
        assert session.execute("raise SystemExit(3)").wait(SOON).outcome is Outcome.EXITED
        session.execute("import os; os._exit(1)").wait(SOON)
        assert session.eval("x") == 1


def test_restart(session: ExtSession) -> None:
    session.execute("os._exit(1)").wait(SOON)
    session.restart()
    assert "x" not in session
    run(session, "import os; x = 5")
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 5
    assert session.statistics().recoveries == 1


def test_interrupts(session: ExtSession) -> None:
    """Also one that comes while the checkpoint before the call is made."""
    for _ in range(20):
        results = session.execute("time.sleep(60)")
        assert session.interrupt()
        assert results.wait(SOON).outcome is Outcome.INTERRUPTED
        results = session.execute("time.sleep(60)")
        assert results.interrupt()
        assert results.wait(SOON).outcome is Outcome.INTERRUPTED
    until(lambda: not session._core.machine.is_busy)
    assert not session.interrupt()
    assert session.eval("x") == 1


def test_cancelled_calls(session: ExtSession) -> None:
    first = session.execute("x = 2; time.sleep(0.1)")
    second = session.execute("x = 3")
    third = session.execute("x += 10")
    assert second.cancel()
    third.wait(SOON)
    first.wait(SOON)
    assert session.eval("x") == 12


# with branches and checkpoints


def test_branches_are_brought_back_too(session: ExtSession) -> None:
    with session.fork() as branch:
        run(branch, "x = 2")
        branch.execute("os._exit(1)").wait(SOON)
        assert branch.eval("x") == 2
        assert session.eval("x") == 1
        session.execute("os._exit(1)").wait(SOON)
        assert (session.eval("x"), branch.eval("x")) == (1, 2)
        with branch.fork() as leaf:
            leaf.execute("os._exit(1)").wait(SOON)
            assert leaf.eval("x") == 2


def test_rollbacks_of_one_that_was_brought_back(session: ExtSession) -> None:
    session.checkpoint("one")
    run(session, "x = 2")
    session.execute("os._exit(1)").wait(SOON)
    session.checkpoint("two")
    session.rollback("one")
    assert session.eval("x") == 1
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 1
    session.rollback("two")
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 2


def test_random_numbers_are_those_of_then(session: ExtSession) -> None:
    run(session, "import random")
    run(session, "a = random.getstate()")
    session.execute("random.random(); os._exit(1)").wait(SOON)
    assert session.eval("random.getstate() == a")


def test_the_event_loop_goes_on(session: ExtSession) -> None:
    run(session, "import asyncio; await asyncio.sleep(0)")
    for _ in range(2):
        session.execute("await asyncio.sleep(0.01); os._exit(1)").wait(SOON)
        assert run(session, "await asyncio.sleep(0.01); print('x')").stdout == "x\n"


def test_floods(session: ExtSession) -> None:
    expected = "".join(f"{n}\n" for n in range(3000))
    for _ in range(3):
        results = session.execute("for n in range(3000): print(n)\nimport sys; sys.stdout.flush(); os._exit(1)").wait(SOON)
        assert results.stdout == expected
        assert run(session, "for n in range(3000): print(n)").stdout == expected


def test_input_when_it_dies(session: ExtSession) -> None:
    results = session.execute("input('? '); os._exit(1)", stdin="line\n").wait(SOON)
    assert results.completion.recovered
    assert run(session, "print(input())", stdin="again\n").stdout == "again\n"


# few resources


def test_no_descriptors_in_the_controller_when_it_dies(session: ExtSession) -> None:
    until(lambda: is_protected(session))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, before[1]))
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        results = session.execute("os._exit(1)").wait(SOON)
        until(lambda: not session.is_alive)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert results.error is not None
    assert "Too many open files" in str(session.error)


def test_no_descriptors_in_the_controller_for_a_checkpoint(session: ExtSession) -> None:
    until(lambda: is_protected(session))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, before[1]))
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        run(session, "x = 2")
        until(lambda: not session._core.machine.is_busy)
        assert "descriptors" in str(session.statistics().unprotected)
        assert session.eval("x") == 2
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    run(session, "x = 3")
    session.execute("os._exit(1)").wait(SOON)
    assert session.eval("x") == 3


def test_many_recoveries_leave_nothing(session: ExtSession) -> None:
    session.execute("os._exit(1)").wait(SOON)
    until(lambda: is_protected(session))
    used = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        session.execute("os._exit(1)").wait(SOON)
    until(lambda: is_protected(session))
    assert len(os.listdir("/proc/self/fd")) <= used + 1
    assert session.eval("len(os.listdir('/proc/self/fd'))") < 12


# nonsense


def test_a_session_that_answers_nonsense_about_its_checkpoint(session: ExtSession) -> None:
    """It says that there is one, and never asked for descriptors."""
    run(
        session,
        "import sys\nframe = sys._getframe()\nwhile type(frame.f_locals.get('self')).__name__ != 'Server': frame = frame.f_back\n"
        "server = frame.f_locals['self']\nreply = type(server)._reply\n"
        "def lie(self, value, run, done):\n"
        "    if run.action == 11: value = {'census': {'findings': []}, 'pid': 5}\n"
        "    return reply(self, value, run, done)\n"
        "import types\n",
    )
    session.execute(
        "globs = reply.__globals__\nold = server._act\n"
        "def act(run, done):\n"
        "    if run.action != 11: return old(run, done)\n"
        "    return reply(server, {'census': {'findings': []}, 'pid': 5}, run, done)\n"
        "server._act = act\n"
    ).wait(SOON)
    until(lambda: not session.is_alive)
    assert "protocol" in str(session.error)


# async


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_async(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)

    async def work() -> None:
        async with AsyncExtSession(recover=True, ladder=QUICK) as session:
            await (await session.execute("import os, time; x = 1"))
            for _ in range(3):
                results = await (await session.execute("x = 2; os._exit(1)"))
                assert results.completion.recovered
                assert await session.eval("x") == 1
            calls = [await session.execute(each) for each in ("x = 5", "os._exit(1)", "print(x)")]
            for each in calls:
                await each
            assert calls[-1].stdout == "5\n"
            results = await (
                await session.execute("import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass", timeout=0.2)
            )
            assert isinstance(results.error, CallTimeout)
            assert await session.eval("x") == 5
            async with await session.fork() as branch:
                await (await branch.execute("os._exit(1)"))
                assert await branch.eval("x") == 5
            os.kill(session.pid, signal.SIGKILL)  # type: ignore[arg-type]
            for _ in range(2):
                try:
                    assert await session.eval("x") == 5
                except SessionDied as error:  # the kernel was slower than this call
                    assert "goes on" in str(error)
            assert session.statistics().recoveries == 6

    if loop == "trio":
        import trio

        trio.run(work)
    else:
        import asyncio

        asyncio.run(work())
