"""The command line. It runs the soak in a process of its own, and gets whatever that leaves: it is its subreaper.

At the end, a controller with sessions that leave daemons is killed, and all of it has to be gone in two seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.__main__ import environment

from .tally import is_good, table

_SUBREAPER = 36  # prctl(2)
#: seconds in which all has to be gone
_GONE = 2.0

_ORPHANS = """
import time
from extsession import ExtSession
from extsession.testing import PROGRAMS
daemons = next(each for each in PROGRAMS if each.name == "daemons")
sessions = [ExtSession(warm=bool(n % 3), recover=n % 3 == 1) for n in range(9)]
for each in sessions:
    each.execute(daemons.source).wait()
for each in sessions:
    each.execute("while True: pass")
print("ready", flush=True)
time.sleep(60)
"""


def _collect() -> None:
    """Orphans that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _left(patience: float) -> list[str]:
    end = time.monotonic() + patience
    while True:
        _collect()
        found = []
        for each in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.append(f"process {each.pid} ({each.status()}): {each.cmdline() or each.name()}")
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def _wait(pid: int) -> int:
    """For the soak, and meanwhile for whoever loses its parent in it."""
    while True:
        found, status = os.wait()
        if found == pid:
            return os.waitstatus_to_exitcode(status)


def _kill_a_controller() -> list[str]:
    controller = subprocess.Popen([sys.executable, "-c", _ORPHANS], stdout=subprocess.PIPE, text=True)
    assert controller.stdout is not None
    assert controller.stdout.readline() == "ready\n"
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    controller.stdout.close()
    return _left(_GONE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--sessions", type=int, default=50, help="at a time")
    parser.add_argument("--seed", default=None, help="of all that is left to chance; the time by default")
    parser.add_argument("--json", help="where to write all figures; beside the table by default")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    seed = options.seed or str(time.time_ns())
    if options.inner:
        from .run import soak

        Path(options.inner).write_text(json.dumps(soak(options.minutes * 60, options.sessions, seed)))
        return 0
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    data: dict[str, Any]
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "soak.json")
        command = [sys.executable, "-m", "benchmarks.soak", "--inner", file, "--seed", seed]
        command += ["--minutes", str(options.minutes), "--sessions", str(options.sessions)]
        status = _wait(os.posix_spawn(sys.executable, command, os.environ))
        if not os.path.exists(file):
            print(f"the soak itself ended with {status}")
            return 1
        data = json.loads(Path(file).read_text())
    data["environment"] = environment()
    for left in (_left(_GONE), _kill_a_controller()):
        data["zero"]["processes left"] += len(left)
        data["notes"] += left
    data["faults"]["controller killed"] = 1
    print(table(data))
    target = options.json or f"soak-{seed}.json"
    Path(target).write_text(json.dumps(data, indent=1))
    return 0 if is_good(data) else 1


if __name__ == "__main__":
    sys.exit(main())
