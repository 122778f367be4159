"""The session's main loop: read a message, act, reply.

Everything that the user's code could do to this process happens inside `_act`. Before it and after it the
process is ours: order of the steps in `_finish` is what the promise "complete when reported done" rests on.
"""

from __future__ import annotations

import os
import sys
from _signal import SIGINT  # type: ignore[import-not-found]
from _signal import default_int_handler as plain_handler
from _signal import signal as set_signal
from time import perf_counter

from .._protocol import messages
from .._protocol.faults import CannotTravel
from . import stdin
from .accounts import Accounts
from .evaluate import Evaluator, exit_status
from .trace import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from .channel import Channel
    from .family import Family
    from .streams import Router


#: of SIGINT: the interpreter's own, whatever is in its place in `_signal` later
PLAIN_HANDLER = plain_handler


class Clone(BaseException):
    """Raised in a clone of a session, to get out of what its original was doing."""


class Server:
    """One session: its channel, its streams, its namespace."""

    def __init__(self, channel: Channel, router: Router, namespace: dict[str, Any], registrar: int) -> None:
        self.channel = channel
        self.router = router
        self._registrar = registrar
        self._family: Family | None = None
        self.evaluator = Evaluator(namespace)
        self.pid = os.getpid()
        self.evaluator.router = router
        self.accounts = Accounts()
        self._rang = False  # an interrupt's signal came while nothing ran
        self._taking = False  # reads the channel in the signal handler
        self._again = False
        self._asking = False  # waits for input: an interrupt may be raised
        self._loaded = 0
        self._stdio: Any = None
        self._pack: Any = None  # loaded when first needed, and not looked up again
        self._repr: Any = None
        self._rich = False  # a call has asked for rich output
        self._stdin_encoding = ("utf-8", "strict")
        self.told: dict[str, Any] = {}  # what Ready says of limits

    def open_stdin(self, encoding: str, errors: str) -> None:
        self._stdin_encoding = (encoding, errors)
        sys.stdin = sys.__stdin__ = stdin.open_stdin(self, encoding, errors)  # type: ignore[misc]

    @property
    def family(self) -> Family:
        if self._family is None:
            from .family import Family

            self._family = Family(self._registrar, self.router)
        return self._family

    def say_ready(self) -> None:
        self.channel.send(messages.READY, 0, [messages.pack_ready(self.ready_fields())])

    def ready_fields(self) -> dict[str, Any]:
        out = self.router.text[messages.STDOUT]
        return {
            "protocol": messages.VERSION,
            "pid": self.pid,
            "version": list(sys.version_info[:3]),
            "implementation": sys.implementation.name,
            "executable": sys.executable or "",
            "prefix": sys.prefix,
            "platform": sys.platform,
            "encoding": out.encoding,
            "cpu_us": int(self.accounts.so_far * 1e6),
            **self.told,
        }

    def reborn(self, token: bytes) -> None:
        """In a clone, or before it is made: what is known of the original is forgotten."""
        self.pid = os.getpid()
        self.router.reborn(token)
        self._rang = self._taking = self._again = self._asking = False
        if self.evaluator.loop is not None:
            self.evaluator.loop.renew()

    def own_descriptors(self) -> list[int]:
        """Descriptors of ours, which a clone gets anew."""
        registrar = self._registrar if self._family is None else self._family.registrar
        return [*self.channel.descriptors(), registrar, *self.router.pipes.values()]

    def run(self) -> int:
        """Serve until the session ends; returns the exit status."""
        self._loaded = len(sys.modules)  # the interpreter's own: none of them prints by C
        while True:
            try:
                plain = self.channel.receive_plain()
                if plain is None:
                    kind, call, body = self.channel.receive()
            except (EOFError, OSError):
                return 0  # the controller is gone; the warden ends the rest
            if plain is not None:
                status = self._call(*plain)
                if status is not None:
                    return status
            elif kind == messages.RUN:
                status = self._call(call, messages.Run.decode(body))
                if status is not None:
                    return status
            elif kind == messages.EXIT:
                return messages.unpack_exit(body) & 0xFFFFFFFF
            # INTERRUPT, STDIN: for a call that is over

    def _call(self, call: int, run: messages.Run) -> int | None:
        """One call. Returns an exit status if the session ends with it."""
        evaluator = self.evaluator
        self.router.begin(call)
        evaluator.inside = True
        if self._rang:
            self._rang = False
            self.router.interrupted = call in (self._named() or ())
        if self.router.outlived:
            self.accounts.spent()  # by others, since the last call
        start = perf_counter()
        done = messages.Done(messages.FINISHED)
        status = None
        try:
            self._act(run, done)
            evaluator.inside = False
        except Clone:
            evaluator.inside = False
            return None  # another session's process: this call is none of its own
        except BaseException as error:
            evaluator.inside = False
            if os.getpid() != self.pid:
                return self._end_forked(error)
            status = self._failed(error, run, done)
        if os.getpid() != self.pid:
            return self._end_forked(None)
        if run.flags & messages.OWN_STDIN:
            self._reset_stdin()
        done.wall = perf_counter() - start
        self._finish(call, done)
        self.accounts.get_ready()
        return status

    def _act(self, run: messages.Run, done: messages.Done) -> None:
        evaluator = self.evaluator
        action = run.action
        if action == messages.EXEC:
            rich = run.flags & messages.WANT_MIME
            if rich and not self._rich:
                from .display import prepare_matplotlib

                self._rich = True
                prepare_matplotlib(os.environ, self.display)
            value = evaluator.run(run.source)
            if rich:
                self._show(value, done)
            elif value is not None and run.flags & messages.WANT_REPR:
                if self._repr is None:
                    from .display import safe_repr

                    self._repr = safe_repr
                done.extra = {"repr": self._repr(value)}
        elif action == messages.EVAL:
            self._reply(evaluator.evaluate(run.source), run, done)
        elif action == messages.BRANCH:
            from .branch import branch

            self._reply(branch(self, run), run, done)
        elif action == messages.SCRIPT:
            from .script.serve import run_script

            self._reply(run_script(self, run.data), run, done)
        else:
            from .requests import answer

            self._reply(answer(evaluator, run), run, done)

    def _reply(self, value: Any, run: messages.Run, done: messages.Done) -> None:
        """Put a value into the reply. Pickling it runs code of the user's classes."""
        if value is None:
            return
        if self._pack is None:
            from .._protocol.pickles import pack

            self._pack = pack
        kind, head, buffers = self._pack(value, bool(run.flags & messages.SAFE_ONLY))
        done.kind = kind
        done.head = head
        done.buffers = buffers

    def _show(self, value: Any, done: messages.Done) -> None:
        """Send the rich form of a value, and of the figures drawn, at their place in the output."""
        from . import display

        for data, metadata in display.figures(skip=value):
            self.display(data, metadata)
        if value is not None:
            data, metadata, failures = display.mime_bundle(value)
            self.display(data, metadata, "result")
            done.extra = {"repr": data.get("text/plain", "")}
            for name, error in failures:
                self.evaluator.report_text("%s failed: %s: %s\n" % (name, type(error).__name__, error))

    def display(self, data: dict[str, Any], metadata: dict[str, Any], role: str = "display") -> None:
        from .._protocol import values

        fields = {"role": role, "data": data, "metadata": metadata}
        try:
            body = values.encode(fields)
        except CannotTravel:
            fields["data"] = {key: value if type(value) is bytes else str(value) for key, value in data.items()}
            fields["metadata"] = {}
            body = values.encode(fields)
        self.router.flush()
        number = self.router.barrier(rich=True)
        self.channel.send(messages.DISPLAY, self.router.call, [number.to_bytes(8, "little"), body])

    def _failed(self, error: BaseException, run: messages.Run, done: messages.Done) -> int | None:
        """Report what left the code. Returns the exit status if it ends the session."""
        evaluator = self.evaluator
        status = None
        kind = type(error)  # not isinstance(): that asks the error, whose class may answer by raising
        if issubclass(kind, SystemExit):
            assert isinstance(error, SystemExit)
            status, text = exit_status(error)
            done.outcome = messages.EXITED
            if text is not None:
                evaluator.report_text(text)
            if run.flags & messages.KEEP_ON_EXIT:
                done.extra = {"exit": status}
                status = None
            else:
                done.flags |= messages.LEAVING
                done.extra = {"exit": status}
            return status
        if kind is CannotTravel:
            assert isinstance(error, CannotTravel)
            done.outcome = messages.REFUSED
            done.extra = {"type_name": error.type_name, "why": error.why}
            return None
        done.outcome = messages.INTERRUPTED if issubclass(kind, KeyboardInterrupt) else messages.FAILED
        quiet = run.action not in (messages.EXEC, messages.EVAL, messages.CALL)
        text = evaluator.report(error, quiet)
        from .._protocol.records import ErrorInfo

        info = ErrorInfo.from_exception(error, lambda _: text, evaluator.sources.__contains__)
        done.extra = {"error": info.to_wire()}
        return None

    def _finish(self, call: int, done: messages.Done) -> None:
        router = self.router
        router.flush()
        if len(sys.modules) != self._loaded:
            self._loaded = len(sys.modules)
            if self._stdio is None:
                from . import stdio

                self._stdio = stdio.attach()
        if self._stdio is not None:
            self._stdio.flush()
        loop = self.evaluator.loop
        router.note_survivors(call, loop is not None and loop.has_work())
        router.end()
        if router.outlived:
            done.flags |= messages.OUTLIVED
        fds: tuple[int, ...] = ()
        if done.flags & messages.LEAVING:
            # what the interpreter prints while it ends is this call's too
            router.call = call
        elif self.accounts.has_started_process():
            fds = self._new_pipes(done)
        done.cpu, done.peak_memory = self.accounts.spent()
        try:
            if fds or done.extra or done.buffers:
                self.channel.send(messages.DONE, call, done.encode(), fds)
            else:
                self.channel.send_frame(messages.pack_plain_done(call, done))
        except (OSError, ValueError):
            os._exit(70)  # nobody can be told anything any more
        for fd in fds:
            os.close(fd)

    def _new_pipes(self, done: messages.Done) -> tuple[int, ...]:
        try:
            out_read, out_write = os.pipe()
        except OSError:
            return ()
        try:
            err_read, err_write = os.pipe()
        except OSError:
            os.close(out_read)
            os.close(out_write)
            return ()
        self.router.renew({messages.STDOUT: out_write, messages.STDERR: err_write})
        done.flags |= messages.NEW_PIPES
        return (out_read, err_read)

    # input and interrupts

    def ask_for_input(self, password: bool) -> bytes:
        """A line for the code from the controller; b"" at the end of file."""
        self.router.flush()
        self.channel.send(messages.INPUT, self.router.call, [b"\1" if password else b"\0"])
        return self._answer(messages.STDIN)[1:]

    def ask_host(self, name: str, args: Any, kwargs: Any) -> Any:
        """What a function of the controller's says: plain data. EOFError: the controller is gone."""
        from .._protocol import values

        self.channel.send(messages.ASK, self.router.call, [values.encode([name, list(args), dict(kwargs)])])
        body = self._answer(messages.ANSWER)
        if not body:
            raise EOFError
        return values.decode(body)

    def _answer(self, wanted: int) -> bytes:
        """The body of the message that answers the running call; b"" if the controller is gone."""
        call = self.router.call
        poll = self.channel.poll()
        self._asking = True
        try:
            while True:
                if not self.channel.has_frames:
                    self._wait(poll)
                kind, about, body = self.channel.receive()
                if kind == wanted and about == call:
                    return bytes(body)
                if kind == messages.INTERRUPT and about == call:
                    raise KeyboardInterrupt
        except EOFError:
            return b""
        finally:
            self._asking = False

    def _wait(self, poll: Any) -> None:
        """Wait for a message. The one place in our code where an interrupt is raised: nothing is half done here."""
        router = self.router
        if router.interrupted:
            router.take_interrupt()
        poll.poll()

    def _reset_stdin(self) -> None:
        if getattr(sys, "stdin", None) is sys.__stdin__ is not None:
            self.open_stdin(*self._stdin_encoding)

    def install_handler(self) -> None:
        """Take SIGINT, as the interpreter's default handler.

        Code that puts the default handler back, as asyncio.run() does at its end, or that looks whether it is in
        place, as it does at its start, gets this one.
        """

        def default_int_handler(signum: int, frame: FrameType | None) -> None:
            self._on_sigint(signum, frame)

        default_int_handler.__doc__ = plain_handler.__doc__
        default_int_handler.__module__ = "signal"
        default_int_handler.__qualname__ = "default_int_handler"
        for name in ("_signal", "signal"):
            module = sys.modules.get(name)
            if module is not None:
                vars(module)["default_int_handler"] = default_int_handler
        set_signal(SIGINT, default_int_handler)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        """The bell. What it is about is in the channel; a signal from elsewhere has no message."""
        if os.getpid() != self.pid:
            plain_handler(signum, frame)
        if not self.evaluator.inside:
            self._rang = True  # for a call that is only just coming, perhaps
            return
        if self._asking:  # a message may be half read: only where nothing is, or where another thread reads it
            if frame is not None and (frame.f_code is _WAIT or not is_ours(frame)):
                raise KeyboardInterrupt
            self.router.interrupted = True
            return
        named = self._named()
        if named is None:
            return  # this handler interrupted itself: the first one sees to it
        if named and self.router.call not in named:
            return
        loop = self.evaluator.loop
        if loop is not None and loop.interrupt(frame):
            return
        if frame is not None and is_ours(frame) and frame.f_code not in _LAUNCH:
            self.router.interrupted = True
            return
        raise KeyboardInterrupt

    def _named(self) -> list[int] | None:
        """The calls that interrupts which have arrived are for. They are taken in with that.

        None: the signal came while this very function was reading the channel, and what it is about is found there.
        """
        if self._taking:
            self._again = True
            return None
        named: list[int] = []
        while True:
            self._taking = True
            self._again = False
            waiting = self.channel.arrived()
            named += [about for kind, about, _ in waiting if kind == messages.INTERRUPT]
            waiting[:] = [each for each in waiting if each[0] != messages.INTERRUPT]
            self._taking = False
            if not self._again:
                return named

    def _end_forked(self, error: BaseException | None) -> int:
        """A child that the code forked came back here: it ends as a script of its own would."""
        status = 0
        if isinstance(error, SystemExit):
            status, text = exit_status(error)
            if text is not None:
                self.evaluator.report_text(text)
        elif error is not None:
            self.evaluator.report(error)
            status = 1
        return status


_WAIT = Server._wait.__code__
_LAUNCH = (Evaluator._launch.__code__, Evaluator.call.__code__)
