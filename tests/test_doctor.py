"""`extsession doctor` and `host_report()`: what this machine allows."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from extsession import (
    ExtSession,
    HostReport,
    Isolation,
    IsolationUnavailable,
    LaunchError,
    TierReport,
    doctor,
    host_report,
)
from extsession.__main__ import main


@pytest.fixture(scope="module")
def host() -> HostReport:
    return host_report()


def test_it_says_what_sessions_then_get(host: HostReport) -> None:
    if host.full.reached:
        with ExtSession(isolation=Isolation()) as session:
            assert session.walls is not None
            assert (session.walls.tier, session.walls.landlock_abi) == ("full", host.landlock_abi)
            assert session.walls.proc == host.proc
    else:
        assert host.full.denied
        assert host.full.cure
        with pytest.raises(IsolationUnavailable):
            ExtSession(isolation=Isolation())


def test_facts_of_the_machine(host: HostReport, pythons: list[Any]) -> None:
    assert dict(host.interpreters) == {each.path: ".".join(map(str, each.version)) for each in pythons}
    assert set(host.groups) == {"memory", "processes"}
    assert host.tier in ("full", "bwrap", "weak", "none")


def test_the_command(capsys: pytest.CaptureFixture[str], host: HostReport) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"isolation by {host.python}: {host.tier}" in text
    assert all(path in text for path in host.interpreters)


def test_for_programs(capsys: pytest.CaptureFixture[str], host: HostReport) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tier"], found["full"]["reached"]) == (host.tier, host.full.reached)
    assert found["interpreters"] == dict(host.interpreters)


LEVELS = ["full", "bwrap", "weak"]


@pytest.mark.parametrize("tier", [*LEVELS, "none"])
@pytest.mark.parametrize("wanted", LEVELS)
def test_a_tier_that_is_required(
    tier: str, wanted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no = TierReport(False, "unshare user: Operation not permitted", ("sysctl x=1", "another kernel"))
    yes = TierReport(True, "", ())
    report = HostReport(
        "Linux", "/usr/bin/python3", "1000", tier,
        yes if tier == "full" else no, yes if tier in ("full", "bwrap") else no, no if tier == "none" else yes, "0.8.0", 7, True, True, "pid", {"memory": "", "processes": ""}, {},
    )  # fmt: skip
    monkeypatch.setattr(doctor, "host_report", lambda python: report)
    met = {"full": LEVELS, "bwrap": ["bwrap", "weak"], "weak": ["weak"], "none": []}[tier]
    assert main(["doctor", "--require", wanted]) == (0 if wanted in met else 1)
    text = capsys.readouterr().out
    assert ("is not to be had" in text) is (wanted not in met)
    assert ("what would help: sysctl x=1" in text) is (tier != "full")
    assert "no control group; watched" in text


def test_an_interpreter_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--python", "/nonexistent"]) == 2
    assert "/nonexistent" in capsys.readouterr().err
    with pytest.raises(LaunchError):
        host_report("/nonexistent")


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"], ["--version"]])
def test_help(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "extsession", *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "extsession" in done.stdout


@pytest.mark.parametrize("arguments", [["doctor", "--require", "best"], ["no-such"], ["doctor", "more"]])
def test_arguments_that_are_none(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_nobody_reads_it_to_its_end() -> None:
    command = [sys.executable, "-u", "-m", "extsession", "doctor", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(60) == 1
