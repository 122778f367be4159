"""The asynchronous controllers, native to trio and usable from asyncio.

What may live here: waiting in tasks. What is decided while waiting is the engine's. `driver` waits, and is
the only module that knows which event loop it is; the rest is written on anyio.
"""

from __future__ import annotations

from .oneshot import AsyncExtEval, async_exteval, async_extexec
from .pool import AsyncSessionPool
from .results import AsyncExtResults
from .script import AsyncScriptRunner, async_run_script
from .session import AsyncExtSession

__all__ = [
    "AsyncExtEval",
    "AsyncExtResults",
    "AsyncExtSession",
    "AsyncScriptRunner",
    "AsyncSessionPool",
    "async_exteval",
    "async_extexec",
    "async_run_script",
]
