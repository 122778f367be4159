"""The census before a branch: is it safe to duplicate this process?

It looks, and harms nothing: nothing is imported that the code has not loaded, and no object of the code's is called
but for names. The one thing it changes are threads of OpenBLAS and GNU OpenMP, which it ends where nothing else is in
the way, because they come back by themselves (`runtimes.py`). `disown.py` is the other half, for the branch.
"""

from __future__ import annotations

import sys

from .._protocol.census import REFUSED, RISKY, SAFE, Census, Finding
from . import holdings, native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator

    from .loop import SessionLoop

_RUNTIMES = {"blas-threads": "OpenBLAS", "openmp-threads": "GNU OpenMP"}


def take(loop: SessionLoop | None = None, own: Iterable[int] = (), quiet: bool = True) -> Census:
    """Look at this process. To be called by its main thread while none of the code runs.

    loop: the session's event loop, if it has one; its own descriptors do not count, `SessionLoop.renew` sees to them.
    own: descriptors of ours that the branch gets anew. quiet: end threads of runtimes that start them again.

    Measured: 20 us for a session that holds nothing, 25 with asyncio's loop, NumPy, pandas and multiprocessing loaded;
    12 for each descriptor of the code's, 20 for each child process; what it takes to end threads is told in `runtimes`.
    """
    own = {*own, *(loop.descriptors() if loop is not None else ())}
    helpers, theirs = _multiprocessing()
    found: list[Finding] = [*_threads(quiet), *holdings.descriptors(own | theirs)]
    runtimes = _gpu_runtimes()
    if runtimes:
        found.append(Finding("gpu", REFUSED, "a GPU does not work in a duplicate of its process", runtimes))
    tasks = loop.tasks() if loop is not None else []
    if tasks:
        found.append(Finding("tasks", RISKY, "the branch and the session would both go on with them", tasks))
    children = holdings.children(helpers)
    if children:
        why = "the branch is not their parent: it cannot wait for them, and is told the exit status 0"
        found.append(Finding("children", RISKY, why, children))
    if helpers:
        why = "they stay with the session; the branch starts its own"
        found.append(Finding("multiprocessing", SAFE, why, sorted(helpers.values())))
    temporary = [each.name for each, _ in temporary_directories()]
    if temporary:
        why = "the session deletes them; the branch does not"
        found.append(Finding("temporary-directories", SAFE, why, sorted(map(str, temporary))))
    return Census(found)


def _threads(quiet: bool) -> Iterator[Finding]:
    python = native.python_threads()
    if python:
        names = sorted([name for name, _ in python.values()])
        yield Finding("threads", REFUSED, "they are not there in the branch: what waits for them hangs", names)
    try:
        others = native.native_threads(python)
        if others and quiet and not python:
            from . import runtimes

            others, ended = runtimes.quiet()
            for code, libraries in ended.items():
                why = "threads of %s were ended; it starts them again when it needs them" % _RUNTIMES[code]
                yield Finding(code, SAFE, why, libraries)
        elif others:
            others = native.settle(0, python)
        names = native.names_of(others)
    except OSError as error:
        yield Finding("unseen", REFUSED, "native threads cannot be seen here: %s" % error)
        return
    if names:
        why = "C code has started them; they are not there in the branch, and what waits for them hangs"
        yield Finding("native-threads", REFUSED, why, names)


def _gpu_runtimes() -> list[str]:
    """Libraries that say they have initialised a GPU. Most also hold a device open, which says it for all others."""
    loaded: dict[str, Any] = sys.modules
    found: list[str] = []
    try:
        for name in ("torch.cuda", "torch.xpu"):
            if name in loaded and loaded[name].is_initialized():
                found.append(name)
        if "numba.cuda.cudadrv.driver" in loaded and loaded["numba.cuda.cudadrv.driver"].driver.is_initialized:
            found.append("numba.cuda")
        if "jax._src.xla_bridge" in loaded and not {"cpu"}.issuperset(loaded["jax._src.xla_bridge"]._backends):
            found.append("jax")
    except Exception:  # half imported, or of another version
        return found
    return found


def _multiprocessing() -> tuple[dict[int, str], set[int]]:
    """({process id: name} of the helpers that multiprocessing started, the descriptors that keep them alive)."""
    helpers: dict[int, str] = {}
    numbers: set[int] = set()
    for module, name, pid, fd, text in HELPERS:
        helper = getattr(sys.modules.get(module), name, None)
        number = getattr(helper, pid, None)
        if type(number) is int:
            helpers[number] = text
        number = getattr(helper, fd, None)
        if type(number) is int:
            numbers.add(number)
    return helpers, numbers


#: (module, its object, attribute: process id, attribute: descriptor, what it is)
HELPERS = (
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid", "_fd", "resource tracker"),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd", "fork server"),
)


def temporary_directories() -> list[tuple[Any, Any]]:
    """(TemporaryDirectory, its finalizer) of those that are alive; a look at each `weakref.finalize` there is."""
    tempfile: Any = sys.modules.get("tempfile")
    finalize: Any = getattr(sys.modules.get("weakref"), "finalize", None)
    if tempfile is None or finalize is None:
        return []
    found = []
    try:
        for finalizer, info in list(finalize._registry.items()):
            directory = info.weakref()
            if issubclass(type(directory), tempfile.TemporaryDirectory):
                found.append((directory, finalizer))
    except Exception:  # another tempfile than Python's
        return found
    return found
