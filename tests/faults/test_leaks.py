"""Sessions leave nothing in the controller: no descriptor, thread, child or file, however they end.

EXTSESSION_LEAK_COUNT=2000 opens that many sessions instead of 200.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from extsession import ExtEval, ExtSession, LaunchError, Outcome, SessionClosed, SessionDied, exteval, extexec

ROOT = Path(__file__).parent.parent.parent
COUNT = int(os.environ.get("EXTSESSION_LEAK_COUNT", "200"))


class Holdings(NamedTuple):
    descriptors: int
    threads: int
    children: tuple[int, ...]
    files: frozenset[str]


def files() -> frozenset[str]:
    """In the folder for temporary files, which is the test's own."""
    return frozenset(os.listdir(tempfile.gettempdir()))


def holdings() -> Holdings:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return Holdings(
        len(os.listdir("/proc/self/fd")), threading.active_count(), tuple(map(int, children)), files()
    )


@pytest.fixture
def before(watch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Holdings]]:
    """What is held; the hub, of which there is one in each process, is there already."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(folder))
    monkeypatch.setenv("TMPDIR", os.fspath(folder))
    with ExtSession() as session:
        results = session.execute("1")
        assert watch.until(lambda: results.done)
    gc.collect()
    yield holdings


def same(before: Holdings, watch: Any) -> None:
    assert watch.until(lambda: holdings() == before, 3), (before, holdings())


ENDS: dict[str, Callable[[ExtSession], object]] = {
    "close": lambda s: s.close(),
    "exit": lambda s: s.exit(3),
    "kill": lambda s: s.kill(),
    "close while busy": lambda s: (s.execute("while True: pass"), s.close()),
    "SystemExit": lambda s: s.execute("raise SystemExit(2)").wait(5),
    "crash": lambda s: s.execute("import os; os.abort()").wait(5),
    "killed, found later": lambda s: (os.kill(s.pid or 0, signal.SIGKILL), s.execute("1").wait(5)),
    "process left behind": lambda s: (s.execute("import subprocess; subprocess.Popen(['sleep', '1000'])").wait(5), s.close()),
    "restart": lambda s: (s.restart(), s.close()),
    "with": lambda s: s.__exit__(),
    "large value": lambda s: (s.eval("b'x' * 2_000_000"), s.close()),
    "broken protocol": lambda s: s.execute(
        "import os\nfor fd in range(200, 260):\n  try: os.write(fd, b'nonsense, more than a header')\n  except OSError: pass\nwhile True: pass"
    ).wait(5),
}


@pytest.mark.parametrize("end", ENDS)
def test_each_way_to_end(end: str, before: Callable[[], Holdings], watch: Any) -> None:
    held = before()
    for _ in range(3):
        session = ExtSession()
        ENDS[end](session)
        assert watch.until(lambda session=session: not session.is_alive)
    # while the objects of dead sessions are still there
    del session
    same(held, watch)


def test_many_sessions(before: Callable[[], Holdings], watch: Any) -> None:
    held = before()
    start = time.monotonic()
    ends = [ENDS[name] for name in ("close", "exit", "kill", "with")]
    for number in range(COUNT):
        session = ExtSession()
        if number % 3 == 0:
            assert session.execute(f"print({number})").wait(10).stdout == f"{number}\n"
        ends[number % len(ends)](session)
        del session
        if number % 50 == 0:
            assert len(os.listdir("/proc/self/fd")) <= held.descriptors + 1
    took = time.monotonic() - start
    same(held, watch)
    print(f"{COUNT} sessions in {took:.1f} s, {took / COUNT * 1000:.1f} ms each; {holdings()}")


def test_many_sessions_at_once(before: Callable[[], Holdings], watch: Any) -> None:
    held = before()
    sessions = [ExtSession() for _ in range(20)]
    calls = [session.execute("print(1)") for session in sessions]
    assert [call.wait(10).stdout for call in calls] == ["1\n"] * 20
    for session in sessions:
        session.close()
    same(held, watch)


def test_dropped_without_close(before: Callable[[], Holdings], watch: Any) -> None:
    held = before()
    for number in range(20):
        session = ExtSession()
        if number % 2:
            session.execute("while True: pass")
    del session
    gc.collect()
    same(held, watch)


def test_dropped_in_a_cycle_and_in_a_thread(before: Callable[[], Holdings], watch: Any) -> None:
    held = before()

    def work() -> None:
        for _ in range(3):
            session = ExtSession()
            session.me = session  # type: ignore[attr-defined]
            session.execute("print(1)")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    gc.collect()
    same(held, watch)


def test_results_outlive_their_session(before: Callable[[], Holdings], watch: Any) -> None:
    """The session is dropped while its results are kept: they come to an end, whoever waits for them."""
    held = before()
    done = ExtSession().execute("print(1)")
    futures = [done.future()]
    assert watch.until(lambda: done.done)
    busy = ExtSession().execute("while True: pass")
    futures.append(busy.future())
    gc.collect()
    assert watch.until(lambda: busy.done)
    assert busy.outcome in (Outcome.KILLED, Outcome.LOST)
    assert isinstance(busy.error, SessionDied)
    assert all(future.done() for future in futures)
    same(held, watch)


def test_failed_starts(before: Callable[[], Holdings], watch: Any, tmp_path: Path) -> None:
    held = before()
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(3)")
    for _ in range(5):
        with pytest.raises(LaunchError):
            ExtSession(env={**os.environ, "PYTHONPATH": os.fspath(tmp_path)})
        with pytest.raises(LaunchError):
            ExtSession(cwd="/no/such/folder")
        with pytest.raises(LaunchError):
            ExtSession("/no/such/python")
    same(held, watch)


def test_one_shots(before: Callable[[], Holdings], watch: Any) -> None:
    held = before()
    for _ in range(3):
        assert exteval("1 + 1") == 2
        assert extexec("print(1)") == ("1\n", "")
        assert ExtEval("2 + 2").wait(5).result == 4
        assert ExtEval("2 + 2").cancel()
        ExtEval("3 + 3")
    gc.collect()
    same(held, watch)


@pytest.mark.parametrize("end", ["close", "exit", "crash", "drop"])
def test_output_is_freed_with_the_session(end: str, watch: Any) -> None:
    """At once, not when the collector comes to look for cycles: it may be many megabytes."""
    session = ExtSession()
    results = session.execute("print('x' * 100_000)").wait()
    output = weakref.ref(results._call.output)
    gc.disable()
    try:
        if end != "drop":
            ENDS[end](session)
        del session, results
        assert watch.until(lambda: output() is None)
    finally:
        gc.enable()


# fork of the controller


def forked(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(20)
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_in_between(before: Callable[[], Holdings], watch: Any) -> None:
    """The child has its own sessions and ends; the parent's are not disturbed, and unusable in the child."""
    held = before()
    with ExtSession() as session:
        session.execute("x = 1").wait()
        descriptors = set(os.listdir("/proc/self/fd"))

        def work() -> None:
            with pytest.raises(SessionClosed):
                session.execute("x = 2")
            with pytest.raises(SessionClosed):
                session.eval("x")
            session.close()
            assert len(os.listdir("/proc/self/fd")) < len(descriptors)
            with ExtSession() as mine:
                assert mine.eval("1 + 1") == 2
                call = mine.execute("print(5)")
                assert watch.until(lambda: call.done)  # by the child's own hub
            gc.collect()

        for _ in range(3):
            assert forked(work) == 0
            assert session.eval("x") == 1
    del work  # it holds the session
    same(held, watch)


