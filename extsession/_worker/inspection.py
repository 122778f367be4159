"""What is told of the object at the cursor: signature, type, docstring or source."""

from __future__ import annotations

from .cursor import NAME, PRIMARY, find_place, search
from .resolve import MISSING, kind_of, raw_of, resolve, signature_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .resolve import Namespace


def object_at(source: str, cursor: int, namespace: Namespace) -> tuple[str, Any]:
    """(name, object) at the cursor or called around it; ("", MISSING) if there is none."""
    import re

    rest = re.compile(r"\w*").match(source, cursor).group()  # type: ignore[union-attr]
    text, place = find_place(source[: cursor + len(rest)])
    owners = [text[:offset] for bracket, offset in place.brackets[:-20:-1] if bracket == "("]
    if place.where == "code":
        keyword = owners and re.compile(r"\s*=(?!=)").match(source, cursor + len(rest))
        if not keyword:
            owners.insert(0, text)
    for owner in owners:
        match = search(rf"{PRIMARY}$", owner)
        if match is None or not re.match(rf"(?:{NAME}|.*[\w\]])$", match.group(), re.DOTALL):
            continue
        name = re.sub(r"\s*\.\s*", ".", match.group())
        try:
            value = resolve(match.group(), namespace, source)
            if value is MISSING and "." in name:  # a property: it can be described, but not asked
                of, _, last = match.group().rpartition(".")
                parent = resolve(of, namespace, source)
                value = MISSING if parent is MISSING else raw_of(parent, last.strip())
        except (SyntaxError, ValueError):
            continue  # a keyword, most often
        if value is not MISSING:
            return name, value
    return "", MISSING


def describe(name: str, value: Any, detail: int) -> str:
    import inspect

    kind = kind_of(value)
    lines: list[str] = []
    signature = signature_of(value)
    if signature is not None:
        lines.append(f"Signature: {name.rpartition('.')[2]}{signature}")
    lines.append(f"Type:      {type(value).__name__}")
    if type(value) in (str, bytes, int, float, complex, bool, type(None)):
        shown = repr(value)  # of no other type: it would run the user's code
        lines.append(f"Value:     {shown if len(shown) <= 200 else shown[:200] + '...'}")
    described = value if kind != "instance" else type(value)
    source = file = ""
    try:
        if kind != "instance":
            file = inspect.getsourcefile(value) or inspect.getfile(value)
    except (TypeError, OSError):
        pass
    if file:
        lines.append(f"File:      {file}")
    if detail:
        try:
            source = inspect.getsource(described)
        except (TypeError, OSError):
            pass
    if source:
        return "\n".join([*lines, "Source:", source.rstrip("\n")])
    doc = inspect.getdoc(described)
    if doc:
        lines += ["Docstring:", doc]
    if kind == "class":
        init = raw_of(value, "__init__")
        doc = inspect.getdoc(init) if inspect.isfunction(init) else None
        if doc:
            lines += ["Init docstring:", doc]
    return "\n".join(lines)
