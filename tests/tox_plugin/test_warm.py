"""Commands in forks of a warm interpreter, and those that are not."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

SITE = Path(pytest.__file__).parent.parent

WARM = """
    set_env = GREETING = hello
    extsession_preload = decimal
    commands =
        python -c "import sys; print('preloaded', 'decimal' in sys.modules)"
        python -u -B -c "import sys; print(sys.dont_write_bytecode, sys.argv)" one
        python script.py a "b c"
        hello there
        python -m pytool x
        python -c "import atexit; atexit.register(print, 'at exit'); raise SystemExit('its last words')"
    ignore_errors = true
"""
COLD = """
    set_env = GREETING = hello
    allowlist_externals = *
    commands =
        python -I -c "print('isolated')"
        python -X dev -c "print('developing')"
        python -V
        echo not Python
        {base} -c "print('another Python')"
        sh hello.sh
    ignore_errors = true
"""


def _files(project: Any) -> None:
    project.write("import os, sys\nprint(__name__, sys.argv, sys.path[0], os.environ['GREETING'])\n", "script.py")
    project.write("import sys\nprint(__name__, sys.argv, sys.path[0], __spec__.name)\n", "pytool.py")
    project.write("#!/bin/sh\necho from a shell\n", "hello.sh")


def _console_script(project: Any, name: str = "hello") -> None:
    """As pip makes one."""
    folder = project.folder / ".tox" / "a" / "bin"
    path = folder / name
    path.write_text(f"#!{folder / 'python'}\nimport sys\nprint('console', sys.argv, sys.path[0])\nsys.exit(3)\n")
    path.chmod(0o755)


def _said(text: str) -> list[str]:
    return [line for line in text.splitlines() if "seconds" not in line and "preloaded" not in line]


def test_what_is_warm_comes_out_the_same(project: Any) -> None:
    _files(project)
    project.ini(WARM)
    assert project.tox("run", "--notest").exit_code == 0
    _console_script(project)
    theirs, ours = project.tox("run", "--extsession"), project.tox("run", "--extsession-warm")
    assert "preloaded False" in theirs.out
    assert "preloaded True" in ours.out
    assert _said(ours.out) == _said(theirs.out)
    assert ours.err == theirs.err
    assert ours.exit_code == theirs.exit_code == 3
    for number in range(6):
        assert project.how("a", f"commands[{number}]") == "warm", number
    assert "at exit" in ours.out and "its last words" in ours.err
    project.nothing_left()


def test_what_is_cold(project: Any) -> None:
    _files(project)
    project.ini(COLD.replace("{base}", os.path.realpath(sys.executable)))
    done = project.tox("run", "-v", "--extsession-warm")
    assert done.exit_code == 0
    for number in range(6):
        assert project.how("a", f"commands[{number}]") == "process", number
    assert done.out.count("run as an ordinary process") == 6


def test_the_terminals_stdin(project: Any) -> None:
    """A command that may read from the terminal is no fork, unless the configuration says that none does."""
    for line, how, read in (("", "process", "an answer"), ("extsession_stdin = false", "warm", "")):
        project.ini(f"{line}\ncommands = python -c \"import sys; print('it has read', [sys.stdin.readline()])\"")
        command = project.command("run", "--extsession-warm")
        child = pexpect.spawn(command[0], command[1:], cwd=str(project.folder), env=project.env, timeout=30)
        child.sendline("an answer")
        child.expect(pexpect.EOF)
        shown = child.before.decode()
        child.close()
        assert child.exitstatus == 0, shown
        assert f"it has read ['{read}" in shown
        assert project.how() == how


def test_output_that_is_not_captured(project: Any) -> None:
    project.ini("commands = python -c \"print('never')\"")
    done = project.tox("exec", "--extsession-warm", "-e", "a", "--", "python", "-c", "import sys; print('direct'); sys.exit(4)")
    assert done.exit_code == 4
    assert "direct\n" in done.out
    project.nothing_left()


def test_a_preload_that_is_not_there(project: Any) -> None:
    project.ini(
        "extsession_preload = missing_module\ncommands =\n  python -c \"print('one')\"\n  python -c \"print('two')\""
    )
    done = project.tox("run", "--extsession-warm")
    assert done.exit_code == 0
    assert "one\n" in done.out and "two\n" in done.out
    assert done.out.count("extsession_warm: commands are run as ordinary processes") == 1
    assert "missing_module" in done.out
    assert project.how("a", "commands[1]") == "process"


def test_what_is_installed_meanwhile_is_there(project: Any) -> None:
    """The warm interpreter is another one after something was installed, so that it knows what starts with it."""
    source = (
        "import os, site, sys; folder = site.getsitepackages()[0]; "
        "open(os.path.join(folder, 'new.pth'), 'w').write('import sys; sys.installed = True')"
    )
    project.ini(f"""
        commands =
            python -c "import sys; print('before', hasattr(sys, 'installed'))"
            python -c "{source}"
            python -c "import sys; print('after', hasattr(sys, 'installed'))"
    """)
    done = project.tox("run", "--extsession-warm")
    assert "before False\n" in done.out and "after True\n" in done.out
    assert project.how("a", "commands[2]") == "warm"


def test_pytest(project: Any) -> None:
    project.write("import pytest\n\n@pytest.mark.parametrize('n', range(20))\ndef test(n):\n    assert n != 7\n", "test_it.py")
    project.ini(
        f"""
        set_env =
            PYTHONPATH = {SITE}
            PYTEST_DISABLE_PLUGIN_AUTOLOAD = 1
        extsession_preload = pytest
        commands = python -m pytest -q -p no:cacheprovider -p no:trio -c {os.devnull} --rootdir . test_it.py
        """
    )
    for way, how in (("cold", "process"), ("warm", "warm")):
        done = project.tox("run", *project.ways[way])
        assert done.exit_code == 1
        assert "1 failed, 19 passed" in done.out
        assert project.how() == how
