"""What an editor asks about source in progress: completion, inspection, "is this complete".

Nothing of the user's runs but `__dir__` (and, for a signature, the `repr` of default values): expressions
are not evaluated but walked, a step at a time, with `_step`, which calls no property and no `__getattr__`.
Nothing is imported either. An answer never raises: whatever goes wrong, an interrupt included, gives the
empty answer, so that a request that takes too long can be ended by the interrupt that ends a call.

`re`, `ast`, `inspect` and the like are imported on the first request: they would double the start-up time.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Tuple

    Namespace = Dict[str, Any]
    Found = List[Tuple[str, str]]  # replacement, type

MAX_MATCHES = 1000
MAX_TEXT = 100_000
_LOOK_BACK = 2000  # characters before the cursor in which an expression begins
_LIST_SECONDS = 0.4  # for reading the folders of sys.path
_MISSING = object()

# All are used with re.compile at the place of use, which caches.
_NAME = r"[^\W\d]\w*"
_STRING = r"\"[^\"\\\n]*\"|'[^'\\\n]*'"
_PRIMARY = (
    rf"(?<![\w.)\]}}\"'])(?:{_NAME}|{_STRING}|\[\]|\{{\}}|\(\))"
    rf"(?:\s*\.\s*{_NAME}|\[\s*(?:-?\d+|{_STRING})\s*\])*"
)
_TOKEN = r"#[^\n]*|(?:\b([rbuftRBUFT]{1,2}))?('''|\"\"\"|'|\")|[(\[{)\]}]|\\\n|\n"
_INSIDE = {
    "'": r"(?:[^'\\\n]|\\.)*",
    '"': r"(?:[^\"\\\n]|\\.)*",
    "'''": r"(?:[^'\\]|\\.|'(?!''))*",
    '"""': r"(?:[^\"\\]|\\.|\"(?!\"\"))*",
}
_START = r"(?:^|[;:\n])[^\S\n]*"  # of a statement
_IMPORTED = rf"{_START}(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]*(?:\(([\w.\s,]+)|[ \t]([\w., \t]+))"


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
        start, found = _complete(source, cursor, namespace)
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
        name, value = _object_at(source, max(0, min(cursor, len(source))), namespace)
        if value is not _MISSING:
            text = _describe(name, value, detail)
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
        status = _status(source)
        return {"status": status, "indent": _indent(source) if status == "incomplete" else ""}
    except BaseException:  # what the compiler cannot take, say nested too deeply, it will not take later
        return {"status": "invalid", "indent": ""}


# where the cursor is


class _Place:
    """What a piece of source ends in: code, a string (from `start`, after the quote) or a comment."""

    __slots__ = ("brackets", "line", "prefix", "quote", "start", "where")

    def __init__(self) -> None:
        self.where = "code"
        self.start = 0
        self.prefix = self.quote = ""
        self.brackets: list[tuple[str, int]] = []  # the open ones: which, and its offset
        self.line = 0  # offset of the logical line


def _scan(text: str) -> _Place:
    import re

    token = re.compile(_TOKEN)
    place = _Place()
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


def _place(text: str) -> tuple[str, _Place]:
    """Scan `text`; the code of a replacement field stands alone, with blanks for what is before it."""
    place = _scan(text)
    while place.where == "string" and place.prefix.strip("rRbBuU"):
        begin = text.rfind("{", place.start)
        if begin < 0 or begin < text.rfind("}", place.start) or text[begin - 1] == "{":
            break
        text = " " * (begin + 1) + text[begin + 1 :]
        place = _scan(text)
    return text, place


def _search(pattern: str, text: str, place: _Place | None = None) -> Any:
    """Search near the end of `text`, or in the logical line of `place`; patterns end in "$"."""
    import re

    text = text[-_LOOK_BACK:] if place is None else text[place.line :]
    return re.search(pattern, text)


# from source to objects


