"""Kill a process and all below it, found from outside. Only for sessions whose warden is gone."""

from __future__ import annotations

import contextlib
import os


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
