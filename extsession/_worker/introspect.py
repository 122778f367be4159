"""What an editor asks about source in progress: completion, inspection, "is this complete".

Nothing of the user's runs but `__dir__` (and, for a signature, the `repr` of default values): expressions
are not evaluated but walked, a step at a time, with `step`, which calls no property and no `__getattr__`.
Nothing is imported either. An answer never raises: whatever goes wrong, an interrupt included, gives the
empty answer, so that a request that takes too long can be ended by the interrupt that ends a call.

`re`, `ast`, `inspect` and the like are imported on the first request: they would double the start-up time.
"""

from __future__ import annotations

from .completion import MAX_MATCHES as MAX_MATCHES
from .completion import find_matches
from .inspection import describe, object_at
from .iscomplete import indent_after, status_of
from .resolve import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .resolve import Namespace

MAX_TEXT = 100_000


def complete(source: str, cursor: int, namespace: Namespace) -> dict[str, Any]:
    """Return `{"matches", "start", "end", "types"}`: what may replace `source[start:end]`, end the cursor.

    cursor: in code points. types, one for each match: function, class, module, instance, keyword, path,
    param (ends in "=") or property. At most MAX_MATCHES; names with an underscore only once one is typed.
    """
    cursor = max(0, min(cursor, len(source)))
    start = cursor
    matches: list[str] = []
    types: list[str] = []
    try:
        start, found = find_matches(source, cursor, namespace)
        seen: set[str] = set()
        for match, kind in found:
            if match not in seen and len(matches) < MAX_MATCHES:
                seen.add(match)
                matches.append(match)
                types.append(kind)
    except BaseException:  # see the module's docstring
        return {"matches": [], "start": cursor, "end": cursor, "types": []}
    return {"matches": matches, "start": start, "end": cursor, "types": types}


def inspect_source(source: str, cursor: int, namespace: Namespace, detail: int = 0) -> dict[str, Any]:
    """Describe the object at the cursor, else the one that is called around it.

    Returns `{"found", "name", "data": {"text/plain"}}`; data is empty if nothing was found.
    detail: 1 gives the source instead of the docstring, where there is one.
    """
    try:
        name, value = object_at(source, max(0, min(cursor, len(source))), namespace)
        if value is not MISSING:
            text = describe(name, value, detail)
            if len(text) > MAX_TEXT:
                text = f"{text[:MAX_TEXT]}... [{len(text) - MAX_TEXT} more characters]"
            return {"found": True, "name": name, "data": {"text/plain": text}}
    except BaseException:
        pass
    return {"found": False, "name": "", "data": {}}


def is_complete(source: str) -> dict[str, str]:
    """Return `{"status", "indent"}`, status one of complete, incomplete and invalid.

    As in the interactive interpreter a compound statement is incomplete until a blank line; a cell may hold
    any number of statements before it, and top-level await. indent: for the next line, of an incomplete one.
    """
    try:
        status = status_of(source)
        return {"status": status, "indent": indent_after(source) if status == "incomplete" else ""}
    except BaseException:  # what the compiler cannot take, say nested too deeply, it will not take later
        return {"status": "invalid", "indent": ""}
