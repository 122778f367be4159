"""The first code of ours in a fresh interpreter: fork the session off, load the rest, say Ready.

Harder than it looks, because nothing of us may show in the session: our modules are not in
`sys.modules` and no finder of ours is in `sys.meta_path`. Instead each of our modules has builtins of its
own whose `__import__` resolves relative imports in a private table. Stage 0 (`_launch/payload.py`) runs this
module's code before any other, so it imports only what a bare interpreter has loaded.
"""

from __future__ import annotations

import builtins
import gc
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "_extsession"
_future = sys.modules.get("__future__")  # it came with this module, and is not there in a bare interpreter
#: modules of C that the user's code does not see because we use them; another import makes them again
_HIDDEN = frozenset(["__future__", "_ast", "_socket", "fcntl", "resource", "select"])
#: packages below the two at the top
_INNER = frozenset(["_worker.confine", "_worker.script"])


class Loader:
    """Modules from memory: {"_worker.serve": marshalled code}. Loaded when they are first imported."""

    def __init__(self, codes: dict[str, bytes]) -> None:
        self._codes = codes
        self._modules: dict[str, Any] = {}
        self._hidden: dict[str, Any] = {"__future__": _future}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> Any:
        """The module with this name below the root; "" is the root itself."""
        module = self._modules.get(name)
        if module is not None:
            return module
        full = ROOT + "." + name if name else ROOT
        module = type(sys)(full)
        self._modules[name] = module
        is_package = "." not in name or name in _INNER
        scope = vars(module)
        scope["__builtins__"] = self._builtins
        scope["__package__"] = full if is_package else full.rpartition(".")[0]
        if name in self._codes:
            exec(marshal.loads(self._codes[name]), scope)
        return module

    def _import(
        self, name: str, scope: Any = None, local: Any = None, wanted: Any = (), level: int = 0
    ) -> Any:
        if not level:
            found = self._hidden.get(name)
            if found is None:
                hide = name in _HIDDEN and name not in sys.modules
                found = __import__(name, scope, local, wanted, level)
                if hide:
                    self._hidden[name] = found
                    del sys.modules[name]
            return found
        package = scope["__package__"]
        for _ in range(level - 1):
            package = package.rpartition(".")[0]
        base = (package[len(ROOT) + 1 :] + "." + name).strip(".")
        module = self.load(base)
        for each in wanted or ():
            if not hasattr(module, each):
                setattr(module, each, self.load((base + "." + each).strip(".")))
        return module


def main(codes: dict[str, bytes], config: dict[str, Any], take: Any) -> None:
    """Become a warden and its session. Returns in the session only, when it is to end as an interpreter ends."""
    sys.modules.pop("__future__", None)
    channel: int = config["channel"]
    if "probe" in config:
        _probe(codes, config, take)
    leash: int = config["leash"]
    registrar: int = config["registrar"]  # the warden's end; `announce` is the session's
    announce: int = config["announce"]
    isolated = "isolation" in config  # in bubblewrap, as its process 1
    if isolated:
        codes.update(take(channel))
        for stream, fd in enumerate(config["streams"], 1):  # what is in their place is bubblewrap's own
            os.dup2(fd, stream)
            os.close(fd)
    parent, child = os.pipe()  # tells the session that the warden is ready to take orphans
    pid = os.fork()
    if pid:
        for fd in (channel, parent, announce):
            os.close(fd)
        if isolated:
            Loader(codes).load("_worker.bubble").stay(pid, child, config)
        scope: dict[str, Any] = {"__name__": "warden"}
        exec(marshal.loads(codes["_worker.warden"]), scope)
        try:
            scope["main"](pid, leash, child, registrar, config["mark"], config["step"])
        finally:
            os._exit(72)
    os.setsid()
    for fd in (leash, child, registrar):
        os.close(fd)
    status = _session(codes, config, take, parent)
    sys.exit(status)


