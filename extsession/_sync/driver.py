"""Who moves a session along: the thread that waits for it, else the hub.

`lock` guards the machine and the link. `_driving` is held by the one thread that blocks in the link's
poll; others that wait for the same session sleep on `_changed` and step in when a deadline is due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .._engine.call import Call
from .._engine.core import Core, prompt_of
from ..errors import SessionClosed
from .hub import Hub


class Driver:
    """Waiting for one Core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.lock = threading.RLock()
        self.watched = False  # the hub polls this session; the hub changes it
        self._driving = threading.Lock()
        self._changed = threading.Condition(threading.Lock())
        self._waiters = 0

    def wait(self, is_done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Drive the session until `is_done()`; False if `timeout` seconds were over before."""
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
                if self._driving.acquire(blocking=False):
                    try:
                        self._drive(is_done, deadline)
                    finally:
                        self._driving.release()
                        self._wake()
                else:
                    self._sleep(is_done, deadline)
        finally:
            if self.core.needs_attention():
                Hub.get().notice(self)
        return True

    def step(self) -> None:
        """Take in what has arrived, without blocking."""
        with self.lock:
            self.core.link.step(time.monotonic())
        self.deliver()

    def deliver(self) -> None:
        """Call back those who want to know, outside of the lock."""
        machine = self.core.machine
        call = machine.current
        if call is not None and call.input_waiting and call.stdin.asks:
            self._ask(call)
        while machine.finished:
            with self.lock:
                finished, machine.finished = machine.finished, []
            for each in finished:
                for callback in each.take_callbacks():
                    callback(each)

    def _drive(self, is_done: Callable[[], bool], deadline: float | None) -> None:
        link = self.core.link
        machine = self.core.machine
        machine.attended = True
        try:
            while not is_done() and not link.closed:
                until = machine.next_deadline()
                if deadline is not None and (until is None or deadline < until):
                    until = deadline
                ready = link.wait(None if until is None else max(0.0, until - time.monotonic()))
                now = time.monotonic()
                with self.lock:
                    link.step(now, ready)
                if machine.finished or machine.current is not None:
                    self.deliver()
                if self._waiters:
                    self._wake()
                if deadline is not None and now >= deadline:
                    return
        finally:
            machine.attended = False
        if link.closed and not is_done():
            raise SessionClosed("the session was closed while it was waited for")

    def _sleep(self, is_done: Callable[[], bool], deadline: float | None) -> None:
        until = self.core.machine.next_deadline()
        if deadline is not None and (until is None or deadline < until):
            until = deadline
        with self._changed:
            self._waiters += 1
            try:
                if self._driving.locked() and not is_done():
                    self._changed.wait(None if until is None else max(0.0, until - time.monotonic()))
            finally:
                self._waiters -= 1
        if until is not None and time.monotonic() >= until:
            self.step()

    def _wake(self) -> None:
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def _ask(self, call: Call) -> None:
        """Have the callback answer the code's input()."""
        with self.lock:
            if not call.stdin.asks:
                return
            call.stdin.asks = False  # whoever comes here first asks
            callback = call.stdin.callback or self.core.machine.input_callback
        line = None
        try:
            line = callback(prompt_of(call, self.core.encoding), call.stdin.password)
        finally:
            with self.lock:
                data = b"" if line is None else line.rstrip("\n").encode(self.core.encoding, "replace") + b"\n"
                self.core.machine.answer_input(call, data)
                self.core.link.flush()
