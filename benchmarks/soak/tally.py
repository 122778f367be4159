"""What has been seen so far, and the table of it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

#: what has to be zero
ZERO = (
    "lost bytes",
    "doubled bytes",
    "wrong attributions",
    "wrong order",
    "wrong states",
    "wrong outcomes",
    "errors of ours",
    "hangs",
    "processes left",
    "other leaks",
)
_NOTES = 40


class Tally:
    """Counters by group and name. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self.notes: list[str] = []

    def add(self, group: str, name: str, count: int = 1) -> None:
        with self._lock:
            self._counts.setdefault(group, Counter())[name] += count

    def wrong(self, name: str, count: int, note: str) -> None:
        """Something that has to be zero is not."""
        assert name in ZERO, name
        self.add("zero", name, count)
        self.note(f"{name}: {note}")

    def note(self, text: str) -> None:
        with self._lock:
            if len(self.notes) < _NOTES:
                self.notes.append(text)

    def count(self, group: str, name: str) -> int:
        with self._lock:
            return self._counts.get(group, Counter())[name]

    def as_json(self) -> dict[str, Any]:
        with self._lock:
            found: dict[str, Any] = {group: dict(sorted(counts.items())) for group, counts in self._counts.items()}
            found["zero"] = {name: self._counts.get("zero", Counter())[name] for name in ZERO}
            found["notes"] = list(self.notes)
        return found


def is_good(data: dict[str, Any]) -> bool:
    return not any(data["zero"].values())


def table(data: dict[str, Any]) -> str:
    """For people, and for docs/reliability.md."""
    lines = ["| | |", "| --- | ---: |"]

    def row(name: str, value: Any) -> None:
        lines.append(f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value} |")

    for name, value in data.get("facts", {}).items():
        row(name, value)
    for group in ("calls", "sessions", "faults"):
        counts = data.get(group, {})
        row(f"**{group}**", sum(count for name, count in counts.items() if not name.startswith("bytes")))
        programs = {name: count for name, count in counts.items() if name.startswith("program ")}
        for name, count in counts.items():
            if name not in programs:
                row(name, count)
        if programs:
            row(f"programs that misbehave, {len(programs)} of them", sum(programs.values()))
    row("**to be zero**", "")
    for name, count in data["zero"].items():
        row(name, count)
    for name, why in data.get("skipped", {}).items():
        row(f"not injected: {name}", why)
    return "\n".join([*lines, *(f"! {note}" for note in data.get("notes", ()))])
