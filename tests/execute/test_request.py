"""What a request is, and what it refuses to be."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from extsession.execute import ExecuteRequest, LocalSubProcessExecute, StdinSource


def test_the_module_paths() -> None:
    import extsession.execute as names
    from extsession.execute import api, local_sub_process, request

    assert (request.ExecuteRequest, request.StdinSource) == (names.ExecuteRequest, names.StdinSource)
    assert (api.Execute, api.ExecuteStatus, api.Outcome) == (names.Execute, names.ExecuteStatus, names.Outcome)
    assert local_sub_process.LocalSubProcessExecute is names.LocalSubProcessExecute


def test_what_it_was_given(tmp_path: Path) -> None:
    request = ExecuteRequest(
        ["git", Path("a") / "b"], str(tmp_path), {"A": "1"}, "text", "run 1", ["git", "hg*"], timeout=3
    )
    assert request.cmd == ["git", "a/b"]
    assert request.cwd == tmp_path and isinstance(request.cwd, Path)
    assert (request.env, request.stdin, request.run_id) == ({"A": "1"}, "text", "run 1")
    assert (request.allow, request.timeout) == (["git", "hg*"], 3)


def test_what_is_there_when_nothing_was_given() -> None:
    request = ExecuteRequest(("ls",))
    assert request.cmd == ["ls"]
    found = (request.cwd, request.env, request.stdin, request.run_id, request.allow, request.timeout)
    assert found == (None,) * 6


@pytest.mark.parametrize("name", ["cmd", "cwd", "env", "stdin", "run_id", "allow", "timeout", "shell_cmd", "other"])
def test_it_is_frozen(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(ExecuteRequest(["ls"]), name, ["rm"])


def test_what_the_caller_does_later_has_no_effect() -> None:
    cmd, env, allow = ["ls"], {"A": "1"}, ["ls"]
    request = ExecuteRequest(cmd, env=env, allow=allow)
    for theirs in (cmd, request.cmd, allow, request.allow):
        assert theirs is not None
        theirs.append("-l")
    for mapping in (env, request.env):
        assert mapping is not None
        mapping["B"] = "2"
    assert (request.cmd, request.env, request.allow) == (["ls"], {"A": "1"}, ["ls"])
    assert request.cmd is not request.cmd


def test_running_changes_nothing(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.get_terminal_size", lambda fd: __import__("os").terminal_size((91, 17)))
    env = {"A": "1"}
    request = program("import os; print(os.environ['COLUMNS'], os.environ['LINES'])", env=env)
    before = copy.deepcopy(request._facts())
    assert LocalSubProcessExecute()(request).out == "91 17\n"
    assert request._facts() == before
    assert env == {"A": "1"}


def test_all_may_run_where_a_star_is_among_the_patterns() -> None:
    assert ExecuteRequest(["ls"], allow=["git", "*"]).allow is None
    assert ExecuteRequest(["ls"], allow=[]).allow == []


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (ValueError, "empty", {"cmd": []}),
        (ValueError, "empty", {"cmd": ()}),
        (TypeError, "'ls -l'", {"cmd": "ls -l"}),
        (TypeError, "sequence", {"cmd": b"ls"}),
        (TypeError, "sequence", {"cmd": {"ls"}}),
        (TypeError, "sequence", {"cmd": None}),
        (TypeError, "b'-l'", {"cmd": ["ls", b"-l"]}),
        (TypeError, "3", {"cmd": ["ls", 3]}),
        (ValueError, "NUL", {"cmd": ["ls", "a\0b"]}),
        (TypeError, "1", {"env": {1: "a"}}),
        (TypeError, "'A'", {"env": {"A": 1}}),
        (TypeError, "mapping", {"env": [("A", "1")]}),
        (ValueError, "''", {"env": {"": "a"}}),
        (ValueError, "'A=B'", {"env": {"A=B": "a"}}),
        (ValueError, "A", {"env": {"A\0": "a"}}),
        (ValueError, "NUL", {"env": {"A": "\0"}}),
        (TypeError, "bytes", {"stdin": b"text"}),
        (TypeError, "int", {"stdin": 0}),
        (TypeError, "cwd", {"cwd": 3}),
        (TypeError, "run_id", {"run_id": 3}),
        (TypeError, "allow", {"allow": "git"}),
        (TypeError, "3", {"allow": [3]}),
        (TypeError, "timeout", {"timeout": "3"}),
        (TypeError, "timeout", {"timeout": True}),
        (ValueError, "timeout", {"timeout": -1}),
        (ValueError, "timeout", {"timeout": float("nan")}),
    ],
)
def test_refused(error: type[Exception], text: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=text):
        ExecuteRequest(**{"cmd": ["ls"], **arguments})


def test_values_of_variables_do_not_show_in_errors() -> None:
    with pytest.raises(ValueError) as caught:
        ExecuteRequest(["ls"], env={"TOKEN": "very\0secret"})
    assert "secret" not in str(caught.value)


def test_equal_and_pickled() -> None:
    request = ExecuteRequest(["ls"], "/", {"A": "1"}, StdinSource.API, "x", ["l*"], timeout=2)
    again = pickle.loads(pickle.dumps(request))
    assert again == request and hash(again) == hash(request)
    assert again != ExecuteRequest(["ls"]) and request != "ls"


def test_repr_has_no_secrets() -> None:
    request = ExecuteRequest(
        ["git", "--token=abc"], "/tmp", {"NAME": "a secret"}, "the input", "run 1"
    )
    assert repr(request) == "ExecuteRequest(git '--token=***', cwd='/tmp', run_id='run 1', env=..., stdin=...)"
    assert repr(ExecuteRequest(["ls"], stdin=StdinSource.USER)) == "ExecuteRequest(ls, cwd=None, run_id=None, stdin=USER)"


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        if self.closed:
            raise ValueError("closed")
        return self._terminal


def test_stdin_of_the_user_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(each.name, each.value) for each in StdinSource] == [("OFF", 0), ("USER", 1), ("API", 2)]
    closed = _Stream(True)
    closed.close()
    wanted = [(_Stream(True), "USER"), (_Stream(False), "OFF"), (None, "OFF"), (closed, "OFF")]
    for stream, name in wanted:
        monkeypatch.setattr(sys, "stdin", stream)
        assert StdinSource.user_only().name == name
