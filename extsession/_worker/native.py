"""The threads of this process: those of Python, and those that C code has started, which Python does not know.

A duplicate has the calling thread alone. What another one was to do is never done there, and a lock that it held is
never released. `runtimes.py` knows libraries whose threads can be ended and come back by themselves.
"""

from __future__ import annotations

import os
import sys
from _thread import _count as count_threads
from _thread import get_ident
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: {ident: (name, the kernel's id if that is known)}
    Threads = dict[int, tuple[str, int | None]]

_TASKS = "/proc/self/task"
_EXITING = 4  # PF_EXITING of the kernel's include/linux/sched.h
#: seconds between the looks at threads that may be ending
_PAUSES = (0.0001, 0.0002, 0.0004, 0.0008, 0.0015, 0.003, 0.006)
#: looks after which a thread that only sleeps is believed to stay
_LOOKS = 4


def python_threads() -> Threads:
    """Python's threads but the running one; daemons too."""
    me = get_ident()
    others = [ident for ident in sys._current_frames() if ident != me]
    started = count_threads()
    if not others and not started:
        return {}
    found: Threads = {ident: ("thread %#x" % ident, None) for ident in others}
    threading: Any = sys.modules.get("threading")
    _name(found, threading, me)
    # without a frame: what it runs is a function of C
    return {**found, **{-number: ("thread", None) for number in range(1, started - len(found) + 1)}}


def _name(found: Threads, threading: Any, me: int) -> None:
    try:
        for thread in threading.enumerate() if threading is not None else ():
            # one without a frame is starting; a dummy without one stands for a thread of C that is out of Python
            starts = thread.is_alive() and not isinstance(thread, threading._DummyThread)
            if thread.ident in found or (starts and thread.ident != me):
                found[thread.ident] = (str(thread.name), thread.native_id)
    except Exception:  # a Thread class of the code's that is broken: the names so far must do
        return


def native_threads(python: Threads) -> list[int]:
    """The kernel's ids of the threads that are none of `python`, nor the main one.

    While threads are alive that only `_thread` knows, it cannot be told which of the others are theirs: then all
    others, if there are more than those, and else none. OSError where /proc does not show this process.
    """
    if not python and os.stat(_TASKS).st_nlink == 3:  # two, and one for each thread
        return []
    main = int(os.readlink("/proc/self"))
    known = {native for _, native in python.values()}
    ids = sorted([each for each in map(int, os.listdir(_TASKS)) if each != main and each not in known])
    return ids if len(ids) > sum([native is None for _, native in python.values()]) else []


def settle(allowed: int, python: Threads) -> list[int]:
    """The native threads without those that are just ending; no more looks once no more than `allowed` are left.

    A thread that was joined is gone from Python (before 3.13) or from libc, and for a moment not from the kernel.
    Takes up to 12 ms where threads are busy, else 1.5.
    """
    native = native_threads(python)
    for looks, pause in enumerate(_PAUSES):
        if len(native) <= allowed or (looks >= _LOOKS and all(map(_sleeps, native))):
            break
        sleep(pause)
        native = native_threads(python)
    return native


def names_of(native: list[int]) -> list[str]:
    """What the kernel calls the threads: up to 15 characters that each chose, or else of the one that started it."""
    found = [_read("%s/%d/comm" % (_TASKS, each)).strip() for each in native]
    return [(name or b"?").decode("utf-8", "replace") for name in found]


def _sleeps(native: int) -> bool:
    fields = _read("%s/%d/stat" % (_TASKS, native)).rpartition(b")")[2].split()
    return len(fields) > 6 and fields[0] == b"S" and not int(fields[6]) & _EXITING


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # gone
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)
