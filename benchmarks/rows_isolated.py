"""Isolated sessions: their start, beside that of bubblewrap with the same namespaces, round trips, and their end."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import extsession
import extsession._launch.walled
from extsession import ExtSession, Isolation, IsolationUnavailable

from . import ours
from .harness import LIMIT, OURS, PEER, Bench, Goal, Missing, checked, latency, row, seconds, starts
from .rows_warm import start

FULL, WEAK, ORDINARY = "isolated, full tier", "isolated, weak tier", "ordinary, from its template"
BWRAP = "bwrap, python -I -c pass"
PANDAS = "isolated, full tier, pandas"
_INSIDE = 17


@contextlib.contextmanager
def _only(tier: str) -> Iterator[None]:
    """The weak tier also where more is to be had: for that there is no option."""
    walled: Any = extsession._launch.walled
    before = walled.acceptable
    walled.acceptable = lambda _: (tier,)
    try:
        yield
    finally:
        walled.acceptable = before


def _options(tier: str, **options: Any) -> dict[str, Any]:
    """Missing: this host, or this user with this interpreter, does not allow it."""
    found = {"isolation": Isolation(tier=tier), **options}
    try:
        with _only(tier):
            start(**found).close()
    except IsolationUnavailable as error:
        raise Missing(str(error)) from None
    return found


def _starts(tier: str, count: int, options: dict[str, Any]) -> float:
    with _only(tier):
        return starts(lambda: start(**options), ExtSession.close, count)


def _bwrap() -> Callable[[], object]:
    path = shutil.which("bwrap")
    if path is None:
        raise Missing("bubblewrap is not installed")
    binds = [word for name in ("/usr", sys.base_prefix, sys.prefix) for word in ("--ro-bind", name, name)]
    for name in ("/lib", "/lib64", "/bin"):
        if os.path.islink(name):
            binds += ["--symlink", os.readlink(name), name]
    spaces = [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts")]
    command = [path, *spaces, *binds, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/work", "--chdir", "/work"]
    command += ["--clearenv", sys.executable, "-I", "-c", "pass"]
    run = functools.partial(subprocess.run, command, check=True, capture_output=True)
    try:
        run()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"bubblewrap does not work here: {getattr(error, 'stderr', error)!r}") from None
    return run


@row(
    "isolated-start",
    "start of an isolated session from its template to the first reply",
    unit="ms",
    reference=BWRAP,
    goals=[Goal(FULL, 0.015), Goal(FULL, 1 / 2, BWRAP), Goal(WEAK, 0.008), Goal(PANDAS, 0.040)],
)
def isolated_start(bench: Bench) -> None:
    count = bench.pick(10, 3)
    with bench.optional(BWRAP):
        run = _bwrap()
        bench.add(BWRAP, PEER, lambda: seconds(run))
    for name, tier, options in ((FULL, "full", {}), (WEAK, "weak", {}), (PANDAS, "full", {"preload": ("pandas",)})):
        with bench.optional(name):
            if options and importlib.util.find_spec("pandas") is None:
                raise Missing("pandas is not installed")
            given = _options(tier, **options)
            bench.add(name, OURS, functools.partial(_starts, tier, count, given))
    extsession.warm_up()
    bench.add(ORDINARY, LIMIT, lambda: starts(start, ExtSession.close, count))
    bench.notes.append("bwrap is timed to its exit; it has the namespaces of the full tier, no Landlock, no filter")


@row(
    "isolated-roundtrip",
    "x = 1 in a session that is there",
    reference=ours.NAME,
    goals=[Goal(FULL, 1.2, ours.NAME), Goal(WEAK, 1.2, ours.NAME)],
)
def isolated_roundtrip(bench: Bench) -> None:
    calls, budget = bench.pick(2000, 300), bench.pick(0.15, 0.03)

    def add(name: str, kind: str, session: ExtSession) -> None:
        operation = checked(lambda: session.execute("x = 1").wait().completion.ok, True)
        bench.add(name, kind, lambda: latency(operation, calls, budget))

    add(ours.NAME, LIMIT, ours.session(bench))
    limited = bench.enter(ExtSession(limits=extsession.options.ISOLATED_LIMITS))
    with bench.optional("ordinary, with the same limits"):
        add("ordinary, with the same limits", LIMIT, limited)
    for name, tier in ((FULL, "full"), (WEAK, "weak")):
        with bench.optional(name):
            given = _options(tier)
            with _only(tier):
                session = bench.enter(ExtSession(**given))
            add(name, OURS, session)


_CROWD = f"""
import os, time
read, write = os.pipe()
for n in range({_INSIDE}):
    if os.fork() == 0:
        if n % 3 == 0: os.setsid()
        os.write(write, b'x')
        while True: time.sleep(60)
count = 0
while count < {_INSIDE}: count += len(os.read(read, {_INSIDE}))
"""


def _kill(options: dict[str, Any]) -> float:
    with ExtSession(**options) as session:
        session.execute(_CROWD).wait().raise_for_error()
        crowd = session._core.link.process.pid  # its init
        assert crowd is not None
        init = os.pidfd_open(crowd)  # it ends when all others in its namespace have ended
        try:
            begin = time.perf_counter()
            session.close()
            import select

            poll = select.poll()
            poll.register(init, select.POLLIN)
            poll.poll(20000)
            return time.perf_counter() - begin
        finally:
            os.close(init)


@row(
    "isolated-kill",
    "the end of an isolated session with 18 processes, until all are gone",
    unit="ms",
    goals=[Goal(FULL, 0.2)],
)
def isolated_kill(bench: Bench) -> None:
    with bench.optional(FULL):
        given = _options("full")
        bench.add(FULL, OURS, lambda: _kill(given))
