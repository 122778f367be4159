"""What a command has started ends with it, if it is stopped, and else is left alone. Nothing is left of ours."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from typing import Any

import pytest

from extsession.execute import ExecuteError, ExecuteRequest, LocalSubProcessExecute, StdinSource, TimeoutError

#: starts what it is told, says who they are, and sleeps
FAMILY = """
import os, signal, sys, time
def child(*ways):
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        return os.write(1, b"pid %s\\n" % os.read(read, 20))  # no print: a signal handler calls this
    if "session" in ways:
        os.setsid()
    if "orphan" in ways and os.fork():
        os._exit(0)
    if "deaf" in ways:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    os.write(write, b"%d" % os.getpid())
    os.close(write)
    time.sleep(60)
    os._exit(0)
"""


def _pids(status: Any) -> list[int]:
    return [int(line.split()[1]) for line in status.out.splitlines() if line.startswith("pid")]


@pytest.mark.parametrize(
    "ways", [(), ("deaf",), ("session", "deaf"), ("orphan", "deaf"), ("session", "orphan"), ("session", "orphan", "deaf")]
)
@pytest.mark.parametrize("how", ["interrupt", "terminate", "leave"])
def test_the_whole_tree_ends(program: Any, eventually: Any, is_running: Any, ways: tuple[str, ...], how: str) -> None:
    source = FAMILY + f"child(*{ways}); child(*{ways}); time.sleep(60)"
    with LocalSubProcessExecute(interrupt_timeout=20, terminate_timeout=20).call(program(source)) as status:
        eventually(lambda: len(_pids(status)) == 2)
        pids = _pids(status)
        if how != "leave":
            getattr(status, how)()
            assert not any(map(is_running, pids))  # it returns when all are dead
    assert not any(map(is_running, pids))
    assert len(status.steps) == 1  # they do not hold up the ladder


def test_the_whole_tree_ends_with_a_timeout(program: Any, is_running: Any) -> None:
    source = FAMILY + "child('session', 'orphan', 'deaf'); child('deaf'); time.sleep(60)"
    outcome = LocalSubProcessExecute(timeout=1.5).run(program(source))
    assert type(outcome.exception) is TimeoutError
    pids = _pids(outcome)
    assert len(pids) == 2 and not any(map(is_running, pids))


def test_started_during_the_ladder(program: Any, eventually: Any, is_running: Any) -> None:
    source = FAMILY + """
signal.signal(signal.SIGINT, lambda number, frame: (child("session", "orphan", "deaf"), os._exit(3)))
os.write(1, b"there\\n")
time.sleep(60)
"""
    with LocalSubProcessExecute(interrupt_timeout=10).call(program(source)) as status:
        eventually(lambda: "there" in status.out)
        status.interrupt()
    (pid,) = _pids(status)
    assert status.exit_code == 3
    assert not is_running(pid)


def test_started_at_once(is_running: Any) -> None:
    """Before the command can have been marked: what is below it then is marked as well."""
    request = ExecuteRequest(["sh", "-c", "setsid sh -c 'echo pid $$; exec sleep 60' & echo there; exec sleep 60"])
    executor = LocalSubProcessExecute()
    for _ in range(20):
        with executor.call(request) as status:
            give_up = time.monotonic() + 10
            while not _pids(status):
                assert time.monotonic() < give_up
        assert not is_running(_pids(status)[0])


@pytest.mark.leaks("what it has started on purpose is ended by the test")
@pytest.mark.parametrize("ways", [(), ("session", "orphan")])
def test_left_alone_after_a_normal_end(program: Any, is_running: Any, ways: tuple[str, ...]) -> None:
    status = LocalSubProcessExecute(drain_timeout=0)(program(FAMILY + f"child(*{ways})"))
    (pid,) = _pids(status)
    assert status.success
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_faster_than_it_is_killed(program: Any, eventually: Any) -> None:
    """Each forks on and ends, so that no list of them is true; bounded, lest a bug take the machine down."""
    source = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
os.write(1, b"there\\n")
end = time.monotonic() + 8
for _ in range(4):
    if not os.fork():
        os.setsid()
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
        os._exit(0)
time.sleep(60)
"""
    executor = LocalSubProcessExecute(interrupt_timeout=0.05, terminate_timeout=0.05, drain_timeout=20)
    with executor.call(program(source)) as status:
        eventually(lambda: "there" in status.out)
        began = time.monotonic()
        status.interrupt()
        assert time.monotonic() - began < 5
    # its stdout is at its end although we would wait for 20 s: nobody is left who has it
    assert status.exit_code == -9


def test_a_bomb(program: Any, eventually: Any) -> None:
    source = """
import os, time
os.write(1, b"there\\n")
for _ in range(6):  # 64 of them
    os.fork()
os.setsid() if os.getpid() != os.getpgid(0) else None
time.sleep(60)
"""
    with LocalSubProcessExecute(drain_timeout=20).call(program(source)) as status:
        eventually(lambda: "there" in status.out)
        time.sleep(0.05)
        began = time.monotonic()
        status.terminate()
        assert time.monotonic() - began < 5


