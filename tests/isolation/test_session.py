"""What every session promises holds behind walls, too."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from extsession import (
    PIPE,
    CallTimeout,
    Display,
    ExtEval,
    ExtSession,
    ForkRefused,
    Killer,
    Ladder,
    Limits,
    Outcome,
    RemoteError,
    SessionDied,
    SessionPool,
    Step,
    ValueRefused,
    exteval,
    extexec,
)

Opened = Callable[..., ExtSession]
SECONDS = 30.0


def ran(session: ExtSession, source: str, **given: Any) -> Any:
    return session.execute(source, **given).wait(SECONDS)


# output


def test_streams_are_apart_and_in_order(session: ExtSession) -> None:
    results = ran(
        session,
        """
import ctypes, os, sys
for n in range(50):
    print("out", n)
    print("err", n, file=sys.stderr)
    sys.stdout.flush()
    os.write(1, b"raw %d\\n" % n)
    os.write(2, b"raw %d\\n" % n)
    ctypes.CDLL(None).write(1, b"C\\n", 2)
""",
    )
    assert results.completion.ok, results.stderr
    assert results.stdout == "".join(f"out {n}\nraw {n}\nC\n" for n in range(50))
    assert results.stderr == "".join(f"err {n}\nraw {n}\n" for n in range(50))


def test_prints_alternate_in_the_events(session: ExtSession) -> None:
    results = ran(session, "import sys\nfor n in range(20): print(n); print(n, file=sys.stderr)")
    merged: list[list[Any]] = []
    for each in results.events:
        if merged and merged[-1][0] == each.stream:
            merged[-1][1] += each.data
        else:
            merged.append([each.stream, each.data])
    assert merged == [[stream, b"%d\n" % n] for n in range(20) for stream in ("stdout", "stderr")]


def test_a_flood_is_complete(opened: Opened) -> None:
    session = opened(limits=Limits(output=64 * 2**20))
    results = ran(session, "import os\nfor n in range(200): os.write(1, b'%05d' % n + bytes(49995))")
    assert len(results.stdout_bytes) == 200 * 50000
    assert all(results.stdout_bytes[n * 50000 :].startswith(b"%05d" % n) for n in range(200))
    results = ran(session, "for n in range(100000): print(n)")
    assert results.completion.ok, (results.completion, len(results.stdout))
    assert results.stdout == "".join(f"{n}\n" for n in range(100000))


@pytest.mark.parametrize("tier", ["full"])
def test_output_of_a_subprocess_stays_between(session: ExtSession) -> None:
    results = ran(
        session,
        "import subprocess\nprint('a'); subprocess.run(['/bin/echo', 'b']); print('c'); "
        "subprocess.run(['/bin/sh', '-c', 'echo d; echo e >&2'])",
    )
    assert results.stdout == "a\nb\nc\nd\n"
    assert results.stderr == "e\n"


def test_late_output_is_that_of_its_call(session: ExtSession) -> None:
    results = ran(
        session,
        "import threading\ngo = threading.Event()\ndef late():\n    go.wait(); print('late')\n"
        "t = threading.Thread(target=late); t.start(); print('early')",
    )
    other = ran(session, "go.set(); t.join(); print('mine')")
    assert (results.stdout, results.late_stdout, other.stdout) == ("early\n", "late\n", "mine\n")


@pytest.mark.parametrize("tier", ["full"])
def test_late_output_of_a_process(session: ExtSession) -> None:
    results = ran(session, "import subprocess; p = subprocess.Popen(['/bin/sh', '-c', 'read x; echo late'], stdin=-1)")
    ran(session, "p.communicate(b'x\\n')")
    end = time.monotonic() + SECONDS
    while results.late_stdout + results.stdout != "late\n" and time.monotonic() < end:
        ran(session, "pass")
    assert results.late_stdout + results.stdout == "late\n"


def test_output_arrives_while_the_code_runs(session: ExtSession) -> None:
    results = session.execute("print('first', flush=True); x = input(); print(x)", stdin=PIPE)
    text = ""
    for each in results.chunks():
        text += each.text
        if text == "first\n":
            break
    session.writeline("second")
    assert results.wait(SECONDS).stdout == "first\nsecond\n"


# input


def test_input(session: ExtSession) -> None:
    assert ran(session, "print(input() + input())", stdin="a\nb\n").stdout == "ab\n"
    assert "EOFError" in ran(session, "input()").stderr
    results = session.execute("import sys\nfor line in sys.stdin: print(line.upper(), end='')", stdin=PIPE)
    session.writeline("x")
    session.close_stdin()
    assert results.wait(SECONDS).stdout == "X\n"


def test_input_by_a_callback(opened: Opened) -> None:
    session = opened(stdin=lambda prompt, password: f"{prompt}{password}")
    results = ran(session, "import getpass\nprint(input('a? '), getpass.getpass('b? '))")
    assert results.completion.ok, results.stderr
    assert "a? False b? True\n" in results.stdout


# interrupt, timeouts and the ladder


@pytest.mark.parametrize(
    "source",
    [
        "import time; print('up', flush=True); time.sleep(60)",
        "print('up', flush=True)\nwhile True: pass",
        "print('up', flush=True); input()",
        "import threading; print('up', flush=True); threading.Event().wait()",
        "import select, os; print('up', flush=True); select.select([os.pipe()[0]], [], [])",
    ],
)
def test_interrupt(session: ExtSession, source: str) -> None:
    results = session.execute(source, stdin=PIPE)
    next(iter(results.chunks()))
    assert session.interrupt()
    results.wait(SECONDS)
    assert results.outcome is Outcome.INTERRUPTED, results.stderr
    assert "KeyboardInterrupt" in results.stderr
    assert session.eval("1 + 1") == 2


@pytest.mark.parametrize("tier", ["full"])
def test_interrupt_of_a_subprocess(session: ExtSession) -> None:
    results = session.execute("import subprocess; print('up', flush=True); subprocess.run(['/bin/sleep', '60'])")
    next(iter(results.chunks()))
    session.interrupt()
    assert results.wait(SECONDS).outcome is Outcome.INTERRUPTED
    assert session.eval("1") == 1


def test_a_timeout_is_survived(session: ExtSession) -> None:
    results = ran(session, "import time; time.sleep(60)", timeout=0.2)
    assert results.outcome is Outcome.TIMED_OUT
    assert results.completion.survived and results.completion.steps == (Step.INTERRUPT,)
    with pytest.raises(CallTimeout):
        results.raise_for_error()
    assert session.eval("2") == 2


IGNORES = """
import signal, time
def stay(*_): pass
for number in {numbers}: signal.signal(number, stay)
print('up', flush=True)
while True:
    try: time.sleep(60)
    except KeyboardInterrupt: pass
