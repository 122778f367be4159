"""tox with the plugin and without: the same exit codes, output, reports and logs."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import pytest

#: in tox's report
SECONDS = {"elapsed", "duration", "start", "end"}

ALL = """
    [testenv:all]
    ignore_errors = true
    change_dir = below
    set_env =
        GREETING = hello there
    allowlist_externals =
        echo
        sh
        missing-program
    commands_pre =
        python -c "print('before')"
    commands =
        python -c "import sys; print('to stdout'); print('to stderr', file=sys.stderr)"
        python -c "raise SystemExit(3)"
        python -c "raise SystemExit('a text')"
        python -c "raise ValueError('it failed')"
        - python -c "raise SystemExit(4)"
        ! python -c "raise SystemExit(5)"
        ! python -c "print('unexpected success')"
        missing-program --option
        sh -c "kill -9 $$"
        python script.py {posargs:none}
        python script.py "{env_tmp_dir}" "{env_name}"
        echo one  two
        sh -c "printf 'gr\\\\303\\\\274n, no newline'"
        python -m mod a b
        python -c "import os; os.write(1, b'last words'); os._exit(7)"
    commands_post =
        python -c "import os; print('after', os.environ['GREETING'], os.getcwd())"
    [testenv:denied]
    commands =
        python -c "print('first')"
        ls
        python -c "print('never')"
    [testenv:retried]
    commands_retry = 2
    commands = python -c "print('try'); raise SystemExit(6)"
    [testenv:stops]
    commands =
        python -c "raise SystemExit(8)"
        python -c "print('never')"
"""


def _files(project: Any) -> None:
    project.write("import os, sys\nprint(sys.argv, sys.path[0], __file__, os.environ['GREETING'])\n", "below/script.py")
    project.write("import sys\nprint(sys.argv, __name__, sys.path[0])\n", "below/mod.py")


def _logs(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted((folder / ".tox").glob("*/log/*.log")):
        text = path.read_text("utf-8", "backslashreplace")
        found[str(path.relative_to(folder))] = re.sub(r"metadata (pid: \d+|extsession: \w+)\n", "", text)
    return found


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_seconds(each) for name, each in value.items() if name not in SECONDS}
    if isinstance(value, list):
        return [_without_seconds(each) for each in value]
    return value


def _run(project: Any, way: str, *arguments: str) -> tuple[Any, dict[str, str], Any]:
    for path in (project.folder / ".tox").glob("*/log/*.log"):
        path.unlink()
    done = project.tox("run", *project.ways[way], "--result-json", "result.json", *arguments)
    return done, _logs(project.folder), _without_seconds(project.json())


def _differences(one: Any, other: Any) -> list[str]:
    return [
        line
        for mine, theirs in zip(one.shown, other.shown, strict=True)
        for line in difflib.unified_diff(mine.splitlines(), theirs.splitlines(), lineterm="", n=0)
    ]


def test_the_same_comes_of_it(project: Any) -> None:
    project.ini(ALL, "all, denied, retried, stops")
    _files(project)
    _run(project, "tox", "--notest")  # the environments are there for all
    options = ("--hashseed", "12", "--", "x y", "*")
    theirs, their_logs, their_report = _run(project, "tox", *options)
    assert theirs.exit_code != 0
    assert "to stdout" in theirs.out
    assert "gr\u00fcn, no newline" in theirs.out
    assert "last words" in theirs.out
    assert "never" not in theirs.out.replace("print('never')", "")
    for way in ("cold", "warm"):
        ours, logs, report = _run(project, way, *options)
        assert ours.exit_code == theirs.exit_code
        assert _differences(theirs, ours) == [], way
        assert logs == their_logs, way
        assert report == their_report, way
    assert project.how("all", "commands[0]") == "warm"
    assert project.how("all", "commands[11]") == "process"  # echo


def test_output_that_is_no_text(project: Any) -> None:
    project.ini("""
        allowlist_externals = sh
        commands = sh -c "printf 'gr\\\\374n \\\\377\\\\376'; exit 3"
    """)
    theirs = project.tox("run")
    assert "gr\\xfcn \\xff\\xfe" in theirs.out
    if "internal error" in theirs.out:
        pytest.skip("this tox has an internal error of its own where output is no UTF-8")
    for way in ("cold", "warm"):
        ours = project.tox("run", *project.ways[way])
        assert (ours.exit_code, _said(ours)) == (3, _said(theirs))


def _said(run: Any) -> list[str]:
    """Without the first line, which tells of the environment that is made."""
    return [line for line in run.shown[0].splitlines() if "seconds" not in line]


def test_what_it_logs_is_the_same(project: Any) -> None:
    project.ini(ALL, "all, denied")
    _files(project)
    _run(project, "tox", "--notest")
    theirs, cold = (_run(project, way, "-v", "--hashseed", "12")[0] for way in ("tox", "cold"))
    assert "exit 3 (" in theirs.out
    assert _differences(theirs, cold) == []


def test_much_output(project: Any) -> None:
    project.ini("""
        commands =
            python -c "import sys; [sys.stdout.write('x' * 9999 + '\\n') for _ in range(10000)]"
    """)
    for way in ("cold", "warm"):
        done = project.tox("run", *project.ways[way])
        assert done.exit_code == 0
        assert done.out.count("x" * 9999 + "\n") == 10000, way


@pytest.mark.parametrize("way", ["cold", "warm"])
def test_in_parallel(project: Any, way: str) -> None:
    project.ini(
        """
        parallel_show_output = true
        commands =
            python -c "print('one of {env_name}')"
            python -c "print('two of {env_name}')"
        """,
        "a, b, c",
    )
    done = project.tox("run-parallel", "-p", "2", *project.ways[way])
    assert done.exit_code == 0
    lines = [line for line in done.out.splitlines() if re.match("(one|two) of ", line)]
    assert sorted(lines) == [f"{count} of {name}" for count in ("one", "two") for name in "abc"]
    for name in "abc":
        assert lines.index(f"one of {name}") + 1 == lines.index(f"two of {name}")
        assert project.how(name) == {"cold": "process", "warm": "warm"}[way]
    project.nothing_left()
