"""The first look at a script, before any parser sees it: one pass over its text.

CPython's parser recurses: tens of thousands of operators or brackets in one expression exhaust the C stack of some
versions, before anything can be checked. So their number is bounded here, roughly and safely, by tokens.
"""

from __future__ import annotations

import re

from . import costs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TOKEN = re.compile(
    r'''(?P<string>"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^'\\]|\\.|'(?!''))*\'\'\''''
    r"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<number>(?<![^\W\d])\.?\d[\w.]*)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<newline>\n)|(?P<joined>\\\n)|(?P<comma>[,;])|(?P<space>[ \t\r\f]+)|(?P<operator>\*\*|//|<<|>>|[<>=!]=|->|.)",
    re.DOTALL,
)
#: words that can stand in each other without a bracket
_CHAINING = frozenset(["not", "lambda", "if", "else", "and", "or", "in", "is", "for", "await", "elif"])


_FORMATTED = frozenset(["f", "fr", "rf"])
_OPERATORS = re.compile(r"[-+*/%~<>=.&|^(\[]|\b(?:not|lambda|if|else|and|or|in|is)\b")


def _fields(string: str) -> str:
    """What is wrong with the fields of an f-string, as every version up to 3.11 reads them; "": nothing.

    Versions from 3.12 on would take more: comments, backslashes and the very quotes of the f-string in a field.
    """
    quote = string[:3] if string[:3] in ('"""', "'''") else string[:1]
    index, end = len(quote), len(string) - len(quote)
    depth = start = 0
    while index < end:
        character = string[index]
        if not depth:
            if string[index : index + 2] in ("{{", "}}"):
                index += 1
            elif character == "{":
                depth, start = 1, index
            elif character == "}":
                return "a } has no { before it"
            elif character == "\\":
                index += 1
        elif character in "\\#":
            return "a { } has a \\\\ or a # in it"
        elif character in "\"'":
            if string[index - 1] in "fF":
                return "an f-string cannot stand in another one: use a variable"
            inner = string[index : index + 3] if string[index : index + 3] in ('"""', "'''") else character
            after = string.find(inner, index + len(inner), end)
            if after < 0:
                return "a text in { } is not closed: use other quotes than those of the f-string"
            if "\\" in string[index:after]:
                return "a { } has a \\ in it"
            index = after + len(inner) - 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if not depth and len(_OPERATORS.findall(string, start, index)) > costs.MAX_CHAIN:
                return "an expression in { } has more than %d operators" % costs.MAX_CHAIN
        index += 1
    return "a { is not closed: use other quotes in { } than those of the f-string" if depth else ""


def finding(line: int, column: int, construct: str, why: str, hint: str = "") -> dict[str, Any]:
    """One thing that is wrong with a script. column: from 1, like the line."""
    return {"line": line, "column": column, "construct": construct, "why": why, "hint": hint}


def check(source: str) -> dict[str, Any] | None:
    """What is wrong with the text of a script, so that it must not be parsed; None: nothing."""
    if len(source) > costs.MAX_SOURCE or len(source.encode("utf-8", "surrogatepass")) > costs.MAX_SOURCE:
        return finding(1, 1, "script", "the script is longer than %d characters" % costs.MAX_SOURCE, "Split it.")
    for index, character in enumerate(source) if not source.isascii() or "\0" in source else ():
        if character == "\0" or "\ud800" <= character <= "\udfff":
            line = source.count("\n", 0, index) + 1
            return finding(line, index - source.rfind("\n", 0, index), "character", "the script has a character that is"
                           " no text", "Remove it; it may be invisible.")  # fmt: skip
    prefix = ""
    elifs = 0
    counts = [0]  # of operators, for each open bracket
    total = 0
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup
        problem = None
        if kind == "string":
            if prefix in _FORMATTED:
                why = _fields(match[0])
                problem = ("f-string", why) if why else None
        elif match[0] in ("'", '"'):
            problem = ("text", "the text is not closed")
        elif kind == "operator" or (kind == "word" and match[0] in _CHAINING):
            elifs += match[0] == "elif"
            counts[-1] += 1
            total += 1
            if total > costs.MAX_CHAIN:
                problem = ("expression", "the expression has more than %d operators" % costs.MAX_CHAIN)
            elif elifs > costs.MAX_ELIFS:
                problem = ("elif", "the script has more than %d elif" % costs.MAX_ELIFS)
        elif kind == "open":
            counts[-1] += 1
            total += 1
            counts.append(0)
            if len(counts) > costs.MAX_BRACKETS or total > costs.MAX_CHAIN:
                problem = (match[0], "there are more than %d brackets inside each other" % costs.MAX_BRACKETS)
        elif kind == "close":
            if len(counts) > 1:
                total -= counts.pop()
        elif kind == "comma" or (kind == "newline" and len(counts) == 1):
            total -= counts[-1]
            counts[-1] = 0
        elif kind == "number" and len(match[0]) > costs.MAX_NUMBER:
            problem = ("number", "the number is longer than %d characters" % costs.MAX_NUMBER)
        prefix = match[0].lower() if kind == "word" else ""
        if problem:
            start = match.start()
            line = source.count("\n", 0, start) + 1
            return finding(line, start - source.rfind("\n", 0, start), *problem, "Use a variable for a part of it.")
    return None
