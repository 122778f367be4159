"""Every way to end: nothing is left, everybody is told, and why is said."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from extsession import Killer, Ladder, LaunchError, Outcome, SessionClosed, SessionDied
from extsession.terminal import BASH, TerminalSession

from .conftest import SOON, output, run

ROOT = Path(__file__).parents[2]
#: starts what is hard to find: in the background, in a session of its own, twice forked; prints the pids
FAMILY = """
sleep 95 & echo pid $!
setsid bash -c 'echo pid $$; exec sleep 95' &
(setsid bash -c 'echo pid $$; exec sleep 95' &)
nohup bash -c 'trap "" HUP TERM INT; echo pid $$ > /dev/tty; while :; do sleep 95; done' >/dev/null 2>&1 &
disown -a; read x
"""


def pids_in(text: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"pid (\d+)\n", text)]


def family(session: TerminalSession) -> list[psutil.Process]:
    """The program and what it has started."""
    results = session.execute(FAMILY, timeout=SOON)
    for _ in results:
        if len(pids_in(results.partial)) == 4:
            results.writeline("")
            break
    results.wait(SOON)
    assert session.pid is not None
    return [psutil.Process(pid) for pid in (session.pid, *pids_in(results.output))]


def assert_gone(processes: list[psutil.Process], patience: float = SOON) -> None:
    _, alive = psutil.wait_procs(processes, timeout=patience)
    assert alive == []


def test_close_ends_all() -> None:
    with TerminalSession("bash") as session:
        processes = family(session)
        running = session.execute("sleep 95")
        waiting = session.execute("true")
    assert all(not process.is_running() for process in processes)
    for results in (running, waiting):
        assert results.outcome is Outcome.KILLED
        assert isinstance(results.error, SessionDied)
        assert results.completion.killer is Killer.CALLER
        assert not results.completion.survived
    assert (session.is_alive, session.exit_code) == (False, None)
    with pytest.raises(SessionDied):
        session.execute("true")
    with pytest.raises(SessionDied):
        session.resize(1, 1)
    session.close()
    session.kill()
    session.terminate()
    assert session.exit() is None


def test_the_end_by_itself() -> None:
    with TerminalSession("bash") as session:
        processes = family(session)
        results = session.execute("printf last; exit 3")
        waiting = session.execute("true")
        waiting.wait(SOON)
        assert (results.outcome, results.exit_code, results.output) == (Outcome.EXITED, 3, "lastexit\n")
        error = results.error
        assert isinstance(error, SessionDied)
        assert (error.exit_code, error.signal, error.killer) == (3, None, None)
        assert error.running == "printf last; exit 3"
        assert "last" in str(error)
        assert waiting.outcome is Outcome.LOST
        assert_gone(processes)
        assert (session.exit_code, session.error) == (3, waiting.error)


def test_a_signal_from_outside() -> None:
    with TerminalSession("bash") as session:
        processes = family(session)
        results = session.execute("echo begun; read x")
        results.wait_for("begun", SOON)
        os.kill(session.pid or 0, signal.SIGKILL)
        results.wait(SOON)
        assert results.outcome is Outcome.LOST
        assert isinstance(results.error, SessionDied)
        assert (results.error.signal, results.error.killer) == ("SIGKILL", Killer.OUTSIDE)
        assert_gone(processes)


def test_exit_waits_for_what_is_queued() -> None:
    with TerminalSession("bash") as session:
        results = session.execute("sleep 0.1; echo done")
        assert session.exit() == 0
        assert results.output == "done\n"
    with TerminalSession("bash") as session:
        results = session.execute("sleep 95")
        assert session.exit(timeout=0.2) is None
        assert results.outcome is Outcome.KILLED


def test_terminate_lets_the_program_end() -> None:
    with TerminalSession("bash") as session:
        results = session.execute("trap 'echo bye; exit 7' TERM; echo begun; while :; do sleep 0.05; done")
        results.wait_for("begun", SOON)
        session.terminate()
        assert (results.outcome, results.exit_code) == (Outcome.KILLED, 7)
        assert "bye\n" in results.output
    with TerminalSession("bash", ladder=Ladder(0.1, 0.1)) as session:
        results = session.execute("trap '' TERM HUP; echo begun; while :; do :; done")
        results.wait_for("begun", SOON)
        session.terminate()
        assert results.completion.signal == "SIGKILL"


def test_a_program_that_lets_go_of_its_terminal_is_still_ended() -> None:
    with TerminalSession("bash") as session:
        results = session.execute("exec </dev/null >/dev/null 2>&1 sleep 95")
        with pytest.raises(TimeoutError):
            results.wait(0.2)
        process = psutil.Process(session.pid)
    assert_gone([process])
    assert results.outcome is Outcome.KILLED


def test_a_timeout_where_the_terminal_was_let_go_of() -> None:
    with TerminalSession("bash") as session:
        results = run(session, "exec </dev/null >/dev/null 2>&1 sleep 95", timeout=0.2)
        assert results.timed_out
        assert not results.completion.survived


def test_the_death_of_the_warden_ends_the_program() -> None:
    with TerminalSession("bash") as session:
        process = psutil.Process(session.pid)
        results = session.execute("while :; do echo y; done")
        results.wait_for("y", SOON)
        warden = process.parent()
        assert warden is not None
        warden.kill()
        results.wait(SOON)
        assert isinstance(results.error, SessionDied)
        assert_gone([process])


CONTROLLER = f"""
import os, sys
from extsession.terminal import TerminalSession
session = TerminalSession("bash")
print("pid", session.pid, flush=True)
for chunk in session.execute({FAMILY!r}):
    print(chunk.text, end="", flush=True)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "KeyboardInterrupt"])
