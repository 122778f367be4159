"""What a hostile author may try. After each, an honest script in the same process gives the right answer.

The cases are in `corpus.py`. Here they run in this interpreter; `test_versions.py` runs them in each.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from extsession._worker.script import engine


def _corpus() -> dict[str, dict[str, tuple[str, str]]]:
    spec = importlib.util.spec_from_file_location("script_corpus", Path(__file__).with_name("corpus.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ATTACKS  # type: ignore[no-any-return]


CASES = {name: case for family in _corpus().values() for name, case in family.items()}
#: of processor time, for a million cycles spent in the worst way
SECONDS = 5.0


def test_there_are_enough() -> None:
    assert len(CASES) >= 250
    sources = [source for _, source in CASES.values()]
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize("name", sorted(CASES))
def test_attack(script: Any, name: str) -> None:
    expected, source = CASES[name]
    program = engine.prepare(source)
    if expected == "rejected":
        assert isinstance(program, engine.Rejected)
        for finding in program.findings:
            assert finding["why"] and finding["line"] >= 1 and finding["column"] >= 1
            assert "/" not in finding["why"] and "extsession" not in json.dumps(finding)
    else:
        assert isinstance(program, engine.Program), program.findings
        ran = script.program(program)
        ends = {"over": "over_budget", "failed": "failed", "contained": "finished"}
        assert ran.status in [ends[each] for each in expected.split("|")], ran
        assert ran.seconds < SECONDS, ran
        if expected == "contained":
            assert ran.globals["harmless"] is True, ran
        else:
            assert ran.error["type"]
        _tells_nothing(json.dumps(ran.error))
        assert len(ran.error.get("message", "")) <= 600
        assert script.program(program).cycles == ran.cycles
    script.honest()


def _tells_nothing(text: str) -> None:
    for word in ("0x", "/work", ".py", "extsession", "_worker", "guards", "_main", "_m_", "_add", "OrderedSet", "<frozen"):
        assert word not in text, text


@pytest.fixture(autouse=True)
def _recursion_limit_stays() -> Any:
    before = sys.getrecursionlimit()
    yield
    assert sys.getrecursionlimit() == before
