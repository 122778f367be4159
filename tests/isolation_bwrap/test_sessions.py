"""What a session in bubblewrap is and does: values, streams, ends, branches, files, limits, walls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from extsession import (
    PIPE,
    AsyncExtSession,
    ExtSession,
    ForkRefused,
    Isolation,
    IsolationUnavailable,
    LaunchError,
    Limits,
    Outcome,
    SessionDied,
    SessionPool,
)
from extsession._launch import bwrap, bwrap_trial, walled

from .conftest import SOON, alive, interpreter, run, until

Start = Callable[..., ExtSession]
ROOT = Path(__file__).parent.parent.parent


def test_what_it_is(session: ExtSession) -> None:
    found = run(session, "import os, sys, socket; x = [os.getpid(), os.getppid(), os.getuid(), os.getcwd(), os.environ]")
    assert found.stdout == ""
    assert session.eval("x[:4]") == [2, 1, 1000, "/work"]
    environ = session.eval("dict(x[4])")
    assert environ["HOME"] == environ["TMPDIR"] == "/work" and not {"PWD", "SHELL", "USER", "LOGNAME"} & set(environ)
    assert session.eval("socket.gethostname()") == "session"
    assert session.eval("sorted(os.listdir('/work'))") == []
    assert session.eval("__import__('pwd').getpwuid(os.getuid()).pw_name") == "session"
    assert session.eval("{'ctypes', 'select', '_socket', 'struct'} & set(sys.modules) - {'_socket', 'select'}") == set()
    assert session.pid and session.pid > 2 and Path(f"/proc/{session.pid}").exists()


def test_walls(session: ExtSession) -> None:
    walls = session.walls
    assert walls is not None and walls.tier == "bwrap" and walls.proc in ("pid", "none")
    assert {"user namespace", "pid namespace", "network namespace", "seccomp", "landlock"} <= set(walls.mechanisms)
    assert "number of files in the work directory" in walls.missing


def test_values_and_streams(session: ExtSession) -> None:
    session["data"] = {"a": [1, 2.5, b"x", None], "b": "ä" * 1000}
    assert session["data"] == {"a": [1, 2.5, b"x", None], "b": "ä" * 1000}
    results = session.execute("import sys; print(input(), file=sys.stderr); print('out')", stdin=PIPE)
    session.writeline("typed")
    results.wait(SOON)
    assert (results.stdout, results.stderr) == ("out\n", "typed\n")
    found = run(session, "import subprocess; subprocess.run(['sh', '-c', 'echo one; echo two >&2'], check=True)")
    assert (found.stdout, found.stderr) == ("one\n", "two\n")
    assert len(run(session, "print('x' * 3_000_000)").stdout) == 3_000_001


def test_errors_are_told(session: ExtSession) -> None:
    results = session.execute("1 / 0").wait(SOON)
    assert isinstance(results.error, ZeroDivisionError)


def test_interrupt(session: ExtSession) -> None:
    results = session.execute("print('begun', flush=True)\nwhile True: pass")
    until(lambda: session.interrupt())
    assert results.wait(SOON).completion.outcome is Outcome.INTERRUPTED
    assert session.eval("1 + 1") == 2


def test_the_ladder_to_its_end(start: Start) -> None:
    from extsession import Ladder

    session = start(ladder=Ladder(0.2, 0.2))
    ignore = "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n"
    results = session.execute(ignore + "while True:\n try: pass\n except BaseException: pass", timeout=0.5).wait(SOON)
    assert results.completion.outcome is Outcome.TIMED_OUT
    assert not session.is_alive


def test_how_it_ended_is_told(start: Start) -> None:
    session = start()
    results = session.execute("import os; os._exit(7)").wait(SOON)
    assert isinstance(results.error, SessionDied) and results.error.exit_code == 7
    session = start()
    results = session.execute("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)").wait(SOON)
    assert isinstance(results.error, SessionDied) and results.error.signal == "SIGSEGV"


EIGHTEEN = """
import os, signal, sys
for number in range(1, 32):
    if number not in (9, 17, 19): signal.signal(number, signal.SIG_IGN)
