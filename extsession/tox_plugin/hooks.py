"""What happens at tox's hooks, in environments that are run through extsession."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from tox.tox_env.api import ToxEnv

from . import internals, settings
from .executor import ToxExecute


class _InUse(NamedTuple):
    executor: ToxExecute
    put_back: Callable[[], None]


_lock = threading.Lock()  # run-parallel: each environment is a thread's
_in_use: dict[int, _InUse] = {}
_is_warned = False


def before_commands(tox_env: ToxEnv) -> None:
    """Its commands come now. Fail: its configuration makes no sense."""
    found = settings.read(tox_env)
    executor = tox_env.executor
    put_back: Callable[[], None] | None
    if isinstance(executor, ToxExecute):  # of our own runner
        put_back = _nothing
    else:
        executor = ToxExecute(tox_env.options.is_colored)
        put_back = internals.put_executor(tox_env, executor)
    if put_back is None:
        _warn_once(tox_env)
        return
    executor.begin(found)
    with _lock:
        _in_use[id(tox_env)] = _InUse(executor, put_back)


def done(tox_env: ToxEnv) -> None:
    """Nothing more is run in it. May be called more than once."""
    with _lock:
        used = _in_use.pop(id(tox_env), None)
    if used is not None:
        used.put_back()
        used.executor.end()


def _nothing() -> None:
    pass


def _warn_once(tox_env: ToxEnv) -> None:
    global _is_warned
    with _lock:
        is_first, _is_warned = not _is_warned, True
    if is_first:
        logging.warning(
            "extsession does not know the runner %s of tox %s: tox itself runs the commands",
            type(tox_env).__name__,
            internals.tox_version(),
        )
