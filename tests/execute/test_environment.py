"""The environment and the directory of a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from extsession.execute import (
    DEFAULT_PASS_ENV,
    ExecuteRequest,
    LocalSubProcessExecute,
    create_execution_env,
    determine_working_dir,
)

BASE = {"PATH": "/b:/c", "HOME": "/home/me", "MY_A": "1", "my_b": "2", "TOKEN": "t"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"PATH", "HOME", "MY_A", "my_b", "TOKEN"}),
        ({"pass_env": []}, {"PATH"}),
        ({"pass_env": ["home"]}, {"PATH", "HOME"}),
        ({"pass_env": ["My_*"]}, {"PATH", "MY_A", "my_b"}),
        ({"pass_env": ["MY_?", "tok[e]n"]}, {"PATH", "MY_A", "my_b", "TOKEN"}),
        ({"disallow_pass_env": ["tok*", "MY_A"]}, {"PATH", "HOME", "my_b"}),
        ({"pass_env": ["MY_*"], "disallow_pass_env": ["*_a"]}, {"PATH", "my_b"}),
        ({"disallow_pass_env": ["*"]}, {"PATH"}),
        ({"pass_env": [], "set_env": {"TOKEN": "mine"}, "disallow_pass_env": ["*"]}, {"PATH", "TOKEN"}),
        ({"pass_env": (each for each in ["HOME"])}, {"PATH", "HOME"}),
    ],
)
def test_names(options: dict[str, Any], names: set[str]) -> None:
    before = dict(BASE)
    found = create_execution_env(BASE, **options)
    assert set(found) == names
    assert BASE == before and found is not BASE
    assert found["PATH"] == "/b:/c"
    assert all(found[name] == BASE[name] for name in names - set(options.get("set_env", ())))


def test_what_is_set_is_never_filtered() -> None:
    found = create_execution_env(BASE, set_env={"TOKEN": "mine", "NEW": "x"}, pass_env=[], disallow_pass_env=["TOKEN", "NEW"])
    assert (found["TOKEN"], found["NEW"]) == ("mine", "x")


@pytest.mark.parametrize(
    ("base", "options", "path"),
    [
        (BASE, {"set_env": {"PATH": "/mine"}}, "/mine"),
        ({}, {}, os.defpath),
        ({}, {"path_prepend": ["/a"]}, "/a:" + os.defpath),
        (BASE, {"path_prepend": ["/a", Path("/c")]}, "/a:/c:/b"),
        (BASE, {"path_prepend": ["/a"], "set_env": {"PATH": "/x:/a:/x"}}, "/a:/x"),
        (BASE, {"path_prepend": ["/c"], "pass_env": [], "disallow_pass_env": ["PATH"]}, "/c:/b"),
        ({"PATH": ""}, {}, ""),
    ],
)
def test_path_is_always_there(base: dict[str, str], options: dict[str, Any], path: str) -> None:
    assert create_execution_env(base, **options)["PATH"] == path


def test_the_base_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "x")
    found = create_execution_env()
    assert found["OF_THE_CALLER"] == "x"
    found["OF_THE_CALLER"] = "y"
    assert os.environ["OF_THE_CALLER"] == "x"


@pytest.mark.parametrize("name", ["pass_env", "disallow_pass_env"])
def test_patterns_are_no_text(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        create_execution_env(BASE, **{name: "HOME"})


def test_what_is_worth_passing() -> None:
    wanted = """https_proxy http_proxy no_proxy LANG LANGUAGE CURL_CA_BUNDLE SSL_CERT_FILE CC CFLAGS CCSHARED CXX CPPFLAGS
        LD_LIBRARY_PATH LDFLAGS HOME NETRC TMPDIR FORCE_COLOR NO_COLOR PYTHON_GIL SSH_AGENT_PID SSH_AUTH_SOCK NIX_LD
        NIX_LD_LIBRARY_PATH"""
    assert isinstance(DEFAULT_PASS_ENV, tuple)
    assert set(DEFAULT_PASS_ENV) == set(wanted.split())
    found = create_execution_env({**BASE, "HTTPS_PROXY": "p"}, pass_env=[*DEFAULT_PASS_ENV, "MY_*"])
    assert set(found) == {"PATH", "HOME", "MY_A", "my_b", "HTTPS_PROXY"}


def test_the_command_has_it_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: (_ for _ in ()).throw(OSError()))
    executor = LocalSubProcessExecute()
    out = executor(ExecuteRequest(["env"], env={"A": "1", "B": "\u00fc\n="})).out
    assert sorted(out.split("\n")) == sorted(["A=1", "B=\u00fc", "=", ""])
    monkeypatch.setenv("LATE", "1")
    request = ExecuteRequest(["sh", "-c", "echo $LATE"])
    monkeypatch.setenv("LATE", "2")
    assert executor(request).out == "2\n"


def test_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    has, none = ExecuteRequest(["ls"], "/own"), ExecuteRequest(["ls"])
    assert determine_working_dir(has, "/other", "/default") == Path("/own")
    assert determine_working_dir(none, "/other", "/default") == Path("/other")
    assert determine_working_dir(none, "sub", "/default") == tmp_path / "sub"
    assert determine_working_dir(none, "sub", "/default", "/root") == Path("/root/sub")
    assert determine_working_dir(none, default="/default", root="/root") == Path("/default")
    assert determine_working_dir(none) == tmp_path
    assert not os.listdir(tmp_path)
