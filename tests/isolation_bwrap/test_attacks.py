"""The attacks of tests/attacks, by sessions in bubblewrap, each in one of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, Isolation, Limits
from extsession._launch import walled

from .conftest import SOON, _why_not, interpreter, runner

USER = "root" if os.geteuid() == 0 else "ordinary"
FOLDER = Path(__file__).parent.parent / "attacks"


def _load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    found = sys.modules[name] = importlib.util.module_from_spec(spec)  # for its classes
    spec.loader.exec_module(found)
    return found


_attacks = _load(FOLDER / "test_attacks.py", "extsession_attacks_of_bwrap")
#: what a session is given otherwise than the driver of the attacks gives it
LIMITS = Limits(
    processes=_attacks.LIMITS["nproc"] - 1,
    open_files=_attacks.LIMITS["nofile"],
    memory=_attacks.LIMITS["as"],
    file_size=_attacks.LIMITS["fsize"],
    wall=60.0,
)
#: not held, and said to be so in `walls.missing`; or another number than there
ELSEWHERE = {
    "inode fill": "number of files in the work directory",
    "disk fill": "tried with the size that it has here",
    "limits raised": "tried with the limits that a session sets",
}
#: a link to what is in /proc/self, about its own network namespace
OWN = ("r /proc/net/unix",)


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, Any]]:
    with runner().host(USER) as found:
        yield found


@pytest.fixture
def attack(host: dict[str, Any]) -> Iterator[Any]:
    """Run one in a session of its own, and give back what it could do."""
    made = []

    def run(source: str, **isolation: Any) -> list[str]:
        session = ExtSession(
            python=interpreter(), isolation=Isolation(tier="bwrap", **isolation), limits=LIMITS, recover=False
        )
        made.append(session)
        numbers = _load(Path(walled.__file__).parent.parent / "_worker/confine/syscalls.py", "numbers_of_bwrap")
        session["HOST"], session["NR"] = host, numbers.numbers(os.uname().machine)
        session.execute(runner_prelude()).wait(SOON)
        results = session.execute(source).wait(SOON)
        assert results.error is None, (results.error, results.stderr)
        did: list[str] = session.eval("[str(each) for each in did]")
        return did

    yield run
    for each in made:
        each.close()


def runner_prelude() -> str:
    text = str(runner().DRIVER)
    start = text.index("PRELUDE = '''") + len("PRELUDE = '''")
    return text[start : text.index("'''", start)]


@pytest.mark.parametrize("less", ["", "no landlock"])
@pytest.mark.parametrize("name", [name for name, each in _attacks.A.items() if "full" in each.tiers])
def test_attack(name: str, less: str, attack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if less:
        if _attacks.A[name].landlock:
            pytest.skip("its own init and its own files in /proc, which is harmless")
        with_walls = walled.WalledLauncher._spec

        def without(self: Any, spec: Any, tier: str) -> Any:
            found = with_walls(self, spec, tier)
            return dataclasses.replace(found, walls={**found.walls, "abi": 0})

        monkeypatch.setattr(walled.WalledLauncher, "_spec", without)
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    each = _attacks.A[name]
    config = {key: value for key, value in each.config.items() if key in ("loopback", "work_size")}
    did = attack(each.source, **config)
    if name == "names of control groups":  # the one that holds its limits has a name of ours, in any tier
        did = [line for line in did if not line.rpartition(":")[2].startswith("/extsession-")]
    assert [what for what in did if what not in OWN] == []


def test_its_own_network_is_what_it_sees_of_networks(attack: Any) -> None:
    source = """
for line in open('/proc/net/unix').read().splitlines()[1:] + open('/proc/net/tcp').read().splitlines()[1:]: win(line)
"""
    assert attack(source) == []


def test_disk_fill(attack: Any) -> None:
    source = """
for folder, most in (('/work', 8), ('/dev/shm', 16)):
    total = 0
    try:
        for number in range(40):
            with open('%s/fill%d' % (folder, number), 'wb') as file: total += file.write(bytes(1 << 20))
    except OSError: pass
    if total > (most + 1) << 20: win('%d in %s' % (total, folder))
"""
    assert attack(source, work_size=8 << 20) == []


def test_limits_raised(attack: Any) -> None:
    source = _attacks.A["limits raised"].source
    assert "'AS', 'CPU', " in source
    assert attack(source.replace("'AS', 'CPU', ", "'DATA', ")) in ([], ["core", "core by prlimit"])


def test_ptrace_and_memory_of_process_one(attack: Any) -> None:
    source = """
for name in ('mem', 'environ', 'maps', 'stack', 'syscall'):
    attempt(name, lambda: open('/proc/1/' + name, 'rb').read(1))
attempt('limit', __import__('resource').prlimit, 1, 0, (1, 1))
for name in ('sys/kernel/hostname', 'meminfo', 'cpuinfo', 'version', 'mounts'):
    if name != 'mounts': attempt(name, lambda: open('/proc/' + name, 'rb').read(1))
"""
    assert attack(source) == []


def test_there_is_something_to_run(attack: Any) -> None:
    assert not _why_not()
    assert attack("win('it')") == ["it"]
