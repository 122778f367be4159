"""A branch of a session: what is asked of the session, what its descriptors are, what comes of it."""

from __future__ import annotations

from typing import Any

from .._launch.base import Process
from .._launch.checkpoint import settings
from .._protocol import messages, values
from .._protocol.census import Census, Finding
from .._protocol.faults import BadMessage, ProtocolFault
from .._protocol.frames import pack_frame
from ..errors import ForkRefused, LaunchError

#: seconds from its turn in which a session must have made a branch
MOST_TIME = 30.0


class Parcel:
    """Bytes for the channel that descriptors go along with. They are closed once it is sent, or dropped."""

    __slots__ = ("_ends", "data")

    def __init__(self, data: bytes, ends: Any) -> None:
        self.data = data
        self._ends = ends

    @property
    def numbers(self) -> tuple[int, ...]:
        return () if self._ends is None else tuple(self._ends.numbers())

    def close(self) -> None:
        # forgotten first: a process that another thread forks in between must not close the same numbers again
        ends, self._ends = self._ends, None
        if ends is not None:
            ends.close()


class Branch:
    """A clone that a call asks for. hold: it is to be a checkpoint; force: what is risky is done.

    The clone's descriptors are made when the session is ready to give them to it. token: of the session that it is to
    be, which it is told at once; empty for a checkpoint.
    """

    def __init__(self, hold: bool, force: bool, token: bytes = b"") -> None:
        self.hold = hold
        self.token = token
        self.data = values.encode({"hold": hold, "force": force})
        self.asked = False
        self._process: Process | None = None

    def ends(self, parent: Process, call: int) -> Parcel:
        """The answer to CLONING. Without descriptors where there are none left: the call fails then."""
        try:
            self._process, mark, theirs = parent.prepare_clone()
            if self.token:
                self._process.channel.send(settings(self.token))  # waits there for the clone
        except OSError:
            return Parcel(pack_frame(messages.ENDS, call, bytes(8)), None)
        return Parcel(pack_frame(messages.ENDS, call, mark.to_bytes(8, "little")), theirs)

    def take(self) -> Process:
        """The clone's process, for whoever goes on with it. ProtocolFault if it never asked for descriptors."""
        process, self._process = self._process, None
        if process is None:
            raise ProtocolFault("a branch without descriptors")
        return process

    def drop(self) -> None:
        """Nobody goes on with it."""
        process, self._process = self._process, None
        if process is not None:
            process.discard()

    def abandon(self) -> None:
        """In a forked process: it is the owner's."""
        if self._process is not None:
            self._process.disown()
        self.drop()


def verdict(value: Any) -> tuple[Census, bool]:
    """What a session answers: its census, and whether there is a clone. BadMessage."""
    if type(value) is not dict or type(value.get("pid")) is not int:
        raise BadMessage("an answer to a branch that is none")
    return Census.from_wire(value.get("census")), bool(value["pid"])


def too_slow() -> LaunchError:
    return LaunchError(f"the session did not branch within {MOST_TIME} s, and is not waited for any more")


def stillborn(error: LaunchError) -> ForkRefused:
    """A branch that did not come to answer: what it has of its original does not work in another process."""
    why = f"the branch was made and did not answer; it was ended, and the session is unharmed: {error}"
    census = Census([Finding("stillborn", "refused", why)])
    return ForkRefused(why, threads=(), census=census)


def refused(census: Census, force: bool) -> ForkRefused:
    """Why a session was not branched, as an error."""
    text = f"the session cannot be branched now, {census}"
    if census.verdict != "refused" and not force:
        text = f"the session is not branched, which would be {census}; force=True does it all the same"
    return ForkRefused(text, threads=census.threads, census=census)
