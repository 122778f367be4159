"""Kill a process and all below it, found from outside. The warden is who makes sure of that; this is for what it cannot
do: when it is gone, and before it has heard of anything.
"""

from __future__ import annotations

import contextlib
import os
import signal

from . import procfs

#: how many are looked for by `hasten`: for more, the warden takes no longer
_MOST = 64


def hasten(pid: int) -> None:
    """SIGKILL for a process, and for what is below it right now, so that all of them end at the same time.

    Whoever is missed, because it has just come or has left its parent, the warden ends when the first has ended.
    """
    pidfd_open = getattr(os, "pidfd_open", None)
    found = [(pid, child) for child in procfs.children(pid)] if pidfd_open is not None else []
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for parent, child in found:
        try:
            pidfd = pidfd_open(child)  # type: ignore[misc]
        except OSError:  # it has ended, or there are no descriptors left
            continue
        try:
            fields = procfs.stat(child)
            if not fields or int(fields[procfs.PARENT]) != parent:
                continue  # it may be somebody else by now: as soon as its parent ends it is the warden's to end
            if len(found) < _MOST:
                found += [(child, each) for each in procfs.children(child, int(fields[procfs.THREADS]))]
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except OSError:
            continue
        finally:
            os.close(pidfd)


def kill(pid: int) -> None:
    """SIGKILL for a process and its descendants, as far as they can be found. Does not wait."""
    import psutil  # slow to import, and hardly ever needed

    try:
        root = psutil.Process(pid)
        found = [root, *root.children(recursive=True)]
    except psutil.Error:
        found = []
    # orphans by now; it led a session of its own. Those that left it cannot be told from anybody's.
    for other in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(other) == pid:
                found.append(psutil.Process(other))
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
