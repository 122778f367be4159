"""Clone this process as a sibling: a copy whose parent is ours, the warden.

os.fork() makes a child, which the user's code would meet in os.wait(), and which nobody could tell the end of when
we are gone. clone(2) with CLONE_PARENT makes a sibling. It is called by its number, since no function of
Python or C offers it, between the calls that CPython demands around a fork (PyOS_BeforeFork and so on). What
glibc's own fork() does besides is either for processes with several threads, or its note of the thread's id, which
the kernel writes if told where (CLONE_CHILD_SETTID; prctl(PR_GET_TID_ADDRESS) knows that).

Handlers of pthread_atfork do not run: the census (`census.py`) looks after the one library that needs it.
"""

from __future__ import annotations

import os
import sys
from _signal import SIGCHLD  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CLONE_PARENT = 0x8000
_CLONE_CHILD_CLEARTID = 0x200000
_CLONE_CHILD_SETTID = 0x1000000
_PR_GET_TID_ADDRESS = 40
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
#: machine -> (number of clone, place of child_tid among its arguments); see clone(2), "C library/kernel differences"
_CALLS = {"x86_64": (56, 3), "aarch64": (220, 4), "riscv64": (220, 4), "ppc64le": (120, 3)}


class CannotClone(Exception):
    """This platform has no way for it; the text says why."""


class Cloner:
    """The calls, looked up once: a clone of a process that has them need not load anything."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise CannotClone("%s has no clone(2)" % sys.platform)
        machine = os.uname().machine
        if machine not in _CALLS or sys.maxsize < 2**32:
            raise CannotClone("clone(2) is not known on %s" % machine)
        ctypes = _load_ctypes()
        libc: Any = ctypes.PyDLL(None, use_errno=True)
        api: Any = ctypes.pythonapi
        long = ctypes.c_long
        where = ctypes.c_void_p()
        if libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(where), 0, 0, 0) or not where.value:
            raise CannotClone("the kernel does not tell where the thread's id is kept")
        number, place = _CALLS[machine]
        arguments = [_CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | int(SIGCHLD), 0, 0, 0, 0]
        arguments[place] = where.value
        self.syscall = libc.syscall
        self.syscall.restype = long
        self.syscall.argtypes = [long] * 6
        self._arguments = (number, *arguments)
        self._errno: Any = ctypes.get_errno  # as the call left it
        self._prctl = libc.prctl
        self._before: Any = api.PyOS_BeforeFork
        self._in_parent: Any = api.PyOS_AfterFork_Parent
        self._in_child: Any = api.PyOS_AfterFork_Child
        for function in (self._before, self._in_parent, self._in_child):
            function.restype = None

    def clone(self, namespaces: int = 0) -> int:
        """0 in the clone, its pid here. OSError where the kernel refuses. Only ever with a single thread.

        namespaces: flags of those that the clone is to have anew; it is process 1 of a new PID namespace.
        """
        arguments = self._arguments
        if namespaces:
            arguments = (arguments[0], arguments[1] | namespaces, *arguments[2:])
        self._before()
        pid: int = self.syscall(*arguments)
        if pid == 0:
            self._in_child()
            return 0
        self._in_parent()
        if pid < 0:
            number: int = self._errno()
            raise OSError(number, os.strerror(number))
        return pid

    def die_with_parent(self) -> None:
        """The kernel kills this process when its warden ends, however that comes."""
        self._prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def _load_ctypes() -> Any:
    """ctypes, without the user's code seeing that it was loaded."""
    before = set(sys.modules)
    try:
        import ctypes
    except ImportError:
        raise CannotClone("this interpreter has no ctypes") from None
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]
    return ctypes
