"""Ctrl-C never comes in the middle of a step.

A KeyboardInterrupt may be raised between any two bytecodes of the main thread: after bytes were taken from a socket and
before they are kept, or when one half of a change is made. The session would wait for ever for the rest. So
while a thread that could be hit changes a session, SIGINT is only noted, and handled right after; not while it waits.
A change takes microseconds; the one wait that is in it, for the reply to a short call, 2 ms at most.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.signal makes enums of all, each time
import os
import threading
from signal import SIGINT
from types import FrameType
from typing import Any

_main = threading.main_thread().ident
_noted = False


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    _noted = True


def up() -> Any:
    """Note SIGINT only, from here to `down(what this returned)`. None where it need not, or cannot, be done."""
    if threading.get_ident() != _main:
        return None
    try:
        before = _signal.signal(SIGINT, _note)
    except ValueError:  # not in the main interpreter
        return None
    return None if before is _note else before


def down(before: Any) -> None:
    """Let SIGINT do what it did, and do so now if it has come since."""
    global _noted
    if before is None:
        return
    _signal.signal(SIGINT, before)
    if _noted:
        _noted = False
        if callable(before):
            before(int(SIGINT), None)
        elif before == _signal.SIG_DFL:
            os.kill(os.getpid(), SIGINT)


def _forked() -> None:
    global _main
    _main = threading.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
