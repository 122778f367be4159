"""Read before you judge: `python -m benchmarks.stalls`.

A call ends while its controller is stalled, from before the end of the call to after its deadline. It has finished, and
must not be reported as timed out, nor must it have been interrupted. The exit status is 1 if one was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from extsession import AsyncExtSession, ExtResults, ExtSession, Outcome

#: seconds that a call runs, and that it may; and for which a stall goes on
TIMEOUT = float(os.environ.get("EXTSESSION_STALL_TIMEOUT", "0.02"))
RUNS, AFTER = TIMEOUT / 2, 0.005
_SOURCE = "import time; over = False; time.sleep({}); over = True"
#: what becomes of a call for which all is well; and of one that has not come to its end: the machine was too busy, and
#: the stall, or the call's end, came too late. Its code knows.
FINE, CUT = "finished", "cut off before its end, and no try"


def judged(results: Any, over: Callable[[], bool]) -> str:
    """over: says whether the code has come to its end."""
    completion = results.completion
    if completion.outcome is Outcome.FINISHED and not completion.steps:
        return FINE
    if completion.outcome is Outcome.TIMED_OUT and not over():
        return CUT
    return f"{completion.outcome.value} {'+'.join(step.value for step in completion.steps)}"


def _stall(session: Any, timeout: float = TIMEOUT) -> None:
    """Until the end of the call is there to be read, unless somebody has read it, and its deadline is over."""
    end = time.monotonic() + timeout + AFTER
    poll = select.poll()
    poll.register(session._core.link.process.channel.fileno(), select.POLLIN)
    poll.poll(200)
    while time.monotonic() < end:
        pass


def blocked_hub(tries: int) -> Counter[str]:
    """The hub keeps the session, and is blocked by the callback of another one."""
    found: Counter[str] = Counter()
    timeout = TIMEOUT + 0.03  # the hub comes to look after 5 ms
    with ExtSession() as session, ExtSession() as other:
        for number in range(tries):
            results = session.execute(_SOURCE.format(RUNS + 0.03), timeout=timeout)
            over = threading.Event()

            def block(_: ExtResults, over: threading.Event = over) -> None:
                _stall(session, timeout)
                over.set()

            time.sleep(0.006)
            other.execute(f"{number}").add_done_callback(block)
            over.wait(30)
            found[judged(results.wait(), lambda: bool(session["over"]))] += 1
    return found


def blocked_thread(tries: int) -> Counter[str]:
    """The thread that drives the session is blocked, with what has arrived in its hands; others wait, too."""
    found: Counter[str] = Counter()
    with ExtSession() as session:
        link = session._core.link
        wait = link.wait
        stalls = [False]

        def slow(timeout: float | None) -> Any:
            ready = wait(timeout)
            if stalls[0]:
                stalls[0] = False
                _stall(session)
            return ready

        link.wait = slow  # type: ignore[method-assign]
        for _ in range(tries):
            stalls[0] = True
            results = session.execute(_SOURCE.format(RUNS), timeout=TIMEOUT)
            threads = [threading.Thread(target=results.wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found[judged(results, lambda: bool(session["over"]))] += 1
    return found


async def _blocked_loop(tries: int, sleep: Callable[[float], Any], found: Counter[str]) -> None:
    async with AsyncExtSession() as session:
        await (await session.execute("pass"))
        for _ in range(tries):
            results = await session.execute(_SOURCE.format(RUNS), timeout=TIMEOUT)
            await sleep(0.001)
            _stall(session)
            await results.wait()
            is_over = await session.get("over")
            found[judged(results, lambda is_over=is_over: is_over)] += 1


def blocked_trio(tries: int) -> Counter[str]:
    """The event loop is blocked."""
    found: Counter[str] = Counter()
    trio.run(_blocked_loop, tries, trio.sleep, found)
    return found


def blocked_asyncio(tries: int) -> Counter[str]:
    """The event loop is blocked."""
    found: Counter[str] = Counter()
    asyncio.run(_blocked_loop(tries, asyncio.sleep, found))
    return found


# controllers to be stopped from outside. Their calls write a byte as the last thing they do.

_CALL = "import os, time; over = False; time.sleep({}); over = True; os.write(mark, b'x')"


def _tell(what: object) -> None:
    os.write(1, f"{what}\n".encode())


def _controller(way: str, tries: int, path: str) -> None:
    begin = f"import os; mark = os.open({path!r}, os.O_WRONLY | os.O_APPEND)"
    source = _CALL.format(RUNS)
    if way == "sync":
        with ExtSession() as session:
            session.execute(begin).wait()
            _tell(session.pid)
            for _ in range(tries):
                results = session.execute(source, timeout=TIMEOUT)
                _tell("runs")
                threads = [threading.Thread(target=results.wait) for _ in range(2)]
                for thread in threads:
                    thread.start()
                results.wait()
                for thread in threads:
                    thread.join()
                _tell(judged(results, lambda: bool(session["over"])))
        return

    async def run() -> None:
        async with AsyncExtSession() as session:
            await (await session.execute(begin))
            _tell(session.pid)
            for _ in range(tries):
                results = await session.execute(source, timeout=TIMEOUT)
                _tell("runs")
                await results.wait()
                is_over = await session.get("over")
                _tell(judged(results, lambda is_over=is_over: is_over))

    if way == "trio":
        trio.run(run)
    else:
        asyncio.run(run())


def _is_waiting(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"S"


def _stopped(way: str, tries: int) -> Counter[str]:
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as end:
        mark = Path(folder, "mark")
        mark.touch()
        command = [sys.executable, "-m", "benchmarks.stalls", "--controller", way, str(tries), str(mark)]
        process = end.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        end.callback(process.kill)
        end.callback(process.send_signal, signal.SIGCONT)
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        for number in range(1, tries + 1):
            assert process.stdout.readline() == "runs\n"
            due = time.monotonic() + TIMEOUT + AFTER
            time.sleep(number % 8 * 0.001)  # it is stopped at various places
            process.send_signal(signal.SIGSTOP)
            limit = due + 2  # if it was stopped too late, the call has been cut off
            while mark.stat().st_size + found[CUT] < number or not _is_waiting(worker) or time.monotonic() < due:
                if time.monotonic() > limit:
                    break
                time.sleep(0.001)
            process.send_signal(signal.SIGCONT)
            found[process.stdout.readline().strip()] += 1
        process.wait(30)
    return found


def stopped_sync(tries: int) -> Counter[str]:
    """The controller is stopped by SIGSTOP; three threads wait for the call."""
    return _stopped("sync", tries)


def stopped_trio(tries: int) -> Counter[str]:
    """The controller is stopped by SIGSTOP."""
    return _stopped("trio", tries)


def stopped_asyncio(tries: int) -> Counter[str]:
    """The controller is stopped by SIGSTOP."""
    return _stopped("asyncio", tries)


WAYS: dict[str, Callable[[int], Counter[str]]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        stopped_sync,
        stopped_trio,
        stopped_asyncio,
        blocked_hub,
        blocked_thread,
        blocked_trio,
        blocked_asyncio,
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each way to be stalled; 1 if a call was not reported as finished."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalls", description=__doc__)
    parser.add_argument("--tries", type=int, default=1000, metavar="N", help="in each way")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--controller", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.controller:
        way, tries, path = options.controller
        _controller(way, int(tries), path)
        return 0
    wrong = 0
    for name in options.only or WAYS:
        found = WAYS[name](options.tries)
        wrong += found.total() - found[FINE] - found[CUT]
        what = ", ".join(f"{count} {outcome}" for outcome, count in found.most_common())
        print(f"{name:<15} {options.tries} tries: {what}", flush=True)
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
