"""Imports of the package point one way. The rule is in STYLE.md; this is the test that holds it.

`_protocol` < `errors`, `options` < `_launch` < `_engine` < `_sync` | `_aio` < public names < front ends

`_worker` imports `_protocol` alone, and only the public names take something from it (`Session`). What is
shipped imports its own code relatively and the standard library otherwise. Front ends and `testing` import
public names only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent / "extsession"
PACKAGE = "extsession"
SHIPPED = ("_protocol", "_worker")
RANKS = {"_protocol": 0, "errors": 1, "options": 1, "_launch": 2, "_engine": 3, "_sync": 4, "_aio": 4, "": 5, "processes": 5}
RANKS["terminal"] = 4  # beside the two colours: it drives processes of another kind, and waits for them itself
FRONT_END = 6


class Import(NamedTuple):
    """One imported thing: `name` of the module `module`, both as written once dots are resolved."""

    line: int
    module: str
    name: str
    relative: bool


def _imports(tree: ast.AST, package: str) -> Iterator[Import]:
    """Yield every import in `tree`, in functions too, of a module that belongs to `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, "", False)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parts = package.split(".")
                module = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [module])])
            for alias in node.names:
                yield Import(node.lineno, module, alias.name, bool(node.level))
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                name = str(first.value)
                dots = len(name) - len(name.lstrip("."))
                if dots:
                    parts = package.split(".")
                    name = ".".join([*parts[: len(parts) - dots + 1], *filter(None, [name[dots:]])])
                yield Import(node.lineno, name, "", bool(dots))


def _place(module: str) -> str:
    """Return the part of the package that `module` is in: "_engine", "errors", "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def _rank(place: str) -> int | None:
    if place in RANKS:
        return RANKS[place]
    return None if place.startswith("_") and place != "__main__" else FRONT_END


def _wrong(source: str, target: str, name: str) -> str | None:
    """Say what is wrong with an import from the module `source` of `target`, modules of the package."""
    mine, theirs = _place(source), _place(target)
    if mine == theirs:
        return None
    if mine == "_worker":
        return None if theirs == "_protocol" else "_worker imports _protocol alone"
    if theirs == "_worker":
        return None if mine == "" else "only the public names may take something from _worker"
    my_rank, their_rank = _rank(mine), _rank(theirs)
    for place, rank in ((mine, my_rank), (theirs, their_rank)):
        if rank is None:
            return f"{place} has no place in the order of imports"
    assert my_rank is not None and their_rank is not None
    if my_rank == FRONT_END:
        for part in [*target.split("."), name]:
            if part.startswith("_") and not part.endswith("__"):
                return f"front ends import public names only, not {part}"
        return None
    if {mine, theirs} == {"_sync", "_aio"}:
        return "the two colours do not know each other"
    if my_rank < their_rank:
        return f"{mine or 'the public names'} may not know {theirs or 'the public names'}"
    return None


def violations(root: Path) -> list[str]:
    """Return each import below `root` that breaks the rule, as "file:line: source -> target: why"."""
    files = {}
    for path in sorted(root.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(root).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = []
    for source, path in files.items():
        package = source if path.name == "__init__.py" else source.rpartition(".")[0]
        shipped = _place(source) in SHIPPED
        for line, module, name, relative in _imports(ast.parse(path.read_text("utf-8")), package):
            target = f"{module}.{name}" if f"{module}.{name}" in files else module
            ours = module.split(".")[0] == PACKAGE
            if ours:
                why = _wrong(source, target, "" if target != module else name)
                if shipped and not relative:
                    why = "shipped code imports its own modules relatively"
            elif shipped and module.split(".")[0] not in {*sys.stdlib_module_names, "__main__"}:
                why = "shipped code imports the standard library only"
            else:
                why = None
            if why:
                found.append(f"{path.relative_to(root.parent)}:{line}: {source} -> {target}: {why}")
    return found


def test_the_package_keeps_the_rule() -> None:
    assert violations(ROOT) == []


def test_public_names_are_where_they_are_said_to_be() -> None:
    import extsession

    said = {}
    for node in ast.walk(ast.parse((ROOT / "__init__.py").read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            said.update({alias.name: f".{node.module}" for alias in node.names})
    assert said == {name: module for module, names in extsession._NAMES.items() for name in names}
    assert {*said, "errors"} == set(extsession.__all__)
    for name in extsession.__all__:
        assert getattr(extsession, name) is not None


def test_the_package_is_there() -> None:
    assert {"_protocol", "_worker", "_launch"} <= {path.name for path in ROOT.iterdir()}


def _tree(folder: Path, files: dict[str, str]) -> Path:
    root = folder / PACKAGE
    for name in ("", "_protocol", "_worker", "_launch", "_engine", "_sync", "_aio", "kernel"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "__init__.py").touch()
    for name in ("errors.py", "options.py", "_protocol/frames.py", "_worker/serve.py", "kernel/app.py"):
        (root / name).touch()
    for name, source in files.items():
        (root / name).write_text(source)
    return root


@pytest.mark.parametrize(
    "file, source",
    [
        ("_protocol/frames.py", "import struct\nfrom . import messages\nfrom .values import dump"),
        ("_worker/serve.py", "import os.path\nimport __main__\nfrom .._protocol.frames import Decoder"),
        ("_worker/serve.py", "from .._protocol import frames"),
        ("errors.py", "from ._protocol.frames import X\nfrom .options import Limits"),
        ("_launch/local.py", "import psutil\nfrom ..errors import X\nfrom .._protocol import frames"),
        ("_engine/link.py", "from .._launch.base import Process\nfrom extsession.errors import SessionDied"),
        ("_sync/hub.py", "from .._engine.link import Link\nfrom ..options import Limits"),
        ("__init__.py", "def __getattr__(name):\n    from ._aio import session\n"),
        ("__init__.py", "from ._worker.session import Session\nfrom .errors import SessionDied"),
        ("kernel/app.py", "import extsession\nfrom .. import A, __version__\nfrom ..errors import X"),
        ("kernel/app.py", "from ._inner import thing\nfrom . import _inner"),
        ("__main__.py", "from . import __version__\nfrom .kernel import main"),
    ],
)
def test_the_checker_accepts(tmp_path: Path, file: str, source: str) -> None:
    assert violations(_tree(tmp_path, {file: source})) == []


@pytest.mark.parametrize(
    "file, source, edge",
    [
        ("_protocol/frames.py", "from ..errors import X", "_protocol.frames -> extsession.errors"),
        ("_protocol/frames.py", "from .. import errors", "_protocol.frames -> extsession.errors"),
        ("_protocol/frames.py", "import extsession._protocol.values", "relatively"),
        ("_protocol/frames.py", "import numpy", "-> numpy: shipped code imports the standard library only"),
        ("_worker/serve.py", "def f():\n    import psutil", "serve.py:2: extsession._worker.serve -> psutil"),
        ("_worker/serve.py", "from ..errors import X", "_worker imports _protocol alone"),
        ("_worker/serve.py", "from .. import Session", "-> extsession: _worker imports _protocol alone"),
        ("errors.py", "from ._launch import base", "extsession.errors -> extsession._launch"),
        ("_launch/payload.py", "from .._worker import serve", "_launch.payload -> extsession._worker.serve"),
        ("_launch/payload.py", "import importlib\nimportlib.import_module('extsession._worker')", "_worker"),
        ("_launch/payload.py", "from importlib import import_module\nimport_module('.._engine')", "_engine"),
        ("_launch/local.py", "def f():\n    from .._engine import machine", "_launch.local -> "),
        ("_engine/link.py", "from .. import ExtSession", "_engine.link -> extsession: _engine may not know"),
        ("_engine/link.py", "if TYPE_CHECKING:\n    from .._sync import hub", "link.py:2: "),
        ("_sync/hub.py", "from .._aio import session", "the two colours do not know each other"),
        ("_aio/session.py", "import extsession._sync.hub", "the two colours do not know each other"),
        ("_sync/hub.py", "from .._worker.session import Session", "only the public names"),
        ("_sync/hub.py", "from ..kernel import app", "_sync.hub -> extsession.kernel.app"),
        ("__init__.py", "from .kernel.app import main", "the public names may not know kernel"),
        ("kernel/app.py", "from .._engine.machine import SessionMachine", "not _engine"),
        ("kernel/app.py", "from .. import _sync", "not _sync"),
        ("kernel/app.py", "from ..errors import _rebuild", "not _rebuild"),
        ("kernel/app.py", "def f():\n    from extsession._worker import serve", "only the public names"),
        ("testing/clock.py", "from .._engine import machine", "not _engine"),
        ("_sync/hub.py", "from .._helpers import x", "_helpers has no place"),
    ],
)
def test_the_checker_refuses(tmp_path: Path, file: str, source: str, edge: str) -> None:
    (tmp_path / PACKAGE / "testing").mkdir(parents=True)
    found = violations(_tree(tmp_path, {file: source}))
    assert len(found) == 1
    assert edge in found[0]