def _resolve(expression: str, namespace: Namespace, source: str = "") -> Any:
    """The object that names, attributes and constant keys lead to, or _MISSING."""
    import ast

    # In parentheses, as it may go over several lines.
    return _walk(ast.parse(f"({expression.strip()})", mode="eval").body, namespace, source)


def _walk(node: Any, namespace: Namespace, source: str) -> Any:
    import ast

    if isinstance(node, ast.Name):
        return _named(node.id, namespace, source)
    if isinstance(node, ast.Attribute):
        value = _walk(node.value, namespace, source)
        return _MISSING if value is _MISSING else _step(value, node.attr)
    if isinstance(node, ast.Subscript):
        value = _walk(node.value, namespace, source)
        if type(value) in (dict, list, tuple):  # exactly: their __getitem__ is not the user's
            try:
                index: Any = node.slice
                if type(index).__name__ == "Index":  # a wrapper that 3.9 did away with
                    index = index.value
                return value[ast.literal_eval(index)]
            except (LookupError, TypeError, ValueError):
                pass
        return _MISSING
    return ast.literal_eval(node)


def _named(name: str, namespace: Namespace, source: str) -> Any:
    import builtins

    if name in namespace:
        return namespace[name]
    value = vars(builtins).get(name, _MISSING)
    if value is _MISSING:  # `import os; os.pa`: not run yet, but loaded long ago
        module, attribute = _import_of(name, source)
        value = sys.modules.get(module, _MISSING)
        if value is not _MISSING and attribute:
            inner = sys.modules.get(f"{module}.{attribute}", _MISSING)
            value = _step(value, attribute) if inner is _MISSING else inner
    return value


def _import_of(name: str, source: str) -> tuple[str, str]:
    """The module, and the attribute of it or "", that an import in `source` binds to `name`."""
    import re

    for match in re.finditer(_IMPORTED, source):
        for part in (match.group(2) or match.group(3)).split(","):
            words = part.split()
            if len(words) not in (1, 3) or words[-1].partition(".")[0] != name:
                continue
            if match.group(1):
                return match.group(1), words[0]
            return (words[0] if len(words) == 3 else name), ""
    return "", ""


def _raw(value: Any, name: str) -> Any:
    """What is stored under the name, descriptors not called; _MISSING if nothing is."""
    import inspect

    try:
        if issubclass(type(value), type(sys)):
            return object.__getattribute__(value, "__dict__").get(name, _MISSING)
        if issubclass(type(value), type):
            # Before 3.12 a member of an enum is not an attribute of the class.
            members = type.__getattribute__(value, "__dict__").get("_member_map_")
            if type(members) is dict and name in members:
                return members[name]
        return inspect.getattr_static(value, name, _MISSING)
    except Exception:
        return _MISSING


def _step(value: Any, name: str) -> Any:
    """`value.name`, if that runs no code of the user's; else _MISSING."""
    import types

    raw = _raw(value, name)
    if raw is _MISSING or not hasattr(type(raw), "__get__"):
        return raw
    kind = type(raw)
    is_class = issubclass(type(value), type)
    if kind is property:
        return raw if is_class else _MISSING
    if kind is staticmethod:
        return raw.__func__
    if kind is classmethod:  # it may wrap a descriptor, which 3.9 to 3.12 call
        if type(raw.__func__) is not types.FunctionType:
            return _MISSING
        return raw.__get__(None, value) if is_class else raw.__get__(value, type(value))
    safe = (
        types.FunctionType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.ClassMethodDescriptorType,
        types.MemberDescriptorType,
        types.GetSetDescriptorType,
    )
    if kind in safe:
        try:
            if is_class and _stored(raw, name, value):
                return raw.__get__(None, value)
            return raw.__get__(value, type(value)) if _stored(raw, name, type(value)) else raw
        except (AttributeError, TypeError):  # a slot that is not filled
            return _MISSING
    plain = (types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType)
    return raw if kind in plain or issubclass(kind, type) else _MISSING


