"""A process that can be cloned, and what its clone does to become a session of its own.

Three kinds of process are cloned: a template, which never runs user code (`birth.py`); a session that is branched; a
checkpoint, which is a branch that waits. With the order to clone come four descriptors: the channel, stdout and stderr
of the clone, and its leash, which goes to the warden together with the clone's pid. The clone of a checkpoint or a
session reads its settings from its own channel: a marshalled dict behind its length (`_launch/checkpoint.py` packs it).
"""

from __future__ import annotations

import marshal
import os

from .clone import CannotClone, Cloner
from .descriptors import receive_descriptors, send_descriptors, to_high

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server
    from .streams import Router

#: descriptors that come with an order to clone: channel, stdout, stderr, leash
ENDS = 4
#: seconds in which a clone must have announced itself
_ATTENDED = 5.0
#: bytes of an order: the mark of the clone
ORDER_SIZE = 8
_RLIMIT_LOCKS = 10
_setrlimit: Any = None


class Family:
    """A process and its warden. registrar: the warden's socket for announcements; -1 where there is none."""

    def __init__(self, registrar: int, router: Router) -> None:
        self.registrar = registrar
        self._router = router
        self.socket: Any = None  # to the warden
        self._poll: Any = None
        self._cloner: Cloner | None = None
        self._why = "it has no warden that would take in its clones"
        self.parent = 0  # the warden, at the last clone

    def get_ready(self) -> Cloner:
        """Load what cloning takes; CannotClone."""
        if self._cloner is None:
            if self.registrar < 0:
                raise CannotClone(self._why)
            import _socket
            import select

            self._cloner = Cloner()
            self.socket = _socket.socket(fileno=self.registrar)
            self._poll = select.poll()
            self._poll.register(self.registrar, 0)
        return self._cloner

    def move(self, registrar: int) -> None:
        """In a clone: its clones have another warden."""
        import _socket
        import select

        if self.socket is not None:
            self.socket.close()
        self.registrar = to_high(registrar)
        self.socket = _socket.socket(fileno=self.registrar)
        self._poll = select.poll()
        self._poll.register(self.registrar, 0)

    def forget(self, why: str) -> None:
        """In a clone: it can have none."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        self.registrar = -1
        self._cloner = None
        self._why = why

    def clone(self, leash: int, mark: int, attend: bool = False) -> int:
        """0 in the clone, once it is announced; here its pid. OSError, CannotClone. Takes the leash over.

        The clone announces itself: this process may be killed at any moment, and a clone that goes on unknown to the
        warden would be ended in the middle of the user's code. attend: return here only when it is known and leads a
        process session of its own, for whoever knows of the clone may end this process and all of its group.
        """
        begun = os.pipe() if attend else None
        try:
            cloner = self.get_ready()
            if self._poll.poll(0):  # the warden is gone, or code has shut the socket down: nobody would watch over it
                raise CannotClone("its warden takes in no clones any more")
            self._router.cloning = True
            self.parent = os.getppid()
            try:
                pid = cloner.clone()
            except OSError as error:
                _tell(leash, b"E %d\n" % (error.errno or 0))
                raise
            finally:
                self._router.cloning = False
            if pid == 0:
                if attend:
                    os.setsid()
                self.announce(leash, mark)
            elif begun is not None:
                _await_end(begun)
            return pid
        finally:
            os.close(leash)
            if begun is not None:
                _close(begun)

    def release(self) -> None:
        """In a clone that is to be a command: the warden leaves alone what it leaves. It can have no clones then."""
        try:
            self.socket.send(b"F %d" % os.getpid())
        except OSError:
            os._exit(71)
        self.forget("it is a command")

    def die_with_warden(self) -> None:
        """In a clone: the kernel is to kill this process when the warden ends, unless it has done so before."""
        self.get_ready().die_with_parent()
        if os.getppid() != self.parent:
            os._exit(71)

    def announce(self, leash: int, mark: int) -> None:
        """In a clone: tell the warden, and the controller."""
        pid = os.getpid()
        try:
            send_descriptors(self.socket, b"%d %d" % (pid, mark), [leash])
        except OSError:
            os._exit(71)
        _tell(leash, b"S %d\n" % pid)


def serve_orders(server: Server) -> bool:
    """In a checkpoint: clone whenever the controller says so. True in a clone; False: nobody wants more.

    An order is ORDER_SIZE bytes on the channel, with ENDS descriptors.
    """
    control = server.channel.socket()
    while True:
        data, fds = receive_descriptors(control, ORDER_SIZE, ENDS)
        if not data:
            return False
        is_order = len(fds) == ENDS and len(data) == ORDER_SIZE
        try:
            is_clone = is_order and _clone(server, fds, int.from_bytes(data, "little"))
        except CannotClone:
            return False
        if is_clone:
            become(server)
            return True
        for fd in fds:
            os.close(fd)


def _clone(server: Server, ends: list[int], mark: int) -> bool:
    """Whether this is the clone. In the original, all but the leash is left to be closed."""
    copies = server.router.copies()
    try:
        pid = server.family.clone(ends[ENDS - 1], mark)
    except OSError:  # told on the leash
        pid = -1
    if pid == 0:
        settle(server, ends, mark, copies)
        return True
    ends.pop()
    return False


def settle(server: Server, ends: list[int], mark: int, copies: Any) -> None:
    """In a clone: take over its descriptors, and be nobody's part any more. copies: of `Router.copies`."""
    channel, out, err = ends[: ENDS - 1]
    server.pid = os.getpid()
    server.evaluator.inside = False
    router = server.router
    router.renew({1: out, 2: err}, copies)
    server.channel.replace(channel)
    server.family.die_with_warden()
    if os.getsid(0) != server.pid:
        os.setsid()
    if mark:
        set_mark(mark)


