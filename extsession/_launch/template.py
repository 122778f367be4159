"""A template, seen from the controller: a process that is cloned for each session that is like it.

It is started as a session is (`local.spawn`), with a warden as its parent, and its clones are children of that warden:
so it can end, or be killed, and they go on.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import select
import socket
import threading
import time
from typing import Any, NamedTuple

from .._protocol import messages
from .._protocol.faults import ProtocolFault
from .._protocol.frames import FrameDecoder
from ..errors import IsolationUnavailable, LaunchError
from . import ambient, environment, local
from .base import Spec
from .interpreter import Interpreter
from .stock import Stock

#: seconds without a start after which a template ends
IDLE = 300.0
#: seconds after that in which it must have ended, or somebody has stopped it
_OVERDUE = 10.0
#: variables that keep numerical libraries from starting threads when they are loaded, in the template only
_ONE_THREAD = dict.fromkeys(
    (
        b"OMP_NUM_THREADS",
        b"OPENBLAS_NUM_THREADS",
        b"MKL_NUM_THREADS",
        b"BLIS_NUM_THREADS",
        b"VECLIB_MAXIMUM_THREADS",
        b"NUMEXPR_NUM_THREADS",
        b"NUMBA_NUM_THREADS",
    ),
    b"1",
)
#: seconds after which somebody who waits for a template is asked whether it is still wanted
LOOK = 0.1
#: seconds in which a template must have made a session, or it is not asked again
_STUCK = 1.0
#: bytes of an order, at most: it is sent at once or not at all
_ROOM = 8192
#: bytes that are kept of what a template prints while it loads modules
_PRINTED = 16384


def variables_of_loading(
    env: dict[bytes, bytes], preload: tuple[str, ...]
) -> tuple[dict[bytes, bytes], dict[str, str | None]]:
    """(The environment to load modules in, what has to be changed when they are loaded)."""
    if not preload:
        return env, {}
    restore = {os.fsdecode(name): None if name not in env else os.fsdecode(env[name]) for name in _ONE_THREAD}
    return {**env, **_ONE_THREAD}, restore


class CannotServe(Exception):
    """There is no template for it now, or ever (`for_good`): the session is spawned."""

    def __init__(self, why: str = "", for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


class TemplateGone(Exception):
    """The template has ended, so it cannot be asked any more."""


class _Base(NamedTuple):
    """What a clone has when nothing is changed."""

    state: ambient.Ambient
    env: dict[bytes, bytes]


class Template:
    """A template process. Made by `start`. Safe to use from several threads."""

    def __init__(
        self, process: local.LocalProcess, interpreter: Interpreter, preload: tuple[str, ...], base: _Base
    ) -> None:
        self.interpreter = interpreter
        self.preload = preload
        self.pid = 0
        self.local = False  # it has loaded modules of the directory that was current then
        self.started = time.monotonic()
        self.used = self.started  # when a session was last made
        self.sessions = 0  # that were made
        self.is_over = False
        self.stock = Stock()
        self._process = process
        self._base = base
        self._is_stuck = False
        self._tended = self.started
        self._lock = threading.RLock()  # the collector may end a session in the middle of anything
        self._watched: tuple[str, ...] = ()
        self._stamps: Any = None

    def clone(self, spec: Spec, now: ambient.Ambient, env: dict[bytes, bytes], folder: int) -> local.LocalProcess:
        """Order a session; its process says Ready by itself. TemplateGone; OSError where there are no descriptors.

        folder: a descriptor of its current directory.
        """
        changes = {} if spec.walls else ambient.differences(now, self._base.state)
        if changes is None:
            raise TemplateGone("it may do less than the session has to")
        settings = marshal.dumps(
            {
                "token": spec.token,
                "template": self.pid,
                "changes": changes,
                "variables": environment.changes(env, self._base.env),
                **({"limits": dict(spec.limits)} if spec.limits else {}),
                **({"work": spec.work} if spec.work else {}),
                **({"command": dict(spec.command)} if spec.command else {}),
            },
            2,
        )
        message = len(settings).to_bytes(4, "little") + settings
        process = None if spec.walls else self.stock.take(message, folder)
        if spec.walls:
            process = self._make(message)
        elif process is None:
            if len(message) <= _ROOM - 8:
                process = self._make(message, folder)
            else:
                process = self._make_with(message, folder)
        self.sessions += 1
        self.used = time.monotonic()
        return process

    def _make_with(self, message: bytes, folder: int) -> local.LocalProcess:
        """As `_make` of a clone whose settings are too large for an order."""
        process = self._make()
        try:
            process.first = message[socket.send_fds(process.channel, [message], [folder]) :]
        except BaseException:
            process.discard()
            raise
        return process

    def fill_stock(self) -> None:
        """Make the spare sessions that are wanted."""
        if self.stock.most and not self.is_over:
            with contextlib.suppress(TemplateGone, OSError):  # who needs one then, finds out
                self.stock.fill(self._make)

    def _make(self, message: bytes = b"", *folder: int) -> local.LocalProcess:
        """Order a clone, with its settings; without, it waits for them."""
        process, mark, theirs = self._process.prepare_clone()
        ordered = time.monotonic()
        process.when_unanswered = lambda: self._was_silent(ordered)
        try:
            with self._lock:
                if self.is_over:
                    raise TemplateGone
                try:
                    order = mark.to_bytes(8, "little") + message
                    # without room: it is busy, or stopped, and this session is better spawned
                    socket.send_fds(self._process.channel, [order], (*theirs.numbers(), *folder))
                except (BrokenPipeError, ConnectionResetError):
                    raise TemplateGone from None
        except BaseException:
            process.discard()
            raise
        finally:
            theirs.close()
        return process

    def keep_ready(self, most: int) -> None:
        """Keep up to so many sessions ready."""
        self.stock.most = most
        self.stock.shrink(most)
        self.fill_stock()

    def _was_silent(self, since: float) -> None:
        """A session was given up before it was made."""
        if time.monotonic() - since > _STUCK:
            self._is_stuck = True

    def is_current(self) -> bool:
        """Whether what it has loaded is what would be loaded now."""
        if self.is_over or self._is_stuck or self._process.read_leash() is not None:
            return False
        return bool(self._stamps == ambient.stamps(self._watched))

    def end(self) -> None:
        """Let it end. Sessions that came of it go on."""
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
            self._process.channel.close()
        self.stock.shrink(0)
        self._process.let_go()

    def _stop(self) -> None:
        """It has not come to be one."""
        self.is_over = True
        self._process.kill_tree(None)
        self._process.discard()

    def abandon(self) -> None:
        """In a forked process: it belongs to the one that was forked."""
        self.is_over = True
        self._lock = threading.RLock()
        self.stock.abandon()
        self._process.disown()
        self._process.channel.close()
        self._process.let_go()

    def due(self) -> float:
        """When it may have ended for want of use, and is to be tended."""
        return max(self.used + IDLE, self._tended) + 1.0

    def tend(self) -> None:
        """Let spare sessions go that nobody has needed for long; collect it if it has ended, or should have."""
        self._tended = now = time.monotonic()
        self.stock.tend(now)
        if self.stock.take_due(now):
            self.fill_stock()
        if not self.is_over and (self._process.read_leash() is not None or now - self.used > IDLE + _OVERDUE):
            self.end()

    # its start

    @classmethod
    def start(cls, spec: Spec, now: ambient.Ambient, env: dict[bytes, bytes]) -> Template:
        """Start one and wait for it. LaunchError, which says what is wrong with a preload; CannotServe."""
        theirs, restore = variables_of_loading(env, spec.preload)
        template_config: dict[str, Any] = {"preload": spec.preload, "restore": restore, "idle": IDLE}
        if spec.walls is not None:
            template_config["isolation"] = dict(spec.walls)
        if spec.scripts:
            template_config["script"] = True
        config = {"token": spec.token, "template": template_config}
        process = local.spawn(spec.interpreter, spec.cwd, theirs, config, 0)
        if spec.walls is not None:
            from .walled import makes

            process.makes = makes(spec.walls["tier"])
        template = cls(process, spec.interpreter, spec.preload, _Base(now, env))
        if ambient.capture() != now:  # another thread has changed something: what it was at the start, nobody knows
            template._stop()
            raise CannotServe("what it inherits was changed while it was started")
        try:
            _Starting(template, process, spec).wait()
        except BaseException:
            template._stop()
            raise
        os.close(process.stdout)
        os.close(process.stderr)
        return template

    def is_ready(self, fields: dict[str, Any]) -> None:
        self.pid = fields["pid"]
        self.local = bool(fields["local"])
        prefix = os.path.join(self.interpreter.prefix, "pyvenv.cfg")
        sites = fields["sites"].split("\n") if fields["sites"] else []
        files = fields["files"].split("\n") if fields["files"] else []
        self._watched = (prefix, *sites, *files)
        self._stamps = ambient.stamps(self._watched)


class _Starting:
    """Waits for a template that was just spawned, and keeps what it prints."""

    def __init__(self, template: Template, process: local.LocalProcess, spec: Spec) -> None:
        self._template = template
        self._process = process
        self._spec = spec
        self._deadline = None if spec.timeout is None else time.monotonic() + spec.timeout
        self._decoder = FrameDecoder(messages.FROM_TEMPLATE)
        self._loading = ""
        self._printed = bytearray()
        self._first = memoryview(process.first)
        self._fields: dict[str, Any] | None = None

    def wait(self) -> None:
        process = self._process
        poll = select.poll()
        pipes = {process.stdout, process.stderr}
        for fd in (process.leash, *pipes):
            poll.register(fd, select.POLLIN)
        channel = process.channel.fileno()
        poll.register(channel, select.POLLIN | select.POLLOUT)
        while self._fields is None:
            left = LOOK if self._deadline is None else self._deadline - time.monotonic()
            if left <= 0:
                raise self._failed("did not end in time" if self._loading else "was not there in time")
            if self._spec.is_unwanted():
                raise self._failed("is not waited for any more")
            ready = dict(poll.poll(min(left, LOOK) * 1000 + 1))
            for fd in pipes & ready.keys():
                if not self._take_text(fd):
                    poll.unregister(fd)
                    pipes.discard(fd)
            if channel in ready:
                if ready[channel] & select.POLLOUT and self._send():
                    poll.modify(channel, select.POLLIN)
                if ready[channel] & ~select.POLLOUT and not self._receive():
                    poll.unregister(channel)
            if process.leash in ready:
                report = process.read_leash()
                if report is not None:
                    self._receive()  # its last words: what is wrong with a preload
                    if self._fields is not None:
                        break
                    self._take_all_text(pipes)
                    if report.exit_code is None and report.signal is None:
                        report = process.early_end()
                    raise self._failed(f"ended ({report})")
        self._take_all_text(pipes)
        self._judge(self._fields)

    def _judge(self, fields: dict[str, Any]) -> None:
        try:
            if "denied" in fields:
                raise isolation_unavailable(self._spec.interpreter.path, fields)
            failed, why = fields.get("failed"), fields.get("why", "")
            if failed == "":
                raise CannotServe(why, for_good=True)
            if failed is not None:
                raise self._error(f"the preload of {failed!r} failed: {why}")
            if self._printed and self._spec.preload:
                names = ", ".join(map(repr, self._spec.preload))
                raise self._error(f"the preload of {names} printed something, which no session could be given")
            if self._printed:
                raise CannotServe("it prints when it starts, and each session is to show that", for_good=True)
            self._template.is_ready(fields)
        except (KeyError, TypeError, AttributeError):
            raise self._error("it is a template of another protocol") from None

    def _send(self) -> bool:
        try:
            self._first = self._first[self._process.channel.send(self._first) :]
        except BlockingIOError:
            return False
        except OSError:
            return True  # what became of it, the leash tells
        return not self._first

    def _receive(self) -> bool:
        try:
            data = self._process.channel.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            return False
        try:
            for kind, _call, body in self._decoder.feed(data):
                if kind == messages.PRELOADING:
                    self._loading = bytes(body).decode("utf-8", "replace")
                else:
                    self._fields = messages.unpack_ready(bytes(body))
        except ProtocolFault as fault:
            raise self._error(f"it sent nonsense: {fault}") from None
        return True

    def _take_text(self, fd: int) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, 65536)
            self._printed += data[: max(0, _PRINTED - len(self._printed))]
            return bool(data)
        return True

    def _take_all_text(self, pipes: set[int]) -> None:
        for fd in pipes:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(fd, 65536):
                    self._printed += data[: max(0, _PRINTED - len(self._printed))]

    def _failed(self, what: str) -> LaunchError:
        if self._loading:
            return self._error(f"the preload of {self._loading!r} {what}")
        return self._error(f"the interpreter did not become a session: it {what}")

    def _error(self, what: str) -> LaunchError:
        python = self._spec.interpreter.path
        printed = self._printed.decode("utf-8", "replace")
        return LaunchError(
            f"{python}: {what}" + (f"; it printed: {printed[-4000:]!r}" if printed else ""),
            python=python,
            command=self._process.command,
            stderr=printed,
        )


def isolation_unavailable(python: str, fields: dict[str, Any]) -> IsolationUnavailable:
    """What a template, or a session, says of a wall that the host does not allow."""
    denied, cure = str(fields["denied"]), str(fields.get("cure", ""))
    text = f"this host does not allow the isolation that was asked for: {denied}"
    if cure:
        text += "; what would help: " + "; or ".join(cure.split("\n"))
    return IsolationUnavailable(text, python=python, step=str(fields.get("step", denied)), cure=cure)


@functools.cache
def is_possible() -> bool:
    """Whether this system may have templates at all."""
    return os.path.isdir("/proc/thread-self") and hasattr(socket, "send_fds")
