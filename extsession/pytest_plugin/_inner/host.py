"""What is done in the process that forks for a test: before, and afterwards.

The fork is as cheap as it can be made: the collector's objects are frozen for the moment of the fork, so that no
collection in the child writes to each of them, which would copy their pages.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
import warnings

from . import child, internals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import pytest


class Started:
    """A test's process. wide: seconds that fixtures took which live longer than it."""

    def __init__(self, pid: int, wide: float) -> None:
        self.pid = pid
        self.wide = wide


class Host:
    """Forks for tests, one after the other. One for each pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.life = child.Life(config)
        config.pluginmanager.register(self.life, "extsession-child")
        child.prepare()
        internals.make_base_folder(config)
        self._capture = internals.capture_of(config)

    def start(
        self,
        item: pytest.Item,
        order: dict[str, Any],
        fds: tuple[int, int, int],
        before: Callable[[], None],
        first: Callable[[], None] | None,
    ) -> Started:
        """Set up what is shared, and fork.

        order: see `child.Life.live`. fds: descriptors for messages, stacks and the log. before: called here, just
        before the fork; first: called in the child, before the test. BlockingIOError: there can be no process more.
        """
        began = time.perf_counter()
        logs: list[logging.LogRecord] = []
        if order["fixtures"] == "shared":
            with self._capture.resumed(), _collected(logs):
                internals.set_up_wide(item, order["fresh"])
        wide = time.perf_counter() - began
        before()
        faulthandler.cancel_dump_traceback_later()
        internals.flush(self._config)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        thaw = gc.get_freeze_count() == 0
        if thaw:
            gc.freeze()
        try:
            pid = _fork()
            if not pid:
                self.life.live(item, order, fds, first, logs, mask)  # does not return
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        finally:
            if thaw:
                gc.unfreeze()
        # SIGINT stays blocked until the caller can end what was started
        self._mask = mask
        return Started(pid, wide)

    def unmask(self) -> None:
        """Signals come again; KeyboardInterrupt perhaps."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def taken_output(self) -> tuple[str, str]:
        """What is left of the test's output: all of its last phase, if that was not reported. It is gone then."""
        return self._capture.taken()

    def tear_down(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> tuple[BaseException | None, tuple[str, str]]:
        """What `nextitem` does not need. Returns the error, and what was written."""
        if not internals.is_anything_left(item, nextitem):
            return None, ("", "")
        error = None
        with self._capture.resumed():
            try:
                internals.tear_down(item, nextitem)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as found:
                if type(found).__name__ == "Exit":
                    raise
                error = found
        return error, self._capture.taken()


def _fork() -> int:
    with warnings.catch_warnings():
        # CPython 3.12 warns where there are other threads: the child's are not used, and xdist always has some
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class _Collects(logging.Handler):
    records: list[logging.LogRecord]

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def _collected(records: list[logging.LogRecord]) -> Any:
    """Log records of the block, for the child to show in the test's setup."""
    if "logging" not in sys.modules:
        yield
        return

    handler = _Collects(0)
    handler.records = records
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
