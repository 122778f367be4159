"""Who moves a session along in an event loop.

Under trio a system task per session waits for the link's one descriptor, under asyncio the loop itself
calls. Both are outside of the user's cancel scopes: a session whose scope is cancelled still needs somebody
who sees to its end. Only they take in what has arrived (`_step`), because that may close the descriptor they
wait for.

Nothing in here awaits between two changes of the machine, so a cancellation cannot cut a change in half.
Ctrl-C under trio could; the methods that change the machine are protected from it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import math
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from .._engine.call import Call
from .._engine.completion import Outcome
from .._engine.core import Core
from .._engine.machine import Phase
from .._engine.results import prompt_of
from ..errors import SessionClosed

if TYPE_CHECKING:
    import asyncio

    import trio

#: seconds that a killed session is waited for
_END = 10.0


class Driver(ABC):
    """Waiting for one process of a Core, in one event loop."""

    event: Callable[[], Any]
    """Makes an Event of the loop's own library."""
    check_cancelled: Callable[[], Awaitable[None]]
    """Raises the cancellation of the current scope if there is one."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.link = core.link
        self.machine = core.machine
        self.failure: Exception | None = None  # an error of ours, which ended the session
        self._thread = threading.get_ident()
        self._blocked: set[Any] = set()  # events of those that wait for a result
        self._watching: set[Any] = set()  # events of those that wait for anything to change
        self._due: float | None = None  # what the alarm is set to
        self._question: _Question | None = None  # what the code asks now
        self._questions: set[_Question] = set()  # callbacks that run

    # what a loop has to give

    @abstractmethod
    def begin(self) -> None:
        """See to it that _step is called when the descriptor is readable or the alarm is due."""

    @abstractmethod
    def leave(self) -> None:
        """The descriptor is about to be closed, or just was."""

    @abstractmethod
    def _spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a function that raises nothing as a task of nobody's."""

    @abstractmethod
    def _set_alarm(self, seconds: float | None) -> None:
        """Have _step called in so many seconds; None: not at all."""

    # asking the machine

    def check(self) -> None:
        """SessionClosed or RuntimeError where the session cannot be used from."""
        if self.core.owner != os.getpid():
            raise SessionClosed(
                f"this session belongs to process {self.core.owner}; a process forked from it cannot use it"
            )
        if self._thread != threading.get_ident():
            raise RuntimeError("an AsyncExtSession is used from the thread of its event loop only")

    def submit(self, request: Callable[[Core], Call]) -> Call:
        self.check()
        if self.failure is not None:
            raise self._closed()
        call = request(self.core)
        self._rearm()
        return call

    def tell(self, give: Callable[[], Any]) -> Any:
        """Change the machine by `give()` and send what comes of it."""
        self.check()
        if self.link.closed:
            return None
        given = give()
        self.link.flush()
        self._deliver()
        self._rearm()
        return given

    def order(self, give: Callable[[], None]) -> None:
        """As `tell`, for orders to the process, which are carried out though its channel be closed."""
        self.check()
        if self.link.closed:
            return
        give()
        self.link.pass_time(time.monotonic())
        self._deliver()
        self._rearm()

    # waiting

    async def wait_for(self, call: Call) -> None:
        """Return when the call is over. Cancelled: the call goes on; see `stop`. SessionClosed."""
        event = self.event()
        if not call.on_done(lambda _: event.set()):
            return
        if self.link.closed:
            raise self._closed()
        self._blocked.add(event)
        self.machine.attended = True
        current = self.machine.current
        if current is not None and current.input_waiting and self._question is None:
            self.tell(lambda: self.machine.write_stdin(b"", time.monotonic()))  # it is attended to now
        try:
            await event.wait()
        finally:
            self._blocked.discard(event)
            self.machine.attended = bool(self._blocked)
        if call.completion is None:
            raise self._closed()

    async def until(self, is_done: Callable[[], bool]) -> None:
        """Return when `is_done()`. SessionClosed."""
        while not is_done():
            if self.link.closed:
                raise self._closed()
            event = self.event()
            self._watching.add(event)
            try:
                await event.wait()
            finally:
                self._watching.discard(event)

    async def value(self, request: Callable[[Core], Call]) -> Any:
        """Submit a request and wait; its value. Cancelled: the call is ended."""
        await self.check_cancelled()
        call = self.submit(request)
        try:
            await self.wait_for(call)
        except BaseException:
            await self.stop(call)
            raise
        return self.core.value_of(call)

    async def stop(self, call: Call) -> None:
        """Whoever wanted a call does not any more: end it, if need be with the session. Bounded."""
        if call.is_done or self.link.closed:
            return
        ladder = self.core.options.ladder
        with anyio.CancelScope(shield=True):
            if self.tell(lambda: self.machine.cancel(call)):
                return
            self.tell(lambda: self.machine.stop(call, time.monotonic(), Outcome.INTERRUPTED))
            with anyio.move_on_after(ladder.interrupt + ladder.terminate + _END):
                with contextlib.suppress(SessionClosed):
                    await self.wait_for(call)
            if not call.is_done:
                await self.end()

    async def end(self) -> None:
        """Kill the session and all it started; return when they are gone. Not cancelled, bounded."""
        if self.core.owner != os.getpid():
            return
        self.check()
        try:
            with anyio.move_on_after(_END, shield=True), contextlib.suppress(SessionClosed):
                self.order(self.machine.kill)
                await self.until(lambda: self.machine.phase is Phase.DEAD)
                await self._end_questions()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the session without waiting: what is still alive of it is killed by its warden."""
        if self.core.owner != os.getpid():
            return
        if not self.link.closed:
            self.leave()
            abandon(self.core)
        self._wake()

    # what the loop calls

    def _step(self) -> None:
        """Take in what has arrived, let deadlines fire, and wake those that waited for it."""
        try:
            self.link.step(time.monotonic())
        except Exception as error:  # an error of ours must neither end the loop nor leave anybody waiting
            self.failure = error
            self.abandon()
        self._deliver()

    def _rearm(self) -> None:
        due = None if self.link.closed else self.machine.next_deadline()
        if due != self._due:
            self._due = due
            self._set_alarm(None if due is None else max(0.0, due - time.monotonic()))

    def _deliver(self) -> None:
        machine = self.machine
        call = machine.current
        if self._question is not None or (call is not None and call.input_waiting and call.stdin.asks):
            self._look_at_input(call)
        if call is not None and call.asks:
            call.asks = False
            self._spawn(functools.partial(self._ask_host, call))
        while machine.finished:
            finished, machine.finished = machine.finished, []
            for each in finished:
                for callback in each.take_callbacks():
                    callback(each)
        if self._watching:
            for event in self._watching:
                event.set()

    def _wake(self) -> None:
        for event in (*self._blocked, *self._watching):
            event.set()

    def _closed(self) -> SessionClosed:
        error = SessionClosed("the session was closed while it was waited for")
        error.__cause__ = self.failure
        return error

    async def _ask_host(self, call: Call) -> None:
        """Call the function that the code asks for, and await it where it is a coroutine's. `host` raises nothing.

        It is cancelled when the call is over: nobody is there to be answered.
        """
        question = call.question
        if question is None:
            return
        body = call.host(*question)
        if inspect.isawaitable(body):
            with anyio.CancelScope() as scope:
                if not call.on_done(lambda _: scope.cancel()):
                    scope.cancel()
                body = await body
            if scope.cancelled_caught:
                return
        self.tell(lambda: self.machine.answer_host(call, body))

    # input() of the code

    def _look_at_input(self, call: Call | None) -> None:
        question = self._question
        asked = call is not None and call.input_waiting
        if question is not None and (question.call is not call or not asked):
            self._question = None
            question.cancel()  # it was answered otherwise, or there is nobody left to answer
        if call is not None and asked and call.stdin.asks:
            call.stdin.asks = False
            if self._question is None:
                question = self._question = _Question(self, call)
                self._questions.add(question)
                self._spawn(question.ask)

    async def _end_questions(self) -> None:
        for question in list(self._questions):
            question.cancel()
            await question.over.wait()

    def question_over(self, question: _Question, line: str | None) -> None:
        """A callback has answered, or not (None)."""
        self._questions.discard(question)
        question.over.set()
        if self._question is question:
            self._question = None
            data = b""
            if line is not None:
                data = line.rstrip("\n").encode(self.core.encoding, "replace") + b"\n"
            self.tell(lambda: self.machine.answer_input(question.call, data))


class _Question:
    """A callback, sync or async, that answers an input()."""

    def __init__(self, driver: Driver, call: Call) -> None:
        self.call = call
        self._scope: anyio.CancelScope | None = None
        self._cancelled = False
        self.over = driver.event()
        self._driver = driver
        self._callback: Any = call.stdin.callback or driver.machine.input_callback

    def cancel(self) -> None:
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def ask(self) -> None:
        driver = self._driver
        line: str | None = None
        try:
            with anyio.CancelScope() as self._scope:
                if self._cancelled:
                    return
                answer = self._callback(prompt_of(self.call, driver.core.encoding), self.call.stdin.password)
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer is not None and not isinstance(answer, str):
                    raise TypeError(f"stdin takes a function that returns str or None, not {answer!r}")
                line = answer
        except Exception as error:
            show(error)
        finally:
            driver.question_over(self, line)


class TrioDriver(Driver):
    """A system task; trio's own calls, which cost less than anyio's."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        import trio

        self._trio = trio
        self._alarm: trio.CancelScope | None = None
        self.event = trio.Event
        self.check_cancelled = trio.lowlevel.checkpoint_if_cancelled
        for method in (Driver.submit, Driver.tell, Driver.order, Driver.abandon):
            trio.lowlevel.enable_ki_protection(method)

    def begin(self) -> None:
        self._trio.lowlevel.spawn_system_task(self._pump, name="extsession pump", context=contextvars.copy_context())

    async def _pump(self) -> None:
        trio = self._trio
        link = self.link
        wait_readable = trio.lowlevel.wait_readable
        try:
            while not link.closed:
                with trio.CancelScope() as self._alarm:  # is cancelled when the alarm is due
                    self._due = math.nan
                    self._rearm()
                    while not link.closed:
                        await wait_readable(link.pollable())
                        self._step()
                        self._rearm()
                if not link.closed:
                    self._step()
        except trio.ClosedResourceError:
            pass
        finally:
            self._alarm = None
            self.abandon()  # the loop ends before the session

    def leave(self) -> None:
        with contextlib.suppress(RuntimeError):  # trio does not run any more
            self._trio.lowlevel.notify_closing(self.link.pollable())

    def _set_alarm(self, seconds: float | None) -> None:
        if self._alarm is not None:
            self._alarm.deadline = math.inf if seconds is None else self._trio.current_time() + seconds

    def _spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._trio.lowlevel.spawn_system_task(function, context=contextvars.copy_context())


