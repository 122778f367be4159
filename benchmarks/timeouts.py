"""How exactly timeouts are kept: `python -m benchmarks.timeouts`.

Each program of `extsession.testing`'s catalogue that ends by the ladder runs with `timeout=0.1`; how much later than
it should its end is reported: 0.1 s after the start for a program that can be interrupted, and that and the ladder's
steps for one that ignores them. The exit status is 1 if a median is later than its goal.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import trio

from extsession import AsyncExtSession, ExtSession, Ladder, Step
from extsession.testing import PROGRAMS, Program

TIMEOUT = 0.1
LADDER = Ladder(interrupt=0.4, terminate=0.1)
#: seconds: of those that an interrupt ends; of others
SOON, LATER = 0.03, 0.1
#: seconds that it takes the code itself to react to an interrupt, and why
SLOW = {"full-pipe-of-child": (0.25, "after a KeyboardInterrupt, Popen.wait() waits 0.25 s for the child (CPython)")}


def due(program: Program) -> float:
    """Seconds after which its end is due."""
    waits = {Step.TERMINATE: LADDER.interrupt, Step.KILL: LADDER.terminate}
    return TIMEOUT + sum(waits.get(step, 0.0) for step in program.steps) + SLOW.get(program.name, (0.0, ""))[0]


def goal(program: Program) -> float:
    return SOON if program.steps == (Step.INTERRUPT,) else LATER


def late(program: Program) -> float:
    with ExtSession(warm=not program.alone, ladder=LADDER) as session:
        session.execute("pass").wait()
        begin = time.perf_counter()
        results = session.execute(program.source, timeout=TIMEOUT)
        results.wait(30)
        return _judged(program, time.perf_counter() - begin, results.completion.steps)


def late_async(program: Program) -> float:
    async def run() -> float:
        async with AsyncExtSession(warm=not program.alone, ladder=LADDER) as session:
            await (await session.execute("pass"))
            begin = time.perf_counter()
            results = await session.execute(program.source, timeout=TIMEOUT)
            await results.wait()
            return _judged(program, time.perf_counter() - begin, results.completion.steps)

    return trio.run(run)


def _judged(program: Program, took: float, steps: tuple[Step, ...]) -> float:
    if steps != program.steps:
        raise RuntimeError(f"{program.name} took {steps}")
    return took - due(program)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timeouts", description=__doc__)
    parser.add_argument("--tries", type=int, default=7, metavar="N", help="for each program and colour")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these programs")
    options = parser.parse_args(arguments)
    programs = [each for each in PROGRAMS if each.steps and (not options.only or each.name in options.only)]
    ways: dict[str, Callable[[Program], float]] = {"sync": late, "trio": late_async}
    width = max(len(each.name) for each in programs)
    print(f"timeout={TIMEOUT}, {LADDER}: reported so many ms late, median (worst) of {options.tries}")
    print(f"{'':<{width}}  {'last step':<9}  " + "  ".join(f"{name:>14}" for name in ways) + "   goal")
    missed = 0
    for program in programs:
        cells = []
        for way in ways.values():
            found = [way(program) * 1e3 for _ in range(options.tries)]
            cells.append(f"{statistics.median(found):6.1f} ({max(found):5.1f})")
            missed += statistics.median(found) > goal(program) * 1e3
        last = program.steps[-1].value
        print(f"{program.name:<{width}}  {last:<9}  " + "  ".join(cells) + f"  {goal(program) * 1e3:5.0f}", flush=True)
    for program in programs:
        if program.name in SLOW:
            seconds, why = SLOW[program.name]
            print(f"{program.name}: due {seconds} s later: {why}")
    print(f"{len(programs)} programs, {missed} medians later than their goal")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
