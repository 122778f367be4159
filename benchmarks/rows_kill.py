"""The end of a tree of processes, and of many sessions at once."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from extsession import ExtSession, Outcome

from . import limits
from .harness import LIMIT, OURS, PEER, Bench, Goal, row
from .rows_scale import heard, in_controller

KILL, KNOWN = "ExtSession.kill(), call told", "SIGKILL by pidfds of known processes"
_GROUP, _FOUND, _WAIT_PROCS = "killpg", "psutil children, wait by pidfd", "psutil children, psutil.wait_procs"

# `grown` is the pids of what was started
_PLAIN = """
import subprocess
grown = [subprocess.Popen(["sleep", "1000"]).pid for _ in range({count})]
"""
# five ways in turn: a child, one in a session of its own, a daemon by a double fork, nohup, one without descriptors
EVERY_WAY = """
import os, signal, time
def start(way):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        if way == 2:
            os.waitpid(pid, 0)
        pid = int(os.read(reading, 20))
        os.close(reading)
        return pid
    if way:
        os.setsid()
    if way == 2 and os.fork():
        os._exit(0)
    if way == 3:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    os.write(writing, b"%d" % os.getpid())
    os.closerange(0 if way == 4 else 3, 256)
    os.execv("/bin/sleep", ["sleep", "1000"])
grown = [start(number % 5) for number in range({count})]
"""


class _Tree:
    """Processes with a pidfd of each; the first is the one that has started the others."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.pidfds = [os.pidfd_open(pid) for pid in pids]

    def is_gone(self) -> bool:
        poll = select.poll()
        for pidfd in self.pidfds:
            poll.register(pidfd, select.POLLIN)
        return len(poll.poll(0)) == len(self.pidfds)

    def close(self) -> None:
        """End what is left: nothing, if all is well."""
        for pid, pidfd in zip(self.pids, self.pidfds, strict=True):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_session(grow: str) -> float:
    """A call runs meanwhile; it is over when it has been told of the end, and by then all have to be gone."""
    with ExtSession() as session:
        session.execute(grow).wait().raise_for_error()
        grown = session["grown"]
        assert session.pid is not None
        results = session.execute("import time; print(flush=True); time.sleep(1000)")
        next(iter(results))
        with contextlib.closing(_Tree([session.pid, *grown])) as tree:
            begin = time.perf_counter()
            session.kill()
            results.wait()
            taken = time.perf_counter() - begin
            if results.outcome is not Outcome.KILLED or not tree.is_gone():
                raise RuntimeError(f"{results.completion}, all gone: {tree.is_gone()}")
            return taken


def _kill_plain(how: Callable[[_Tree], None], grow: str) -> float:
    """The same tree, below a process that is no session."""
    command = [sys.executable, "-I", "-S", "-c", f"{grow}\nprint(*grown, flush=True)\nimport time; time.sleep(1000)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        grown = map(int, process.stdout.readline().split())
        with contextlib.closing(_Tree([process.pid, *grown])) as tree:
            begin = time.perf_counter()
            how(tree)
            taken = time.perf_counter() - begin
            if not tree.is_gone():
                raise RuntimeError("it has left processes")
            return taken


def _by_pidfds(tree: _Tree) -> None:
    limits.kill_known(tree.pidfds)


def _by_group(tree: _Tree) -> None:
    os.killpg(tree.pids[0], signal.SIGKILL)
    limits.wait_gone(tree.pidfds)


def _by_psutil(tree: _Tree) -> None:
    root = psutil.Process(tree.pids[0])
    for each in (root, *root.children(recursive=True)):
        each.kill()
    limits.wait_gone(tree.pidfds)


def _by_wait_procs(tree: _Tree) -> None:
    root = psutil.Process(tree.pids[0])
    found = [root, *root.children(recursive=True)]
    for each in found:
        each.kill()
    psutil.wait_procs(found, timeout=30)


def _prepare(bench: Bench, grow: str, peers: bool) -> None:
    if not hasattr(os, "pidfd_open"):
        bench.leave_out("all", "no pidfd on this system")
        return
    bench.add(KNOWN, LIMIT, functools.partial(_kill_plain, _by_pidfds, grow))
    bench.add(KILL, OURS, functools.partial(_kill_session, grow))
    if peers:  # neither finds all of those that have gone away from their parent
        bench.add(_GROUP, LIMIT, functools.partial(_kill_plain, _by_group, grow))
        bench.add(_FOUND, PEER, functools.partial(_kill_plain, _by_psutil, grow))
        bench.add(_WAIT_PROCS, PEER, functools.partial(_kill_plain, _by_wait_procs, grow))


@row(
    "kill",
    "SIGKILL of a tree of 4 until all are gone",
    unit="ms",
    reference=KNOWN,
    goals=[Goal(KILL, 2, KNOWN)],
)
def kill(bench: Bench) -> None:
    bench.rounds = bench.pick(15, 5)  # psutil.wait_procs takes two seconds
    _prepare(bench, _PLAIN.format(count=3), peers=True)


@row(
    "kill-away",
    "the same of 5 that went away: setsid, double fork, nohup, all descriptors closed, one that stayed",
    unit="ms",
    reference=KNOWN,
)
def kill_away(bench: Bench) -> None:
    bench.rounds = bench.pick(31, 7)
    _prepare(bench, EVERY_WAY.format(count=5), peers=False)


@row(
    "kill-many",
    "200 processes of one session that went away in each of these ways",
    unit="ms",
    reference=KNOWN,
    goals=[Goal(KILL, 0.2)],
)
def kill_many(bench: Bench) -> None:
    bench.rounds = bench.pick(9, 3)
    _prepare(bench, EVERY_WAY.format(count=200), peers=False)


ORPHANED = "the controller killed, all gone"
_ENDS = {
    "close": "{}, close() one after another",
    "kill": "{}, kill() one after another",
    "together": "{}, aclose() together",
}
_TOOK, _WARDEN = "all have ended", "the warden's processor time"


@row("end-many", "the end of 500 sessions of a template, each with a call that sleeps", unit="ms")
def end_many(bench: Bench) -> None:
    count, rounds = bench.pick((500, 3), (50, 1))
    bench.rounds, bench.warm_up = 0, False
    if bench.quick:
        bench.notes.append(f"quick: {count} sessions")
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for how, name in _ENDS.items():
            with in_controller("ends", str(count), how) as process:
                heard(process)
                facts = heard(process)
                found.setdefault(name.format(_TOOK), []).append(facts["end"])
                found.setdefault(name.format(_WARDEN), []).append(facts["warden"])
        found.setdefault(ORPHANED, []).append(_end_controller(count))
    for name, amounts in found.items():
        bench.record(name, OURS, amounts)


def _end_controller(count: int) -> float:
    with in_controller("ends", str(count), "orphan") as process:
        with contextlib.closing(_Tree(heard(process)["pids"])) as tree:
            begin = time.perf_counter()
            process.kill()
            limits.wait_gone(tree.pidfds)
            return time.perf_counter() - begin
