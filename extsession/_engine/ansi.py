"""Control sequences of terminals, taken out of what programs print.

The grammar is that of ECMA-48 (section 5): CSI with parameters and intermediates, strings (OSC, DCS, SOS, PM, APC) up
to ST, or BEL for OSC as xterm has it (ctlseqs), and escapes of two or more characters. A sequence that is cut
off, or never ends, loses its beginning only: the rest is text. Each pattern is linear in the length of its input.
"""

from __future__ import annotations

import re
from typing import Final

_SEQUENCE: Final = re.compile(
    r"""
    \x1b\[ [0-?]* [\x20-/]* [@-~]           # CSI
    | \x1b\] [^\x07\x1b]* (?: \x07 | \x1b\\ )  # OSC
    | \x1b[PX^_] [^\x1b]* \x1b\\            # DCS, SOS, PM, APC
    | \x1b [\x20-/]* [0-~]                  # escapes, and what is left of a sequence without an end
    | \x1b
    """,
    re.VERBOSE,
)
_LINE_END: Final = re.compile(r"\r+\n")


def without_escapes(text: str) -> str:
    """`text` without colours, movements of the cursor, titles of windows and the like. Other characters stay."""
    return _SEQUENCE.sub("", text) if "\x1b" in text else text


def plain(text: str) -> str:
    """`without_escapes`, and line ends as they are in text: CR LF, as a terminal has them, is LF."""
    text = without_escapes(text)
    return _LINE_END.sub("\n", text) if "\r" in text else text
