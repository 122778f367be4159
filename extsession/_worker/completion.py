"""What may go on from the cursor: names, attributes, keys, parameters, paths; modules by `modules`."""

from __future__ import annotations

from .cursor import LOOK_BACK, NAME, PRIMARY, Place, find_place, search
from .modules import allowed, in_import, members_of
from .resolve import MISSING, dir_of, import_of, kind_of, raw_of, resolve, signature_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .modules import Found
    from .resolve import Namespace

MAX_MATCHES = 1000


def find_matches(source: str, cursor: int, namespace: Namespace) -> tuple[int, Found]:
    """Where the replaced part starts, and what may replace it; not yet bounded, nor each once."""
    text, place = find_place(source[:cursor])
    if place.where == "comment":
        return cursor, []
    if place.where == "string":
        return _in_string(text, place, namespace)
    imports = in_import(text, place)
    if imports is not None:
        return imports
    attribute = search(rf"(?P<of>{PRIMARY})\s*\.\s*(?P<name>(?:{NAME})?)$", text)
    if attribute:
        prefix = attribute.group("name")
        return cursor - len(prefix), _attributes(attribute.group("of"), prefix, namespace, source)
    prefix = search(r"\w*$", text).group()
    start = cursor - len(prefix)
    before = text[:start].rstrip()
    if prefix[:1].isdigit() or before.endswith("."):
        return start, []  # a number, or an attribute of something that would have to be evaluated
    found: Found = []
    if place.brackets:
        bracket, offset = place.brackets[-1]
        owner = search(rf"{PRIMARY}$", text[:offset])
        if owner and bracket == "[" and len(before) == offset + 1 and not prefix:
            container = resolve(owner.group(), namespace, source)
            if issubclass(type(container), dict):
                keys = (key for key in dict.__iter__(container) if type(key) in (str, int))
                found = [(repr(key), "instance") for key in keys]
                return start, found or _names(prefix, namespace)
        elif owner and bracket == "(" and before[-1:] in ("(", ","):
            given = text[offset + 1 : start]
            found = _parameters(resolve(owner.group(), namespace, source), prefix, given)
    return start, found + _names(prefix, namespace)


def _names(prefix: str, namespace: Namespace) -> Found:
    import builtins
    import keyword

    known = vars(builtins)
    keywords = set(keyword.kwlist).union(getattr(keyword, "softkwlist", ())) - {"_"}
    found: Found = []
    for name in allowed([*namespace, *known, *keywords], prefix):
        if name in keywords and name not in namespace:
            found.append((name, "keyword"))
        else:
            found.append((name, kind_of(namespace[name] if name in namespace else known[name])))
    return found


def _attributes(expression: str, prefix: str, namespace: Namespace, source: str) -> Found:
    value = resolve(expression, namespace, source)
    if value is not MISSING:
        return [(name, kind_of(raw_of(value, name))) for name in allowed(dir_of(value), prefix)[:MAX_MATCHES]]
    module, attribute = import_of(expression, source)
    if not module:
        return []
    return members_of(module if not attribute else f"{module}.{attribute}", prefix)


def _parameters(function: Any, prefix: str, given: str) -> Found:
    import re

    signature = None if function is MISSING else signature_of(function)
    if signature is None:
        return []
    kinds = ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")
    names = [item.name for item in signature.parameters.values() if item.kind.name in kinds]
    used = set(re.findall(rf"({NAME})\s*=(?!=)", given))
    return [
        (f"{name}=", "param")
        for name in names
        if name.startswith(prefix) and name not in used and (prefix or not name.startswith("_"))
    ]


def _in_string(text: str, place: Place, namespace: Namespace) -> tuple[int, Found]:
    typed = text[place.start :]
    opening = place.start - len(place.quote) - len(place.prefix)
    owner = search(rf"({PRIMARY})\[\s*$", text[:opening])
    if owner:
        container = resolve(owner.group(1), namespace)
        found: Found = []
        if issubclass(type(container), dict):
            wanted = bytes if "b" in place.prefix.lower() else str
            keys: list[Any] = list(dict.__iter__(container))
            for key in keys:
                if type(key) is not wanted:
                    continue
                body = key.decode("latin-1") if isinstance(key, bytes) else str(key)
                body = body.replace("\\", "\\\\").replace(place.quote[0], "\\" + place.quote[0])
                if body.startswith(typed) and body.isprintable() and ("\\" not in body or not place.prefix):
                    found.append((body, "instance"))
        return place.start, found
    if "\n" in typed or "\\" in typed or len(typed) > LOOK_BACK:
        return len(text), []
    return len(text) - len(typed.rpartition("/")[2]), _paths(typed)


def _paths(typed: str) -> Found:
    import os
    from itertools import islice

    folder, slash, prefix = typed.rpartition("/")
    found: Found = []
    try:
        with os.scandir(os.path.expanduser(folder + slash) or ".") as entries:
            for entry in islice(entries, 10 * MAX_MATCHES):
                if entry.name.startswith(prefix) and (prefix or not entry.name.startswith(".")):
                    found.append((entry.name + "/" * entry.is_dir(), "path"))
    except (OSError, ValueError):
        pass
    return sorted(found)
