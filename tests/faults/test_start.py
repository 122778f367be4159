"""Interpreters that do not become a session: each gives a clear error in bounded time, and leaves nothing."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, InterpreterError, LaunchError, SessionDied
from extsession._launch.local import LocalProcess

#: the second thing an interpreter is asked, by what only stage 0 says; the first is the probe
ONLY_STAGE0 = 'case "$*" in *_extsession._worker*) {0} ;; *) exec PYTHON "$@" ;; esac\n'

Script = Callable[[str], str]


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 8


def works(session: ExtSession) -> bool:
    return session.execute("print('ok')").wait(10).stdout == "ok\n"


# killed while it starts


def test_killed_before_it_has_read_anything(meddler: Any) -> None:
    with pytest.raises(LaunchError, match="SIGKILL") as caught:
        ExtSession(launcher=meddler(lambda process: process.warden.popen.kill()))
    assert caught.value.python == sys.executable
    assert caught.value.command is not None
    assert caught.value.command[0] == sys.executable


def test_killed_at_stage_0(meddler: Any, first_sender: Any, watch: Any) -> None:
    """It has read a part of the first modules."""

    def kill(process: LocalProcess) -> None:
        first_sender(process, 1000)
        process.warden.popen.kill()

    with pytest.raises(LaunchError, match="SIGKILL"):
        ExtSession(launcher=meddler(kill))


def test_stage_0_whose_bytes_end(meddler: Any, first_sender: Any) -> None:
    import socket

    def end(process: LocalProcess) -> None:
        first_sender(process, 1000)
        process.first = b""
        process.channel.shutdown(socket.SHUT_WR)

    with pytest.raises(LaunchError, match="exit status 71"):
        ExtSession(launcher=meddler(end))


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def start_and_die(launcher: Any) -> str:
    """A session that is killed about when it says Ready: the text of the error, of one kind or the other."""
    with pytest.raises((LaunchError, SessionDied)) as caught:
        with ExtSession(launcher=launcher) as session:
            end = time.monotonic() + 5
            while session.is_alive and time.monotonic() < end:
                time.sleep(0.002)
            session.eval("1")
    return str(caught.value)


def test_the_warden_killed_before_ready(meddler: Any, first_sender: Any, watch: Any) -> None:
    sessions: list[int] = []

    def kill(process: LocalProcess) -> None:
        first_sender(process)
        assert watch.until(lambda: children(process.warden.popen.pid))
        sessions.extend(children(process.warden.popen.pid))
        process.warden.popen.kill()

    start_and_die(meddler(kill))
    assert watch.gone(sessions)


def test_the_session_killed_before_ready(meddler: Any, first_sender: Any, watch: Any) -> None:
    def kill(process: LocalProcess) -> None:
        first_sender(process)
        assert watch.until(lambda: children(process.warden.popen.pid))
        os.kill(children(process.warden.popen.pid)[0], signal.SIGKILL)

    assert "SIGKILL" in start_and_die(meddler(kill))


def test_a_start_that_is_stopped(meddler: Any) -> None:
    start = time.monotonic()
    with pytest.raises(LaunchError, match="in time"):
        ExtSession(launcher=meddler(lambda process: process.warden.popen.send_signal(signal.SIGSTOP)), start_timeout=0.5)
    assert time.monotonic() - start < 3


def test_garbage_for_ready(meddler: Any) -> None:
    """Bytes on the channel that the worker did not send."""

    def replace(process: LocalProcess) -> None:
        import socket

        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        os.dup2(ours.fileno(), process.channel.fileno(), False)
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        ours.close()
        theirs.close()

    from extsession.errors import RemoteProtocolError

    with pytest.raises(RemoteProtocolError, match="no frame"):
        ExtSession(launcher=meddler(replace))


# interpreters


def test_one_that_prints_garbage_first_and_then_works(script: Script) -> None:
    path = script("echo garbage; printf 'no line end'; echo trouble >&2; exec PYTHON \"$@\"\n")
    with ExtSession(path) as session:
        assert works(session)
        assert session.exit_output == ("garbage\nno line end", "trouble\n")


def test_one_that_is_a_script_which_stays(script: Script, watch: Any) -> None:
    """Its shell holds all the descriptors as long as it lives."""
    with ExtSession(script('PYTHON "$@"\nexit 5\n')) as session:
        assert works(session)
        pid = session.pid
        assert session.exit(3) == 3
    assert watch.gone([pid])


def test_one_that_exits_at_once(script: Script) -> None:
    path = script(ONLY_STAGE0.format("echo out; echo sorry >&2; exit 3"))
    with pytest.raises(LaunchError, match="exit status 3") as caught:
        ExtSession(path)
    assert caught.value.python == path
    assert caught.value.stderr is not None
    assert "sorry" in caught.value.stderr
    assert path in str(caught.value)
    assert not isinstance(caught.value, InterpreterError)


def test_one_that_hangs_after_the_probe(script: Script, watch: Any, tmp_path: Path) -> None:
    path = script(ONLY_STAGE0.format(f"sleep 1000 & echo $! $$ > {tmp_path}/pids; echo hanging >&2; wait; exit 1"))
    start = time.monotonic()
    with pytest.raises(LaunchError, match="in time") as caught:
        ExtSession(path, start_timeout=1.0)
    assert 0.9 < time.monotonic() - start < 4
    assert caught.value.stderr == "hanging\n"
    assert watch.gone(map(int, (tmp_path / "pids").read_text().split()))


@pytest.mark.parametrize("name", ["true", "false", "cat", "echo", "yes"])
def test_programs_that_are_no_python(name: str) -> None:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine")
    with pytest.raises(InterpreterError) as caught:
        ExtSession(path, start_timeout=3.0)
    assert path in str(caught.value)
    assert caught.value.python == path


def test_a_script_that_is_no_python(script: Script) -> None:
    path = script("echo I am a shell; exit 0\n")
    with pytest.raises(InterpreterError, match="python-like"):
        ExtSession(path)


def test_a_program_that_hangs_is_bounded_by_start_timeout(script: Script, watch: Any, tmp_path: Path) -> None:
    path = script(f"echo $$ > {tmp_path}/pid; sleep 1000\n")
    start = time.monotonic()
    with pytest.raises(InterpreterError, match="python-like"):
        ExtSession(path, start_timeout=1.0)
    assert time.monotonic() - start < 4
    assert watch.gone([int((tmp_path / "pid").read_text())])


def _old_pythons() -> list[str]:
    found = []
    for pattern in ("~/.pyenv/versions/2.7*/bin/python", "~/.pyenv/versions/3.[67].*/bin/python"):
        found += glob.glob(os.path.expanduser(pattern))
    return found + [path for name in ("python2", "python3.6", "python3.7") if (path := shutil.which(name))]


def test_pythons_that_are_too_old() -> None:
    found = [path for path in _old_pythons() if not subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL)]
    if not found:
        pytest.skip("no Python before 3.8 on this machine")
    for path in found:
        with pytest.raises(InterpreterError, match=r"3\.8") as caught:
            ExtSession(path)
        assert path in str(caught.value)


@pytest.mark.parametrize("python", ["/nowhere/python", "no-such-command", "3.99", "/etc/passwd"])
def test_what_is_no_program_at_all(python: str) -> None:
    with pytest.raises(InterpreterError) as caught:
        ExtSession(python)
    assert python in str(caught.value)


# surroundings


def test_a_cwd_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no-such-folder") as caught:
        ExtSession(cwd=tmp_path / "no-such-folder")
    assert caught.value.python == sys.executable


def test_a_cwd_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="file"):
        ExtSession(cwd=tmp_path / "file")


def test_a_current_directory_that_is_gone(tmp_path: Path) -> None:
    """Of the caller: whatever becomes of it, it is no hang and no stray error."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import extsession\n"
        f"os.makedirs({str(tmp_path / 'gone')!r}); os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd())\n"
        "with extsession.ExtSession() as s: print(s.eval('1 + 1'))\n"
    )
    root = Path(__file__).parent.parent.parent
    result = subprocess.run(
        [sys.executable, "-c", code, os.fspath(root)], capture_output=True, text=True, timeout=20, cwd=root
    )
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_an_env_without_path() -> None:
    with ExtSession(env={}) as session:
        assert works(session)
        assert session.eval("'PATH' in __import__('os').environ") is False


