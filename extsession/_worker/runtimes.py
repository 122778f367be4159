"""Libraries whose threads can be ended before the process is duplicated, and come back by themselves.

OpenBLAS, which NumPy and SciPy bring along, starts its threads when it is imported. It ends them in a handler that
libc's fork() runs (pthread_atfork) and starts them again at its next call that needs them; a raw clone(2) runs no
handlers. `blas_thread_shutdown_` is that handler. NumPy's wheels have hidden the symbol since 2.5, so where it is
missing libc is made to run its handlers, by a fork() that fails (see `_run_fork_handlers`).

GNU OpenMP (PyTorch, scikit-learn) has a function of the OpenMP standard for it. Other runtimes are left alone: their
threads are in the way.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

from .native import native_threads, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

BLAS = "blas-threads"
OPENMP = "openmp-threads"
#: part of the file name, after "lib", of a library that may be one
_PARTS = {BLAS: b"blas", OPENMP: b"gomp"}
_SHUTDOWN = "blas_thread_shutdown_"
_PAUSE = "omp_pause_resource_all"
#: how many processors it sees, by the names that builds of OpenBLAS give to the function
_PROCESSORS = [
    pre + "openblas_get_num_procs" + post for pre in ("scipy_", "") for post in ("64_", "", "_64_", "_")
]
_PAUSE_SOFT = 1  # omp_pause_soft, OpenMP 5.0, section 3.2.44: values of the code's are kept

_c: Any = None  # functions of the extension behind ctypes, once they were needed
_handles: dict[bytes, int] = {}  # of libraries that were found so far, by path


def quiet() -> tuple[list[int], dict[str, list[str]]]:
    """End what threads can be ended. There must be no Python threads.

    Returns (ids of the threads that stay, {code of a finding: names of the libraries whose threads were ended}).
    OpenBLAS is left alone where there are more threads than it can have: one of those others may be in it.
    Measured with NumPy and SciPy on two cores: 6 ms the first time and when libraries were loaded since, for our
    imports and /proc/self/maps; then 0.4 ms, and up to 4 ms where its threads have just worked and are not asleep, or
    where libc's handlers are run as root.
    """
    done: dict[str, list[str]] = {}
    native = native_threads({})
    for known in (True, False):
        if not native or (known and not _handles):
            continue
        if not known:
            _look()
        before = len(native)
        if quiet_openmp():
            native = settle(_most(), {})
            if len(native) < before:
                done[OPENMP] = list(_symbols(OPENMP, [_PAUSE]).values())
        most = _most()
        if not known:
            native = settle(most, {})
        if 0 < len(native) <= most and quiet_blas():
            native = settle(0, {})
            done[BLAS] = list(_symbols(BLAS, [_SHUTDOWN, *_PROCESSORS]).values())
    return native, done


def quiet_blas() -> int:
    """End the threads of each copy of OpenBLAS; returns the number of copies. No thread may be inside one."""
    if not _handles:
        _look()
    ends = _symbols(BLAS, [_SHUTDOWN])
    for address in ends:
        _c.call_function(address, ())
    copies = len(_symbols(BLAS, _PROCESSORS))
    if copies > len(ends):
        _run_fork_handlers()
    return max(copies, len(ends))


def quiet_openmp() -> int:
    """End the idle threads of GNU OpenMP that belong to this thread; returns the number of copies of it.

    The next parallel region starts them anew. libgomp has the function from GCC 9 on.
    """
    ends = _symbols(OPENMP, [_PAUSE])
    for address in ends:
        _c.call_function(address, (_PAUSE_SOFT,))
    return len(ends)


def _most() -> int:
    """The most threads that the known copies of OpenBLAS may have."""
    running = _symbols(BLAS, ["blas_server_avail"])
    started = _symbols(BLAS, ["blas_num_threads"])
    if running and len(running) == len(started) == len(_symbols(BLAS, _PROCESSORS)):
        # in the order of their libraries, both
        return sum([max(0, _c.int_at(most) - 1) for is_on, most in zip(running, started) if _c.int_at(is_on)])
    return sum([max(0, _c.call_function(address, ()) - 1) for address in _symbols(BLAS, _PROCESSORS)])


def _look() -> None:
    """Find the libraries among what is mapped."""
    with open("/proc/self/maps", "rb") as file:
        lines = file.read().splitlines()
    for path in sorted({line[line.find(b"/") :] for line in lines if b".so" in line}):
        name = path.rpartition(b"/")[2].lower()
        if path in _handles or not name.startswith(b"lib") or not any(part in name for part in _PARTS.values()):
            continue
        try:
            _handles[path] = _functions().dlopen(os.fsdecode(path), os.RTLD_NOW | os.RTLD_NOLOAD)
        except OSError:  # the file is another one by now: its threads stay
            continue


def _symbols(code: str, names: Iterable[str]) -> dict[int, str]:
    """{where a function of one of these names is: the library}; a library also finds those of libraries it needs."""
    found: dict[int, str] = {}
    for path, handle in _handles.items():
        library = path.rpartition(b"/")[2]
        if _PARTS[code] not in library.lower():
            continue
        for name in names:
            try:
                found.setdefault(_c.dlsym(handle, name), os.fsdecode(library))
            except OSError:
                continue
            break
    return found


def _run_fork_handlers() -> None:
    """Let libc run the handlers of pthread_atfork(3) as its fork() does.

    It runs them before it asks the kernel, which then refuses: there may be no further process of this user. The
    kernel does not refuse root, and a process is made that ends at once; nobody is told (SIGCHLD).
    """
    import resource

    fork = _functions().dlsym(_c.dlopen(None, os.RTLD_NOW), "fork")
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGCHLD])
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
        try:
            pid = _c.call_function(fork, ())
            if not pid:
                os._exit(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NPROC, limits)
        if pid > 0:
            _forget_child(pid)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _forget_child(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # SIGCHLD is ignored: the kernel has waited
        return
    told = _signal.sigtimedwait([_signal.SIGCHLD], 0)
    if told is not None and told.si_pid != pid:  # another child's, with which ours was merged
        os.kill(os.getpid(), _signal.SIGCHLD)


def _functions() -> Any:
    """What we need of the extension `_ctypes`, without leaving a module in the code's `sys.modules`."""
    global _c
    if _c is None:
        before = set(sys.modules)
        import _ctypes

        for name in set(sys.modules) - before:
            del sys.modules[name]

        class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
            _type_ = "i"

        class Functions:
            dlopen = staticmethod(_ctypes.dlopen)
            dlsym = staticmethod(_ctypes.dlsym)
            call_function = staticmethod(_ctypes.call_function)

            @staticmethod
            def int_at(address: int) -> int:
                value: int = Int.from_address(address).value
                return value

        _c = Functions
    return _c
