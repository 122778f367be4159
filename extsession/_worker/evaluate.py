"""Compile and run source in a namespace: the last expression's value, top-level await, errors as data.

An interrupt may only ever be raised in the user's code. The signal handler (see `serve`) looks at the
interrupted frame: in the user's code, or in `_launch`, which is the user's code for that purpose, it
raises; in any other frame of ours it leaves a note that the code's next step finds.
"""

from __future__ import annotations

import sys

from .trace import Sources, format_error, traceback_of, trim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

_ONLY_AST = 0x400
_ALLOW_AWAIT = 0x2000
_COROUTINE = 0x80  # CO_COROUTINE
_GENERATOR = 0x20
_ASYNC_GENERATOR = 0x200
_SHORT = 1000  # characters
_KEPT = 100
_FUTURES = 0x1FE0000  # CO_FUTURE_*: 0x20000 to 0x1000000


class Evaluator:
    """Runs source texts in one namespace, one after the other.

    namespace: the globals. `from __future__` statements stay in force for later texts, as at a prompt.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.sources = Sources()
        self.inside = False  # the user's code is running: an interrupt may be raised
        self.router: Any = None  # of a session in a child: whose output it is
        self.loop: Any = None  # the event loop, once one was needed
        self._futures = 0
        self._count = 0
        # short texts that ran before: a loop that sends the same few again compiles them once
        self._known: dict[str, tuple[CodeType, CodeType | None]] = {}
        self._expressions: dict[str, CodeType] = {}

    def run(self, source: str) -> Any:
        """Run a text; returns the value of its last statement if that is an expression, else None."""
        found = self._known.get(source)
        if found is None:
            found = self._compile(source)
            self._keep(self._known, source, found)
        code, last = found
        value = self._launch(code)
        if last is None:
            return None
        return value if last is code else self._launch(last)

    def _compile(self, source: str) -> tuple[CodeType, CodeType | None]:
        """Code of a text, and that of its last statement if it is an expression (the same if it is all)."""
        filename = self._next_name()
        self.sources.add(filename, source)
        flags = _ALLOW_AWAIT | self._futures
        if _ends_with_statement(source):
            code = compile(source, filename, "exec", flags, True)
            self._note_futures(code)
            return code, None
        from _ast import Expr, Expression  # takes a millisecond to set up

        tree = compile(source, filename, "exec", flags | _ONLY_AST, True)
        last: CodeType | None = None
        body = tree.body
        if body and type(body[-1]) is Expr:
            expression = Expression(body=body.pop().value)
            last = compile(expression, filename, "eval", flags, True)
            if not body:
                return last, last
        code = compile(tree, filename, "exec", flags, True)
        self._note_futures(code)
        if self._futures & ~flags and last is not None:
            last = compile(expression, filename, "eval", flags | self._futures, True)
        return code, last

    def evaluate(self, expression: str) -> Any:
        """The value of an expression."""
        code = self._expressions.get(expression)
        if code is None:
            filename = self._next_name()
            self.sources.add(filename, expression)
            flags = _ALLOW_AWAIT | self._futures
            code = compile(expression.strip(" \t\n"), filename, "eval", flags, True)
            self._keep(self._expressions, expression, code)
        return self._launch(code)

    def _note_futures(self, code: CodeType) -> None:
        futures = code.co_flags & _FUTURES
        if futures & ~self._futures:
            self._futures |= futures
            self._known.clear()
            self._expressions.clear()

    def _keep(self, table: dict[str, Any], text: str, code: Any) -> None:
        if len(text) <= _SHORT and not self._futures:  # which change what a text means from then on
            if len(table) >= _KEPT:
                table.clear()
            table[text] = code

    def call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """The result of a function, awaited if it is a coroutine."""
        self.inside = True
        if self.router is not None and self.router.interrupted:
            self.router.take_interrupt()
        value = function(*args, **kwargs)
        if type(value).__name__ == "coroutine":
            value = self._await(value)
        return value

    def _launch(self, code: CodeType) -> Any:
        # from here on an interrupt is raised where it comes; here, if it came since the call began
        self.inside = True
        if self.router is not None and self.router.interrupted:
            self.router.take_interrupt()
        value = eval(code, self.namespace)
        if code.co_flags & _COROUTINE and not code.co_flags & (_GENERATOR | _ASYNC_GENERATOR):
            value = self._await(value)
        return value

    def _await(self, coroutine: Any) -> Any:
        if self.loop is None:
            from .loop import SessionLoop

            self.loop = SessionLoop()
            if self.router is not None:
                self.router.tasks = self.loop.call
        return self.loop.run(coroutine, self.router)

    def report(self, error: BaseException, quiet: bool = False) -> str:
        """Print the traceback of `error` as an interpreter would (not if `quiet`); returns its text."""
        trim(error)
        text = format_error(error, self.sources)
        if quiet:
            return text
        trace = traceback_of(error)
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        hook = sys.excepthook
        try:
            if hook is not sys.__excepthook__:
                hook(type(error), error, trace)
            else:
                self.report_text(text, careful=False)
        except BaseException as fault:
            self._report_broken_hook(fault, text)
        return text

    def report_text(self, text: str, careful: bool = True) -> None:
        """Print on stderr, if the code has left one; what its own stream raises is raised unless `careful`."""
        stream = getattr(sys, "stderr", None)
        if stream is None:
            return
        try:
            stream.write(text)
        except Exception:
            if not careful:
                raise

    def _report_broken_hook(self, fault: BaseException, text: str) -> None:
        try:
            stream = sys.__stderr__
            if stream is not None:
                trim(fault)
                stream.write("Error in sys.excepthook or sys.stderr:\n" + format_error(fault, self.sources))
                stream.write("\nOriginal exception was:\n" + text)
        except BaseException:  # nothing is left to print on; the error travels as data all the same
            return

    def forget(self) -> None:
        """As if nothing had been run."""
        self._count = 0
        self._known.clear()
        self._expressions.clear()
        self.sources.clear()

    def _next_name(self) -> str:
        self._count += 1
        return "<session %d>" % self._count


_STATEMENTS = frozenset(["pass", "import", "from", "del", "assert", "raise", "global"])
_UNSURE = frozenset("'\"()[]{};\\#")


def _ends_with_statement(source: str) -> bool:
    """Whether the last line shows that the last statement is no expression; False: look closer."""
    line = source.rstrip()
    line = line[line.rfind("\n") + 1 :]
    return line.partition(" ")[0] in _STATEMENTS and _UNSURE.isdisjoint(line)


def exit_status(error: SystemExit) -> tuple[int, str | None]:
    """(status, text for stderr or None) that an interpreter makes of a SystemExit."""
    code = error.code
    if code is None:
        return 0, None
    if isinstance(code, int):
        return int(code) & 0xFFFFFFFF if -(2**63) <= code < 2**63 else 0xFFFFFFFF, None
    try:
        return 1, str(code) + "\n"
    except Exception:
        return 1, "\n"
