"""Pseudo-terminals for what is printed: by commands, like a terminal that is there; by sessions, without changes."""

from __future__ import annotations

import os


def open_like(fd: int) -> tuple[int, int]:
    """(our side, the side of the command) of a new one with the settings and the size of the terminal `fd`. OSError."""
    import fcntl
    import pty
    import termios

    try:
        ours, theirs = pty.openpty()
    except OSError:
        raise
    try:
        termios.tcsetattr(theirs, termios.TCSANOW, termios.tcgetattr(fd))
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
        os.set_blocking(ours, False)
    except (OSError, termios.error) as error:
        os.close(ours)
        os.close(theirs)
        raise OSError(*error.args) from error
    return ours, theirs


def open_raw(rows: int, columns: int) -> tuple[int, int]:
    """(our side, the session's side) of a new one of this size for output: no byte is changed on its way. OSError.

    Nobody types there: who reads finds the end of the file at once (MIN and TIME are 0: termios(3), "raw mode").
    Signals of the keyboard and flow control are off.
    """
    import termios
    import tty

    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs, termios.TCSANOW)
        settings = termios.tcgetattr(theirs)
        settings[tty.CC][termios.VMIN] = 0
        settings[tty.CC][termios.VTIME] = 0
        termios.tcsetattr(theirs, termios.TCSANOW, settings)
        set_size(theirs, rows, columns)
        os.set_blocking(ours, False)
    except (OSError, termios.error) as error:
        os.close(ours)
        os.close(theirs)
        raise OSError(*error.args) from error
    return ours, theirs


def set_size(fd: int, rows: int, columns: int) -> bool:
    """Whether the terminal (either side) had another size. OSError."""
    import fcntl
    import struct
    import termios

    size = struct.pack("HHHH", rows, columns, 0, 0)
    if fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))[:4] == size[:4]:
        return False
    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)
    return True


def is_controlling(ours: int) -> bool:
    """Whether some process session has it as its controlling terminal: to close our side would hang that up."""
    try:
        return os.tcgetpgrp(ours) > 0
    except OSError:
        return False
