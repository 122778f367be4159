"""The descriptors between a controller and a session, made in pairs: an end for each side."""

from __future__ import annotations

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
    sockets: list[socket.socket] = []
    pipes: list[int] = []
    try:
        sockets += socket.socketpair()
        sockets += socket.socketpair()
        pipes += os.pipe()
        pipes += os.pipe()
    except BaseException:
        for each in sockets:
            each.close()
        for fd in pipes:
            os.close(fd)
        raise
    channel, their_channel, leash, their_leash = sockets
    out, their_out, err, their_err = pipes
    for end in (channel, leash):
        end.setblocking(False)
    os.set_blocking(out, False)
    os.set_blocking(err, False)
    return Ends(channel, out, err, leash), Ends(their_channel, their_out, their_err, their_leash)
