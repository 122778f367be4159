"""Sessions on pseudo-terminals: what the code sees, and that section 3 of the contract holds there, too."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from extsession import ExtSession, Isolation, LaunchError, Outcome, SessionClosed, SessionPool
from extsession._launch.local import LocalLauncher
from extsession._protocol import messages

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and at Linux's ptys")

IMPORTS = "import fcntl, os, shutil, signal, subprocess, sys, termios, threading, time"


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession(terminal=(30, 100)) as one:
        one.execute(IMPORTS).wait(20)
        yield one


@pytest.fixture(params=[True, False], ids=["warm", "spawned"])
def each_kind(request: pytest.FixtureRequest) -> Iterator[ExtSession]:
    with ExtSession(terminal=(30, 100), warm=request.param) as one:
        one.execute(IMPORTS).wait(20)
        yield one


def out(session: ExtSession, source: str, **options: Any) -> str:
    results = session.execute(source, **options).wait(60)
    assert results.outcome is Outcome.FINISHED, (results, results.stderr)
    assert results.stderr == ""
    return results.stdout


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


# what the code sees


def test_the_code_sees_terminals(each_kind: ExtSession) -> None:
    session = each_kind
    assert session.eval("[each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr)]") == [True] * 3
    assert session.eval("[os.isatty(fd) for fd in range(3)]") == [True] * 3
    size = (100, 30)
    assert session.eval("tuple(shutil.get_terminal_size())") == size
    assert session.eval("[tuple(os.get_terminal_size(fd)) for fd in (0, 1, 2, sys.stdin.fileno())]") == [size] * 4
    assert session.eval("sys.stdout.line_buffering")
    first, second, third = session.eval("[os.ttyname(fd) for fd in range(3)]")
    assert first == second != third


def test_subprocesses_see_them(session: ExtSession) -> None:
    assert out(session, "subprocess.run(['stty', 'size']).returncode") == "30 100\n"
    results = session.execute("subprocess.run('test -t 0 && test -t 1 && test -t 2 && tty', shell=True); None").wait(20)
    assert results.stdout.startswith("/dev/pts/")


def test_without_it_there_is_none() -> None:
    with ExtSession(terminal=False) as session:
        assert session.eval("__import__('sys').stdout.isatty()") is False
        with pytest.raises(TypeError, match="terminal="):
            session.resize(10, 10)


def test_true_is_the_usual_size() -> None:
    with ExtSession(terminal=True) as session:
        assert session.eval("tuple(__import__('os').get_terminal_size())") == (80, 24)


def test_no_byte_is_changed(session: ExtSession) -> None:
    every = bytes(range(256)) * 3
    results = session.execute(f"print('a\\tb'); os.write(1, {every!r}); os.write(2, {every[::-1]!r}); None").wait(20)
    assert results.stdout_bytes == b"a\tb\n" + every
    assert results.stderr_bytes == every[::-1]


def test_colours_of_programs(session: ExtSession) -> None:
    assert "\x1b[" in out(session, "subprocess.run(['ls', '--color=auto', '-d', '/']); None")


# input


def test_input_asks_the_controller(each_kind: ExtSession) -> None:
    session = each_kind
    source = "name = input('name? '); import getpass; print(name, getpass.getpass('word? '))"
    results = session.execute(source, stdin="me\nsecret\n").wait(20)
    assert results.outcome is Outcome.FINISHED, results.stderr
    assert results.stdout == "name? me secret\n"
    assert "word? " in results.stderr
    assert "EOFError" in session.execute("input()").wait(20).stderr


def test_who_reads_the_terminal_finds_the_end(session: ExtSession) -> None:
    assert session.eval("os.read(0, 10)") == b""
    assert session.eval("subprocess.run(['cat'], stdout=subprocess.PIPE).stdout") == b""
    with pytest.raises(OSError, match="No such device"):
        session.eval("os.open('/dev/tty', os.O_RDWR)")


# its size


def test_resize(session: ExtSession) -> None:
    source = "seen = []\nsignal.signal(signal.SIGWINCH, lambda *_: seen.append(tuple(os.get_terminal_size())))"
    session.execute(source).wait(20)
    session.resize(50, 132)
    assert session.eval("seen, tuple(os.get_terminal_size(2))") == ([(132, 50)], (132, 50))
    child = "trap 'stty size; exit' WINCH; echo; while :; do sleep 0.01; done"
    waits = session.execute(f"subprocess.run(['sh', '-c', {child!r}]); None")
    assert next(iter(waits)).data == b"\n"
    session.resize(20, 70)
    assert waits.wait(20).stdout == "\n20 70\n"
    session.restart()
    assert session.eval("tuple(__import__('os').get_terminal_size())") == (70, 20)


def test_a_resize_is_never_lost(session: ExtSession) -> None:
    """A call that has started a process makes new terminals when it ends: perhaps right now."""
    source = "seen = []\nsignal.signal(signal.SIGWINCH, lambda *_: seen.append(tuple(os.get_terminal_size())))"
    session.execute(source).wait(20)
    for number in range(80):
        results = session.execute("os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0); None")
        end = time.perf_counter() + number % 10 * 1e-4
        while time.perf_counter() < end:
            pass
        rows, columns = 10 + number % 20, 20 + number
        session.resize(rows, columns)
        results.wait(20)
        size = (columns, rows)
        assert session.eval("tuple(os.get_terminal_size()), tuple(os.get_terminal_size(2)), seen[-1]") == (size,) * 3


@pytest.mark.parametrize(
    "size, error", [((0, 80), ValueError), ((24, 65536), ValueError), (("24", 80), TypeError), ((True, 80), TypeError)]
)
def test_sizes_that_are_none(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="terminal"):
        ExtSession(terminal=size)
    with ExtSession(terminal=True) as session:
        with pytest.raises(error, match="resize"):
            session.resize(*size)
        assert session.eval("tuple(__import__('os').get_terminal_size())") == (80, 24)
    with pytest.raises(SessionClosed):
        session.resize(24, 80)


@pytest.mark.parametrize("value", [None, (24,), [24, 80], "80x24", 24])
def test_terminals_that_are_none(value: Any) -> None:
    with pytest.raises(TypeError, match="terminal takes"):
        ExtSession(terminal=value)


def test_what_it_does_not_go_with() -> None:
    with pytest.raises(ValueError, match="isolated session has no terminal"):
        ExtSession(terminal=True, isolation=Isolation())

    class Piped(LocalLauncher):
        def launch(self, spec: Any) -> Any:
            process = super().launch(spec)
            process.terminal = None  # type: ignore[attr-defined]
            return process

    with pytest.raises(ValueError, match="Piped starts no sessions on a terminal"):
        ExtSession(terminal=True, launcher=Piped())


def test_no_terminal_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "openpty", refuse)
    with pytest.raises(LaunchError, match="No space left"):
        ExtSession(terminal=True)


# section 3 of the contract

WRITERS = """
def body(call, stream, size):
    unit = b"%d.%d|" % (call, stream)
    return (unit * (size // len(unit) + 1))[:size]

def by_write(*what):
    data = body(*what)
    while data:
        data = data[os.write(what[1], data):]

def by_print(*what):
    print(body(*what).decode(), end="", file=(sys.stdout, sys.stderr)[what[1] - 1])

def by_process(*what):
    subprocess.run(["sh", "-c", "printf %s '" + body(*what).decode() + f"' >&{what[1]}"])
"""
SIZES = (1, 40, 2048, 4095, 4096, 4097, 8191, 15047, 15049, 65535, 65536, 65537)


def test_each_call_has_what_it_wrote(each_kind: ExtSession) -> None:
    """All of it at the moment when it is done, and nothing else, whoever wrote it and however much.

    10,000 such calls were run by hand.
    """
    session = each_kind
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    scope: dict[str, Any] = {}
    exec(WRITERS, scope)
    session.execute(WRITERS).wait(20)
    queued = []
    for call in range(100):
        steps, wanted = [], {1: b"", 2: b""}
        for _ in range(chance.randint(1, 4)):
            how = chance.choices(("by_write", "by_print", "by_process"), (10, 10, 1))[0]
            stream, size = chance.choice((1, 1, 2)), chance.choice(SIZES) + chance.randint(0, 2)
            steps.append(f"{how}({call}, {stream}, {size})")
            wanted[stream] += scope["body"](call, stream, size)
        queued.append((session.execute("; ".join([*steps, "None"])), wanted))
        if chance.random() < 0.6:
            for results, each in queued:
                results.wait(60)
                assert (results.stdout_bytes, results.stderr_bytes) == (each[1], each[2]), (seed, call, steps)
                assert results.late_stdout == results.late_stderr == ""
            queued.clear()


def test_order_across_the_streams(each_kind: ExtSession) -> None:
    session = each_kind
    lines = "for i in range(500):\n    print('out', i)\n    print('err', i, file=sys.stderr)"
    chunks = list(session.execute(lines))
    assert b"".join([each.data for each in chunks]) == b"".join([b"out %d\nerr %d\n" % (i, i) for i in range(500)])


@pytest.mark.parametrize("settings", ["sane", "sane olcuc tab3 ocrnl", "raw", "cooked -onlcr"])
def test_order_whatever_the_settings(session: ExtSession, settings: str) -> None:
    """The code may have its terminals change what is written, but not the barriers, and to the end of the call."""
    source = f"for fd in (1, 2): subprocess.run(['stty', *{settings.split()}], stdin=fd)\n"
    lines = "for i in range(200):\n    print('o', i)\n    print('e', i, file=sys.stderr)"
    chunks = list(session.execute(source + "is_raw = not termios.tcgetattr(1)[1] & termios.OPOST\n" + lines))
    assert session["is_raw"] is (settings == "raw")
    text = b"".join([each.data for each in chunks])
    assert (b"\r" in text) is ("sane" in settings)
    wanted = b"".join([b"o %d\ne %d\n" % (i, i) for i in range(200)])
    assert text.lower().replace(b"\r", b"") == wanted
    assert b"".join([each.data for each in session.execute(lines)]) == wanted


def test_settings_end_with_the_call(session: ExtSession) -> None:
    change = "s = termios.tcgetattr(2); s[1] |= termios.OPOST | termios.ONLCR; termios.tcsetattr(2, termios.TCSANOW, s)"
    assert session.execute(change + "; os.write(2, b'a\\n'); None").wait(20).stderr == "a\r\n"
    assert session.execute("os.write(2, b'a\\n'); None").wait(20).stderr == "a\n"
    session.execute("termios.tcflow(1, termios.TCOOFF)").wait(20)
    assert out(session, "print('it goes on')") == "it goes on\n"


@pytest.mark.parametrize("way", ["signals", "O_NONBLOCK"])
def test_barriers_are_not_torn(session: ExtSession, way: str) -> None:
    """By other writers, in a full terminal, where a write may end early."""
    source = """
flood = "import os, time, select\\nend = time.monotonic() + 0.4\\nwhile time.monotonic() < end:\\n"
flood += "    try: os.write(%d, b'z' * 997)\\n    except BlockingIOError: time.sleep(0.0001)"
floods = [subprocess.Popen([sys.executable, "-I", "-S", "-c", flood % stream]) for stream in (1, 2)]
if way == "signals":
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
else:
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)
i = 0
while any([each.poll() is None for each in floods]):
    print("o%07d" % i)
    print("e%07d" % i, file=sys.stderr)
    i += 1
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    session["way"] = way
    results = session.execute(source, output_limit=None).wait(60)
    assert results.outcome is Outcome.FINISHED, results.stderr[-1000:]
    count = session["i"]
    assert results.stdout_bytes.count(b"z") > 50_000
    assert results.stdout_bytes.replace(b"z", b"") == b"".join([b"o%07d\n" % i for i in range(count)])
    assert results.stderr_bytes.replace(b"z", b"") == b"".join([b"e%07d\n" % i for i in range(count)])


def test_a_flood_that_nobody_waits_for(session: ExtSession) -> None:
    results = session.execute("for _ in range(96): os.write(1, b'x' * 65536)", output_limit=1000)
    until(lambda: results.done, 60)
    assert (len(results.stdout_bytes), results.dropped) == (1000, 96 * 65536 - 1000)


def test_processes_left_behind(each_kind: ExtSession) -> None:
    """They keep the terminals of their call. The next has others."""
    session = each_kind
    loop = "while read line; do echo out $line; echo err $line >&2; done"
    reads, writes = os.pipe()
    source = f"reads = os.open('/proc/{os.getpid()}/fd/{reads}', os.O_RDONLY)\nbefore = os.ttyname(1)\n"
    first = session.execute(source + f"p = subprocess.Popen(['sh', '-c', {loop!r}], stdin=reads); os.close(reads)")
    first.wait(20)
    assert session.eval("before != os.ttyname(1) == os.ttyname(0)")
    os.write(writes, b"1\n")
    until(lambda: first.late_stdout == "out 1\n" and first.late_stderr == "err 1\n")
    assert out(session, "print('second')") == "second\n"
    os.write(writes, b"2\n")
    until(lambda: first.late_stdout == "out 1\nout 2\n")  # while nothing runs, and nobody waits
    os.close(writes)
    os.close(reads)
    assert out(session, "p.wait(); print('third')") == "third\n"


def test_one_that_prints_for_ever(session: ExtSession) -> None:
    first = session.execute("p = subprocess.Popen(['sh', '-c', 'while :; do echo yes; done'])").wait(20)
    for i in range(100):
        results = session.execute(f"print({i}); os.write(2, b'{i}'); None").wait(20)
        assert (results.stdout, results.stderr) == (f"{i}\n", f"{i}")
    until(lambda: first.late_stdout)
    session.execute("p.kill(); p.wait()").wait(20)
    assert set(first.stdout + first.late_stdout) <= set("yes\n")


def test_threads_left_behind(session: ExtSession) -> None:
    source = "def run():\n    for i in range(100):\n        print('t', i)\n        go.wait(0.001)\n"
    first = session.execute(source + "go = threading.Event()\nt = threading.Thread(target=run)\nt.start()").wait(20)
    for i in range(30):
        assert out(session, f"print({i}); go.wait(0.001); None") == f"{i}\n"
    session.execute("t.join()").wait(20)
    assert first.stdout + first.late_stdout == "".join([f"t {i}\n" for i in range(100)])


def test_rich_output_keeps_its_place() -> None:
    from extsession import Display

    with ExtSession(terminal=True, display=Display.MIME) as session:
        source = "import sys\nprint('one')\nprint('two', file=sys.stderr)\n42"
        results = session.execute(source).wait(20)
        (shown,) = results.displays
        assert (results.stdout, results.stderr, shown.data["text/plain"]) == ("one\n", "two\n", "42")
        assert b"".join([each.data for each in results.events[: shown.position]]) == b"one\ntwo\n"


def test_c_code(session: ExtSession) -> None:
    source = "import ctypes; c = ctypes.CDLL(None); print('1'); c.printf(b'2\\n'); print('3'); c.printf(b'4'); None"
    assert out(session, source) == "1\n2\n3\n4"


# ends


def test_interrupt_in_a_flood(session: ExtSession) -> None:
    results = session.execute("while True: print('x' * 1000)", output_limit=10_000)
    next(iter(results))
    results.interrupt()
    assert results.wait(20).outcome is Outcome.INTERRUPTED
    assert out(session, "print('next')") == "next\n"


def test_last_words(session: ExtSession) -> None:
    results = session.execute("os.write(1, b'w' * 12000); os.kill(os.getpid(), signal.SIGKILL)").wait(20)
    assert results.outcome is Outcome.LOST
    assert results.stdout == "w" * 12000
    session.restart()
    results = session.execute("import atexit, os; atexit.register(os.write, 1, b'e' * 9000); raise SystemExit(3)").wait(20)
    assert (results.outcome, results.stdout, session.exit_code) == (Outcome.EXITED, "e" * 9000, 3)


def test_code_that_takes_it_as_its_controlling_terminal(session: ExtSession) -> None:
    """A session leader does that by opening one without O_NOCTTY; it must not be hung up when its call is over."""
    source = "fd = os.open(os.ttyname(1), os.O_RDWR)\nos.close(fd)\nos.close(os.open('/dev/tty', os.O_RDWR))"
    assert out(session, source + "\nsubprocess.run(['echo', 'child']); None") == "child\n"
    number = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        assert out(session, "subprocess.run(['echo', 'child']); None") == "child\n"
    assert len(os.listdir("/proc/self/fd")) <= number + 1
    session.execute("os.close(os.open('/dev/tty', os.O_RDWR))").wait(20).raise_for_error()


def test_code_that_is_a_background_job_of_its_terminal(session: ExtSession) -> None:
    source = """
os.close(os.open(os.ttyname(1), os.O_RDWR))
child = subprocess.Popen(["sleep", "100"], preexec_fn=os.setpgrp)
os.tcsetpgrp(1, child.pid)
new = termios.tcgetattr(0)
new[3] |= termios.TOSTOP
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
termios.tcsetattr(0, termios.TCSANOW, new)
signal.signal(signal.SIGTTOU, signal.SIG_DFL)
"""
    session.execute(source).wait(20).raise_for_error()
    assert out(session, "print('next'); child.kill(); child.wait(); None") == "next\n"
    assert out(session, "print('last')") == "last\n"


def test_nothing_is_left_open(each_kind: ExtSession) -> None:
    session = each_kind
    look = "len(os.listdir('/proc/self/fd'))"
    session.execute("subprocess.run(['true'])").wait(20)  # which loads what a session needs for that
    theirs, ours = session.eval(look), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        session.execute("subprocess.run(['true'])").wait(20)
    until(lambda: len(os.listdir("/proc/self/fd")) == ours)
    assert session.eval(look) == theirs


def test_descriptors_that_are_no_terminals() -> None:
    """A session that sends others than it announces is ended, and nothing else is harmed."""
    with ExtSession(terminal=True, warm=False) as session:
        source = """
import gc, os
server = [each for each in gc.get_objects() if type(each).__name__ == "Server"][0]
server._new_pipes = lambda done: (setattr(done, "flags", done.flags | FLAG), os.pipe())[1]
os.system("true")
"""
        session.execute(source.replace("FLAG", str(messages.NEW_PIPES))).wait(20)
        assert session.error is not None
        assert "no terminal" in str(session.error)


# branches, and other sessions that are made


def test_a_branch_has_its_own(each_kind: ExtSession) -> None:
    session = each_kind
    session.resize(33, 44)
    with session.fork() as branch:
        names = "[os.ttyname(fd) for fd in (0, 1, 2, sys.stdin.fileno())]"
        mine, its = session.eval(names), branch.eval(names)
        assert mine[0] == mine[1] == mine[3] and its[0] == its[1] == its[3]
        assert len({*mine, *its}) == 4
        assert branch.eval("tuple(os.get_terminal_size())") == (44, 33)
        pairs = [(each, each.execute(f"for i in range(200): print('{name}' * 50, i)\ninput()", stdin="\n"))
                 for name, each in (("a", session), ("b", branch))]
        for (_, results), name in zip(pairs, "ab", strict=True):
            assert results.wait(20).stdout == "".join([f"{name * 50} {i}\n" for i in range(200)])
        branch.resize(11, 12)
        assert session.eval("tuple(os.get_terminal_size())") == (44, 33)


def test_rollback(each_kind: ExtSession) -> None:
    session = each_kind
    session.execute("x = 1").wait(20)
    session.checkpoint("one")
    session.execute("x = 2; subprocess.run(['true'])").wait(20)
    session.resize(55, 66)
    session.rollback("one")
    assert session.eval("x, tuple(os.get_terminal_size()), sys.stdout.isatty()") == (1, (66, 55), True)
    assert out(session, "print('a'); subprocess.run(['echo', 'b']); print('c')") == "a\nb\nc\n"


def test_recovery() -> None:
    with ExtSession(terminal=(10, 20), recover=True) as session:
        session.execute("import os; x = 1").wait(20)
        lost = session.execute("print('y' * 5000); os.system('echo sub'); os._exit(3)").wait(20)
        assert lost.stdout == "y" * 5000 + "\nsub\n"
        session.resize(12, 34)
        assert session.eval("x, tuple(os.get_terminal_size())") == (1, (34, 12))
        session.execute("os.kill(os.getpid(), 9)").wait(20)
        assert session.eval("x, tuple(os.get_terminal_size(2))") == (1, (34, 12))


def test_pool() -> None:
    with SessionPool(2, terminal=(40, 50)) as pool:
        assert list(pool.map(os.isatty, [0, 1, 2])) == [True] * 3
        assert tuple(pool.call(os.get_terminal_size)) == (50, 40)


def test_each_python(each_python: Any) -> None:
    """The worker on a terminal works with every version that there is here."""
    with ExtSession(each_python.path, terminal=(30, 40)) as session:
        source = "import os, sys\nprint(tuple(os.get_terminal_size()))\nprint('e', file=sys.stderr)\nos.system('stty size')\nNone"
        for _ in range(3):
            results = session.execute(source).wait(20)
            assert (results.stdout, results.stderr) == ("(40, 30)\n30 40\n", "e\n")
        assert "x" == session.execute("print(input(), end='')", stdin="x\n").wait(20).stdout


def test_signals_are_as_they_were(session: ExtSession) -> None:
    """A write of a barrier leaves the mask as it is."""
    session.execute("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])").wait(20)
    session.execute("print(1); print(2, file=sys.stderr); print(3)").wait(20)
    assert session.eval("[int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])]") == [signal.SIGUSR2]
