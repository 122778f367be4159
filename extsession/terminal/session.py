"""TerminalSession: control an interactive program on a pseudo-terminal."""

from __future__ import annotations

import enum
import os
import re
import shlex
import signal
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .._engine.core import check_limit
from .._launch import environment
from .._launch.terminal import start
from ..errors import ExtSessionError, LaunchError
from ..options import OUTPUT_LIMIT, Ladder, optional_seconds
from .definitions import Definition, Tags, known
from .pump import Pump, check_lines
from .results import Call, TerminalResults

#: seconds that a killed program is waited for
_END: Final = 10.0
#: what programs are told of the terminal: no colours and movements, no pages to leaf through. `less` does not
#: complain of that (-d), ends at the end (-E) and with Ctrl-C (-K), and shows what fits (-F, -X)
_ENVIRONMENT: Final = {
    "TERM": "dumb",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "SYSTEMD_PAGER": "cat",
    "PSQL_PAGER": "cat",
    "LESS": "-dEFKX",
}
#: of the controller's own terminal
_NOT_INHERITED: Final = ("LINES", "COLUMNS")
#: control characters that a terminal acts on, or may: typed source has none of them
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


class Unsaid(enum.Enum):
    """An argument that was not given, where None means something."""

    UNSAID = "unsaid"

    def __repr__(self) -> str:
        return self.value


UNSAID: Final = Unsaid.UNSAID


