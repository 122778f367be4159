"""How an isolated template makes sessions: behind walls (`confine`), in the full tier each with a warden of its own.

In the full tier a clone is process 1 of a PID namespace. It makes the session's world, forks the session, and stays, as
the warden of all that is in there: so branches and checkpoints of the session, which are its children, have the same
walls, and when it ends, the kernel ends everything. The template announces it to the warden outside, which ends it
when the controller is gone; both hold the leash. The session has no way to the warden outside.

In the weak tier a clone is a session at once, and can start nothing.
"""

from __future__ import annotations

import errno
import functools
import marshal
import os

from . import fresh, limits, warden
from .birth import Births
from .confine import init, landlock, libc, lockdown, namespaces, places, probe
from .descriptors import send_descriptors
from .family import ENDS, ORDER_SIZE, set_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server


def enter_base(walls: dict[str, Any]) -> None:
    """In the template, before anything is preloaded: leave the host, as far as the tier has it. libc.Denied."""
    if walls["tier"] == "full":
        namespaces.enter_base(walls)
        os.chdir("/")
    elif libc.landlock_abi() < landlock.LEAST:
        raise libc.Denied(errno.ENOSYS, "landlock of at least ABI %d" % landlock.LEAST)


def denied(error: OSError, tier: str) -> dict[str, Any]:
    """What Ready tells of a wall that is not to be had: which step the host has denied, and what would help."""
    fault = error if isinstance(error, libc.Denied) else libc.Denied(error.errno or 1, error.filename or "files")
    return {"denied": str(fault), "step": fault.step, "cure": "\n".join(probe.cures_of(tier, fault))}


class WalledBirths(Births):
    """Makes clones of an isolated template. walls: tier; what `confine` wants; step, how far apart marks are."""

    def __init__(self, server: Server, walls: dict[str, Any]) -> None:
        super().__init__(server)
        self._walls = lockdown.prepare(walls)
        self._is_full = walls["tier"] == "full"
        self._flags = namespaces.session_flags(walls)

    def rehearse(self) -> None:
        """There is none: what costs time here is the kernel's."""

    def _order(self, data: bytes, fds: list[int]) -> bool:
        if len(fds) != ENDS or len(data) <= ORDER_SIZE + 4:
            for fd in fds:
                os.close(fd)
            return False
        mark = int.from_bytes(data[:ORDER_SIZE], "little")
        settings: dict[str, Any] = marshal.loads(data[ORDER_SIZE + 4 :])
        self._dress(fds)
        self._server.reborn(settings["token"])
        leash = fds[ENDS - 1]
        if self._is_full:
            is_clone = self._make(leash, mark, settings)
        else:
            try:
                is_clone = self._clone(leash, mark) == 0
            except OSError:  # told on the leash
                is_clone = False
            if is_clone:
                self._live(mark, settings, -1)
        if not is_clone:
            self._undress()
        return is_clone

    # the full tier

    def _make(self, leash: int, mark: int, settings: dict[str, Any]) -> bool:
        """Whether this is the session. The clone waits until the warden outside knows of it: if we are killed
        before, it ends."""
        import _socket

        registrar, announce = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        known, tell = os.pipe()
        router = self._server.router
        router.cloning = True
        try:
            pid = self._cloner.clone(self._flags)
        except OSError as error:
            _say(leash, b"E %d\n" % (error.errno or 0))
            pid = -1
        finally:
            router.cloning = False
        if pid == 0:
            os.close(tell)
            if not os.read(known, 1):
                os._exit(71)
            os.close(known)
            self._enter(leash, mark, settings, registrar.detach(), announce.detach())
            return True
        if pid > 0:
            try:
                send_descriptors(self._family.socket, b"%d 0" % pid, [leash])
                _say(leash, b"S %d\n" % pid)
                os.write(tell, b"1")
            except OSError:  # the warden outside is gone, and we are about to be
                os.kill(pid, 9)
        registrar.close()
        announce.close()
        for fd in (leash, known, tell):
            os.close(fd)
        return False

    def _enter(self, leash: int, mark: int, settings: dict[str, Any], registrar: int, announce: int) -> None:
        """In the clone, with all rights in namespaces of its own: become process 1 and the session."""
        server = self._server
        self._let_go()
        self._family.move(announce)
        walls = {**self._walls, "limits": dict(self._walls["limits"])}
        wanted = dict(settings.get("limits", ()))
        try:
            stay = functools.partial(self._stay, leash, registrar, mark)
            facts = namespaces.enter_session(walls, fork=self._fork, stay=stay)
            for fd in (leash, registrar):
                os.close(fd)
            server.pid = os.getpid()
            self._family.get_ready().die_with_parent()
            self._become(mark, wanted)
            if "processes" in wanted and "unheld" not in server.told:
                walls["limits"]["nproc"] = wanted["processes"] + 1  # with process 1
                server.told["limit_processes"] = wanted["processes"]
            self._tell(lockdown.full(walls, facts), facts["proc"])
            places.require_library()
        except OSError as error:
            server.told = denied(error, "full")
        server.say_ready()

    def _fork(self) -> int:
        router = self._server.router
        router.cloning = router.parked = True  # it stays the session that it has been made for
        try:
            return os.fork()
        finally:
            router.cloning = False

    def _stay(self, leash: int, registrar: int, mark: int, session: int) -> None:
        init.be_nobody({leash, registrar})
        warden.inside(session, leash, registrar, mark, self._walls["step"])

    # the weak tier

    def _be(self, settings: dict[str, Any], folder: int) -> None:
        server = self._server
        wanted = dict(settings.get("limits", ()))
        walls = {**self._walls, "work": settings["work"]}
        self._family.forget("in the weak tier of isolation a session can start no process")
        for name in ("HOME", "TMPDIR"):
            os.environ[name] = settings["work"]
        try:
            os.chdir(settings["work"])
            self._become(0, wanted)
            self._tell(lockdown.weak(walls), "none")
            places.require_library()
        except OSError as error:
            server.told = denied(error, "weak")
        server.say_ready()

    # both

    def _let_go(self) -> None:
        self._control.close()
        os.close(self._nobody)

    def _become(self, mark: int, wanted: dict[str, int]) -> None:
        server = self._server
        if mark:
            set_mark(mark)
        fresh.renew(os.getpid())
        server.accounts.reset()
        if self._is_full:
            wanted = {name: value for name, value in wanted.items() if name != "processes"}
        limits.begin(server, wanted)

    def _tell(self, held: dict[str, Any], proc: str) -> None:
        self._server.told.update(
            {"tier": held["tier"], "landlock": held["abi"], "proc": proc, "missing": ", ".join(held["not"])}
        )


def _say(leash: int, line: bytes) -> None:
    try:
        os.write(leash, line)
    except OSError:  # the controller does not want the clone any more
        return
