"""Branches and checkpoints: a clone of a live session, if the census allows it.

The clone leaves what its original was doing by an exception, and goes on in the main loop with a channel of its own.
A checkpoint stays here and is cloned itself each time somebody goes back to it.
"""

from __future__ import annotations

import os
import sys

from .._protocol import messages, values
from .._protocol.census import REFUSED, Census, Finding
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
    try:
        answer["pid"] = _clone(server, fields["hold"])
    except CannotClone as fault:
        answer["census"] = _impossible(fault).to_wire()
    return answer


def _census(server: Server) -> Census:
    try:
        server.family.get_ready()
    except CannotClone as fault:
        return _impossible(fault)
    if not os.path.exists("/proc/self/fd"):  # an isolated session may have none
        return _impossible(CannotClone("there is no /proc here, by which one sees what stands in the way"))
    return census.take(server.evaluator.loop, server.own_descriptors())


def _impossible(fault: CannotClone) -> Census:
    return Census([Finding("platform", REFUSED, str(fault))])


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
        _close(ends)
        raise OSError("the controller could not make the descriptors for a branch")
    state = _random_state()
    copies = server.router.copies()
    try:
        pid = server.family.clone(ends[ENDS - 1], mark, attend=True)
    except BaseException:
        _close(ends[: ENDS - 1])
        raise
    if pid:
        _close(ends[: ENDS - 1])
        return pid
    try:
        _begin(server, ends, mark, hold, copies)
        if state is not None:
            sys.modules["random"].setstate(state)
    except BaseException as error:  # nothing may go on in here as if this were the original
        _fail(server, error)
    raise Clone


def _begin(server: Server, ends: list[int], mark: int, hold: bool, copies: Any) -> None:
    """In the clone: become a session of its own, at once or (hold) when it is wanted."""
    settle(server, ends, mark, copies)
    disown_processes()
    if hold:
        # who comes of a checkpoint takes the place of the original, and with it what that would have to clean up
        if not serve_orders(server):
            os._exit(0)  # as if it had never been: its original winds up what is to be wound up
    else:
        disown_temporaries()
        become(server)
    threading: Any = sys.modules.get("threading")
    try:
        threading.main_thread()._set_native_id()  # Python leaves that of the original: bpo-38707
    except Exception:  # it is not loaded, or another one
        return


def _fail(server: Server, error: BaseException) -> None:
    try:
        server.evaluator.report_text("the branch cannot begin: %s: %s\n" % (type(error).__name__, error))
    finally:
        os._exit(70)


def _random_state() -> Any:
    """Of the generator behind random.random(), which Python seeds anew in every fork. None: not loaded."""
    try:
        return sys.modules["random"].getstate()
    except Exception:  # another module of this name
        return None


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