class TerminalSession:
    """An interactive program on a pseudo-terminal of its own.

    `execute()` queues source and returns at once; calls run in order, and each has what was printed in it. Safe to use
    from several threads. A context manager: at its end, the program and all that it started are killed.

    command: a program with its arguments (a str is split as by a shell), or a Definition. Known by name are bash,
    python, node, sqlite3, psql and gdb, which get prompts that nothing else prints. prompt: for other programs, the
    one that they have, a text or a compiled pattern; more: that inside of source that is not complete.
    cwd: its current directory; None: the caller's. env: its whole environment, None: the caller's; what tells
    programs that the terminal is a plain one is put in (docs/terminal.md), but not over what `env` says.
    timeout: seconds for calls that do not say; None sets no end. size: rows and columns. term: TERM, where `env` has
    none. encoding: of what is typed and printed. output_limit: bytes of output kept for each call, None for no end.
    ladder: how long a call that must end is given. start_timeout: seconds until the first prompt.

    Raises LaunchError, which names the command and has what it printed, if it cannot be started or shows no prompt.
    """

    def __init__(
        self,
        command: str | Sequence[str] | Definition,
        *,
        prompt: str | re.Pattern[str] | None = None,
        more: str | re.Pattern[str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        size: tuple[int, int] = (24, 80),
        term: str = "dumb",
        encoding: str = "utf-8",
        output_limit: int | None = OUTPUT_LIMIT,
        ladder: Ladder | None = None,
        start_timeout: float | None = 30.0,
    ) -> None:
        self._definition = _definition(command, prompt, more)
        self._timeout = optional_seconds(timeout, "timeout")
        self._encoding = _encoding(encoding)
        self._limit = check_limit(output_limit)
        self._count = 0
        arguments = self._definition.command_line()
        start_timeout = optional_seconds(start_timeout, "start_timeout")
        try:
            variables = _environment(self._definition, env, term)
        except (ValueError, TypeError) as error:
            raise LaunchError(f"cannot start {arguments[0]!r}: {error}", command=arguments) from error
        process = start(
            arguments, None if cwd is None else os.fspath(cwd), variables, _size(*size), start_timeout
        )
        self._pid = process.pid
        self._pump = Pump(process, self._definition, encoding, ladder or Ladder())
        self._finalizer = weakref.finalize(self, self._pump.kill)
        self._pump.start(start_timeout)

    # running code

    def execute(
        self, source: str, *, timeout: float | Unsaid | None = UNSAID, output_limit: int | Unsaid | None = UNSAID
    ) -> TerminalResults:
        """Queue `source` for the program and return at once.

        timeout: seconds from its turn on, after which the ladder is begun: Ctrl-C, then SIGTERM, then SIGKILL for the
        foreground job, then the end of all; None sets no end. output_limit: bytes of output that are kept. Both are the
        session's where they are not said.
        Raises SessionDied if the program has ended; ValueError for source that cannot be typed for this program: a
        line of more than 4095 bytes, a control character.
        """
        seconds = self._timeout if timeout is UNSAID else optional_seconds(timeout, "timeout")
        limit = self._limit if output_limit is UNSAID else check_limit(output_limit)
        tags = Tags.new()
        lines = self._lines(source, tags)
        with self._pump.lock:
            self._count += 1
            call = Call(self._count, source, lines, tags, seconds, limit)
            self._pump.add(call)
        return TerminalResults(call, self._pump)

    def _lines(self, source: str, tags: Tags) -> Sequence[bytes]:
        if not isinstance(source, str):
            raise TypeError(f"source is a str, not {type(source).__name__}")
        definition = self._definition
        text = source.replace("\r\n", "\n")
        if definition.wrap is not None:
            return definition.wrap(text.encode(self._encoding), tags)
        lines = [piece.encode(self._encoding) for piece in definition.split(text)]
        for line in lines:
            found = _CONTROL.search(line)
            if found is not None:
                raise ValueError(f"the source has the control character {found[0]!r}, which a terminal acts on")
            check_lines(line, "the source")
        return lines

    def writeline(self, line: str) -> None:
        """Type a line for the call that runs, or is next. ValueError (NotReady) if there is none."""
        self._running().writeline(line)

    def send_eof(self) -> None:
        """Type Ctrl-D for the call that runs, or is next: at the beginning of a line, the end of its input."""
        self._running().send_eof()

    def _running(self) -> TerminalResults:
        return TerminalResults(self._pump.current_call(), self._pump)

    # ends

    def interrupt(self) -> bool:
        """Ctrl-C for the call that runs; False if none does."""
        return self._pump.interrupt(None)

    def terminate(self) -> None:
        """Have the program and its foreground job end: by SIGTERM, then by SIGHUP, as of a terminal that is closed,
        since shells ignore the other; if it has not ended then, kill().
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._pump.terminate(number)
            if self._pump.join(self._pump.ladder.terminate / 2):
                return
        self.kill()

    def kill(self) -> None:
        """End the program and all that it has started, and wait until that is done. Calls end as KILLED."""
        self._pump.kill()
        self._pump.join(_END)

    def exit(self, *, timeout: float | None = None) -> int | None:
        """Type what ends the program, after the calls that are queued; the status it ended with, None for a signal.

        timeout: seconds, after which it is killed; None waits for the calls, and then as the ladder says.
        """
        return self._pump.exit(optional_seconds(timeout, "timeout"))

    def close(self) -> None:
        """`kill()`, unless it has ended. May be called again."""
        self.kill()
        self._finalizer.detach()

    def __enter__(self) -> TerminalSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # facts

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the terminal; the foreground job gets SIGWINCH. SessionDied if the program has ended."""
        self._pump.resize(*_size(rows, columns))

    @property
    def is_alive(self) -> bool:
        return self._pump.error is None

    @property
    def pid(self) -> int | None:
        """Of the program; it means nobody else as long as the session is alive."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """The status the program ended with; None while it runs, or if a signal ended it."""
        report = self._pump.report
        return None if report is None else report.exit_code

    @property
    def error(self) -> ExtSessionError | None:
        """Why nothing can be executed any more; None while the program runs."""
        return self._pump.error

    @property
    def startup(self) -> str:
        """What the program printed before its first prompt."""
        return self._pump.startup_text()

    @property
    def definition(self) -> Definition:
        return self._definition

    def __repr__(self) -> str:
        state = "alive" if self.is_alive else "ended"
        return f"<{type(self).__name__} {self._definition.command[0]!r}, process {self.pid}, {state}>"


def _definition(command: Any, prompt: Any, more: Any) -> Definition:
    if isinstance(command, Definition):
        if prompt is not None or more is not None:
            raise TypeError("a Definition has its prompts: dataclasses.replace() makes another")
        return command
    words = shlex.split(command) if isinstance(command, str) else [os.fspath(word) for word in command]
    if not words or not words[0]:
        raise ValueError(f"command={command!r} names no program")
    if prompt is not None:
        return Definition("", tuple(words), prompt=prompt, more=more)
    found = known(words)
    if found is None:
        raise ValueError(f"{words[0]!r} is not known: say what its prompt is (prompt=), or give a Definition")
    return found if more is None else replace(found, more=more)


def _encoding(name: str) -> str:
    """LookupError, or ValueError for one that a terminal, which looks for line ends, cannot have."""
    if "\n~".encode(name) != b"\n~":
        raise ValueError(f"a terminal needs an encoding that has ASCII in it, which {name!r} has not")
    return name


def _environment(definition: Definition, env: Mapping[str, str] | None, term: str) -> dict[bytes, bytes]:
    variables = environment.of_child(env)
    ours: dict[str, str | None] = {**_ENVIRONMENT, "TERM": term, **definition.env}
    if env is None:
        ours.update(dict.fromkeys(_NOT_INHERITED))
    for name, value in ours.items():
        key = os.fsencode(name)
        if env is not None and name in env:
            continue
        if value is None:
            variables.pop(key, None)
        else:
            variables[key] = os.fsencode(value)
    return variables


def _size(rows: Any, columns: Any) -> tuple[int, int]:
    for value in (rows, columns):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"a terminal has a whole number of rows and columns, not {value!r}")
        if not 1 <= value <= 0xFFFF:
            raise ValueError(f"a terminal has 1 to 65535 rows and columns, not {value!r}")
    return rows, columns
