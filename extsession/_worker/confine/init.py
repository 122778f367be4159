"""Pid 1 of a session: it waits until the session has ended, and ends; the kernel kills what is left, all of it.

It is not in reach of the session: it keeps its capabilities, in the session's namespaces alone, so that the session,
which has none, may not trace it, and the kernel gives a pid 1 no signal that it has not asked for (pid_namespaces(7)).
It holds no descriptor but its own two. Its exit status tells the session's: the code, or 128 and the signal, as a shell
has it; on `report` it is said exactly.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os
import select

from . import libc

_EXITED, _KILLED = 1, 2  # CLD_EXITED, CLD_KILLED
_WOKEN = 256


def main(first: int, report: int = -1, hold: int = -1) -> None:
    """Reap until `first` has ended; never returns.

    report: gets a line "pid code status" when it has, code and status as `waitid` has them (a core is never made, so
    CLD_EXITED 1 and CLD_KILLED 2); pids are those inside. hold: stay, and report every child's end, until the other
    end of this descriptor is closed, which ends all: branches of a session are children of ours, and may outlive it.
    A line "pid signal" on it sends that signal to a child: nobody outside can do so safely, for whom we have reaped has
    left its pid to others.
    """
    status = 70
    try:
        be_nobody({report, hold} - {-1})
        status = _stay(first, report, hold) if hold >= 0 else _reap(first, report)
    finally:
        os._exit(status)


def be_nobody(keep: set[int]) -> None:
    """Leave nothing of what this process was: all descriptors but these, handlers of signals, the folder."""
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    below = 0
    for fd in [*sorted(keep), 1 << 20]:
        _close_range(below, fd - 1)
        below = fd + 1
    os.chdir("/")


def _close_range(first: int, last: int) -> None:
    if first <= last:
        try:
            libc.call("close_range", first, last, 0)
        except OSError:  # before Linux 5.9
            os.closerange(first, min(last, os.sysconf("SC_OPEN_MAX")) + 1)


def _reap(first: int, report: int) -> int:
    while True:
        pid, status = _wait(0)
        if pid == first:
            _tell(report, pid, status)
            return _exit_status(status)


def _stay(first: int, report: int, hold: int) -> int:
    result = 70
    orders = b""
    bell, ring = os.pipe()
    for fd in (bell, ring):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(hold, select.POLLIN)
    while True:
        while True:
            pid, status = _wait(os.WNOHANG)
            if not pid:
                break
            if pid == first:
                result = _exit_status(status)
            _tell(report, pid, status)
        ready = [fd for fd, _ in poll.poll()]
        if bell in ready:
            os.read(bell, _WOKEN)
        if hold in ready:
            data = os.read(hold, 4096)
            if not data:
                return result
            *lines, orders = (orders + data).split(b"\n")
            for line in lines:
                _send(line)


def _send(line: bytes) -> None:
    try:
        pid, number = [int(word) for word in line.split()]
        if pid > 1:
            os.kill(pid, number)
    except (OSError, ValueError):  # it has ended
        return


def _wait(options: int) -> tuple[int, int]:
    try:
        return os.waitpid(-1, options)
    except ChildProcessError:
        return 0, 0


def _exit_status(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _tell(report: int, pid: int, status: int) -> None:
    if report < 0:
        return
    if os.WIFSIGNALED(status):
        line = b"%d %d %d\n" % (pid, _KILLED, os.WTERMSIG(status))
    else:
        line = b"%d %d %d\n" % (pid, _EXITED, os.WEXITSTATUS(status))
    try:
        os.write(report, line)
    except OSError:  # nobody wants to know
        return
