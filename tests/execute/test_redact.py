"""Command lines for people and logs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extsession.execute import ExecuteRequest, shell_cmd

WORDS = "access api auth client cred key passwd password private pwd secret token".split()
ARGUMENTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1, max_size=5)


@given(ARGUMENTS)
def test_a_shell_would_split_it_again(cmd: list[str]) -> None:
    assert shlex.split(ExecuteRequest(cmd).shell_cmd) == cmd
    assert shell_cmd(cmd) == ExecuteRequest(cmd).shell_cmd


@given(ARGUMENTS)
def test_what_is_masked_keeps_its_length(cmd: list[str]) -> None:
    redacted = shlex.split(ExecuteRequest(cmd).shell_cmd_redacted)
    assert [len(each) for each in redacted] == [len(each) for each in cmd]
    for shown, given_ in zip(redacted, cmd, strict=True):
        assert all(a == b or a == "*" for a, b in zip(shown, given_, strict=True))


def test_a_program_below_the_directory(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tool"
    assert ExecuteRequest([program, program], tmp_path).shell_cmd == f"bin/tool {program}"
    assert ExecuteRequest([program], tmp_path / "other").shell_cmd == str(program)
    assert ExecuteRequest([program]).shell_cmd == str(program)
    assert ExecuteRequest([tmp_path], tmp_path).shell_cmd == str(tmp_path)


@pytest.mark.parametrize("word", WORDS)
def test_values_of_flags_with_a_telling_name(word: str) -> None:
    for name in (f"--{word}", f"--my-{word.upper()}-x", f"-{word}", f"--{word.capitalize()}s"):
        assert ExecuteRequest(["x", f"{name}=abc=d e"]).shell_cmd_redacted == f"x '{name}=*******'"


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("https://user:pw@host/path", "https://*******@host/path"),
        ("git+ssh://token@host/x@v1", "git+ssh://*****@host/x@v1"),
        ("--index-url=https://u:p@host/", "--index-url=https://***@host/"),
        ("https://host/path", "https://host/path"),
        ("https://host/a@b", "https://host/a@b"),
        ("a@b", "a@b"),
        ("--name=value", "--name=value"),
        ("test_token", "test_token"),
        ("--token", "--token"),
        ("--token=", "--token="),
    ],
)
def test_others(argument: str, shown: str) -> None:
    assert shlex.split(ExecuteRequest(["x", argument]).shell_cmd_redacted)[1] == shown


def test_the_next_argument_is_left_alone() -> None:
    assert ExecuteRequest(["pytest", "-k", "test_token"]).shell_cmd_redacted == "pytest -k test_token"


def test_the_plain_line_is_not_masked() -> None:
    assert ExecuteRequest(["x", "--token=abc"]).shell_cmd == "x --token=abc"
