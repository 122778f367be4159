"""The part of SessionMachine that is about limits: what the rules say, done to calls and to the session."""

from __future__ import annotations

from collections import deque
from typing import Any

from .._launch.samples import Sample
from .._protocol import messages
from ..errors import ExtSessionError
from . import reasons
from .call import Call
from .completion import Outcome
from .limits import OF_CALLS, Breach, Rules
from .orders import Order, Phase


class Limited:
    """Of a machine that may have `rules`."""

    rules: Rules | None
    unlimited: Call | None  # a call whose limits have not begun, for most are over before anybody could look
    current: Call | None
    draining: messages.Done | None
    error: ExtSessionError | None
    orders: list[Order]
    outgoing: deque[Any]
    phase: Phase
    _python: str

    @property
    def is_ending(self) -> bool:
        """Whether the process was told to end and has not ended yet."""
        raise NotImplementedError

    def stop(self, call: Call, now: float, cause: Outcome) -> None:
        """Begin the ladder for a running call."""
        raise NotImplementedError

    def next_look(self) -> float | None:
        """When something is due for the sake of limits; also while nothing else is expected of the session."""
        rules, call = self.rules, self.current
        if rules is None or self.is_ending or self.phase in (Phase.STARTING, Phase.DEAD):
            return None
        if call is not None and call.stop_cause is None and rules.too_much_output(call.output.written) is not None:
            return 0.0
        return rules.next_look()

    def begin_limits(self) -> None:
        """Somebody looks at the running call: from now on its limits are known."""
        call, self.unlimited = self.unlimited, None
        if call is not None and call is self.current and self.rules is not None:
            self._begin_limits(call, self.rules, call.began)

    def _begin_limits(self, call: Call, rules: Rules, now: float) -> None:
        """The limits of a call that begins now."""
        wall = rules.limits.wall
        if wall is not None and not call.hidden and (call.deadline is None or now + wall < call.deadline):
            call.deadline = now + wall
            call.breach = Breach("wall", wall, wall)
        if rules.on_call(now):
            self.orders.append(Order.SAMPLE)

    def _look_at_limits(self, rules: Rules, now: float) -> None:
        """What is due now."""
        due = self.next_look()
        if due is None or now < due:
            return
        breach = rules.look(now)
        if breach is None and self.current is not None:
            breach = rules.too_much_output(self.current.output.written)
        if breach is not None:
            self._over_limit(breach, now)
        elif rules.wants_sample(now):
            self.orders.append(Order.SAMPLE)

    def on_confined(self, held: frozenset[str]) -> None:
        """The kernel holds these limits for the whole session."""
        if self.rules is not None:
            unheld = self.rules.on_confined(held)
            if unheld is not None:
                self._refuse(*unheld)

    def _refuse(self, name: str, why: str) -> None:
        """The session is not to be: it has said Ready, and nothing that followed has been sent."""
        assert self.rules is not None
        self.phase = Phase.STARTING
        self.outgoing.clear()
        if self.error is None:
            self.error = reasons.not_held(self._python, name, self.rules.limits.given().get(name, 0), why)
        self.orders.append(Order.KILL)

    def on_sample(self, sample: Sample | None, now: float) -> None:
        """What the session uses, as asked for; None: its process is gone."""
        rules = self.rules
        if rules is None or rules.breach is not None or self.phase is Phase.DEAD:
            return
        if sample is None:
            rules.on_gone(now)
            return
        breach = rules.on_sample(sample)
        if breach is not None and self.draining is None:
            self._over_limit(breach, now)

    def _over_limit(self, breach: Breach, now: float) -> None:
        """A limit was reached: end the call by the ladder, or the session at once."""
        rules, call = self.rules, self.current
        assert rules is not None
        if breach.limit in OF_CALLS:
            if call is not None and call.stop_cause is None and not call.hidden:
                call.breach = breach
                self.stop(call, now, Outcome.OVER_LIMIT)
            return
        rules.breach = breach
        if call is not None and call.stop_cause is None:
            call.stop_cause, call.breach = Outcome.OVER_LIMIT, breach
        self.orders.append(Order.KILL)
