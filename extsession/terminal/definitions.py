"""How to talk to interactive programs: frozen values, one for each program."""

from __future__ import annotations

import base64
import os
import re
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from . import inside

#: characters of a piece of source in a line: with all around it, less than a terminal takes (4095, see termios(3))
_PIECE: Final = 3000


class Tags(NamedTuple):
    """What is printed around the output of one call: random, so that nothing else looks like it.

    prompt: after it; more: the prompt inside of what is not complete; start: before it. 18 characters each: sqlite3
    before 3.45 keeps 19 of a prompt.
    """

    prompt: str
    more: str
    start: str

    @classmethod
    def new(cls) -> Tags:
        return cls(*(f"~{secrets.token_hex(8)}~" for _ in range(3)))


@dataclass(frozen=True)
class Definition:
    """A program with a prompt.

    name: as a regular expression that the whole name of its file matches. command: what is executed; `arguments`:
    what follows, behind those of the caller if `arguments_last`. env: variables that are set; None: taken away.

    There are three kinds. *wrapped*: `wrap` makes lines of a call's source that are typed together, print the start
    marker, run the source, and have the prompt tell its status. *armed*: before each call, the line `arm` sets the
    prompts (`{prompt}` and `{more}` stand for them), then the pieces that `split` makes of the source are typed, one
    at each prompt. *plain*: the program keeps the prompt it has, `prompt`, and perhaps another inside of what is not
    complete, `more`: texts, or regular expressions; they count as the last that was printed, when nothing follows for
    50 ms.

    setup: lines typed once. interrupt_after: seconds after the start marker, or after the line was typed, in which the
    program may not run the code yet, so that Ctrl-C would meet it at its prompt: it waits. has_jobs: it is a shell,
    whose jobs are process groups of their own. bell: a signal that does nothing but make it look for a Ctrl-C that it
    may have missed. abort: lines typed to get out of what is not complete, after
    interrupts if `abort_interrupts`. quit: what ends it, as source; "": the end of the file.
    """

    name: str
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    arguments_last: bool = False
    env: Mapping[str, str | None] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    wrap: Callable[[bytes, Tags], Sequence[bytes]] | None = None
    arm: str = ""
    split: Callable[[str], Sequence[str]] = str.splitlines
    prompt: str | re.Pattern[str] | None = None
    more: str | re.Pattern[str] | None = None
    interrupt_after: float = 0.05
    has_jobs: bool = False
    bell: signal.Signals | None = None
    abort: tuple[str, ...] = ()
    abort_interrupts: bool = True
    quit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        if not self.command:
            raise ValueError("a definition has a command")
        kinds = [self.wrap is not None, bool(self.arm), self.prompt is not None]
        if sum(kinds) != 1:
            raise ValueError("a definition has one of wrap, arm and prompt")
        for name in ("prompt", "more"):
            given = getattr(self, name)
            pattern = re.compile(re.escape(given)) if isinstance(given, str) else given
            if pattern is not None and pattern.search(""):
                raise ValueError(f"Definition.{name}={given!r} is there where nothing is printed")

    def __hash__(self) -> int:
        return hash((self.name, self.command, self.arguments, self.arm, self.prompt))

    def with_command(self, *command: str) -> Definition:
        """The same for another file, or with arguments of the caller's: `PYTHON.with_command("python2.7", "-B")`."""
        return replace(self, command=command)

    def command_line(self) -> list[str]:
        """All that is executed."""
        program, *given = self.command
        if self.arguments_last:
            return [program, *given, *self.arguments]
        return [program, *self.arguments, *given]


def _halves(tag: str, quote: str) -> bytes:
    """A tag in two quoted halves: where what is typed is shown, that does not look like it."""
    middle = len(tag) // 2
    return f"{quote}{tag[:middle]}{quote}{quote}{tag[middle:]}{quote}".encode()


# bash

_ESCAPES: Final = {number: b"\\%03o" % number for number in (*range(32), 127)} | {39: b"\\'", 92: b"\\\\"}


def _in_bash(source: bytes, tags: Tags) -> list[bytes]:
    """As ANSI-C quoted text, see "Quoting" in bash(1), for `eval`: long source in a variable, a piece a line."""
    if b"\0" in source:
        raise ValueError("bash takes no source with a null character")
    pieces = [bytearray()]
    for byte in source:
        if len(pieces[-1]) > _PIECE:
            pieces.append(bytearray())
        pieces[-1] += _ESCAPES.get(byte) or bytes((byte,))
    prompt, start = _halves(tags.prompt, "'"), _halves(tags.start, "'")
    after = b"; __extsession %b ''" % prompt
    if not source:  # `eval ''` would change $?
        return [b"__extsession %b %b%b" % (prompt, start, after)]
    if len(pieces) == 1:
        return [b"__extsession %b %b; eval $'%b'%b" % (prompt, start, bytes(pieces[0]), after)]
    lines = [b"__extsession_s=$? __extsession_x="]  # what follows would leave its own status in $?
    lines += [b"__extsession_x+=$'%b'" % bytes(piece) for piece in pieces]
    before = b"__extsession %b %b $__extsession_s; " % (prompt, start)
    return [*lines, b'%beval "$__extsession_x"%b' % (before, after)]