for n in range(17):
    if os.fork() == 0:
        os.setsid()
        if n % 2 and os.fork(): os._exit(0)
        os.closerange(0, 99)
        os.execv(sys.executable, [sys.executable, '-I', '-c', 'import time; time.sleep(600)', TOKEN])
"""


def test_kill_with_eighteen_processes(start: Start) -> None:
    times = []
    for _ in range(3):
        token = uuid.uuid4().hex
        session = start()
        session["TOKEN"] = token
        run(session, EIGHTEEN)
        until(lambda token=token: len(alive(token)) == 17)  # type: ignore[misc]
        begun = time.monotonic()
        session.kill()
        until(lambda token=token: not alive(token))  # type: ignore[misc]
        times.append(time.monotonic() - begun)
        session.close()
    print("all 18 gone:", ", ".join("%.0f ms" % (each * 1e3) for each in times))
    assert sorted(times)[1] < 5.0


def test_branches_share_the_walls_and_outlive_the_original(session: ExtSession) -> None:
    run(session, "x = 1; import os")
    with session.fork() as branch:
        assert branch.eval("(x, os.getppid(), os.getcwd())") == (1, 1, "/work")
        run(branch, "x = 2; open('kept', 'w').write('branch')")
        assert session.eval("x") == 1
        assert branch.walls is not None and branch.walls.tier == "bwrap"
        session.close()
        assert branch.eval("x") == 2
        assert branch.files.get("kept") == b"branch"
        results = branch.execute("while True: pass")
        until(branch.interrupt)
        assert results.wait(SOON).completion.outcome is Outcome.INTERRUPTED


def test_checkpoint_and_rollback(session: ExtSession) -> None:
    run(session, "x = 1")
    session.checkpoint("before")
    run(session, "x = 2")
    session.rollback("before")
    assert session.eval("x") == 1
    session.execute("import os; os.abort()").wait(SOON)
    session.rollback("before")
    assert session.eval("x") == 1


def test_recovery(start: Start) -> None:
    session = start(recover=True)
    run(session, "x = 5")
    assert session.execute("import os; os.kill(os.getpid(), 9)").wait(SOON).completion.recovered
    assert session.eval("x") == 5


def test_files(session: ExtSession) -> None:
    session.files.put("a/b.txt", b"hello")
    assert session.eval("open('/work/a/b.txt').read()") == "hello"
    run(session, "open('made', 'w').write('inside'); import os; os.symlink('/etc/passwd', 'link')")
    assert session.files.get("made") == b"inside"
    with pytest.raises(OSError):
        session.files.get("link")
    assert [each.name for each in session.files.list()] == ["a", "link", "made"]


def test_the_work_directory_has_a_size(start: Start) -> None:
    session = start({"work_size": 2**20})
    results = session.execute("open('big', 'wb').write(bytes(3 << 20))").wait(SOON)
    assert isinstance(results.error, OSError) and results.error.errno == 28


def test_limits(start: Start) -> None:
    session = start(limits=Limits(memory=200 << 20, processes=6, open_files=64, wall=2.0))
    assert isinstance(session.execute("bytearray(400 << 20)").wait(SOON).error, MemoryError)
    run(
        session,
        """
import os, signal
children = []
try:
    while len(children) < 50:
        pid = os.fork()
        if pid == 0: signal.pause()
        children.append(pid)
