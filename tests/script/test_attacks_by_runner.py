"""Each attack once more as an application meets it: by a runner, whose next honest script has the right answer."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from extsession.script import ScriptOutcome, ScriptRejected, ScriptRunner, ScriptStatus

HONEST = "ratio = 1.2345678\ncost = price * ratio if price > 10 else 10 * ratio\n"
#: bytes that this process may grow by, whatever a script does
GROWTH = 16 * 2**20
ENDS = {"over": "over_budget", "failed": "failed", "contained": "finished"}


def _corpus() -> dict[str, dict[str, tuple[str, str]]]:
    spec = importlib.util.spec_from_file_location("script_corpus", Path(__file__).with_name("corpus.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ATTACKS  # type: ignore[no-any-return]


FAMILIES = _corpus()


@pytest.fixture(scope="module")
def runner() -> Iterator[ScriptRunner]:
    with ScriptRunner() as found:
        yield found


def _answer(runner: ScriptRunner, source: str) -> Any:
    try:
        return runner.run(source)
    except ScriptRejected as error:
        return error


@pytest.mark.parametrize("family", FAMILIES)
def test_family(runner: ScriptRunner, family: str) -> None:
    process = psutil.Process()
    runner.run(HONEST, {"price": 1})
    before = process.memory_info().rss
    cycles = runner.run(HONEST, {"price": 20}).cycles
    for name, (expected, source) in FAMILIES[family].items():
        found = _answer(runner, source)
        if expected == "rejected":
            assert isinstance(found, ScriptRejected), (name, found)
            text = json.dumps(found.findings)
        else:
            assert isinstance(found, ScriptOutcome), (name, found)
            # with a tenth of the cycles that the corpus is written for, what is contained may be stopped before
            allowed = {ENDS[each] for each in expected.split("|")} | {"over_budget"}
            assert found.status.value in allowed, (name, found)
            if found.status is ScriptStatus.FINISHED:
                assert found.globals["harmless"] is True, (name, found)
            text = str(found.error)
        assert "extsession" not in text, (name, text)
        honest = runner.run(HONEST, {"price": 20})
        assert (honest.status, honest.globals.get("cost"), honest.cycles) == (
            ScriptStatus.FINISHED,
            20 * 1.2345678,
            cycles,
        ), name
    assert process.memory_info().rss - before < GROWTH
