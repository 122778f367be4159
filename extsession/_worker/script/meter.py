"""The budget of the run in progress: one per process, for one script runs at a time.

Plain lists and functions, because the compiled script does the same inline: `B[0]` are the cycles left, `D[0]` the
calls left. Once `B[0]` is negative it stays so: each tick raises again, so no handler and no `finally` gets the
script on.
"""

from __future__ import annotations

from . import costs
from .errors import Aborted, OverBudget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: cycles left
B: list[int] = [0]
#: calls left
D: list[int] = [0]


class State:
    """The rest of what is known of the run in progress."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.running = False
        self.limit = 0
        self.over: str | None = None  # the limit that was spent first
        self.spent = 0  # cycles when it was
        self.message = ""
        self.aborted: BaseException | None = None  # what `ask` or `write` raised
        self.output = 0  # bytes that print() may still write
        self.write: Any = None
        self.hashes: dict[int, Any] = {}  # keys that an author could have made collide: the first of each hash
        self.collisions: dict[int, int] = {}
        self.lines: dict[int, int] = {}
        self.line = 0
        self.ticked = 0  # cycles that are in `lines` already


STATE = State()


def begin(cycles: int, output: int, depth: int) -> None:
    B[0] = cycles
    D[0] = depth
    STATE.reset()
    STATE.limit = cycles
    STATE.output = output
    STATE.running = True


def spent() -> int:
    """Cycles used so far; once a limit is spent, those used until then."""
    return STATE.spent if STATE.over else STATE.limit - B[0]


def over(limit: str = "cycles", message: str = "") -> NoReturn:
    """End the script: now, and at each tick that it still reaches."""
    if STATE.over is None:
        STATE.spent = STATE.limit - B[0]
        STATE.over = limit
        STATE.message = message or "the script used more than its %d cycles" % STATE.limit
    if B[0] >= 0:
        B[0] = -1
    raise OverBudget


def deep() -> NoReturn:
    over("depth", "functions call each other too deeply")


def abort(error: BaseException) -> NoReturn:
    """End the script because the host could not be asked."""
    STATE.aborted = STATE.aborted or error
    if B[0] >= 0:
        B[0] = -1
    raise Aborted


def fatal() -> NoReturn:
    """In a handler that the compiler adds to each `try`: what no script may catch."""
    over("memory", "the script used too much memory")


def spend(cycles: int) -> None:
    B[0] = left = B[0] - cycles
    if left < 0:
        over()


def tick(cycles: int) -> bool:
    """A tick inside an expression."""
    B[0] = left = B[0] - cycles
    if left < 0:
        over()
    return True


def enter(cycles: int) -> bool:
    """A tick at the begin of a lambda that calls something. `leave` is its end; handlers put `D` right otherwise."""
    B[0] = left = B[0] - cycles
    if left < 0:
        over()
    D[0] = deeper = D[0] - 1
    if deeper < 0:
        deep()
    return True


def leave(value: Any) -> Any:
    D[0] += 1
    return value


def tick_lines(cycles: int, lines: tuple[tuple[int, int], ...]) -> None:
    """The tick of a block where the cost of each line is wanted."""
    at_line(STATE.line)
    STATE.ticked += cycles
    found = STATE.lines
    for line, cost in lines:
        found[line] = found.get(line, 0) + cost
    spend(cycles)


def at_line(line: int) -> None:
    """What guards have charged since the last call belongs to the line before."""
    cycles = spent() - STATE.ticked
    if cycles > 0:
        STATE.ticked += cycles
        STATE.lines[STATE.line] = STATE.lines.get(STATE.line, 0) + cycles
    STATE.line = line


def text_size(size: int) -> None:
    """Charge for a text of this size before it is made."""
    if size > costs.MAX_TEXT:
        # without the size: it may have thousands of digits
        raise OverflowError("the text would be too long: at most %d characters" % costs.MAX_TEXT)
    B[0] = left = B[0] - (size >> costs.TEXT)
    if left < 0:
        over()


def item_count(count: int) -> None:
    """Charge for a collection of this size before it is copied."""
    if count > costs.MAX_ITEMS:
        raise OverflowError("there would be too many elements: at most %d" % costs.MAX_ITEMS)
    B[0] = left = B[0] - (count >> costs.ITEMS)
    if left < 0:
        over()
