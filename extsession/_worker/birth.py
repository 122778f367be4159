"""How a template makes sessions: what can be done before the clone is done before it, by the template.

A page of memory that a clone writes to is copied first, which takes two microseconds, and Python writes to whatever it
looks at: it counts references. So it is not work that makes a start slow, but first looks. The template therefore
becomes the session in all but name: it reads what the session is to be, puts its descriptors in their places, and
goes to its directory; then it is cloned, and puts everything back. What it looks at on the way is copied as well, but
here, while the clone is on its way.

An order is a message on the channel that the controller has with the template: the mark of the clone, ENDS
descriptors and, unless it is to be a spare, its settings and a descriptor of its directory. A spare is made now, and
reads its settings from its own channel when it is needed.
"""

from __future__ import annotations

import marshal
import os

from .._protocol.frames import pack_header
from .._protocol.messages import READY, pack_ready
from . import fresh
from .clone import CannotClone
from .descriptors import receive_descriptors, to_high
from .family import ENDS, ORDER_SIZE, read_settings, rehearse_marks, set_mark
from .rehearse import TIMES, rehearse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .serve import Server

#: bytes of an order, at most
_ROOM = 16384
_SPARE: dict[str, Any] = {}
_NOTHING = marshal.dumps({"token": bytes(16), "template": 0, "changes": {}, "variables": None}, 2)
_PLAYED = len(_NOTHING).to_bytes(4, "little") + _NOTHING  # settings for rehearsals


