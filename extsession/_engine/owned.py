"""The sessions of this process, so that a process forked from it lets go of them.

A forked process that kept their descriptors would keep the sessions alive when their owner dies.
"""

from __future__ import annotations

import os
import weakref

from .core import Core

_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def add(core: Core) -> None:
    _cores.add(core)


def _let_go() -> None:
    for core in list(_cores):
        core.link.abandon()
    _cores.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
