"""The attacks of `tests/attacks` once more, each in a session as users get it, as the user that runs the tests."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, Limits
from extsession._worker.confine import libc

ATTACKS = Path(__file__).parent.parent / "attacks"


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"extsession_sessions_{name}", ATTACKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


attacks = _load("test_attacks")
runner = _load("runner")
PRELUDE = re.search(r"PRELUDE = '''(.*?)'''", (ATTACKS / "driver.py").read_text(), re.DOTALL).group(1)  # type: ignore[union-attr]
#: attack -> what it may note, and why that is no harm
LEGITIMATE = {
    # its own control group, which the controller has made for its limits, seen from the template's; none of the host's
    "names of control groups": re.compile(r"\d+:[a-z,]*:/extsession-\d+-\d+"),
    # a session's memory is held by RLIMIT_DATA, a group and the watch, its CPU time by the watch: all of its processes
    "limits raised": re.compile(r"AS|CPU"),
}
LIMITS = Limits(processes=24, open_files=64, memory=256 << 20, file_size=64 << 20)


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, Any]]:
    with runner.host("root" if os.geteuid() == 0 else "ordinary") as found:
        yield found


def _cases() -> list[Any]:
    return [pytest.param(name, tier, id=f"{name}-{tier}") for name, each in attacks.A.items() for tier in each.tiers]


@pytest.mark.parametrize("name, tier", _cases())
def test_attack(name: str, tier: str, opened: Callable[..., ExtSession], host: dict[str, Any]) -> None:
    attack = attacks.A[name]
    config = dict(attack.config)
    source = attack.source
    if config.pop("shm_size", None):  # a session has 16 MiB there, and there is no option for it
        source = source.replace("total > 9 << 20", "total > (9 << 20 if folder != '/dev/shm' else 16 << 20)")
    # an interpreter for everybody: one below /root has folders on the way to it, which can be listed
    session = opened(limits=LIMITS, is_for_everybody=True, **config)
    session["HOST"], session["NR"] = host, dict(libc.NUMBERS)
    assert session.execute(PRELUDE).wait(60).completion.ok
    results = session.execute(source).wait(60)
    assert results.completion.ok, (results.completion, results.stderr)
    did = [each for each in session.eval("list(did)") if not LEGITIMATE.get(name, re.compile("(?!)")).fullmatch(each)]
    assert did == [], session.eval("list(map(str, refused))")
    assert session.eval("6 * 7") == 42
