"""Commands in forks of a warm interpreter: the same facts as of a process, and what goes cold."""

from __future__ import annotations

import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from extsession.execute import (
    ExecuteError,
    ExecuteRequest,
    InterruptError,
    LocalSubProcessExecute,
    SessionExecute,
    StdinSource,
    TimeoutError,
)

PYTHON = sys.executable

#: what a program may look at, and do, one a line of the report
PROGRAMS = {
    "nothing": "",
    "printed": "print('é', 1)\nimport sys\nprint('err', file=sys.stderr)",
    "names": "print(sorted(globals()), __name__, __spec__ is None, __doc__)",
    "arguments": "import sys\nprint(sys.argv, sys.orig_argv if hasattr(sys, 'orig_argv') else None, repr(sys.path[0]))",
    "streams": "import sys\nfor s in sys.stdin, sys.stdout, sys.stderr, sys.__stdout__: print(s, s.errors, s.isatty(), "
    "s.fileno(), s.line_buffering, s.write_through, type(s.buffer).__name__)",
    "descriptors": "import os\nprint(sorted(map(int, os.listdir('/proc/self/fd')))[:4])",
    "read": "print(repr(input()), repr(__import__('sys').stdin.read()))",
    "end of file": "import sys\nsys.stdin.read()\ninput()",
    "error": "def f(): 1/0\nf()",
    "chained": "try: 1/0\nexcept Exception as e: raise KeyError('x') from e",
    "syntax": "def (",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\nraise ValueError",
    "exit 0": "raise SystemExit",
    "exit 3": "raise SystemExit(3)",
    "exit 256": "import sys\nsys.exit(256 + 7)",
    "exit text": "raise SystemExit('because')",
    "exit object": "raise SystemExit([1])",
    "at exit": "import atexit\natexit.register(print, 'bye')\nraise SystemExit(4)",
    "at exit of an error": "import atexit\natexit.register(print, 'bye')\n1/0",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
    "os._exit": "import os\nos.write(1, b'x' * 70000)\nos._exit(9)",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    "aborted": "import os\nos.abort()",
    "crashed": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "interrupted": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(5)",
    "signals": "import signal\nprint([(s, signal.getsignal(s)) for s in sorted(signal.valid_signals()) "
    "if signal.getsignal(s) not in (signal.SIG_DFL, None)], signal.default_int_handler)",
    "group": "import os\nprint(os.getpgrp() == os.getpid())",
    "environment": "import os\nprint(sorted(k for k in os.environ if k != '_'), os.getcwd())",
    "modules": "import sys\nprint([m for m in sys.modules if 'extsession' in m], [getattr(each, '__name__', type(each).__name__) for each in sys.meta_path], sys.flags.interactive)",
    "faulthandler": "import faulthandler\nprint(faulthandler.is_enabled())",
    "subprocess": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(1)'])\nprint(2)",
    "forked": "import os, sys\nprint(1)\nsys.stdout.flush()\nif not os.fork(): print('child'); sys.exit(5)\nprint(os.wait()[1])",
    "multiprocessing": "import multiprocessing as m\nif __name__ == '__main__':\n"
    "    with m.get_context('fork').Pool(1) as p: print(p.map(abs, [-1]))",
    "flood": "for i in range(20000): print(i)",
    "closed stdout": "import os, sys\nos.close(1)\nprint(1)",
    "exec": "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(7)'])",
    "collector": "import gc\nprint(gc.isenabled())",
    "recursion": "import sys\nprint(sys.getrecursionlimit())",
    "display": "1\nNone\nprint(_ if '_' in dir(__builtins__) else 'no')",
}
RUNS = [(name, mode) for name in PROGRAMS for mode in ("code", "file", "module")]


@pytest.fixture(scope="module")
def warm() -> SessionExecute:
    return SessionExecute()


def requests(tmp_path: Path, source: str, mode: str, *arguments: str) -> ExecuteRequest:
    (tmp_path / "program.py").write_text(source, "utf-8")
    command = {"code": ["-c", source], "file": ["program.py"], "module": ["-m", "program"]}[mode]
    return ExecuteRequest([PYTHON, *command, *arguments], cwd=tmp_path, stdin="first\nand the rest")


@pytest.mark.parametrize(("name", "mode"), RUNS)
def test_it_is_what_a_process_is(warm: SessionExecute, tmp_path: Path, name: str, mode: str) -> None:
    request = requests(tmp_path, PROGRAMS[name], mode, "a", "-b")
    found, expected = (one.run(request) for one in (warm, LocalSubProcessExecute()))
    assert found.metadata["extsession"] == "warm"
    assert (found.exit_code, found.out, found.err) == (expected.exit_code, expected.out, expected.err)


@pytest.mark.parametrize("flags", [("-u",), ("-B",), ("-uB",), ("-u", "-B")])
def test_flags(warm: SessionExecute, tmp_path: Path, flags: tuple[str, ...]) -> None:
    source = "import sys\nprint(sys.stdout.write_through, sys.dont_write_bytecode, sys.stdout.line_buffering)"
    request = ExecuteRequest([PYTHON, *flags, "-c", source, "x"], cwd=tmp_path)
    found, expected = warm(request), LocalSubProcessExecute()(request)
    assert found.metadata["extsession"] == "warm"
    assert found.out == expected.out


