"""What stands in the way of duplicating a session's process, as data: a `Census` of `Finding`s.

The session counts itself (`_worker/census.py`), so the controller may be told anything. What a text or a list may
hold is bounded on both sides: a constructor cuts and cleans what is too much, `from_wire` refuses it.
"""

from __future__ import annotations

from .faults import BadMessage
from .records import _Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

SAFE = "safe"  # the branch and the session do not disturb each other
RISKY = "risky"  # they may: only with force=True
REFUSED = "refused"  # the branch would hang, crash or be wrong
#: from the best to the worst
VERDICTS = (SAFE, RISKY, REFUSED)

MAX_FINDINGS = 64
MAX_NAMES = 100
MAX_CODE = 32  # characters
MAX_NAME = 200
MAX_WHY = 1000


class Finding(_Record):
    """One thing that was found.

    code: a stable word for what it is, "native-threads"; docs/branching.md has them all.
    verdict: "safe", "risky" or "refused".
    why: a sentence for people.
    names: what it is about, by name: of threads, files, sockets, ... Of more than MAX_NAMES, the last says how many
        there are besides. Text is cut at its bound, and what cannot be printed in it is a "?".

    ValueError for a verdict or a code that is none.
    """

    __slots__ = ("code", "verdict", "why", "names")  # noqa: RUF023 (the order of the arguments)
    code: str
    verdict: str
    why: str
    names: tuple[str, ...]

    def __init__(self, code: str, verdict: str, why: str = "", names: Iterable[str] = ()) -> None:
        if not _is_code(code):
            raise ValueError("%r is no code of a finding" % (code,))
        if verdict not in VERDICTS:
            raise ValueError("%r is no verdict: %s" % (verdict, ", ".join(VERDICTS)))
        names = tuple(names)
        if len(names) > MAX_NAMES:
            names = names[: MAX_NAMES - 1] + ("and %d more" % (len(names) - MAX_NAMES + 1),)
        self._fill(code, verdict, _clean(why, MAX_WHY), tuple([_clean(name, MAX_NAME) for name in names]))

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for name in self.names:
            counts[name] = counts.get(name, 0) + 1
        told = ["%s (%d times)" % pair if pair[1] > 1 else pair[0] for pair in counts.items()]
        text = self.code + (" " + ", ".join(told) if told else "")
        return text + (": " + self.why if self.why else "")

    def to_wire(self) -> dict[str, Any]:
        """A dict for the safe codec."""
        return {"code": self.code, "verdict": self.verdict, "why": self.why, "names": list(self.names)}

    @classmethod
    def from_wire(cls, wire: Any) -> Finding:
        """The inverse of `to_wire`; BadMessage for anything else."""
        if type(wire) is not dict or set(wire) != set(cls.__slots__):
            raise BadMessage("not a finding of a census")
        code, verdict, why, names = wire["code"], wire["verdict"], wire["why"], wire["names"]
        if not _is_code(code) or type(verdict) is not str or verdict not in VERDICTS:
            raise BadMessage("a finding without a code or verdict")
        if not _is_text(why, MAX_WHY):
            raise BadMessage("a finding whose reason is no text, or too long")
        if type(names) is not list or len(names) > MAX_NAMES:
            raise BadMessage("a finding of too many names")
        if not all(_is_text(name, MAX_NAME) for name in names):
            raise BadMessage("a finding with a name that is no text, or too long")
        return cls(code, verdict, why, names)


class Census(_Record):
    """All that was found. Without findings, nothing stands in the way."""

    __slots__ = ("findings",)
    findings: tuple[Finding, ...]

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._fill(tuple(findings)[:MAX_FINDINGS])

    @property
    def verdict(self) -> str:
        """The worst of the findings; "safe" if there is none."""
        return max([each.verdict for each in self.findings], key=VERDICTS.index, default=SAFE)

    @property
    def threads(self) -> tuple[str, ...]:
        """The names of the threads that are in the way, those of Python first."""
        return tuple([name for code in ("threads", "native-threads") for name in self.names(code)])

    def names(self, code: str) -> tuple[str, ...]:
        """The names in the findings of this code."""
        return tuple([name for each in self.findings if each.code == code for name in each.names])

    def of(self, verdict: str) -> tuple[Finding, ...]:
        """The findings of this verdict."""
        return tuple([each for each in self.findings if each.verdict == verdict])

    def __str__(self) -> str:
        """The verdict and the findings that brought it: for a message."""
        verdict = self.verdict
        told = "; ".join(map(str, self.of(verdict)))
        return verdict + (": " + told if told else "")

    def to_wire(self) -> dict[str, Any]:
        """A dict for the safe codec. The verdict follows from the findings: it is not sent."""
        return {"findings": [each.to_wire() for each in self.findings]}

    @classmethod
    def from_wire(cls, wire: Any) -> Census:
        """The inverse of `to_wire`; BadMessage for anything else."""
        if type(wire) is not dict or set(wire) != {"findings"} or type(wire["findings"]) is not list:
            raise BadMessage("not a census")
        if len(wire["findings"]) > MAX_FINDINGS:
            raise BadMessage("a census of %d findings" % len(wire["findings"]))
        return cls([Finding.from_wire(each) for each in wire["findings"]])


def _is_code(code: Any) -> bool:
    if type(code) is not str or not 0 < len(code) <= MAX_CODE or not code.isascii():
        return False
    return all(part.isalnum() and part.islower() for part in code.split("-"))


def _is_text(text: Any, most: int) -> bool:
    return type(text) is str and len(text) <= most


def _clean(text: str, most: int) -> str:
    if not text.isprintable():  # line ends and terminal codes too: the text goes into messages
        text = "".join([each if each.isprintable() else "?" for each in text])
    return text if len(text) <= most else text[: most - 3] + "..."
