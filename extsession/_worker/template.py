"""A template: an interpreter with modules loaded that never runs a user's code, and is cloned instead.

It has all that a session has, made once; a clone only takes over the descriptors that come with the order. So what
is loaded here is loaded in every session, and what is touched here is copied for every session: the collector's
work is done before, and its view of the objects is frozen.
"""

from __future__ import annotations

import gc
import os
import sys

from .._protocol import messages
from . import fresh, holdings
from .birth import Births
from .clone import CannotClone
from .rehearse import rehearse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server

#: what sessions use sooner or later, and need not load one by one
_MODULES = (
    "_protocol.pickles",
    "_protocol.records",
    "_protocol.values",
    "_worker.command",
    "_worker.display",
    "_worker.limits",
    "_worker.requests",
)
#: bytes of a mapping from which on it pays to keep it mapped, see `_keep_mapped`
_LARGE = 1 << 17
#: most files of preloaded modules that are watched for changes
_MOST_FILES = 200


def run(server: Server, load: Any, config: dict[str, Any]) -> bool:
    """Load what is wanted, say Ready, and serve. True in a clone; False when nobody wants more clones.

    config: preload, the names of modules; restore, {name: value or None} of the environment while they are
    imported; idle, seconds.
    """
    births = _prepare(server, load, config)  # its variables are gone by the time of a clone, which would free them
    return births is not None and births.serve(config["idle"])


def _prepare(server: Server, load: Any, config: dict[str, Any]) -> Births | None:
    fields: dict[str, Any] = {"pid": os.getpid()}
    before = set(sys.modules)
    births = None
    preloaded: set[bytes] = set()
    walls = config.get("isolation")
    if walls is not None:
        walled = load("_worker.walled")
        try:
            walled.enter_base(walls)
        except OSError as fault:
            server.channel.send(messages.READY, 0, [messages.pack_ready(walled.denied(fault, walls["tier"]))])
            return None
    try:
        files = {file for file, _ in _mapped()}
        _preload(server, config["preload"])
        preloaded = {file for file, _ in _mapped()} - files
        threads = _other_threads()
        if threads:
            raise CannotClone("it starts threads by itself (%s)" % threads)
        server.family.get_ready().die_with_parent()
    except CannotClone as fault:
        fields["failed"] = ""
        fields["why"] = str(fault)
    except PreloadFailed as fault:
        fields["failed"] = fault.name
        fields["why"] = fault.why
    for name, value in config["restore"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    loaded = [sys.modules[name] for name in set(sys.modules) - before if name in sys.modules]
    fields["files"], fields["local"] = _files(loaded)
    fields["sites"] = "\n".join(_sites())
    for name in _MODULES:
        load(name)
    if config.get("script"):
        load("_worker.script.serve")
    server.accounts.get_ready()
    server.channel.socket()
    server.router.flush()
    rehearse(server)
    fresh.prepare()
    if "failed" not in fields:
        births = Births(server) if walls is None else walled.WalledBirths(server, walls)
        births.rehearse()
        server.router.parked = True
    _keep_mapped(preloaded)
    gc.collect()
    gc.freeze()
    server.channel.send(messages.READY, 0, [messages.pack_ready(fields)])
    return births


class PreloadFailed(Exception):
    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why


def _preload(server: Server, names: Any) -> None:
    for name in names:
        server.channel.send(messages.PRELOADING, 0, [name.encode("utf-8", "replace")])
        try:
            __import__(name)
        except BaseException as error:
            server.evaluator.report(error)
            if os.getpid() == server.pid:
                raise PreloadFailed(name, "%s: %s" % (type(error).__name__, error)) from None
        server.router.flush()
        if os.getpid() != server.pid:
            os._exit(0)  # a child that the module has forked: two would be the same template
        for what, found in (("threads", _other_threads()), ("processes", ", ".join(holdings.children({})))):
            if found:
                why = "it started %s (%s), with which a process cannot be cloned; warm=False does without"
                raise PreloadFailed(name, why % (what, found))


def _mapped() -> list[tuple[bytes, int]]:
    """(file, address) of each large mapping of a file that is only read or executed."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            lines = [line.split(None, 5) for line in maps.read().splitlines()]
    except OSError:
        return []
    found = []
    for line in lines:
        if len(line) == 6 and line[1] in (b"r--p", b"r-xp") and line[5].startswith(b"/"):
            start, end = [int(each, 16) for each in line[0].split(b"-")]
            if end - start >= _LARGE:
                found.append((line[5], start))
    return found


def _keep_mapped(preloaded: set[bytes]) -> None:
    """Have a clone begin with the code of the interpreter in its page tables, instead of meeting it page by page.

    fork() leaves out what a page fault can bring back from a file, unless the process has changed a page of the mapping
    (vma_needs_copy() in the kernel's mm/memory.c): so each is made to have one, with what is there already.
    preloaded: files of libraries, of which a clone may use little.
    """
    try:
        memory = os.open("/proc/self/mem", os.O_RDWR)
    except OSError:
        return
    for file, start in _mapped():
        if file not in preloaded:
            try:
                os.pwrite(memory, os.pread(memory, 1, start), start)
            except OSError:
                continue
    os.close(memory)


def _other_threads() -> str:
    names = []
    try:
        for task in os.listdir("/proc/self/task"):
            if int(task) != os.getpid():
                with open("/proc/self/task/%s/comm" % task) as file:
                    names.append(file.read().strip())
    except OSError:
        pass
    threading: Any = sys.modules.get("threading")
    if names and threading is not None:
        known = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
        names[: len(known)] = known
    return ", ".join(sorted(names))


def _files(modules: Any) -> tuple[str, int]:
    """Files of modules that may be edited while we live, in lines; and whether some are of the current directory."""
    try:
        here = os.getcwd() + os.sep
    except OSError:  # it is gone: nothing can have come from there
        here = os.sep + os.sep
    settled = [sys.prefix, sys.base_prefix, *_sites()]
    found = []
    local = 0
    for module in modules:
        path = getattr(module, "__file__", None)
        if type(path) is not str or "\n" in path:
            continue
        path = os.path.abspath(path)
        if any(path.startswith(root + os.sep) for root in settled):
            continue
        found.append(path)
        if path.startswith(here):
            local = 1
    return "\n".join(sorted(found)[:_MOST_FILES]), local


def _sites() -> list[str]:
    """Folders in which installing something changes what an interpreter finds when it starts."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
