import enum
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from extsession._worker.introspect import MAX_MATCHES, complete, inspect_source, is_complete

if TYPE_CHECKING:
    from extsession._launch.interpreter import Interpreter

ROOT = Path(__file__).resolve().parents[2]


class Trap:
    """Fails the test where any code of it is run."""

    plain = "text"
    calls: list[str] = []

    @property
    def prop(self) -> str:
        self.calls.append("prop")
        return ""

    def __getattr__(self, name: str) -> object:
        self.calls.append(name)
        raise AttributeError(name)

    def __getitem__(self, key: object) -> object:
        self.calls.append("getitem")
        return ""

    def __repr__(self) -> str:
        self.calls.append("repr")
        return ""

    def method(self, alpha: int, *, beta: int = 2) -> None:
        """Method doc."""


class Colour(enum.Enum):
    RED = 1


def function(alpha: int, _hidden: int = 0, *args: int, beta: str = "b", **more: int) -> str:
    """Function doc."""
    return beta


NAMESPACE: dict[str, Any] = {
    "value_one": 1,
    "value_two": [],
    "_private": 0,
    "__dunder": 0,
    "trap": Trap(),
    "Trap": Trap,
    "Colour": Colour,
    "function": function,
    "space": types.SimpleNamespace(inner=types.SimpleNamespace(leaf="x", other=2), fn=function),
    "d": {"key one": {"deep": "x"}, "key'two": 2, "other": 3, 7: 4, b"kb": 5, "key\n": 6},
    "text": "abc",
    "os": os,
    "größe": 1,
}


def ask(source: str, namespace: dict[str, Any] = NAMESPACE) -> tuple[list[str], str]:
    """Complete at the "|"; return the matches and the text that they replace."""
    cursor = source.index("|")
    source = source.replace("|", "", 1)
    answer = complete(source, cursor, namespace)
    assert answer["end"] == cursor and len(answer["types"]) == len(answer["matches"])
    return answer["matches"], source[answer["start"] : cursor]


@pytest.mark.parametrize(
    ("source", "matches", "replaced"),
    [
        ("value_|", ["value_one", "value_two"], "value_"),
        ("x = 1\ny = value_o|", ["value_one"], "value_o"),
        ("_p|", ["_private"], "_p"),
        ("grö|", ["größe"], "grö"),
        ("isinst|", ["isinstance"], "isinst"),
        ("nonl|", ["nonlocal"], "nonl"),
        ("nosuchname|", [], "nosuchname"),
        ("space.inn|", ["inner"], "inn"),
        ("space.inner.|", ["leaf", "other"], ""),
        ("space . inner.le|+1", ["leaf"], "le"),
        ("(space\n  .inner\n  .le|", ["leaf"], "le"),
        ("space.inner.leaf.startsw|", ["startswith"], "startsw"),
        ("'abc'.startsw|", ["startswith"], "startsw"),
        ("''.join(x) + [].app|", ["append"], "app"),
        ("print(space.inner.le|", ["leaf"], "le"),
        ("f(x).inner.le|", [], "le"),
        ("f(x).le|", [], "le"),
        ("a[i].startsw|", [], "startsw"),
        ("1.re|", [], "re"),
        ("nosuch.|", [], ""),
        ("trap.pla|", ["plain"], "pla"),
        ("trap.prop.|", [], ""),
        ("trap.dynamic.|", [], ""),
        ("trap['x'].|", [], ""),
        ("trap.plain.startsw|", ["startswith"], "startsw"),
        ("Colour.RED.nam|", ["name"], "nam"),
        ("Trap.method.__na|", ["__name__"], "__na"),
        ("# value_|", [], ""),
        ("x = 1 # value_|", [], ""),
        ("d['ke|", ["key one", "key\\'two"], "ke"),
        ('d["key|', ["key one", "key'two"], "key"),
        ("d[ 'oth|", ["other"], "oth"),
        ("d[b'|", ["kb"], ""),
        ("d['key one']['|", ["deep"], ""),
        ("d['key one']['deep'].startsw|", ["startswith"], "startsw"),
        ("d[|", ["'key one'", '"key\'two"', "'other'", "7", "'key\\n'"], ""),
        ("trap['|", [], ""),
        ("f'{value_o|", ["value_one"], "value_o"),
        ("f'{{value_o|", [], "{{value_o"),
        ("f'''\n{d['oth|", ["other"], "oth"),
        ("f'{space.inner.le|", ["leaf"], "le"),
        ("function(alp|", ["alpha="], "alp"),
        ("function(1, be|", ["beta="], "be"),
        ("function(beta='(', alp|", ["alpha="], "alp"),
        ("function(beta=1, be|", [], "be"),
        ("function(alpha=be|", [], "be"),
        ("function(g(1), [2, 3], be|", ["beta="], "be"),
        ("function(_hi|", ["_hidden="], "_hi"),
        ("space.fn(\n    alp|", ["alpha="], "alp"),
        ("trap.method(b|", ["beta="], None),
        ("nosuch(zz|", [], "zz"),
        ("import xml.et|", ["etree"], "et"),
        ("import os, xml.dom.minid|", ["minidom"], "minid"),
        ("import gc as g, itertoo|", ["itertools"], "itertoo"),
        ("if 1: import fraction|", ["fractions"], "fraction"),
        ("from fraction|", ["fractions"], "fraction"),
        ("from xml.dom.minid|", ["minidom"], "minid"),
        ("from xml |", ["import"], ""),
        ("from xml im|", ["import"], "im"),
        ("from os import getcw|", ["getcwd", "getcwdb"], "getcw"),
        ("from os import (path, getcwdb|", ["getcwdb"], "getcwdb"),
        ("from os import (path,\n   getcwdb|", ["getcwdb"], "getcwdb"),
        ("from xml import et|", ["etree"], "et"),
        ("from nosuchmodule import x|", [], "x"),
        ("import os.path as p; p.isabs|", ["isabs"], "isabs"),
        ("import sys\nsys.byteor|", ["byteorder"], "byteor"),
        ("from os import path as q\nq.isabs|", ["isabs"], "isabs"),
    ],
)
def test_complete(source: str, matches: list[str], replaced: str | None) -> None:
    Trap.calls.clear()
    found, text = ask(source)
    if replaced is None:
        assert found[: len(matches)] == matches
    else:
        assert (found, text) == (matches, replaced)
    assert Trap.calls == []