def test_without_pidfd_and_without_marks(
    program: Any, eventually: Any, is_running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from extsession._launch import marks

    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(marks, "new_mark", lambda: 0)
    source = FAMILY + "child('session', 'deaf'); child('orphan', 'deaf'); time.sleep(60)"
    executor = LocalSubProcessExecute()
    with executor.call(program(source)) as status:
        eventually(lambda: len(_pids(status)) == 2)
        status.interrupt()
        assert not any(map(is_running, _pids(status)))
    assert executor(program("import sys; sys.exit(4)")).exit_code == 4


def test_without_proc(program: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession._launch import procfs

    monkeypatch.setattr(procfs, "_read", lambda path: b"")
    monkeypatch.setattr(procfs, "pids", list)
    monkeypatch.setattr(procfs, "lists_children", lambda: False)
    with LocalSubProcessExecute().call(program("import time; print('there', flush=True); time.sleep(60)")) as status:
        eventually(lambda: "there" in status.out)
        status.interrupt()
    assert status.exit_code == -2


@pytest.mark.parametrize("name", ["fork", "spare"])
def test_no_descriptors_left(program: Any, name: str) -> None:
    """For each number that may be left: it runs, or it says why not; and nothing is left of it."""
    executor = LocalSubProcessExecute()
    assert executor(program("print(1)")).success
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    results = []
    for spare in range(16) if name == "spare" else [2]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
        try:
            outcome = executor.run(program("print('well')", stdin="text"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        results.append((outcome.exit_code, type(outcome.exception)))
        if outcome:
            assert outcome.out == "well\n"
        else:
            assert outcome.exit_code == 24 and type(outcome.exception) is ExecuteError  # EMFILE
    if name == "spare":
        assert results[0] == (24, ExecuteError) and results[-1] == (0, type(None))


def test_no_threads_left(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    request = program("print(1)")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        outcome = LocalSubProcessExecute(show=True).run(request)
    assert (type(outcome.exception), outcome.exit_code) == (ExecuteError, 11)  # EAGAIN
    start = threading.Thread.start

    def no_listener(self: Any) -> None:
        if self.name == "extsession-listener":
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_listener)
        outcome = LocalSubProcessExecute(show=True).run(request)
    assert (type(outcome.exception), outcome.exit_code) == (ExecuteError, 11)


def test_nothing_is_left_by_300_runs() -> None:
    """The fixture of all tests looks for descriptors, threads and processes."""
    executor = LocalSubProcessExecute()
    for number in range(300):
        if number % 3 == 0:
            assert executor(ExecuteRequest(["true"])).success
        elif number % 3 == 1:
            assert executor.run(ExecuteRequest(["false"], stdin="text")).exit_code == 1
        else:
            with executor.call(ExecuteRequest(["cat"], stdin=StdinSource.API)):
                pass
    assert not executor._running


def test_sigchld_is_ignored(controller: Any) -> None:
    """The system keeps no exit codes then: that is said, and a failure is not taken for a success."""
    source = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from extsession.execute import *
outcome = LocalSubProcessExecute().run(ExecuteRequest(["sh", "-c", "echo hi; exit 3"]))
print(outcome.exit_code, type(outcome.exception).__name__, "SIGCHLD" in str(outcome.exception), outcome.out, bool(outcome))
"""
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("None ExecuteError True hi\n False\n", "")


def test_something_else_waits_for_all_children(controller: Any) -> None:
    """Whoever is first: the exit code is right, or it is said that it is lost."""
    source = """
import contextlib, os, threading
from extsession.execute import *
def collect(pid):
    with contextlib.suppress(ChildProcessError):  # we may be first
        os.waitpid(pid, 0)
executor = LocalSubProcessExecute()
with executor.call(ExecuteRequest(["sh", "-c", "echo hi; read x; exit 3"], stdin=StdinSource.API)) as status:
    thread = threading.Thread(target=collect, args=(status.metadata["pid"],))
    thread.start()
    status.close_stdin()
    status.wait(10)
    thread.join()
code, error = status.exit_code, status.outcome.exception
print(code == 3 and error is None or code is None and type(error) is ExecuteError, status.out, bool(status.outcome))
"""
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("True hi\n False\n", "")


@pytest.mark.parametrize("end", ["unwinds", "lives on"])
def test_a_fork_of_the_program(controller: Any, end: str) -> None:
    """Has nothing to do with the commands: it neither stops them, nor hangs, nor keeps their stdin open."""
    source = f"""
import os, sys, time
from extsession.execute import *
executor = LocalSubProcessExecute()
with executor:
    with executor.call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        status.write_stdin("text")
        pid = os.fork()
        if not pid:
            executor.interrupt(); status.interrupt(); status.close_stdin()
            assert status.wait() is None
            try:
                status.write_stdin("no")
            except BrokenPipeError:
                if {end == "unwinds"}:
                    assert LocalSubProcessExecute()(ExecuteRequest(["true"])).success
                    sys.exit(4)
                time.sleep(60)
            os._exit(5)
        if {end == "unwinds"}:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
        assert status.wait(0.1) is None
        status.close_stdin()
        assert status.wait(10) == 0
        if {end != "unwinds"}:
            os.kill(pid, 9); os.waitpid(pid, 0)
print(status.out, status.steps)
"""
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("text ()\n", "")
