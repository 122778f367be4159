"""The session's parent: it tells how the session ended, and ends all that the session started.

It runs alone in its own process, forked before any user code, with one job, and imports nothing of ours.
On Linux it is a child subreaper: processes that lose their parent come to it, wherever they went with
setsid or a double fork. The session stays a zombie until the controller has taken the report and let go
of the leash, so its pid cannot come to mean another process.

Reports on the leash: b"X" code status b"\\n" when the session has ended and nothing is left below it; code
and status as `waitid` has them; then the number of processes that could not be ended in time.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
#: seconds to try; what is left then sits in the kernel and cannot be ended by anyone
_GIVE_UP = 5.0


def main(session: int, leash: int, ready: int) -> None:
    """Watch over `session` until it has ended and the controller has let go of `leash`."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(each, signal.SIG_IGN)
    bell, ring = os.pipe()
    os.set_blocking(bell, False)
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _become_subreaper()
    try:
        os.write(ready, b"1")
    except OSError:  # the session has ended already: that is told below
        pass
    os.close(ready)
    poll = select.poll()  # select() knows no descriptors above 1023, and the leash keeps its number
    poll.register(leash, select.POLLIN)
    poll.register(bell, select.POLLIN)
    ended: Any = None
    while ended is None:
        try:
            ended = _reap(session)
            if ended is not None:
                break
            readable = [fd for fd, _ in poll.poll()]
        except InterruptedError:
            continue
        if bell in readable:
            os.read(bell, 4096)
        if leash in readable:  # nothing is ever sent to us: the controller is gone
            _kill(session)
            _end_all(session)
            _collect(session)
            os._exit(0)
    left = _end_all(session)
    report = b"X %d %d %d\n" % (ended.si_code, ended.si_status, left)
    try:
        os.write(leash, report)
        os.read(leash, 1)  # until the controller lets go
    except OSError:
        pass
    _collect(session)
    os._exit(0)


def _become_subreaper() -> None:
    if sys.platform != "linux":
        return
    arguments = (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:  # what ctypes is made of: to import all of it takes a millisecond, and each start would wait for it
        import _ctypes

        library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None: what the interpreter is linked with
        _ctypes.call_function(_ctypes.dlsym(library, "prctl"), arguments)
        return
    except Exception:  # not as it is in CPython 3.8 to 3.13
        pass
    try:
        import ctypes

        ctypes.CDLL(None).prctl(*arguments)
    except Exception:  # an interpreter without ctypes: the controller's own walk of the tree has to do
        return


def _collect(session: int) -> None:
    """Let the session's zombie go. It is not left to whoever is process 1: in a container that may reap nothing."""
    try:
        os.waitpid(session, os.WNOHANG)
    except ChildProcessError:
        return


def _reap(session: int) -> Any:
    """Collect orphans that have ended; the session's end, which is left to be collected, or None."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if ended is None:
            return None
        if ended.si_pid == session:
            return ended
        os.waitpid(ended.si_pid, os.WNOHANG)


def _end_all(session: int) -> int:
    """Kill everything below us until nothing but the session's zombie is left; how many could not be ended."""
    end = time.monotonic() + _GIVE_UP
    pause = 0.0005
    while True:
        below = _descendants(session)
        if not below:
            return 0
        for pid in below:  # stopped first: a process that forks faster than it is killed
            _kill(pid, signal.SIGSTOP)
        for pid in below:
            _kill(pid)
        if time.monotonic() > end:
            return len(below)
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
        for pid in below:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _descendants(session: int) -> list[int]:
    """Processes below us, the session aside once it is a zombie."""
    if sys.platform != "linux":
        try:  # what is left of the session's group
            os.killpg(session, signal.SIGKILL)
        except OSError:
            pass
        return []
    below: list[int] = []
    todo = [os.getpid()]
    while todo:
        for child in _children(todo.pop()):
            if child != session or not _is_zombie(child):
                below.append(child)
            todo.append(child)
    return below


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it has ended, or this kernel does not list children
        if pid == os.getpid():
            return _children_by_search(pid)
    return found


def _children_by_search(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and int(fields[1]) == parent:
                found.append(int(name))
    return found


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] == b"Z"


def _stat(pid: int) -> list[bytes]:
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass
