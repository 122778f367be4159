"""Branches and checkpoints: a clone of a live session, if the census allows it.

The clone leaves what its original was doing by an exception, and goes on in the main loop with a channel of its own.
A checkpoint stays here and is cloned itself each time somebody goes back to it.
"""

from __future__ import annotations

import os
import sys

from .._protocol import messages, values
from .._protocol.census import Census, Finding
from . import census
from .clone import CannotClone
from .disown import disown_processes, disown_temporaries
from .family import ENDS, become, serve_orders, settle
from .serve import Clone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server


def branch(server: Server, run: messages.Run) -> dict[str, Any]:
    """Make a clone. Returns in the original, with the census and the clone's pid, 0 if it was refused.

    run.data: hold, whether it is to be a checkpoint; force, whether what is risky is done.
    """
    fields = values.decode(run.data)
    # an interrupt cannot be for the user's code here; its message stays in the channel, where descriptors are to come
    server.evaluator.inside = False
    found = _census(server)
    answer = {"census": found.to_wire(), "pid": 0}
    if found.verdict == "refused" or (found.verdict == "risky" and not fields["force"]):
        return answer
    answer["pid"] = _clone(server, fields["hold"])
    return answer


def _census(server: Server) -> Census:
    try:
        server.family.get_ready()
    except CannotClone as fault:
        return Census([Finding("platform", "refused", str(fault), ())])
    return census.take(server.evaluator.loop, server.own_descriptors())


def _clone(server: Server, hold: bool) -> int:
    call = server.router.call
    server.channel.send(messages.CLONING, call, [b""])
    ends: list[int] = []
    mark = 0
    while True:
        (kind, about, body), fds = server.channel.receive_with_descriptors(ENDS)
        ends += fds
        if kind == messages.ENDS and about == call:
            mark = int.from_bytes(body, "little")
            break
    if len(ends) != ENDS:
        raise OSError("the controller could not make the descriptors for a branch")
    random = sys.modules.get("random")
    state: Any = None if random is None else random.getstate()  # which Python reseeds in every fork
    pid = server.family.clone(ends, mark)
    if pid:
        for fd in ends[: ENDS - 1]:
            os.close(fd)
        return pid
    settle(server, ends, mark)
    disown_processes()
    if hold:
        # who comes of a checkpoint takes the place of the original, and with it what that would have to clean up
        if not serve_orders(server):
            os._exit(0)  # as if it had never been: its original winds up what is to be wound up
    else:
        disown_temporaries()
        become(server)
    if random is not None:
        random.setstate(state)
    raise Clone
