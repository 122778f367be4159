"""Open and close many sessions through one template, and show what is there before and after.

`python -m benchmarks.soak_templates --sessions 10000`. The exit status is 1 if anything was left: a descriptor, a
thread, a child, a zombie, or memory that grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import threading
import time
from typing import NamedTuple

import psutil

import extsession
from extsession import ExtSession


class Holdings(NamedTuple):
    """What this process holds, and the memory of the processes that stay."""

    descriptors: int
    threads: int
    children: int
    zombies: int
    controller: int
    template: int
    warden: int


#: those in bytes
_MEMORY = ("controller", "template", "warden")


def holdings(template: int) -> Holdings:
    """template: its pid; its parent is the warden. Zombies are looked for among all processes below this one."""
    gc.collect()
    me = psutil.Process()
    below = me.children(recursive=True)
    zombies = 0
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            zombies += process.status() == psutil.STATUS_ZOMBIE
    first = psutil.Process(template)
    warden = first.parent()
    return Holdings(
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        len(below),
        zombies,
        me.memory_info().rss,
        first.memory_info().rss,
        0 if warden is None else warden.memory_info().rss,
    )


def settled(template: int, like: Holdings | None = None) -> Holdings:
    """As `holdings`, when nothing is on its way any more, or after a few seconds."""
    end = time.monotonic() + 5.0
    while True:
        now = holdings(template)
        if like is None or now[:4] == like[:4] or time.monotonic() > end:
            return now
        time.sleep(0.05)


def soak(count: int, every: int) -> int:
    """Returns the exit status."""
    found = extsession.warm_up()
    if found is None:
        print("there are no templates on this system")
        return 1
    for _ in range(min(count, 200)):  # what is made once is there: the hub, caches, memory that is used again
        with ExtSession() as session:
            session.execute("pass").wait()
    before = settled(found.pid)
    begin = time.perf_counter()
    for number in range(1, count + 1):
        with ExtSession() as session:
            if number % 10:
                session.execute(f"x = {number}").wait().raise_for_error()
            elif session.eval(f"{number}") != number:
                raise ValueError("a wrong value")
        if every and number % every == 0:
            each = (time.perf_counter() - begin) / number * 1000
            print(f"{number} sessions, {each:.2f} ms each", file=sys.stderr, flush=True)
    took = time.perf_counter() - begin
    if extsession.templates()[-1].pid != found.pid:
        print("the template was replaced meanwhile")
        return 1
    after = settled(found.pid, before)
    return report(count, took, before, after)


def report(count: int, took: float, before: Holdings, after: Holdings) -> int:
    """Print the table; 1 if something was left."""
    print(f"{count} sessions through one template, {took / count * 1000:.2f} ms each with their end\n")
    print(f"{'':<20}{'before':>12}{'after':>12}")
    left = 0
    for name, was, now in zip(Holdings._fields, before, after, strict=True):
        is_memory = name in _MEMORY
        grew = now > was * 1.1 if is_memory else now > was
        left += grew
        shown = [f"{value / 1e6:.1f} MB" if is_memory else str(value) for value in (was, now)]
        print(f"{'RSS of ' * is_memory + name:<20}{shown[0]:>12}{shown[1]:>12}{'  GREW' if grew else ''}")
    return 1 if left else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_templates", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10_000, metavar="N")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="say after each N how far it has come")
    options = parser.parse_args(arguments)
    return soak(options.sessions, options.every)


if __name__ == "__main__":
    raise SystemExit(main())
