"""Sessions that die, stop, or break the protocol, at each moment: the right error, in time, and nothing lost before it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from extsession import PIPE, CallTimeout, ExtSession, Ladder, Outcome, SessionClosed, SessionDied, Step
from extsession._protocol import frames
from extsession._protocol.frames import pack_header
from extsession.errors import ExtSessionError, RemoteProtocolError

#: finds the descriptor of the channel, as hostile code would
CHANNEL = f"""
MIX, SALT = {frames._MIX}, {frames._SALT}
""" + """
import os, signal, socket, stat
def header(kind, call, length):
    fields = length | kind << 32 | call << 40
    return (fields | (((fields * MIX) >> 56 ^ SALT) & 0xFFFFFFFF) << 72).to_bytes(13, 'little')
def channel():
    for name in os.listdir('/proc/self/fd'):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as found:  # not the one that clones are announced on
                    if found.type == socket.SOCK_STREAM:
                        return int(name)
        except OSError:
            pass
    raise LookupError
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 8


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession(ladder=Ladder(interrupt=0.3, terminate=0.3)) as session:
        yield session


def pid_of(session: ExtSession) -> int:
    assert session.pid is not None
    return session.pid


def check_dead(session: ExtSession, *, exit_code: int | None = None, signal_name: str | None = None) -> None:
    """What holds of every session that died by itself."""
    assert not session.is_alive
    assert session.exit_code == exit_code
    error = session.error
    assert isinstance(error, SessionDied)
    assert (error.exit_code, error.signal) == (exit_code, signal_name)
    for use in (lambda: session.execute("1"), lambda: session.eval("1"), lambda: session["x"]):
        with pytest.raises(SessionDied):
            use()
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 0.5


# killed


def test_killed_while_idle(session: ExtSession) -> None:
    before = session.execute("x = 1").wait()
    os.kill(pid_of(session), signal.SIGKILL)
    with pytest.raises(SessionDied) as caught:
        session.eval("x")
    assert caught.value.signal == "SIGKILL"
    assert before.completion.ok
    check_dead(session, signal_name="SIGKILL")


def test_killed_while_idle_is_found_without_a_call(session: ExtSession, watch: Any) -> None:
    os.kill(pid_of(session), signal.SIGKILL)
    assert watch.until(lambda: not session.is_alive)
    check_dead(session, signal_name="SIGKILL")


def test_killed_while_running(session: ExtSession) -> None:
    call = session.execute("print('begun', flush=True)\nwhile True: pass")
    waiting = [session.execute(f"print({n})") for n in range(3)]
    assert session.readline(5) == "begun\n"
    os.kill(pid_of(session), signal.SIGKILL)
    call.wait(5)
    assert call.outcome is Outcome.LOST
    assert call.stdout == "begun\n"
    assert isinstance(call.error, SessionDied)
    assert call.error.running is not None
    assert "while True" in call.error.running
    for each in waiting:
        each.wait(5)
        assert each.outcome is Outcome.LOST
        assert isinstance(each.error, SessionDied)
        assert each.completion.signal == "SIGKILL"
        assert each.stdout == ""
    check_dead(session, signal_name="SIGKILL")


def test_killed_during_output(session: ExtSession) -> None:
    """All that it wrote before it killed itself is there: 3 MB on one stream, and the last line on the other."""
    call = session.execute(
        "import sys\nfor n in range(30_000): print(n, 'x' * 100)\nprint('last', file=sys.stderr)\n" + KILL
    )
    call.wait(5)
    assert call.stdout == "".join(f"{n} {'x' * 100}\n" for n in range(30_000))
    assert call.stderr == "last\n"
    assert isinstance(call.error, SessionDied)
    assert call.error.stderr == "last\n"
    check_dead(session, signal_name="SIGKILL")


def test_killed_from_outside_during_a_flood(session: ExtSession) -> None:
    call = session.execute("n = 0\nwhile True:\n    print(n); n += 1", output_limit=None)
    seen = 0
    for _ in range(2000):
        if session.readline(5):
            seen += 1
    os.kill(pid_of(session), signal.SIGKILL)
    call.wait(5)
    lines = call.stdout.split("\n")
    assert seen == 2000
    assert len(lines) > 2000
    assert lines[:-1] == [str(n) for n in range(len(lines) - 1)]
    check_dead(session, signal_name="SIGKILL")