def _stored(raw: Any, name: str, cls: Any) -> bool:
    return any(vars(base).get(name) is raw for base in type.__getattribute__(cls, "__mro__"))


def _kind(value: Any) -> str:
    import types

    kind = type(value)  # isinstance would ask a user's __class__
    if issubclass(kind, type):
        return "class"
    if issubclass(kind, types.ModuleType):
        return "module"
    if kind is property or kind.__name__ == "cached_property":
        return "property"
    functions = (
        types.FunctionType,
        types.BuiltinFunctionType,
        types.MethodType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.MethodWrapperType,
        types.ClassMethodDescriptorType,
        staticmethod,
        classmethod,
    )
    return "function" if kind in functions else "instance"


# completion


def _complete(source: str, cursor: int, namespace: Namespace) -> tuple[int, Found]:
    text, place = _place(source[:cursor])
    if place.where == "comment":
        return cursor, []
    if place.where == "string":
        return _in_string(text, place, namespace)
    imports = _in_import(text, place)
    if imports is not None:
        return imports
    attribute = _search(rf"(?P<of>{_PRIMARY})\s*\.\s*(?P<name>(?:{_NAME})?)$", text)
    if attribute:
        prefix = attribute.group("name")
        return cursor - len(prefix), _attributes(attribute.group("of"), prefix, namespace, source)
    prefix = _search(r"\w*$", text).group()
    start = cursor - len(prefix)
    before = text[:start].rstrip()
    if prefix[:1].isdigit() or before.endswith("."):
        return start, []  # a number, or an attribute of something that would have to be evaluated
    found: Found = []
    if place.brackets:
        bracket, offset = place.brackets[-1]
        owner = _search(rf"{_PRIMARY}$", text[:offset])
        if owner and bracket == "[" and len(before) == offset + 1 and not prefix:
            container = _resolve(owner.group(), namespace, source)
            if issubclass(type(container), dict):
                keys = (key for key in dict.__iter__(container) if type(key) in (str, int))
                found = [(repr(key), "instance") for key in keys]
                return start, found or _names(prefix, namespace)
        elif owner and bracket == "(" and before[-1:] in ("(", ","):
            given = text[offset + 1 : start]
            found = _parameters(_resolve(owner.group(), namespace, source), prefix, given)
    return start, found + _names(prefix, namespace)


def _allowed(names: Iterable[Any], prefix: str) -> list[str]:
    """The names that go on from the prefix, sorted, those with an underscore last."""
    wanted = {
        name
        for name in names
        if issubclass(type(name), str) and name.startswith(prefix) and (prefix or not name.startswith("_"))
    }
    return sorted(map(str, wanted), key=lambda name: (name.startswith("_"), name))


def _names(prefix: str, namespace: Namespace) -> Found:
    import builtins
    import keyword

    known = vars(builtins)
    keywords = set(keyword.kwlist).union(getattr(keyword, "softkwlist", ())) - {"_"}
    found: Found = []
    for name in _allowed([*namespace, *known, *keywords], prefix):
        if name in keywords and name not in namespace:
            found.append((name, "keyword"))
        else:
            found.append((name, _kind(namespace[name] if name in namespace else known[name])))
    return found


def _attributes(expression: str, prefix: str, namespace: Namespace, source: str) -> Found:
    value = _resolve(expression, namespace, source)
    if value is not _MISSING:
        return [(name, _kind(_raw(value, name))) for name in _allowed(_dir(value), prefix)[:MAX_MATCHES]]
    module, attribute = _import_of(expression, source)
    if not module:
        return []
    return _members(module if not attribute else f"{module}.{attribute}", prefix)


def _dir(value: Any) -> list[str]:
    try:
        return list(dir(value))
    except Exception:
        return list(type.__dir__(type(value)))


