"""The same script costs the same and ends the same on every CPython from 3.10 on, with every hash seed, each time."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

HERE = Path(__file__).parent
WORKER = HERE.parent.parent / "extsession" / "_worker"


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"script_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drive(python: str, cases: list[Any], seed: str = "0") -> list[Any]:
    """How the scripts end in an interpreter: [[status, over, cycles, error, line, written, globals], ...]."""
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [python, "-I" if seed == "0" else "-s", str(HERE / "driver.py"), str(WORKER)],
        input=json.dumps(cases), capture_output=True, text=True, timeout=100, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def _attacks() -> list[Any]:
    cases = [case for family in _module("corpus").ATTACKS.values() for case in family.values()]
    return [[source, 300_000, {}] for _, source in cases if "\ud800" not in source]


@functools.cache
def _here(kind: str) -> list[Any]:
    return drive(sys.executable, CASES[kind]())


#: scripts in which much would differ, if anything did
HONEST = [
    "s = set()\nfor w in 'the quick brown fox jumps over the lazy dog'.split():\n    s.add(w)\nn = 0\nfor w in s:\n    n = n * 31 % 1000003 + len(w)\nif 'fox' in s:\n    for w in s | {'x', 'y'}:\n        n += len(w)\n",
    "x = sum([0.1] * 1000)\nwhile x > 99.9999999999:\n    x -= 0.1\nt = f'{x!r} {x:.3f}'\n",
    "d = {}\nfor i in range(500):\n    d[str(i), i] = [i] * (i % 7)\nxs = sorted(d.items(), key=lambda p: (len(p[1]), p[0]))\ntotal = sum([len(v) for k, v in d.items()])\n",
    "def f(n):\n    try:\n        if n == 0:\n            raise ValueError('deep')\n        return f(n - 1)\n    finally:\n        pass\ntry:\n    f(100)\nexcept ValueError as e:\n    m = str(e)\n",
    "x = 3\nfor i in range(300):\n    x = x * 3 % (10 ** 40 + 7) + x // 7\nt = str(x)\n",
    "text = 'lorem ipsum dolor sit amet ' * 40\nwords = text.split()\ncounts = {w: words.count(w) for w in words}\nt = text.replace('o', '0').upper().title().strip('L')\n",
    "m = [[(i * j) % 5 for j in range(20)] for i in range(20)]\nt = 0\nfor row in m:\n    for v in row[::2]:\n        t += v if v > 2 else -v\n",
]
CASES: dict[str, Any] = {
    "honest": lambda: [[source, 1_000_000, {}] for source in HONEST],
    "attacks": _attacks,
}


@pytest.mark.parametrize("kind", list(CASES))
def test_interpreters_agree(each_script_python: str, kind: str) -> None:
    cases = CASES[kind]()
    found = drive(each_script_python, cases)
    for case, one, two in zip(cases, found, _here(kind), strict=True):
        assert one == two, case[0][:300]
    if kind == "honest":
        assert {each[0] for each in found} == {"finished"}


@pytest.mark.parametrize("seed", ["1", "4711", "random"])
def test_hash_seeds_do_not_matter(each_script_python: str, seed: str) -> None:
    assert drive(each_script_python, CASES["honest"](), seed) == _here("honest")


def test_twenty_runs_cost_the_same(script: Any) -> None:
    for source in HONEST:
        assert len({script(source).cycles for _ in range(20)}) == 1


def test_generated_scripts() -> None:
    from extsession._launch.interpreter import candidates

    sources: list[str] = []

    @settings(max_examples=120, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(_module("test_meaning").programs)
    def collect(source: str) -> None:
        sources.append(source)

    collect()
    cases = [[source, 100_000, {}] for source in sources]
    expected = drive(sys.executable, cases)
    versions = {one.version[:2]: str(one.path) for one in reversed(candidates()) if one.version >= (3, 10)}
    for python in versions.values():
        for case, one, two in zip(cases, drive(python, cases), expected, strict=True):
            assert one == two, (python, case[0])
