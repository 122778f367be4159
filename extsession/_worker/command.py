"""A clone of a template that becomes a Python command: what `python script.py`, `-m module` or `-c code` would be.

It is a plain process from then on, as far as it can be one: its descriptors 0, 1 and 2 are the command's, with streams
as the interpreter makes them at its start; nothing of ours is in its way; it ends as an interpreter ends. What it
leaves running is left alone by the warden, as what any command leaves.

What is as in no fresh interpreter: what was preloaded is there, `sys.flags` and the hash seed are the template's.
"""

from __future__ import annotations

import io
import os
import sys
from _signal import SIG_DFL, SIGINT, SIGURG  # type: ignore[import-not-found]
from _signal import signal as set_signal

from . import threads
from .serve import PLAIN_HANDLER
from .trace import traceback_of, trim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable

    from .serve import Server

#: descriptors that come by the channel: of the command's stdin, stdout and stderr
_STREAMS = 3
_RLIMIT_LOCKS = 10
#: what `__main__` has when an interpreter has just started
_IN_MAIN = frozenset(
    ["__annotations__", "__builtins__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"]
)


def become(server: Server, wanted: dict[str, Any]) -> Callable[[], int]:
    """Make this process the command; returns what is to be run then.

    wanted: argv, as `sys.argv` has it (for -m, with "-m" for the file); mode, of "file", "module" and "code"; target:
    the file as it was given, the module's name or the source; options: all arguments of the interpreter; unbuffered
    and no_bytecode, as -u and -B; signature: of all that it starts (`_launch/marks.py`).
    """
    _, fds = server.channel.receive_raw(1, _STREAMS)
    if len(fds) != _STREAMS:
        os._exit(71)  # the controller does not want it any more
    encoding, errors = _encoding()
    server.family.release()
    server.router.retire()
    threads.watch(None)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    _signals()
    _faulthandler()
    unbuffered = bool(wanted["unbuffered"] or os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _open(number, name, encoding, "backslashreplace" if number == 2 else errors, unbuffered)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)
    if wanted["signature"]:
        _sign(wanted["signature"])
    if wanted["no_bytecode"]:
        sys.dont_write_bytecode = True
    server.channel.send_frame(b"1")  # from now on a signal is the command's
    server.channel.close()
    return _Program(wanted).run


def _sign(signature: int) -> None:
    from resource import getrlimit, setrlimit

    try:
        setrlimit(_RLIMIT_LOCKS, (signature, getrlimit(_RLIMIT_LOCKS)[1]))
    except (OSError, ValueError):  # no room: what was seen below it is known by the controller
        return


def _encoding() -> tuple[str, str]:
    """Of the streams that the interpreter has made at its start."""
    out = sys.__stdout__
    return (out.encoding, out.errors or "strict") if out is not None else ("utf-8", "strict")


def _signals() -> None:
    for name in ("_signal", "signal"):
        module = sys.modules.get(name)
        if module is not None:
            vars(module)["default_int_handler"] = PLAIN_HANDLER
    signal: Any = sys.modules.get("_signal")
    handler = signal.getsignal(SIGINT) if signal is not None else None
    if callable(handler) or handler is None:  # else it is ignored, as it would be in a child of the controller's
        set_signal(SIGINT, PLAIN_HANDLER)
    set_signal(SIGURG, SIG_DFL)


def _faulthandler() -> None:
    """A session's crash is traced; a command's is if somebody says so."""
    try:
        import faulthandler
    except ImportError:
        return
    asked = sys.flags.dev_mode or "faulthandler" in sys._xoptions or os.environ.get("PYTHONFAULTHANDLER")
    if asked:
        faulthandler.enable(2)
    else:
        faulthandler.disable()


def _open(number: int, name: str, encoding: str, errors: str, unbuffered: bool) -> Any:
    """As CPython's create_stdio()."""
    writes = number > 0
    try:
        buffer: Any = open(number, "wb" if writes else "rb", 0 if unbuffered and writes else -1, closefd=False)
    except OSError:  # a descriptor that was opened for the other direction, or is closed
        return None
    raw = getattr(buffer, "raw", buffer)
    raw.name = "<%s>" % name
    is_line_buffered = not unbuffered and (raw.isatty() or (number == 2 and sys.version_info >= (3, 9)))
    text = io.TextIOWrapper(
        buffer, encoding, errors, newline="\n", line_buffering=is_line_buffered, write_through=unbuffered
    )
    text.mode = "w" if writes else "r"  # type: ignore[misc]
    return text


class _Program:
    """What the command runs."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._mode = wanted["mode"]
        self._target = wanted["target"]
        self._argv = wanted["argv"]
        self._options = wanted["options"]

    def run(self) -> int:
        """Run it. Whatever leaves it goes on to the interpreter, which ends as after any program."""
        main = sys.modules["__main__"]
        scope = vars(main)
        for name in [name for name in scope if name not in _IN_MAIN]:
            del scope[name]
        scope.update(__name__="__main__", __doc__=None, __package__=None, __spec__=None)
        sys.argv[:] = self._argv
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = [sys.orig_argv[0], *self._options]
        try:
            getattr(self, "_" + self._mode)(scope)
        except SystemExit:
            raise
        except BaseException as error:
            _report(error)
            raise
        return 0

    def _code(self, scope: dict[str, Any]) -> None:
        _first_on_path("")
        code = compile(self._target, "<string>", "exec", dont_inherit=True)
        if sys.version_info >= (3, 13):  # tracebacks show the lines of -c
            import linecache

            lines = [line + "\n" for line in self._target.splitlines()]
            linecache.cache["<string>"] = (len(self._target), None, lines, "<string>")
        exec(code, scope)

    def _module(self, scope: dict[str, Any]) -> None:
        import runpy

        _first_on_path(os.getcwd())
        run_as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]  # what the interpreter itself calls
        run_as_main(self._target, True)

    def _file(self, scope: dict[str, Any]) -> None:
        path = self._target
        if self._is_package(path):
            import runpy

            _first_on_path(os.path.abspath(path))
            run_as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
            run_as_main("__main__", False)
            return
        _first_on_path(os.path.dirname(os.path.realpath(path)))
        shown = os.path.abspath(path) if sys.version_info >= (3, 9) else path
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError as error:
            program = sys.orig_argv[0] if hasattr(sys, "orig_argv") else sys.executable
            why = "[Errno %s] %s" % (error.errno, error.strerror)
            sys.stderr.write("%s: can't open file %r: %s\n" % (program, shown, why))
            raise SystemExit(2) from None
        from importlib.machinery import SourceFileLoader

        scope.update(__file__=shown, __cached__=None, __loader__=SourceFileLoader("__main__", shown))
        exec(compile(source, shown, "exec", dont_inherit=True), scope)

    def _is_package(self, path: str) -> bool:
        """Whether it is a folder or an archive with a __main__ in it, as the interpreter finds out."""
        for hook in sys.path_hooks:
            try:
                hook(path)
            except ImportError:
                continue
            return True
        return False


def _first_on_path(entry: str) -> None:
    """In the place of what a session has there: the current directory."""
    if not getattr(sys.flags, "safe_path", False):
        if sys.path and sys.path[0] == "":
            sys.path[0] = entry
        else:
            sys.path.insert(0, entry)


def _report(error: BaseException) -> None:
    """Show it as the interpreter would, without the frames that are ours; what the interpreter does then is silent."""
    trim(error)
    trace = traceback_of(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, trace)
    finally:
        sys.excepthook = _silent


def _silent(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """It was shown."""
