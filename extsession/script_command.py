"""`extsession script`: run a locked-down script from a file."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import ExtSessionError, ScriptLimits, ScriptOutcome, ScriptRejected, ScriptStatus
from .script import ScriptRunner

#: exit codes
FINISHED, FAILED, REJECTED, OVER_BUDGET = 0, 1, 2, 3
_CODES = {
    ScriptStatus.FINISHED: FINISHED,
    ScriptStatus.FAILED: FAILED,
    ScriptStatus.OVER_BUDGET: OVER_BUDGET,
    ScriptStatus.KILLED: OVER_BUDGET,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the script; - for standard input")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="a name that it is given: a literal, else text"
    )
    parser.add_argument("--cycles", type=int, default=ScriptLimits.cycles, help="its budget (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=ScriptLimits.seconds, help="wall time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="all of the outcome, for programs")
    parser.add_argument("--explain", action="store_true", help="show where the cycles went, on standard error")


def run(given: argparse.Namespace) -> int:
    """Print the names that the script has left as JSON; 0 finished, 1 failed, 2 rejected, 3 over budget.

    Raises ValueError, OSError and ExtSessionError for what is no fault of the script's.
    """
    source = sys.stdin.read() if given.file == "-" else _read(given.file)
    limits = ScriptLimits(cycles=given.cycles, seconds=given.seconds)
    values = given_values(given.set)
    try:
        with ScriptRunner(limits=limits) as runner:
            outcome = runner.run(source, values)
            cycles = runner.explain(source) if given.explain else {}
    except ScriptRejected as error:
        findings = [dict(each) for each in error.findings or ()]
        if given.json:
            print(json.dumps({"status": "rejected", "findings": findings}, indent=2))
        for each in findings:
            hint = f" ({each['hint']})" if each.get("hint") else ""
            print(f"{given.file}:{each.get('line')}:{each.get('column')}: {each.get('why')}{hint}", file=sys.stderr)
        return REJECTED
    _show(outcome, given)
    if given.explain:
        _explain(outcome, cycles, source)
    return _CODES[outcome.status]


def _show(outcome: ScriptOutcome, given: argparse.Namespace) -> None:
    if given.json:
        print(json.dumps(_as_data(outcome), indent=2, default=_plain))
    else:
        sys.stdout.write(outcome.stdout)
        print(json.dumps(dict(outcome.globals), indent=2, default=_plain))
    if outcome.error is not None:
        print(f"{given.file}: {outcome.error}", file=sys.stderr)
    elif outcome.status is not ScriptStatus.FINISHED:
        where = "" if outcome.line is None else f", line {outcome.line}"
        what = outcome.over or "its session was ended"
        print(f"{given.file}: {outcome.status.value}: {what}{where}", file=sys.stderr)


def _explain(outcome: ScriptOutcome, cycles: Mapping[int, int], source: str) -> None:
    lines = source.splitlines()
    print(f"{outcome.cycles} cycles", file=sys.stderr)
    for line, count in cycles.items():
        text = lines[line - 1].rstrip() if 0 < line <= len(lines) else ""
        print(f"{count:>12}  {line:>4}  {text}", file=sys.stderr)


def _as_data(outcome: ScriptOutcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "status": outcome.status.value,
        "over": outcome.over,
        "line": outcome.line,
        "cycles": outcome.cycles,
        "globals": dict(outcome.globals),
        "error": None if error is None else vars(error),
        "stdout": outcome.stdout,
    }


def given_values(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE as a dict; ValueError that names the word."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, not {word!r}")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def _plain(value: Any) -> Any:
    """What JSON does not have."""
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else str(value)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def main(given: argparse.Namespace) -> int:
    """As `run`, with errors as messages."""
    try:
        return run(given)
    except (ValueError, TypeError, OSError, ExtSessionError) as error:
        print(f"extsession script: {error}", file=sys.stderr)
        return REJECTED
