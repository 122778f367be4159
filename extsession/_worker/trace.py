"""Tracebacks as the sent source deserves them: with its lines, without our frames."""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)
_PACKAGE = __package__
_ROOT = __package__.rpartition(".")[0] + "."


def is_ours(frame: FrameType) -> bool:
    """Whether a frame runs this package's code rather than the user's or a library's."""
    name = frame.f_globals.get("__package__")
    return name == _PACKAGE or (type(name) is str and name.startswith(_ROOT + "_"))


def is_swallowed(frame: FrameType | None) -> bool:
    """Whether what is raised in a frame gets lost: in a finalizer, or in what removes dead references from the weak
    collections of the standard library, the interpreter only prints it ("Exception ignored in").
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (
            code.co_name in ("_remove", "remove") and code.co_filename.endswith(("weakref.py", "_weakrefset.py"))
        ):
            return True
        frame = frame.f_back
    return False


def traceback_of(error: BaseException) -> Any:
    """Its `__traceback__`, without asking its class, which may raise."""
    return _TRACEBACK.__get__(error)


def trim(error: BaseException) -> None:
    """Take our frames out of the traceback of `error` and of all that it is chained to."""
    seen = set()
    todo = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        # by the base's own descriptors: a class may have a __getattribute__ that raises
        _TRACEBACK.__set__(each, _trimmed(_TRACEBACK.__get__(each)))
        todo += [_CAUSE.__get__(each), _CONTEXT.__get__(each)]
        members = None if _GROUP is None or not issubclass(type(each), _GROUP) else _GROUP.exceptions.__get__(each)
        if type(members) is tuple:
            todo += [one for one in members if isinstance(one, BaseException)]


def _trimmed(trace: Any) -> Any:
    while trace is not None and is_ours(trace.tb_frame):
        trace = trace.tb_next
    last = trace
    step = trace
    while step is not None:  # frames of ours at the end: our streams, called by the code
        if not is_ours(step.tb_frame):
            last = step
        step = step.tb_next
    if last is not None:
        last.tb_next = None
    return trace


class Sources:
    """The source texts that were sent, by the file name their code carries.

    `linecache` gives them to tracebacks, `inspect` and `pdb`. It takes long to import in old versions, so they
    are handed to it when it is there, and it is imported before code that imports anything itself.
    """

    def __init__(self, keep: int = 2000) -> None:
        self._keep = keep
        self._texts: dict[str, str] = {}
        self._given: Any = None

    def __contains__(self, filename: object) -> bool:
        return filename in self._texts

    def clear(self) -> None:
        for filename in self._texts:
            if self._given is not None:
                self._given.cache.pop(filename, None)
        self._texts.clear()

    def add(self, filename: str, text: str) -> None:
        self._texts[filename] = text
        if len(self._texts) > self._keep:
            oldest = next(iter(self._texts))
            del self._texts[oldest]
            if self._given is not None:
                self._given.cache.pop(oldest, None)
        if self._given is not None:
            self._give(filename, text)
        elif "import" in text or "linecache" in sys.modules:
            self.serve()

    def serve(self) -> None:
        """Make linecache know all sources."""
        if self._given is None:
            import linecache

            self._given = linecache
            for filename, text in self._texts.items():
                self._give(filename, text)

    def _give(self, filename: str, text: str) -> None:
        lines = text.splitlines(True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"  # as linecache does it: the carets of 3.11 depend on it
        # without a modification time, checkcache() leaves the entry alone
        self._given.cache[filename] = (len(text), None, lines, filename)


def format_error(error: BaseException, sources: Sources) -> str:
    """The traceback as an interpreter prints it."""
    try:
        sources.serve()
        import traceback

        return "".join(traceback.format_exception(type(error), error, traceback_of(error)))
    except RecursionError:
        return "%s: (its traceback is too deep to format)\n" % type(error).__name__
    except Exception:  # no descriptor is left to import with, say
        return _plainly(error)


def _plainly(error: BaseException) -> str:
    """A traceback without help from the library."""
    lines = ["Traceback (most recent call last):\n"]
    trace = traceback_of(error)
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append('  File "%s", line %d, in %s\n' % (code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    try:
        text = str(error)
    except Exception:
        text = "<exception str() failed>"
    return "".join(lines) + type(error).__name__ + (": " + text if text else "") + "\n"