def _parameters(function: Any, prefix: str, given: str) -> Found:
    import re

    signature = None if function is _MISSING else _signature(function)
    if signature is None:
        return []
    kinds = ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")
    names = [item.name for item in signature.parameters.values() if item.kind.name in kinds]
    used = set(re.findall(rf"({_NAME})\s*=(?!=)", given))
    return [
        (f"{name}=", "param")
        for name in names
        if name.startswith(prefix) and name not in used and (prefix or not name.startswith("_"))
    ]


def _signature(function: Any) -> Any:
    import functools
    import inspect
    import types

    kind = type(function)
    known = (types.FunctionType, types.MethodType, functools.partial, types.BuiltinFunctionType)
    if kind not in known and not issubclass(kind, type) and _kind(function) != "function":
        # Of an instance inspect would ask for attributes, and so its __getattr__.
        function = _step(function, "__call__")
        if type(function) is not types.MethodType:
            return None
    try:
        return inspect.signature(function)
    except Exception:
        return None


def _in_string(text: str, place: _Place, namespace: Namespace) -> tuple[int, Found]:
    typed = text[place.start :]
    opening = place.start - len(place.quote) - len(place.prefix)
    owner = _search(rf"({_PRIMARY})\[\s*$", text[:opening])
    if owner:
        container = _resolve(owner.group(1), namespace)
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
    if "\n" in typed or "\\" in typed or len(typed) > _LOOK_BACK:
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


# modules: found as an import would find them, but never imported

_listings: dict[str, tuple[float, list[str]]] = {}


def _in_import(text: str, place: _Place) -> tuple[int, Found] | None:
    dotted = r"[^\W\d][\w.]*"
    clause = rf"{dotted}(?:\s+as\s+\w+)?\s*,\s*"
    match = _search(rf"{_START}from\s+({dotted})\s+import\s+\(?\s*(?:{clause})*(\w*)$", text, place)
    if match:
        return len(text) - len(match.group(2)), _members(match.group(1), match.group(2))
    match = _search(rf"{_START}from\s+{dotted}\s+(i?m?p?o?r?)$", text, place)
    if match:
        return len(text) - len(match.group(1)), [("import", "keyword")]
    match = _search(rf"{_START}(?:from\s+|import\s+(?:{clause})*)((?:{dotted})?)$", text, place)
    if match is None:
        return None
    package, dot, prefix = match.group(1).rpartition(".")
    return len(text) - len(prefix), _modules(package if dot else None, prefix)


def _modules(package: str | None, prefix: str) -> Found:
    if package is None:
        names = [name for name in sys.builtin_module_names if "." not in name] + _list(sys.path)
    else:
        names = _list(_locate(package)[0])
    return [(name, "module") for name in _allowed(names, prefix) if name.isidentifier()]


def _members(module: str, prefix: str) -> Found:
    """What `from module import` may name: of the loaded module, else as its source has it."""
    folders, origin = _locate(module)
    found: dict[str, str] = dict(_modules(module, prefix)) if folders else {}
    loaded = sys.modules.get(module)
    if loaded is not None:
        found.update((name, _kind(_raw(loaded, name))) for name in _allowed(_dir(loaded), prefix))
    else:
        defined = _defined(origin)
        found.update((name, defined[name]) for name in _allowed(defined, prefix))
    return [(name, found[name]) for name in _allowed(found, prefix)]


def _list(folders: Iterable[Any]) -> list[str]:
    import os
    import pkgutil
    import time

    end = time.monotonic() + _LIST_SECONDS
    names: list[str] = []
    for folder in list(folders):
        if type(folder) is not str:
            continue
        folder = folder or os.getcwd()
        try:
            changed = os.stat(folder).st_mtime
        except OSError:
            continue
        known = _listings.get(folder)
        if known is None or known[0] != changed:
            fresh: list[str] = []
            for module in pkgutil.iter_modules([folder]):
                fresh.append(module.name)
                if time.monotonic() > end:
                    return names + fresh  # what there is; not kept, the next request begins again here
            known = _listings[folder] = (changed, fresh)
        names += known[1]
    return names