def test_an_env_that_no_process_can_have() -> None:
    with pytest.raises(LaunchError, match="null"):
        ExtSession(env={"A": "\0"})


@pytest.fixture
def sitecustomize(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    def make(code: str) -> dict[str, str]:
        (tmp_path / "sitecustomize.py").write_text(code)
        return {**os.environ, "PYTHONPATH": os.fspath(tmp_path)}

    return make


def test_a_sitecustomize_that_raises(sitecustomize: Any) -> None:
    with ExtSession(env=sitecustomize("raise RuntimeError('not today')")) as session:
        assert works(session)
        assert "not today" in session.exit_output[1]


def test_a_sitecustomize_that_prints(sitecustomize: Any) -> None:
    code = "import sys; print('hello'); print('there', file=sys.stderr); print('unflushed', end='')"
    with ExtSession(env=sitecustomize(code)) as session:
        assert works(session)
        assert session.exit_output == ("hello\nunflushed", "there\n")


def test_a_preload_that_prints_in_a_spawned_session(tmp_path: Path) -> None:
    """What was printed before Ready is nobody's output, and not the first call's."""
    (tmp_path / "talks.py").write_text("print('hello')")
    for _ in range(5):
        with ExtSession(cwd=tmp_path, preload=["talks"], warm=False) as session:
            call = session.execute("print('mine')").wait(5)
            assert (call.stdout, session.exit_output) == ("mine\n", ("hello\n", ""))


def test_an_interpreter_without_waitid(sitecustomize: Any) -> None:
    """As those of macOS are, before 3.13."""
    with ExtSession(env=sitecustomize("import os; del os.waitid"), warm=False) as session:
        assert works(session)
        assert session.execute("import subprocess; subprocess.run(['echo', 'sub'])").wait(10).stdout == "sub\n"
        assert works(session)
        assert session.exit(3) == 3
    with ExtSession(env=sitecustomize("import os; del os.waitid"), warm=False) as session:
        call = session.execute("import os; os.kill(os.getpid(), 9)").wait(10)
        assert call.completion.signal == "SIGKILL"


def test_a_sitecustomize_that_exits(sitecustomize: Any) -> None:
    env = sitecustomize("import os, sys; print('bye', file=sys.stderr, flush=True); os._exit(9)")
    with pytest.raises(LaunchError, match="exit status 9") as caught:
        ExtSession(env=env)
    assert caught.value.stderr == "bye\n"


def test_a_sitecustomize_that_crashes(sitecustomize: Any) -> None:
    with pytest.raises(LaunchError, match="SIGSEGV"):
        ExtSession(env=sitecustomize("import os; os.kill(os.getpid(), 11)"))


def test_a_sitecustomize_that_leaves_threads_and_descriptors(sitecustomize: Any) -> None:
    code = "import threading, time, os; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(); os.pipe()"
    with ExtSession(env=sitecustomize(code)) as session:
        assert works(session)


def test_a_sitecustomize_that_closes_everything(sitecustomize: Any) -> None:
    with pytest.raises(LaunchError):
        ExtSession(env=sitecustomize("import os; os.closerange(0, 5000)"), start_timeout=3.0)


def test_a_python_that_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="exit status 1") as caught:
        ExtSession(env={**os.environ, "PYTHONHOME": os.fspath(tmp_path)})
    assert caught.value.stderr is not None
    assert "encodings" in caught.value.stderr


