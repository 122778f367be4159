"""What happens to processes from outside, at random, and to the controller itself."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from extsession import templates

from .life import User
from .tally import Tally


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except OSError:
        pass
    return found


class Faults(threading.Thread):
    """Injects one fault after another. pause: seconds between two, on average."""

    def __init__(self, users: Sequence[User], seed: str, tally: Tally, stop: threading.Event, pause: float) -> None:
        super().__init__(name="faults", daemon=True)
        self._users = users
        self._rng = random.Random(f"{seed} faults")
        self._tally = tally
        self._stop_asked = stop
        self._pause = pause
        self._later: list[tuple[float, int]] = []  # descriptors of processes to be continued
        self._kinds: dict[Callable[[], str], int] = {
            self._kill_session: 30,
            self._terminate_session: 10,
            self._stop_session: 6,
            self._stop_and_continue: 20,
            self._kill_template: 4,
            self._kill_warden: 2,
            self._kill_other: 12,
            self._stop_warden: 3,
            self._stall_controller: 5,
            self._press_memory: 2,
            self._jump_clock: 5,
        }
        self._clock = time.time

    def run(self) -> None:
        while not self._stop_asked.wait(self._rng.expovariate(1 / self._pause)):
            self._continue(time.monotonic())
            name = self._rng.choices(list(self._kinds), list(self._kinds.values()))[0]()
            if name:
                self._tally.add("faults", name)
        self._continue(float("inf"))
        time.time = self._clock

    # the processes

    def _send(self, pid: int, number: int) -> int:
        """Send a signal to a process of ours; a pidfd of it, 0 if there is none. Nobody else's is ever hit."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return 0
        above, steps = pid, 0
        while above > 1 and above != os.getpid() and steps < 20:
            above, steps = _parent(above), steps + 1
        try:
            if above == os.getpid():
                signal.pidfd_send_signal(fd, number)
                return fd
        except OSError:
            pass
        os.close(fd)
        return 0

    def _hit(self, pid: int, number: int) -> bool:
        fd = self._send(pid, number)
        if fd:
            os.close(fd)
        return bool(fd)

    def _hit_and_continue(self, pid: int, longest: float) -> bool:
        fd = self._send(pid, signal.SIGSTOP)
        if fd:
            self._later.append((time.monotonic() + self._rng.random() * longest, fd))
        return bool(fd)

    def _continue(self, now: float) -> None:
        for when, fd in self._later:
            if when <= now:
                try:
                    signal.pidfd_send_signal(fd, signal.SIGCONT)
                except OSError:
                    pass
                os.close(fd)
        self._later = [each for each in self._later if each[0] > now]

    def _session(self) -> int:
        user = self._rng.choice(self._users)
        session = user.session
        try:
            pid = None if session is None else session.pid
        except Exception:  # it is just being made or ended in its own thread
            return 0
        user.hurt = time.monotonic()
        return pid or 0

    def _hit_session(self, number: int, name: str) -> str:
        pid = self._session()
        return name if pid and self._hit(pid, number) else ""

    # the kinds

    def _kill_session(self) -> str:
        return self._hit_session(signal.SIGKILL, "SIGKILL of a session")

    def _terminate_session(self) -> str:
        return self._hit_session(signal.SIGTERM, "SIGTERM of a session")

    def _stop_session(self) -> str:
        return self._hit_session(signal.SIGSTOP, "SIGSTOP of a session")

    def _stop_and_continue(self) -> str:
        pid = self._session()
        return "SIGSTOP, later SIGCONT of a session" if pid and self._hit_and_continue(pid, 1.0) else ""

    def _template(self) -> int:
        found = templates()
        return self._rng.choice(found).pid if found else 0

    def _kill_template(self) -> str:
        return "template killed" if self._hit(self._template(), signal.SIGKILL) else ""

    def _warden(self) -> int:
        """Not always that of the templates, below which nearly all sessions are."""
        session = self._session()
        return _parent(session) if session else 0

    def _kill_warden(self) -> str:
        pid = self._warden()
        if not pid or pid == os.getpid():
            return ""
        now = time.monotonic()
        for user in self._users:
            user.hurt = now
        return "warden killed" if self._hit(pid, signal.SIGKILL) else ""

    def _stop_warden(self) -> str:
        pid = self._warden()
        return "warden stopped, later continued" if pid and self._hit_and_continue(pid, 0.5) else ""

    def _kill_other(self) -> str:
        """What is below a warden, and no session of a user, nor a template: most are checkpoints."""
        known = {each.pid for each in templates()}
        for user in self._users:
            try:
                known.add(user.session.pid)
            except Exception:
                continue
        wardens = _children(os.getpid())
        found = [pid for warden in wardens for pid in _children(warden) if pid not in known]
        if not found or not self._hit(self._rng.choice(found), signal.SIGKILL):
            return ""
        return "checkpoint, branch, or session of a pool killed"

    def _stall_controller(self) -> str:
        ctypes.PyDLL(None).usleep(int(self._rng.random() * 300_000))  # with the GIL: no thread of it goes on
        return "controller stalled"

    def _jump_clock(self) -> str:
        """The controller's wall clock, as far as a test may: what its code is told, years back and ahead."""
        clock, jump = self._clock, self._rng.uniform(-3e8, 3e8)
        time.time = lambda: clock() + jump
        return "wall clock of the controller jumps"

    def _press_memory(self) -> str:
        source = "kept = bytearray(b'x') * 500_000_000"
        subprocess.run([sys.executable, "-c", source], check=False)
        return "memory pressure (500 MB for a moment)"
