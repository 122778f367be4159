"""A session whose stdout and stderr are pseudo-terminals, one each, and whose descriptor 0 is that of stdout.

They are no controlling terminal of the session: nothing that happens there is a signal, `/dev/tty` cannot be opened,
and code that asks there for a password, as getpass does, falls back to sys.stdin. The controller has made the first two
(`_launch/pty.py`), and set them to change no byte.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import termios

from .._protocol import messages
from .burst import awake
from .descriptors import to_high
from .streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server

_ALL = frozenset(_signal.valid_signals())


class Terminals:
    """What is different with terminals. pipes: those of the router."""

    def __init__(self, pipes: dict[int, int]) -> None:
        self._pipes = pipes
        self._settings = termios.tcgetattr(pipes[messages.STDOUT])
        self.settle()

    def write_mark(self, token: bytes, number: int) -> None:
        """Write a barrier into each, in one piece.

        A write to a terminal is not cut by that of another process, but ends early for a signal, or where the code has
        set O_NONBLOCK: so no signal is taken meanwhile, and the descriptors are apart from those that the code has
        (`settle`).
        """
        mark = token + messages.pack_terminal_number(number)
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL)
        try:
            for pipe in self._pipes.values():
                write_all(pipe, mark)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def settle(self) -> None:
        """Make our descriptors open files of their own, with their own flags."""
        for pipe in self._pipes.values():
            try:
                own = os.open("/proc/self/fd/%d" % pipe, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # no /proc here: they stay as they are
                return
            os.dup2(own, pipe, False)
            os.close(own)

    def reset(self) -> None:
        """A call is over: what it has set, or a program that was ended in the middle, is not for the next one."""
        for pipe in self._pipes.values():
            try:
                if termios.tcgetattr(pipe) != self._settings:
                    termios.tcsetattr(pipe, termios.TCSANOW, self._settings)
                termios.tcflow(pipe, termios.TCOON)
            except (OSError, termios.error):
                continue  # another process group has it now: then there is a process, and the next call has new ones

    def follow(self, new: dict[int, int]) -> None:
        """Give new terminals the settings that the first had, and the size of those whose place they take."""
        for stream, fd in new.items():
            try:
                termios.tcsetattr(fd, termios.TCSANOW, self._settings)
                fcntl.ioctl(fd, termios.TIOCSWINSZ, fcntl.ioctl(self._pipes[stream], termios.TIOCGWINSZ, bytes(8)))
            except (OSError, termios.error):
                continue


def begin(server: Server) -> None:
    """Descriptors 1 and 2 are terminals: be a session on them."""
    router = server.router
    router.terminals = Terminals(router.pipes)
    router.burst = None  # it rests on what pipes tell
    _signal.signal(_signal.SIGURG, awake)
    os.dup2(1, 0)
    # not 0, by which input() would take it for the terminal that it reads by itself
    server.stdin_number = to_high(os.dup(0))
    out: Any = router.text[messages.STDOUT]
    out.reconfigure(line_buffering=True)