except OSError: pass
for pid in children: os.kill(pid, 9); os.waitpid(pid, 0)
""",
    )
    assert session.eval("len(children)") == 5
    results = session.execute("import time; time.sleep(60)").wait(SOON)
    assert results.completion.outcome is Outcome.OVER_LIMIT


def test_sessions_have_nothing_in_common(start: Start) -> None:
    one, other = start({"loopback": True}), start({"loopback": True})
    run(one, "import socket, os; s = socket.create_server(('127.0.0.1', 4711)); open('secret', 'w').write('x')")
    run(one, "t = socket.socket(socket.AF_UNIX); t.bind('\\0here'); t.listen()")
    run(other, "import socket, os")
    assert other.eval("(os.listdir('.'), os.listdir('/dev/shm'))") == ([], [])
    assert other.eval("[n for n in os.listdir('/proc') if n.isdigit()]") in (["1", "2"], ["2", "1"], [])
    assert isinstance(other.execute("socket.create_connection(('127.0.0.1', 4711))").wait(SOON).error, ConnectionError)
    refused = other.execute("t = socket.socket(socket.AF_UNIX); t.connect('\\0here')").wait(SOON).error
    assert isinstance(refused, (ConnectionError, PermissionError))


def test_read_env_and_network(start: Start, tmp_path: Path) -> None:
    import socket
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.create_server(("127.0.0.1", 0)) as server:
        os.chmod(folder, 0o755)
        (Path(folder) / "given").write_text("to read")
        session = start({"read": [folder], "env": {"NAME": "value"}, "network": True})
        assert session.eval(f"open({folder + '/given'!r}).read()") == "to read"
        assert isinstance(session.execute(f"open({folder + '/new'!r}, 'w')").wait(SOON).error, OSError)
        assert session.eval("__import__('os').environ['NAME']") == "value"
        port = server.getsockname()[1]
        run(session, f"import socket; socket.create_connection(('127.0.0.1', {port})).close()")
        assert session.walls is not None and "network namespace" not in session.walls.mechanisms


def test_preload(start: Start) -> None:
    session = start(preload=("decimal", "json"), warm=True)
    assert session.eval("'decimal' in __import__('sys').modules and 'OMP_NUM_THREADS' not in __import__('os').environ")
    with pytest.raises(LaunchError, match="no_such_module"):
        start(preload=("no_such_module",))


def test_the_controller_is_killed() -> None:
    token = uuid.uuid4().hex
    program = f"""
