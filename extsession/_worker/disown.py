"""In the branch: give up what belongs to the session that it was duplicated from.

Both processes have the same objects, and some of those do something when they end: delete a directory, end a child.
That is the first owner's matter, once. What the code asks for in the branch (`directory.cleanup()`) is still done.
"""

from __future__ import annotations

import os
import sys
from posix import unlink  # what os.unlink was before the code may have put something in its place

from .census import HELPERS, temporary_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FunctionType
    from typing import Any


def disown() -> None:
    """All of it. To be called in the branch before any code of the session's runs, or may end, there."""
    disown_temporaries()
    disown_processes()


def disown_temporaries() -> int:
    """Leave temporary directories and files to the first owner; returns the number of directories.

    Files (`NamedTemporaryFile`) are not in any list, and to look for them among all objects would copy the memory of
    them all, for their reference counts. But all that exist now are of the class that does the deletion. So that
    class forgets how to, and files from now on get another one.
    """
    directories = temporary_directories()
    for _, finalizer in directories:
        finalizer.detach()
    _replace_closer(sys.modules.get("tempfile"))
    return len(directories)


def _replace_closer(tempfile: Any) -> None:
    """Make the class of `NamedTemporaryFile` that deletes, `_TemporaryFileCloser`, anew.

    It calls os.unlink as the default of a parameter: `close(unlink=)` up to 3.11, `cleanup(unlink=)` from 3.12 on.
    """
    old = getattr(tempfile, "_TemporaryFileCloser", None)
    if not isinstance(old, type):
        return
    scope = dict(vars(old))
    for name in ("__dict__", "__weakref__"):
        scope.pop(name, None)
    for name, value in scope.items():
        if unlink in (getattr(value, "__defaults__", None) or ()):
            scope[name] = _copy(value)
            value.__defaults__ = tuple([_keep if each is unlink else each for each in value.__defaults__])
    tempfile._TemporaryFileCloser = type(old)(old.__name__, old.__bases__, scope)


def _keep(path: Any) -> None:
    """In the place of os.unlink: the file is the first owner's."""


def _copy(function: FunctionType) -> FunctionType:
    new = type(function)(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    new.__kwdefaults__, new.__doc__, new.__qualname__ = function.__kwdefaults__, function.__doc__, function.__qualname__
    return new


def disown_processes() -> None:
    """Leave the processes of multiprocessing to their parent.

    Its exit function would terminate the session's daemonic processes. A resource tracker lasts as long as anybody
    holds its pipe, and the session waits for its end when it ends itself: the branch must let go. For the rest, it
    is done what multiprocessing does in a process that it has forked: finalizers dropped, locks, queues and proxies
    told.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None:
        return
    process._children = set()
    try:
        process.current_process()._config.pop("tempdir", None)  # the session's
    except Exception:  # another version: at worst a directory that goes with the session
        pass
    for module, name, pid, fd, _ in HELPERS:
        helper = getattr(sys.modules.get(module), name, None)
        number = getattr(helper, fd, None)
        if type(number) is int:
            setattr(helper, fd, None)
            try:
                os.close(number)
            except OSError:  # the code has closed it
                pass
        if getattr(helper, pid, None) is not None:
            setattr(helper, pid, None)
    server: Any = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if getattr(server, "_forkserver_address", None) is not None:
        server._forkserver_address = None
    util: Any = sys.modules.get("multiprocessing.util")
    try:
        util._finalizer_registry.clear()
        util._run_after_forkers()
    except Exception:  # not loaded, or a hook of the code's that fails: its matter
        return
