"""Many sessions, many calls."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .controller import MARKS
from .harness import OURS, Bench, Goal, row

_ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def in_controller(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs controller.py with these arguments."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benchmarks.controller", *arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line that it says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ChildProcessError(f"the controller ended with status {process.wait()}")
    facts: dict[str, Any] = json.loads(line)
    return facts


# Names do not tell the number of sessions of a quick run, so that goals hold for both.
LEVELS = {"1": (1, 1), "10": (10, 4), "100": (100, 16), "500": (500, 50)}
_CALL = "a call, {} alive"


@row(
    "idle",
    "many sessions alive, each controller in a process of its own",
    reference=_CALL.format(1),
    goals=[Goal(_CALL.format(level), 1.2, _CALL.format(1)) for level in ("10", "100", "500")],
)
def idle(bench: Bench) -> None:
    calls, budget = bench.pick((1000, 0.15), (200, 0.03))
    if bench.quick:
        small = ", ".join(f"{few} for {name}" for name, (_, few) in LEVELS.items() if name != str(few))
        bench.notes.append(f"quick: fewer sessions: {small}")

    def ask(process: subprocess.Popen[str]) -> float:
        assert process.stdin is not None
        process.stdin.write(f"{calls} {budget}\n")
        process.stdin.flush()
        taken: float = heard(process)["call"]
        return taken

    for name, numbers in LEVELS.items():
        with bench.optional(_CALL.format(name)):
            process = bench.enter(in_controller("idle", str(bench.pick(*numbers))))
            heard(process)
            bench.add(_CALL.format(name), OURS, functools.partial(ask, process))


START, PSS, ALL = "start of one", "PSS of one", "a no-op to all"
DESCRIPTORS, DESCRIPTORS_OF_FEW = "descriptors for one", "descriptors for one of 10"
PROCESSES, END = "processes for one", "end of one"
_SPAWNED = "{}, spawned"


@row(
    "many",
    "what one of 500 sessions of a template costs, and of 50 that are spawned",
    unit="ms",
    goals=[
        Goal(START, 0.002),
        Goal(PSS, 1e6, note="of all processes of ours, warden and template too"),
        Goal(ALL, 0.06, note="written to all, then waited for"),
        Goal(DESCRIPTORS, 5, note="constant: 4, and 1 where the hub watches it"),
    ],
)
def many(bench: Bench) -> None:
    bench.rounds, bench.warm_up = 0, False
    count = bench.pick(500, 50)
    if bench.quick:
        bench.notes.append(f"quick: {count} sessions, 10 that are spawned")
    for mode, number, form in (("many", count, "{}"), ("spawned", bench.pick(50, 10), _SPAWNED)):
        with in_controller(mode, str(number)) as process:
            facts = heard(process)
            bench.record(form.format(START), OURS, facts["starts"])
            bench.record(form.format(PSS), OURS, [facts["memory"]], "MB")
            bench.record(form.format(PROCESSES), OURS, [facts["processes"]], "")
            bench.record(form.format(END), OURS, [heard(process)["end"]])
            if mode == "many":
                bench.record(ALL, OURS, facts["all"])
                bench.record(DESCRIPTORS, OURS, [facts["descriptors"]], "")
                bench.record(DESCRIPTORS_OF_FEW, OURS, [facts["descriptors_of_few"]], "")


_RSS = "{} after {:.0%} of the calls"
_CONTROLLER, _CHILD = ([_RSS.format(whose, mark) for mark in MARKS] for whose in ("controller", "child"))
MEAN = "mean of a call, print or eval"


@row(
    "memory",
    "resident memory over 1,000,000 calls on one session",
    unit="MB",
    goals=[Goal(_CONTROLLER[-1], 1.05, _CONTROLLER[0], "flat"), Goal(_CHILD[-1], 1.05, _CHILD[0], "flat")],
)
def memory(bench: Bench) -> None:
    bench.rounds, bench.warm_up = 0, False
    count = bench.pick(1_000_000, 20_000)
    if bench.quick:
        bench.notes.append(f"quick: {count:,} calls; the first mark is before the records for readcodes() are full")
    with in_controller("memory", str(count)) as process:
        for controller, child in zip(_CONTROLLER, _CHILD, strict=True):
            facts = heard(process)
            bench.record(controller, OURS, [facts["controller"]])
            bench.record(child, OURS, [facts["child"]])
        bench.record(MEAN, OURS, [facts["call"]], "us")
