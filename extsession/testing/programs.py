"""A catalogue of misbehaving programs: what each does, and what is to become of it and its session.

What the entries say holds for a session on its own, of one call with the given `timeout` and a ladder with short steps.
Programs that take resources are bounded: none takes more than a few hundred MB or processes, and what they start
ends by itself after some seconds.
"""

from __future__ import annotations

from .damage import CHANNEL, CRASHES, INTERPRETER, OUTPUT, RESOURCES, SIGNALS
from .endless import PROCESSES, WILL_NOT_STOP
from .program import Program

#: all of them; their names differ
PROGRAMS: tuple[Program, ...] = (
    *WILL_NOT_STOP,
    *PROCESSES,
    *OUTPUT,
    *CHANNEL,
    *CRASHES,
    *SIGNALS,
    *RESOURCES,
    *INTERPRETER,
)

__all__ = ["PROGRAMS", "Program"]
