"""Many sessions through one template: what is held before and after, in the controller, the template and the warden.

    python -m benchmarks.soak [sessions]

Each session runs a call; every tenth is branched, every twentieth checkpointed and rolled back, some are killed.
Exit status 1 if anything has grown.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from extsession import ExtSession, warm_up

#: bytes that a process may have more at the end: the allocator's matter, not something for each session
SLACK = 4 * 2**20


class Held(NamedTuple):
    """By one process. memory: private bytes; children: zombies too."""

    descriptors: int
    threads: int
    children: int
    memory: int


def held(pid: int) -> Held:
    folder = Path(f"/proc/{pid}")
    tasks = os.listdir(folder / "task")
    children = sum(len((folder / "task" / each / "children").read_text().split()) for each in tasks)
    memory = 0
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            memory += int(line.split()[1]) * 1024
    return Held(len(os.listdir(folder / "fd")), len(tasks), children, memory)


def use(number: int) -> None:
    """One session's life."""
    with ExtSession() as session:
        assert session.execute(f"x = {number}; print(x)").wait().stdout == f"{number}\n"
        if not number % 10:
            with session.fork() as branch:
                assert branch.eval("x") == number
        if not number % 20:
            session.checkpoint("here")
            session.execute("x = None").wait()
            session.rollback("here")
            assert session.eval("x") == number
        if not number % 7:
            session.execute("import os; os.kill(os.getpid(), 9)").wait()
        elif not number % 5:
            session.exit()


def soak(count: int, report: bool = False) -> list[str]:
    """What has grown, as text; empty if nothing has."""
    template = warm_up()
    assert template is not None
    warden = int(Path(f"/proc/{template.pid}/stat").read_text().rpartition(")")[2].split()[1])
    pids = {"controller": os.getpid(), "template": template.pid, "warden": warden}
    for number in range(min(count, 100)):
        use(number)
    gc.collect()
    before = {name: held(pid) for name, pid in pids.items()}
    began = time.perf_counter()
    for number in range(count):
        use(number)
    seconds = time.perf_counter() - began
    gc.collect()
    deadline = time.monotonic() + 5.0
    while True:  # zombies of the last ones may still be on their way
        after = {name: held(pid) for name, pid in pids.items()}
        grown = [
            f"{name}: {field} {old} -> {new}"
            for name in pids
            for field, old, new in zip(Held._fields, before[name], after[name], strict=True)
            if new > old + (SLACK if field == "memory" else 0)
        ]
        if not grown or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if report:
        print(f"{count} sessions in {seconds:.1f} s, {seconds / count * 1000:.2f} ms each")
        for name in pids:
            print(f"  {name:10}  before {before[name]}\n{'':12}  after {after[name]}")
    return grown


if __name__ == "__main__":
    found = soak(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, report=True)
    print("\n".join(found) or "nothing has grown")
    sys.exit(bool(found))
