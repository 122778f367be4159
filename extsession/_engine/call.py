"""A call: what was asked, what came back, who wants to know."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._protocol import messages
from .completion import Completion, Outcome, Step
from .output import Output

if TYPE_CHECKING:
    from .branch import Branch
    from .limits import Breach


class State(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Call:
    """One request to a session. Changed by its SessionMachine only."""

    began = 0.0  # when its turn came
    deadline: float | None = None  # of the next step of the ladder
    steps: tuple[Step, ...] = ()
    stop_cause: Outcome | None = None  # why the ladder was begun
    breach: Breach | None = None  # the limit that is the cause
    stdin: Any = None  # a CallStdin, if the call brings one or asks for input
    input_waiting = False
    host: Any = None  # calls a function of ours for the code: (name, args, kwargs) -> body of ANSWER, or awaitable
    question: tuple[str, list[Any], dict[str, Any]] | None = None  # what the code waits for such a function to say
    asks = False  # and nobody has called it yet
    done: messages.Done | None = None
    branch: Branch | None = None  # the clone that it asks for
    hidden = False  # none of the user's
    to_interrupt = False  # as soon as it runs
    wakes: Sequence[float] = ()  # when to wake the code, which may not have seen its interrupt
    changes = False  # it may change the state of the session
    value: tuple[int, bytes, Any] | None = None  # packed; see pickles.pack
    completion: Completion | None = None
    error: BaseException | None = None  # what to raise for it
    state = State.QUEUED
    _callbacks: list[Callable[[Call], Any]] | None = None

    def __init__(
        self, number: int, run: messages.Run | None, label: str, timeout: float | None, limit: int | None
    ) -> None:
        self.number = number
        self.run = run
        self.label = label  # what the user knows it by: its source
        self.timeout = timeout
        self.output = Output(number, limit)

    @property
    def has_callbacks(self) -> bool:
        return self._callbacks is not None

    @property
    def is_done(self) -> bool:
        return self.completion is not None

    def on_done(self, callback: Callable[[Call], Any]) -> bool:
        """Have `callback(call)` called once when the call is over; False: it is over already."""
        if self.completion is not None and self._callbacks is None:
            return False
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)
        return True

    def take_callbacks(self) -> list[Callable[[Call], Any]]:
        taken, self._callbacks = self._callbacks, None
        return taken or []
