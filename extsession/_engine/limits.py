"""The rules of `Limits`: what is broken, and when somebody has to look. Pure: times and samples go in.

The clock of a call's `wall` is its deadline in the machine. What the kernel holds by itself (open files, file size)
needs no rule. The rest is looked at in samples, no more often than it could be broken: so a session that has used a
tenth of its CPU time is left alone until it could have used up the rest. A session that does nothing, and has left
nothing behind that could, is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .._launch.samples import Sample
from ..options import Limits

#: seconds between two samples of a session: never less, and no more where memory is looked at
_LEAST, _MOST = 0.005, 1.0
#: the part of its time that a session may be looked at
_SHARE: Final = 0.05
#: what a processor can do in a second: bytes that are touched first, processes that are made
_TOUCH, _FORK = 2.5e9, 1000.0
#: seconds after which a call's CPU time is looked at first: what is over before takes no look
_FIRST: Final = 0.005
#: seconds after a call in which a sample may not know yet of what it has left: that comes to the warden meanwhile
_SETTLED: Final = 0.2
#: seconds between looks for what the kernel has ended
_LOOK: Final = 0.1
_CORES: Final = os.cpu_count() or 1
#: those that end the call; the session goes on if the code reacts
OF_CALLS: Final = frozenset(["wall", "cpu", "output"])
#: those after which there is no way back: what is used up stays so
FINAL: Final = frozenset(["session_wall", "session_cpu", "idle"])
#: signal that a resource limit ends a process with -> limit
_SIGNALS: Final = {"SIGXCPU": "session_cpu", "SIGXFSZ": "file_size"}
#: a value that means no limit to the kernel
_NONE: Final = 2**62
#: limits that the worker sets to itself
IN_WORKER: Final = ("memory", "session_cpu", "processes", "open_files", "file_size")
#: those that the controller looks at by samples, if the kernel does not hold them
_SAMPLED: Final = frozenset(["cpu", "session_cpu", "memory", "processes"])


class Breach(NamedTuple):
    """A limit that was reached: its name, and values in its unit."""

    limit: str
    allowed: float
    reached: float


class InForce(NamedTuple):
    """A limit of a session. value: in its unit; mechanism: what holds it; exactness: how exact that is."""

    value: float
    mechanism: str
    exactness: str


class Rules:
    """The limits of one session, and how far it has come. Changed by its SessionMachine only.

    is_root: the user has no limit of processes. work_size: bytes that a work directory may have which nothing bounds.
    """

    def __init__(self, limits: Limits, is_root: bool = False, work_size: int | None = None) -> None:
        self._work_size = work_size
        self.breach: Breach | None = None  # that has ended the session
        self.held: frozenset[str] = frozenset()  # by the kernel, for the whole of it
        self.told: dict[str, int] = {}  # by the worker: resource limits in force
        self.limits = limits
        self._is_root = is_root
        self._watched_of: tuple[Limits, frozenset[str], frozenset[str]] = limits, _SAMPLED, frozenset()
        self._began: float | None = None  # when the session was there
        self._idle_from: float | None = None
        self._is_running = False
        self._has_left = False  # something that goes on while no call runs
        self._last: Sample | None = None
        self._before = 0.0  # CPU of processes that the session had before it was brought back
        self._called = 0.0  # when the call began
        self._cpu_from: float | None = None  # of the session then: known from the first sample on
        self._next: float | None = None  # when to look
        self._since = 0.0  # for how long the session may have used more than is known: its time at rest does not count

    # what happens

    def on_ready(self, told: Mapping[str, Any], now: float) -> Breach | None:
        """The session is there, or there again. Returns the limit that it could not set, with no values."""
        self.told = {name[len("limit_") :]: value for name, value in told.items() if name.startswith("limit_")}
        if self._began is None:
            self._began = now
        self._since = now
        self.on_idle(now, False)
        return Breach(str(told["unheld"]), 0, 0) if "unheld" in told else None

    def on_confined(self, held: frozenset[str]) -> tuple[str, str] | None:
        """What the kernel holds for the whole session. Returns a limit that nobody can hold now, and why."""
        self.held = held
        if self._is_root and self.limits.processes is not None and "processes" not in held:
            return "processes", (
                "root may have as many processes as it likes, and there is no control group (pids) that could be made "
                "or changed for the session; run it as another user"
            )
        return None

    def on_call(self, now: float) -> bool:
        """A call begins; whether a sample is to be taken at once."""
        if self._idle_from is not None and not self._has_left:
            self._since += now - self._idle_from
        self._idle_from = None
        self._is_running = True
        self._called = now
        self._cpu_from = None
        self._next = None
        self._plan(now)
        return self._next is not None and self._next <= now

    def on_short_call(self, began: float) -> None:
        """A call is over that nobody has looked at."""
        if self._idle_from is not None and not self._has_left:
            self._since += began - self._idle_from

    def on_idle(self, now: float, has_left: bool) -> None:
        """No call runs. has_left: the last one has left threads or processes, perhaps."""
        self._idle_from = now
        self._is_running = False
        self._has_left = self._has_left or has_left
        self._next = None
        if self._has_left:
            self._plan(now)

    def on_sample(self, sample: Sample) -> Breach | None:
        """What the session uses; the limit that is broken by it."""
        if self._is_running and self._cpu_from is None:
            # what it may have used before this is the call's: it is held too early by some milliseconds, never too late
            new = sample.cpu - (0.0 if self._last is None else self._last.cpu)
            self._cpu_from = sample.cpu - max(0.0, min(new, (sample.when - self._called) * _CORES))
        self._last = sample
        self._since = sample.when
        is_late = self._idle_from is not None and sample.when - self._idle_from > _SETTLED
        if not self._is_running and sample.tasks <= 1 and is_late:
            self._has_left = False
        found = self._judge(sample)
        self._next = None
        if self._is_running or self._has_left:
            self._plan(sample.when, sample.cost)
        return found

    def on_gone(self, now: float) -> None:
        """There is nothing to be sampled: its end is told soon."""
        self._next = now + _MOST

    def on_exit(self, signal: str | None, oom: bool) -> Breach | None:
        """The process has ended: the limit that the kernel has ended it for, if that is known."""
        if self.breach is None and oom and self.limits.memory is not None:
            self.breach = Breach("memory", self.limits.memory, self.limits.memory)
        name = _SIGNALS.get(signal or "")
        value = None if name is None else getattr(self.limits, name)
        if self.breach is None and name is not None and value is not None:
            self.breach = Breach(name, value, self._cpu(self._last) if name == "session_cpu" else value)
            self.breach = self.breach._replace(reached=max(value, self.breach.reached))
        return self.breach

    def on_revival(self) -> None:
        """Another process goes on with the session."""
        self.breach = None
        self._before = self._cpu(self._last)
        self._last = None
        self._idle_from = self._next = None
        self._is_running = self._has_left = False

    def change(self, limits: Limits, now: float) -> None:
        """Others from now on; a call that runs keeps its `wall`."""
        for name in ("memory", "file_size"):
            value = getattr(limits, name)
            if value is not None and (name in self.told or name == "file_size"):
                self.told[name] = value
        self.limits = limits
        if self._began is None:
            self._began = self._since = now
            self._idle_from, self._has_left = (None if self._is_running else now), True
        self._next = now if self._is_running or self._has_left else None
        if not self._watched():
            self._next = None

    # what is asked

    def look(self, now: float) -> Breach | None:
        """What the clock says."""
        limits = self.limits
        if self._began is not None and limits.session_wall is not None and now >= self._began + limits.session_wall:
            return Breach("session_wall", limits.session_wall, now - self._began)
        if self._idle_from is not None and limits.idle is not None and now >= self._idle_from + limits.idle:
            return Breach("idle", limits.idle, now - self._idle_from)
        return None

    def wants_sample(self, now: float) -> bool:
        if self._next is None or now < self._next:
            return False
        self._next = None  # until it has come
        return True

    @property
    def closely(self) -> int | None:
        """Bytes above which the memory is to be looked at closely."""
        return None if "memory" in self.held else self.limits.memory

    def too_much_output(self, size: int) -> Breach | None:
        allowed = self.limits.output
        return Breach("output", allowed, size) if allowed is not None and size > allowed else None

    def next_look(self) -> float | None:
        """When `look` or a sample is due."""
        if self.breach is not None:
            return None
        limits, found = self.limits, self._next
        if self._began is not None and limits.session_wall is not None:
            found = _sooner(found, self._began + limits.session_wall)
        if self._idle_from is not None and limits.idle is not None:
            found = _sooner(found, self._idle_from + limits.idle)
        return found

    # samples

    def _watched(self) -> frozenset[str]:
        """Those that samples are for. Asked in each call, and the same in nearly all."""
        of = self._watched_of
        if of[0] is not self.limits or of[1] is not self.held:
            found = frozenset(self.limits.given()) & _SAMPLED - self.held
            of = self._watched_of = self.limits, self.held, found
        return of[2]

    def _cpu(self, sample: Sample | None) -> float:
        return self._before + (0.0 if sample is None else sample.cpu)

    def _judge(self, sample: Sample) -> Breach | None:
        limits = self.limits
        if limits.memory is not None:
            if sample.oom_kills:
                return Breach("memory", limits.memory, limits.memory)
            if "memory" not in self.held and sample.memory > limits.memory:
                return Breach("memory", limits.memory, sample.memory)
        if self._work_size is not None and sample.work > self._work_size:
            return Breach("work_size", self._work_size, sample.work)
        if limits.processes is not None and "processes" not in self.held and sample.tasks > limits.processes:
            return Breach("processes", limits.processes, sample.tasks)
        if limits.session_cpu is not None and self._cpu(sample) >= limits.session_cpu:
            return Breach("session_cpu", limits.session_cpu, self._cpu(sample))
        if limits.cpu is not None and self._is_running and self._cpu_from is not None:
            used = sample.cpu - self._cpu_from
            if used >= limits.cpu:
                return Breach("cpu", limits.cpu, used)
        return None

    def _plan(self, now: float, cost: float = 0.0) -> None:
        """Find out when something may be broken at the soonest."""
        watched, limits, last, since = self._watched(), self.limits, self._last, self._since
        due = None
        if "memory" in watched:
            assert limits.memory is not None
            room = limits.memory - (0 if last is None else last.memory)
            due = _sooner(due, since + min(_MOST, max(0.0, room) / (_TOUCH * _CORES)))
        elif limits.memory is not None:  # the kernel may have ended a process, and the others go on
            due = _sooner(due, since + _LOOK)
        if "processes" in watched:
            assert limits.processes is not None
            room = limits.processes - (1 if last is None else last.tasks)
            due = _sooner(due, since + min(_LOOK, max(0, room) / (_FORK * _CORES)))
        if "session_cpu" in watched:
            assert limits.session_cpu is not None
            due = _sooner(due, since + (limits.session_cpu - self._cpu(last)) / _CORES)
        if "cpu" in watched and self._is_running and self._cpu_from is None:
            due = _sooner(due, self._called + _FIRST)
        elif "cpu" in watched and self._is_running and self._cpu_from is not None:
            assert limits.cpu is not None
            due = _sooner(due, since + (limits.cpu - (0.0 if last is None else last.cpu - self._cpu_from)) / _CORES)
        # a close look at memory takes long, and is at a time when it matters
        share = _SHARE if last is None or limits.memory is None or last.memory < limits.memory / 2 else 8 * _SHARE
        self._next = None if due is None else max(due, since + max(_LEAST, cost / share))


    # changes of a live session

    def changes_of_kernel(self, limits: Limits) -> dict[str, int]:
        """What the kernel has to be told. ValueError: one of them cannot be changed now."""
        changes: dict[str, int] = {}
        for name in IN_WORKER:
            old, new = getattr(self.limits, name), getattr(limits, name)
            if old == new:
                continue
            told = self.told.get(name)
            why = ""
            if name == "open_files":
                why = "it is set when a session starts, and stays"
            elif name == "processes" and old is None:
                why = "a session has to be started with it: what it has started until now is not in a group of its own"
            elif name in ("memory", "file_size") and told is not None and (new is None or new > told):
                why = f"it is a resource limit of the processes, now {told}, and can only be lowered"
            if why:
                raise ValueError(f"Limits.{name} cannot become {new} in a live session: {why}")
            if name == "file_size" or told is not None or name in self.held:
                changes[name] = _NONE if new is None else -int(-new // 1)
        return changes


def _sooner(one: float | None, other: float) -> float:
    return other if one is None or other < one else one


def wanted_of_worker(limits: Limits) -> dict[str, int]:
    """What the worker is to set to itself."""
    found = {name: value for name, value in limits.given().items() if name in IN_WORKER}
    return {name: -int(-value // 1) for name, value in found.items()}


def in_force(rules: Rules) -> dict[str, InForce]:
    """What holds each limit, for people."""
    found = {}
    for name, value in rules.limits.given().items():
        mechanism, exactness = _HELD[name]
        if name in rules.held:
            mechanism, exactness = _GROUP[name]
            if name == "memory" and name in rules.told:
                mechanism += "; RLIMIT_DATA in each process"
        elif name in rules.told and name in _NETS:
            mechanism, exactness = _NETS[name]
        if name in ("open_files", "file_size"):
            value = rules.told.get(name, value)
        found[name] = InForce(value, mechanism, exactness)
    return found


_CLOCK = "the controller's clock"
_WATCH = "watch of the process tree by the controller"
_HELD: Final = {
    "wall": (_CLOCK, "the interrupt is sent within milliseconds; code that does not react is ended by the ladder"),
    "cpu": (_WATCH, "looked at when it can be reached at the soonest, then each 5 ms; the kernel counts in 10 ms"),
    "session_wall": (_CLOCK, "within milliseconds"),
    "session_cpu": (_WATCH, "looked at when it can be reached at the soonest, then each 5 ms"),
    "memory": (_WATCH, "looked at before it can be reached, then each 5 ms: what is touched in between is over it"),
    "processes": (_WATCH, "looked at each 5 ms or when it can be reached: what is started in between is over it"),
    "open_files": ("RLIMIT_NOFILE in each process", "exact"),
    "file_size": ("RLIMIT_FSIZE in each process", "exact"),
    "output": ("count by the controller", "exact in what is kept; the code may have printed 1 MiB more"),
    "idle": (_CLOCK, "within milliseconds"),
}
_GROUP: Final = {
    "memory": ("control group", "exact: the kernel ends a process that would go over it, and the session with it"),
    "processes": ("control group", "exact: the process or thread that would be one too many is refused to the code"),
}
_NETS: Final = {
    "memory": (
        "RLIMIT_DATA in each process; " + _WATCH,
        "exact for each process, which gets MemoryError; for all together: " + _HELD["memory"][1],
    ),
    "session_cpu": (
        _WATCH + "; RLIMIT_CPU in each process",
        _HELD["session_cpu"][1] + "; by the kernel a second later",
    ),
    "processes": (
        _WATCH + "; RLIMIT_NPROC of the user, far above",
        _HELD["processes"][1] + ", 512 at most",
    ),
}
