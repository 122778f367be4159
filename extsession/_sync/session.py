"""ExtSession: control a Python session that runs in another process."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, overload

from .._engine import owned
from .._engine.branch import MOST_TIME, stillborn, too_slow
from .._engine.call import Call, State
from .._engine.completion import Completion
from .._engine.core import Core, Given, Options, Statistics, check_count, check_preload
from .._engine.files import SessionFiles
from .._engine.limits import InForce
from .._engine.link import new_token
from .._engine.machine import Phase
from .._engine.output import OutputChunk
from .._engine.shelf import Checkpoint, Shelf
from .._engine.stdin import InputCallback
from .._engine.usage import Pace, SessionUsage
from .._engine.walls import Walls
from .._launch.base import Launcher, Process
from .._launch.interpreter import Interpreter
from ..errors import ExtSessionError, LaunchError, SessionClosed
from ..options import NO_LIMITS, OUTPUT_LIMIT, Display, Isolation, Ladder, Limits
from . import shield
from .driver import Driver
from .hub import Hub
from .results import ExtResults

#: seconds that a killed session is waited for
_END = 10.0
#: seconds in which a stream of samples sees that its session has ended
_LOOK = 0.1


class ExtSession:
    """A long-lived CPython process with a namespace of its own.

    `execute()` queues source and returns at once; calls run in order, and the output of each is kept
    apart from that of every other. Safe to use from several threads. A context manager: at its end the session and
    all that it started are killed.

    python: None for this interpreter, a path, a version such as "3.12", or a virtual environment's folder.
    cwd: its current directory; None: the caller's, now. env: its whole environment; None: the caller's, now.
    stdin: a function of (prompt, password) that answers `input()` with a line, or None for the end of the file.
    output_limit: bytes of output kept for each call, None for no end; what is over it is counted as `dropped`.
    display: what becomes of the value of a call's last expression. end_on_exit: False keeps the session alive after
    SystemExit. ladder: how long a call that must end is given. start_timeout: seconds until the session must be there.
    preload: names of modules that are imported before anything else. warm: the session is cloned from a template, a
    process of its interpreter that has them loaded and is kept for the next session like it; False, and where that is
    not possible: a new interpreter.
    recover: keep a checkpoint of the state before each call: a call that ends the process costs only itself.
    max_checkpoints, checkpoint_memory: how many checkpoints are kept, and how many bytes they may hold together (None:
    no end) before the oldest is dropped.
    limits: what the session, and all that it starts, may use. isolation: walls around it, for code that is not trusted;
    None: it can do what its user can. Limits that are not said are finite then, and values come back as plain data.

    Raises InterpreterError or LaunchError, which name the interpreter, if it does not become a session.
    """

    _is_unwanted: Callable[[], bool] = bool

    def __init__(
        self,
        python: str | os.PathLike[str] | None = None,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: InputCallback | None = None,
        output_limit: int | None = OUTPUT_LIMIT,
        display: Display = Display.REPR,
        end_on_exit: bool = True,
        ladder: Ladder | None = None,
        start_timeout: float | None = 30.0,
        preload: Iterable[str] = (),
        warm: bool = True,
        recover: bool = False,
        max_checkpoints: int = 16,
        checkpoint_memory: int | None = None,
        limits: Limits | None = None,
        isolation: Isolation | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        options = Options(
            python,
            cwd,
            env,
            stdin,
            output_limit,
            display,
            end_on_exit,
            ladder or Ladder(),
            start_timeout,
            check_preload(preload),
            warm,
            recover,
            max_checkpoints,
            checkpoint_memory,
            NO_LIMITS if limits is None else limits,
            isolation,
        )
        self._core = Core(options, launcher)
        self._core.is_unwanted = self._is_unwanted
        self._core.launch()
        self._begin()
        self._wait_for_start()

    @classmethod
    def _starting(cls, is_unwanted: Callable[[], bool] = bool, **options: Any) -> ExtSession:
        """A session that is not waited for; what is wrong with it is found by its calls.

        is_unwanted: asked now and then while its template is started, which is given up then.
        """
        session = cls.__new__(cls)
        session._is_unwanted = is_unwanted
        session._wait_for_start = lambda: None  # type: ignore[method-assign]
        session.__init__(**options)  # type: ignore[misc]
        return session

    @classmethod
    def _of(cls, core: Core) -> ExtSession:
        """A session of a process that is there already, or soon."""
        session = cls.__new__(cls)
        session._core = core
        session._begin()
        session._wait_for_start()
        return session

    def _finish_start(self) -> None:
        """Wait for a session made by `_starting`, as the constructor does."""
        vars(self).pop("_wait_for_start", None)
        self._wait_for_start()

    def _begin(self) -> None:
        core = self._core
        self._shelf = Shelf(core.options.max_checkpoints, core.options.checkpoint_memory)
        self._driver = Driver(core)
        owned.add(core)
        self._finalizer = weakref.finalize(self, _abandon, self._driver, self._shelf)

    def _wait_for_start(self) -> None:
        machine = self._core.machine
        try:
            self._driver.wait(lambda: not self._core.is_starting)
        except BaseException:
            self.kill()
            raise
        if machine.phase is Phase.DEAD:
            self._finalizer.detach()
            assert machine.error is not None
            raise machine.error

    # running code

    def execute(
        self,
        source: str,
        *,
        timeout: float | None = None,
        stdin: Given = None,
        output_limit: int | None = -1,
        display: Display | None = None,
        on_output: Callable[[OutputChunk], Any] | None = None,
    ) -> ExtResults:
        """Queue `source` to run in the session and return at once.

        timeout: wall seconds from the start of the code; None sets no end. stdin: text for the code's input(), or a
        function as for the session, or PIPE to wait for `writeline()`. output_limit, display: instead of the session's.
        on_output: called with each OutputChunk, which is not kept then (stream a flood to a file with it); it
        runs in the thread that takes in the output and must not use the session.
        Raises SessionDied if the session is dead. What the code raises is on the results.
        """
        driver = self._driver
        before = shield.up()
        try:
            with driver.lock:
                call = self._core.execute(source, timeout, stdin, output_limit, display, on_output)
        finally:
            shield.down(before)
        if not driver.noticed:
            Hub.get().notice(driver)
        return ExtResults(driver, call)

    def eval(self, expression: str, *, timeout: float | None = None) -> Any:
        """The value of an expression in the session. Raises what it raises; CallTimeout; ValueRefused."""
        return self._value(lambda core: core.evaluate(expression, timeout))

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, called in the session; its value, or what it raises.

        Functions that can be imported there travel by name, others by cloudpickle, which has to be installed there.
        """
        return self._value(lambda core: core.call(function, args, kwargs))

    def __getitem__(self, name: str) -> Any:
        """The value of a name; KeyError if the session has none."""
        return self._value(lambda core: core.get(name))

    def __setitem__(self, name: str, value: Any) -> None:
        self._value(lambda core: core.set(name, value))

    def __delitem__(self, name: str) -> None:
        self._value(lambda core: core.delete(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._value(lambda core: core.contains(name)))

    def __iter__(self) -> Iterator[str]:
        """The names of the session's namespace, without those that every module has."""
        return iter(self._value(lambda core: core.names()))

    # for front ends

    def complete(self, source: str, cursor: int | None = None, *, timeout: float = 2.0) -> dict[str, Any]:
        """Completions at `cursor` (characters from the start; None: the end): matches, start, end, types."""
        found: dict[str, Any] = self._value(lambda core: core.complete(source, cursor, timeout))
        return found

    def inspect(
        self, source: str, cursor: int | None = None, *, detail: int = 0, timeout: float = 2.0
    ) -> dict[str, Any]:
        """What is known of the object at `cursor`: found, name, data (a MIME bundle). detail=1: its source too."""
        found: dict[str, Any] = self._value(lambda core: core.inspect(source, cursor, detail, timeout))
        return found

    def is_complete(self, source: str, *, timeout: float = 2.0) -> dict[str, str]:
        """Whether `source` could be run as it is: status "complete", "incomplete" or "invalid", and indent."""
        found: dict[str, str] = self._value(lambda core: core.is_complete(source, timeout))
        return found

    # talking to the running code

    def writeline(self, line: str) -> None:
        """Give the code a line of stdin; a line end is added if there is none."""
        data = (line if line.endswith("\n") else line + "\n").encode(self._core.encoding)
        with self._driver.changing():
            self._core.machine.require_alive()
            self._core.machine.lines.closed = False
            self._core.machine.write_stdin(data, time.monotonic())
            self._core.link.flush()

    def close_stdin(self) -> None:
        """No more lines: code that asks for input gets the end of the file, until the next `writeline`."""
        with self._driver.changing():
            self._core.machine.close_stdin(time.monotonic())
            self._core.link.flush()

    def readline(self, timeout: float | None = None) -> str:
        """The next line of the session's stdout, whichever call wrote it; waits for it.

        Without its line end missing only where the session has nothing more to run; "" if there is nothing.
        TimeoutError after `timeout` seconds.
        """
        machine = self._core.machine
        line: bytes | None = None

        def look() -> bool:
            nonlocal line
            if line is None:
                with self._driver.changing():
                    line = machine.unread.take_line(machine.current is None and not machine.is_busy)
            return line is not None

        if not self._driver.wait(look, timeout, attend=False):
            raise TimeoutError(f"no line of output after {timeout} s")
        assert line is not None
        return line.decode(self._core.encoding, "replace")

    def readcodes(self) -> list[Completion]:
        """The done markers that have arrived since the last call of this method, in order."""
        self._driver.step()
        with self._driver.changing():
            codes = list(self._core.machine.codes)
            self._core.machine.codes.clear()
        return codes

    def events(self) -> Iterator[OutputChunk]:
        """All output from now on, of all calls, late output too, in order; ends with the session."""
        listener: deque[OutputChunk] = deque()
        self._core.machine.listeners.append(listener)
        return _events(self._driver, listener)

    # its end

    def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the running code; False if no code is running."""
        return self._driver.interrupt()

    def terminate(self) -> None:
        """Send SIGTERM to the session's process."""
        self._order(lambda: self._core.machine.terminate())

    def kill(self) -> None:
        """Kill the session and all it started; returns when they are gone."""
        if self._core.machine.phase is Phase.DEAD:
            return
        self._order(lambda: self._core.machine.kill())
        self._wait_for_end(_END)

    def exit(self, code: int = 0, *, timeout: float | None = None) -> int | None:
        """End the session as an interpreter ends (atexit, threads), after the calls that are queued.

        Returns the status that the process really ended with; None if a signal ended it. After `timeout`
        seconds it is killed. What it still printed is in `exit_output`.
        """
        machine = self._core.machine
        if machine.phase is not Phase.DEAD:
            with self._driver.changing():
                machine.exit(code)
                machine.advance(time.monotonic())
                self._core.link.flush()
            if not self._wait_for_end(timeout):
                self.kill()
        return self.exit_code

    def close(self) -> None:
        """End the session now, with all that it started. Does nothing the second time."""
        machine = self._core.machine
        self._shelf.close()
        if machine.phase is not Phase.DEAD:
            machine.closed = True
        self.kill()

    def restart(self) -> None:
        """End this session and start a fresh one with the same options in its place."""
        self.close()
        old = self._core
        self._core = Core(old.options, old.launcher, old.interpreter)
        self._core.launch()
        self._core.machine.incarnation = old.machine.incarnation + 1
        self._begin()
        self._wait_for_start()

    # branches

    @overload
    def fork(self, count: None = None, *, force: bool = False) -> ExtSession: ...

    @overload
    def fork(self, count: int, *, force: bool = False) -> list[ExtSession]: ...

    def fork(self, count: int | None = None, *, force: bool = False) -> ExtSession | list[ExtSession]:
        """A second, independent session with the same state, after the calls that are queued.

        count: make so many, and return a list. force: also where the census finds a risk (docs/branching.md).
        Raises ForkRefused, which says why, where it would not be safe; nothing is harmed then. LaunchError, if a branch
        does not come to answer in time.
        """
        made: list[ExtSession] = []
        try:
            for _ in range(1 if count is None else check_count(count)):
                made.append(self._branch(force))
        except BaseException:
            for each in made:
                each.close()
            raise
        return made[0] if count is None else made

    def _branch(self, force: bool) -> ExtSession:
        process, call = self._clone(False, force)
        core = self._core
        try:
            return ExtSession._of(core.core_of(process, core.token_of(call), call.number))
        except LaunchError as error:
            raise stillborn(error) from error

    def _clone(self, hold: bool, force: bool) -> tuple[Process, Call]:
        core = self._core
        call = self._submit(lambda core: core.branch(hold, force))
        driver = self._driver
        try:
            driver.wait(lambda: call.state is not State.QUEUED)
            if not driver.wait(lambda: call.completion is not None, MOST_TIME):
                raise too_slow()
        except BaseException:
            with driver.lock:
                core.give_up(call)
            raise
        return core.branched(call, force), call

    def checkpoint(self, name: str | None = None, *, force: bool = False) -> Checkpoint:
        """Keep the state as it is after the calls that are queued, for `rollback`. Files and the like are not kept.

        name: to go back by it; a new one takes the place of an old one of the same name. Of more than
        `max_checkpoints`, the oldest is dropped. Raises ForkRefused as `fork` does.
        """
        process, call = self._clone(True, force)
        return self._shelf.add(name, call.number - 1, process)

    def rollback(self, checkpoint: Checkpoint | str) -> None:
        """Make the state what it was at a checkpoint, as often as wanted, also of a session that has died since.

        Calls that are running or queued end with SessionClosed, and what the session started is ended. What it did
        outside (files, network) is not undone. Raises CheckpointGone, LaunchError; the session is as it was then.
        """
        found = self._shelf.find(checkpoint)
        old = self._core
        if old.machine.closed:
            raise SessionClosed("the session was closed, and its checkpoints were dropped")
        token = new_token()
        number = max(found.call, old.machine.count)
        fresh = ExtSession._of(old.core_of(found.clone(token), token, number, old.machine.incarnation + 1))
        driver = self._driver
        old.machine.give_way(f"the session was rolled back to {found.name!r}")
        # from here on it is the new one, also if the wait for the end of the old one is interrupted
        self._finalizer.detach()
        fresh._finalizer.detach()
        self._core = fresh._core
        self._driver = fresh._driver
        self._finalizer = weakref.finalize(self, _abandon, self._driver, self._shelf)
        _order(driver, old.machine.kill)
        if old.machine.phase is not Phase.DEAD:
            driver.wait(lambda: old.machine.phase is Phase.DEAD, _END)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those that can be gone back to, oldest first."""
        return self._shelf.all()

    def limits_in_force(self) -> dict[str, InForce]:
        """What holds each of the session's limits, and how exactly, by the names of `Limits`."""
        with self._driver.lock:
            return self._core.limits_in_force()

    def set_limits(self, limits: Limits) -> None:
        """Other limits from now on; `wall` for calls that begin from now on.

        ValueError, which names a limit that cannot be changed in a living session (docs/limits.md); none is changed
        then.
        """
        with self._driver.lock:
            self._core.set_limits(limits)
        Hub.get().notice(self._driver)

    def statistics(self) -> Statistics:
        """What the session has cost so far."""
        return self._core.statistics(self._shelf)

    def usage(self, *, pss: bool = False) -> SessionUsage:
        """What the session and all that it has started use now, at any time: it is looked at from outside.

        Takes some 30 microseconds for each process on Linux. pss: look at the share of shared memory as well, for which
        the kernel walks through all of the memory: some 1.4 milliseconds for 100 MB.
        """
        return self._core.usage(pss)

    def samples(self, interval: float = 1.0, *, pss: bool = False) -> Iterator[SessionUsage]:
        """`usage()` now, and every `interval` seconds from then on; ends with the session."""
        return _samples(self, Pace(interval), pss)

    @property
    def exit_output(self) -> tuple[str, str]:
        """(stdout, stderr) of the session outside of all calls: while it started, and while it ended."""
        output = self._core.machine.exit_output
        out, err = (output.joined(name).decode(self._core.encoding, "replace") for name in ("stdout", "stderr"))
        return out, err

    @property
    def exit_code(self) -> int | None:
        """The status the process ended with; None while it runs, or if a signal ended it."""
        report = self._core.machine.report
        return None if report is None else report.exit_code

    @property
    def error(self) -> ExtSessionError | None:
        """Why the session is dead; None while it is alive."""
        return self._core.machine.error

    @property
    def is_alive(self) -> bool:
        """Whether the session's process lives, as far as can be known now."""
        if self._core.machine.phase is not Phase.DEAD:
            self._driver.step()
        return self._core.machine.phase is not Phase.DEAD

    @property
    def pid(self) -> int | None:
        """The process id of the session; None before it is there."""
        return self._core.pid

    @property
    def files(self) -> SessionFiles:
        """The files in the work directory of an isolated session."""
        return SessionFiles(lambda: self._core.work_dir())

    @property
    def walls(self) -> Walls | None:
        """What is in force around an isolated session; None: it is not isolated."""
        return self._core.walls

    @property
    def incarnation(self) -> int:
        """Which process of the session this is, from 1: restart(), rollback() and a recovery each begin another."""
        return self._core.machine.incarnation

    @property
    def interpreter(self) -> Interpreter:
        """What runs the session: path, version."""
        return self._core.interpreter

    def __enter__(self) -> ExtSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        version = ".".join(map(str, self.interpreter.version))
        return f"<ExtSession {version} pid {self.pid} {self._core.machine.phase.value}>"

    # inside

    def _submit(self, request: Callable[[Core], Call]) -> Call:
        with self._driver.changing():
            return request(self._core)

    def _value(self, request: Callable[[Core], Call]) -> Any:
        call = self._submit(request)
        self._driver.wait_for(call)
        return self._core.value_of(call)

    def _order(self, give: Callable[[], None]) -> None:
        _order(self._driver, give)

    def _end_soon(self) -> None:
        """Kill the session; the hub sees to its end."""
        self._order(lambda: self._core.machine.kill())

    def _wait_for_end(self, timeout: float | None) -> bool:
        machine = self._core.machine
        ended = self._driver.wait(lambda: machine.phase is Phase.DEAD, timeout)
        if ended:
            self._finalizer.detach()
        return ended


def _events(driver: Driver, listener: deque[OutputChunk]) -> Iterator[OutputChunk]:
    machine = driver.core.machine  # of this moment: after a rollback the session has another one
    try:
        while True:
            while listener:
                yield listener.popleft()
            if machine.phase is Phase.DEAD:
                return
            driver.wait(lambda: bool(listener) or machine.phase is Phase.DEAD, attend=False)
    finally:
        machine.listeners[:] = [each for each in machine.listeners if each is not listener]


def _order(driver: Driver, give: Callable[[], None]) -> None:
    """Carry out at once what `give()` asks of the machine."""
    core = driver.core
    with driver.lock:
        if core.owner != os.getpid() or core.link.closed:
            return
        give()
        core.link.pass_time(time.monotonic())
    Hub.get().notice(driver)


def _samples(session: ExtSession, pace: Pace, pss: bool) -> Iterator[SessionUsage]:
    while session.is_alive:
        yield session.usage(pss=pss)
        due = time.monotonic() + pace.next()
        # not by the driver: another thread may wait for a call, and is to drive the session itself
        while session.is_alive and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))


def _abandon(driver: Driver, shelf: Shelf) -> None:
    """The session's object is gone: so is the session."""
    core = driver.core
    if core.owner != os.getpid():
        return
    shelf.close()
    if core.link.closed:
        return
    Hub.dismiss(driver)
    with driver.lock:
        core.machine.kill()
        core.link.pass_time(time.monotonic())
        core.link.close()
    driver.deliver()


