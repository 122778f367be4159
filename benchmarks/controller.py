"""A controller in a process of its own, for the rows that need one that nothing else was done in.

`python -m benchmarks.controller idle N`: holds N sessions; first line out: the facts; then for each line
"CALLS SECONDS" on stdin the seconds of a call on one of them. `... memory N`: N calls on one session; a line of
memory at each of the marks.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import sys
import time
from typing import Any

import psutil

from extsession import ExtSession

from .harness import latency

#: the share of the calls after which memory is looked at
MARKS = (0.1, 0.5, 1.0)


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _all_no_op(sessions: list[ExtSession]) -> float:
    begin = time.perf_counter()
    for results in [session.execute("pass") for session in sessions]:
        results.wait()
    return time.perf_counter() - begin


def _pss() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def idle(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as end:
        sessions: list[ExtSession] = []
        starts: list[float] = []
        for _ in range(count):
            begin = time.perf_counter()
            session = end.enter_context(ExtSession())
            session.execute("pass").wait()
            starts.append(time.perf_counter() - begin)
            sessions.append(session)
            if len(sessions) == 1:
                of_first = _descriptors()
        _all_no_op(sessions)
        _say(
            start=statistics.median(starts),
            descriptors=(_descriptors() - of_first) / (count - 1) if count > 1 else 0,
            processes=len(psutil.Process().children(recursive=True)) / count,
            memory=_pss() / count,
            all=[_all_no_op(sessions) for _ in range(3)],
        )
        session = sessions[0]
        for line in sys.stdin:
            calls, budget = line.split()
            _say(call=latency(lambda: session.execute("pass").wait(), int(calls), float(budget)))


def memory(count: int) -> None:
    marks = {max(1, round(count * share)): share for share in MARKS}
    with ExtSession() as session:
        assert session.pid is not None
        me, worker = psutil.Process(), psutil.Process(session.pid)
        begin = time.perf_counter()
        for number in range(1, count + 1):  # no source is like another: what is kept of one shows
            if number % 10 == 0:
                session.execute(f"print({number})").wait()
            elif number % 10 == 5:
                session.eval(f"{number} + 1")
            else:
                session.execute(f"x = {number}").wait()
            if number in marks:
                _say(
                    share=marks[number],
                    controller=me.memory_info().rss,
                    child=worker.memory_info().rss,
                    call=(time.perf_counter() - begin) / number,
                )


if __name__ == "__main__":
    {"idle": idle, "memory": memory}[sys.argv[1]](int(sys.argv[2]))
