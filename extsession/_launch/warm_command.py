"""Python commands as clones of a template: the start of an interpreter, and of what it has loaded, is spared.

The warden is its parent, and tells of its end. All else is as of any command.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import Final

from .._protocol.messages import TOKEN_SIZE
from . import marks, payload, templates
from .base import Spec
from .command import CommandSpec, Streams, WarmPython
from .interpreter import find
from .local import LocalProcess
from .offspring import Offspring
from .template import CannotServe

#: seconds in which a clone must have become the command, or it is started in the ordinary way
_PATIENCE: Final = 10.0


class WarmCommand:
    """A command that a template has made."""

    is_warm = True

    def __init__(self, spec: CommandSpec, warm: WarmPython) -> None:
        """Start it. CannotServe: it has to be started in the ordinary way; LaunchError: a preload fails."""
        wanted = {
            "mode": warm.mode,
            "target": warm.target,
            "argv": list(warm.argv),
            "options": list(spec.argv[1:]),
            "unbuffered": warm.unbuffered,
            "no_bytecode": warm.no_bytecode,
            "signature": (signature := marks.new_signature()),
        }
        session = Spec(
            interpreter=find(warm.python, sources=payload.sources()),
            token=os.urandom(TOKEN_SIZE),
            cwd=spec.cwd,
            env=spec.env,
            preload=warm.preload,
            command=wanted,
        )
        streams = Streams(spec)
        try:
            self._process = process = templates.launch(session)
        except BaseException:
            streams.close()
            raise
        try:
            _hand_over(process, streams)
        except BaseException:
            streams.close()
            process.kill_tree(None)
            process.discard()
            raise
        assert process.pid is not None
        process.channel.close()
        os.close(process.stdout)
        os.close(process.stderr)
        streams.close_theirs()
        self._streams = streams
        self.pid = process.pid
        self.offspring = Offspring(self.pid, signature)
        self.stdin, self.stdout, self.stderr = streams.stdin, streams.stdout, streams.stderr
        self.are_terminals = streams.are_terminals
        self.ended = process.leash
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            report = self._process.read_leash()
            if report is not None:
                # neither: the warden was killed, and with it all that it was to tell of
                signal = 9 if report.signal is None else report.signal
                self._code = -signal if report.exit_code is None else report.exit_code
        return self._code

    def signal(self, number: int) -> None:
        if self._code is None:  # the warden keeps its number taken
            self._process.warden.wake()  # it has to tell of the end
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def close_stdin(self) -> None:
        self._streams.close_stdin()
        self.stdin = -1

    def close(self) -> None:
        self._streams.close()
        self._process.let_go()


def _hand_over(process: LocalProcess, streams: Streams) -> None:
    """Give the clone its descriptors, and wait until it is the command, and its number is known. CannotServe."""
    channel = process.channel
    give_up = time.monotonic() + _PATIENCE
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(process.leash, select.POLLIN)
    channel.settimeout(_PATIENCE)
    try:
        if process.first:
            channel.sendall(process.first)
        socket.send_fds(channel, [b"1"], streams.theirs)
    except OSError as error:
        raise CannotServe(f"its template's clone is gone: {error}") from None
    channel.setblocking(False)
    is_there = False
    while not is_there or process.pid is None:
        left = give_up - time.monotonic()
        ready = [fd for fd, _ in poll.poll(max(0.0, left * 1000))]
        if channel.fileno() in ready:
            with contextlib.suppress(OSError):
                is_there = channel.recv(1) == b"1"
            if not is_there:
                raise CannotServe("its template's clone has ended before it was there")
            poll.unregister(channel)
        if process.leash in ready and process.look_at_leash() and process.pid is None:
            raise CannotServe("its template's clone has ended before it was there")
        if left <= 0:
            raise CannotServe("its template takes too long")