class AsyncioDriver(Driver):
    """The loop calls when the descriptor is readable: no task, no future."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._fd = -1
        self._tasks: set[asyncio.Task[None]] = set()
        self.event = asyncio.Event
        self.check_cancelled = anyio.lowlevel.checkpoint_if_cancelled

    def begin(self) -> None:
        self._fd = self.link.pollable()
        self._loop.add_reader(self._fd, self._ready)
        self._rearm()

    def _ready(self) -> None:
        self._step()
        if self.link.closed:
            self.leave()
        self._rearm()

    def _ring(self) -> None:
        self._alarm = None
        self._due = math.nan
        self._ready()

    def leave(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(fd)
        self._set_alarm(None)

    def _set_alarm(self, seconds: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if seconds is not None:
            self._alarm = self._loop.call_later(seconds, self._ring)

    def _spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(function())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def driver_here(core: Core) -> Driver:
    """The driver for the event loop that runs here."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            return TrioDriver(core)
    return AsyncioDriver(core)


def abandon(core: Core) -> None:
    """Kill a session that nobody waits for any more."""
    if core.owner != os.getpid() or core.link.closed:
        return
    try:
        core.machine.kill()
        core.link.pass_time(time.monotonic())
    finally:
        core.link.close()


def show(error: Exception) -> None:
    """An error of a user's callback, which has nobody else to go to."""
    sys.excepthook(type(error), error, error.__traceback__)


def shown(callback: Callable[[Any], Any]) -> Callable[[Any], None]:
    """`callback`, whose errors are shown and go no further: into the middle of a step."""

    def call(argument: Any) -> None:
        try:
            callback(argument)
        except Exception as error:
            show(error)

    return call
