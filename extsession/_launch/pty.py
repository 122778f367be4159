"""Pseudo-terminals for what commands print, like a terminal that is there."""

from __future__ import annotations

import os


def open_like(fd: int) -> tuple[int, int]:
    """(our side, the side of the command) of a new one with the settings and the size of the terminal `fd`. OSError."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    try:
        termios.tcsetattr(theirs, termios.TCSANOW, termios.tcgetattr(fd))
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
        os.set_blocking(ours, False)
    except (OSError, termios.error) as error:
        os.close(ours)
        os.close(theirs)
        raise OSError(*error.args) from error
    return ours, theirs