def become(server: Server) -> None:
    """In a clone that has settled: be a session, and say Ready."""
    settings, fds = read_settings(server.channel)
    for fd in fds:
        os.close(fd)
    server.reborn(settings["token"])
    server.accounts.reset()
    if server.told:
        from . import limits

        limits.renew(server)
    server.say_ready()


def read_settings(channel: Any) -> tuple[dict[str, Any], list[int]]:
    """What the controller says about the clone, and a descriptor that came with it: of its current directory."""
    data, fds = channel.receive_raw(4096, 1)
    if len(data) < 4:
        os._exit(71)
    size = int.from_bytes(data[:4], "little") + 4
    while len(data) < size:
        more = os.read(channel.fd, size - len(data))
        if not more:
            os._exit(71)  # the controller does not want it any more
        data += more
    settings: dict[str, Any] = marshal.loads(data[4:size])
    return settings, fds


def set_mark(mark: int) -> None:
    """Give this process, and all that it will start, a mark."""
    global _setrlimit
    if _setrlimit is None:
        from resource import setrlimit as _setrlimit

    try:
        _setrlimit(_RLIMIT_LOCKS, (mark, mark))
    except (OSError, ValueError):  # without one its orphans count as those of the process it was cloned from
        return


def rehearse_marks() -> None:
    """Find what `set_mark` calls: to set the limit to what it is changes nothing."""
    from resource import getrlimit

    soft, hard = getrlimit(_RLIMIT_LOCKS)
    if soft == hard:
        set_mark(hard)


def _tell(leash: int, line: bytes) -> None:
    try:
        os.write(leash, line)
    except OSError:  # the controller does not want the clone any more, which finds out by itself
        return


def _await_end(pipe: tuple[int, int]) -> None:
    """Wait until the other process has closed its end, or has ended, or for so long that it must be stopped."""
    import select

    reading, writing = pipe
    os.dup2(reading, writing, False)  # our own end would keep it open
    poll = select.poll()
    poll.register(reading, 0)
    poll.poll(int(_ATTENDED * 1000))


def _close(fds: tuple[int, int]) -> None:
    for fd in fds:
        os.close(fd)
