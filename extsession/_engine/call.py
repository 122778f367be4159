"""A call: what was asked, what came back, who wants to know."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from .._protocol import messages
from .completion import Completion, Outcome, Step
from .output import Output


class State(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Call:
    """One request to a session. Changed by its SessionMachine only."""

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "completion",
        "deadline",
        "done",
        "error",
        "input_waiting",
        "label",
        "number",
        "output",
        "run",
        "state",
        "stdin",
        "steps",
        "stop_cause",
        "timeout",
        "value",
    )

    def __init__(self, number: int, run: messages.Run, label: str, timeout: float | None, limit: int | None) -> None:
        self.number = number
        self.run: messages.Run | None = run
        self.label = label  # what the user knows it by: its source
        self.timeout = timeout
        self.output = Output(number, limit)
        self.state = State.QUEUED
        self.deadline: float | None = None  # of the next step of the ladder
        self.steps: list[Step] = []
        self.stop_cause: Outcome | None = None  # why the ladder was begun
        self.stdin: Any = None  # see stdin.py
        self.input_waiting = False
        self.done: messages.Done | None = None
        self.value: tuple[int, bytes, Any] | None = None  # packed; see values.pack
        self.completion: Completion | None = None
        self.error: BaseException | None = None  # what ended it besides the code's own exception
        self._callbacks: list[Callable[[Call], Any]] | None = []

    @property
    def is_done(self) -> bool:
        return self.completion is not None

    def on_done(self, callback: Callable[[Call], Any]) -> bool:
        """Have `callback(call)` called once when the call is over; False: it is over already."""
        if self._callbacks is None:
            return False
        self._callbacks.append(callback)
        return True

    def take_callbacks(self) -> list[Callable[[Call], Any]]:
        taken, self._callbacks = self._callbacks or [], None
        return taken
