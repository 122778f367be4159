"""recover=True: a checkpoint of the state before each call, for the case that the call ends its process.

It is asked for when a call has changed the session, not when the next one comes: so an idle session has a checkpoint of
just the state that it has, and the next call finds it made already, mostly.
"""

from __future__ import annotations

from .._launch.checkpoint import CheckpointProcess
from .._protocol import messages, pickles
from .._protocol.faults import CannotTravel, ProtocolFault
from .._protocol.frames import MAX_CALL
from .branch import MOST_TIME, Branch, verdict
from .call import Call


class Recovery:
    """The checkpoint that a session is brought back from."""

    def __init__(self) -> None:
        self.checkpoint: CheckpointProcess | None = None
        self.why_none = "it has not been made yet"
        self.count = 0  # how often the session was brought back
        self.is_tried = False  # it is being brought back right now
        self._dropped: list[CheckpointProcess] = []
        self._number = MAX_CALL  # of our own calls: counted from the other end than the user's

    @property
    def unprotected(self) -> str | None:
        """Why there is no checkpoint to be brought back from; None: there is one, as far as is known."""
        if self.checkpoint is None:
            return self.why_none
        return None if self.checkpoint.is_alive else "its process has ended"

    def ask(self) -> Call:
        """The call that makes the next checkpoint."""
        branch = Branch(hold=True, force=True)
        run = messages.Run(messages.BRANCH, messages.SAFE_ONLY, "", branch.data)
        call = Call(self._number, run, "a checkpoint", MOST_TIME, 0)
        self._number -= 1
        call.branch = branch
        call.hidden = True
        return call

    def take(self, call: Call) -> None:
        """That call is over. ProtocolFault for an answer that is none."""
        old, self.checkpoint = self.checkpoint, None
        if old is not None:
            self._dropped.append(old)
        assert call.branch is not None
        if call.value is None or call.error is not None:
            self.why_none = str(call.error)
            call.branch.drop()
            return
        try:
            census, made = verdict(pickles.unpack(*call.value, False))
        except CannotTravel as fault:
            raise ProtocolFault(str(fault)) from None
        if made:
            self.checkpoint = CheckpointProcess(call.branch.take())
        else:
            self.why_none = str(census)
            call.branch.drop()

    def tidy(self) -> None:
        """Let go of checkpoints that are no longer needed. May close descriptors: for the link."""
        while self._dropped:
            self._dropped.pop().release()

    def end(self) -> None:
        """The session is over."""
        if self.checkpoint is not None:
            self._dropped.append(self.checkpoint)
            self.checkpoint = None
        self.tidy()