def test_killed_between_output_and_done(session: ExtSession) -> None:
    """The text is flushed by the worker itself after the code; a hook in it is the last moment before Done."""
    call = session.execute(
        "import os, sys, signal\n"
        "class Last:\n"
        "    def write(self, text): return os.write(1, text.encode())\n"
        "    def flush(self): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.stdout = Last()\n"
        "print('written')\n"
    )
    call.wait(5)
    assert call.stdout == "written\n"
    assert call.outcome is Outcome.LOST
    check_dead(session, signal_name="SIGKILL")


@pytest.mark.parametrize("size", [1, 8, 9, 10, 40, 300_000])
def test_killed_in_the_middle_of_a_frame(session: ExtSession, size: int) -> None:
    """A Done that says all is well, of which a part arrives: it is not believed."""
    session.execute(CHANNEL).wait(5)
    done = "b'\\0' * 36" if size < 1000 else "b'\\0' * 36 + bytes(400_000)"
    call = session.execute(
        "print('before')\n"
        f"body = {done}\n"
        "frame = header(0x42, 2, len(body)) + body\n"
        f"os.write(channel(), frame[:{size}]) if {size} < 1000 else socket.socket(fileno=channel()).sendall(frame[:{size}])\n"
        "die()"
    )
    call.wait(5)
    assert call.outcome is Outcome.LOST
    assert call.stdout == "before\n"
    check_dead(session, signal_name="SIGKILL")


def test_killed_during_input(session: ExtSession, watch: Any) -> None:
    call = session.execute("print('ask', flush=True); input('? ')", stdin=PIPE)
    assert session.readline(5) == "ask\n"
    assert watch.until(lambda: session.is_alive and session._core.machine.current.input_waiting)  # type: ignore[union-attr]
    os.kill(pid_of(session), signal.SIGKILL)
    call.wait(5)
    assert call.outcome is Outcome.LOST
    check_dead(session, signal_name="SIGKILL")
    with pytest.raises(SessionDied):
        session.writeline("too late")


def test_killed_in_an_input_callback() -> None:
    def answer(prompt: str, password: bool) -> str:
        os.kill(pid_of(session), signal.SIGKILL)
        return "an answer to nobody"

    with ExtSession(stdin=answer) as session:
        call = session.execute("input('? ')").wait(5)
        assert call.outcome is Outcome.LOST
        check_dead(session, signal_name="SIGKILL")


def test_killed_during_exit(session: ExtSession) -> None:
    session.execute(f"import atexit\n@atexit.register\ndef last():\n    print('atexit', flush=True)\n    {KILL}").wait()
    assert session.exit(3) is None
    assert session.exit_output[0] == "atexit\n"
    assert not session.is_alive
    assert isinstance(session.error, ExtSessionError)


def test_killed_during_exit_by_system_exit(session: ExtSession) -> None:
    session.execute(f"import atexit\n@atexit.register\ndef last(): {KILL}").wait()
    call = session.execute("print('x'); raise SystemExit(3)").wait(5)
    assert call.stdout == "x\n"
    assert call.completion.signal == "SIGKILL"
    assert call.completion.exit_code is None
    assert not call.completion.survived
    assert not session.is_alive


@pytest.mark.parametrize("where", range(8))
def test_killed_at_any_moment(where: int, watch: Any) -> None:
    """No call is forgotten, none completes twice, whatever it was at."""
    done: list[int] = []
    with ExtSession() as session:
        calls = [session.execute(f"print({n}); x = {n}") for n in range(60)]
        for call in calls:
            call.add_done_callback(lambda results: done.append(results.number))
        timer = threading.Timer(where * 0.0008, os.kill, (pid_of(session), signal.SIGKILL))
        timer.start()
        for call in calls:
            call.wait(5)
        timer.join()
        assert watch.until(lambda: len(done) == 60)
        outcomes = [call.outcome for call in calls]
        finished = outcomes.count(Outcome.FINISHED)
        assert outcomes == [Outcome.FINISHED] * finished + [Outcome.LOST] * (60 - finished)
        assert [call.stdout for call in calls[:finished]] == [f"{n}\n" for n in range(finished)]
        assert sorted(done) == list(range(1, 61))
        assert watch.until(lambda: not session.is_alive)


