"""What the end of a test's process means, as the report that its test gets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from extsession.processes import signal_name

from .settings import Settings
from .watch import Seen, exit_of

#: in the path of the frame that runs a test
_OURS = os.path.join("_inner", "internals.py")

When = Literal["setup", "call", "teardown"]


@dataclass(frozen=True)
class Verdict:
    """text: the reason, as printed; facts: `report.isolated`."""

    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def judge(seen: Seen, settings: Settings, failed: str, memory_killer: bool, threads: list[str]) -> Verdict | None:
    """What went wrong; None: nothing did. failed: the traceback of a failure of ours, as the child has told it."""
    phase = seen.phase or "setup"
    assert seen.ended is not None
    number, code = exit_of(seen.ended.status)

    def verdict(kind: str, text: str, limit: float | None = None, used: float | None = None) -> Verdict:
        assert seen.ended is not None
        facts = {
            "kind": kind,
            "phase": phase,
            "pid": seen.pid,
            "signal": None if number is None else signal_name(number),
            "exit_code": code,
            "limit": limit,
            "used": used,
            "cpu": round(seen.ended.cpu, 4),
            "peak_memory": seen.ended.peak_memory,
        }
        return Verdict(text, facts)

    if seen.finished and not failed:
        return None
    if seen.stopped == "timeout":
        assert settings.timeout is not None
        text = f"isolated test timed out: {settings.timeout:g}s, stopped during {phase}"
        return verdict("timeout", text, settings.timeout)
    if seen.stopped == "memory":
        assert seen.breach is not None
        used, allowed = seen.breach.reached, seen.breach.allowed
        text = f"isolated test exceeded memory: {_mebibytes(used)} used, {_mebibytes(allowed)} allowed, during {phase}"
        return verdict("memory", text, allowed, used)
    if seen.stopped == "start":
        names = ", ".join(threads) or "none that Python knows of"
        text = (
            "isolated test failed to start: it made no progress for 10 s; threads were running in the parent at the "
            f'fork: {names}; use start="spawn"'
        )
        return verdict("start", text)
    if failed:
        return verdict("failed", f"isolated test failed to report: {failed}")
    if seen.garbled:
        return verdict("failed", f"isolated test failed to report: {seen.garbled}")
    if number is None and code is None:
        text = "isolated test failed to report: its end was not seen; something waits for all children"
        return verdict("failed", text)
    over_cpu = settings.cpu is not None and (
        number == signal.SIGXCPU or (number == signal.SIGKILL and seen.ended.cpu >= settings.cpu)
    )
    if over_cpu:
        text = f"isolated test exceeded cpu time: {settings.cpu}s during {phase}"
        return verdict("cpu", text, settings.cpu, seen.ended.cpu)
    if memory_killer:
        text = f"isolated test exceeded memory: the kernel's memory killer ended it during {phase}"
        return verdict("memory", text, None, seen.ended.peak_memory)
    if number is not None:
        text = f"isolated test crashed: signal {int(number)} ({signal_name(number)}) during {phase}"
        return verdict("crash", text)
    return verdict("exit", f"isolated test exited: status {code} during {phase}")


def report_of(
    item: pytest.Item,
    when: When,
    text: str,
    *,
    sections: Iterable[tuple[str, str]] = (),
    duration: float = 0.0,
    stop: float = 0.0,
    facts: dict[str, Any] | None = None,
) -> pytest.TestReport:
    """A report that fails with `text`; without a text it has passed."""
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={str(name): 1 for name in item.keywords},
        outcome="failed" if text else "passed",
        longrepr=text or None,
        when=when,
        sections=sections,
        duration=duration,
        start=stop - duration,
        stop=stop,
        user_properties=list(item.user_properties),
    )
    if facts is not None:
        report.isolated = facts  # type: ignore[attr-defined]
    return report


def excuse(report: pytest.TestReport, xfail: dict[str, Any] | None) -> None:
    """A death in the call of a test that is expected to fail is what was expected, unless an exception was."""
    if xfail is None or xfail["raises"] or report.when != "call":
        return
    report.outcome = "skipped"
    reason = xfail["reason"]
    report.wasxfail = f"{reason} [{report.longrepr}]" if reason else f"[{report.longrepr}]"


def stacks(text: str) -> str:
    """What faulthandler has written, without the frames that called the test's process: they are the same in all."""
    found, is_ours = [], False
    for line in text.splitlines():
        if not line.startswith("  File "):
            is_ours = False
        elif _OURS in line:
            is_ours = True
        if not is_ours:
            found.append(line)
    return "\n".join(found)


def text_of(fd: int) -> str:
    """All that is in a file."""
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode("utf-8", "replace")
