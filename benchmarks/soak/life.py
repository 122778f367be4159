"""What a user does with a session, written once for both colours.

A life is a generator. It yields functions of no arguments; whoever drives it calls them, awaits what they give if
that is to be awaited, and sends the value in, or throws the error.
"""

from __future__ import annotations

import inspect
import itertools
import random
import threading
import time
import zlib
from collections.abc import Callable, Generator
from typing import Any

from extsession import (
    CheckpointGone,
    ExtSessionError,
    ForkRefused,
    Ladder,
    LaunchError,
    LimitExceeded,
    Outcome,
    SessionClosed,
    SessionDied,
)
from extsession.errors import RemoteProtocolError
from extsession.testing import PROGRAMS

from . import output
from .tally import Tally

Life = Generator[Callable[[], Any], Any, None]

LADDER = Ladder(interrupt=0.5, terminate=0.5)
#: seconds that a call's code may take
TIMEOUT = 8.0
#: seconds in which a session, or one that takes its place, must be there
START = 10.0
#: seconds after which what nobody hears of hangs: a call may have to wait for a stopped session to be given up while it
#: makes its checkpoint (30), for another one in its place, and for the ladder
HANG = 60.0
_KINDS = ("warm", "warm", "warm", "spawned", "recover", "recover")
#: errors that a session may give to its user while its processes are killed
ALLOWED = (SessionDied, SessionClosed, LaunchError, RemoteProtocolError, CheckpointGone, ForkRefused, LimitExceeded)
_MISBEHAVING = tuple(each for each in PROGRAMS if not each.alone)
_tags = itertools.count()


class User:
    """Somebody who uses one session after another. start: gives a session for options, or an awaitable of one."""

    def __init__(self, name: str, seed: str, tally: Tally, start: Callable[..., Any], stop: threading.Event) -> None:
        self.name = name
        self.rng = random.Random(f"{seed} {name}")
        self.tally = tally
        self.start = start
        self.stop = stop
        self.session: Any = None
        self.full_folder = ""  # where nothing can be written
        self.since = time.monotonic()  # of what it does now
        self.doing = ""
        self.is_told = False  # that it hangs
        self.hurt = 0.0  # when something was last done to its session from outside

    def begin(self, doing: str) -> None:
        self.doing, self.since, self.is_told = doing, time.monotonic(), False

    def lives(self) -> Life:
        while not self.stop.is_set():
            try:
                yield from self._life()
            except ALLOWED as error:
                self.tally.add("sessions", f"ended by {type(error).__name__}")
                self.tally.add("why", f"{self.doing}: {type(error).__name__}: {str(error)[:300]}")
            self.session = None

    def _life(self) -> Life:
        kind = self.rng.choice(_KINDS)
        options: dict[str, Any] = {
            "start_timeout": START,
            "ladder": LADDER,
            "warm": kind != "spawned",
            "recover": kind == "recover",
        }
        self.begin(f"start of a {kind} session")
        session = yield lambda: self.start(**options)
        self.tally.add("sessions", kind)
        self.session = session
        try:
            yield from _Use(self, session, kind).go(self.rng.randrange(1, 25))
        finally:
            doing = self.doing
            self.begin("close")
            yield from _close(session)
            self.doing = doing


