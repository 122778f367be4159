"""What is told of an end is true, and is all that could be known (issue: truthful outcomes)."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from extsession import (
    CallTimeout,
    Completion,
    ExtResults,
    ExtSession,
    Killer,
    Ladder,
    LimitExceeded,
    Limits,
    Outcome,
    SessionDied,
    SessionState,
    Step,
)
from extsession.errors import RemoteProtocolError

SOON = 30.0
QUICK = Ladder(interrupt=0.3, terminate=0.3)
MB = 1_000_000
ALL_STEPS = (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
STUBBORN = "import signal\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\nwhile True: pass"


@dataclass(frozen=True)
class End:
    """source: what the call runs; do: what is done to the session meanwhile; the rest is what has to be told."""

    source: str
    outcome: Outcome
    killer: Killer | None = None
    state: SessionState = SessionState.GONE
    signal: str | None = None
    exit_code: int | None = None
    limit: str | None = None
    steps: tuple[Step, ...] = ()
    error: type[BaseException] | None = SessionDied
    says: str = ""
    do: Any = None
    timeout: float | None = None
    limits: Limits | None = None


def _signal(number: int) -> Any:
    return lambda session: os.kill(session.pid, number)


WAIT = "import time\nprint('on', flush=True)\ntime.sleep(60)"
INTACT, GONE = SessionState.INTACT, SessionState.GONE
ENDS = {
    "finished": End("x = 1", Outcome.FINISHED, state=INTACT, error=None, says="call 2 finished, after"),
    "failed": End("1 / 0", Outcome.FAILED, state=INTACT, error=ZeroDivisionError, says="call 2 failed: ZeroDivisionError"),
    "interrupted": End(
        WAIT, Outcome.INTERRUPTED, state=INTACT, error=KeyboardInterrupt, do=lambda s: s.interrupt(), says="interrupted"
    ),
    "exited": End("raise SystemExit(3)", Outcome.EXITED, exit_code=3, error=None, says="exited with status 3"),
    "timed out": End(
        WAIT,
        Outcome.TIMED_OUT,
        state=INTACT,
        timeout=0.1,
        limit="timeout",
        steps=(Step.INTERRUPT,),
        error=CallTimeout,
        says="s, where 0.1 are allowed, and was stopped by an interrupt",
    ),
    "timed out, ended": End(
        STUBBORN,
        Outcome.TIMED_OUT,
        Killer.TIMEOUT,
        signal="SIGKILL",
        timeout=0.1,
        limit="timeout",
        steps=ALL_STEPS,
        error=CallTimeout,
        says="was stopped by SIGKILL; its session is over",
    ),
    "over limit, wall": End(
        WAIT,
        Outcome.OVER_LIMIT,
        state=INTACT,
        limits=Limits(wall=0.1),
        limit="wall",
        steps=(Step.INTERRUPT,),
        error=LimitExceeded,
        says="is over limit: wall: it ran for",
    ),
    "over limit, ended": End(
        "hoard = []\nwhile True: hoard.append(bytearray(b'x' * 20_000_000)) if not os.fork() else os.wait()",
        Outcome.OVER_LIMIT,
        Killer.LIMIT,
        signal="SIGKILL",
        limits=Limits(memory=150 * MB),
        limit="memory",
        error=LimitExceeded,
        says="is over limit: memory: it held",
    ),
    "ended by its caller": End(
        WAIT, Outcome.KILLED, Killer.CALLER, signal="SIGKILL", do=lambda s: s.kill(), says="ended by its user (SIGKILL)"
    ),
    "terminated by its caller": End(
        WAIT, Outcome.KILLED, Killer.CALLER, signal="SIGTERM", do=lambda s: s.terminate(), says="by its user (SIGTERM)"
    ),
    "closed by its caller": End(
        WAIT, Outcome.KILLED, Killer.CALLER, signal="SIGKILL", do=lambda s: s.close(), says="by its user"
    ),
    "killed from outside": End(
        WAIT, Outcome.LOST, Killer.OUTSIDE, signal="SIGKILL", do=_signal(signal.SIGKILL), says="from outside"
    ),
    "terminated from outside": End(
        WAIT, Outcome.LOST, Killer.OUTSIDE, signal="SIGTERM", do=_signal(signal.SIGTERM), says="(SIGTERM)"
    ),
    "a signal of its own": End(
        "os.kill(os.getpid(), signal.SIGUSR1)", Outcome.LOST, Killer.OUTSIDE, signal="SIGUSR1", says="of its own (SIGUSR1)"
    ),
    "crashed": End("os.abort()", Outcome.LOST, Killer.CRASH, signal="SIGABRT", says="its session crashed (SIGABRT)"),
    "left by itself": End("os._exit(7)", Outcome.LOST, exit_code=7, says="ended by itself (exit status 7)"),
    "broke the protocol": End(
        # a frame that is none, down the channel: the highest socket that is ours
        "for fd in range(250, 200, -1):\n  try: os.write(fd, b'\\xff' * 64)\n  except OSError: pass\nimport time; time.sleep(60)",
        Outcome.LOST,
        Killer.PROTOCOL,
        signal="SIGKILL",
        error=RemoteProtocolError,
        says="broke the protocol",
    ),
}


def _run(session: ExtSession, end: End) -> ExtResults:
    results = session.execute(end.source, timeout=end.timeout)
    if end.do is not None:
        assert session.readline(SOON) == "on\n"
        end.do(session)
    return results.wait(SOON)


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("recover", [False, True])
def test_each_end(name: str, recover: bool) -> None:
    end = ENDS[name]
    with ExtSession(ladder=QUICK, limits=end.limits, recover=recover) as session:
        session.execute("import os, signal; kept = 1").wait(SOON).raise_for_error()
        results = _run(session, end)
        told: Completion = results.completion
        is_back = recover and end.outcome in (Outcome.LOST, Outcome.TIMED_OUT, Outcome.OVER_LIMIT) and end.killer is not (
            Killer.PROTOCOL
        )
        is_back = is_back and end.state is GONE
        state = SessionState.ROLLED_BACK if is_back else end.state
        assert (told.outcome, told.killer, told.state) == (end.outcome, end.killer, state), told
        assert (told.signal, told.exit_code, told.limit, told.steps) == (end.signal, end.exit_code, end.limit, end.steps)
        assert (told.survived, told.recovered) == (state is not GONE, is_back)
        assert told.incarnation == 1
        assert "\n" not in str(told)
        if is_back:
            assert str(told).endswith("; its session goes on with the state from before it")
        else:
            assert end.says in str(told)
        assert type(results.error) is end.error or end.error is None is results.error
        if end.limit is not None:
            assert told.allowed is not None
            assert told.reached is not None
            assert told.reached >= told.allowed
        assert told.usage is not None
        assert told.usage.wall > 0 <= told.usage.cpu
        assert told.usage.peak_memory > MB
        if isinstance(results.error, SessionDied):
            error = results.error
            assert (error.killer, error.signal, error.exit_code) == (end.killer, end.signal, end.exit_code)
            assert (error.running, error.survived, error.incarnation) == (end.source, is_back, 1)
            copy = pickle.loads(pickle.dumps(error))
            assert (copy.killer, str(copy)) == (error.killer, str(error))
        if state is not GONE:
            after = session.execute("kept").wait(SOON)
            assert after.repr == "1"
            assert (after.completion.incarnation, session.incarnation) == ((2, 2) if is_back else (1, 1))


def test_what_waits_is_told_what_ran() -> None:
    with ExtSession() as session:
        first = session.execute("import os, sys; print('last words', file=sys.stderr); os._exit(4)")
        second = session.execute("x = 1")
        error = second.wait(SOON).error
        assert isinstance(error, SessionDied)
        assert error.running == first.source
        assert error.stderr == "last words\n"
        assert (error.exit_code, error.killer) == (4, None)
        told = second.completion
        assert (told.outcome, told.state, told.exit_code) == (Outcome.LOST, GONE, 4)


def test_incarnations() -> None:
    with ExtSession() as session:
        assert session.execute("x = 1").wait(SOON).completion.incarnation == 1
        saved = session.checkpoint()
        branch = session.fork()
        session.rollback(saved)
        assert session.execute("x").wait(SOON).completion.incarnation == session.incarnation == 2
        session.restart()
        assert session.execute("1").wait(SOON).completion.incarnation == session.incarnation == 3
        with branch:
            assert branch.execute("x").wait(SOON).completion.incarnation == branch.incarnation == 1


# crashes

CRASHES = {
    "SIGSEGV": "import ctypes\ndef inner():\n    ctypes.string_at(0)\ninner()",
    "SIGABRT": "import os\ndef inner():\n    os.abort()\ninner()",
    "SIGFPE": "import os, signal\ndef inner():\n    os.kill(os.getpid(), signal.SIGFPE)\ninner()",
    "SIGBUS": "import os, signal\ndef inner():\n    os.kill(os.getpid(), signal.SIGBUS)\ninner()",
    "SIGILL": "import os, signal\ndef inner():\n    os.kill(os.getpid(), signal.SIGILL)\ninner()",
}


@pytest.mark.parametrize("name", CRASHES)
@pytest.mark.parametrize("options", [{"warm": True}, {"warm": False}, {"recover": True}], ids=str)
def test_the_traceback_of_a_crash(name: str, options: dict[str, bool]) -> None:
    with ExtSession(**options) as session:  # type: ignore[arg-type]
        error = session.execute(CRASHES[name]).wait(SOON).error
        assert isinstance(error, SessionDied)
        assert error.signal == name
        assert error.traceback is not None
        lines = error.traceback.splitlines()
        assert lines[0].startswith("Fatal Python error: ")
        assert lines[-2:] == ['  File "<session 1>", line 3 in inner', '  File "<session 1>", line 4 in <module>']
        assert error.stderr is not None
        assert "Fatal Python error" in error.stderr


def test_the_traceback_on_each_interpreter(each_python: Any) -> None:
    with ExtSession(each_python.path) as session:
        error = session.execute(CRASHES["SIGABRT"]).wait(SOON).error
        assert isinstance(error, SessionDied)
        assert error.traceback is not None
        assert 'File "<session 1>", line 3 in inner' in error.traceback
        assert "_worker" not in error.traceback


@pytest.mark.parametrize("how", ["limit", "sink", "redirected", "closed", "much"])
def test_the_traceback_where_output_is_not_kept(how: str) -> None:
    code = {
        "limit": "import sys; print('e' * 500, file=sys.stderr)\n",
        "sink": "import sys; print('e' * 500, file=sys.stderr)\n",
        "redirected": "import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2)\n",
        "closed": "import os; os.close(2)\n",
        "much": "import sys; print('e' * 500_000, file=sys.stderr)\n",
    }[how]
    with ExtSession() as session:
        output = {"limit": {"output_limit": 100}, "sink": {"on_output": lambda _: None}}.get(how, {})
        error = session.execute(code + CRASHES["SIGABRT"], **output).wait(SOON).error  # type: ignore[arg-type]
        assert isinstance(error, SessionDied)
        assert error.traceback is not None
        assert "in inner" in error.traceback
        assert error.stderr is not None
        assert len(error.stderr) <= 4096


def test_a_crash_between_calls() -> None:
    code = "import os, threading\nthreading.Timer(0.2, os.abort).start()"
    with ExtSession() as session:
        session.execute(code).wait(SOON).raise_for_error()
        while not isinstance(error := session.execute("import time; time.sleep(0.01)").wait(SOON).error, SessionDied):
            assert error is None
        assert error.traceback is not None
        assert "in run" in error.traceback


def test_a_crash_in_the_middle_of_nothing() -> None:
    """No call runs when it comes: the next one is told."""
    with ExtSession() as session:
        session.execute("import os, threading\nthreading.Timer(0.2, os.abort).start()").wait(SOON).raise_for_error()
        while session.is_alive:
            session.usage()
            os.sched_yield()
        with pytest.raises(SessionDied) as caught:
            session.execute("1")
        assert (caught.value.signal, caught.value.killer, caught.value.running) == ("SIGABRT", Killer.CRASH, None)
        assert caught.value.traceback is not None


def test_code_that_only_prints_so() -> None:
    with ExtSession() as session:
        code = "import os, sys\nprint('Fatal Python error: not at all', file=sys.stderr)\nos._exit(1)"
        error = session.execute(code).wait(SOON).error
        assert isinstance(error, SessionDied)
        assert error.traceback is None


def test_code_that_has_its_own_faulthandler(tmp_path: Any) -> None:
    with ExtSession() as session:
        code = f"import faulthandler\nfile = open({str(tmp_path / 'trace')!r}, 'w')\nfaulthandler.enable(file)\n"
        error = session.execute(code + CRASHES["SIGABRT"]).wait(SOON).error
        assert isinstance(error, SessionDied)
        assert error.signal == "SIGABRT"
        assert error.traceback is None
        assert "Fatal Python error" in (tmp_path / "trace").read_text()


def test_the_end_of_the_interpreter_takes_too_long() -> None:
    """SystemExit has left the code, and what runs at the end is stopped by the ladder: that is a timeout."""
    code = "import atexit, time, signal\nsignal.signal(2, signal.SIG_IGN)\natexit.register(time.sleep, 60)\nraise SystemExit(0)"
    with ExtSession(ladder=QUICK) as session:
        told = session.execute(code, timeout=0.2).wait(SOON).completion
        assert (told.outcome, told.killer, told.state) == (Outcome.TIMED_OUT, Killer.TIMEOUT, GONE)
