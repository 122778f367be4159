"""AsyncExtSession: control a Python session in another process, from an event loop."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast, overload

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._engine import owned
from .._engine.branch import MOST_TIME, stillborn, too_slow
from .._engine.call import Call, State
from .._engine.completion import Completion
from .._engine.core import Core, Options, Statistics, check_count, check_preload
from .._engine.files import SessionFiles
from .._engine.limits import InForce
from .._engine.link import new_token
from .._engine.machine import Phase, SessionMachine
from .._engine.output import OutputChunk
from .._engine.shelf import Checkpoint, Shelf
from .._engine.stdin import InputCallback
from .._engine.usage import Pace, SessionUsage
from .._engine.walls import Walls
from .._launch.base import Launcher, Process
from .._launch.interpreter import Interpreter
from ..errors import ExtSessionError, LaunchError, SessionClosed
from ..options import NO_LIMITS, OUTPUT_LIMIT, Display, Isolation, Ladder, Limits
from .driver import Driver, abandon, driver_here, shown
from .files import AsyncSessionFiles
from .results import AsyncExtResults

#: as InputCallback, and may be a coroutine function
AsyncInputCallback = Callable[[str, bool], "str | Awaitable[str | None] | None"]

_T = TypeVar("_T")


class AsyncExtSession:
    """A long-lived CPython process with a namespace of its own: ExtSession for trio and asyncio.

    `async with AsyncExtSession() as session:` starts it; at the end, also of a cancelled scope, the session
    and all that it started are killed. The arguments are those of ExtSession, and mean the same; `stdin` may
    be a coroutine function. A session is used from the thread of the event loop that it was entered in.

    Cancelling the scope of an `await session.eval(...)`, or of a wait for results, interrupts the call before
    the cancellation goes on: through the session's `ladder`, so a call that does not react costs the session.
    """

    def __init__(
        self,
        python: str | os.PathLike[str] | None = None,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: AsyncInputCallback | None = None,
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
        # what the engine does with the callback does not depend on its colour
        answer = cast("InputCallback | None", stdin)
        self._options = Options(
            python,
            cwd,
            env,
            answer,
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
        self._launcher = launcher
        self._entered = False
        self._is_branch = False  # entered by the session that it is a branch of
        self._core: Core | None = None
        self._shelf = Shelf(max_checkpoints, checkpoint_memory)
        self._driver: Driver | None = None

    async def __aenter__(self) -> AsyncExtSession:
        """Start the session and wait until it is there; InterpreterError, LaunchError."""
        if self._is_branch:
            self._is_branch = False
            await anyio.lowlevel.checkpoint()
            return self
        await self._enter()
        try:
            await self._wait_for_start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _enter(self) -> None:
        if self._entered:
            raise SessionClosed("an AsyncExtSession is entered once; make another one, or restart() it")
        self._entered = True
        await anyio.lowlevel.checkpoint()
        looks = self._options.python is not None
        core = await self._blocking(lambda _: Core(self._options, self._launcher), lambda _: None, looks)
        await self._launch(core)

    async def _launch(self, core: Core) -> None:
        def launch(is_unwanted: Callable[[], bool]) -> Core:
            core.is_unwanted = is_unwanted
            core.launch()
            return core

        await self._blocking(launch, abandon, self._launcher is not None or core.may_block())
        self._begin(core)

    def _begin(self, core: Core) -> None:
        self._core = core
        self._driver = driver_here(core)
        owned.add(core)
        self._finalizer = weakref.finalize(self, _abandon, self._driver, self._shelf)
        self._driver.begin()

    async def _blocking(
        self, function: Callable[[Callable[[], bool]], _T], undo: Callable[[_T], Any], long: bool
    ) -> _T:
        """Call what looks for an interpreter or starts it: in a thread where that can take `long`.

        function: is given a function that says whether it was cancelled. undo: what is to become of its result then.
        """
        if not long:
            return function(bool)
        given_up = False
        made: list[_T] = []
        failed: list[BaseException] = []
        over = anyio.Event()

        async def work() -> None:
            with anyio.CancelScope(shield=True):
                try:
                    made.append(await anyio.to_thread.run_sync(function, lambda: given_up))
                except BaseException as error:
                    failed.append(error)
                over.set()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                try:
                    await over.wait()
                except BaseException:
                    given_up = True  # the thread sees it soon
                    raise
        except BaseException:
            for result in made:
                undo(result)
            raise
        if failed:
            raise failed[0]
        return made[0]

    async def _wait_for_start(self) -> None:
        driver = self._here()
        await driver.until(lambda: not driver.core.is_starting)
        if driver.machine.phase is Phase.DEAD:
            assert driver.machine.error is not None
            raise driver.machine.error

    # running code

    async def execute(
        self,
        source: str,
        *,
        timeout: float | None = None,
        stdin: str | bytes | AsyncInputCallback | None = None,
        output_limit: int | None = -1,
        display: Display | None = None,
        on_output: Callable[[OutputChunk], Any] | None = None,
    ) -> AsyncExtResults:
        """Queue `source` to run in the session and return at once; as ExtSession.execute.

        `await` the results to wait for them. stdin: its function may be a coroutine function. on_output:
        called in the thread of the event loop; must not block or use the session. What it
        raises is shown by `sys.excepthook`.
        """
        driver = self._here()
        await driver.check_cancelled()
        given = cast("str | bytes | InputCallback | None", stdin)
        sink = None if on_output is None else shown(on_output)
        call = driver.submit(lambda core: core.execute(source, timeout, given, output_limit, display, sink))
        await anyio.lowlevel.cancel_shielded_checkpoint()
        return AsyncExtResults(driver, call)

    async def eval(self, expression: str, *, timeout: float | None = None) -> Any:
        """The value of an expression in the session. Raises what it raises; CallTimeout; ValueRefused."""
        return await self._here().value(lambda core: core.evaluate(expression, timeout))

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, called in the session, and its value; as ExtSession.call."""
        return await self._here().value(lambda core: core.call(function, args, kwargs))

    async def get(self, name: str) -> Any:
        """The value of a name; KeyError if the session has none."""
        return await self._here().value(lambda core: core.get(name))

    async def set(self, name: str, value: Any) -> None:
        await self._here().value(lambda core: core.set(name, value))

    async def delete(self, name: str) -> None:
        """KeyError if the session has no such name."""
        await self._here().value(lambda core: core.delete(name))

    async def contains(self, name: object) -> bool:
        return isinstance(name, str) and bool(await self._here().value(lambda core: core.contains(name)))

    async def names(self) -> list[str]:
        """The names of the session's namespace, without those that every module has."""
        return list(await self._here().value(lambda core: core.names()))

    def __getitem__(self, name: str) -> Awaitable[Any]:
        """`await session[name]` is `await session.get(name)`."""
        return self.get(name)

    # without these, Python would try __getitem__ with 0, 1, 2... for ever
    __contains__ = None
    __iter__ = None

    # for front ends

    async def complete(self, source: str, cursor: int | None = None, *, timeout: float = 2.0) -> dict[str, Any]:
        """Completions at `cursor`; as ExtSession.complete."""
        found: dict[str, Any] = await self._here().value(lambda core: core.complete(source, cursor, timeout))
        return found

    async def inspect(
        self, source: str, cursor: int | None = None, *, detail: int = 0, timeout: float = 2.0
    ) -> dict[str, Any]:
        """What is known of the object at `cursor`; as ExtSession.inspect."""
        found: dict[str, Any] = await self._here().value(lambda core: core.inspect(source, cursor, detail, timeout))
        return found

    async def is_complete(self, source: str, *, timeout: float = 2.0) -> dict[str, str]:
        """Whether `source` could be run as it is; as ExtSession.is_complete."""
        found: dict[str, str] = await self._here().value(lambda core: core.is_complete(source, timeout))
        return found

    # talking to the running code

    async def writeline(self, line: str) -> None:
        """Give the code a line of stdin; a line end is added if there is none."""
        driver = self._here()
        await driver.check_cancelled()
        data = (line if line.endswith("\n") else line + "\n").encode(driver.core.encoding)
        machine = driver.machine
        machine.require_alive()
        machine.lines.closed = False
        driver.tell(lambda: machine.write_stdin(data, time.monotonic()))
        await anyio.lowlevel.cancel_shielded_checkpoint()

    async def close_stdin(self) -> None:
        """No more lines: code that asks for input gets the end of the file, until the next `writeline`."""
        driver = self._here()
        await anyio.lowlevel.checkpoint()
        driver.tell(lambda: driver.machine.close_stdin(time.monotonic()))

    async def readline(self, timeout: float | None = None) -> str:
        """The next line of the session's stdout, whichever call wrote it; waits for it.

        Without its line end missing only where the session has nothing more to run; "" if there is nothing.
        TimeoutError after `timeout` seconds. Cancelling it leaves the call and the line alone.
        """
        driver = self._here()
        machine = driver.machine
        line: bytes | None = None

        def look() -> bool:
            nonlocal line
            if line is None:
                line = machine.unread.take_line(machine.current is None and not machine.is_busy)
            return line is not None

        await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(timeout):
            await driver.until(look)
        if line is None:
            raise TimeoutError(f"no line of output after {timeout} s")
        return line.decode(driver.core.encoding, "replace")

    async def readcodes(self) -> list[Completion]:
        """The done markers that have arrived since the last call of this method, in order."""
        driver = self._here()
        await anyio.lowlevel.checkpoint()
        codes = list(driver.machine.codes)
        driver.machine.codes.clear()
        return codes

    def events(self) -> AsyncIterator[OutputChunk]:
        """All output from now on, of all calls, late output too, in order; ends with the session."""
        return _Events(self._here())

    # its end

    async def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the running code; False if no code is running."""
        driver = self._here()
        await anyio.lowlevel.checkpoint()
        return bool(driver.tell(lambda: driver.machine.interrupt(time.monotonic())))

    async def terminate(self) -> None:
        """Send SIGTERM to the session's process."""
        driver = self._here()
        await anyio.lowlevel.checkpoint()
        driver.order(driver.machine.terminate)

    async def kill(self) -> None:
        """Kill the session and all it started; return when they are gone. A cancellation waits for that."""
        if self._driver is not None:
            await self._driver.end()
            self._finalizer.detach()
        await anyio.lowlevel.checkpoint()

    async def exit(self, code: int = 0, *, timeout: float | None = None) -> int | None:
        """End the session as an interpreter ends (atexit, threads), after the calls that are queued.

        Returns the status that the process really ended with; None if a signal ended it. After `timeout`
        seconds, or if it is cancelled, it is killed. What it still printed is in `exit_output`.
        """
        driver = self._here()
        machine = driver.machine
        await driver.check_cancelled()
        if machine.phase is not Phase.DEAD:

            def leave() -> None:
                machine.exit(code)
                machine.advance(time.monotonic())

            driver.tell(leave)
            try:
                with anyio.move_on_after(timeout):
                    await driver.until(lambda: machine.phase is Phase.DEAD)
            finally:
                await driver.end()
        return self.exit_code

    async def aclose(self) -> None:
        """End the session now, with all that it started; `async with` does. Nothing the second time."""
        self._shelf.close()
        if self._driver is not None:
            await self._driver.end()
            self._finalizer.detach()

    async def restart(self) -> None:
        """End this session and start a fresh one with the same options in its place."""
        core = self._here().core
        await self.aclose()
        await anyio.lowlevel.checkpoint()
        self._shelf = Shelf(self._options.max_checkpoints, self._options.checkpoint_memory)
        await self._launch(core)
        self._here().machine.incarnation = core.machine.incarnation + 1
        try:
            await self._wait_for_start()
        except BaseException:
            await self.aclose()
            raise

    # branches

    @overload
    async def fork(self, count: None = None, *, force: bool = False) -> AsyncExtSession: ...

    @overload
    async def fork(self, count: int, *, force: bool = False) -> list[AsyncExtSession]: ...

    async def fork(self, count: int | None = None, *, force: bool = False) -> AsyncExtSession | list[AsyncExtSession]:
        """A second, independent session with the same state; as ExtSession.fork.

        It has been started: `async with await session.fork() as branch:` ends it, or `aclose()`.
        """
        made: list[AsyncExtSession] = []
        try:
            for _ in range(1 if count is None else check_count(count)):
                made.append(await self._branch(force))
        except BaseException:
            for each in made:
                await each.aclose()
            raise
        return made[0] if count is None else made

    async def _branch(self, force: bool) -> AsyncExtSession:
        process, call = await self._clone(False, force)
        token = self._here().core.token_of(call)
        try:
            branch = await self._session_of(process, token, call.number)
        except LaunchError as error:
            raise stillborn(error) from error
        branch._is_branch = True
        return branch

    async def _session_of(
        self, process: Process, token: bytes, number: int, incarnation: int = 1
    ) -> AsyncExtSession:
        core = self._here().core.core_of(process, token, number, incarnation)
        branch = AsyncExtSession.__new__(AsyncExtSession)
        branch._options = self._options
        branch._launcher = self._launcher
        branch._entered = True
        branch._is_branch = False
        branch._shelf = Shelf(self._options.max_checkpoints, self._options.checkpoint_memory)
        branch._begin(core)
        try:
            await branch._wait_for_start()
        except BaseException:
            await branch.aclose()
            raise
        return branch

    async def _clone(self, hold: bool, force: bool) -> tuple[Process, Call]:
        driver = self._here()
        core = driver.core
        await driver.check_cancelled()
        call = driver.submit(lambda core: core.branch(hold, force))
        try:
            await driver.until(lambda: call.state is not State.QUEUED)
            with anyio.move_on_after(MOST_TIME):
                await driver.until(lambda: call.completion is not None)
            if call.completion is None:
                raise too_slow()
        except BaseException:
            core.give_up(call)
            raise
        return core.branched(call, force), call

    async def checkpoint(self, name: str | None = None, *, force: bool = False) -> Checkpoint:
        """Keep the state as it is after the calls that are queued; as ExtSession.checkpoint."""
        process, call = await self._clone(True, force)
        return self._shelf.add(name, call.number - 1, process)

    async def rollback(self, checkpoint: Checkpoint | str) -> None:
        """Make the state what it was at a checkpoint; as ExtSession.rollback."""
        found = self._shelf.find(checkpoint)
        old = self._here()
        if old.machine.closed:
            raise SessionClosed("the session was closed, and its checkpoints were dropped")
        await old.check_cancelled()
        token = new_token()
        number = max(found.call, old.machine.count)
        fresh = await self._session_of(found.clone(token), token, number, old.machine.incarnation + 1)
        old.machine.give_way(f"the session was rolled back to {found.name!r}")
        self._finalizer.detach()
        fresh._finalizer.detach()
        assert fresh._core is not None
        assert fresh._driver is not None
        self._core, self._driver = fresh._core, fresh._driver
        self._finalizer = weakref.finalize(self, _abandon, self._driver, self._shelf)
        await old.end()

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those that can be gone back to, oldest first."""
        return self._shelf.all()

    def limits_in_force(self) -> dict[str, InForce]:
        """What holds each of the session's limits, and how exactly, by the names of `Limits`."""
        return self._here().core.limits_in_force()

    async def set_limits(self, limits: Limits) -> None:
        """Other limits from now on; as ExtSession.set_limits."""
        driver = self._here()
        await anyio.lowlevel.checkpoint()
        driver.machine.require_alive()
        driver.tell(lambda: driver.core.set_limits(limits))

    def statistics(self) -> Statistics:
        """What the session has cost so far."""
        return self._here().core.statistics(self._shelf)

    async def usage(self, *, pss: bool = False) -> SessionUsage:
        """What the session and all that it has started use now; as ExtSession.usage. In a thread if `pss` is wanted."""
        core = self._here().core
        if pss:
            return await anyio.to_thread.run_sync(core.usage, True)
        await anyio.lowlevel.checkpoint()
        return core.usage(False)

    def samples(self, interval: float = 1.0, *, pss: bool = False) -> AsyncIterator[SessionUsage]:
        """`usage()` now, and every `interval` seconds from then on; ends with the session."""
        self._here()
        return _Samples(self, Pace(interval), pss)

    @property
    def exit_output(self) -> tuple[str, str]:
        """(stdout, stderr) of the session outside of all calls: while it started, and while it ended."""
        driver = self._here()
        output, encoding = driver.machine.exit_output, driver.core.encoding
        out, err = (output.joined(name).decode(encoding, "replace") for name in ("stdout", "stderr"))
        return out, err

    @property
    def exit_code(self) -> int | None:
        """The status the process ended with; None while it runs, or if a signal ended it."""
        machine = self._machine
        return None if machine is None or machine.report is None else machine.report.exit_code

    @property
    def error(self) -> ExtSessionError | None:
        """Why the session is dead; None while it is alive."""
        return None if self._machine is None else self._machine.error

    @property
    def is_alive(self) -> bool:
        """Whether the session's process lives, as far as the event loop has seen."""
        return self._machine is not None and self._machine.phase is not Phase.DEAD

    @property
    def pid(self) -> int | None:
        """The process id of the session; None before it is there."""
        return None if self._core is None else self._core.pid

    @property
    def files(self) -> AsyncSessionFiles:
        """The files in the work directory of an isolated session."""
        return AsyncSessionFiles(SessionFiles(lambda: self._here().core.work_dir()))

    @property
    def walls(self) -> Walls | None:
        """What is in force around an isolated session; None: it is not isolated."""
        return None if self._core is None else self._core.walls

    @property
    def incarnation(self) -> int:
        """Which process of the session this is, from 1: restart(), rollback() and a recovery each begin another."""
        return 1 if self._machine is None else self._machine.incarnation

    @property
    def interpreter(self) -> Interpreter:
        """What runs the session: path, version."""
        return self._here().core.interpreter

    def __repr__(self) -> str:
        if self._driver is None:
            return "<AsyncExtSession not started>"
        version = ".".join(map(str, self.interpreter.version))
        return f"<AsyncExtSession {version} pid {self.pid} {self._driver.machine.phase.value}>"

    # inside

    @property
    def _machine(self) -> SessionMachine | None:
        return None if self._driver is None else self._driver.machine

    def _here(self) -> Driver:
        if self._driver is None:
            raise SessionClosed(
                "the session is not started: use it inside of `async with AsyncExtSession(...) as session`"
            )
        return self._driver

    def _end_soon(self) -> None:
        """Kill the session; the event loop sees to its end."""
        driver = self._here()
        driver.order(driver.machine.kill)


