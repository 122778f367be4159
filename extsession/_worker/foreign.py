"""A program that is not ours, on a terminal, below a warden of its own.

Stage 0 (`_launch/payload.py`) runs this module's code in the place of `boot.py`: the process becomes the warden, and
its child the program. So all that the warden does for sessions it does for the program: when that ends, or the
controller lets go of the leash or is killed, nothing is left of what it has started.

On the channel comes why the program could not be started, as b"what errno"; the end of the channel says that it was.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(codes: dict[str, bytes], config: dict[str, Any], take: Any) -> None:
    """Become a warden and its program. Never returns."""
    channel, leash, terminal = config["channel"], config["leash"], config["terminal"]
    ready, told = os.pipe()  # tells the program's process that the warden is ready to take orphans
    pid = os.fork()
    if not pid:
        try:
            os.close(leash)
            os.close(told)
            _become(config, ready)
        finally:
            os._exit(127)
    for fd in (channel, terminal, ready):  # the last holder of a terminal is its program
        os.close(fd)
    scope: dict[str, Any] = {"__name__": "warden"}
    exec(marshal.loads(codes["_worker.warden"]), scope)
    try:
        scope["main"](pid, leash, told, -1, config["mark"], config["step"])
    finally:
        os._exit(72)


def _become(config: dict[str, Any], ready: int) -> None:
    """Be the program, as a login on the terminal would have it. Returns if that cannot be."""
    import fcntl
    import signal
    import termios

    channel, terminal = config["channel"], config["terminal"]
    os.set_inheritable(channel, False)
    what = "terminal"
    try:
        os.read(ready, 1)
        os.close(ready)
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)  # Ctrl-C and the size of the window are for it
        for fd in (0, 1, 2):
            os.dup2(terminal, fd)
        if terminal > 2:
            os.close(terminal)
        # whatever our own parent, or this interpreter, has had ignored or blocked
        for number in range(1, signal.NSIG):
            try:
                if signal.getsignal(number) is not signal.SIG_DFL:
                    signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):  # libc's own, or there is none with this number
                continue
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if config["cwd"] is not None:
            what = "cwd"
            os.chdir(config["cwd"])
        what = "command"
        os.execvpe(config["command"][0], config["command"], config["env"])
    except OSError as error:
        os.write(channel, b"%s %d" % (what.encode(), error.errno or 0))
    except BaseException:  # an argument that no program can be given
        os.write(channel, b"%s %d" % (what.encode(), 22))
        sys.stderr.flush()