def test_the_death_of_the_controller_ends_all(how: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    ) as controller:
        assert controller.stdout is not None
        pids: list[int] = []
        while len(pids) < 5:
            line = controller.stdout.readline()
            assert line
            pids += pids_in(line)
        processes = [psutil.Process(pid) for pid in pids]
        controller.send_signal(signal.SIGKILL if how == "SIGKILL" else signal.SIGINT)  # it waits for `read x`
    assert_gone(processes, 2.0)


def test_a_session_that_is_forgotten_is_ended() -> None:
    session = TerminalSession("bash")
    process = psutil.Process(session.pid)
    results = session.execute("sleep 95")
    del session
    gc.collect()
    assert results.wait(SOON).outcome is Outcome.KILLED
    assert_gone([process])


def test_a_forked_process_lets_go() -> None:
    with TerminalSession("bash") as session:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            told = b"nothing"
            try:
                session.execute("true")
            except SessionClosed:
                told = b"closed"
            try:
                session.close()
            finally:
                os.write(write, told)
                os._exit(0)
        os.close(write)
        with open(read, "rb") as file:
            assert file.read() == b"closed"
        os.waitpid(pid, 0)
        assert output(session, "echo alive") == "alive\n"


def test_many_sessions_leave_nothing() -> None:
    def holdings() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(psutil.Process().children())

    before = holdings()
    for number in range(200):
        session = TerminalSession("bash")
        if number % 4 == 0:
            session.execute("sleep 95 &")
        elif number % 4 == 1:
            run(session, "exit 1")
        elif number % 4 == 2:
            session.exit()
        session.close()
    assert holdings() == before


def test_sessions_at_the_same_time() -> None:
    failed = []

    def use(name: int) -> None:
        with TerminalSession("bash") as session:
            for number in range(5):
                if run(session, f"echo {name} {number}").output != f"{name} {number}\n":
                    failed.append(name)

    threads = [threading.Thread(target=use, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# starts that fail


@pytest.mark.parametrize(
    ("command", "options", "text"),
    [
        ("/no/such/program", {"prompt": "> "}, "'/no/such/program': No such file"),
        ("no-such-program", {"prompt": "> ", "env": {"PATH": "/usr/bin:/bin"}}, "'no-such-program': No such file"),
        ("/etc/passwd", {"prompt": "> "}, "'/etc/passwd': Permission denied"),
        (BASH, {"cwd": "/no/such/folder"}, "No such file or directory: '/no/such/folder'"),
        (BASH, {"env": {"A=B": "c"}}, "illegal environment variable"),
        (["sh", "-c", "echo sorry >&2; exit 4"], {"prompt": "> "}, r"exit status 4.*sorry"),
        (["sh", "-c", "kill -9 $$"], {"prompt": "> "}, r"killed by SIGKILL"),
        # on a machine with much else to do, it may not have been executed by then
        ("cat", {"prompt": "> ", "start_timeout": 0.1}, "(showed no prompt|was not executed) within 0.1 s"),
        (["sh", "-c", "echo hm; sleep 95"], {"prompt": "> ", "start_timeout": 0.5}, "printed: 'hm|was not executed"),
        (replace(BASH, command=("sh", "-c", "sleep 95"), arguments=()), {"start_timeout": 0.3}, "showed no|was not"),
    ],
)
def test_a_program_that_does_not_start(command: object, options: dict[str, object], text: str) -> None:
    began = time.monotonic()
    with pytest.raises(LaunchError, match=text) as caught:
        TerminalSession(command, **options)  # type: ignore[arg-type]
    assert caught.value.command
    assert time.monotonic() - began < SOON


def test_the_program_is_what_a_login_makes_of_it() -> None:
    """Signals at their default, no descriptor of ours, its own session: also below a controller that ignores them."""
    was = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with TerminalSession("bash") as session:
            blocked = output(session, "python3 -c 'import signal; print(signal.pthread_sigmask(0, []))'")
            ignored = output(session, "grep SigIgn /proc/self/status").split()[1]
            fds = output(session, "ls /proc/$$/fd").split()
    finally:
        signal.signal(signal.SIGINT, was)
    assert blocked == "set()\n"
    assert int(ignored, 16) & (1 << (signal.SIGINT - 1) | 1 << (signal.SIGPIPE - 1)) == 0
    assert set(fds) <= {"0", "1", "2", "255"}


@pytest.mark.filterwarnings("ignore")
def test_an_error_of_ours_is_shown_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: shown.append(error[1]))
    session = TerminalSession("bash")
    process = psutil.Process(session.pid)

    def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("extsession.terminal.wire.Wire._read", fail)
    results = session.execute("echo x").wait(SOON)
    assert isinstance(results.error, SessionDied)
    assert [type(error) for error in shown] == [ZeroDivisionError]
    assert_gone([process])