import sys; sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import ExtSession, Isolation
from extsession._launch import walled
walled.acceptable = lambda isolation: ("bwrap",)
s = ExtSession(python={interpreter()!r}, isolation=Isolation(tier="bwrap", env={{"TOKEN": {token!r}}}))
s["TOKEN"] = {token!r}
s.execute({EIGHTEEN!r}).wait()
branch = s.fork(force=True)
branch.execute("import ctypes; ctypes.CDLL(None).prctl(1, 0); print('on', flush=True)\\nwhile True: pass")
print(flush=True)
import time; time.sleep(600)
"""
    controller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd="/")
    try:
        assert controller.stdout is not None and controller.stdout.readline() == b"\n"
        until(lambda: len(alive(token)) >= 17 + 1)  # with bubblewrap itself, which has the environment as arguments
        controller.send_signal(signal.SIGKILL)
        begun = time.monotonic()
        until(lambda: not alive(token))
        print("nothing left after %.0f ms" % ((time.monotonic() - begun) * 1e3))
    finally:
        controller.kill()
        controller.communicate()


def test_bubblewrap_is_killed(session: ExtSession) -> None:
    """Its process outside is only there to wait: the session goes on, and ends when it is to."""
    run(session, "x = 1")
    popen = session._core.link.process.warden.popen  # type: ignore[attr-defined]
    popen.kill()
    popen.wait()
    assert session.eval("x") == 1


def test_process_one_is_killed(session: ExtSession) -> None:
    process = session._core.link.process
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not session.is_alive)
    with pytest.raises(SessionDied):
        session.eval("1")


def test_in_a_pool() -> None:
    with SessionPool(2, python=interpreter(), isolation=Isolation(tier="bwrap")) as pool:
        with pool.acquire() as session:
            assert session.walls is not None and session.walls.tier == "bwrap"
            assert session.eval("6 * 7") == 42


async def _async() -> None:
    async with AsyncExtSession(python=interpreter(), isolation=Isolation(tier="bwrap")) as session:
        assert await session.eval("6 * 7") == 42
        await anyio.sleep(0.3)  # the thread that started it has ended by now
        assert await session.eval("6 * 7") == 42


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_async(backend: str) -> None:
    anyio.run(_async, backend=backend)


def test_without_proc(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """In most containers none can be mounted."""
    monkeypatch.setattr(bwrap_trial, "_worlds", {})
    inside = bwrap_trial._inside
    cannot = (None, "bwrap: Can't mount proc on /newroot/proc: Operation not permitted")
    monkeypatch.setattr(bwrap_trial, "_inside", lambda *given: cannot if given[-1].proc else inside(*given))
    session = start(limits=Limits(memory=200 << 20))
    assert session.walls is not None and session.walls.proc == "none"
    assert session.eval("__import__('os').listdir('/proc')") == []
    assert isinstance(session.execute("bytearray(400 << 20)").wait(SOON).error, MemoryError)
    session.files.put("x", b"y")
    assert run(session, "import subprocess; subprocess.run(['cat', 'x'], check=True)").stdout == "y"
    with pytest.raises(ForkRefused, match="no /proc"):
        session.fork(force=True)


# what is refused, and what doctor says


def test_order_of_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert walled.acceptable(Isolation()) == ("full",)
    assert walled.acceptable(Isolation(tier="bwrap")) == ("full", "bwrap")
    assert walled.acceptable(Isolation(tier="weak")) == ("full", "bwrap", "weak")


def _fake(tmp_path: Path, script: str) -> str:
    path = tmp_path / "bwrap"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    for each in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        if os.stat(each).st_uid == os.geteuid():
            each.chmod(os.stat(each).st_mode & 0o7777 | 0o755)  # nothing is taken from what is there for others
    return str(tmp_path)


def _refused(start: Start) -> IsolationUnavailable:
    with pytest.raises(IsolationUnavailable) as caught:
        start()
    return caught.value


def test_bubblewrap_is_missing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bwrap, "find", lambda: None)
    error = _refused(start)
    assert "no bubblewrap" in str(error) and "install bubblewrap" in str(error.cure)
    monkeypatch.setattr(walled, "acceptable", lambda isolation: ("bwrap", "weak"))
    session = start({"tier": "weak"})
    assert session.walls is not None and session.walls.tier == "weak"


def test_bubblewrap_is_too_old(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", _fake(tmp_path, "echo bubblewrap 0.4.1"))
    error = _refused(start)
    assert "0.4.1, which is too old" in str(error) and "from 0.7 on" in str(error.cure)


def test_bubblewrap_is_denied_itself(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "bwrap: setting up uid map: Permission denied"
    script = f'case $1 in --version) echo bubblewrap 0.9.0;; *) echo "{said}" >&2; exit 1;; esac'
    monkeypatch.setenv("PATH", _fake(tmp_path, script))
    error = _refused(start)
    assert said in str(error) and "AppArmor" in str(error.cure)


def test_it_is_denied_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has worked before, and does not any more: no resources, say."""
    start()
    arguments = bwrap.arguments
    monkeypatch.setattr(bwrap, "arguments", lambda *given: [*arguments(*given), "--no-such-option"])
    with pytest.raises(LaunchError, match=r"bubblewrap says: .*no-such-option"):
        start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a folder that is closed to its sessions")
def test_an_interpreter_that_is_closed_to_the_session(start: Start) -> None:
    if not os.path.realpath(sys.executable).startswith("/root/"):
        pytest.skip("this interpreter is not below /root")
    with pytest.raises(IsolationUnavailable) as caught:
        start(python=sys.executable)
    assert "another user than root" in str(caught.value.cure)
    assert start().eval("1") == 1  # and another one is not refused for it


def test_host_report() -> None:
    from extsession import host_report

    report = host_report(interpreter())
    assert report.bwrap.reached and report.bubblewrap
    assert report.tier in ("full", "bwrap")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program setuid")
def test_a_bubblewrap_that_is_setuid(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(dir="/opt")
    try:
        os.chmod(folder, 0o755)
        program = bwrap.find()
        assert program is not None
        path = shutil.copy(program.path, folder)
        os.chmod(path, 0o4755)
        monkeypatch.setenv("PATH", folder)
        session = start()
        assert session.eval("__import__('os').getuid()") != 0
        session.files.put("x", b"y")
        assert session.eval("open('x').read()") == "y"
        assert session.walls is not None and "size of the work directory and /dev/shm" in session.walls.missing
        print(session.walls, session.eval("open('/proc/self/uid_map').read()"))
        session.close()
    finally:
        shutil.rmtree(folder)
