"""What code in a process can see of the process: a program that runs in a session, on CPython 3.8 and later.

Its text is sent (`SOURCE`), then `facts()` is asked for: a dict of plain values. What is looked at comes before what is
imported for the look, so the order of the first lines matters.
"""

# ruff: noqa: E402
import sys

_loaded = sorted(sys.modules)
_main = sorted(vars(sys.modules["__main__"]))
_caches = sorted(map(str, sys.path_importer_cache))
_filters = [str(each) for each in sys.warnoptions]

import os

_open = []
for _number in range(1024):
    try:
        _status = os.fstat(_number)
    except OSError:
        continue
    _open.append((_number, _status.st_mode >> 12, os.get_inheritable(_number)))
del _number, _status

import _signal
import time

_cpu = time.process_time()

import resource

_usage = resource.getrusage(resource.RUSAGE_SELF)
_children = resource.getrusage(resource.RUSAGE_CHILDREN)


def _status_fields():
    with open("/proc/self/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _process():
    status = _status_fields()
    names = ["Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "CapInh", "CapPrm"]
    names += ["CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "THP_enabled", "Cpus_allowed"]
    found = {"status " + name: status.get(name) for name in [*names, "Mems_allowed", "Threads", "VmLck", "TracerPid"]}
    for number in range(16):
        found["limit %d" % number] = resource.getrlimit(number)
    for name in ("oom_score_adj", "cgroup", "personality", "coredump_filter", "timerslack_ns", "loginuid", "comm"):
        try:
            with open("/proc/self/" + name) as file:
                found["proc " + name] = file.read()
        except OSError as error:
            found["proc " + name] = "error %s" % error.errno
    for name in sorted(os.listdir("/proc/self/ns")):
        found["namespace " + name] = os.readlink("/proc/self/ns/" + name)
    with open("/proc/self/cmdline", "rb") as file:
        command = file.read().split(b"\0")
    found["executable"] = os.readlink("/proc/self/exe")
    found["command line"] = [len(command), command[0], command[1]]
    found["root"] = os.readlink("/proc/self/root")
    found["cwd"] = os.getcwd()
    found["cwd by the kernel"] = os.readlink("/proc/self/cwd")
    found["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
    found["affinity"] = sorted(os.sched_getaffinity(0))
    found["policy"] = (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    found["leads its group and session"] = os.getpid() == os.getpgrp() == os.getsid(0)
    found["controlling terminal"] = _terminal()
    found["parent is another"] = os.getppid() not in (0, 1, os.getpid())
    found["has children"] = _has_children()
    found["timers"] = [_signal.getitimer(which) for which in (0, 1, 2)]
    found["cpu near zero"] = _cpu < 1.0 and _usage.ru_utime + _usage.ru_stime < 1.0
    found["cpu of children"] = _children.ru_utime + _children.ru_stime
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as file:
        age = float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    found["started just now"] = age < 5.0
    found["peak memory below 64 MiB"] = _usage.ru_maxrss < 65536
    return found


def _terminal():
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _handler(number):
    handler = _signal.getsignal(number)
    if handler is None or isinstance(handler, int):
        return handler if handler is None else int(handler)
    return "%s.%s" % (handler.__module__, handler.__qualname__)


def _interpreter():
    found = {"sys." + name: getattr(sys, name) for name in ("path", "argv", "executable", "prefix", "base_prefix")}
    for name in ("orig_argv", "exec_prefix", "_base_executable", "pycache_prefix", "dont_write_bytecode", "ps1"):
        found["sys." + name] = getattr(sys, name, None)
    found["sys.flags"] = str(sys.flags)
    found["sys._xoptions"] = dict(sys._xoptions)
    found["sys.warnoptions"] = _filters
    found["sys.modules"] = _loaded
    found["names in __main__"] = _main
    found["sys.meta_path"] = [getattr(each, "__name__", type(each).__name__) for each in sys.meta_path]
    found["sys.path_hooks"] = [getattr(each, "__name__", type(each).__name__) for each in sys.path_hooks]
    found["sys.path_importer_cache"] = _caches
    found["recursion limit"] = sys.getrecursionlimit()
    found["switch interval"] = sys.getswitchinterval()
    found["hooks"] = [
        sys.excepthook is sys.__excepthook__,
        sys.displayhook is sys.__displayhook__,
        getattr(sys, "unraisablehook", None) is getattr(sys, "__unraisablehook__", None),
        getattr(sys, "breakpointhook", None) is getattr(sys, "__breakpointhook__", None),
        sys.gettrace() is None,
        sys.getprofile() is None,
        getattr(sys, "tracebacklimit", None),
    ]
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        facts = [getattr(stream, each, None) for each in ("encoding", "errors", "newlines", "line_buffering", "mode")]
        facts += [type(stream).__name__, stream is getattr(sys, "__%s__" % name), stream.isatty(), stream.fileno()]
        found["sys." + name] = facts
    found["filesystem encoding"] = [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()]
    found["signal handlers"] = {number: _handler(number) for number in range(1, 65) if number not in (32, 33)}
    found["wakeup descriptor"] = _signal.set_wakeup_fd(-1)
    found["__main__"] = [__name__, sorted(set(globals()) & {"__file__", "__spec__", "__doc__", "__package__"})]
    return found


def _libraries():
    """What asks for an import, last."""
    import faulthandler
    import gc
    import locale
    import random
    import tempfile
    import threading
    import warnings

    found = {"gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks), len(gc.garbage)]}
    found["gc frozen"] = gc.get_freeze_count()
    found["preferred encoding"] = locale.getpreferredencoding(False)
    found["locale"] = locale.setlocale(locale.LC_ALL)
    found["time zone"] = [time.tzname, time.timezone, time.daylight, time.localtime(0)[:6]]
    found["faulthandler"] = faulthandler.is_enabled()
    found["warnings"] = [repr(each) for each in warnings.filters]
    main = threading.main_thread()
    found["threads"] = [each.name for each in threading.enumerate()]
    found["main thread"] = [
        main is threading.current_thread(),
        main.ident == threading.get_ident(),
        main.native_id == os.getpid() == threading.get_native_id(),
        main.is_alive(),
        threading.stack_size(),
    ]
    found["temporary folder"] = tempfile.gettempdir()
    found["random"] = [random.random(), os.urandom(8), next(tempfile._get_candidate_names())]
    found["hash of a string"] = hash("extsession")
    return found


def facts():
    """All of it. What is to differ between any two processes is under the names in `OWN`."""
    found = _process()
    found["environment"] = dict(os.environ)
    found["environment is bytes too"] = {os.fsencode(name) for name in os.environ} == set(os.environb)
    # the session's own are from 250 downwards, out of the way
    found["descriptors"] = [each for each in _open if each[0] <= 186]
    found["descriptors from 187 on"] = [each for each in _open if each[0] > 186]
    found.update(_interpreter())
    found.update(_libraries())
    return found


#: that two processes have in common only by mistake
OWN = ["random"]
