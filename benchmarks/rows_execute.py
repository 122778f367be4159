"""Commands: what running one costs, how fast its output comes, and how soon it is stopped."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from extsession.execute import ExecuteRequest, LocalSubProcessExecute

from .harness import LIMIT, OURS, PEER, Bench, Goal, Missing, checked, latency, row, seconds

_SIZE = 100_000_000
_FLOOD = ["head", "-c", str(_SIZE), "/dev/zero"]
#: ends a while after the signals that are named, and ignores the others; says when it is there
_STOPPED = """
import os, signal, sys, time
for name in ("SIGINT", "SIGTERM"):
    polite = name in sys.argv[1:]
    signal.signal(getattr(signal, name), (lambda *_: (time.sleep(0.1), os._exit(0))) if polite else signal.SIG_IGN)
print("there", flush=True)
while True:
    time.sleep(60)
"""


@row(
    "command-true",
    "running `true`, output captured",
    reference="subprocess.run",
    goals=(Goal("extsession", 1.5, "subprocess.run"),),
)
def command_true(bench: Bench) -> None:
    calls = bench.pick(150, 40)
    executor, request = LocalSubProcessExecute(), ExecuteRequest(["true"])

    def ours() -> Any:
        return executor(request).exit_code

    def plain() -> Any:
        return subprocess.run(["true"], capture_output=True).returncode

    for name, kind, operation in (("extsession", OURS, ours), ("subprocess.run", LIMIT, plain)):
        bench.add(name, kind, functools.partial(latency, checked(operation, 0), calls))
    with bench.optional("tox"):
        bench.add("tox", PEER, functools.partial(latency, checked(_by_tox(["true"]), 0), calls))


@row(
    "command-100mb",
    "a command that writes 100 MB, captured as bytes",
    reference="subprocess.run",
    unit="ms",
    goals=(Goal("executor(request)", 1.2, "subprocess.run"), Goal("executor.call(request)", 1.2, "subprocess.run")),
)
def command_100mb(bench: Bench) -> None:
    executor, request = LocalSubProcessExecute(), ExecuteRequest(_FLOOD)

    def run() -> Any:
        return executor(request)

    def call() -> Any:
        with executor.call(request) as status:
            status.wait()
        return status

    def plain() -> Any:
        return subprocess.run(_FLOOD, capture_output=True)

    for name, kind, operation, size in (
        ("executor(request)", OURS, run, lambda status: len(status.out_bytes)),
        ("executor.call(request)", OURS, call, lambda status: len(status.out_bytes)),
        ("subprocess.run", LIMIT, plain, lambda done: len(done.stdout)),
    ):
        checked(functools.partial(_composed, size, operation), _SIZE)
        bench.add(name, kind, functools.partial(seconds, operation))


def _composed(outer: Callable[[Any], Any], inner: Callable[[], Any]) -> Any:
    return outer(inner())


@row(
    "command-stop",
    "stopping a command, by interrupt()",
    unit="ms",
    goals=(
        Goal("polite, over its own time", 0.050),
        Goal("stubborn, over the three waits", 0.100),
    ),
)
def command_stop(bench: Bench) -> None:
    logger = logging.getLogger("extsession.execute")  # each step is a warning
    bench.closing(functools.partial(logger.setLevel, logger.level))
    logger.setLevel(logging.ERROR)
    waits = {"suicide_timeout": 0.1, "interrupt_timeout": 0.1, "terminate_timeout": 0.1}

    def polite() -> float:
        return _to_stop(LocalSubProcessExecute(interrupt_timeout=5), 0, "SIGINT") - 0.1

    def stubborn() -> float:
        return _to_stop(LocalSubProcessExecute(**waits), -9) - sum(waits.values())

    bench.add("polite, over its own time", OURS, polite)
    bench.add("stubborn, over the three waits", OURS, stubborn)


def _to_stop(executor: LocalSubProcessExecute, code: int, *obeys: str) -> float:
    """Seconds until it is dead. ValueError: it has not ended as it should."""
    with executor.call(ExecuteRequest([sys.executable, "-ISc", _STOPPED, *obeys])) as status:
        while "there" not in status.out:
            time.sleep(0.001)
        took = seconds(status.interrupt)
    if status.exit_code != code:
        raise ValueError(f"it has ended with {status.exit_code} instead of {code}")
    return took


class _Sink(io.BytesIO):
    """What tox takes for a standard stream: it asks for the name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _by_tox(cmd: list[str]) -> Callable[[], Any]:
    """The same by tox's own executor. Missing: it is not installed."""
    try:
        from tox.execute.local_sub_process import LocalSubProcessExecutor
        from tox.execute.request import ExecuteRequest as ToxRequest
        from tox.execute.request import StdinSource
    except ImportError as error:
        raise Missing("tox is not installed") from error
    options = SimpleNamespace(suicide_timeout=0.0, interrupt_timeout=0.3, terminate_timeout=0.2)
    executor = LocalSubProcessExecutor(False)
    request = ToxRequest(cmd, Path.cwd(), dict(os.environ), StdinSource.OFF, "benchmark")
    streams = tuple(io.TextIOWrapper(sink) for sink in (_Sink("<stdout>"), _Sink("<stderr>")))
    env = SimpleNamespace(options=options, _hidden_outcomes=[], journal=None)

    def run() -> Any:
        with contextlib.ExitStack() as stack:
            status = stack.enter_context(executor.call(request, show=False, out_err=streams, env=env))
            while status.wait() is None:
                pass
            return status.exit_code

    return run
