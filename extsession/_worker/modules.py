"""Completion of import statements: modules found as an import would find them, but never imported."""

from __future__ import annotations

import sys

from .cursor import START, Place, search
from .resolve import dir_of, kind_of, raw_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, List, Tuple

    Found = List[Tuple[str, str]]  # replacement, type

_LIST_SECONDS = 0.4  # for reading the folders of sys.path
_MAX_SOURCE = 1_000_000  # bytes of a module that is read for its names
_listings: dict[str, tuple[float, list[str]]] = {}


def in_import(text: str, place: Place) -> tuple[int, Found] | None:
    """Start and matches if `text` ends in an import statement, else None."""
    dotted = r"[^\W\d][\w.]*"
    clause = rf"{dotted}(?:\s+as\s+\w+)?\s*,\s*"
    match = search(rf"{START}from\s+({dotted})\s+import\s+\(?\s*(?:{clause})*(\w*)$", text, place)
    if match:
        return len(text) - len(match.group(2)), members_of(match.group(1), match.group(2))
    match = search(rf"{START}from\s+{dotted}\s+(i?m?p?o?r?)$", text, place)
    if match:
        return len(text) - len(match.group(1)), [("import", "keyword")]
    match = search(rf"{START}(?:from\s+|import\s+(?:{clause})*)((?:{dotted})?)$", text, place)
    if match is None:
        return None
    package, dot, prefix = match.group(1).rpartition(".")
    return len(text) - len(prefix), _modules(package if dot else None, prefix)


def _modules(package: str | None, prefix: str) -> Found:
    if package is None:
        names = [name for name in sys.builtin_module_names if "." not in name] + _list(sys.path)
    else:
        names = _list(_locate(package)[0])
    return [(name, "module") for name in allowed(names, prefix) if name.isidentifier()]


def members_of(module: str, prefix: str) -> Found:
    """What `from module import` may name: of the loaded module, else as its source has it."""
    folders, origin = _locate(module)
    found: dict[str, str] = dict(_modules(module, prefix)) if folders else {}
    loaded = sys.modules.get(module)
    if loaded is not None:
        found.update((name, kind_of(raw_of(loaded, name))) for name in allowed(dir_of(loaded), prefix))
    else:
        defined = _defined(origin)
        found.update((name, defined[name]) for name in allowed(defined, prefix))
    return [(name, found[name]) for name in allowed(found, prefix)]


def allowed(names: Iterable[Any], prefix: str) -> list[str]:
    """The names that go on from the prefix, sorted, those with an underscore last."""
    wanted = {
        name
        for name in names
        if issubclass(type(name), str) and name.startswith(prefix) and (prefix or not name.startswith("_"))
    }
    return sorted(map(str, wanted), key=lambda name: (name.startswith("_"), name))


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

    if not path.endswith(".py") or os.path.getsize(path) > _MAX_SOURCE:
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
