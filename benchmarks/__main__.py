"""The command line; `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from typing import Any

import benchmarks

from .harness import ROWS, Bench, Row


def load_rows() -> list[Row]:
    """All rows, in the order of the table."""
    from . import (
        rows_branch,
        rows_execute,
        rows_isolated,
        rows_kill,
        rows_limits,
        rows_output,
        rows_roundtrip,
        rows_scale,
        rows_scripts,
        rows_start,
        rows_values,
        rows_warm,
    )

    modules = (
        rows_roundtrip,
        rows_values,
        rows_output,
        rows_start,
        rows_warm,
        rows_branch,
        rows_scale,
        rows_kill,
        rows_limits,
        rows_isolated,
        rows_scripts,
        rows_execute,
    )
    order = [module.__name__ for module in modules]
    return sorted(ROWS, key=lambda row: order.index(row.prepare.__module__))


def environment() -> dict[str, Any]:
    import extsession

    return {
        "extsession": extsession.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds: under a minute")
    known = ", ".join(names)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=f"these rows: {known}")
    parser.add_argument("--json", metavar="FILE", help="write all samples, ratios and goals to FILE")
    parser.add_argument("--plot", metavar="FILE", help="draw the rows to FILE (.svg, .png); needs matplotlib")
    parser.add_argument("--list", action="store_true", help="name the rows and their goals, run nothing")
    return parser


def _list(rows: list[Row]) -> None:
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:<{width}}  {row.title}")
        for goal in row.goals:
            against = f" x {goal.against}" if goal.against else ""
            print(f"{'':<{width}}    {goal.of} <= {goal.factor:.3g}{against}")


def main(arguments: list[str] | None = None) -> int:
    """Run the rows and print the table; 1 if a row could not be measured, goals missed or not."""
    rows = load_rows()
    options = _parser([row.name for row in rows]).parse_args(arguments)
    if options.list:
        _list(rows)
        return 0
    if options.plot:
        from . import plot

        plot.require()
    os.environ.pop("PYTHONUNBUFFERED", None)  # it makes every print of a plain `python -c` a system call
    facts = environment()
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("ratio (median of the rounds' ratios), median, middle half of the rounds, kind, name\n")
    done: list[Bench] = []
    failed = []
    for row in rows:
        if options.only and row.name not in options.only:
            continue
        bench = Bench(row, options.quick)
        try:
            bench.run()
        except Exception as error:
            failed.append(row.name)
            print(f"{row.name}: failed: {type(error).__name__}: {error}\n", flush=True)
            continue
        done.append(bench)
        print(bench.table() + f"\n({bench.seconds:.1f} s, load {bench.load:.1f})\n", flush=True)
    counts = [verdict.met for bench in done for verdict in bench.verdicts()]
    print(f"goals: {counts.count(True)} met, {counts.count(False)} missed, {counts.count(None)} unknown")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            rows_done = [bench.as_json() for bench in done]
            json.dump({"environment": facts, "quick": options.quick, "rows": rows_done}, file, indent=1)
            file.write("\n")
    if options.plot:
        about = {**facts, "sizes": "quick"} if options.quick else facts
        plot.draw([bench.as_json() for bench in done], options.plot, about)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
