"""Programs that are not ours, on a pseudo-terminal.

The program is the session leader of the terminal, as after a login, and the child of a warden: the same one that
sessions have, so nothing outlives it, a kill or this process. `_worker/foreign.py` is the other side.

The terminal echoes nothing, so what is typed is not in the output. It changes no byte of the output either (no ONLCR),
does not stop at Ctrl-S (no IXON), and keeps what was printed when Ctrl-C comes (NOFLSH): see termios(3).
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Final

from ..errors import LaunchError
from . import ends, marks, payload, procfs
from .interpreter import find
from .local import LocalProcess, Warden, require_platform

#: bytes that a program is given of one line, its end not counted: N_TTY_BUF_SIZE of Linux, see termios(3)
LONGEST_LINE: Final = 4095
#: ioctl of a master: a signal for the foreground group, tty_ioctl(4), as Ctrl-C has it but without a byte in the queue
_TIOCSIG: Final = 0x40045436
#: how often, and after how many seconds each, it is looked whether a shell has a job
_LOOKS: Final = 10
_LOOK: Final = 0.002
_IFLAG, _OFLAG, _LFLAG, _CC = 0, 1, 3, 6
_IUTF8: Final = getattr(termios, "IUTF8", 0o40000) if sys.platform == "linux" else 0


class TerminalProcess(LocalProcess):
    """A program and its terminal. master: our end of that, which does not block."""

    def __init__(self, warden: Warden, mine: ends.Ends, mark: int, command: Sequence[str], slave: str) -> None:
        super().__init__(warden, mine, b"", mark)
        self.command = list(command)
        self.master = mine.stdout
        self._slave = slave

    def interrupt(self, has_jobs: bool = False) -> None:
        """As Ctrl-C: SIGINT for the foreground job, or the byte, where the program wants that. OSError: it is gone.

        By the kernel and not by the byte where there is a choice: that stays behind whatever else the program has not
        read yet. has_jobs: it is a shell. If that is hit while it starts a job, it may go back to its prompt and leave
        the terminal to the job, and ends when it cannot read: so wait a moment for the job, which can be hit alone.
        """
        try:
            if not termios.tcgetattr(self.master)[_LFLAG] & termios.ISIG:
                os.write(self.master, b"\x03")
                return
        except termios.error as error:
            raise OSError(*error.args) from error
        for _ in range(_LOOKS if has_jobs else 0):
            if self.signal_job(signal.SIGINT):
                return
            time.sleep(_LOOK)
        try:
            fcntl.ioctl(self.master, _TIOCSIG, signal.SIGINT)
        except OSError:  # not Linux
            self.signal_job(signal.SIGINT, leader=True)

    def foreground(self) -> tuple[int, float]:
        """The foreground group, and the seconds since its leader was there: 0, infinity where that is not known."""
        try:
            group = os.tcgetpgrp(self.master)
        except OSError:
            return 0, math.inf
        fields = procfs.stat(group) if sys.platform == "linux" else []
        if not fields:
            return group, math.inf
        return group, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[procfs.BEGAN]) * procfs.TICK

    def signal_job(self, number: int, leader: bool = False) -> bool:
        """Send a signal to the foreground job. False: that is the program itself (leader: it is sent to that, too)."""
        try:
            group = os.tcgetpgrp(self.master)
        except OSError:
            return False
        if group <= 1 or (group == self.pid and not leader):
            return False
        try:
            if os.getsid(group) != self.pid:
                return False
        except ProcessLookupError:  # the first of a pipeline has ended: its number is taken as long as there is a group
            pass
        try:
            os.killpg(group, number)
        except ProcessLookupError:  # it has ended
            return False
        except PermissionError:  # of another user, as sudo's
            pass
        return True

    def is_echoing(self) -> bool:
        """Whether what is typed would be shown: the program has changed that."""
        try:
            return bool(termios.tcgetattr(self.master)[_LFLAG] & termios.ECHO)
        except termios.error:
            return False

    def stop_echo(self) -> None:
        with contextlib.suppress(termios.error, OSError):
            settings = termios.tcgetattr(self.master)
            settings[_LFLAG] &= ~(termios.ECHO | termios.ECHONL)
            termios.tcsetattr(self.master, termios.TCSANOW, settings)

    def takes_lines(self) -> bool:
        """Whether the terminal collects lines for the program (ICANON), and cuts long ones off."""
        try:
            return bool(termios.tcgetattr(self.master)[_LFLAG] & termios.ICANON)
        except termios.error:
            return False

    def drop_typed(self) -> None:
        """Forget what was typed and not read. By the other end, which is open for that moment only."""
        with contextlib.suppress(OSError, termios.error):
            fd = os.open(self._slave, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                termios.tcflush(fd, termios.TCIFLUSH)
            finally:
                os.close(fd)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the foreground job gets SIGWINCH. OSError: it is gone."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Let go of all. The program has ended, or ends with this."""
        os.close(self.master)
        self.channel.close()
        self.let_go()