"""


def test_the_ladder_goes_to_sigterm(opened: Opened) -> None:
    session = opened(ladder=Ladder(0.3, 5.0))
    results = ran(session, IGNORES.format(numbers="(signal.SIGINT,)"), timeout=0.5)
    assert results.completion.steps == (Step.INTERRUPT, Step.TERMINATE)
    assert results.completion.signal == "SIGTERM"
    assert results.completion.killer is Killer.TIMEOUT


def test_the_ladder_goes_to_sigkill(opened: Opened) -> None:
    session = opened(ladder=Ladder(0.3, 0.3))
    results = ran(session, IGNORES.format(numbers="(signal.SIGINT, signal.SIGTERM)"), timeout=0.5)
    assert results.completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert results.completion.signal == "SIGKILL"
    assert results.completion.killer is Killer.TIMEOUT
    assert not session.is_alive


def test_the_ladder_ends_a_loop_in_c(opened: Opened) -> None:
    session = opened(ladder=Ladder(0.3, 0.3))
    results = ran(session, "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)", timeout=0.3)
    assert results.completion.steps[-1] in (Step.TERMINATE, Step.KILL)
    assert not session.is_alive


def test_one_that_stops_itself_is_ended(opened: Opened) -> None:
    session = opened(ladder=Ladder(0.3, 0.3))
    results = ran(session, "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", timeout=0.3)
    assert not results.completion.survived


# ends


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
def test_the_signal_is_told(session: ExtSession, number: signal.Signals) -> None:
    results = ran(session, f"import os; os.kill(os.getpid(), {int(number)}); import time; time.sleep(9)")
    assert results.outcome is Outcome.LOST
    assert results.completion.signal == number.name
    killers = {Killer.OUTSIDE if number in (signal.SIGKILL, signal.SIGTERM) else Killer.CRASH}
    if number == signal.SIGKILL:  # where another process of the machine has run out of memory just then
        killers.add(Killer.MEMORY_KILLER)
    assert results.completion.killer in killers, results.completion  # whoever has sent it, of those in there
    with pytest.raises(SessionDied) as caught:
        results.raise_for_error()
    assert caught.value.signal == number.name


def test_a_crash_tells_where(session: ExtSession) -> None:
    results = ran(session, "import ctypes\ndef crash():\n    ctypes.string_at(0)\ncrash()")
    assert results.completion.signal == "SIGSEGV"
    assert "line 3 in crash" in results.stderr + str(results.error)


@pytest.mark.parametrize("code", [0, 3, 70, 71, 255])
def test_the_exit_code_is_told(session: ExtSession, code: int) -> None:
    results = ran(session, f"import os; print('x', flush=True); os._exit({code})")
    assert results.outcome is Outcome.LOST
    assert (results.exit_code, results.completion.signal) == (code, None)
    assert results.stdout == "x\n"
    assert session.exit_code == code


def test_system_exit(session: ExtSession) -> None:
    results = ran(session, "raise SystemExit(4)")
    assert results.outcome is Outcome.EXITED and results.exit_code == 4
    assert session.exit() == 4


def test_exit_and_kill(opened: Opened) -> None:
    assert opened().exit(7) == 7
    session = opened()
    results = session.execute("while True: pass")
    session.kill()
    assert results.wait(SECONDS).completion.killer is Killer.CALLER
    session = opened()
    results = session.execute("import time; time.sleep(60)")
    session.terminate()
    assert results.wait(SECONDS).completion.signal == "SIGTERM"


def test_usage(session: ExtSession) -> None:
    results = ran(session, "end = __import__('time').process_time() + 0.3\nwhile __import__('time').process_time() < end: pass")
    assert 0.25 < results.usage.cpu < 3.0
    assert results.usage.wall >= 0.25
    usage = session.usage()
    assert usage.cpu is not None and usage.cpu > 0.25
    assert usage.processes == 1 and usage.rss is not None and usage.rss > 2**20
    assert next(iter(session.samples(0.05))).processes == 1


@pytest.mark.parametrize("tier", ["full"])
def test_usage_counts_processes(session: ExtSession) -> None:
    ran(session, "import subprocess; p = [subprocess.Popen(['/bin/sleep', '60']) for _ in range(3)]")
    assert session.usage().processes == 4
    ran(session, "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n    import time; time.sleep(60)\nos.wait()")
    end = time.monotonic() + SECONDS
    while session.usage().processes != 5 and time.monotonic() < end:  # what is known of orphans may be a moment old
        time.sleep(0.02)
    assert session.usage().processes == 5


# values


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, -(2**200), 1.5, "text \u20ac", b"bytes", [1, [2]], (1,), {"a": {1: (2,)}}, {1, 2},
        frozenset([3]), complex(1, 2), bytearray(b"x"), float("inf"),
    ],
)  # fmt: skip
def test_plain_values_travel(session: ExtSession, value: Any) -> None:
    session["x"] = value
    assert session["x"] == value
    assert type(session["x"]) is type(value)


def test_names(session: ExtSession) -> None:
    session["a"] = 1
    assert "a" in session and "b" not in session
    assert "a" in list(session)
    del session["a"]
    with pytest.raises(KeyError):
        session["a"]


@pytest.mark.parametrize(
    "expression", ["object()", "open", "(lambda: 1)", "[object()]", "type('X', (int,), {})(1)", "__import__('os')"]
)
def test_other_values_are_refused(session: ExtSession, expression: str) -> None:
    with pytest.raises(ValueRefused):
        session.eval(expression)
    assert session.eval("1") == 1


def add(a: int, b: int = 1) -> int:
    return a + b


def test_call(session: ExtSession) -> None:
    assert session.call(len, [1, 2, 3]) == 3
    assert session.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        session.call(divmod, 7, 0)


def test_errors(session: ExtSession) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        session.eval("1 / 0")
    assert caught.value.__cause__ is not None
    results = ran(session, "def f():\n    raise ValueError('no')\nf()")
    assert results.completion.error.type_name == "ValueError"
    assert "line 2, in f" in results.stderr and "raise ValueError('no')" in results.stderr
    assert "extsession" not in results.stderr
    with pytest.raises(RemoteError):
        session.eval("(_ for _ in ()).throw(type('Own', (Exception,), {})('mine'))")
    assert "SyntaxError" in ran(session, "x =").stderr


def test_requests_of_front_ends(session: ExtSession) -> None:
    ran(session, "value = 'abc'")
    assert "value" in str(session.complete("val"))
    assert session.inspect("value")
    assert session.is_complete("if 1:")["status"] == "incomplete"


def test_display(opened: Opened) -> None:
    session = opened(display=Display.MIME)
    results = ran(session, "class H:\n    def _repr_html_(self): return '<b>'\nH()")
    assert any("text/html" in each.data for each in results.displays)


def test_top_level_await(session: ExtSession) -> None:
    assert ran(session, "import asyncio; await asyncio.sleep(0.01); print('done')").stdout == "done\n"
    assert ran(session, "import asyncio\nasync def f(): return 5\nprint(asyncio.run(f()))").stdout == "5\n"


def test_what_the_code_sees(session: ExtSession) -> None:
    results = ran(
        session,
        "import sys, os\nprint(__name__, sys.argv, sys.modules['__main__'].__dict__ is globals())\n"
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(): return 1\n"
        "import pickle, inspect; pickle.loads(pickle.dumps(P(1))); print(inspect.getsource(f))\n"
        "import tempfile; print(os.path.dirname(tempfile.mkstemp()[1]) == os.getcwd(), os.path.expanduser('~') == os.getcwd())",
    )
    assert results.completion.ok, results.stderr
    assert results.stdout.startswith("__main__ [''] True\ndef f(): return 1\n")
    assert results.stdout.endswith("True True\n")


# more processes of a session


def test_restart(session: ExtSession) -> None:
    ran(session, "x = 1; open('left', 'w').close()")
    session.restart()
    assert "x" not in session
    assert session.eval("__import__('os').listdir('.')") == []
    assert session.walls is not None


@pytest.mark.parametrize("tier", ["full"])
def test_fork(session: ExtSession) -> None:
    ran(session, "x = [1]; import os")
    with contextlib.ExitStack() as stack:
        others = session.fork(3)
        for each in others:
            stack.enter_context(each)
        for n, each in enumerate(others):
            ran(each, f"x.append({n})")
        assert [each["x"] for each in others] == [[1, 0], [1, 1], [1, 2]]
        assert session["x"] == [1]
        for each in others:
            assert each.walls == session.walls
            assert "PermissionError" in ran(each, "import socket; socket.socket()").stderr
            with each.fork() as grandchild:
                assert grandchild["x"] == each["x"]
            assert each.usage().processes == 1
        assert ran(others[0], "os._exit(5)").exit_code == 5
        assert ran(others[1], "os.kill(os.getpid(), 11)").completion.signal == "SIGSEGV"
        session.close()  # a branch outlives what it is a branch of
        assert others[2]["x"] == [1, 2]
        results = others[2].execute("print('up', flush=True)\nwhile True: pass")
        next(iter(results.chunks()))
        others[2].interrupt()
        assert results.wait(SECONDS).outcome is Outcome.INTERRUPTED
        others[2].files.put("x", b"1")
        assert others[2].files.get("x") == b"1"


@pytest.mark.parametrize("tier", ["full"])
def test_rollback(session: ExtSession) -> None:
    ran(session, "x = 1")
    first = session.checkpoint("first")
    ran(session, "x = 2")
    session.checkpoint("second")
    ran(session, "x = 3; import os; os._exit(1)")
    session.rollback("second")
    assert session["x"] == 2
    session.rollback(first)
    assert session["x"] == 1
    assert session.walls is not None and session.walls.tier == "full"
    assert "PermissionError" in ran(session, "import socket; socket.socket()").stderr


@pytest.mark.parametrize("tier", ["full"])
@pytest.mark.parametrize("end", ["import os; os._exit(3)", "import ctypes; ctypes.string_at(0)", "import os; os.kill(os.getpid(), 9)"])
def test_recover(opened: Opened, end: str) -> None:
    session = opened(recover=True)
    ran(session, "x = 1")
    for n in range(3):
        results = ran(session, f"x = 'lost'\n{end}")
        assert results.completion.recovered, results.completion
        assert session["x"] == n + 1
        ran(session, "x += 1")
    assert session.statistics().recoveries == 3


@pytest.mark.parametrize("tier", ["weak"])
def test_what_needs_a_process_is_refused_in_the_weak_tier(session: ExtSession) -> None:
    for branch in (session.fork, session.checkpoint):
        with pytest.raises(ForkRefused, match="weak tier"):
            branch()
    for source in (
        "import subprocess; subprocess.run(['/bin/true'])",
        "import os; os.fork()",
        "import os; os.system('true') and os.spawnv(0, '/bin/true', ['x'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start()",
    ):
        results = ran(session, source)
        assert not results.completion.ok and "PermissionError" in results.stderr, (source, results.stderr)
    assert session.eval("1") == 1


@pytest.mark.parametrize("tier", ["full"])
def test_multiprocessing(session: ExtSession) -> None:
    results = ran(
        session,
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "with m.get_context('fork').Pool(2) as pool: print(pool.map(f, range(4)))",
    )
    assert results.stdout == "[0, 1, 4, 9]\n", results.stderr


@pytest.mark.parametrize("tier", ["full"])
def test_a_subprocess_of_the_interpreter(session: ExtSession) -> None:
    results = ran(session, "import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', 'print(6*7)']))")
    assert results.stdout == "b'42\\n'\n", results.stderr


# preload, pools, one-shots


@pytest.mark.parametrize("module", ["numpy", "pandas"])
def test_preload(opened: Opened, module: str) -> None:
    session = opened(preload=[module], module=module)
    assert ran(session, f"import sys; print({module!r} in sys.modules)").stdout == "True\n"
    results = ran(session, "import numpy; print(numpy.ones((300, 300)).dot(numpy.ones((300, 300))).sum())")
    assert results.stdout == "27000000.0\n", results.stderr
    with pytest.raises(ValueRefused):
        session.eval("numpy.ones(3)")
    if session.walls.tier == "full":
        with session.fork() as other:
            assert other.eval("float(numpy.ones(3).sum())") == 3.0


def test_arrays_go_in(opened: Opened) -> None:
    numpy = pytest.importorskip("numpy")
    session = opened(module="numpy")
    session["x"] = numpy.arange(5)
    assert session.eval("x.tolist()") == [0, 1, 2, 3, 4]


def test_a_preload_that_fails(options: Callable[..., dict[str, Any]]) -> None:
    from extsession import LaunchError

    with pytest.raises(LaunchError, match="no_such_module"):
        ExtSession(**options(preload=["no_such_module"]))


def test_pool(options: Callable[..., dict[str, Any]]) -> None:
    with SessionPool(2, **options()) as pool:
        assert list(pool.map(len, [[1], [1, 2], []])) == [1, 2, 0]
        assert pool.submit(divmod, 7, 2).result(SECONDS) == (3, 1)
        with pool.acquire() as session:
            assert session.walls is not None
            ran(session, "import os; os._exit(1)")
        assert pool.call(len, "abc") == 3
        assert pool.run("print(1)").stdout == "1\n"


def test_one_shots(options: Callable[..., dict[str, Any]]) -> None:
    assert exteval("6 * 7", **options()) == 42
    with pytest.raises(ValueRefused):
        exteval("object()", **options())
    assert extexec("import sys; print(1); print(2, file=sys.stderr); sys.exit(3)", **options()) == ("1\n", "2\n")
    assert ExtEval("2 ** 10", **options()).wait(SECONDS).result == 1024
