from __future__ import annotations

import enum
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from extsession._worker import display
from extsession._worker.display import figures, mime_bundle, prepare_matplotlib, safe_repr

if TYPE_CHECKING:
    from extsession._launch.interpreter import Interpreter

ROOT = Path(__file__).resolve().parents[2]


def test_repr_alone() -> None:
    assert mime_bundle(41 + 1) == ({"text/plain": "42"}, {}, [])
    assert mime_bundle(42, include_repr=False) == ({}, {}, [])


def test_every_method() -> None:
    body = {name: (lambda self, name=name: name) for name, _ in display.METHODS}
    data, metadata, failures = mime_bundle(type("All", (), body)(), include_repr=False)
    assert data == {mime: name for name, mime in display.METHODS}
    assert (metadata, failures) == ({}, [])


def test_bundle_wins_and_metadata() -> None:
    class Value:
        def _repr_mimebundle_(self, include=None, exclude=None):
            return {"text/html": "bundle", "text/plain": "plain", "x/none": None}, {"text/html": {"a": 1}}

        def _repr_html_(self):
            raise AssertionError("not asked")

        def _repr_png_(self):
            return b"\x89PNG", {"width": 3}

        def __repr__(self):
            raise AssertionError("not asked")

    data, metadata, failures = mime_bundle(Value())
    assert data == {"text/html": "bundle", "text/plain": "plain", "image/png": b"\x89PNG"}
    assert metadata == {"text/html": {"a": 1}, "image/png": {"width": 3}}
    assert failures == []


def test_failures_are_collected() -> None:
    class Value:
        _repr_pdf_ = None

        def _repr_html_(self):
            raise ValueError("no")

        def _repr_svg_(self):
            raise NotImplementedError

        def _repr_mimebundle_(self):  # takes no include
            return {}

        def _repr_latex_(self):
            return "$x$"

        def __repr__(self):
            raise TypeError("bad")

    data, _, failures = mime_bundle(Value())
    assert data == {"text/latex": "$x$", "text/plain": "<repr failed: TypeError: bad>"}
    assert [(name, type(exc)) for name, exc in failures] == [
        ("_repr_mimebundle_", TypeError),
        ("_repr_html_", ValueError),
        ("__repr__", TypeError),
    ]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes(stop: type[BaseException]) -> None:
    class Value:
        def _repr_html_(self):
            raise stop

        __repr__ = _repr_html_

    with pytest.raises(stop):
        mime_bundle(Value())
    with pytest.raises(stop):
        safe_repr(Value())


def test_impostors() -> None:
    class Meta(type):
        def _repr_html_(cls):
            return "meta"

    class Rich(metaclass=Meta):
        def _repr_html_(self):
            return "html"

    class Everything:
        def __getattr__(self, name):
            return lambda *args, **kwargs: "everything"

    for value in (Rich, Everything(), mock.MagicMock(), types.SimpleNamespace(_repr_html_=lambda: "x")):
        assert list(mime_bundle(value)[0]) == ["text/plain"]
    assert mime_bundle(Rich())[0]["text/html"] == "html"


def test_only_plain_data() -> None:
    class Text(str):
        pass

    class Colour(enum.IntEnum):
        RED = 1

    class Value:
        def _repr_html_(self):
            return Text("<b>")

        def _repr_png_(self):
            return bytearray(b"png")

        def _repr_markdown_(self):
            return Path("a")

        def _repr_json_(self):
            return {Text("a"): (1, {2.5: None}, Colour.RED, b"x"), "o": Path("p")}

    data, _, failures = mime_bundle(Value())
    assert failures == []
    assert type(data["text/html"]) is str and data["text/html"] == "<b>"
    assert type(data["image/png"]) is bytes
    assert data["text/markdown"] == "a"
    assert data["application/json"] == {"a": [1, {"2.5": None}, 1, b"x"], "o": "p"}
    assert type(data["application/json"]["a"][2]) is int


def test_a_cyclic_answer_ends() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    data, _, failures = mime_bundle(type("Value", (), {"_repr_json_": lambda self: cycle})())
    assert "application/json" in data and failures == []


def test_safe_repr() -> None:
    class Worse(Exception):
        def __str__(self):
            raise RuntimeError

    class Bad:
        def __repr__(self):
            raise Worse

    class Fatal:
        def __repr__(self):
            raise GeneratorExit("x")

    class NotText:
        def __repr__(self):
            return 3

    assert safe_repr(Bad()) == "<repr failed: Worse>"
    assert safe_repr(Fatal()) == "<repr failed: GeneratorExit: x>"
    assert safe_repr(NotText()).startswith("<repr failed: TypeError: ")
    assert safe_repr("x" * 100, limit=10) == "'xxxxxxxxx... [92 more characters]"


def test_pretty_only_wide_containers() -> None:
    wide = {"b" * 50: 1, "a" * 50: 2}
    assert mime_bundle(wide)[0]["text/plain"] == repr(wide)
    assert mime_bundle(wide, width=79)[0]["text/plain"] == "{'%s': 1,\n '%s': 2}" % ("b" * 50, "a" * 50)
    assert mime_bundle("x" * 90, width=79)[0]["text/plain"] == repr("x" * 90)


