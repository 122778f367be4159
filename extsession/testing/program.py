"""What an entry of the catalogue of misbehaving programs is, and short ways to write one."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import dedent

from .. import Outcome, Step


@dataclass(frozen=True)
class Program:
    """A program, and what is to be expected of it.

    name: for people and `-k`; what: it does; source: its text. outcome: of the call; survives: whether the session
    goes on, and answers. steps: of the ladder that it takes to stop it. error: the name of the type of `results.error`,
    "" for none; signal, exit_code: how the session ended. stdout: what the call has printed, None: anything.
    timeout: wall seconds for `execute`. alone: it harms others below the same warden, and needs `warm=False`.
    """

    name: str
    what: str
    source: str
    outcome: Outcome
    survives: bool = True
    steps: tuple[Step, ...] = ()
    error: str = ""
    signal: str | None = None
    exit_code: int | None = None
    stdout: str | None = None
    timeout: float | None = 30.0
    alone: bool = False
    tags: frozenset[str] = field(default=frozenset())


TO_INTERRUPT = (Step.INTERRUPT,)
TO_TERMINATE = (Step.INTERRUPT, Step.TERMINATE)
TO_KILL = (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
SOON = 0.3


def finishes(name: str, what: str, source: str, stdout: str | None = None, tags: str = "") -> Program:
    return Program(name, what, dedent(source), Outcome.FINISHED, stdout=stdout, tags=frozenset(tags.split()))


def fails(name: str, what: str, source: str, error: str, stdout: str | None = None, tags: str = "") -> Program:
    source = dedent(source)
    return Program(name, what, source, Outcome.FAILED, error=error, stdout=stdout, tags=frozenset(tags.split()))


def interrupted(name: str, what: str, source: str, tags: str = "") -> Program:
    """It is stopped by the interrupt, and its session goes on."""
    return Program(
        name,
        what,
        dedent(source),
        Outcome.TIMED_OUT,
        steps=TO_INTERRUPT,
        error="CallTimeout",
        timeout=SOON,
        tags=frozenset(tags.split()),
    )


def stubborn(name: str, what: str, source: str, steps: tuple[Step, ...], tags: str = "") -> Program:
    """It costs its session."""
    return Program(
        name,
        what,
        dedent(source),
        Outcome.TIMED_OUT,
        False,
        steps,
        "CallTimeout",
        "SIGTERM" if steps is TO_TERMINATE else "SIGKILL",
        timeout=SOON,
        tags=frozenset(tags.split()),
    )


def dies(
    name: str,
    what: str,
    source: str,
    signal: str | None = None,
    exit_code: int | None = None,
    error: str = "SessionDied",
    alone: bool = False,
    tags: str = "",
) -> Program:
    return Program(
        name,
        what,
        dedent(source),
        Outcome.LOST,
        False,
        (),
        error,
        signal,
        exit_code,
        alone=alone,
        tags=frozenset(tags.split()),
    )
