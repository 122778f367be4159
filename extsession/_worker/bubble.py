"""A session in the bwrap tier: its world is made by bubblewrap, bwrap(1), where our own process may not make one.

bubblewrap has our interpreter as process 1 of a PID namespace, without any rights (`_launch/bubble.py` gives it the
arguments). Process 1 forks the session and stays, as its warden: so all is as in the full tier, but that a session
cannot be cloned from a template, which could not be given a world of its own. Each has its own bubblewrap instead, with
its branches and checkpoints, and nothing in common with other sessions.

The controller may be kept from looking into it, by a bubblewrap that is setuid: so it is handed the work directory, on
the leash, before any code runs.
"""

from __future__ import annotations

import os
import sys

from . import limits
from .clone import CannotClone
from .confine import lockdown, namespaces
from .descriptors import send_descriptors
from .family import set_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server


def stay(session: int, ready: int, config: dict[str, Any]) -> None:
    """In process 1: be out of the session's reach, let it begin, and watch over it. Never returns."""
    try:
        from . import warden
        from .confine import init

        leash, registrar = config["leash"], config["registrar"]
        _hand_over(leash, config["isolation"]["work"])
        init.be_nobody({leash, registrar, ready})
        os.write(ready, b"1")
        os.close(ready)
        warden.inside(session, leash, registrar, config["mark"], config["step"])
    finally:
        os._exit(72)


def _hand_over(leash: int, work: str) -> None:
    import _socket

    folder = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    socket = _socket.socket(fileno=os.dup(leash))
    try:
        send_descriptors(socket, b"W\n", [folder])
    except OSError:  # the controller is gone
        pass
    socket.close()
    os.close(folder)


def be(server: Server, config: dict[str, Any]) -> None:
    """In the session: load what is wanted, give up all rights, and say Ready."""
    walls = config["isolation"]
    wanted = dict(config["limits"])
    _preload(server, config["preload"])
    for name, value in config["restore"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    server.accounts.get_ready()  # without it, it reads /proc, which may not be there
    try:
        server.family.get_ready()  # it opens files
    except CannotClone:  # who wants a branch is told so
        pass
    try:
        os.chdir(walls["work"])
        if config["mark"]:
            set_mark(config["mark"])
        limits.begin(server, {name: value for name, value in wanted.items() if name != "processes"})
        own = {}
        if walls["users"] and "processes" in wanted and "unheld" not in server.told:
            own["nproc"] = wanted["processes"] + 1  # with process 1
            server.told["limit_processes"] = wanted["processes"]
        held = lockdown.full({**walls, "limits": own}, {"vm": namespaces.address_space()})
        held["not"] += walls["missing"]
        server.told.update(
            {"tier": "bwrap", "landlock": held["abi"], "proc": walls["proc"], "missing": ", ".join(held["not"])}
        )
        server.told["users"] = int(walls["users"])
    except OSError as error:
        from .walled import denied

        server.told = denied(error, "bwrap")
    server.say_ready()


def _preload(server: Server, names: Any) -> None:
    """Before the last walls are up, for they could be in the way; what would stay outside of them must not be."""
    if not names:
        return
    from .holdings import children
    from .template import _other_threads

    for name in names:
        try:
            __import__(name)
        except BaseException as error:
            server.evaluator.report_text("the preload of %r failed\n" % name)
            server.evaluator.report(error)
            os._exit(1)
        for what, found in (("threads", _other_threads()), ("processes", ", ".join(children({})))):
            if found:
                server.evaluator.report_text(
                    "the preload of %r started %s (%s), around which no walls can be put\n" % (name, what, found)
                )
                os._exit(1)
    sys.stdout.flush()
