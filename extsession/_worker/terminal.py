"""A session whose stdout and stderr are pseudo-terminals, one each, and whose descriptor 0 is that of stdout.

They are no controlling terminal of the session: nothing that happens there is a signal, `/dev/tty` cannot be opened,
and code that asks there for a password, as getpass does, falls back to sys.stdin. The controller has made the first two
(`_launch/pty.py`), and set them to change no byte.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

from .._protocol import messages
from .burst import awake
from .descriptors import to_high
from .streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

    from .serve import Server

_ALL = frozenset(_signal.valid_signals())


class Terminals:
    """What is different with terminals."""

    def write_mark(self, pipes: Iterable[int], token: bytes, number: int) -> None:
        """Write a barrier into each, in one piece.

        A write to a terminal is not cut by that of another process, but ends early for a signal, or where the code has
        set O_NONBLOCK: so no signal is taken meanwhile, and the descriptors are apart from those that the code has
        (`settle`).
        """
        mark = token + messages.pack_terminal_number(number)
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL)
        try:
            for pipe in pipes:
                write_all(pipe, mark)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def settle(self, pipes: Iterable[int]) -> None:
        """Make our descriptors open files of their own, with their own flags."""
        for pipe in pipes:
            try:
                own = os.open("/proc/self/fd/%d" % pipe, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # no /proc here: they stay as they are
                return
            os.dup2(own, pipe, False)
            os.close(own)

    def follow(self, old: int, new: int, size: bool) -> None:
        """Give a new terminal the settings, and `size`: the size, of the one whose place it takes."""
        import fcntl
        import termios

        try:
            termios.tcsetattr(new, termios.TCSANOW, termios.tcgetattr(old))
            if size:
                fcntl.ioctl(new, termios.TIOCSWINSZ, fcntl.ioctl(old, termios.TIOCGWINSZ, bytes(8)))
        except (OSError, termios.error):  # the code has put something else there
            return


def begin(server: Server) -> None:
    """Descriptors 1 and 2 are terminals: be a session on them."""
    router = server.router
    router.terminals = terminals = Terminals()
    router.burst = None  # it rests on what pipes tell
    _signal.signal(_signal.SIGURG, awake)
    terminals.settle(router.pipes.values())
    os.dup2(1, 0)
    # not 0, by which input() would take it for the terminal that it reads by itself
    server.stdin_number = to_high(os.dup(0))
    out: Any = router.text[messages.STDOUT]
    out.reconfigure(line_buffering=True)
