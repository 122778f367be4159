"""Where a session is, and what its machine orders."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """Where a session is. `messages.WORKER_MAY_SEND` has the same names."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    EXITING = "exiting"
    DEAD = "dead"


class Order(enum.Enum):
    """What the link is to do to the process."""

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"
    WAKE = "wake"  # out of a system call: text is to be written, or a signal has not been seen
    GIVE_ENDS = "give ends"  # to the session, for the clone that its call asks for
    TIDY = "tidy"  # checkpoints that are no longer needed
    CONFINE = "confine"  # have the kernel hold limits, as far as it can
    SAMPLE = "sample"  # look at what the session uses
