"""How a call is carried out: what is typed, what is waited for, and whose is what is printed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from .._engine.completion import Outcome
from .._launch.terminal import TerminalProcess
from ..errors import IncompleteSource, Killer
from .definitions import Definition, Tags
from .results import Call
from .steps import Keeper, Steps
from .wire import NOTHING, OUTPUT, Search, Wire

#: seconds of silence after which a prompt that is not ours alone is believed
_SETTLED: Final = 0.05
#: seconds for the prompt after each attempt to leave source that is not complete
_WAY_OUT: Final = 0.5
#: seconds for an answer to nothing before it is asked again, the first time, and at most
_PATIENCE: Final = 0.25
_LONG: Final = 1.0


class Turns:
    """Carries out calls, one at a time. pexpect.EOF: the program has ended meanwhile."""

    def __init__(
        self,
        wire: Wire,
        process: TerminalProcess,
        definition: Definition,
        encoding: str,
        steps: Steps,
        keeper: Keeper,
    ) -> None:
        self.stale: list[re.Pattern[bytes]] = []  # prompts of ours that are no output
        self._wire = wire
        self._process = process
        self._definition = definition
        self._encoding = encoding
        self._steps = steps
        self._keeper = keeper

    def begin(self) -> None:
        """See the program to its first prompt."""
        for line in self._definition.setup:
            self._wire.type(line.encode() + b"\n")
        if self._definition.prompt is None:
            self.agree()
        else:
            nobody = self._nobody()
            self._await(nobody, self._search(nobody), self._keeper.print_before)

    def agree(self, longest: float | None = None) -> None:
        """Have the program carry out nothing at all, and again until it answers: it is at its prompt then.

        A line may be lost at the start, and after an interrupt: a shell that has been hit between two calls throws away
        what it reads next. longest: seconds, after which it is killed.
        """
        began, pause = time.monotonic(), _PATIENCE
        while True:
            call = self._nobody()
            for data, search in self._handshake(call.tags):
                self._wire.type(data)
                until = time.monotonic() + pause
                event = OUTPUT
                while event < 0 and time.monotonic() < until:
                    event, printed = self._wire.next(search, until)
                    if event == OUTPUT:
                        self._keeper.print_before(printed)
                if event < 0:
                    break
            else:
                return
            pause = min(pause * 2, _LONG)
            if longest is not None and time.monotonic() > began + longest:
                self._keeper.kill_for(Killer.PROTOCOL)
                longest = None  # its end is seen in `next`

    def _handshake(self, tags: Tags) -> list[tuple[bytes, Search]]:
        """What is typed, and what then has to come."""
        wrap = self._definition.wrap
        if wrap is None:
            return [(self._arming(tags), self._search(self._nobody(tags)))]
        start = tags.start.encode()
        lines = b"".join(line + b"\n" for line in wrap(b"", tags))
        return [(lines, Search((re.compile(re.escape(start)), start))), (b"", self._end_of(tags))]

    def carry_out(self, call: Call) -> Outcome:
        """Have a call's lines carried out, up to its last prompt."""
        self._keeper.on_turn(call)
        if call.timeout is not None:
            call.deadline = call.began + call.timeout
        if self._process.is_echoing():  # the code of a call has switched it on
            self._process.stop_echo()
        definition = self._definition
        if call.is_exit:
            for line in call.lines:
                self._wire.type(line + b"\n" if line else b"\x04")
            while True:
                self._wire.next(Search(), None)
        if definition.wrap is not None:
            self._turn_wrapped(call)
        else:
            self._turn_typed(call)
        return Outcome.INTERRUPTED if call.interrupted else Outcome.FINISHED

    def _turn_wrapped(self, call: Call) -> None:
        tags = call.tags
        for line in call.lines:
            self._wire.type(line + b"\n")
        start = tags.start.encode()
        self._await(call, Search((re.compile(re.escape(start)), start)), self._keeper.print_before)
        call.takes_input, call.typed = True, time.monotonic()
        search = self._end_of(tags, lambda data: self._keeper.hold(call, data))
        _, found = self._await(call, search, lambda data: self._keeper.print_in(call, data))
        call.status = int(found.split(b":")[1])

    def _turn_typed(self, call: Call) -> None:
        """Piece by piece, each at a prompt; what is printed in between is output, the prompts are not."""
        definition, tags = self._definition, call.tags
        search = self._search(call)
        if definition.arm:
            self._wire.type(self._arming(tags))
            self._await(call, search, self._keeper.print_before)
        index = 0
        for number, line in enumerate(call.lines, 1):
            self._wire.type(line + b"\n")
            call.typed = time.monotonic()
            call.takes_input = number == len(call.lines)
            index, _ = self._await(call, search, lambda data: self._keeper.print_in(call, data))
            if call.interrupted or call.cause is not None:  # what is left of it would run on its own
                break
        if index == 1:
            self._leave_unfinished(call, search)

    def _leave_unfinished(self, call: Call, search: Search) -> None:
        """The last prompt was that inside of something: get out, or end the program, and say so."""
        definition = self._definition
        call.is_unfinished = True  # should the program end of this
        ways: list[str | None] = [None, None, None] if definition.abort_interrupts else []
        ways += definition.abort
        for way in ways:
            if way is None:
                self._pass(search, definition.interrupt_after)  # it is to be at its prompt
                self._steps.interrupt(call)
            else:
                self._wire.type(way.encode() + b"\n")
            until = time.monotonic() + _WAY_OUT
            while time.monotonic() < until:
                event, _ = self._wire.next(search, until)
                if event == 0:
                    call.is_unfinished = False
                    raise IncompleteSource(f"the source of call {call.number} is not complete", source=call.source)
                if event == 1 and way is not None:
                    break  # still inside
        self._keeper.kill_for(Killer.PROTOCOL)
        self._await(call, search, lambda data: None)

    def _pass(self, search: Search, pause: float) -> None:
        until = time.monotonic() + pause
        while time.monotonic() < until:
            self._wire.next(search, until)

    def _await(self, call: Call, search: Search, give: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Wait for a pattern: its number, and what has matched. What comes before it goes to `give`."""
        while True:
            self._steps.look_after(call)
            event, data = self._wire.next(search, self._steps.next_deadline(call))
            if event >= 0 and search.at_end and not self._is_settled(data):
                event, data = OUTPUT, b""
            if event == OUTPUT:
                give(data)
            elif event != NOTHING:
                self._keeper.hold(call, b"")
                return event, data

    def _is_settled(self, prompt: bytes) -> bool:
        """Whether nothing comes after it. Else all of it is looked at again."""
        until = time.monotonic() + _SETTLED
        while time.monotonic() < until:
            event, data = self._wire.next(Search(), until)
            if event == OUTPUT:
                self._wire.put_back(prompt + data)
                return False
        return True

    def _nobody(self, tags: Tags | None = None) -> Call:
        """A call that is none of the user's."""
        return Call(0, "", [], tags or Tags.new(), None, None)

    def _end_of(self, tags: Tags, on_held: Callable[[bytes], None] | None = None) -> Search:
        """For the prompt of a wrapped call: after a status."""
        head = tags.prompt.encode()
        prompt = re.compile(re.escape(head) + rb":(\d+):")
        self.stale = [*self.stale[-1:], prompt]
        return Search((prompt, head), on_held=on_held)

    def _arming(self, tags: Tags) -> bytes:
        self.stale = [re.compile(re.escape(each.encode())) for each in (tags.prompt, tags.more)]
        return self._definition.arm.format(prompt=tags.prompt, more=tags.more).encode() + b"\n"

    def _search(self, call: Call) -> Search:
        """For the prompt, 0, and that inside of what is not complete, 1."""
        definition = self._definition

        def held(data: bytes) -> None:
            self._keeper.hold(call, data)

        if definition.arm:
            heads = [each.encode() for each in (call.tags.prompt, call.tags.more)]
            return Search(*((re.compile(re.escape(head)), head) for head in heads), on_held=held)
        found = []
        for given in (definition.prompt, definition.more):
            if given is not None:
                text, flags = (re.escape(given), 0) if isinstance(given, str) else (given.pattern, given.flags)
                bytes_ = f"(?:{text})\\Z".encode(self._encoding)
                found.append((re.compile(bytes_, flags & ~re.UNICODE), b""))
        return Search(*found, at_end=True, on_held=held)
