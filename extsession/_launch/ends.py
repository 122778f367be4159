"""The descriptors between a controller and a session, made in pairs: an end for each side."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import NamedTuple


class Ends(NamedTuple):
    """The ends of one side: the channel, stdout and stderr, and the leash."""

    channel: socket.socket
    stdout: int
    stderr: int
    leash: socket.socket

    def numbers(self) -> tuple[int, int, int, int]:
        return self.channel.fileno(), self.stdout, self.stderr, self.leash.fileno()

    def close(self) -> None:
        self.channel.close()
        os.close(self.stdout)
        os.close(self.stderr)
        self.leash.close()


def make() -> tuple[Ends, Ends]:
    """(ours, theirs): none is inherited, and ours do not block. OSError where there are no descriptors left."""
    with contextlib.ExitStack() as undo:
        channel, their_channel = socket.socketpair()
        undo.callback(channel.close)
        undo.callback(their_channel.close)
        leash, their_leash = socket.socketpair()
        undo.callback(leash.close)
        undo.callback(their_leash.close)
        out, their_out = os.pipe()
        undo.callback(os.close, out)
        undo.callback(os.close, their_out)
        err, their_err = os.pipe()
        undo.pop_all()
    for end in (channel, leash):
        end.setblocking(False)
    os.set_blocking(out, False)
    os.set_blocking(err, False)
    return Ends(channel, out, err, leash), Ends(their_channel, their_out, their_err, their_leash)
