"""Who moves a session along: the thread that waits for it, else the hub.

`lock` guards the machine and the link. `_driving` is held by the one thread that reads for the session: only
it may take in what arrives, or a thread that sleeps in the link's poll would never hear of it. Others
that wait for the same session sleep on `_changed`, and let deadlines fire that are due.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from .._engine.call import Call
from .._engine.core import Core
from .._engine.results import prompt_of
from .._engine.stdin import InputCallback
from ..errors import SessionClosed
from . import shield
from .hub import Hub

#: seconds after which a thread that waits for a queued call looks whether it was cancelled
_QUEUE_LOOK = 0.1
#: seconds that a thread that does not drive leaves to the one that does
_MOMENT = 0.001


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


class Driver:
    """Waiting for one Core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.forget_threads()
        _drivers.add(self)

    def forget_threads(self) -> None:
        """At first, and in a forked process: the threads that held the locks are not there."""
        self.lock = threading.RLock()
        self.noticed = False  # the hub will look at it; the hub changes both
        self.watched = False  # the hub polls this session
        self._driving = threading.Lock()
        self._changed = threading.Condition(threading.Lock())
        self._waiters = 0

    @property
    def is_driven(self) -> bool:
        """Whether a caller drives the session right now."""
        return self._driving.locked()

    def wait(self, is_done: Callable[[], bool], timeout: float | None = None, attend: bool = True) -> bool:
        """Drive the session until `is_done()`; False if `timeout` seconds were over before.

        attend: the caller waits for the end of a call. One who waits for a piece of output may answer it by a
        writeline(), so code that asks for input is not told at once that there is none.
        """
        if is_done():
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.watched:
            Hub.get().leave(self)
        try:
            while not is_done():
                if deadline is not None and time.monotonic() >= deadline:
                    self.step()
                    return is_done()
                if self._drive(is_done, deadline, attend):
                    self.deliver()  # not while driving: what is called back may wait for the session itself
                    if self.core.link.closed and not is_done():
                        raise SessionClosed("the session was closed while it was waited for")
        finally:
            if self.core.needs_attention():
                Hub.get().notice(self)
        return True

    def wait_for(self, call: Call, timeout: float | None = None) -> bool:
        """As `wait` for the end of a call: if it is running and ends soon, as most do, with less ado."""
        if call.completion is not None:
            return True
        if timeout is None and self._take_reply(call):
            return True
        return self.wait(lambda: call.completion is not None, timeout)

    def _take_reply(self, call: Call) -> bool:
        """Whether the call is over, after a moment's wait."""
        core = self.core
        machine = core.machine
        if machine.current is not call or self.watched or machine.has_queue:
            return False
        before = shield.up()
        try:
            if not self._driving.acquire(blocking=False):
                return False
            try:
                machine.attended = core.link.in_hand = True
                data = core.link.receive()
                if data is not None:
                    with self.lock:
                        core.link.take(data, time.monotonic())
            finally:
                machine.attended = core.link.in_hand = False
                self._driving.release()
                if self._waiters:
                    self._wake()
        finally:
            shield.down(before)
        if call.completion is not None:
            if machine.finished:
                self.deliver()
            if not self.noticed and core.needs_attention():
                Hub.get().notice(self)
            return True
        self.deliver()
        return False

    def step(self) -> None:
        """Take in what has arrived, without blocking; leave that to the thread that drives, if there is one."""
        before = shield.up()
        try:
            if self._driving.acquire(blocking=False):
                try:
                    with self.lock:
                        self.core.link.step(time.monotonic())
                finally:
                    self._driving.release()
                    self._wake()
            else:
                with self.lock:
                    self.core.link.pass_time(time.monotonic())
        finally:
            shield.down(before)
        self.deliver()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """The session may be changed in the block, which must not wait for anything."""
        before = shield.up()
        try:
            with self.lock:
                yield
        finally:
            shield.down(before)

    def interrupt(self, call: Call | None = None) -> bool:
        """Interrupt the running call (only `call`, if given); False if it does not run."""
        with self.changing():
            sent = self.core.machine.interrupt(time.monotonic(), call)
            self.core.link.flush()
        if sent and not self.is_driven:
            Hub.get().notice(self)  # it may have to be woken
        return sent

    def deliver(self) -> None:
        """Call back those who want to know, outside of the lock."""
        machine = self.core.machine
        call = machine.current
        if call is not None and self._asks():
            if call.asks:
                self._ask_host(call)
            else:
                self._ask(call)
        while machine.finished:
            with self.changing():
                finished, machine.finished = machine.finished, []
            for each in finished:
                for callback in each.take_callbacks():
                    callback(each)
            self._wake()

    def _asks(self) -> bool:
        """Whether the code waits for a line that a callback gives, or for a function of ours."""
        call = self.core.machine.current
        return call is not None and (call.asks or (call.input_waiting and call.stdin.asks))

    def _drive(self, is_done: Callable[[], bool], deadline: float | None, attend: bool) -> bool:
        """Take in what comes until something has changed; False: another thread does that already."""
        before = shield.up()
        try:
            if not self._driving.acquire(blocking=False):
                before, kept = None, before
                shield.down(kept)
                self._sleep(is_done, deadline)
                return False
            try:
                self.core.machine.attended = attend
                while not is_done() and not self.core.link.closed:
                    before = self._take_in(deadline, before)
                    if self.core.machine.finished or self._asks():
                        break
                    if self._waiters:
                        self._wake()
                    if deadline is not None and time.monotonic() >= deadline:
                        break
            finally:
                self.core.machine.attended = False
                self._driving.release()
                self._wake()
        finally:
            shield.down(before)
        return True

    def _take_in(self, deadline: float | None, before: Any) -> Any:
        """Wait for something, and take it in. before: of the shield, which is down while it waits; the next one's."""
        link = self.core.link
        machine = self.core.machine
        until = machine.next_deadline()
        if deadline is not None and (until is None or deadline < until):
            until = deadline
        if machine.has_queue:  # another thread may cancel the call that is waited for
            soon = time.monotonic() + _QUEUE_LOOK
            until = soon if until is None else min(until, soon)
        shield.down(before)
        ready = link.wait(None if until is None else max(0.0, until - time.monotonic()))
        before = shield.up()
        with self.lock:
            link.step(time.monotonic(), ready)
        return before

    def _sleep(self, is_done: Callable[[], bool], deadline: float | None) -> None:
        until = self.core.machine.next_deadline()
        if deadline is not None and (until is None or deadline < until):
            until = deadline
        with self._changed:
            self._waiters += 1
            try:
                if self._driving.locked() and not is_done():
                    # a moment in any case: if something has arrived, the thread that drives has to take it in first
                    self._changed.wait(None if until is None else max(_MOMENT, until - time.monotonic()))
            finally:
                self._waiters -= 1
        if until is not None and time.monotonic() >= until:
            self.step()

    def _wake(self) -> None:
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def _ask_host(self, call: Call) -> None:
        """Call the function that the code asks for. `host` raises nothing."""
        with self.lock:
            if not call.asks or call.question is None:
                return
            call.asks = False  # whoever comes here first asks
            question = call.question
        body = call.host(*question)
        with self.changing():
            self.core.machine.answer_host(call, body)
            self.core.link.flush()

    def _ask(self, call: Call) -> None:
        """Have the callback answer the code's input()."""
        with self.lock:
            if not call.stdin.asks:
                return
            call.stdin.asks = False  # whoever comes here first asks
            callback: InputCallback | None = call.stdin.callback or self.core.machine.input_callback
        line = None
        try:
            if callback is not None:
                line = callback(prompt_of(call, self.core.encoding), call.stdin.password)
        except Exception as error:  # the code gets the end of the file; the one who waits is not to blame
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            with self.lock:
                data = b"" if line is None else line.rstrip("\n").encode(self.core.encoding, "replace") + b"\n"
                self.core.machine.answer_input(call, data)
                self.core.link.flush()


def _forget_threads() -> None:
    for driver in list(_drivers):
        driver.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
