"""What a template does once, so that its clones need not: the main loop over a few calls.

The first call of an interpreter makes the parser's tables, fills caches, and lets bytecode settle. Each page of
memory that this changes would be copied in each clone; here it is changed before there is one. (On CPython 3.11 a
clone has 1.2 MB of its own after its first call instead of 1.6, and is there a millisecond earlier.)
"""

from __future__ import annotations

import os

from .._protocol import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server

#: bytecode settles within 8 to 16 runs
TIMES = 24
_CALLS = (
    (messages.EXEC, messages.WANT_REPR, "pass"),
    (messages.EXEC, messages.WANT_REPR, "print(1)"),
    (messages.EVAL, 0, "1+1"),
)


def rehearse(server: Server, times: int = TIMES, before: Any = None) -> None:
    """Serve a few calls that nobody has sent. Afterwards the session is as if it had not.

    before: is called first, with the controller's end of the channel.
    """
    import _socket

    ours, theirs = _socket.socketpair()
    nobody, out = os.pipe()
    channel = server.channel
    pipes = (1, 2, *server.router.pipes.values())
    kept = [(fd, os.dup(fd)) for fd in (*channel.descriptors(), *pipes)]
    for fd in channel.descriptors():
        os.dup2(theirs.fileno(), fd, False)
    for fd in pipes:
        os.dup2(out, fd, fd in (1, 2))
    os.close(out)
    if before is not None:
        before(ours)
    number = 0
    for _ in range(times):
        for action, flags, source in _CALLS:
            number += 1
            ours.send(messages.pack_plain_run(number, action, flags, source))
    ours.shutdown(_socket.SHUT_WR)
    server.run()  # to the end of what was sent
    for fd, copy in kept:
        os.dup2(copy, fd, fd in (1, 2))
        os.close(copy)
    os.close(nobody)
    ours.close()
    theirs.close()
    server.evaluator.forget()
