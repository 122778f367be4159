"""Whose call a new thread belongs to: the functions of `_thread` that start one note the starter's call.

They do so always. The interpreter counts a thread only from its own first step on, so at the end of a call there may be
one that nobody sees yet, and that prints in the next call.
"""

from __future__ import annotations

import _thread
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .streams import Router

_plain = {
    name: getattr(_thread, name)
    for name in ("start_new_thread", "start_new", "start_joinable_thread")
    if hasattr(_thread, name)
}


def watch(router: Router | None) -> None:
    """Note the call of each new thread in `router`; None: do not."""
    for name, plain in _plain.items():
        starter = plain if router is None else _noting(plain, router)
        setattr(_thread, name, starter)
        threading: Any = sys.modules.get("threading")
        if threading is not None and hasattr(threading, "_" + name):
            setattr(threading, "_" + name, starter)


def _noting(plain: Any, router: Router) -> Any:
    def start(*args: Any, **kwargs: Any) -> Any:
        if router.burst is not None:
            router.burst.leave()  # two writers: no more collecting
        with router.lock:  # the new thread's first write waits for the note
            started = plain(*args, **kwargs)
            ident = started if isinstance(started, int) else started.ident
            router.started_thread(ident, router.owner())
        return started

    start.__name__ = plain.__name__
    return start