def test_a_folder_and_an_archive_with_a_main(warm: SessionExecute, tmp_path: Path) -> None:
    source = "import sys, helper\nprint(__name__, sys.argv, [p for p in sys.path[:1]], helper.__name__)\n1/0"
    (tmp_path / "folder").mkdir()
    for name, text in (("__main__.py", source), ("helper.py", "")):
        (tmp_path / "folder" / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "folder" / "__main__.py", "__main__.py")
        archive.write(tmp_path / "folder" / "helper.py", "helper.py")
    for target in ("folder", "archive.zip"):
        request = ExecuteRequest([PYTHON, target, "a"], cwd=tmp_path)
        found, expected = (one.run(request) for one in (warm, LocalSubProcessExecute()))
        assert found.metadata["extsession"] == "warm"
        assert (found.exit_code, found.out, found.err) == (1, expected.out, expected.err)


@pytest.mark.parametrize("command", [["nothing.py"], ["-m", "no_such_module"], ["-m", "json.no_such"], ["-m", "email"]])
def test_what_is_not_there(warm: SessionExecute, tmp_path: Path, command: list[str]) -> None:
    request = ExecuteRequest([PYTHON, *command], cwd=tmp_path)
    found, expected = (one.run(request) for one in (warm, LocalSubProcessExecute()))
    assert (found.exit_code, found.out, found.err) == (expected.exit_code, expected.out, expected.err)
    assert expected.exit_code != 0


