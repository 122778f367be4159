"""Where a cursor is: in code, a string or a comment, in which brackets, after which expression."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOOK_BACK = 2000  # characters before the cursor in which an expression begins

# All are used with re.compile at the place of use, which caches.
NAME = r"[^\W\d]\w*"
_STRING = r"\"[^\"\\\n]*\"|'[^'\\\n]*'"
PRIMARY = (
    rf"(?<![\w.)\]}}\"'])(?:{NAME}|{_STRING}|\[\]|\{{\}}|\(\))"
    rf"(?:\s*\.\s*{NAME}|\[\s*(?:-?\d+|{_STRING})\s*\])*"
)
_TOKEN = r"#[^\n]*|(?:\b([rbuftRBUFT]{1,2}))?('''|\"\"\"|'|\")|[(\[{)\]}]|\\\n|\n"
_INSIDE = {
    "'": r"(?:[^'\\\n]|\\.)*",
    '"': r"(?:[^\"\\\n]|\\.)*",
    "'''": r"(?:[^'\\]|\\.|'(?!''))*",
    '"""': r"(?:[^\"\\]|\\.|\"(?!\"\"))*",
}
START = r"(?:^|[;:\n])[^\S\n]*"  # of a statement


class Place:
    """What a piece of source ends in: code, a string (from `start`, after the quote) or a comment."""

    __slots__ = ("brackets", "line", "prefix", "quote", "start", "where")

    def __init__(self) -> None:
        self.where = "code"
        self.start = 0
        self.prefix = self.quote = ""
        self.brackets: list[tuple[str, int]] = []  # the open ones: which, and its offset
        self.line = 0  # offset of the logical line


def scan(text: str) -> Place:
    """Where the end of `text` is."""
    import re

    token = re.compile(_TOKEN)
    place = Place()
    position = 0
    while True:
        match = token.search(text, position)
        if match is None:
            return place
        position = match.end()
        quote = match.group(2)
        char = text[match.start()]
        if quote:
            end = re.compile(_INSIDE[quote], re.DOTALL).match(text, position).end()  # type: ignore[union-attr]
            if text.startswith(quote, end):
                position = end + len(quote)
            elif text[end:] in ("", "\\") or len(quote) == 3:
                place.where, place.start = "string", position
                place.prefix, place.quote = match.group(1) or "", quote
                return place
            else:
                position = end  # a line ended inside of quotes: an error of that line only
        elif char == "#":
            if position == len(text):
                place.where, place.start = "comment", match.start()
                return place
        elif char in "([{":
            place.brackets.append((char, match.start()))
        elif char in ")]}":
            del place.brackets[-1:]
        elif char == "\n" and not place.brackets:
            place.line = position


def find_place(text: str) -> tuple[str, Place]:
    """Scan `text`; the code of a replacement field stands alone, with blanks for what is before it."""
    place = scan(text)
    while place.where == "string" and place.prefix.strip("rRbBuU"):
        begin = text.rfind("{", place.start)
        if begin < 0 or begin < text.rfind("}", place.start) or text[begin - 1] == "{":
            break
        text = " " * (begin + 1) + text[begin + 1 :]
        place = scan(text)
    return text, place


def search(pattern: str, text: str, place: Place | None = None) -> Any:
    """Search near the end of `text`, or in the logical line of `place`; patterns end in "$"."""
    import re

    text = text[-LOOK_BACK:] if place is None else text[place.line :]
    return re.search(pattern, text)
