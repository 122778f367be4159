"""One thread for the sessions that nobody waits on: their output, their deadlines, their callbacks.

Sessions are only noticed here, which costs nothing; the hub looks at them a tick later and watches those that
still need it and are not driven by a caller. So a loop of execute() and wait() never pays for a
thread hop. The hub is made on first use, and made anew in a forked process.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from .._launch import templates

if TYPE_CHECKING:
    from .driver import Driver

_TICK = 0.005
#: ticks without anything to do after which the hub sleeps until it is rung
_PATIENCE = 40


class Hub:
    """The hub of this process: `Hub.get()`."""

    _instance: ClassVar[Hub | None] = None
    _making: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ring, False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._lock = threading.RLock()  # the collector may end a session in the middle of anything
        self._noticed: deque[Driver] = deque()
        self._watched: dict[Driver, int] = {}
        self._starved: list[Driver] = []
        self._asleep = False
        self._thread = threading.Thread(target=self._run, name="extsession-hub", daemon=True)
        self._thread.start()
        templates.call_when_due(self.look_soon)

    @classmethod
    def get(cls) -> Hub:
        hub = cls._instance
        if hub is None:
            with cls._making:
                hub = cls._instance
                if hub is None:
                    hub = cls._instance = cls()
        return hub

    @classmethod
    def dismiss(cls, driver: Driver) -> None:
        """A session has been dropped. No hub is made for that."""
        if cls._instance is not None:
            cls._instance.leave(driver)

    @classmethod
    def forget(cls) -> None:
        """In a forked process: the thread is not there any more."""
        hub, cls._instance = cls._instance, None
        cls._making = threading.RLock()
        if hub is not None:
            hub._selector.close()
            os.close(hub._bell)
            os.close(hub._ring)

    def notice(self, driver: Driver) -> None:
        """A session may need somebody soon."""
        if driver.noticed:
            return
        driver.noticed = True
        self._noticed.append(driver)
        if self._asleep:
            self.ring()

    def look_soon(self) -> None:
        """Something may be due earlier than it was."""
        if self._asleep:
            self.ring()

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._ring, b"!")

    def leave(self, driver: Driver) -> None:
        """A caller waits for the session itself from now on, or it is closed."""
        with self._lock:
            self._unwatch(driver)

    def _run(self) -> None:
        idle = 0
        while True:
            try:
                idle = 0 if self._turn(idle) else idle + 1
            except Exception as error:  # one session's trouble is not that of all others
                _show(error)

    def _turn(self, idle: int) -> bool:
        """One look at everything; whether anything was noticed."""
        timeout = self._until(idle > _PATIENCE)
        self._asleep = timeout is None or timeout > _TICK  # who notices something has to ring
        if self._asleep and self._noticed:  # noticed between the look and the sleep
            timeout = _TICK
        events = self._select(timeout)
        self._asleep = False
        for driver in events:
            self._attend(driver)
        noticed = bool(self._noticed)
        if noticed:
            self._look()
        starved, self._starved = self._starved, []
        for driver in (*starved, *self._due()):
            self._attend(driver)
        due = templates.next_look()
        if due is not None and due <= time.monotonic():
            templates.tend()
        return noticed

    def _select(self, timeout: float | None) -> list[Driver]:
        found = []
        try:
            events = self._selector.select(timeout)
        except (OSError, ValueError):  # a session was closed while we looked
            return []
        for key, _mask in events:
            if key.fd == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
                time.sleep(_TICK)  # what was rung for may have found a caller that waits by then
            else:
                found.append(key.data)
        return found

    def _until(self, rested: bool) -> float | None:
        """Seconds until something has to be looked at. rested: nothing was noticed for long."""
        now = time.monotonic()
        with self._lock:
            watched = list(self._watched)
        wait: float | None = 1.0 if watched else None
        if self._noticed or not rested:
            wait = _TICK
        for due in (templates.next_look(), *[driver.core.machine.next_deadline() for driver in watched]):
            if due is not None and (wait is None or due - now < wait):
                wait = max(0.0, due - now)
        return wait

    def _due(self) -> list[Driver]:
        now = time.monotonic()
        with self._lock:
            watched = list(self._watched)
        found = []
        for driver in watched:
            due = driver.core.machine.next_deadline()
            if due is not None and due <= now:
                found.append(driver)
        return found

    def _look(self) -> None:
        """Watch what was noticed, still needs it, and has no caller that drives it."""
        with self._lock:
            for _ in range(len(self._noticed)):
                driver = self._noticed.popleft()
                driver.noticed = False
                if driver in self._watched or not driver.core.needs_attention():
                    continue
                if driver.is_driven:
                    self.notice(driver)
                else:
                    self._watch(driver)

    def _watch(self, driver: Driver) -> None:
        # never waits for a session's lock: its holder may wait for ours
        if not driver.lock.acquire(blocking=False):
            self.notice(driver)
            return
        try:
            if not driver.core.link.closed:
                fd = driver.core.link.pollable()
                self._forget_closed(fd)
                self._selector.register(fd, selectors.EVENT_READ, driver)
                self._watched[driver] = fd
                driver.watched = True
        except OSError:  # no descriptors left: it is looked at with each tick, which takes none
            self._starved.append(driver)
            self.notice(driver)
        finally:
            driver.lock.release()

    def _forget_closed(self, fd: int) -> None:
        """A session that a caller drives may be closed before we have let go of it: its number is taken again then."""
        for driver in [each for each, number in self._watched.items() if number == fd]:
            self._unwatch(driver)

    def _unwatch(self, driver: Driver) -> None:
        fd = self._watched.pop(driver, None)
        driver.watched = False
        if fd is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(fd)
            if driver.lock.acquire(blocking=False):
                try:
                    driver.core.link.drop_pollable()
                finally:
                    driver.lock.release()

    def _attend(self, driver: Driver) -> None:
        if driver.is_driven:  # a caller has come: it takes in what arrives
            self.leave(driver)
            self.notice(driver)
        try:
            driver.step()
        except Exception as error:
            _show(error)
        if not driver.core.needs_attention():
            self.leave(driver)


def _show(error: Exception) -> None:
    threading.excepthook(
        threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Hub.forget)
