"""`extsession script FILE`: exit codes, and what is printed where."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from extsession.__main__ import main
from extsession.script_command import given_values

RULE = "def double(x):\n    return 2 * x\ncost = double(price)\nprint('done')\n"


@pytest.fixture
def rule(tmp_path: Path) -> str:
    path = tmp_path / "rule.txt"
    path.write_text(RULE)
    return str(path)


def test_finished(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["script", rule, "--set", "price=7.5"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("done\n")
    assert json.loads(out.partition("\n")[2]) == {"price": 7.5, "cost": 15.0}
    assert err == ""


def test_for_programs(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["script", rule, "--set", "price=3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["globals"], found["stdout"]) == ("finished", {"price": 3, "cost": 6}, "done\n")
    assert found["cycles"] > 0


def test_explained(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["script", rule, "--set", "price=3", "--explain"]) == 0
    lines = capsys.readouterr().err.splitlines()
    total = int(lines[0].split()[0])
    assert sum(int(line.split()[0]) for line in lines[1:]) == total
    assert any(line.endswith("cost = double(price)") for line in lines)


def test_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad").write_text("x = 1\ny = x / 0\n")
    assert main(["script", str(tmp_path / "bad")]) == 1
    assert "line 2: ZeroDivisionError" in capsys.readouterr().err


def test_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad").write_text("x = 1\nimport os\n")
    assert main(["script", str(tmp_path / "bad")]) == 2
    assert ":2:1: a script cannot import" in capsys.readouterr().err
    assert main(["script", str(tmp_path / "bad"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["line"] == 2


def test_over_budget(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n = 0\nwhile True:\n    n += 1\n"))
    assert main(["script", "-", "--cycles", "500"]) == 3
    assert "the script used more than its 500 cycles" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["/nonexistent"], ["-", "--set", "price"], ["-", "--set", "_x=1"], ["-", "--cycles", "0"], ["-", "--seconds", "-1"]],
)
def test_what_is_no_fault_of_the_script(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x = 1"))
    assert main(["script", *arguments]) == 2
    assert capsys.readouterr().err.startswith("extsession script: ")


def test_values() -> None:
    assert given_values(["a=1", "b=[1, 'x']", "c=text here", "d==", "e="]) == {
        "a": 1,
        "b": [1, "x"],
        "c": "text here",
        "d": "=",
        "e": "",
    }
    with pytest.raises(ValueError, match="NAME=VALUE"):
        given_values(["x"])
