"""What `probe` says about a host: here, and where each step is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest


def _probe(runner: Any, user: str, deny: str = "", **config: Any) -> dict[str, Any]:
    ended = runner.run("probe", user, work="/tmp", deny=deny, **config)
    assert ended.code == 0, ended
    found: dict[str, Any] = json.loads(ended.out)
    return found


@pytest.fixture(autouse=True)
def _allowed(reached: dict[str, Any]) -> None:
    if reached["tier"] != "full":
        pytest.skip(f"this host does not allow the full tier: {reached['full']['cure']}")


def test_here(reached: dict[str, Any]) -> None:
    steps = [name for name, error in reached["full"]["steps"]]
    assert steps == ["base", "clone", "session", "lockdown", "ready"]
    assert reached["userns"] and reached["seccomp"] and reached["full"]["cure"] == []


@pytest.mark.parametrize(
    "deny, step, error, cure",
    [
        ("number", "unshare user", "ENOSPC", "max_user_namespaces"),
        ("unshare", "unshare", "EPERM", "seccomp profile"),
        ("clone", "clone user|pid|mount", "EPERM", "seccomp profile"),
        ("uid_map", "write setgroups", "EPERM", "apparmor"),
        ("mount", "mounts private", "EPERM", "apparmor"),
        ("pivot", "pivot_root", "EPERM", "seccomp profile"),
    ],
)
def test_denied(user: str, runner: Any, reached: dict[str, Any], deny: str, step: str, error: str, cure: str) -> None:
    """Each way to be refused user namespaces leads to the weak tier, and names its step and a way out."""
    found = _probe(runner, user, deny)
    name, fault = found["full"]["steps"][-1]
    assert name == "failed"
    assert fault["step"].startswith(step) and fault["error"] == error, fault
    assert any(cure in text for text in found["full"]["cure"]), found
    if reached["weak"]["reached"]:
        assert found["tier"] == "weak", found


def test_a_covered_proc_is_no_reason(user: str, runner: Any) -> None:
    """As in a container: sessions have no /proc then, and nothing of the host's."""
    found = _probe(runner, user, "covered")
    assert found["tier"] == "full" and found["proc"] == "none", found
    assert "systempaths" in found["full"]["cure"][0]


def test_a_covered_proc_shows_nothing(user: str, runner: Any) -> None:
    ended = runner.run("full", user, "for name in os.listdir('/proc'): win(name)", deny="covered")
    assert ended.did == [], ended


def test_an_old_kernel_without_mount_setattr(user: str, runner: Any) -> None:
    assert _probe(runner, user, "setattr")["tier"] == "full"
    source = """
for path in ('/usr/x', '/etc/x', sys.prefix + '/x'):
    try: open(path, 'w')
    except OSError as error: assert error.errno in (errno.EROFS, errno.EACCES), error
    else: win(path)
with open('/proc/self/mountinfo') if os.path.exists('/proc/self/mountinfo') else open('/dev/null') as file:
    for line in file:
        words = line.split()
        if words[4] not in ('/work', '/proc', '/dev/shm') and not words[4].startswith('/dev/') and 'ro' not in words[5].split(','): win(line)
"""
    ended = runner.run("full", user, source, deny="setattr")
    assert ended.did == [], ended


def test_no_landlock(user: str, runner: Any) -> None:
    """The full tier can do without, and says so; the weak one cannot."""
    found = _probe(runner, user, "landlock")
    assert found["tier"] == "full" and found["abi"] == 0
    assert not found["weak"]["reached"] and "landlock" in found["weak"]["cure"][0]


def test_an_old_landlock(user: str, runner: Any) -> None:
    found = _probe(runner, user, "everything")
    assert found["tier"] == "none"
    assert found["full"]["cure"] and found["weak"]["cure"]


def test_no_seccomp(user: str, runner: Any) -> None:
    found = _probe(runner, user, "seccomp")
    assert found["tier"] == "none" and not found["seccomp"]
    assert any("CONFIG_SECCOMP_FILTER" in text for text in found["full"]["cure"] + found["weak"]["cure"])
