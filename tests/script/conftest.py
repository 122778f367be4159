"""What tests of locked-down scripts share."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from extsession._worker.script import engine

#: what an honest author writes; it must give this after whatever ran before it
HONEST = """\
ratio = 1.2345678
minimum = 10

def convert(money):
    return money * ratio

if price < minimum:
    cost = convert(minimum)
else:
    cost = convert(price)
"""
HONEST_CYCLES = 22


class Ran:
    """How a script ended."""

    def __init__(self, record: dict[str, Any], written: str, seconds: float) -> None:
        self.record = record
        self.status: str = record["status"]
        self.over: str | None = record["over"]
        self.cycles: int = record["cycles"]
        self.globals: dict[str, Any] = record["globals"]
        self.error: dict[str, Any] = record["error"] or {}
        self.written = written
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"{self.status} {self.over} {self.cycles} {self.error} {str(self.globals)[:200]}"


class Runner:
    """Runs scripts in this process, as a child would."""

    rejected = engine.Rejected

    def __call__(self, source: str, cycles: int = 1_000_000, **values: Any) -> Ran:
        program = engine.prepare(source)
        assert isinstance(program, engine.Program), program.findings  # type: ignore[union-attr]
        return self.program(program, cycles, values)

    def program(
        self, program: Any, cycles: int = 1_000_000, values: Any = None, functions: Any = None, ask: Any = None, **limits: Any
    ) -> Ran:
        written: list[str] = []
        before = time.process_time()
        record = engine.run(program, values or {}, functions or {}, {"cycles": cycles, **limits}, ask, written.append)
        return Ran(record, "".join(written), time.process_time() - before)

    def findings(self, source: str) -> list[dict[str, Any]]:
        found = engine.prepare(source)
        return found.findings if isinstance(found, engine.Rejected) else []

    def honest(self) -> None:
        ran = self(HONEST, cycles=HONEST_CYCLES, price=7.5)
        assert ran.globals["cost"] == 12.345678, ran
        assert ran.cycles == HONEST_CYCLES
        assert self(HONEST, cycles=HONEST_CYCLES - 1, price=7.5).over == "cycles"


@pytest.fixture
def script() -> Runner:
    return Runner()


@pytest.fixture(autouse=True)
def _leaves_nothing() -> None:
    """Nothing here is left by a test in this process: the check of all tests takes longer than these do."""


def script_interpreters() -> list[str]:
    """Every CPython from 3.10 on that is here."""
    from extsession._launch.interpreter import candidates

    found = {one.version[:2]: str(one.path) for one in reversed(candidates()) if one.version >= (3, 10)}
    return [found[version] for version in sorted(found)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "each_script_python" in metafunc.fixturenames:
        paths = script_interpreters()
        metafunc.parametrize("each_script_python", paths, ids=[os.path.basename(os.path.dirname(os.path.dirname(p))) for p in paths])