class Births:
    """Makes clones of this process, a template, when the controller says so. CannotClone."""

    def __init__(self, server: Server) -> None:
        import _socket

        self._server = server
        self._family = server.family
        self._cloner = server.family.get_ready()
        self._control = _socket.socket(fileno=to_high(os.dup(server.channel.fd)))
        self._shut_rd = _socket.SHUT_RD
        reading, writing = os.pipe()
        os.close(reading)
        self._nobody = to_high(writing)  # in the place of what a session has
        fields = {**server.ready_fields(), "cpu_us": 0}
        del fields["pid"]
        self._ready = pack_ready(fields) + b"\0pid\0i"
        self._has_plan = fresh.has_plan()
        self._clone: Callable[[int, int], int] = server.family.clone
        self._setsid: Callable[[], Any] = os.setsid

    def serve(self, idle: float) -> bool:
        """True in a clone, which is a session then; False: nobody wants more.

        idle: seconds without an order after which none is to be expected.
        """
        import select

        self._undress()
        control = self._control
        poll = select.poll()
        poll.register(control.fileno(), select.POLLIN)
        wait: int | None = int(idle * 1000)
        while True:
            if not poll.poll(wait):
                # what is on its way is still served; later orders are refused, so that the controller knows
                control.shutdown(self._shut_rd)
                wait = None
            data, fds = receive_descriptors(control, _ROOM, ENDS + 1)
            if not data:
                return False
            try:
                if self._order(data, fds):
                    return True
            except CannotClone:
                return False

    def _order(self, data: bytes, fds: list[int]) -> bool:
        """Whether this is the clone."""
        settings = _SPARE
        folder = -1
        if len(data) > ORDER_SIZE and len(fds) == ENDS + 1:
            settings = marshal.loads(data[ORDER_SIZE + 4 :])
            folder = fds.pop()
        if len(fds) != ENDS or len(data) < ORDER_SIZE:
            for fd in fds:
                os.close(fd)
            return False
        mark = int.from_bytes(data[:ORDER_SIZE], "little")
        self._dress(fds)
        if folder >= 0:
            self._server.reborn(settings["token"])
            try:
                os.fchdir(folder)
            except OSError:  # the clone meets it again, and says so
                pass
            else:
                os.close(folder)
                folder = -1
        try:
            pid = self._clone(fds[ENDS - 1], mark)
        except OSError:  # told on the leash
            pid = -1
        if pid == 0:
            self._live(mark, settings, folder)
            return True
        self._undress()
        if folder >= 0:
            os.close(folder)
        return False

    def _dress(self, ends: list[int]) -> None:
        """Put a session's descriptors in their places."""
        channel, out, err, _ = ends
        server = self._server
        pipes = server.router.pipes
        dup2 = os.dup2
        for number in server.channel.descriptors():
            dup2(channel, number, False)
        dup2(out, 1)
        dup2(out, pipes[1], False)
        dup2(err, 2)
        dup2(err, pipes[2], False)
        close = os.close
        close(channel)
        close(out)
        close(err)

    def _undress(self) -> None:
        nobody = self._nobody
        server = self._server
        for number in (*server.channel.descriptors(), *server.router.pipes.values()):
            os.dup2(nobody, number, False)
        os.dup2(nobody, 1)
        os.dup2(nobody, 2)
        os.chdir("/")

    def _live(self, mark: int, settings: dict[str, Any], folder: int) -> None:
        """In the clone: be nobody's part any more, be what is wanted, and say Ready."""
        server = self._server
        server.pid = os.getpid()
        self._control.close()
        os.close(self._nobody)
        self._family.die_with_warden()
        self._setsid()
        if mark:
            set_mark(mark)
        if settings is _SPARE:
            rehearse(server, 1, self._play)
            self._wait()
        else:
            self._be(settings, folder)

    def _wait(self) -> None:
        """In a spare: for its settings."""
        settings, fds = read_settings(self._server.channel)
        self._server.reborn(settings["token"])
        self._be(settings, fds[0] if fds else -1)

    def _play(self, controller: Any) -> None:
        """What a spare will do, with settings that nobody has sent."""
        controller.send(_PLAYED)
        self._wait()

    def _be(self, settings: dict[str, Any], folder: int) -> None:
        server = self._server
        pid = server.pid
        if folder >= 0 or settings["changes"] or settings["variables"]:
            self._apply(settings, folder)
        if self._has_plan or pid == settings["template"]:
            fresh.renew(settings["template"])
        server.accounts.reset()
        if "command" in settings:
            from . import command

            server.run = command.become(server, settings["command"])  # type: ignore[method-assign]
            return
        if "limits" in settings:
            from . import limits

            limits.begin(server, settings["limits"])
            server.say_ready()
            return
        body = b"%b%d" % (self._ready, pid)
        server.channel.send_frame(pack_header(READY, 0, len(body)) + body)

    def _apply(self, settings: dict[str, Any], folder: int) -> None:
        try:
            fresh.apply(settings["changes"], folder if folder >= 0 else None, settings["variables"])
        except OSError as error:
            self._server.evaluator.report_text("a session cannot be made of its template: %s\n" % error)
            os._exit(1)
        if folder >= 0:
            os.close(folder)

    # before the first one

    def rehearse(self) -> None:
        """Go through all of it without a clone, so that a clone finds nothing left to settle."""
        import _socket

        server, family, cloner = self._server, self._family, self._cloner
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        channel = server.channel
        kept = [(fd, os.dup(fd)) for fd in (*channel.descriptors(), 1, 2, *server.router.pipes.values())]
        pid, before, syscall, control = server.pid, family.socket, cloner.syscall, self._control
        family.socket = theirs
        data = bytes(ORDER_SIZE) + _PLAYED
        nobody = self._nobody
        for number in range(TIMES):
            is_clone = number % 2
            cloner.syscall = _seems_cloned
            self._clone = family.clone if not is_clone else _seems_clone
            self._setsid = os.getpid
            self._control = _socket.socket(fileno=os.dup(ours.fileno()))
            self._nobody = os.dup(nobody)
            ends = [os.dup(theirs.fileno()) for _ in range(ENDS)]
            folder = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
            if is_clone:
                family.announce(ends[-1], 1)
                rehearse_marks()
            self._order(data, [*ends, folder])
            if is_clone:
                os.close(ends[-1])
            else:
                self._control.close()
                os.close(self._nobody)
            while _waits(ours):
                ours.recv(65536)
        self._clone, self._setsid = family.clone, os.setsid
        try:
            os.setsid()  # for the dynamic linker to find it
        except OSError:  # a process like this leads its session already
            pass
        self._control, self._nobody = control, nobody
        family.socket, cloner.syscall, server.pid = before, syscall, pid
        for fd, copy in kept:
            os.dup2(copy, fd, fd in (1, 2))
            os.close(copy)
        ours.close()
        theirs.close()


def _seems_cloned(*arguments: int) -> int:
    return 1


def _seems_clone(leash: int, mark: int) -> int:
    return 0


def _waits(socket: Any) -> bool:
    import select

    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
