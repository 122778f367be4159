"""A controller in a process of its own, for the rows that need one that nothing else was done in.

`python -m benchmarks.controller idle N`: holds N sessions; a line when they are there; then for each line
"CALLS SECONDS" on stdin the seconds of a call on one of them. `... many N`, `... spawned N`: what N sessions cost, of a
template or not, in one line. `... memory N`: N calls on one session; a line of memory at each of the marks.
`... ends N HOW`: N sessions, a line with all processes when they run; then the seconds that their end takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import trio

import extsession
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


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _started(end: contextlib.ExitStack, **options: Any) -> ExtSession:
    session = end.enter_context(ExtSession(**options))
    session.execute("pass").wait()
    return session


def idle(count: int) -> None:
    _allow_many_files()
    with contextlib.ExitStack() as end:
        sessions = [_started(end) for _ in range(count)]
        _all_no_op(sessions)
        _say(count=len(sessions))
        session = sessions[0]
        for line in sys.stdin:
            calls, budget = line.split()
            _say(call=latency(lambda: session.execute("pass").wait(), int(calls), float(budget)))


def many(count: int, **options: Any) -> None:
    """What is there before the first session, such as a template, is counted with the memory and the processes."""
    _allow_many_files()
    if not options:
        extsession.warm_up()
    with contextlib.ExitStack() as end:
        sessions: list[ExtSession] = []
        starts: list[float] = []
        descriptors: list[int] = []
        for _ in range(count):
            begin = time.perf_counter()
            sessions.append(_started(end, **options))
            starts.append(time.perf_counter() - begin)
            descriptors.append(_descriptors())
        _all_no_op(sessions)
        few = min(10, count) - 1
        _say(
            starts=starts,
            descriptors=(descriptors[-1] - descriptors[0]) / (count - 1),
            descriptors_of_few=(descriptors[few] - descriptors[0]) / few,
            processes=len(psutil.Process().children(recursive=True)) / count,
            memory=_pss() / count,
            all=[_all_no_op(sessions) for _ in range(9)],
        )
        begin = time.perf_counter()
    _say(end=(time.perf_counter() - begin) / count)


def spawned(count: int) -> None:
    many(count, warm=False)


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


def ends(count: int, how: str) -> None:
    """End sessions that a call runs in. how: "close" or "kill" one after another, "together"; "orphan": not at all."""
    _allow_many_files()
    if how == "together":
        trio.run(_end_together, count)
        return
    with contextlib.ExitStack() as end:
        sessions = [_started(end) for _ in range(count)]
        running = [session.execute(_SLEEP) for session in sessions]
        time_of_warden = _about_to_end(sessions[0].pid)
        if how == "orphan":
            sys.stdin.read()
        begin = time.perf_counter()
        for session in sessions:
            if how == "kill":
                session.kill()
            else:
                session.close()
        for results in running:
            results.wait()
        _say(end=time.perf_counter() - begin, warden=time_of_warden())


async def _end_together(count: int) -> None:
    async with contextlib.AsyncExitStack() as end:
        sessions = [await end.enter_async_context(extsession.AsyncExtSession()) for _ in range(count)]
        for session in sessions:
            await (await session.execute("pass"))
        for session in sessions:
            await session.execute(_SLEEP)
        time_of_warden = _about_to_end(sessions[0].pid)
        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.aclose)
        _say(end=time.perf_counter() - begin, warden=time_of_warden())


_SLEEP = "import time; time.sleep(1000)"


def _about_to_end(pid: int | None) -> Callable[[], float]:
    """Say so; what tells the seconds that the warden of a session has worked from now on."""
    _say(pids=[process.pid for process in psutil.Process().children(recursive=True)])
    warden = psutil.Process(pid).ppid()

    def worked() -> float:
        with open(f"/proc/{warden}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    before = worked()
    return lambda: worked() - before


if __name__ == "__main__":
    rows = {"idle": idle, "many": many, "spawned": spawned, "memory": memory, "ends": ends}
    rows[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:])
