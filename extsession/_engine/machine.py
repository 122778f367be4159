"""SessionMachine: the state of one session, without descriptor, clock, lock or thread.

In go what a user asks, frames, text, the end of the process, and the time. Out come bytes to send
(`outgoing`), orders for the process (`orders`) and events for whoever listens. The link and the colours
carry these in and out; a rule that sync and async share is written here.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from .._launch.base import ExitReport
from .._launch.template import isolation_unavailable
from .._protocol import messages
from .._protocol.faults import ProtocolFault
from .._protocol.frames import pack_frame, pack_header
from .._protocol.records import ErrorInfo
from ..errors import (
    CallCancelled,
    ExtSessionError,
    RemoteProtocolError,
    SessionClosed,
)
from ..options import Ladder
from . import reasons
from .asking import Asking
from .call import Call, State
from .completion import Completion, Outcome, Step, Usage
from .endings import Endings
from .limited import Limited
from .limits import Breach, Rules
from .merge import Merger
from .orders import Order as Order
from .orders import Phase as Phase
from .output import STREAM_NAMES, Output, OutputChunk, RichOutput, Unread
from .recovery import Recovery
from .said import Said
from .stdin import InputCallback, LineSource

#: seconds that an exec'ed or confused process may live on after it closed the channel with no call running
_GRACE_AFTER_EOF = 1.0
#: seconds without output after which a worker that collects the text of a flood is asked for it
FLOOD_SILENCE = 0.02
#: seconds after an interrupt when the code is woken, if it still runs then. A signal that comes between the
#: interpreter's look for one and the system call that the code blocks in is not seen before that call ends: once in
#: a thousand interrupts of a call that has just begun. What it waits for then is any other signal.
WAKES = (0.02, 0.1, 0.5, 2.0)
#: completions kept for readcodes()
_REMEMBERED = 10_000


class SessionMachine(Endings, Asking, Limited):
    """One session's calls, in order, and how they end.

    token: of the barriers; python: the interpreter's name for errors; start_timeout: seconds until Ready.
    """

    def __init__(
        self,
        *,
        token: bytes,
        python: str,
        command: list[str],
        first: bytes,
        now: float,
        start_timeout: float | None,
        ladder: Ladder,
        recovery: Recovery | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.phase = Phase.STARTING
        self.ready: dict[str, Any] | None = None
        self.incarnation = 1  # how many processes the session has been, with this one
        self.outgoing: deque[Any] = deque([first])
        self.orders: list[Order] = []
        self.finished: list[Call] = []  # over since the last look: callbacks to be called
        self.listeners: list[deque[OutputChunk]] = []  # of the event stream
        self.codes: deque[Completion] = deque(maxlen=_REMEMBERED)  # for readcodes()
        self.unread = Unread()  # for readline()
        self.said = Said()
        self.lines = LineSource()  # from writeline()
        self.input_callback: InputCallback | None = None
        self.error: ExtSessionError | None = None  # why the session is dead
        self.report: ExitReport | None = None
        self.current: Call | None = None
        self.draining: messages.Done | None = None
        self.exit_output = Output(0, None)
        self.closed = False  # by its user, who is told so if he goes on using it
        self.attended = False  # somebody waits for a result right now
        self.bytes_in = 0
        self.flooding: float | None = None  # the worker collects text; when to ask for it
        self.outlived = False  # threads, tasks or processes of earlier calls may still write
        self.ladder = ladder
        self.recovery = recovery
        self.rules = rules
        self.unlimited = None
        self._start_timeout = start_timeout
        self._python = python
        self._command = command
        self._queue: deque[Call] = deque()
        # late output is added to a call as long as somebody holds its results
        self._calls: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()
        self._last: Call | None = None  # the call that ran last
        self._count = 0
        self._deadline = None if start_timeout is None else now + start_timeout
        self._exit_code: int | None = None  # asked for
        self._ended_by: Outcome | None = None
        self._eof = False
        self._broken = False  # it broke the protocol
        # how the process ended that another one is to take the place of, and in which call: told when that is there
        self._fallen: tuple[ExitReport, Call | None, Breach | None] | None = None
        self._fell: tuple[float, Usage | None] = (0.0, None)  # when that was, and what the call had taken
        self._known_cpu = 0.0  # seconds that the calls of this process have used
        self._done_error: ErrorInfo | None = None  # what `draining` tells of
        self._merger = Merger(token, self._text, self._place)
        self._placed: dict[int, int] = {}
        self._unplaced: dict[int, RichOutput] = {}
        self._startup = bytearray()

    # what users ask

    def submit(self, run: messages.Run, label: str, timeout: float | None, limit: int | None) -> Call:
        """Queue a call. SessionClosed or SessionDied if there is nothing to run it."""
        self.require_alive()
        self._count += 1
        call = Call(self._count, run, label, timeout, limit)
        self._queue.append(call)
        return call

    def start_plain(self, source: str, limit: int | None, now: float) -> Call | None:
        """As submit() and advance() for a call that has only a source, where it is its turn at once.

        Its frame is to be sent by who calls this. None: it is not its turn, or something is wrong.
        """
        if self.phase is not Phase.IDLE or self._queue or self.error is not None:
            return None
        self._count = number = self._count + 1
        self.current = self._last = call = Call(number, None, source, None, limit)
        call.state = State.RUNNING
        call.began = now
        if self.rules is not None:
            self.unlimited = call
        self.said.turn()
        self.phase = Phase.RUNNING
        return call

    def plain_done(self, frame: bytes) -> bool:
        """Whether `frame` is the plain end of the running call, which is `draining` then."""
        call = self.current
        if call is None or self.phase is not Phase.RUNNING or self.draining is not None or self._broken:
            return False
        self.draining = messages.unpack_plain_done(frame, call.number)
        if self.draining is None:
            return False
        self.flooding = None
        self.outlived = False
        return True

    def continue_from(self, number: int, incarnation: int = 1) -> None:
        """The session has a past: its calls, and the processes that it was, are counted on from there."""
        self._count = number
        self.incarnation = incarnation

    @property
    def count(self) -> int:
        """The number of the last call."""
        return self._count

    def give_way(self, why: str) -> None:
        """Another process takes the place of this one: calls that are not over end with SessionClosed."""
        self.closed = True
        if self.error is None:
            self.error = SessionClosed(why)

    def require_alive(self) -> None:
        if self.closed and not isinstance(self.error, SessionClosed):
            raise SessionClosed("the session was closed")
        if self.error is not None:
            raise self.error
        if self.phase in (Phase.DEAD, Phase.EXITING):
            raise SessionClosed("the session has ended")

    def advance(self, now: float) -> None:
        """Send the next call if it is its turn."""
        if self.phase is not Phase.IDLE or self.error is not None:
            return
        if self._queue:
            call = self._queue.popleft()
            self.phase = Phase.RUNNING
            self.current = call
            call.state = State.RUNNING
            call.began = now
            if call.branch is None:
                self.said.turn()
                self._last = call
            if call.timeout is not None:
                call.deadline = now + call.timeout
            if self.rules is not None:
                self._begin_limits(call, self.rules, now)
            assert call.run is not None
            self._send_pieces(messages.RUN, call.number, call.run.encode())
            call.run = None
            if call.to_interrupt:
                self.interrupt(now, call)
        elif self._exit_code is not None:
            self.phase = Phase.EXITING
            self.outgoing.append(pack_frame(messages.EXIT, 0, messages.pack_exit(self._exit_code)))

    def exit(self, code: int) -> None:
        """End the session as an interpreter ends, after the calls that are queued."""
        if self._exit_code is None:
            self._exit_code = code

    def cancel(self, call: Call) -> bool:
        """Take a call out of the queue; False if it is running or over."""
        if call.state is not State.QUEUED:
            return False
        try:
            self._queue.remove(call)
        except ValueError:
            return False
        call.error = CallCancelled(f"call {call.number} was cancelled before its turn")
        self._complete(call, Completion(call.number, Outcome.CANCELLED))
        return True

    def interrupt(self, now: float, call: Call | None = None) -> bool:
        """Interrupt the running call (only `call`, if given); False if it does not run."""
        current = self.current
        if current is not None and current.hidden and call is not current and self._queue:
            following = self._queue[0]  # which would run already, were there no checkpoint to be made
            following.to_interrupt = call is None or call is following
            return following.to_interrupt
        if current is None or self.draining is not None:
            return False
        if current.hidden if call is None else call is not current:
            return False
        self.outgoing.append(pack_frame(messages.INTERRUPT, current.number))
        self.orders.append(Order.INTERRUPT)
        current.wakes = [now + delay for delay in WAKES]
        return True

    def stop(self, call: Call, now: float, cause: Outcome) -> None:
        """Begin the ladder for a running call: interrupt first."""
        if call is not self.current or call.stop_cause is not None:
            return
        call.stop_cause = cause
        if self.interrupt(now, call):
            call.steps += (Step.INTERRUPT,)
            call.deadline = now + self.ladder.interrupt

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM)."""
        if self.phase is not Phase.DEAD:
            self._ended_by = Outcome.KILLED
            self.orders.append(Order.TERMINATE)

    def kill(self) -> None:
        """End the session and all it started."""
        if self.phase is not Phase.DEAD:
            self._ended_by = self._ended_by or Outcome.KILLED
            self.orders.append(Order.KILL)

    # what arrives

    def on_frame(self, kind: int, number: int, body: Any, now: float) -> None:
        """A frame from the worker. One that may not come now ends the session, and no later one is believed."""
        if self._broken:
            return
        try:
            if kind not in _MAY_SEND[self.phase]:
                raise ProtocolFault(f"{messages.NAMES[kind]} while {self.phase.value}")
            if kind == messages.DONE:
                self._on_done(number, messages.Done.decode(body))
            elif kind == messages.LATE:
                stream, data = messages.unpack_stream(body)
                self._late(number, stream, data)
            elif kind == messages.INPUT:
                self._on_input(number, bytes(body), now)
            elif kind == messages.READY:
                self._on_ready(messages.unpack_ready(body), now)
            elif kind == messages.PIPES:
                self._running(number, "Pipes")
                self.flooding = now + FLOOD_SILENCE
            elif kind == messages.ASK:
                self._on_ask(number, bytes(body))
            elif kind == messages.DISPLAY:
                self._on_display(number, *messages.unpack_display(body))
            elif kind == messages.CLONING:
                self._on_cloning(self._running(number, "Cloning"))
        except ProtocolFault as fault:
            self.on_fault(fault)

    def on_text(self, stream: int, data: bytes, now: float) -> None:
        """Bytes from a text pipe of the session."""
        self.bytes_in += len(data)
        if self.flooding is not None:
            self.flooding = now + FLOOD_SILENCE
        self._merger.feed(stream, data)

    def take_switch(self) -> int:
        """The number of the pipe that stdout goes on in, if it has come to such a mark; else 0."""
        switched, self._merger.switched = self._merger.switched, 0
        return switched

    def on_side_text(self, stream: int, data: bytes) -> None:
        """Bytes from a pipe that was stdout earlier in the running call."""
        self.bytes_in += len(data)
        self._text(stream, data)

    def on_old_text(self, call: int, stream: int, data: bytes) -> None:
        """Bytes from a pipe of a call that is over."""
        self.bytes_in += len(data)
        self._late(call, stream, data)

    def on_new_pipe(self, stream: int) -> None:
        """The text of a stream goes on in another pipe."""
        self._merger.close_stream(stream)

    def on_drained(self, now: float) -> None:
        """All that was written before Done has been given in: the call is over."""
        done, call = self.draining, self.current
        assert done is not None and call is not None
        self._merger.settle()
        if self._broken:
            self.draining = None
            return  # the call ends with the process
        if done.flags & messages.LEAVING:
            # the interpreter may still print while it ends: the call is over with the process
            self.draining = None
            call.done = done
            self.phase = Phase.EXITING
            return
        self.draining = None
        self.current = None
        self.phase = Phase.IDLE
        if done.flags:  # something may still write for it
            self._calls[call.number] = call
        self._settle(call, done)
        if self.rules is not None:
            if self.unlimited is not None:  # over before anybody has looked
                self.unlimited = None
                self.rules.on_short_call(call.began)
            self.rules.on_idle(now, bool(done.flags))
        if self.recovery is not None:
            self._protect(call)
        self.advance(now)

    def on_eof(self, now: float) -> None:
        """The channel ended. That is not the end of the process: it may have exec'ed another program."""
        if self._eof or self.phase is Phase.DEAD:
            return
        self._eof = True
        if self.phase in (Phase.STARTING, Phase.IDLE) or self.current is None:
            self._deadline = now + _GRACE_AFTER_EOF

    def on_time(self, now: float) -> None:
        """Let deadlines fire. What had arrived before must have been given in."""
        if self.unlimited is not None:
            self.begin_limits()
        call = self.current
        if call is not None and call.deadline is not None and now >= call.deadline and self.draining is None:
            self._climb(call, now)
        if call is not None and call.wakes and now >= call.wakes[0]:
            call.wakes = [when for when in call.wakes if when > now]
            self.orders.append(Order.WAKE)
        if call is not None and call.input_waiting:
            self._answer(call, now)
        if self.rules is not None:
            self._look_at_limits(self.rules, now)
        if self.flooding is not None and now >= self.flooding:
            self.flooding = now + FLOOD_SILENCE * 10  # it may be deep in C code
            self.orders.append(Order.WAKE)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            if self.phase is Phase.STARTING and self.error is None and self._fallen is None:
                what = "was not there in time"
                self.error = reasons.not_started(self._python, self._command, what, self._printed())
            self.orders.append(Order.KILL)

    def next_deadline(self) -> float | None:
        """When on_time() is to be called, at the latest."""
        if self.unlimited is not None:
            self.begin_limits()
        found = self._deadline
        call = self.current
        if call is not None:
            wake = call.wakes[0] if call.wakes else None
            for each in (call.deadline, wake, self.flooding, call.stdin.until if call.input_waiting else None):
                if each is not None and (found is None or each < found):
                    found = each
        if self.rules is not None:
            due = self.next_look()
            if due is not None and (found is None or due < found):
                found = due
        return found

    @property
    def has_queue(self) -> bool:
        """Whether calls wait for their turn."""
        return bool(self._queue)

    @property
    def is_busy(self) -> bool:
        """Whether something is expected of the session: calls, its start, or its end."""
        return bool(
            self.current is not None
            or self._queue
            or self.outgoing
            or self.phase in (Phase.STARTING, Phase.EXITING)
            or self._deadline is not None
        )

    @property
    def is_ending(self) -> bool:
        """Whether the process was told to end and has not ended yet."""
        is_over = self._ended_by is not None or (self.rules is not None and self.rules.breach is not None)
        return is_over and self.phase is not Phase.DEAD

    @property
    def was_ended(self) -> bool:
        """Whether it was told to end, by its user."""
        return self._ended_by is not None or self._exit_code is not None

    # what the worker says

    def _on_ready(self, fields: dict[str, Any], now: float) -> None:
        pid = fields.get("pid")
        # signals will be sent to it: 0 and -1 mean others than the session
        if fields.get("protocol") != messages.VERSION or type(pid) is not int or not 1 < pid < 2**31:
            raise ProtocolFault("Ready of another protocol")
        self.ready = fields
        if "denied" in fields:
            if self.error is None:
                self.error = isolation_unavailable(self._python, fields)
            self.orders.append(Order.KILL)
            return
        if self.rules is not None:
            self.orders.append(Order.CONFINE)
            refused = self.rules.on_ready(fields, now)
            if refused is not None:
                self._refuse(refused.limit, str(fields.get("why")))
                return
        self.phase = Phase.IDLE
        self._deadline = None
        self._merger.settle()
        if self._fallen is not None:
            (report, fallen, breach), self._fallen = self._fallen, None
            if fallen is not None:
                error = self._died(report, fallen, recovered=True, breach=breach)
                self._end_current(fallen, report, *self._fell, error)
        if self.recovery is not None:
            if self.recovery.checkpoint is None:
                self._queue.appendleft(self.recovery.ask())
            self.recovery.is_tried = False
        self.advance(now)

    def _on_done(self, number: int, done: messages.Done) -> None:
        if self.draining is not None:
            raise ProtocolFault("Done after Done")
        self.flooding = None
        self._running(number, "Done")
        extra = done.extra or {}
        if type(extra.get("exit", 0)) is not int:
            raise ProtocolFault("Done with an exit status that is none")
        self._done_error = ErrorInfo.from_wire(extra["error"]) if "error" in extra else None
        self.draining = done
        self.outlived = bool(done.flags & (messages.OUTLIVED | messages.NEW_PIPES))

    def _on_cloning(self, call: Call) -> None:
        if call.branch is None or call.branch.asked:
            raise ProtocolFault("Cloning that nobody has asked for")
        call.branch.asked = True
        self.orders.append(Order.GIVE_ENDS)

    def _protect(self, call: Call) -> None:
        """Have a checkpoint made of the state that a call has left."""
        assert self.recovery is not None
        if call.hidden:
            try:
                self.recovery.take(call)
            except ProtocolFault as fault:
                self.on_fault(fault)
            self.orders.append(Order.TIDY)
        elif call.changes:
            self._queue.appendleft(self.recovery.ask())

    def _on_display(self, number: int, barrier: int, fields: dict[str, Any]) -> None:
        call = self._running(number, "Display")
        data, metadata, role = fields.get("data"), fields.get("metadata"), fields.get("role")
        if type(data) is not dict or type(metadata) is not dict or role not in ("result", "display"):
            raise ProtocolFault("Display with unknown fields")
        rich = RichOutput(str(role), data, metadata, len(call.output.events))
        call.output.displays.append(rich)
        if barrier in self._placed:
            rich.position = self._placed.pop(barrier)
        else:
            self._unplaced[barrier] = rich

    def _place(self, number: int) -> None:
        position = len(self.current.output.events) if self.current is not None else 0
        rich = self._unplaced.pop(number, None)
        if rich is not None:
            rich.position = position
        elif self.current is not None:
            self._placed[number] = position

    def _running(self, number: int, what: str) -> Call:
        call = self.current
        if call is None or call.number != number:
            raise ProtocolFault(f"{what} for call {number}, which does not run")
        return call

    def _climb(self, call: Call, now: float) -> None:
        """The time of a step is over: take the next one."""
        if not call.steps:
            self.stop(call, now, Outcome.TIMED_OUT if call.breach is None else Outcome.OVER_LIMIT)
        elif call.steps[-1] is Step.INTERRUPT:
            call.wakes = ()  # any signal will do
            call.steps += (Step.TERMINATE,)
            self.orders.append(Order.TERMINATE)
            call.deadline = now + self.ladder.terminate
        else:
            call.steps += (Step.KILL,)
            self.orders.append(Order.KILL)
            call.deadline = None

    def on_fault(self, fault: ProtocolFault) -> None:
        """The session broke the protocol: it is ended, and nothing else is harmed."""
        self._broken = True
        if self.error is None:
            self.error = RemoteProtocolError(f"the session broke the protocol: {fault}; it was ended")
        self.orders.append(Order.KILL)

    # output

    def _text(self, stream: int, data: bytes) -> None:
        if self.phase is Phase.STARTING:
            self._startup += data[: max(0, 65536 - len(self._startup))]
            self._keep(self.exit_output, stream, data)
        elif self.current is not None and self.current.branch is None:
            self._keep(self.current.output, stream, data)
        elif self.phase in (Phase.EXITING, Phase.DEAD):
            self._keep(self.exit_output, stream, data)
        else:
            self._keep(self.exit_output if self._last is None else self._last.output, stream, data)

    def _late(self, number: int, stream: int, data: bytes) -> None:
        call = self.current
        if call is None or call.number != number:
            call = self._calls.get(number)
        if call is not None:
            self._keep(call.output, stream, data)
        else:  # nobody holds its results any more
            self._tell(OutputChunk(STREAM_NAMES[stream], data, number, True))

    def _keep(self, output: Output, stream: int, data: bytes) -> None:
        if stream == messages.STDERR:
            self.said.add(data)
        chunk = output.add(stream, data)
        if chunk is not None:
            self._tell(chunk)

    def _tell(self, chunk: OutputChunk) -> None:
        """Those who listen to the session as a whole."""
        if chunk.stream == "stdout":
            self.unread.add(chunk.data)
        for listener in self.listeners:
            listener.append(chunk)

    def _printed(self) -> str:
        return self._startup.decode("utf-8", "replace")[-4000:]

    def _send_pieces(self, kind: int, call: int, pieces: list[Any]) -> None:
        if len(pieces) == 1:
            self.outgoing.append(pack_header(kind, call, len(pieces[0])) + pieces[0])
            return
        views = [memoryview(piece).cast("B") for piece in pieces]
        self.outgoing.append(pack_header(kind, call, sum([view.nbytes for view in views])))
        self.outgoing.extend(views)


_MAY_SEND = {phase: frozenset(messages.WORKER_MAY_SEND.get(phase.value, ())) for phase in Phase}