@pytest.mark.parametrize("then", ["", "os._exit(4)"])
def test_a_flood_on_stderr_at_the_start(sitecustomize: Any, then: str) -> None:
    env = sitecustomize(f"import os, sys; sys.stderr.write('x' * 5_000_000); sys.stderr.flush(); {then}")
    if then:
        with pytest.raises(LaunchError, match="exit status 4") as caught:
            ExtSession(env=env)
        assert caught.value.stderr is not None
        assert 0 < len(caught.value.stderr) < 100_000
        assert len(str(caught.value)) < 100_000
    else:
        with ExtSession(env=env, output_limit=1_000_000) as session:
            assert works(session)
            assert len(session.exit_output[1]) == 1_000_000


def test_few_descriptors_in_the_child(script: Script) -> None:
    """The high places for ours do not exist there."""
    with ExtSession(script('ulimit -n 24; exec PYTHON "$@"\n')) as session:
        assert works(session)
        assert session.execute("import subprocess; subprocess.run(['echo', 'sub'])").wait(10).stdout == "sub\n"
        assert works(session)
        results = session.execute("files = []\nwhile True: files.append(open('/dev/null'))").wait(10)
        assert isinstance(results.error, OSError)
        results = session.execute("del files; print('ok')").wait(10)
        assert results.stdout == "ok\n"
        assert works(session)


def test_no_descriptors_in_the_controller(watch: Any) -> None:
    """The system refuses: a LaunchError, nothing is left of the half that was there, and later it works again."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with ExtSession() as session:
        used = len(os.listdir("/proc/self/fd"))
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, before[1]))
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            for free in range(9):
                for fd in taken[:free]:
                    os.close(fd)
                try:
                    ExtSession().close()
                except LaunchError as error:
                    assert "Too many open files" in str(error)
                else:
                    assert free >= 5
                for index in range(free):
                    taken[index] = os.open("/dev/null", os.O_RDONLY)
            assert works(session)
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert len(os.listdir("/proc/self/fd")) <= used + 1
    with ExtSession() as session:
        assert works(session)
