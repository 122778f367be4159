"""Batch: the items of one `map` of a pool: what is sent next, what has come back, in which order it is given out.

Pure: the colours run its chunks and wait. Input is consumed by whoever takes results, a bounded number of chunks ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ExtSessionError, SessionDied
from ..options import optional_seconds
from .call import Call
from .completion import Outcome
from .core import Core
from .travel import Function, Request

#: chunks, for each session of the pool, that are sent before the results of the first are taken
_AHEAD = 2


class Result:
    """What came of one item: a value, or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    @classmethod
    def of(cls, core: Core, call: Call) -> Result:
        """What came of a call that is over."""
        try:
            return cls(value_of(core, call))
        except BaseException as error:  # also KeyboardInterrupt: it is the code's
            return cls(error=error.with_traceback(None))  # its frames hold the session; the cause shows those there


class Chunk:
    """Consecutive items, run one after another in one session. done: how many are over."""

    def __init__(self, first: int, requests: list[Request | Result | None]) -> None:
        self.first = first
        self.requests = requests
        self.done = 0

    def next(self) -> Request | Result:
        """What is to be run now, or is over already."""
        request = self.requests[self.done]
        assert request is not None
        return request

    def advance(self) -> int:
        """That is over: its index in the batch."""
        self.requests[self.done] = None  # it may be large
        self.done += 1
        return self.first + self.done - 1

    @property
    def is_last(self) -> bool:
        """Whether `next` is the last one."""
        return self.done == len(self.requests) - 1

    @property
    def is_over(self) -> bool:
        return self.done == len(self.requests)


class Batch:
    """Items of `iterables`, each a call of `function`.

    Raises TypeError or ValueError for what cannot be; ValueRefused if the function cannot travel.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        *,
        chunksize: int,
        ordered: bool,
        timeout: float | None,
        size: int,
    ) -> None:
        if isinstance(chunksize, bool) or not isinstance(chunksize, int):
            raise TypeError(f"chunksize takes a number of items, not {chunksize!r}")
        if chunksize < 1:
            raise ValueError(f"chunksize takes a number of items from 1 up, not {chunksize}")
        if not iterables:
            raise TypeError("map takes at least one iterable")
        self.timeout = optional_seconds(timeout, "timeout")
        self.total = _length(iterables)
        self.completed = 0
        self._function = Function(function)
        self._input: Any = zip(*iterables, strict=False)
        self._chunksize = chunksize
        self._ordered = ordered
        self._most = _AHEAD * size * chunksize
        self._gathered: list[Request | Result | None] = []
        self._sent = 0  # items
        self._given = 0
        self._results: dict[int, Result] = {}  # that are there and have not been given out
        self._arrived: deque[int] = deque()  # their indices, as they came

    def next_chunk(self) -> Chunk | None:
        """What is to be sent now; None: nothing, for now or at all."""
        if self._input is None or self._sent - self._given + self._chunksize > self._most:
            return None
        requests = self._gathered  # kept: an interrupt may come out of the caller's iterable
        while len(requests) < self._chunksize:
            try:
                args = next(self._input)
            except StopIteration:
                self._input = None
                break
            except Exception as error:  # of the caller's iterable: raised where its item would have come
                self._input = None
                requests.append(Result(error=error))
                break
            try:
                requests.append(self._function.request(args, {}))
            except ExtSessionError as error:
                requests.append(Result(error=error))
        if not requests:
            return None
        self._gathered = []
        chunk = Chunk(self._sent, requests)
        self._sent += len(requests)
        return chunk

    def settle(self, index: int, result: Result) -> None:
        """An item is over."""
        self.completed += 1
        self._results[index] = result
        self._arrived.append(index)

    def end_input(self) -> None:
        """Take no more items."""
        self._input = None

    def take(self) -> Result | None:
        """The next result, if it is there."""
        if self._ordered:
            result = self._results.pop(self._given, None)
        else:
            result = self._results.pop(self._arrived.popleft()) if self._arrived else None
        if result is not None:
            self._given += 1
        return result

    @property
    def is_over(self) -> bool:
        """Whether all results were taken, and no more will come."""
        return self._input is None and self._given == self._sent


def value_of(core: Core, call: Call) -> Any:
    """As `core.value_of`, for a task: one that ends its session has no value, though it need not be an error there."""
    completion = call.completion
    if completion is not None and completion.outcome is Outcome.EXITED and call.error is None:
        text = f"{call.label} left with SystemExit({completion.exit_code})"
        if completion.survived:
            raise ExtSessionError(text)
        raise SessionDied(text, exit_code=completion.exit_code, running=call.label)
    return core.value_of(call)


def placed(error: BaseException) -> BaseException:
    """What an iterator raises for an item's error: one that would end the iteration is none here (as PEP 479)."""
    if not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    replaced = RuntimeError(f"the function raised {type(error).__name__}")
    replaced.__cause__ = error
    return replaced


def _length(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """How many items there are, where the iterables tell."""
    found = None
    for each in iterables:
        try:
            size = len(each)  # type: ignore[arg-type]
        except TypeError:
            continue
        found = size if found is None else min(found, size)
    return found