def test_a_fork_while_the_hub_watches(before: Callable[[], Holdings], watch: Any) -> None:
    """The child lets go of what it inherited; the parent's hub must not lose sight of its own."""
    held = before()
    with ExtSession() as session:
        call = session.execute("input()", stdin="PIPE")
        assert watch.until(lambda: session._driver.watched)
        assert forked(lambda: None) == 0
        session.writeline("go on")
        assert watch.until(lambda: call.done), "nobody saw that the call was over"
        assert call.completion.ok
    same(held, watch)


def test_a_fork_while_threads_use_sessions(before: Callable[[], Holdings], watch: Any) -> None:
    held = before()
    stop = threading.Event()
    counts = [0, 0]

    def use(which: int) -> None:
        with ExtSession() as mine:
            while not stop.is_set():
                assert mine.eval(f"{counts[which]}") == counts[which]
                counts[which] += 1

    threads = [threading.Thread(target=use, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()

    def work() -> None:
        assert exteval("1 + 1") == 2

    try:
        for _ in range(8):
            assert forked(work) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert min(counts) > 0
    same(held, watch)


def test_a_forked_child_that_ends_as_an_interpreter(before: Callable[[], Holdings], watch: Any) -> None:
    """With its exit handlers, finalizers and all: sys.exit, not os._exit."""
    held = before()
    code = (
        f"import sys, os; sys.path.insert(0, {os.fspath(ROOT)!r})\n"
        "from extsession import ExtSession\n"
        "s = ExtSession(); s.execute('x = 5').wait(); busy = s.execute('input()', stdin='PIPE')\n"
        "import time; time.sleep(0.05)\n"
        "if os.fork() == 0: sys.exit(3)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "s.writeline('go'); busy.wait(); print(s.eval('x')); s.close()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (result.stdout, result.stderr, result.returncode) == ("3\n5\n", "", 0)
    same(held, watch)


# files


def test_no_temporary_file_is_used(watch: Any, tmp_path: Path) -> None:
    """Nowhere to write: TMPDIR is no folder, HOME is none. Large values and floods included."""
    code = (
        f"import sys, os; sys.path.insert(0, {os.fspath(ROOT)!r})\n"
        "opened = []\n"
        "def audit(event, args):\n"
        "    if event in ('tempfile.mkstemp', 'tempfile.mkdtemp') or event == 'open' and args[2] & (os.O_WRONLY | os.O_RDWR):\n"
        "        if '__pycache__' not in str(args[0]) and not isinstance(args[0], int): opened.append((event, args))\n"
        "sys.addaudithook(audit)\n"
        "from extsession import ExtSession, exteval\n"
        "with ExtSession() as s:\n"
        "    assert len(s.eval('b\"x\" * 3_000_000')) == 3_000_000\n"
        "    s['y'] = b'z' * 3_000_000\n"
        "    assert len(s.execute('for _ in range(30_000): print(\"x\" * 100)').wait().stdout) == 101 * 30_000\n"
        "    s.execute('import subprocess; subprocess.Popen([\"true\"])').wait()\n"
        "assert exteval('1 + 1') == 2\n"
        "print([each for each in opened if each[1][0] != '/dev/null'])\n"
    )
    env = {**os.environ, "TMPDIR": "/no/such/folder", "HOME": "/no/such/folder", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, env=env)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_a_full_disk_for_temporary_files(watch: Any, tmp_path: Path) -> None:
    """A tiny tmpfs, full, as TMPDIR and current directory: sessions do not mind."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tiny tmpfs needs root")
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        with open(folder / "full", "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        env = {**os.environ, "TMPDIR": os.fspath(folder)}
        with ExtSession(cwd=folder, env=env) as session:
            assert len(session.eval("b'x' * 3_000_000")) == 3_000_000
            assert session.execute("print('x' * 1_000_000)").wait(5).stdout == "x" * 1_000_000 + "\n"
            session["y"] = b"z" * 1_000_000
            results = session.execute("with open('more', 'wb', buffering=0) as f: f.write(b'x' * 10_000)").wait(5)
            assert isinstance(results.error, OSError)
            assert session.eval("1 + 1") == 2
        assert [entry.name for entry in os.scandir(folder) if entry.name not in ("full", "more")] == []
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
