"""Which file is run, and why none is."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from extsession.execute import (
    CommandNotAllowedError,
    CommandNotFoundError,
    ExecuteError,
    ExecuteRequest,
    LocalSubProcessExecute,
    StdinSource,
)


def script(path: Path, text: str = "#!/bin/sh\necho from $0", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


class Case(NamedTuple):
    make: Callable[[Path], ExecuteRequest]
    kind: type[ExecuteError]
    code: int | None
    words: tuple[str, ...]


CASES = {
    "directory missing": Case(lambda at: ExecuteRequest(["ls"], at / "no"), ExecuteError, 2, ("no' to run in",)),
    "directory is a file": Case(lambda at: ExecuteRequest(["ls"], script(at / "f")), ExecuteError, 20, ("f' to run in",)),
    "directory comes first": Case(lambda at: ExecuteRequest(["nonesuch"], at / "no"), ExecuteError, 2, ("directory",)),
    "name not on PATH": Case(lambda at: ExecuteRequest(["nonesuch"]), CommandNotFoundError, 2, ("'nonesuch'",)),
    "path is not there": Case(lambda at: ExecuteRequest([at / "x"]), CommandNotFoundError, 2, ("x'",)),
    "below a file": Case(lambda at: ExecuteRequest([script(at / "f") / "x"]), CommandNotFoundError, 2, ("f/x'",)),
    "empty name": Case(lambda at: ExecuteRequest([""]), CommandNotFoundError, 2, ("''",)),
    "dangling link": Case(lambda at: ExecuteRequest([_link(at)]), CommandNotFoundError, 2, ("link",)),
    "PATH of the request": Case(lambda at: ExecuteRequest(["ls"], env={"PATH": str(at)}), CommandNotFoundError, 2, ("'ls'",)),
    "not executable": Case(lambda at: ExecuteRequest([script(at / "f", mode=0o644)]), ExecuteError, 13, ("f is not",)),
    "not executable on PATH": Case(
        lambda at: ExecuteRequest(["f"], env={"PATH": str(script(at / "f", mode=0o644).parent)}), ExecuteError, 13, ("f is not",)
    ),
    "a directory": Case(lambda at: ExecuteRequest([at]), ExecuteError, 13, ("is a directory",)),
    "not found before not allowed": Case(
        lambda at: ExecuteRequest(["nonesuch"], allow=[]), CommandNotFoundError, 2, ("'nonesuch'",)
    ),
    "not allowed": Case(
        lambda at: ExecuteRequest(["sh"], allow=["git", "b*"]), CommandNotAllowedError, None, ("'sh'", "/sh)", "git, b*")
    ),
    "none allowed": Case(lambda at: ExecuteRequest(["sh"], allow=[]), CommandNotAllowedError, None, ("none",)),
    "no interpreter": Case(
        lambda at: ExecuteRequest([script(at / "f", "#!/no/such/thing -x\n")]), CommandNotFoundError, 2, ("'/no/such/thing'", "/f")
    ),
    "no program": Case(lambda at: ExecuteRequest([script(at / "f", "no program")]), ExecuteError, 8, ("#!",)),
    "too long": Case(lambda at: ExecuteRequest(["true", *["x" * 100_000] * 100]), ExecuteError, 7, ("too long",)),
    "an argument too long": Case(lambda at: ExecuteRequest(["true", "x" * 3_000_000]), ExecuteError, 7, ("too long",)),
    "no name of a file": Case(lambda at: ExecuteRequest(["\ud800"]), CommandNotFoundError, 2, ("not found",)),
    "an argument that is no text": Case(lambda at: ExecuteRequest(["true", "\ud800"]), ExecuteError, None, ("true",)),
}


def _link(at: Path) -> Path:
    (at / "link").symlink_to(at / "nothing")
    return at / "link"


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_started(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, kind, code, words = CASES[name]
    request = make(tmp_path)
    before = sorted(os.listdir(tmp_path))
    executor = LocalSubProcessExecute(show=True, on_out=print)
    with caplog.at_level(logging.DEBUG), pytest.raises(ExecuteError) as caught:
        executor(request)
    error = caught.value
    assert type(error) is kind
    assert all(word in str(error) for word in words), str(error)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].getMessage() == str(error)
    assert error.request is request
    assert error.errno == code
    assert error.status is not None and error.status.exit_code == code
    assert (error.status.out, error.status.err, error.status.metadata) == ("", "", {})
    assert error.status.outcome is not None and error.status.outcome.exception is error

    outcome = executor.run(request)
    assert not outcome
    assert (type(outcome.exception), outcome.exit_code) == (kind, code)

    with executor.call(request) as status:
        assert status.exit_code == code  # at once, and for ever
        assert status.outcome is not None and type(status.outcome.exception) is kind
        assert status.wait() == code
        status.interrupt()
        status.terminate()
        status.write_stdin("nobody")
        status.close_stdin()
    assert type(status.outcome.exception) is kind
    assert (status.exit_code, status.steps) == (code, ())
    assert sorted(os.listdir(tmp_path)) == before


def test_writing_to_what_was_not_started() -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["nonesuch"], stdin=StdinSource.API)) as status:
        with pytest.raises(BrokenPipeError):
            status.write_stdin("x")


def test_texts_are_redacted() -> None:
    with pytest.raises(ExecuteError) as caught:
        LocalSubProcessExecute()(ExecuteRequest(["https://me:pw@host/x"]))
    assert "me:pw" not in str(caught.value)


def test_an_argument_of_100_000_characters(program: Any) -> None:
    assert LocalSubProcessExecute()(program("import sys; print(len(sys.argv[1]))", "x" * 100_000)).out == "100000\n"


def test_the_path_of_the_request_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "theirs" / "tool")
    mine = script(tmp_path / "mine" / "tool")
    monkeypatch.setenv("PATH", str(tmp_path / "theirs"))
    executor = LocalSubProcessExecute()
    assert executor(ExecuteRequest(["tool"])).out == f"from {tmp_path}/theirs/tool\n"
    assert executor(ExecuteRequest(["tool"], env={"PATH": str(mine.parent)})).out == f"from {mine}\n"
    with pytest.raises(CommandNotFoundError):
        executor(ExecuteRequest(["tool"], env={}))


def test_what_cannot_be_run_is_passed_over_on_the_path(tmp_path: Path) -> None:
    script(tmp_path / "a" / "tool", mode=0o644)
    (tmp_path / "b" / "tool").mkdir(parents=True)
    third = script(tmp_path / "c" / "tool")
    path = os.pathsep.join(str(tmp_path / name) for name in "abc")
    assert LocalSubProcessExecute()(ExecuteRequest(["tool"], env={"PATH": path})).out == f"from {third}\n"


def test_without_a_path_the_systems_own(tmp_path: Path) -> None:
    assert LocalSubProcessExecute()(ExecuteRequest(["sh", "-c", "echo $A"], env={"A": "1"})).out == "1\n"
    assert LocalSubProcessExecute()(ExecuteRequest([sys.executable, "-ISc", ""], env={})).success


def test_relative_to_the_directory_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "work" / "bin" / "tool", "#!/bin/sh\npwd")
    monkeypatch.chdir(tmp_path)
    executor, work = LocalSubProcessExecute(), tmp_path / "work"
    wanted = f"{work}\n"
    assert executor(ExecuteRequest(["bin/tool"], work)).out == wanted
    assert executor(ExecuteRequest(["./bin/tool"], "work")).out == wanted  # a relative directory
    assert executor(ExecuteRequest(["tool"], work, {"PATH": "bin"})).out == wanted  # a relative entry
    with pytest.raises(CommandNotFoundError):
        executor(ExecuteRequest(["bin/tool"]))
    assert executor(ExecuteRequest(["work/bin/tool"])).out == f"{tmp_path}\n"


def test_the_directory_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ExecuteRequest(["pwd"])
    monkeypatch.chdir(tmp_path)
    assert LocalSubProcessExecute()(request).out == f"{tmp_path}\n"


def test_the_programs_own_directory_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    outcome = LocalSubProcessExecute().run(ExecuteRequest(["echo", "well"]))
    outcome.assert_success()  # which logs the directory
    assert outcome.out == "well\n"


@pytest.mark.parametrize("pattern", ["sh", "s?", "*/sh", "/*/sh", "[rs]h"])
def test_allowed_by_name_or_by_file(pattern: str) -> None:
    assert LocalSubProcessExecute()(ExecuteRequest(["sh", "-c", ""], allow=["git", pattern])).success


def test_the_outcome_has_the_file(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool")
    outcome = LocalSubProcessExecute().run(ExecuteRequest(["tool", "x"], env={"PATH": str(tmp_path)}))
    assert outcome.cmd == (str(tool), "x")


def test_the_program_sees_its_name_as_given(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.symlink_to("/bin/sh")
    out = LocalSubProcessExecute()(ExecuteRequest(["tool", "-c", "echo $0"], env={"PATH": str(tmp_path)})).out
    assert out == "tool\n"


@pytest.mark.parametrize("wrong", [None, ["ls"], "ls"])
def test_something_else_than_a_request(wrong: Any) -> None:
    executor = LocalSubProcessExecute()
    with pytest.raises(TypeError, match="ExecuteRequest"):
        executor(wrong)
    with pytest.raises(TypeError, match="ExecuteRequest"), executor.call(wrong):
        pass


@pytest.mark.parametrize("name", ["timeout", "suicide_timeout", "interrupt_timeout", "terminate_timeout", "drain_timeout"])
def test_times_are_checked(name: str) -> None:
    for wrong in ("1", True, *([None] if name != "timeout" else [])):
        with pytest.raises(TypeError, match=name):
            LocalSubProcessExecute(**{name: wrong})
    with pytest.raises(ValueError, match=name):
        LocalSubProcessExecute(**{name: -0.1})
