"""Nothing is left, in whatever way a run ends, and the terminal is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import time
from typing import Any

import pexpect
import pytest

#: starts a process in its own group and one in a session of its own, says so, and waits
TREE = """
    import os, signal, subprocess, sys, time
    if "stubborn" in sys.argv:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    nap = [sys.executable, "-c", "import time; time.sleep(600)"]
    subprocess.Popen(nap)
    subprocess.Popen(nap, start_new_session=True)
    open("ready-" + os.environ["TOX_ENV_NAME"], "w").close()
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        if "polite" in sys.argv:
            sys.exit(2)
        raise
"""
BOTH = ["cold", "warm"]


def _make(project: Any, argument: str = "", names: str = "a", more: str = "") -> None:
    project.write(TREE, "tree.py")
    project.ini(f"{more}\ncommands = python tree.py {argument}", names)
    assert project.tox("run", "--notest").exit_code == 0


def _wait_for(project: Any, names: str = "a") -> None:
    ready = [project.folder / f"ready-{name}" for name in names]
    project.wait_for(lambda: all(path.exists() for path in ready), "the commands do not start")
    assert len(project.processes()) > 3 * len(ready)


class _Terminal:
    """tox in a terminal. stdin: whether that is its stdin as well."""

    def __init__(self, project: Any, *arguments: str, stdin: bool = True) -> None:
        command = project.command(*arguments)
        if not stdin:
            command = ["/bin/sh", "-c", 'exec "$@" </dev/null', "sh", *command]
        env = {**project.env, "TERM": "xterm"}
        self._project = project
        self._child = pexpect.spawn(command[0], command[1:], cwd=str(project.folder), env=env, timeout=30)
        self._before = termios.tcgetattr(self._child.child_fd)

    def interrupt(self) -> None:
        self._child.send("\x03")

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it has shown."""
        self._child.expect(pexpect.EOF)
        assert termios.tcgetattr(self._child.child_fd)[:4] == self._before[:4]
        shown = self._child.before.decode()
        self._child.close()
        self._project.nothing_left()
        return self._child.exitstatus, shown


@pytest.mark.parametrize(
    "way, stdin, manner", [("cold", True, ""), ("cold", True, "polite"), ("cold", False, "polite"), ("warm", False, "")]
)
def test_ctrl_c(project: Any, way: str, stdin: bool, manner: str) -> None:
    """stdin: it shares the terminal with tox, and gets the Ctrl-C from there as well."""
    _make(project, manner)
    terminal = _Terminal(project, "run", *project.ways[way], stdin=stdin)
    _wait_for(project)
    terminal.interrupt()
    code, shown = terminal.end()
    assert code != 0, shown
    assert "KeyboardInterrupt - teardown started" in shown
    if not stdin:
        assert "interrupt tox environment: a" in shown
        assert "send signal SIGINT(2)" in shown


@pytest.mark.parametrize("way, stdin", [("cold", True), ("warm", False)])
def test_ctrl_c_twice_for_one_that_ignores_it(project: Any, way: str, stdin: bool) -> None:
    _make(project, "stubborn")
    terminal = _Terminal(project, "run", *project.ways[way], stdin=stdin)
    _wait_for(project)
    terminal.interrupt()
    terminal.interrupt()
    code, shown = terminal.end()
    assert code != 0
    for text in ("SIGINT(2)", "SIGTERM(15)", "SIGKILL(9)", "interrupt finished with success"):
        assert text in shown


@pytest.mark.parametrize("times, options", [(1, []), (2, ["--parallel-no-spinner"])])
def test_ctrl_c_in_parallel(project: Any, times: int, options: list[str]) -> None:
    _make(project, "stubborn" if times == 2 else "", "a, b")
    terminal = _Terminal(project, "run-parallel", "-p", "2", *options, "--extsession")
    _wait_for(project, "ab")
    for _ in range(times):
        terminal.interrupt()
    code, shown = terminal.end()
    assert code != 0
    assert shown.count("\x1b[?25l") <= shown.count("\x1b[?25h")  # the spinner has given the cursor back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("way", BOTH)
def test_a_signal_for_tox(project: Any, way: str, number: signal.Signals) -> None:
    _make(project)
    with subprocess.Popen(
        project.command("run", *project.ways[way]),
        cwd=project.folder,
        env=project.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as tox:
        _wait_for(project)
        tox.send_signal(number)
        assert tox.wait(30) != 0
    project.nothing_left(2.0 if number is signal.SIGKILL else 10.0)


@pytest.mark.parametrize("way", BOTH)
def test_a_command_that_takes_too_long(project: Any, way: str) -> None:
    _make(project, "stubborn", more="extsession_timeout = 2\ninterrupt_timeout = 0.1\nterminate_timeout = 0.1")
    began = time.monotonic()
    done = project.tox("run", *project.ways[way])
    assert time.monotonic() - began < 20
    assert "timed out after 2s" in done.out
    assert "exit -9" in done.out
    assert done.exit_code == 247  # -9
    project.nothing_left()


@pytest.mark.parametrize("way", BOTH)
def test_one_that_makes_the_best_of_it_has_not_succeeded(project: Any, way: str) -> None:
    project.write("import signal, sys\nsignal.signal(2, lambda *_: sys.exit(0))\nprint('there')\nsignal.pause()\n", "nap.py")
    project.ini("extsession_timeout = 1\ncommands =\n  python nap.py\n  python -c \"print('never')\"")
    done = project.tox("run", *project.ways[way])
    assert done.exit_code == 1
    assert "there" in done.out and "timed out after 1s" in done.out
    assert "\nnever" not in done.out


@pytest.mark.parametrize("way", BOTH)
def test_one_that_takes_too_much_memory(project: Any, way: str) -> None:
    source = "import time; print('begun', flush=True); held = bytearray(300 * 2**20); held[::4096] = b'x' * 76800; time.sleep(60)"
    project.ini(f'extsession_memory = 150M\ncommands = python -c "{source}"')
    done = project.tox("run", *project.ways[way])
    assert done.exit_code == 247  # -9
    assert "begun" in done.out
    assert "bytes of memory, where 157286400 are allowed" in done.out
    project.nothing_left()


def test_a_process_left_on_purpose_is_left_alone(project: Any) -> None:
    project.write(
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n", "leave.py"
    )
    project.ini("commands = python leave.py")
    for way in BOTH:
        assert project.tox("run", *project.ways[way]).exit_code == 0
        left = project.processes()
        assert len(left) == 1
        os.kill(left[0].pid, signal.SIGKILL)
        project.nothing_left()


def test_a_reader_that_goes_away(project: Any) -> None:
    """As in `tox | head`: what cannot be shown holds nothing up."""
    project.write("for n in range(20000):\n    print('line', n)\nopen('done', 'w').close()\n", "talk.py")
    project.ini("commands = python talk.py")
    assert project.tox("run", "--notest").exit_code == 0
    with subprocess.Popen(
        project.command("run", "--extsession"),
        cwd=project.folder,
        env=project.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as tox:
        assert tox.stdout is not None
        tox.stdout.readline()
        tox.stdout.close()
        tox.wait(30)
    assert (project.folder / "done").exists()
    project.nothing_left()


def test_the_tests_see_what_is_left(project: Any) -> None:
    env = {**os.environ, "EXTSESSION_TOX_TEST": project.mark}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env) as process:
        project.wait_for(project.processes, "the check does not find it")
        with pytest.raises(AssertionError, match="left"):
            project.nothing_left(0.1)
        process.kill()
