"""Kill a process and all below it, found from outside. Only for sessions whose warden is gone."""

from __future__ import annotations

import contextlib

import psutil


def kill(pid: int) -> None:
    """SIGKILL for a process and its descendants, as far as they can be found. Does not wait."""
    try:
        root = psutil.Process(pid)
        found = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