def _open(rows: int, columns: int) -> tuple[int, int]:
    """(master, slave) of a new terminal."""
    master, slave = os.openpty()
    try:
        settings = termios.tcgetattr(slave)
        settings[_IFLAG] = (settings[_IFLAG] | _IUTF8) & ~(termios.IXON | termios.IXOFF)
        settings[_OFLAG] &= ~termios.ONLCR
        settings[_LFLAG] = (settings[_LFLAG] | termios.NOFLSH) & ~(termios.ECHO | termios.ECHONL)
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(master, False)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return master, slave


def start(
    command: Sequence[str],
    cwd: str | None,
    env: Mapping[bytes, bytes],
    size: tuple[int, int],
    timeout: float | None,
) -> TerminalProcess:
    """Start a program; its name is looked up in the PATH of `env`. LaunchError, which names it.

    size: rows and columns; timeout: seconds until it must have been executed.
    """
    require_platform()
    interpreter = find()
    mark = marks.new_mark()
    arguments = [interpreter.path, "-I", "-S", "-c", payload.STAGE0]
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
        try:
            master, slave = _open(*size)
            undo.callback(os.close, master)
            theirs.callback(os.close, slave)
            channel, their_channel = socket.socketpair()
            undo.callback(channel.close)
            theirs.callback(their_channel.close)
            leash, their_leash = socket.socketpair()
            undo.callback(leash.close)
            theirs.callback(their_leash.close)
            leash.setblocking(False)
            fds = (their_channel.fileno(), their_leash.fileno(), slave)
            config = {
                "channel": fds[0],
                "leash": fds[1],
                "terminal": fds[2],
                "mark": mark,
                "step": marks.step(),
                "command": [os.fsencode(word) for word in command],
                "cwd": None if cwd is None else os.fsencode(cwd),
                "env": dict(env),
            }
            arguments.append(str(fds[0]))
            popen = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise LaunchError(f"cannot start {command[0]!r}: {error}", command=list(command)) from error
        marks.put(popen.pid, mark)
        name = os.ttyname(slave)
        undo.pop_all()
    mine = ends.Ends(channel, master, -1, leash)
    process = TerminalProcess(Warden(popen), mine, mark, command, name)
    try:
        _await_exec(process, payload.foreign_bytes(config), cwd, timeout)
    except BaseException:
        process.kill_tree(None)
        process.close()
        raise
    return process


def _await_exec(process: TerminalProcess, first: bytes, cwd: str | None, timeout: float | None) -> None:
    """Hand over what stage 0 reads, and wait until the program is executed."""
    command, channel = process.command, process.channel
    try:
        channel.settimeout(timeout)
        channel.sendall(first)
        said = b""
        while piece := channel.recv(64):
            said += piece
    except TimeoutError:
        raise LaunchError(f"{command[0]!r} was not executed within {timeout:g} s", command=command) from None
    except OSError:
        said = b"warden 0"
    deadline = time.monotonic() + (10.0 if timeout is None else timeout)
    poll = select.poll()
    poll.register(process.leash, select.POLLIN)
    while not said and process.pid is None:  # the warden tells it
        report = process.read_leash()
        if report is not None:
            if process.pid is None:
                said = b"warden 0"
            else:
                process._early = report  # it has ended already: that is for whoever reads the leash
        elif process.pid is None:
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if time.monotonic() > deadline:
                said = b"warden 0"
    if said:
        what, _, number = said.partition(b" ")
        why = os.strerror(int(number)) if int(number) else "its warden has ended"
        if what == b"cwd":
            why += f": {cwd!r}"
        raise LaunchError(f"cannot start {command[0]!r}: {why}", command=command)