def _abandon(driver: Driver, shelf: Shelf) -> None:
    """The session's object is gone: so is the session."""
    if driver.core.owner == os.getpid():
        shelf.close()
    driver.abandon()


class _Events:
    """Iterates over the output of a session."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._listener: deque[OutputChunk] = deque()
        driver.machine.listeners.append(self._listener)

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> OutputChunk:
        listener, machine = self._listener, self._driver.machine
        if listener or machine.phase is Phase.DEAD:
            await anyio.lowlevel.checkpoint()
        else:
            await self._driver.until(lambda: bool(listener) or machine.phase is Phase.DEAD)
        if not listener:
            raise StopAsyncIteration
        return listener.popleft()

    def __del__(self) -> None:
        machine = self._driver.machine
        # not remove(): deques with the same chunks are equal
        machine.listeners[:] = [each for each in machine.listeners if each is not self._listener]


class _Samples:
    """Iterates over what a session uses. No generator: trio minds one that is left by `break`."""

    def __init__(self, session: AsyncExtSession, pace: Pace, pss: bool) -> None:
        self._session = session
        self._pace = pace
        self._pss = pss
        self._is_first = True

    def __aiter__(self) -> _Samples:
        return self

    async def __anext__(self) -> SessionUsage:
        session = self._session
        if not self._is_first:
            driver = session._here()
            with anyio.move_on_after(self._pace.next()):
                await driver.until(lambda: driver.machine.phase is Phase.DEAD)
        self._is_first = False
        if not session.is_alive:
            await anyio.lowlevel.checkpoint()
            raise StopAsyncIteration
        return await session.usage(pss=self._pss)