def run(source: str, **environ: str) -> str:
    """Run `source` in a fresh interpreter: matplotlib is global state."""
    env = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "DISPLAY")}
    env.update(environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-W", "error::UserWarning", "-c", source]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


PREPARE = """
import os, sys, warnings
from extsession._worker.display import figures, mime_bundle, prepare_matplotlib
shown = []
finders = list(sys.meta_path)
"""


def test_figures() -> None:
    pytest.importorskip("matplotlib")
    run(
        PREPARE
        + """
prepare_matplotlib(os.environ)
assert figures() == [] and "matplotlib" not in sys.modules
import matplotlib, matplotlib.pyplot as plt
assert matplotlib.get_backend().lower() == "agg" and sys.meta_path == finders
assert not hasattr(sys.modules["matplotlib.backend_bases"].__spec__.loader.__dict__, "exec_module")
one, two, empty = plt.figure(5), plt.figure(1), plt.figure(9)
one.gca().plot([1, 2])
two.gca().plot([2, 1])
plt.show()
plt.figure(1)
data, metadata, failures = mime_bundle(one)
assert data["image/png"].startswith(b"\\x89PNG") and metadata["image/png"]["width"] > 100 and not failures
assert data["text/plain"].startswith("<Figure size")
assert len(figures(close=False)) == 3
first, second = figures(skip=one)
assert first[0]["image/png"].startswith(b"\\x89PNG") and first[1]["image/png"]["height"] > 100
assert list(second[0]) == ["text/plain"]
assert figures() == [] and plt.get_fignums() == []
bad = plt.figure()
bad.gca().set_title("$\\\\nosuch$")
[(data, metadata)] = figures()
assert data["text/plain"].startswith("<figure not drawn: ValueError") and metadata == {}
assert plt.get_fignums() == []
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY decides about the warning on Linux only")
@pytest.mark.parametrize("when", ["before", "after"])
def test_show(when: str) -> None:
    pytest.importorskip("matplotlib")
    prepare = "prepare_matplotlib(os.environ, lambda *figure: shown.append(figure))\n"
    load = "import matplotlib.pyplot as plt\n"
    source = """
warnings.simplefilter("error")
plt.plot([1, 2])
plt.show()
assert len(shown) == 1 and "image/png" in shown[0][0] and figures() == []
figure, _ = plt.subplots()
figure.show()
assert len(shown) == 2 and figures() == [] and sys.meta_path == finders
prepare_matplotlib(os.environ)
plt.plot([1, 2])
plt.show()
assert len(shown) == 2 and len(figures()) == 1
"""
    # With a DISPLAY, also a wrong one, matplotlib warns about each show() of agg.
    preset = "os.environ['MPLBACKEND'] = 'agg'\n"
    order = prepare + prepare + load if when == "before" else preset + load + prepare
    run(PREPARE + order + source, DISPLAY=":99")


def test_a_backend_that_was_chosen_stays() -> None:
    environ = {"MPLBACKEND": "svg"}
    finders = list(sys.meta_path)
    try:
        prepare_matplotlib(environ)
    finally:
        sys.meta_path[:] = finders
    assert environ == {"MPLBACKEND": "svg"}


def test_the_hook_and_a_module_that_fails() -> None:
    run(
        """
import sys, tempfile, os
from extsession._worker.display import _AfterImport
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "hooked.py"), "w") as file:
    file.write("import sys\\nif not hasattr(sys, 'ready'): raise ValueError('early')\\n")
sys.path.insert(0, folder)
sys.dont_write_bytecode = True
seen = []
hook = _AfterImport("hooked", seen.append)
sys.meta_path.insert(0, hook)
try:
    import hooked
except ValueError:
    assert hook in sys.meta_path and not seen
sys.ready = True
import hooked
assert seen == [hooked] and hook not in sys.meta_path and "exec_module" not in vars(hooked.__loader__)
"""
    )


def test_no_pyplot_no_figures() -> None:
    with mock.patch.dict(sys.modules):
        sys.modules.pop("matplotlib.pyplot", None)
        assert figures() == []
        sys.modules["matplotlib.pyplot"] = types.ModuleType("half")  # an import that failed half way
        assert figures() == []


def test_on_every_python(each_python: Interpreter) -> None:
    # The package itself need not run on the child's interpreter, only what is shipped.
    source = """
import sys, types
package = sys.modules["extsession"] = types.ModuleType("extsession")
package.__path__ = [sys.argv[1] + "/extsession"]
before = set(sys.modules)
from extsession._worker import display
slow = {"dataclasses", "typing", "json", "enum", "inspect", "re"}
assert not slow & (set(sys.modules) - before), slow & set(sys.modules)
class Value:
    def _repr_html_(self): return "<b>", {"a": 1}
    def _repr_svg_(self): raise ValueError
data, metadata, failures = display.mime_bundle(Value(), width=79)
assert data["text/html"] == "<b>" and metadata == {"text/html": {"a": 1}} and len(failures) == 1
assert display.mime_bundle(list(range(99)), width=79)[0]["text/plain"].count("\\n") > 1
assert display.figures() == []
display.prepare_matplotlib({})
try:
    import matplotlib.backend_bases
except ImportError:
    pass
"""
    done = subprocess.run(
        [each_python.path, "-I", "-W", "error", "-c", source, str(ROOT)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