def _locate(module: str) -> tuple[list[str], str]:
    """The folders of a package ([] of a module) and the source file, or ""."""
    from importlib.machinery import PathFinder

    folders: Any = None
    origin = name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        loaded = sys.modules.get(name)
        if loaded is not None:
            folders = list(_plain_dict(loaded).get("__path__") or ())
            origin = _plain_dict(loaded).get("__file__") or ""
            continue
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            return [], ""
        folders = list(spec.submodule_search_locations or ())
        origin = spec.origin or ""
    return folders, origin


def _plain_dict(module: Any) -> dict[str, Any]:
    return module.__dict__ if type(module) is type(sys) else {}


def _defined(path: str) -> dict[str, str]:
    """The names that a source file defines at its top level, with their types."""
    import ast
    import os
    import warnings

    if not path.endswith(".py") or os.path.getsize(path) > 10 * MAX_TEXT:
        return {}
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(file.read())
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = "class"
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names[node.name] = "function"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                names[(alias.asname or alias.name).partition(".")[0]] = "instance"
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update((target.id, "instance") for target in targets if isinstance(target, ast.Name))
    names.pop("*", None)
    return names


# inspection


def _object_at(source: str, cursor: int, namespace: Namespace) -> tuple[str, Any]:
    import re

    rest = re.compile(r"\w*").match(source, cursor).group()  # type: ignore[union-attr]
    text, place = _place(source[: cursor + len(rest)])
    owners = [text[:offset] for bracket, offset in place.brackets[:-20:-1] if bracket == "("]
    if place.where == "code":
        keyword = owners and re.compile(r"\s*=(?!=)").match(source, cursor + len(rest))
        if not keyword:
            owners.insert(0, text)
    for owner in owners:
        match = _search(rf"{_PRIMARY}$", owner)
        if match is None or not re.match(rf"(?:{_NAME}|.*[\w\]])$", match.group(), re.DOTALL):
            continue
        name = re.sub(r"\s*\.\s*", ".", match.group())
        try:
            value = _resolve(match.group(), namespace, source)
            if value is _MISSING and "." in name:  # a property: it can be described, but not asked
                of, _, last = match.group().rpartition(".")
                parent = _resolve(of, namespace, source)
                value = _MISSING if parent is _MISSING else _raw(parent, last.strip())
        except (SyntaxError, ValueError):
            continue  # a keyword, most often
        if value is not _MISSING:
            return name, value
    return "", _MISSING


def _describe(name: str, value: Any, detail: int) -> str:
    import inspect

    kind = _kind(value)
    lines: list[str] = []
    signature = _signature(value)
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
        init = _raw(value, "__init__")
        doc = inspect.getdoc(init) if inspect.isfunction(init) else None
        if doc:
            lines += ["Init docstring:", doc]
    return "\n".join(lines)


# is it complete?


def _status(source: str) -> str:
    import ast
    import codeop
    import warnings

    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        # Not printed here; ignored ones are not noted as seen, so the call itself will print them.
        warnings.simplefilter("ignore")
        try:
            if compiler(source, "<input>", "exec") is None:
                return "incomplete"
            tree = ast.parse(source)
        except (SyntaxError, ValueError, OverflowError):
            return "invalid"
    compound = tree.body and hasattr(tree.body[-1], "body") and not isinstance(tree.body[-1], ast.Expr)
    if compound and source.rpartition("\n")[2].strip():
        return "incomplete"
    return "complete"


def _indent(source: str) -> str:
    source = source.rstrip()
    place = _scan(source)
    if place.where == "string" or place.brackets:
        line = source[source.rfind("\n") + 1 :]
        return line[: len(line) - len(line.lstrip())]
    line = source[place.line : place.start if place.where == "comment" else None]
    indent = line[: len(line) - len(line.lstrip())]
    code = line.strip()
    if code.endswith(":"):
        return indent + "    "
    if code.split("(")[0].split(" ")[0] in ("return", "raise", "pass", "break", "continue"):
        return indent[:-4]
    return indent
