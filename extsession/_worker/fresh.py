"""Make a forked session as new as a spawned one: what it would have inherited, and nothing random in common.

Runs in the forked process, in its main thread, before any code of the user's. The controller says what to change
(`_launch/ambient.py`); mostly that is nothing. Order matters: what opens files or takes permissions comes before the
limits that could forbid it, and the signal mask comes last, for a signal that is unblocked arrives at once.

`sys.modules` is looked at, never added to: what is not loaded has no state to be reset. The time goes into pages that
are touched first, and so copied: the less is looked at, the better.

What stays in common with the other sessions of a template: the hash seed (PYTHONHASHSEED; so also the order of sets of
strings), the layout of memory, and the state of generators that preloaded modules have made for themselves.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Variables = tuple[dict[bytes, bytes], list[bytes]]

_EPERM = 1
#: where tempfile looks; it keeps what it has found
_TEMPORARY = (b"TMPDIR", b"TEMP", b"TMP")


def apply(changes: dict[str, Any], folder: int | None = None, variables: Variables | None = None) -> None:
    """Take over what a child of the controller has, as far as it is not as in the template.

    changes: of `ambient.differences`. folder: a descriptor of the current directory, left open; None leaves it.
    variables: of `environment.changes`. Raises OSError, which names the one thing that could not be set.
    """
    if folder is not None:
        _do("the current directory", os.fchdir, folder)
    if variables is not None:
        _environment(*variables)
    if not changes:
        return
    get = changes.get
    if "oom_score_adj" in changes:
        _do("oom_score_adj", _write, "/proc/self/oom_score_adj", b"%d" % changes["oom_score_adj"])
    if "umask" in changes:
        os.umask(changes["umask"])
    if "nice" in changes:
        _do("the nice value", os.setpriority, os.PRIO_PROCESS, 0, changes["nice"])
    if "policy" in changes:
        policy, priority = changes["policy"]
        _do("the scheduling policy", os.sched_setscheduler, 0, policy, os.sched_param(priority))
    if "cpus" in changes:
        _do("the processors to run on", os.sched_setaffinity, 0, changes["cpus"])
    for number, limit in get("limits", {}).items():
        _do(number, resource.setrlimit, number, limit)
    for number in get("ignore", ()):
        _do("signal %d to be ignored" % number, signal.signal, number, signal.SIG_IGN)
    for number in get("default", ()):
        # as an interpreter does at its start
        handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        _do("signal %d to its default" % number, signal.signal, number, handler)
    if "blocked" in changes:
        _do("the signal mask", signal.pthread_sigmask, signal.SIG_SETMASK, changes["blocked"])


def prepare() -> None:
    """In the template, when all is loaded that will be: find out what `renew` has to do, so that it need not look."""
    global _plan
    _plan = _find()


def has_plan() -> bool:
    """Whether `renew` has anything to do in every clone."""
    return bool(_plan)


def renew(template: int = 0) -> None:
    """Give this process random state, identifiers and times of its own, as far as modules with such state are loaded.

    `random` sees to itself, by the hook that Python calls in a forked process (PyOS_AfterFork_Child); `secrets` and
    os.urandom ask the kernel. OpenSSL notices a new process by its number, which costs 0.7 ms at its next use;
    template is the number of the template as it sees itself, for in another PID namespace they can be the same.
    """
    for function, module in _find() if _plan is None else _plan:
        function(module)
    if template and template == os.getpid():
        openssl: Any = sys.modules.get("_ssl")
        if openssl is not None:
            openssl.RAND_add(os.urandom(32), 0.0)


def _find() -> list[tuple[Any, Any]]:
    loaded = sys.modules
    return [(function, loaded[name]) for name, function in _RENEWED.items() if loaded.get(name) is not None]


def _environment(new: dict[bytes, bytes], gone: list[bytes]) -> None:
    environ = os.environb  # the same data as os.environ, which stays the object it is; both tell C
    for name in gone:
        try:
            del environ[name]
        except KeyError:  # something has removed it while the template started; C is told all the same
            continue
    for name, value in new.items():
        _do("the environment variable %r" % os.fsdecode(name), environ.__setitem__, name, value)
    touched = {*new, *gone}
    if b"TZ" in touched:
        time.tzset()
    if not touched.isdisjoint(_TEMPORARY):
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile is not None:
            tempfile.tempdir = None


def _numpy(module: Any) -> None:
    """The generator behind numpy.random.rand() and its like. Others are made with entropy from the kernel."""
    try:
        module.seed(list(memoryview(os.urandom(32)).cast("I")))  # a tenth of the time that seed() takes to ask for it
    except TypeError:  # another bit generator has been put in
        module.set_bit_generator(type(module.get_bit_generator())())


def _uuid(module: Any) -> None:
    """Version 1 has its node, which uuid invents where the machine has none, the others count on from the last one."""
    scope = vars(module)
    for name in scope:
        if name.startswith(("_last_timestamp", "_last_counter")):
            scope[name] = 0 if name == "_last_counter_v7" else None
    node = scope.get("_node")
    if node is not None and node >> 40 & 1:  # a multicast address: RFC 4122 4.5 has invented ones like that
        scope["_node"] = None


def _tempfile(module: Any) -> None:
    module._name_sequence = None


def _threading(module: Any) -> None:
    main = module.main_thread()
    if hasattr(main, "_set_native_id"):
        main._set_native_id()  # Python leaves that of the parent: bpo-38707


def _multiprocessing(module: Any) -> None:
    module.current_process().authkey = os.urandom(32)


def _logging(module: Any) -> None:
    """%(relativeCreated)d counts from here; 3.13 has nanoseconds."""
    began = getattr(module, "_startTime", None)
    if began is not None:
        module._startTime = time.time_ns() if isinstance(began, int) else time.time()


#: modules with state of their own process -> what gives them new state
_RENEWED = {
    "numpy.random.mtrand": _numpy,
    "uuid": _uuid,
    "tempfile": _tempfile,
    "threading": _threading,
    "multiprocessing.process": _multiprocessing,
    "logging": _logging,
}
_plan: list[tuple[Any, Any]] | None = None


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _do(what: str | int, function: Any, *arguments: Any) -> None:
    """Call it. The OSError of a failure says what it was about; a number is that of a limit."""
    try:
        function(*arguments)
    except (OSError, ValueError, OverflowError) as error:  # ValueError: setrlimit refused to raise a hard limit
        name = what if isinstance(what, str) else _limit_name(what)
        number = getattr(error, "errno", None) or _EPERM
        values = ", ".join([repr(each) for each in arguments])
        text = "cannot set %s: %s (%s)" % (name, getattr(error, "strerror", None) or error, values)
        raise OSError(number, text) from error


def _limit_name(number: int) -> str:
    for name in sorted(vars(resource)):
        if name.startswith("RLIMIT_") and getattr(resource, name) == number:
            return name
    return "resource limit %d" % number