class _Use:
    """A session in use."""

    def __init__(self, user: User, session: Any, kind: str, state: int | None = None) -> None:
        self.user = user
        self.rng = user.rng
        self.tally = user.tally
        self.session = session
        self.kind = kind
        self.state = state  # None: the prelude has not run yet
        self.is_sure = True  # of the state
        self.over = False
        self.late: list[tuple[str, int, Any]] = []

    def go(self, count: int) -> Life:
        if self.state is None:
            results = yield from self._run(output.PRELUDE, "prelude")
            if results is None or not results.completion.ok:
                return
            self.state = 0
        for _ in range(count):
            if self.over or self.user.stop.is_set():
                break
            yield from self.rng.choices(
                (self._write, self._misbehave, self._late, self._branch, self._undo, self._ask, self._fill),
                (60, 8, 4, 4, 4, 8, 2),
            )[0]()
            if self.rng.random() < 0.3:
                time.sleep(0)  # others
        if not self.over and self.late:
            yield from self._check_late()

    # calls

    def _run(self, source: str, what: str, timeout: float | None = TIMEOUT) -> Generator[Any, Any, Any]:
        """Execute and wait. None: it hangs, which is told."""
        self.user.begin(what)
        results = yield lambda: self.session.execute(source, timeout=timeout)
        if self.rng.random() < 0.02:
            self.tally.add("faults", "slow callback in the controller")
            results.add_done_callback(lambda _: time.sleep(0.05))
        if self.rng.random() < 0.02:
            self.tally.add("faults", "interrupt")
            yield lambda: results.interrupt()
        try:
            yield lambda: results.wait(HANG)
        except TimeoutError:
            self.tally.wrong("hangs", 1, f"{self.user.name}: {what} in a {self.kind} session")
            self.over = True
            return None
        outcome = results.outcome
        self.tally.add("calls", outcome.value + (", brought back" if results.completion.recovered else ""))
        if not results.completion.survived:
            self.over = True
        return results

    def _write(self) -> Life:
        tag = f"t{next(_tags)}"
        ways = self.rng.choice(output.WAYS)
        count = self.rng.choice((1, 5, 20)) if "child" in ways else self.rng.choice((1, 10, 100, 1000))
        most = self.rng.choice((10, 100, 2000))
        results = yield from self._run(output.source_of(tag, ways, self.rng.randrange(2**31), count, most), tag)
        if results is None:
            return
        streams = (results.stdout_bytes, results.stderr_bytes)
        what = f"{tag} ({'+'.join(ways)}, {count} pieces up to {most}) in a {self.kind} session"
        self.tally.add("calls", "bytes of output", len(streams[0]) + len(streams[1]))
        if results.dropped:
            self.tally.wrong("lost bytes", results.dropped, f"{what}: dropped")
        if results.outcome is not Outcome.FINISHED:
            # a failed one has a traceback, which is no piece
            output.check_partial(self.tally, tag, streams, f"{what}, {results.outcome.value}")
            if not results.completion.recovered:
                self.is_sure = False
            self._judge(results, what)
            return
        said = output.told(results.repr)
        assert said is not None and self.state is not None
        output.check_complete(self.tally, tag, streams, said, what)
        if self.is_sure and said.state != self.state + 1:
            self.tally.wrong("wrong states", 1, f"{what}: {said.state} instead of {self.state + 1}")
        self.state, self.is_sure = said.state, True

    def _judge(self, results: Any, what: str) -> None:
        """An end that nobody has asked for."""
        if results.outcome is Outcome.FAILED and not isinstance(results.error, (OSError, RuntimeError)):
            # fork() or a thread may be refused while memory is scarce
            self.tally.wrong("wrong outcomes", 1, f"{what}: {results.error!r}")
        if results.outcome is Outcome.KILLED:
            self.tally.wrong("wrong outcomes", 1, f"{what}: killed, but not by its user")

    def _misbehave(self) -> Life:
        program = self.rng.choice(_MISBEHAVING)
        begun = time.monotonic()
        timeout = TIMEOUT if program.timeout is None else min(program.timeout, TIMEOUT)
        results = yield from self._run(program.source, program.name, timeout)
        if results is None:
            return
        self.tally.add("faults", f"program {program.name}")
        output.check_foreign(self.tally, (results.stdout_bytes, results.stderr_bytes), program.name)
        if self.kind == "recover" and results.completion.recovered:
            return  # its state is that from before
        self.over = True
        loaded = program.timeout is not None and program.timeout < 1  # the machine may be slower than its clock
        if results.outcome is not program.outcome and not loaded and self.user.hurt < begun - 1:
            self.tally.add("why", f"{program.name} in a {self.kind} session: {results.completion}")

    def _ask(self) -> Life:
        self.user.begin("eval")
        try:
            found = yield lambda: self.session.eval("zlib.crc32(b'soak')", timeout=TIMEOUT)
        except (KeyboardInterrupt, NameError):
            return
        if found != zlib.crc32(b"soak"):
            self.tally.wrong("wrong attributions", 1, f"eval gave {found!r}")
        self.tally.add("calls", "finished")
        usage = yield lambda: self.session.usage()
        if not 0 <= usage.processes < 1000 or usage.rss < 0:
            self.tally.wrong("wrong states", 1, f"usage gave {usage}")

    def _fill(self) -> Life:
        """Write into a folder that is full."""
        if not self.user.full_folder:
            return
        results = yield from self._run(
            f"open({self.user.full_folder + '/x'!r}, 'ab').write(bytes(200_000))", "full folder"
        )
        if results is not None:
            self.tally.add("faults", "full temporary directory")
            if results.outcome is Outcome.FINISHED:
                self.tally.wrong("wrong outcomes", 1, "it wrote into a folder that is full")

    def _late(self) -> Life:
        tag = f"t{next(_tags)}"
        count = self.rng.randrange(1, 60)
        results = yield from self._run(f"late({tag!r}, {count})", f"{tag} (late)")
        if results is not None and results.outcome is Outcome.FINISHED:
            self.late.append((tag, count, results))

    def _check_late(self) -> Life:
        results = yield from self._run("join_late()", "join")
        if results is None or results.outcome is not Outcome.FINISHED:
            return
        for tag, count, results in self.late:
            data = b"".join(chunk.data for chunk in results.events if chunk.stream == "stdout")
            output.check_late(self.tally, tag, data, count, f"{tag} (late) in a {self.kind} session")
        self.late.clear()

    # branches

    def _branch(self) -> Life:
        self.user.begin("fork")
        try:
            branch = yield lambda: self.session.fork()
        except ForkRefused:
            return
        self.tally.add("sessions", "branch")
        try:
            use = _Use(self.user, branch, "branch", self.state)
            use.is_sure = self.is_sure
            yield from use.go(self.rng.randrange(1, 4))
        except ALLOWED:
            pass
        finally:
            self.user.begin("close of a branch")
            yield from _close(branch)

    def _undo(self) -> Life:
        self.user.begin("checkpoint")
        try:
            checkpoint = yield lambda: self.session.checkpoint()
        except ForkRefused:
            return
        state, is_sure = self.state, self.is_sure
        self.tally.add("sessions", "checkpoint")
        yield from self._write()
        self.user.begin("rollback")
        yield lambda: self.session.rollback(checkpoint)
        self.over = False
        self.late.clear()  # their threads are not there any more
        self.state, self.is_sure = state, is_sure


def _close(session: Any) -> Life:
    close = session.aclose if hasattr(session, "aclose") else session.close
    yield lambda: close()


def drive(user: User) -> None:
    """Live, in this thread."""
    lives = user.lives()
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            ask = lives.send(value) if error is None else lives.throw(error)
        except StopIteration:
            return
        value = error = None
        try:
            value = ask()
        except (Exception, KeyboardInterrupt) as caught:
            error = caught


async def drive_async(user: User, pause: Callable[[], Any]) -> None:
    """Live, in this event loop."""
    lives = user.lives()
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            ask = lives.send(value) if error is None else lives.throw(error)
        except StopIteration:
            return
        value = error = None
        try:
            value = ask()
            if inspect.isawaitable(value):
                value = await value
        except (
            ExtSessionError,
            TimeoutError,
            OSError,
            ValueError,
            LookupError,
            NameError,
            KeyboardInterrupt,
        ) as caught:
            error = caught
        await pause()