# Python, Node.js


def _base64_pieces(source: bytes) -> list[str]:
    text = base64.b64encode(source).decode("ascii")
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)] or [""]


def _in_python(source: bytes, tags: Tags) -> list[bytes]:
    *others, last = _base64_pieces(source)
    lines = [f'__import__("__extsession__").run("{piece}")'.encode() for piece in others]
    prompt, start = _halves(tags.prompt, '"'), _halves(tags.start, '"')
    return [*lines, b'__import__("__extsession__").run("%b", %b, %b)' % (last.encode(), prompt, start)]


def _in_node(source: bytes, tags: Tags) -> list[bytes]:
    *others, last = _base64_pieces(source)
    lines = [f"+ {piece}".encode() for piece in others]
    return [*lines, f"= {tags.prompt} {tags.start} {last}".encode()]


# gdb

_OTHER_LANGUAGE: Final = r"(?:python|py|guile|gu|compile code)\s*$"
_GDB_BLOCK: Final = re.compile(rf"\s*(?:(?:define|document|commands|if|while)\b|{_OTHER_LANGUAGE})")
_GDB_OPAQUE: Final = re.compile(rf"\s*(?:document\b|{_OTHER_LANGUAGE})")


def _gdb_pieces(source: str) -> list[str]:
    """Commands, those with a block up to its "end": inside of blocks gdb has a prompt that cannot be changed.

    ValueError where an "end" is missing.
    """
    found: list[str] = []
    depth, opaque = 0, False
    for line in source.splitlines():
        if depth:
            found[-1] += "\n" + line
        else:
            found.append(line)
        if line.strip() == "end" and depth:
            depth, opaque = depth - 1, False
        elif not opaque and _GDB_BLOCK.match(line):
            depth, opaque = depth + 1, bool(_GDB_OPAQUE.match(line))
    if depth:
        raise ValueError('the source is not complete: "end" is missing')
    return found


#: bash(1), without the user's start files, line editing and history
BASH: Final = Definition(
    r"bash",
    ("bash",),
    arguments=("--noediting", "--norc", "--noprofile"),
    env={"PROMPT_COMMAND": None},
    setup=(inside.BASH,),
    wrap=_in_bash,
    interrupt_after=0.0,
    has_jobs=True,
    quit="exit",
)
#: CPython 2.7 and 3; for newer ones, `ExtSession` does more
PYTHON: Final = Definition(
    r"(?:python|pypy)[\d.]*",
    ("python3",),
    arguments=("-i", "-c", f"exec({inside.PYTHON!r}, {{}})"),
    arguments_last=True,
    env={"PYTHON_BASIC_REPL": "1"},
    wrap=_in_python,
    interrupt_after=0.0,
    bell=signal.SIGURG,
    quit="raise SystemExit",
)
#: Node.js, from 12 on
NODE: Final = Definition(
    r"node(?:js)?",
    ("node",),
    arguments=("-e", inside.NODE),
    arguments_last=True,
    env={"NODE_REPL_HISTORY": ""},
    wrap=_in_node,
    quit="process.exit()",
)
#: sqlite3(1); a database is an argument, else there is one in memory
SQLITE: Final = Definition(
    r"sqlite3",
    ("sqlite3",),
    arguments=("-interactive",),
    env={"SQLITE_HISTORY": os.devnull},
    arm=".prompt {prompt} {more}",
    abort=(";", "';", '";', "*/;", "`;", "];"),
    abort_interrupts=False,
    quit=".quit",
)
#: psql(1), without ~/.psqlrc, line editing and pager
PSQL: Final = Definition(
    r"psql",
    ("psql",),
    arguments=("--no-psqlrc", "--no-readline", "--pset=pager=off", "--quiet"),
    arm=r"\set PROMPT1 '{prompt}' \set PROMPT2 '{more}' \set PROMPT3 '{more}'",
    quit=r"\q",
)
#: gdb(1), without ~/.gdbinit, line editing, pages and questions
GDB: Final = Definition(
    r"gdb",
    ("gdb",),
    arguments=(
        "-q", "-nx",
        *("-iex", "set pagination off", "-iex", "set confirm off", "-iex", "set style enabled off"),
        *("-iex", "set width 0", "-iex", "set height 0", "-iex", "set editing off", "-iex", "set history save off"),
    ),
    arm="set prompt {prompt}",
    split=_gdb_pieces,
    quit="quit",
)  # fmt: skip

DEFINITIONS: Final = (BASH, PYTHON, NODE, SQLITE, PSQL, GDB)


def known(command: Sequence[str]) -> Definition | None:
    """The ready-made definition for a command, by the name of its file."""
    name = os.path.basename(command[0])
    for definition in DEFINITIONS:
        if re.fullmatch(definition.name, name):
            return definition.with_command(*command)
    return None