def test_a_script_of_the_environment(warm: SessionExecute, tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text(f"#!{PYTHON}\nimport sys\nprint(sys.argv, __file__)\nsys.exit(3)\n")
    script.chmod(0o755)
    request = ExecuteRequest([script, "a"])
    found, expected = warm(request), LocalSubProcessExecute()(request)
    assert found.metadata["extsession"] == "warm"
    assert (found.exit_code, found.out) == (3, expected.out)


def test_the_environment_and_the_directory_are_the_requests_own(warm: SessionExecute, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ONLY": "é", "TZ": "Asia/Tokyo"}
    source = "import os, time, tempfile\nprint(dict(os.environ), os.getcwd(), time.tzname, tempfile.gettempdir())"
    request = ExecuteRequest([PYTHON, "-c", source], cwd=tmp_path, env=env)
    found, expected = warm(request), LocalSubProcessExecute()(request)
    assert found.metadata["extsession"] == "warm"
    assert found.out == expected.out


def test_a_variable_that_python_reads_at_its_start(warm: SessionExecute, tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text("print('there')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONUTF8": "1"}
    request = ExecuteRequest([PYTHON, "-c", "import there, sys; print(sys.flags.utf8_mode)"], env=env)
    assert warm(request).out == "there\n1\n"
    assert warm(ExecuteRequest([PYTHON, "-c", "import there"])).exit_code == 1


def test_what_goes_cold(warm: SessionExecute, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("#!/bin/sh\n")
    (tmp_path / "other").chmod(0o755)
    for command, why in (
        (["sh", "-c", "true"], "not"),
        ([tmp_path / "other"], "not"),
        ([PYTHON, "-I", "-c", "pass"], "option -I"),
        ([PYTHON, "-X", "utf8", "-c", "pass"], "option -X"),
        ([PYTHON, "-uI", "-c", "pass"], "option -uI"),
        ([PYTHON, "-V"], "option -V"),
        ([PYTHON, "-"], "not given"),
        ([PYTHON], "not given"),
    ):
        request = ExecuteRequest(command)
        assert why in str(warm.why_cold(request))
        status = warm(request)
        assert (status.exit_code, status.metadata["extsession"]) == (0, "process")
    assert "stdin" in str(warm.why_cold(ExecuteRequest([PYTHON, "-c", ""], stdin=StdinSource.USER)))
    assert warm.why_cold(ExecuteRequest([PYTHON, "-c", ""])) is None
    with pytest.raises(ExecuteError):
        warm.why_cold(ExecuteRequest(["no-such-program"]))


def test_a_preload_is_there_and_a_failing_one_is_told_of() -> None:
    source = "import sys; print('email.mime.text' in sys.modules)"
    assert SessionExecute(preload=["email.mime.text"])(ExecuteRequest([PYTHON, "-c", source])).out == "True\n"
    outcome = SessionExecute(preload=["no_such_module"]).run(ExecuteRequest([PYTHON, "-c", source]))
    assert isinstance(outcome.exception, ExecuteError)
    assert "no_such_module" in str(outcome.exception)
    with pytest.raises(TypeError, match="preload takes a list"):
        SessionExecute(preload="pytest")


def test_each_interpreter(each_python: object, tmp_path: Path) -> None:
    python = each_python.path  # type: ignore[attr-defined]
    executor = SessionExecute(python)
    for name in ("names", "arguments", "streams", "error", "exit text", "interrupted", "at exit", "signals", "forked"):
        for mode in ("code", "file", "module"):
            (tmp_path / "program.py").write_text(PROGRAMS[name], "utf-8")
            command = {"code": ["-c", PROGRAMS[name]], "file": ["program.py"], "module": ["-m", "program"]}[mode]
            request = ExecuteRequest([python, *command], cwd=tmp_path)
            found, expected = (one.run(request) for one in (executor, LocalSubProcessExecute()))
            assert found.metadata["extsession"] == "warm"
            assert (found.exit_code, found.out, found.err) == (expected.exit_code, expected.out, expected.err), mode


# stopping

POLITE = "import signal, time, sys\ntry: print('on', flush=True); time.sleep(30)\nexcept KeyboardInterrupt: sys.exit(42)"
CROWD = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "4711"], start_new_session=True)
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    os.execvp("sleep", ["sleep", "4712"])
os.wait()
import signal
for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)
print("on", flush=True)
time.sleep(30)
"""


def _sleepers(*seconds: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] in [["sleep", each] for each in seconds]:
            found.append(process)
    return found


def test_an_interrupt_is_the_commands_own(warm: SessionExecute) -> None:
    with warm.call(ExecuteRequest([PYTHON, "-c", POLITE])) as status:
        while "on" not in status.out:
            status.wait(0.01)
        status.interrupt()
    assert status.exit_code == 42
    assert status.outcome is not None
    assert isinstance(status.outcome.exception, InterruptError)


def test_a_stop_ends_all_that_it_has_started(warm: SessionExecute) -> None:
    with pytest.raises(TimeoutError) as caught:
        warm(ExecuteRequest([PYTHON, "-c", CROWD], timeout=2.0))
    assert caught.value.status is not None
    assert (caught.value.status.exit_code, caught.value.status.out) == (-9, "on\n")
    assert [step.value for step in caught.value.status.steps] == ["interrupt", "terminate", "kill"]
    assert _sleepers("4711", "4712") == []


def test_what_it_leaves_at_its_end_is_left_alone(warm: SessionExecute) -> None:
    """Also while other commands of the same template begin and end."""
    leave = "import subprocess\nprint(subprocess.Popen(['sleep', '4713'], start_new_session=True).pid)"
    left = psutil.Process(int(warm(ExecuteRequest([PYTHON, "-c", leave])).out))
    try:
        for _ in range(3):
            assert warm(ExecuteRequest([PYTHON, "-c", "pass"])).success
            with pytest.raises(TimeoutError):
                warm(ExecuteRequest([PYTHON, "-c", CROWD], timeout=0.5))
        assert left.is_running()
        assert left.status() != psutil.STATUS_ZOMBIE
    finally:
        left.kill()
        deadline = time.monotonic() + 10
        while left.is_running() and left.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)


def test_a_template_that_is_killed_is_replaced(warm: SessionExecute) -> None:
    from extsession import templates

    assert warm(ExecuteRequest([PYTHON, "-c", "pass"])).metadata["extsession"] == "warm"
    for template in templates():
        os.kill(template.pid, signal.SIGKILL)
    status = warm(ExecuteRequest([PYTHON, "-c", "print(1)"]))
    assert (status.out, status.exit_code) == ("1\n", 0)


def test_a_template_that_is_stopped_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is what it makes when it goes on: nobody wants it any more."""
    from extsession import templates

    monkeypatch.setattr("extsession._launch.warm_command._PATIENCE", 0.3)
    executor = SessionExecute(preload=["email.message"])
    request = ExecuteRequest([PYTHON, "-c", "print(1)"])
    assert executor(request).metadata["extsession"] == "warm"
    (template,) = [each for each in templates() if each.preload == ("email.message",)]
    os.kill(template.pid, signal.SIGSTOP)
    try:
        status = executor(request)
        assert (status.out, status.metadata["extsession"]) == ("1\n", "process")
    finally:
        os.kill(template.pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_its_warden_is_killed_or_stopped(number: int) -> None:
    """The kernel ends a command whose warden is killed; one that is stopped is woken when the command is stopped."""
    executor = SessionExecute(preload=["email.charset"])
    with executor.call(ExecuteRequest([PYTHON, "-c", "import time; print('on', flush=True); time.sleep(30)"])) as status:
        while "on" not in status.out:
            status.wait(0.01)
        warden = psutil.Process(status.metadata["pid"]).parent()
        assert warden is not None
        os.kill(warden.pid, number)
        if number == signal.SIGKILL:
            assert status.wait(10) == -9
    assert status.exit_code in (-9, -2, 1)


def test_nothing_of_it_outlives_a_controller_that_is_killed() -> None:
    source = f"""
import sys
from extsession.execute import *
with SessionExecute().call(ExecuteRequest([sys.executable, "-c", {CROWD!r}])) as status:
    while "on" not in status.out: status.wait(0.01)
    print(status.metadata, flush=True)
    status.wait()
"""
    with LocalSubProcessExecute().call(ExecuteRequest([PYTHON, "-c", source])) as status:
        while "pid" not in status.out:
            assert status.wait(0.01) is None, status.err
        assert "warm" in status.out
        os.kill(status.metadata["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 2
        while (left := _sleepers("4711", "4712")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []
