"""Many sessions through one template: nothing grows in the controller, the template and the warden.

EXTSESSION_SOAK_COUNT=10000 makes that many instead of 300.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from extsession import ExtSession, warm_up

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="templates are made on Linux only")

COUNT = int(os.environ.get("EXTSESSION_SOAK_COUNT", "300"))
#: bytes that a process may have more at the end: the allocator's matter, not something for each session
SLACK = 4 * 2**20


class Held(NamedTuple):
    """By one process. children: zombies too; memory: private bytes."""

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
    """One session's life; some have branches and checkpoints, some are killed."""
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


@pytest.mark.timeout(60 + COUNT * 0.1)
def test_many_sessions_through_a_template(watch: object) -> None:
    template = warm_up()
    assert template is not None
    warden = int(Path(f"/proc/{template.pid}/stat").read_text().rpartition(")")[2].split()[1])
    pids = {"controller": os.getpid(), "template": template.pid, "warden": warden}
    for number in range(100):
        use(number)
    gc.collect()
    before = {name: held(pid) for name, pid in pids.items()}
    for number in range(COUNT):
        use(number)
    gc.collect()
    end = time.monotonic() + 5.0
    while True:  # zombies of the last ones may still be on their way
        after = {name: held(pid) for name, pid in pids.items()}
        grown = [
            f"{name}: {field} {old} -> {new}"
            for name in pids
            for field, old, new in zip(Held._fields, before[name], after[name], strict=True)
            if new > old + (SLACK if field == "memory" else 0)
        ]
        if not grown or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert not grown
