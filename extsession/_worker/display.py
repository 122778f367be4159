"""Rich forms of a value, as plain data: MIME bundles and matplotlib figures.

The `_repr_*_` methods are user code and so is `repr`: each may raise, return nonsense, or be claimed by an
object that answers every attribute. They are looked up on the type only, as Python does for `__len__`, so
neither a class (whose instances have the method) nor a mock or a proxy is taken for something it is not.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, MutableMapping, Tuple

    Bundle = dict[str, Any]
    Failure = Tuple[str, BaseException]
    Figure = Tuple[Bundle, Bundle]
    Show = Callable[[Bundle, Bundle], None]

METHODS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_pdf_", "application/pdf"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
    ("_repr_javascript_", "application/javascript"),
)
REPR_LIMIT = 1_000_000
_DEPTH = 50  # of nested containers in a bundle
_PRETTY_LIMIT = 100_000  # pprint takes seconds for what repr does in milliseconds

_MISSING = object()
_on_show: Show | None = None


def safe_repr(value: object, limit: int = REPR_LIMIT) -> str:
    """`repr(value)`, cut after `limit` characters; one that fails gives a text that says so."""
    return _repr(value, limit, None)[0]


def mime_bundle(
    value: object, include_repr: bool = True, width: int | None = None
) -> tuple[Bundle, Bundle, list[Failure]]:
    """Return `(data, metadata, failures)` of `value`; failures are `(method name, exception)` pairs.

    data maps a MIME type to str, bytes or JSON-able data, metadata likewise. With include_repr there is
    always a text/plain; a `repr` that fails is described there, and is in the failures as "__repr__".
    width: pretty-print a built-in container whose repr is longer; None never does.
    """
    data: Bundle = {}
    metadata: Bundle = {}
    failures: list[Failure] = []
    if not issubclass(type(value), type):
        _ask_all(value, data, metadata, failures)
    if include_repr and "text/plain" not in data:
        data["text/plain"], failure = _repr(value, REPR_LIMIT, width)
        if failure is not None:
            failures.append(("__repr__", failure))
    return data, metadata, failures


def _ask_all(value: object, data: Bundle, metadata: Bundle, failures: list[Failure]) -> None:
    for name, mime in (("_repr_mimebundle_", None),) + METHODS:
        if mime in data:
            continue  # the bundle's own keys win
        try:
            method = _method(value, name)
            if method is None:
                continue
            answer = method(include=None, exclude=None) if mime is None else method()
            extra: Any = None
            if type(answer) is tuple and len(answer) == 2:
                answer, extra = answer
            if answer is None:
                continue
            if mime is not None:
                data[mime] = _plain(answer)
                if extra:
                    metadata[mime] = _plain(extra)
                continue
            answer, extra = _plain(dict(answer)), _plain(dict(extra or {}))
            data.update((key, item) for key, item in answer.items() if item is not None)
            metadata.update(extra)
        except (KeyboardInterrupt, SystemExit):
            raise
        except NotImplementedError:
            continue  # the documented way to say: not this one
        except BaseException as exc:
            failures.append((name, exc))
    if "image/png" not in data and _is_figure(value):
        try:
            drawn, about = _render(value)
            data.update((key, drawn[key]) for key in drawn if key != "text/plain")
            metadata.update(about)
        except Exception as exc:
            failures.append(("savefig", exc))


def _method(value: object, name: str) -> Any:
    """The method that the type of `value` defines, bound, or None."""
    kind = type(value)
    for cls in kind.__mro__:
        found = cls.__dict__.get(name, _MISSING)
        if found is not _MISSING:
            bind = getattr(type(found), "__get__", None)
            method = found if bind is None else bind(found, value, kind)
            return method if callable(method) else None
    return None


def _plain(value: Any, depth: int = 0) -> Any:
    """Make `value` str, bytes or JSON-able, of exact built-in types: no class of the user's travels."""
    kind = type(value)
    if value is None or kind in (str, bytes, bool, int, float):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if depth < _DEPTH:
        if isinstance(value, dict):
            return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(item, depth + 1) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return _text(str(value))


def _key(key: object) -> str:
    return _text(key if isinstance(key, str) else str(key))


def _text(value: str) -> str:
    return str.__str__(value)  # an exact str also of a subclass


