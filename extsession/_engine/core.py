"""What both colours of a session share: its options, how requests are made, what results show.

Nothing here waits. A colour holds its own lock around every call into a Core, its machine and its link.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._launch import payload
from .._launch.base import Launcher, Process, Spec
from .._launch.interpreter import Interpreter, find
from .._launch.local import LocalLauncher, require_platform
from .._launch.templates import WarmLauncher
from .._launch.usage import TreeUsage
from .._launch.walled import WalledLauncher
from .._launch.workdir import WorkDir
from .._protocol import messages, pickles, values
from .._protocol.faults import CannotTravel, ProtocolFault
from .._protocol.frames import MAX_CALL
from ..errors import ExtSessionError, LaunchError, NotReady, RemoteProtocolError, SessionClosed, ValueRefused
from ..options import (
    NO_LIMITS,
    OUTPUT_LIMIT,
    Display,
    Isolation,
    Ladder,
    Limits,
    limits_of_isolated,
    optional_seconds,
)
from . import travel
from .branch import Branch, verdict
from .branch import refused as refused_branch
from .call import Call
from .limits import InForce, Rules, in_force, wanted_of_worker
from .link import Link, new_token
from .machine import Phase, SessionMachine
from .output import Output
from .recovery import Recovery
from .shelf import Shelf
from .stdin import CallStdin, InputCallback
from .travel import refused
from .usage import SessionUsage
from .walls import Walls, walls_of

_WANTS = {Display.NONE: 0, Display.REPR: messages.WANT_REPR, Display.MIME: messages.WANT_MIME}

#: seconds that an interpreter which was not seen before may take to say what it is
_PROBE_TIME = 10.0

#: seconds in which a clone of a session must have said Ready: there is nothing that it would have to load
_CLONE_TIME = 10.0

Given = str | bytes | InputCallback | None


@dataclass(frozen=True)
class Statistics:
    """What a session has done. bytes_out: that it has printed; checkpoint_memory: bytes, see Checkpoint.memory;

    recoveries: how often it was brought back; unprotected: why it has no checkpoint to be brought back from, None if
    it has one or is not to have one (`recover`).
    """

    calls: int
    bytes_out: int
    checkpoints: int
    checkpoint_memory: int
    recoveries: int
    unprotected: str | None


@dataclass(frozen=True)
class Options:
    """What a session was asked to be; see ExtSession for the meaning of each."""

    python: str | os.PathLike[str] | None = None
    cwd: str | os.PathLike[str] | None = None
    env: Mapping[str, str] | None = None
    stdin: InputCallback | None = None
    output_limit: int | None = OUTPUT_LIMIT
    display: Display = Display.REPR
    end_on_exit: bool = True
    ladder: Ladder = field(default_factory=Ladder)
    start_timeout: float | None = 30.0
    preload: tuple[str, ...] = ()
    warm: bool = True
    recover: bool = False
    max_checkpoints: int = 16
    checkpoint_memory: int | None = None
    limits: Limits = NO_LIMITS
    isolation: Isolation | None = None

    def __post_init__(self) -> None:
        if self.stdin is not None and not callable(self.stdin):
            raise TypeError(f"stdin takes a function of (prompt, password), not {type(self.stdin).__name__}")
        check_limit(self.output_limit)
        optional_seconds(self.start_timeout, "start_timeout")
        if not isinstance(self.display, Display):
            raise TypeError(f"display takes a Display, not {self.display!r}")
        check_preload(self.preload)
        if not isinstance(self.limits, Limits):
            raise TypeError(f"limits takes a Limits, not {self.limits!r}")
        if self.isolation is not None:
            if not isinstance(self.isolation, Isolation):
                raise TypeError(f"isolation takes an Isolation, not {self.isolation!r}")
            for name, say in (("cwd", "the work directory"), ("env", "Isolation(env=...)")):
                if getattr(self, name) is not None:
                    raise ValueError(f"an isolated session has no {name} of this process: it has {say}")
            object.__setattr__(self, "limits", limits_of_isolated(self.limits))
        most = self.max_checkpoints
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"max_checkpoints takes a number from 1 up, not {most!r}")
        if self.env is not None:
            for name, value in self.env.items():
                if not isinstance(name, str) or not isinstance(value, str):
                    raise TypeError(f"env takes str to str, not {name!r}: {value!r}")


def check_preload(names: Any) -> tuple[str, ...]:
    """Names of modules as a tuple; TypeError or ValueError that says which is none."""
    if isinstance(names, str):
        raise TypeError(f"preload takes a list of names of modules, not the text {names!r}")
    found = tuple(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"preload takes names of modules as str, not {name!r}")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"preload takes names of modules, and {name!r} cannot be one")
    return found


def check_count(count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"count takes how many branches to make, not {count!r}")
    return count


def _probe_time(start_timeout: float | None) -> float:
    return _PROBE_TIME if start_timeout is None else min(_PROBE_TIME, start_timeout)


def check_limit(limit: Any) -> int | None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ValueError(f"output_limit takes a number of bytes from 0 up or None, not {limit!r}")
    return limit


class Core:
    """One process of a session: its options, and the requests it can be sent. A restart makes another."""

    def __init__(
        self, options: Options, launcher: Launcher | None = None, interpreter: Interpreter | None = None
    ) -> None:
        require_platform()
        self.options = options
        timeout = _probe_time(options.start_timeout)
        if interpreter is None:
            interpreter = find(options.python, sources=payload.sources(), timeout=timeout)
        self.interpreter: Interpreter = interpreter
        if launcher is None:
            if options.isolation is not None:
                launcher = WalledLauncher(options.isolation)
            else:
                launcher = WarmLauncher() if options.warm else LocalLauncher()
        self.launcher: Launcher = launcher
        self.owner = os.getpid()
        self.is_unwanted: Callable[[], bool] = bool  # asked while a launch takes long
        self._want = _WANTS[options.display]
        self._always = 0 if options.end_on_exit else messages.KEEP_ON_EXIT
        self._is_trusted = options.isolation is None
        if not self._is_trusted:
            self._always |= messages.SAFE_ONLY
        self.began: float
        self._kept: int | None  # bytes of the output of each call
        self.machine: SessionMachine
        self.link: Link

    def launch(self) -> None:
        """Start a process. May block, see `may_block`; LaunchError."""
        token = new_token()
        timeout = optional_seconds(self.options.start_timeout, "start_timeout")
        self.begin(self.launcher.launch(self.spec(token)), token, timeout)

    def begin(self, process: Process, token: bytes, timeout: float | None) -> None:
        """Go on with a process that has been started. timeout: seconds in which it must have said Ready."""
        options = self.options
        self.began = time.monotonic()
        self.machine = SessionMachine(
            token=token,
            python=self.interpreter.path,
            command=process.command,
            first=process.first,
            now=self.began,
            start_timeout=timeout,
            ladder=options.ladder,
            recovery=Recovery() if options.recover else None,
            rules=None if options.limits == NO_LIMITS else self._rules(options.limits),
        )
        self._keep_no_more()
        self.machine.input_callback = options.stdin
        self.machine.exit_output = Output(0, options.output_limit)
        self.link = Link(process, self.machine, strict=not self._is_trusted)
        self.link.flush()

    def _rules(self, limits: Limits) -> Rules:
        isolation = self.options.isolation
        is_root = isolation is None and os.getuid() == 0
        return Rules(limits, is_root, None if isolation is None else isolation.work_size)

    def may_block(self) -> bool:
        """Whether launch() may take longer than to start a process."""
        return self.launcher.may_block(self.spec(b""))

    def spec(self, token: bytes) -> Spec:
        options = self.options
        cwd = None if options.cwd is None else os.fspath(options.cwd)
        return Spec(
            self.interpreter,
            token,
            cwd,
            options.env,
            options.preload,
            options.start_timeout,
            self.is_unwanted,
            wanted_of_worker(options.limits),
        )

    @property
    def encoding(self) -> str:
        ready = self.machine.ready
        return "utf-8" if ready is None else str(ready.get("encoding", "utf-8"))

    # requests

    def execute(
        self,
        source: str,
        timeout: float | None,
        stdin: Given,
        output_limit: int | None,
        display: Display | None,
        sink: Callable[[Any], Any] | None = None,
    ) -> Call:
        if not isinstance(source, str):
            raise TypeError(f"execute takes source text as str, not {type(source).__name__}")
        want = self._want if display is None else _WANTS[display]
        if timeout is None and stdin is None and sink is None and output_limit == -1:
            call = self._submit_plain(messages.EXEC, want, source)
            if call is not None:
                return call
        return self._submit(messages.EXEC, source, source, want, timeout, stdin, output_limit, sink=sink)

    def evaluate(self, expression: str, timeout: float | None) -> Call:
        if not isinstance(expression, str):
            raise TypeError(f"eval takes an expression as str, not {type(expression).__name__}")
        if timeout is None:
            call = self._submit_plain(messages.EVAL, 0, expression)
            if call is not None:
                return call
        return self._submit(messages.EVAL, expression, expression, 0, timeout)

    def call(self, function: Any, args: Any, kwargs: Any) -> Call:
        if not callable(function):
            raise TypeError(f"call takes a function, not {type(function).__name__}")
        data, buffers = travel.pack_call(function, args, kwargs)
        return self._submit(messages.CALL, "", travel.label_of(function), 0, None, data=data, buffers=buffers)

    def request(self, request: travel.Request, timeout: float | None) -> Call:
        """A function call that was packed before."""
        data, buffers = request.data, request.buffers
        return self._submit(messages.CALL, "", request.label, 0, timeout, data=data, buffers=buffers)

    def script(self, name: str, data: bytes, timeout: float | None, host: Any = None) -> Call:
        """Check a locked-down script, or run it; see `script.pack_run`. host: calls functions for it."""
        return self._submit(messages.SCRIPT, "", name, messages.SAFE_ONLY, timeout, data=data, host=host)

    def get(self, name: str) -> Call:
        return self._submit(messages.GET, _name(name), name, 0, None)

    def set(self, name: str, value: Any) -> Call:
        data, buffers = travel.pack(value)
        return self._submit(messages.SET, _name(name), name, 0, None, data=data, buffers=buffers)

    def delete(self, name: str) -> Call:
        return self._submit(messages.DELETE, _name(name), name, 0, None)

    def contains(self, name: object) -> Call:
        return self._submit(messages.CONTAINS, _name(name), str(name), 0, None)

    def names(self) -> Call:
        return self._submit(messages.NAMES_OF, "", "names", 0, None)

    def complete(self, source: str, cursor: int | None, timeout: float) -> Call:
        data = values.encode({"cursor": len(source) if cursor is None else cursor})
        return self._submit(messages.COMPLETE, source, "complete", messages.SAFE_ONLY, timeout, data=data)

    def inspect(self, source: str, cursor: int | None, detail: int, timeout: float) -> Call:
        data = values.encode({"cursor": len(source) if cursor is None else cursor, "detail": detail})
        return self._submit(messages.INSPECT, source, "inspect", messages.SAFE_ONLY, timeout, data=data)

    def branch(self, hold: bool, force: bool) -> Call:
        """Ask for a clone, as a session or (hold) as a checkpoint; `branched` says what came of it."""
        branch = Branch(hold, force, b"" if hold else new_token())
        self.machine.require_alive()
        call = self.machine.submit(
            messages.Run(messages.BRANCH, messages.SAFE_ONLY, "", branch.data), "a branch", None, 0
        )
        call.branch = branch
        self.machine.advance(time.monotonic())
        self.link.flush()
        return call

    def branched(self, call: Call, force: bool) -> Process:
        """The clone's process. ForkRefused; LaunchError where the system refuses; what else has gone wrong."""
        branch = call.branch
        assert branch is not None
        try:
            if call.done is not None and call.done.outcome == messages.FAILED:
                python = self.interpreter.path
                raise LaunchError(f"the session could not be branched: {call.error}", python=python) from call.error
            census, made = verdict(self.value_of(call))
            if not made:
                raise refused_branch(census, force)
            return branch.take()
        except ProtocolFault as fault:
            raise RemoteProtocolError(f"the session answered nonsense: {fault}") from None
        finally:
            branch.drop()

    def token_of(self, call: Call) -> bytes:
        """The token of the session that a branch is."""
        assert call.branch is not None
        return call.branch.token

    def give_up(self, call: Call) -> None:
        """Nobody waits for a branch any more: whatever comes of it is let go of."""
        branch = call.branch
        assert branch is not None
        if self.machine.cancel(call) or not call.on_done(lambda _: branch.drop()):
            branch.drop()

    def core_of(self, process: Process, token: bytes, first_call: int, incarnation: int = 1) -> Core:
        """The core of a clone of this session.

        first_call: the number of the last call that is in its past; incarnation: how many processes it has been, with
        this one.
        """
        core = Core(self.options, self.launcher, self.interpreter)
        core.begin(process, token, _CLONE_TIME)
        core.machine.continue_from(first_call, incarnation)
        return core

    def is_complete(self, source: str, timeout: float) -> Call:
        data = values.encode({})
        return self._submit(messages.IS_COMPLETE, source, "is_complete", messages.SAFE_ONLY, timeout, data=data)

    def _submit_plain(self, action: int, flags: int, source: str) -> Call | None:
        """As `_submit` for what only has a source, if it is its turn at once; as nearly all are, it is made quick."""
        if len(source) >= messages.SMALL:
            return None
        call = self.machine.start_plain(source, self._kept, time.monotonic())
        if call is not None:
            if self.machine.recovery is not None:
                call.changes = True
            self.link.send(messages.pack_plain_run(call.number, action, flags | self._always, source))
        return call

    def _submit(
        self,
        action: int,
        source: str,
        label: str,
        flags: int,
        timeout: float | None,
        stdin: Given = None,
        output_limit: int | None = -1,
        data: bytes = b"",
        buffers: Any = (),
        sink: Callable[[Any], Any] | None = None,
        host: Any = None,
    ) -> Call:
        limit = self.options.output_limit if output_limit == -1 else check_limit(output_limit)
        hard = self.options.limits.output
        if hard is not None:
            limit = hard if limit is None else min(limit, hard)
        if timeout is not None:
            timeout = optional_seconds(timeout, "timeout")
        how = None
        if stdin is not None:
            how = CallStdin(stdin)
            if how.own is not None:
                flags |= messages.OWN_STDIN
        flags |= self._always
        if buffers or len(source) + len(data) > messages.SMALL:
            size = 4 * len(source) + len(data) + sum([memoryview(each).nbytes for each in buffers])
            if size > messages.BULK - messages.SMALL:
                raise ValueRefused(f"{size} bytes are more than one message to a session can hold")
        run = messages.Run(action, flags, source, data, buffers)
        call = self.machine.submit(run, label, timeout, limit)
        call.changes = action in messages.CHANGING
        if how is not None:
            call.stdin = how
        if sink is not None:
            call.output.sink = sink
        if host is not None:
            call.host = host
        assert call.number <= MAX_CALL
        self.machine.advance(time.monotonic())
        if self.machine.outgoing:
            self.link.flush()
        return call

    # what is known without waiting

    def value_of(self, call: Call) -> Any:
        """The value that came back; raises what the code raised, or what ended the call."""
        if call.completion is None:
            raise NotReady(f"call {call.number} is not complete yet")
        done = call.done
        if done is not None and done.outcome == messages.REFUSED:
            extra = done.extra or {}
            raise self._refused(call, str(extra.get("type_name")), str(extra.get("why")))
        if call.error is not None:
            raise call.error
        if call.value is None:
            return None
        kind, head, buffers = call.value
        if not kind:
            return None
        try:
            return pickles.unpack(kind, head, buffers, self._is_trusted)
        except CannotTravel as fault:
            raise refused(fault) from None
        except ProtocolFault as fault:
            raise RemoteProtocolError(f"the session sent a value that is none: {fault}") from None

    def _refused(self, call: Call, type_name: str, why: str) -> ValueRefused:
        if type_name.partition(".")[0] != "cloudpickle":
            return refused(CannotTravel(type_name, why))
        path = self.interpreter.path
        text = f"{call.label} travels by cloudpickle, which has to be installed for {path}, too: {why}"
        return ValueRefused(text, type_name=type_name)

    @property
    def pid(self) -> int | None:
        """The number that the session's process has here; None before it is there."""
        ready = self.machine.ready
        return None if ready is None else self.link.process.pid_of(ready["pid"])

    @property
    def walls(self) -> Walls | None:
        """What is in force around it; None: it is not isolated, or not there yet."""
        isolation = self.options.isolation
        return None if isolation is None else walls_of(self.machine.ready, isolation.network)

    def work_dir(self) -> WorkDir:
        """Of an isolated session. TypeError: it is none; SessionDied, SessionClosed."""
        self.machine.require_alive()
        ready = self.machine.ready
        found = None if ready is None else self.link.process.work_dir(ready["pid"])
        if found is None:
            raise TypeError("only an isolated session has a work directory of its own")
        return found

    @property
    def is_starting(self) -> bool:
        return self.machine.phase is Phase.STARTING

    def statistics(self, shelf: Shelf) -> Statistics:
        """What the session has cost; looks at the memory of its checkpoints, which takes a moment."""
        machine = self.machine
        recovery = machine.recovery
        return Statistics(
            calls=machine.count,
            bytes_out=machine.bytes_in,
            checkpoints=len(shelf.all()),
            checkpoint_memory=shelf.memory(),
            recoveries=0 if recovery is None else recovery.count,
            unprotected=None if recovery is None else recovery.unprotected,
        )

    def usage(self, pss: bool) -> SessionUsage:
        """What the session uses now; looks at its processes from outside, and never waits for it."""
        machine, link = self.machine, self.link
        found = TreeUsage()
        if machine.ready is not None and machine.phase is not Phase.DEAD:
            found = link.process.usage(machine.ready["pid"], pss)
        return SessionUsage(
            *found,
            bytes_in=link.sent,
            bytes_out=link.received + machine.bytes_in,
            wall=time.monotonic() - self.began,
        )

    # limits

    def limits_in_force(self) -> dict[str, InForce]:
        """What holds each of the limits."""
        rules = self.machine.rules
        return {} if rules is None else in_force(rules)

    def set_limits(self, limits: Limits) -> None:
        """Change them. ValueError, which names the first that cannot be changed; nothing is changed then."""
        if not isinstance(limits, Limits):
            raise TypeError(f"set_limits takes a Limits, not {limits!r}")
        machine = self.machine
        machine.require_alive()
        ready = machine.ready
        if ready is None:
            raise SessionClosed("the session is not there yet")
        machine.begin_limits()
        rules = machine.rules
        if rules is None:
            rules = self._rules(NO_LIMITS)
            if machine.current is not None:
                rules.on_call(time.monotonic())
        changes = rules.changes_of_kernel(limits)
        for name, value in changes.items():
            self.link.process.change_limit(ready["pid"], name, value)
        machine.rules = rules
        rules.change(limits, time.monotonic())
        self.options = replace(self.options, limits=limits)
        self._keep_no_more()

    def _keep_no_more(self) -> None:
        kept, hard = self.options.output_limit, self.options.limits.output
        self._kept = kept if hard is None else hard if kept is None else min(kept, hard)

    def retire(self, error: ExtSessionError) -> None:
        """It is about to be ended: whoever still wants something of it gets `error` from now on."""
        if self.machine.error is None:
            self.machine.error = error

    def needs_attention(self) -> bool:
        """Whether anything may happen in the session that somebody should take in."""
        machine = self.machine
        return not self.link.closed and (
            machine.is_busy
            or machine.outlived
            or self.link.has_old_pipes
            or machine.is_ending
            or machine.next_look() is not None
        )


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"names of a session are str, not {type(name).__name__}")
    return name
