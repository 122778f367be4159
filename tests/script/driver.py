"""Run scripts in whatever interpreter this is: JSON lists in, JSON lists out. Needs the standard library alone.

Usage: driver.py FOLDER_OF_WORKER < [[source, cycles, values], ...]
"""

from __future__ import annotations

import json
import sys
from typing import Any


def plain(value: Any) -> Any:
    if isinstance(value, set):
        return ["set", sorted(map(repr, value))]
    if isinstance(value, dict):
        return ["dict", [[plain(key), plain(each)] for key, each in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [plain(each) for each in value]]
    return repr(value)


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from script import engine  # type: ignore[import-not-found]

    results = []
    for source, cycles, values in json.load(sys.stdin):
        program = engine.prepare(source)
        if isinstance(program, engine.Rejected):
            results.append(["rejected"])
            continue
        written: list = []
        record = engine.run(program, values, {}, {"cycles": cycles}, None, written.append)
        error = record["error"] or {"type": None, "line": None}
        results.append(
            [record["status"], record["over"], record["cycles"], error["type"], error["line"], "".join(written)]
            + [plain(record["globals"])]
        )
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