def test_all_who_wait_are_told(session: ExtSession) -> None:
    call = session.execute("import time; time.sleep(1000)")
    later = session.execute("1")
    errors: list[object] = []
    futures = [call.future(), later.future()]

    def wait(results: Any) -> None:
        try:
            results.result(5)
        except BaseException as error:
            errors.append(type(error))

    threads = [threading.Thread(target=wait, args=(each,)) for each in (call, call, later)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    os.kill(pid_of(session), signal.SIGKILL)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert errors == [SessionDied] * 3
    for future in futures:
        assert isinstance(future.exception(5), SessionDied)


# ends of its own


@pytest.mark.parametrize(
    ("code", "exit_code", "name"),
    [
        ("import os; os._exit(0)", 0, None),
        ("import os; os._exit(7)", 7, None),
        ("import os; os.abort()", None, "SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", None, "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", None, "SIGTERM"),
        ("import os, signal; signal.signal(1, signal.SIG_DFL); os.kill(os.getpid(), 1)", None, "SIGHUP"),
        ("import faulthandler, sys; faulthandler.enable(); import ctypes; ctypes.string_at(0)", None, "SIGSEGV"),
        ("import sys; sys.setrecursionlimit(10**9)\ndef f(): return [f()]\nimport os; os.kill(os.getpid(), 11)", None, "SIGSEGV"),
    ],
)  # fmt: skip
def test_ways_to_end(session: ExtSession, code: str, exit_code: int | None, name: str | None) -> None:
    session.execute("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))").wait()
    call = session.execute("print('before')\n" + code)
    waiting = session.execute("print('never')")
    call.wait(5)
    assert call.outcome is Outcome.LOST
    assert (call.exit_code, call.completion.signal, call.completion.survived) == (exit_code, name, False)
    assert call.stdout == "before\n"
    assert isinstance(call.error, SessionDied)
    assert call.error.running == call.source
    if "faulthandler" in code:
        assert "Segmentation fault" in (call.error.stderr or "")
    waiting.wait(5)
    assert waiting.outcome is Outcome.LOST
    check_dead(session, exit_code=exit_code, signal_name=name)


def test_exec_of_another_program(session: ExtSession) -> None:
    """Its output is captured until it ends, though the channel ends at once."""
    call = session.execute(
        "import os; print('before')\n"
        "os.execv('/bin/sh', ['sh', '-c', 'echo one; echo err >&2; sleep 0.2; echo two; exit 5'])"
    )
    call.wait(5)
    assert (call.stdout, call.stderr) == ("before\none\ntwo\n", "err\n")
    assert (call.outcome, call.exit_code) == (Outcome.LOST, 5)
    check_dead(session, exit_code=5)


def test_exec_of_another_program_that_does_not_end(session: ExtSession, watch: Any) -> None:
    """It ignores the interrupt and SIGTERM: the ladder goes to its end."""
    call = session.execute(
        "import os; os.execv('/bin/sh', ['sh', '-c', 'trap \"\" INT TERM; echo on; while :; do sleep 0.01; done'])",
        timeout=0.3,
    )
    pid = pid_of(session)
    call.wait(5)
    assert call.outcome is Outcome.TIMED_OUT
    assert call.stdout == "on\n"
    assert call.completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert isinstance(call.error, CallTimeout)
    assert watch.gone([pid])
    assert not session.is_alive


# stopped


def test_stopped_then_the_ladder(session: ExtSession) -> None:
    """A stopped process takes SIGKILL only."""
    start = time.monotonic()
    call = session.execute("import os, signal; print('x'); os.kill(os.getpid(), signal.SIGSTOP)", timeout=0.2)
    call.wait(5)
    assert 0.7 < time.monotonic() - start < 3
    assert call.outcome is Outcome.TIMED_OUT
    assert call.completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert not call.completion.survived
    assert call.completion.signal == "SIGKILL"
    assert isinstance(call.error, CallTimeout)
    assert (call.error.allowed, call.error.survived) == (0.2, False)
    assert call.stdout == "x\n"
    assert not session.is_alive


def test_stopped_and_closed(session: ExtSession, watch: Any) -> None:
    session.execute("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    assert watch.until(lambda: watch.state(pid_of(session)) == "T")
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 1
    assert watch.gone([pid_of(session)])


def test_stopped_and_continued(session: ExtSession, watch: Any) -> None:
    call = session.execute("import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print('on')")
    assert watch.until(lambda: watch.state(pid_of(session)) == "T")
    with pytest.raises(TimeoutError):
        call.wait(0.05)
    os.kill(pid_of(session), signal.SIGCONT)
    assert call.wait(5).stdout == "on\n"
    assert call.completion.ok


# the warden


def test_the_warden_killed_while_idle(session: ExtSession, watch: Any) -> None:
    pid = pid_of(session)
    os.kill(watch.parent(pid), signal.SIGKILL)
    assert watch.until(lambda: not session.is_alive)
    with pytest.raises(SessionDied):
        session.eval("1")
    assert watch.gone([pid])
    assert not session.is_alive


@pytest.fixture(params=[True, False], ids=["warm", "spawned"])
def each_way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"warm": request.param}


def test_the_warden_killed_while_running(session: ExtSession, watch: Any) -> None:
    """Everything is gone: the session, its children, and the orphans in its process session."""
    call = session.execute(
        "import subprocess, os, time\n"
        "pids = [subprocess.Popen(['sleep', '1000']).pid for _ in range(3)]\n"
        "out = subprocess.run(['sh', '-c', 'sleep 1000 >/dev/null 2>&1 & echo $!'], capture_output=True).stdout\n"
        "print(*pids, int(out), flush=True)\n"
        "while True: pass"
    )
    pids = [int(word) for word in session.readline(5).split()]
    assert len(pids) == 4
    pid = pid_of(session)
    os.kill(watch.parent(pid), signal.SIGKILL)
    call.wait(5)
    assert call.outcome is Outcome.LOST
    assert isinstance(call.error, SessionDied)
    assert watch.gone([pid, *pids])
    assert not session.is_alive


def test_what_is_left_is_no_zombie_either(each_way: dict[str, Any]) -> None:
    """When close() returns, the ids of what the session started are free."""
    for _ in range(3):
        with ExtSession(**each_way) as session:
            call = session.execute(
                "import subprocess\n"
                "print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)\n"
                "print(subprocess.Popen(['sh', '-c', 'sleep 1000 & wait']).pid)"
            )
            pids = [int(word) for word in call.wait(5).stdout.split()]
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_an_end_while_a_checkpoint_is_made_says_so() -> None:
    """The state is not brought back: what the last call has done, no checkpoint has."""
    with ExtSession(recover=True) as session:
        session.execute("x = 1").wait(5)
        session.execute("import os; os.register_at_fork(before=lambda: os._exit(3))").wait(5)
        with pytest.raises(SessionDied, match="no checkpoint to go back to: it ended while that was made"):
            session.eval("1")
        assert session.error is not None and "while that was made" in str(session.error)


def test_the_warden_killed_by_the_code(session: ExtSession, watch: Any) -> None:
    pid = pid_of(session)
    call = session.execute("import os, signal; os.kill(os.getppid(), signal.SIGKILL)\nwhile True: pass").wait(5)
    assert call.outcome is Outcome.LOST
    assert isinstance(call.error, SessionDied)
    assert watch.gone([pid])


def test_the_warden_stopped_by_the_code(session: ExtSession, watch: Any) -> None:
    """It has work to do when the session is to end."""
    call = session.execute(
        "import subprocess, os, signal\n"
        "print(subprocess.Popen(['setsid', 'sleep', '1000']).pid, flush=True)\n"
        "os.kill(os.getppid(), signal.SIGSTOP)\nwhile True: pass"
    )
    pids = [pid_of(session), int(session.readline(5)), watch.parent(pid_of(session))]
    assert watch.until(lambda: watch.state(pids[2]) == "T")
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 2
    assert watch.gone(pids[:2])
    assert watch.state(pids[2]) != "T"  # it goes on for the other sessions of its template
    call.wait(1)
    assert call.outcome is Outcome.KILLED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_signals_to_the_warden(session: ExtSession, watch: Any, number: signal.Signals) -> None:
    """What a terminal or an administrator sends to all: the warden stays, or the session ends with it."""
    pid = pid_of(session)
    os.kill(watch.parent(pid), number)
    if number is signal.SIGUSR1:
        assert watch.until(lambda: not session.is_alive)
        with pytest.raises(SessionDied):
            session.eval("1")
        assert watch.gone([pid])
    else:
        assert session.eval("1 + 1") == 2


# the channel


def test_all_descriptors_closed_in_a_call(session: ExtSession) -> None:
    call = session.execute("import os; print('before'); os.closerange(3, 5000); print('after')")
    call.wait(5)
    assert call.outcome is Outcome.LOST
    assert call.stdout == "before\nafter\n"
    assert isinstance(call.error, SessionDied)
    assert not session.is_alive
    check_dead(session, exit_code=70)


def test_all_descriptors_closed_and_the_call_goes_on(session: ExtSession, watch: Any) -> None:
    call = session.execute("import os; os.closerange(3, 5000)\nwhile True: pass", timeout=0.3)
    call.wait(5)
    assert call.outcome is Outcome.TIMED_OUT
    assert not call.completion.survived
    assert watch.gone([pid_of(session)])


def test_all_descriptors_closed_while_idle(session: ExtSession, watch: Any) -> None:
    """By a thread that a call has left behind."""
    session.execute(
        "import threading, os\n"
        "go = threading.Event()\n"
        "def close(): go.wait(); os.closerange(3, 5000)\n"
        "thread = threading.Thread(target=close); thread.start()"
    ).wait(5)
    call = session.execute("threading.Timer(0.05, go.set).start()").wait(5)
    assert call.completion.ok
    assert watch.until(lambda: len(os.listdir(f"/proc/{pid_of(session)}/fd")) <= 3)
    start = time.monotonic()
    with pytest.raises(SessionDied):
        session.eval("1")
    assert time.monotonic() - start < 5
    assert not session.is_alive


def test_even_the_standard_descriptors_closed(session: ExtSession) -> None:
    call = session.execute("import os; print('before'); os.closerange(0, 5000)").wait(5)
    assert call.stdout == "before\n"
    assert call.outcome is Outcome.LOST
    assert not session.is_alive


GARBAGE = [
    b"garbage that is no frame",
    b"\0" * 100,
    b"\xff" * 100,
    pack_header(0x42, 2, 0),  # an empty Done
    pack_header(0x42, 9, 36) + bytes(36),  # a Done for another call
    pack_header(0x41, 0, 0),  # a second Ready
    pack_header(0x46, 2, 0),  # Pipes without a pipe
    pack_header(0x43, 2, 0xFFFFFF),  # Input over its bound
    pack_header(0x42, 2, 36) + b"\0\0\1" + bytes(33),  # a Done that announces descriptors
    pack_header(0x42, 2, 36) + b"\0\0\2" + bytes(33),  # ... with a bit that means nothing
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_the_channel(session: ExtSession, garbage: bytes, watch: Any) -> None:
    with ExtSession() as other:
        other.execute("y = 5").wait(5)
        session.execute(CHANNEL).wait(5)
        call = session.execute(
            f"input(); print('before'); os.write(channel(), {garbage!r})\nimport time\nwhile True: time.sleep(1)", stdin=PIPE
        )
        waiting = session.execute("2")
        session.writeline("go")
        call.wait(5)
        assert call.outcome is Outcome.LOST
        assert isinstance(call.error, RemoteProtocolError), call.error
        assert call.stdout == "before\n"
        waiting.wait(5)
        assert isinstance(waiting.error, RemoteProtocolError)
        assert isinstance(session.error, RemoteProtocolError)
        with pytest.raises(RemoteProtocolError):
            session.eval("1")
        assert watch.gone([pid_of(session)])
        assert not session.is_alive
        assert other.eval("y") == 5


def test_a_promise_of_four_gigabytes(session: ExtSession) -> None:
    """A header that announces a body as large as may be, and then the end: no memory is taken for it."""
    import resource

    session.execute(CHANNEL).wait(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call = session.execute("os.write(channel(), header(0x42, 2, 2**32 - 1) + bytes(1000)); die()").wait(5)
    assert call.outcome is Outcome.LOST
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    check_dead(session, signal_name="SIGKILL")


SEND_FDS = CHANNEL + """
def send(kind, call, body, fds):
    import array
    frame = header(kind, call, len(body)) + body
    sock = socket.socket(fileno=os.dup(channel()))
    sock.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])
"""


@pytest.mark.parametrize(
    "code",
    [
        "fd = os.open('/dev/zero', os.O_RDONLY); send(66, 2, b'\\0\\0\\1' + bytes(33), [fd, fd])",
        "fd = os.open('/', os.O_RDONLY); send(66, 2, b'\\0\\0\\1' + bytes(33), [fd, fd])",
        "r, w = os.pipe(); send(66, 2, b'\\0\\0\\1' + bytes(33), [w, w])",
        "r, w = os.pipe(); send(66, 2, b'\\0\\0\\1' + bytes(33), [r, os.open('/', 0)])",
        "r, w = os.pipe(); send(70, 2, bytes(4), [w])",
        "send(70, 2, bytes(4), [os.open('/dev/zero', 0)])",
        "[send(70, 2, bytes(4), [os.pipe()[0]]) for _ in range(200)]",
        "[send(67, 1, b'', [0] * 10) for _ in range(200)]",
    ],
)
def test_descriptors_of_a_wrong_kind(session: ExtSession, code: str, watch: Any) -> None:
    """They are refused, and closed."""
    before = len(os.listdir("/proc/self/fd"))
    session.execute(SEND_FDS).wait(5)
    call = session.execute(code + "\nimport time\nwhile True: time.sleep(1)").wait(5)
    assert isinstance(call.error, RemoteProtocolError), call.error
    assert not session.is_alive
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_session_has_no_leash(session: ExtSession) -> None:
    """It could tell lies about its end on it: its only sockets are the channel and the one to announce clones on."""
    sockets = session.execute(
        "import os, stat\n"
        "found = []\n"
        "for name in os.listdir('/proc/self/fd'):\n"
        "    try: mode = os.fstat(int(name)).st_mode\n"
        "    except OSError: continue\n"
        "    if stat.S_ISSOCK(mode): found.append(os.readlink('/proc/self/fd/' + name))\n"
        "print(*found, sep='\\n')"
    ).wait()  # fmt: skip
    assert len(set(sockets.stdout.split())) == 2


def test_nothing_of_another_session_is_inherited() -> None:
    with ExtSession() as one, ExtSession() as two:
        look = "import os; set(os.readlink('/proc/self/fd/' + name) for name in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + name))"
        links = []
        for session in (one, two):
            text = session.execute(look).wait().repr
            assert text is not None
            links.append({link for link in eval(text) if "socket:" in link or "pipe:" in link})
        assert links[0]
        common = links[0] & links[1]
        assert len(common) <= 1  # the warden's socket for announcements, where they are of one template
        assert not any("pipe:" in link for link in common)


# afterwards


def test_a_fresh_session_in_place_of_a_dead_one(session: ExtSession) -> None:
    session.execute(KILL).wait(5)
    old = session.pid
    session.restart()
    assert session.pid != old
    assert session.eval("1 + 1") == 2


def test_closed_sessions_say_so(session: ExtSession) -> None:
    session.exit()
    with pytest.raises(SessionClosed):
        session.execute("1")
    assert session.exit() == 0
    assert session.exit_code == 0


# several threads


def test_a_look_while_another_thread_waits(session: ExtSession) -> None:
    """Two polls of one session at the same time."""
    call = session.execute("input()", stdin=PIPE)
    waiter = threading.Thread(target=call.wait, args=(5,))
    waiter.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert session.is_alive
        session.readcodes()
    session.writeline("x")
    waiter.join(5)
    assert not waiter.is_alive()
    assert call.completion.ok


def test_a_long_line_for_a_call_that_another_thread_waits_for(session: ExtSession) -> None:
    """More than the channel takes at once: the thread that waits has to see to the rest."""
    call = session.execute("len(input())", stdin=PIPE)
    waiter = threading.Thread(target=call.wait, args=(5,))
    waiter.start()
    time.sleep(0.05)
    session.writeline("x" * 5_000_000)
    waiter.join(5)
    assert not waiter.is_alive()
    assert call.done
    assert call.repr == "5000000"


def test_closed_while_other_threads_wait(session: ExtSession) -> None:
    calls = [session.execute("while True: pass"), session.execute("1")]
    outcomes: list[object] = []
    threads = [threading.Thread(target=lambda c=call: outcomes.append(c.wait(5).outcome)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    session.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert outcomes == [Outcome.KILLED] * 2