def _repr(value: object, limit: int, width: int | None) -> tuple[str, BaseException | None]:
    try:
        text = _text(repr(value))
        if width is not None and width < len(text) <= _PRETTY_LIMIT:
            text = _pretty(value, width, text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        return _cut(f"<repr failed: {_describe(exc)}>", limit), exc
    return _cut(text, limit), None


def _describe(exc: BaseException) -> str:
    name = type(exc).__name__
    try:
        text = _text(str(exc))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return name
    return f"{name}: {text}" if text else name


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... [{len(text) - limit} more characters]"


def _pretty(value: object, width: int, text: str) -> str:
    if type(value) not in (dict, list, tuple, set, frozenset):
        return text
    import pprint

    return pprint.pformat(value, width=width, compact=True, sort_dicts=False)


# matplotlib, where no IPython is there to do it


def prepare_matplotlib(environ: MutableMapping[str, str], show: Show | None = None) -> None:
    """Let matplotlib draw without a display. Call it only in a session that was asked for rich display.

    Sets MPLBACKEND=agg in `environ` if it is not there (the session's children inherit it), and makes
    `plt.show()` and `figure.show()` of a backend without windows call `show(data, metadata)` with each
    figure and close it; without `show` they do nothing, and `figures` finds them after the call.

    How: once `matplotlib.backend_bases` has been imported, `FigureManagerBase.show` is replaced. It is
    the one place that raises what becomes the warning "FigureCanvasAgg is non-interactive", and every
    backend with windows overrides it, so those work as ever. A filter of that warning would be visible
    in `warnings.filters`, lost by `resetwarnings` and beaten by `simplefilter("error")`; a backend of our
    own would change `get_backend()` and, through MPLBACKEND, break matplotlib in the session's children.
    The first `show` may be in the call that imports pyplot, hence the finder, which leaves with that import.
    """
    global _on_show
    _on_show = show
    environ.setdefault("MPLBACKEND", "agg")
    module = sys.modules.get("matplotlib.backend_bases")
    if module is not None:
        _replace_show(module)
    elif not any(type(finder) is _AfterImport for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport("matplotlib.backend_bases", _replace_show))


def figures(close: bool = True, skip: object = None) -> list[Figure]:
    """Return `(data, metadata)` of each open pyplot figure, by number; close them unless told otherwise.

    Empty where pyplot is not loaded. A figure without axes, or one that cannot be drawn, has text only.
    skip: a figure that was shown already, as the call's value; it is closed with the others.
    """
    pyplot = sys.modules.get("matplotlib.pyplot")
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if pyplot is None or not hasattr(pyplot, "close") or not hasattr(helpers, "Gcf"):
        return []  # never imported, or an import that failed half way
    every = helpers.Gcf.get_all_fig_managers()  # type: ignore[union-attr]
    managers = sorted(every, key=lambda manager: manager.num)  # theirs: the active one last
    drawn: list[Figure] = []
    try:
        for manager in managers:
            figure = manager.canvas.figure
            if figure is not skip:
                drawn.append(_render_or_say(figure))
    finally:
        if close:  # also when interrupted: a later call must not show them again
            for manager in managers:
                pyplot.close(manager.canvas.figure)
    return drawn


def _render_or_say(figure: Any) -> Figure:
    try:
        return _render(figure)
    except Exception as exc:
        return {"text/plain": f"<figure not drawn: {_describe(exc)}>"}, {}


def _render(figure: Any) -> Figure:
    data: Bundle = {"text/plain": safe_repr(figure)}
    if not figure.axes and not figure.lines:
        return data, {}
    from io import BytesIO

    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    png = buffer.getvalue()
    data["image/png"] = png
    # PNG: 8 bytes of signature, length and name of IHDR, then width and height (RFC 2083, 4.1.1).
    size = {"width": int.from_bytes(png[16:20], "big"), "height": int.from_bytes(png[20:24], "big")}
    return data, {"image/png": size}


def _is_figure(value: object) -> bool:
    module = sys.modules.get("matplotlib.figure")
    figure = getattr(module, "Figure", None)
    return type(figure) is type and issubclass(type(value), figure)


def _replace_show(backend_bases: ModuleType) -> None:
    backend_bases.FigureManagerBase.show = _show


def _show(self: Any) -> None:
    """Give the figure to the session: it has no window that could be shown."""
    if _on_show is None:
        return
    figure = self.canvas.figure
    data, metadata = _render_or_say(figure)
    sys.modules["matplotlib.pyplot"].close(figure)
    _on_show(data, metadata)


class _AfterImport:
    """A finder that finds nothing itself: calls `action(module)` after the import of `name`, and is gone."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.action = action

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """Let the other finders look, and have the loader that they give call us."""
        if fullname != self.name:
            return None
        for finder in list(sys.meta_path):
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is None:
                continue
            loader: Any = spec.loader
            original = getattr(loader, "exec_module", None)
            if original is not None and not isinstance(loader, type):

                def exec_module(module: ModuleType, loader: Any = loader, original: Any = original) -> None:
                    del loader.exec_module  # the loader stays on the module, as it was
                    original(module)
                    self._leave()
                    self.action(module)

                loader.exec_module = exec_module  # on the instance: one for each spec
            return spec
        return None

    def _leave(self) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
