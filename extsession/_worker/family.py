"""A process that can be cloned, and what its clone does to become a session of its own.

Three kinds of process are cloned by the same steps: a template, which never runs user code; a session that is
branched; a checkpoint, which is a branch that waits. With the order to clone come four descriptors: the channel,
stdout and stderr of the clone, and its leash, which goes to the warden together with the clone's pid. The clone reads
its settings from its own channel: a marshalled dict behind its length (`_launch/forked.py` packs it).
"""

from __future__ import annotations

import marshal
import os

from .clone import CannotClone, Cloner
from .descriptors import receive_descriptors, send_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server
    from .streams import Router

#: descriptors that come with an order to clone: channel, stdout, stderr, leash
ENDS = 4
#: an order is the mark of the clone, and this bit if it is to get ready and wait until it is needed
ORDER_SIZE = 8
SPARE = 1 << 63
_RLIMIT_LOCKS = 10


class Family:
    """A process and its warden. registrar: the warden's socket for announcements; -1 where there is none."""

    def __init__(self, registrar: int, router: Router) -> None:
        self.registrar = registrar
        self._router = router
        self._socket: Any = None
        self._cloner: Cloner | None = None

    def get_ready(self) -> Cloner:
        """Load what cloning takes; CannotClone."""
        if self._cloner is None:
            if self.registrar < 0:
                raise CannotClone("it has no warden that would take in its clones")
            import _socket

            self._cloner = Cloner()
            self._socket = _socket.socket(fileno=self.registrar)
        return self._cloner

    def clone(self, ends: list[int], mark: int) -> int:
        """0 in the clone, once it is announced; here its pid. OSError, CannotClone. Takes the leash over.

        The clone announces itself: this process may be killed at any moment, and a clone that goes on unknown to the
        warden would be ended in the middle of the user's code.
        """
        leash = ends[ENDS - 1]
        try:
            cloner = self.get_ready()
            if self._is_shut():  # the warden is gone, or code has shut the socket down: nobody would watch over it
                raise CannotClone("its warden takes in no clones any more")
            self._router.cloning = True
            try:
                pid = cloner.clone()
            except OSError as error:
                _tell(leash, b"E %d\n" % (error.errno or 0))
                raise
            finally:
                self._router.cloning = False
            if pid == 0:
                self._announce(leash, mark)
            return pid
        finally:
            os.close(leash)

    def _is_shut(self) -> bool:
        import select

        poll = select.poll()
        poll.register(self.registrar, 0)
        return bool(poll.poll(0))

    def _announce(self, leash: int, mark: int) -> None:
        try:
            send_descriptors(self._socket, b"%d %d" % (os.getpid(), mark), [leash])
        except OSError:
            os._exit(71)
        _tell(leash, b"S %d\n" % os.getpid())


def serve_orders(server: Server, idle: float | None = None) -> bool:
    """Clone whenever the controller says so. True in a clone, which is a session then; False: nobody wants more.

    An order is ORDER_SIZE bytes on the channel, with ENDS descriptors. idle: seconds without one after which none is
    to be expected.
    """
    import select

    control = server.channel.socket()
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    while True:
        if not poll.poll(None if idle is None else int(idle * 1000)):
            import _socket

            # what is on its way is still served; later orders are refused, so that the controller knows
            control.shutdown(_socket.SHUT_RD)
            idle = None
        data, fds = receive_descriptors(control, ORDER_SIZE, ENDS)
        if not data:
            return False
        order = int.from_bytes(data, "little")
        try:
            is_clone = len(fds) == ENDS and len(data) == ORDER_SIZE and _clone(server, fds, order & ~SPARE)
        except CannotClone:
            return False
        if is_clone:
            if order & SPARE:
                from .rehearse import rehearse

                rehearse(server, 1)
            become(server)
            return True
        for fd in fds:
            os.close(fd)


def _clone(server: Server, ends: list[int], mark: int) -> bool:
    """Whether this is the clone. In the original, all but the leash is left to be closed."""
    try:
        pid = server.family.clone(ends, mark)
    except OSError:  # told on the leash
        pid = -1
    if pid == 0:
        settle(server, ends, mark)
        return True
    ends.pop()
    return False


def settle(server: Server, ends: list[int], mark: int) -> None:
    """In a clone: take over its descriptors, and be nobody's part any more."""
    channel, out, err = ends[: ENDS - 1]
    server.pid = os.getpid()
    server.evaluator.inside = False
    router = server.router
    if router.parked:
        for fd, stream in ((out, 1), (err, 2)):
            os.dup2(fd, stream)
            os.dup2(fd, router.pipes[stream], False)
            os.close(fd)
        router.parked = False
    else:
        router.renew({1: out, 2: err})
    server.channel.replace(channel)
    server.family.get_ready().die_with_parent()
    os.setsid()
    if mark:
        _set_mark(mark)


def become(server: Server) -> None:
    """In a clone that has settled: be a session, and say Ready."""
    settings, fds = _settings(server.channel)
    server.reborn(settings["token"])
    if "changes" in settings:
        from . import fresh

        try:
            fresh.apply(settings["changes"], fds[0] if fds else None, settings["variables"])
        except OSError as error:
            server.evaluator.report_text("a session cannot be made of its template: %s\n" % error)
            os._exit(1)
        fresh.renew(settings["template"])
    if settings.get("limits"):
        from . import limits

        limits.begin(server, settings["limits"])
    elif server.told:
        from . import limits

        limits.renew(server)
    for fd in fds:
        os.close(fd)
    server.say_ready()


def _settings(channel: Any) -> tuple[dict[str, Any], list[int]]:
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


def _set_mark(mark: int) -> None:
    import resource

    try:
        resource.setrlimit(_RLIMIT_LOCKS, (mark, mark))
    except (OSError, ValueError):  # without one its orphans count as those of the process it was cloned from
        return


def _tell(leash: int, line: bytes) -> None:
    try:
        os.write(leash, line)
    except OSError:  # the controller does not want the clone any more, which finds out by itself
        return