def _probe(codes: dict[str, bytes], config: dict[str, Any], take: Any) -> None:
    """Not a session at all: say which walls this host allows, and end."""
    fd: int = config["channel"]
    codes.update(take(fd))
    load = Loader(codes).load
    question = config.get("question")  # of `confine/bubble.py`; None: all that we can make ourselves
    if question is None:
        found = load("_worker.confine.probe").probe(config=config["probe"])
    else:
        found = getattr(load("_worker.confine.bubble"), question)(config["probe"])
    data = marshal.dumps(found, 2)
    while data:
        data = data[os.write(fd, data) :]
    os._exit(0)


def _session(codes: dict[str, bytes], config: dict[str, Any], take: Any, warden_ready: int) -> int:
    before = set(sys.modules)
    loader = Loader(codes)
    load = loader.load
    descriptors = load("_worker.descriptors")
    to_high = descriptors.to_high
    limits = config.get("limits") or config.get("template", {}).get("isolation")
    if limits is not None and "open_files" in limits:
        descriptors.keep_below(limits["open_files"])
    fd = to_high(config["channel"])
    channel = load("_worker.channel").Channel(fd)
    router = load("_worker.streams").Router(channel, config["token"])
    for stream in (1, 2):
        router.pipes[stream] = to_high(os.dup(stream))
    main = sys.modules["__main__"]
    for name in list(vars(main)):
        if not name.startswith("__"):
            delattr(main, name)
    server = load("_worker.serve").Server(channel, router, vars(main), to_high(config["announce"]))
    out, err, inp = sys.stdout, sys.stderr, sys.stdin
    encoding = out.encoding if out is not None else "utf-8"
    router.open(encoding, out.errors if out else "strict", err.errors if err else "backslashreplace")
    load("_worker.burst").attach(router, server.accounts.may_have_started_process)
    load("_worker.threads").watch(router)
    server.open_stdin(inp.encoding if inp else encoding, inp.errors if inp else "strict")
    for old in (out, err, inp):
        if old is not None:
            _let_go(old)
    os.register_at_fork(before=router.before_fork, after_in_child=router.forked)
    sys.argv[:] = [""]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.orig_argv[0], "-c", ""]
    _trace_crashes(router.pipes[2])
    bubble = load("_worker.bubble") if "isolation" in config else None
    for name in set(sys.modules) - before:
        del sys.modules[name]
    server.install_handler()  # before anybody can know whom to interrupt
    os.read(warden_ready, 1)
    os.close(warden_ready)
    template = config.get("template")
    if template is not None:
        codes.update(take(fd))
        if not load("_worker.template").run(server, load, template):
            os._exit(0)  # nobody's code has run here, so there is nothing to wind up
    elif bubble is not None:
        bubble.be(server, config)
    else:
        if config["preload"] or limits:
            codes.update(take(fd))
        if limits:
            load("_worker.limits").begin(server, limits)
        _preload(server, config["preload"])
        server.say_ready()
        if not config["preload"] and not limits:
            codes.update(take(fd))  # the rest of our modules
    gc.enable()  # stage 0 has switched it off: a collection now would copy pages that are shared with the warden
    status: int = server.run()
    return status


def _preload(server: Any, names: Any) -> None:
    for name in names:
        try:
            __import__(name)
        except BaseException as error:
            server.evaluator.report_text("the preload of %r failed\n" % name)
            server.evaluator.report(error)
            os._exit(1)


def _trace_crashes(fd: int) -> None:
    """Have the interpreter write where it was when it crashes, to the session's stderr, wherever the code puts fd 2."""
    try:
        import faulthandler
    except ImportError:  # an interpreter that was built without it
        return
    if not faulthandler.is_enabled():  # else the user has said how: -X faulthandler, PYTHONFAULTHANDLER
        faulthandler.enable(fd)


def _let_go(stream: Any) -> None:
    # the interpreter's own object would close the descriptor, or write to it, when it is collected
    try:
        stream.flush()
        stream.detach().detach()
    except Exception:  # a stream that a sitecustomize has put there
        return