def test_nothing_typed() -> None:
    found, _ = ask("|")
    assert {"value_one", "len", "for"} <= set(found)
    assert not [name for name in found if name.startswith("_")]
    assert {"_private", "__dunder", "__import__"} <= set(ask("_|")[0])
    assert {"__class__", "prop"} & set(ask("trap.|")[0]) == {"prop"}
    found, _ = ask("function(|")
    assert found[:2] == ["alpha=", "beta="] and "value_one" in found


def test_types() -> None:
    def types_of(source: str) -> dict[str, str]:
        answer = complete(source, len(source), NAMESPACE)
        return dict(zip(answer["matches"], answer["types"], strict=True))

    names = types_of("")
    expected = {"os": "module", "Trap": "class", "function": "function", "trap": "instance", "for": "keyword"}
    assert {name: names[name] for name in expected} == expected
    assert types_of("trap.")["prop"] == "property"
    assert types_of("trap.")["method"] == "function"
    assert types_of("function(alp") == {"alpha=": "param"}
    assert types_of("import fractions") == {"fractions": "module"}


def test_attributes_of_a_module_that_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "nowhere_else"
    package.mkdir()
    source = "raise SystemExit\nimport os as sep\nclass Alpha: 0\ndef beta(): '\\d'\ngamma: int = 1\n_o = 1"
    (package / "__init__.py").write_text(source)
    (package / "part.py").write_text("delta = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ask("import nowhere_|")[0] == ["nowhere_else"]
    assert ask("from nowhere_else import |")[0] == ["Alpha", "beta", "gamma", "part", "sep"]
    assert ask("import nowhere_else as n\nn.gam|") == (["gamma"], "gam")
    assert ask("from nowhere_else import part\npart.|") == (["delta"], "")
    assert ask("import nowhere_else.par|")[0] == ["part"]
    assert "nowhere_else" not in sys.modules
    (package / "later.py").write_text("")
    os.utime(package, (1, 1))
    assert ask("import nowhere_else.|")[0] == ["later", "part"]


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.txt").touch()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    assert ask("open('fo|") == (["folder/"], "fo")
    assert ask("open('folder/f|") == (["file.txt"], "f")
    assert ask(f"open('{tmp_path}/|") == (["folder/"], "")
    assert ask("'.h|")[0] == [".hidden"]
    assert ask("'nosuch/|")[0] == []
    assert ask("'''\nfo|")[0] == []


def test_bounds() -> None:
    many = {f"name_{number:05}": number for number in range(5000)}
    assert len(ask("name_|", many)[0]) == MAX_MATCHES
    assert len(ask("x.name_|", {"x": types.SimpleNamespace(**many)})[0]) == MAX_MATCHES
    assert complete("abc", -5, {})["end"] == 0
    assert complete("le", 99, {})["end"] == 2
    odd: Any = {1: 2, None: 3, "ok": 1}
    assert ask("ok|", odd)[0] == ["ok"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_dir_that_raises(error: type[BaseException]) -> None:
    class Bad:
        attribute = 1

        def __dir__(self) -> list[str]:
            raise error

    assert ask("bad.attr|", {"bad": Bad()})[0] == (["attribute"] if error is ValueError else [])


def test_never_raises() -> None:
    source = "f'{d[\"a\" (]}' '''x\n\\\n lambda: [*{, \x00 \ud800 function(a=[value_one."
    for cursor in range(len(source) + 1):
        complete(source[:cursor], cursor, NAMESPACE)
        inspect_source(source, cursor, NAMESPACE, 1)
        assert is_complete(source[:cursor])["status"] in ("complete", "incomplete", "invalid")


def look(source: str, detail: int = 0) -> tuple[str, str]:
    cursor = source.index("|")
    answer = inspect_source(source.replace("|", "", 1), cursor, NAMESPACE, detail)
    assert answer["found"] == bool(answer["name"]) == bool(answer["data"])
    return answer["name"], answer["data"].get("text/plain", "")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("len|", "len"),
        ("l|en(x)", "len"),
        ("x = |function", "function"),
        ("function(1, |", "function"),
        ("function(1, [2, |", "function"),
        ("function(1, (2, |", "function"),
        ("function(len(|", "len"),
        ("function(len(x), |", "function"),
        ("function(unknown|", "function"),
        ("function('tex|t'", "function"),
        ("function(text|=1)", "function"),
        ("space.inner|.leaf", "space.inner"),
        ("space.inner.le|af", "space.inner.leaf"),
        ("trap.prop|", "trap.prop"),
        ("d['key one']|", "d['key one']"),
        ("import os.path\nos.path.joi|n", "os.path.join"),
        ("if| x:", ""),
        ("# len|", ""),
        ("'len|'", ""),
        ("nosuch|", ""),
        ("|", ""),
    ],
)
def test_inspect_finds(source: str, name: str) -> None:
    Trap.calls.clear()
    assert look(source)[0] == name
    assert Trap.calls == []


def test_inspect_text() -> None:
    text = look("function|")[1]
    assert "Signature: function(alpha: int, _hidden: int = 0, *args: int, beta: str = 'b'" in text
    assert "Type:      function" in text and "Docstring:\nFunction doc." in text and __file__ in text
    text = look("function|", 1)[1]
    assert "Source:\ndef function(" in text and text.endswith("return beta")
    assert "Signature: len(obj, /)" in look("len|", 1)[1]
    assert "Value:     'abc'" in look("text|")[1]
    text = look("trap|", 1)[1]
    assert "Type:      Trap" in text and "Source:\nclass Trap:" in text
    assert "Method doc." in look("trap.method|")[1]
    assert "Type:      property" in look("trap.prop|")[1]
    assert "Type:      module" in look("os|")[1]
    assert Trap.calls == []


@pytest.mark.parametrize(
    ("source", "status", "indent"),
    [
        ("", "complete", ""),
        ("  \n", "complete", ""),
        ("# comment", "complete", ""),
        ("a = 1", "complete", ""),
        ("a = 1\nb = 2", "complete", ""),
        ("await f()", "complete", ""),
        ("async with a as b:", "incomplete", "    "),
        ("for a in b:", "incomplete", "    "),
        ("for a in b:\n", "incomplete", "    "),
        ("for a in b:  # all", "incomplete", "    "),
        ("for a in b:\n    a", "incomplete", "    "),
        ("for a in b:\n    a\n", "complete", ""),
        ("for a in b:\n    a\n    ", "complete", ""),
        ("for a in b: a", "incomplete", ""),
        ("for a in b:\n    if a:", "incomplete", "        "),
        ("def f():\n    return 1", "incomplete", ""),
        ("def f():\n    if x:\n        return", "incomplete", "    "),
        ("def f(a,\n      b):", "incomplete", "    "),
        ("def f():\n    x\n\ny = 1", "complete", ""),
        ("if 1:\n    x\nelse:", "incomplete", "    "),
        ("try:\n    x", "incomplete", "    "),
        ("@decorator", "incomplete", ""),
        ("a = [1,\n2,", "incomplete", ""),
        ("a = [\n    1,", "incomplete", "    "),
        ("f(", "incomplete", ""),
        ("a = '''\n   hi", "incomplete", "   "),
        ("a = 1 + \\", "incomplete", ""),
        ("a = 'abc", "invalid", ""),
        ("def f(:", "invalid", ""),
        ("raise = 2", "invalid", ""),
        ("a = )", "invalid", ""),
        ("def a():\n x=1\n global x", "invalid", ""),
        ("x = 1\n  y = 2", "invalid", ""),
        ("\x00", "invalid", ""),
        ("\ud800", "invalid", ""),
        ("return 1", "invalid", ""),
        ("lambda: (x for x in y)", "complete", ""),
    ],
)
def test_is_complete(source: str, status: str, indent: str) -> None:
    assert is_complete(source) == {"status": status, "indent": indent}


def test_warnings_are_left_for_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    source = "x = 1 is 1\ny = '\\d'\n"
    assert is_complete(source)["status"] == "complete"
    complete(source, len(source), {})
    assert capsys.readouterr() == ("", "")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        assert is_complete(source)["status"] == "complete"
        assert seen == []
        compile(source, "<input>", "exec")
        assert len(seen) == 2


def test_nested_too_deeply() -> None:
    assert is_complete("(" * 5000 + ")" * 5000)["status"] == "invalid"


def test_on_every_python(each_python: "Interpreter") -> None:
    # The package itself need not run on the child's interpreter, only what is shipped.
    source = """
import sys, types
root = sys.argv[1]
package = sys.modules["extsession"] = types.ModuleType("extsession")
package.__path__ = [root + "/extsession"]
before = set(sys.modules)
from extsession._worker import introspect as i
slow = {"dataclasses", "typing", "json", "enum", "inspect", "re", "ast", "rlcompleter"}
assert not slow & (set(sys.modules) - before), slow & set(sys.modules)
def function(alpha, *, beta=1):
    "Doc."
class Trap:
    @property
    def prop(self): raise SystemExit
    def __getattr__(self, name): raise SystemExit
import enum
class Colour(enum.Enum): RED = 1
names = dict(function=function, trap=Trap(), d={"key": {"deep": ""}}, Colour=Colour, l=["x"])
def ask(source): return i.complete(source, len(source), names)["matches"]
for source, expected in [
    ("func", ["function"]), ("function(alp", ["alpha="]), ("d['k", ["key"]),
    ("d['key']['deep'].startsw", ["startswith"]), ("l[0].startsw", ["startswith"]),
    ("l[-1].startsw", ["startswith"]), ("trap.pro", ["prop"]), ("trap.prop.x", []),
    ("Colour.RED.nam", ["name"]), ("import xml.et", ["etree"]), ("from fractions import Fract", ["Fraction"]),
    ("import sys; sys.byteor", ["byteorder"]), ("f'{func", ["function"]),
]:
    assert ask(source) == expected, (source, ask(source))
assert "Docstring:\\nDoc." in i.inspect_source("function(", 9, names)["data"]["text/plain"]
"""
    [mark] = test_is_complete.pytestmark  # type: ignore[attr-defined]
    cases = mark.args[1]
    source += f"""
for source, status, indent in {cases!r}:
    assert i.is_complete(source) == {{"status": status, "indent": indent}}, (source, i.is_complete(source))
assert i.is_complete("x = 1 is 1")["status"] == "complete"
"""
    done = subprocess.run(
        [each_python.path, "-I", "-W", "error", "-c", source, str(ROOT)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
