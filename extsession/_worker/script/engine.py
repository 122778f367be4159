"""The entrance: `prepare` a script, `run` it, `explain` what its last run has cost.

One script runs at a time in a process. Nothing here knows of sessions or channels: `ask` calls a function of the host,
`write` takes what print() writes.
"""

from __future__ import annotations

import sys
import warnings

from . import arithmetic, builtins, checker, compiler, costs, errors, guards, meter, methods, render, sizes, text
from .errors import BadValue, HostFailed, OverBudget, ScriptError
from .nodes import Unsupported
from .values import Inwards, NotPlain, Outwards, TooMuch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Callable

FILENAME = "<script>"
#: programs kept, and characters of them all
KEPT, KEPT_TEXT = 128, 262144
#: programs of which `explain` can run the last run again
EXPLAINABLE = 8

_ONLY_AST = 0x400
_Function: Any = type(lambda: None)
_recent: list[Program] = []
_known: dict[tuple[str, str], Program | Rejected] = {}


class Rejected:
    """What is no script. findings: dicts of line, column (both from 1), construct, why and hint."""

    def __init__(self, name: str, findings: list[dict[str, Any]]) -> None:
        self.name = name
        self.findings = findings


class Program:
    """A script that has been checked and compiled."""

    def __init__(self, name: str, source: str, code: CodeType) -> None:
        self.name = name
        self.source = source
        self.code = code
        self._by_line: CodeType | None = None
        self.last: Any = None  # what `explain` runs again

    def by_line(self) -> CodeType:
        """Code that notes the cost of each line."""
        if self._by_line is None:
            tree = _parse(self.source)
            self._by_line = compiler.compile_tree(tree, FILENAME, True)
        return self._by_line


def _parse(source: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(source, FILENAME, "exec", _ONLY_AST, dont_inherit=True, optimize=0)


def prepare(source: str, name: str = "script") -> Program | Rejected:
    """Check and compile a script, or take it from those known."""
    found = _known.get((source, name))
    if found is None:
        found = _prepare(source.replace("\r\n", "\n").replace("\r", "\n"), name)
        _known[source, name] = found
        total = sum([len(each) for each, _ in _known])
        while len(_known) > KEPT or (total > KEPT_TEXT and len(_known) > 1):
            oldest = next(iter(_known))
            total -= len(oldest[0])
            del _known[oldest]
    return found


def _prepare(source: str, name: str) -> Program | Rejected:
    problem = text.check(source)
    if problem is not None:
        return Rejected(name, [problem])
    try:
        tree = _parse(source)
        findings = checker.check(tree)
        if findings:
            return Rejected(name, findings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Program(name, source, compiler.compile_tree(tree, FILENAME, False))
    except SyntaxError as error:
        line, column = error.lineno or 1, max(1, error.offset or 1)
        why = str(error.msg).partition(" (<")[0]
        return Rejected(name, [text.finding(line, column, "syntax", f"this is not written as Python is: {why}", "")])
    except Unsupported as error:
        node, why = error.args
        return Rejected(name, [text.finding(node.lineno, node.col_offset + 1, "expression", why, "")])
    except (MemoryError, RecursionError, ValueError, OverflowError):
        return Rejected(name, [text.finding(1, 1, "script", "the script is too complicated", "Split it.")])


#: what compiled scripts call, besides methods
_HELPERS: dict[str, Any] = {
    "_b": meter.B, "_d": meter.D, "_over": meter.over, "_deep": meter.deep, "_fatal": meter.fatal, "_tick": meter.tick,
    "_enter": meter.enter, "_leave": meter.leave, "_tick_lines": meter.tick_lines, "_at_line": meter.at_line,
    "_type": type, "_int": int, "_float": float,
    "_add": arithmetic.add, "_sub": arithmetic.sub, "_mul": arithmetic.mul, "_floordiv": arithmetic.floordiv,
    "_mod": arithmetic.mod, "_pow": arithmetic.power, "_lshift": arithmetic.lshift, "_or": arithmetic.bit_or,
    "_and": arithmetic.bit_and, "_xor": arithmetic.bit_xor, "_iadd": arithmetic.iadd, "_imul": arithmetic.imul,
    "_isub": arithmetic.isub, "_ior": arithmetic.ior, "_iand": arithmetic.iand, "_ixor": arithmetic.ixor,
    "_eq": guards.eq, "_ne": guards.ne, "_lt": guards.lt, "_le": guards.le, "_gt": guards.gt, "_ge": guards.ge,
    "_in": guards.contains, "_key": sizes.key, "_set": sizes.make_set, "_slice": guards.get_slice,
    "_set_slice": guards.set_slice, "_del_slice": guards.del_slice, "_del_item": guards.del_item, "_loop": sizes.loop,
    "_comprehend": sizes.comprehend, "_starred": sizes.starred, "_field": render.field, "_joined": render.joined,
    "_x_fatal": (MemoryError, RecursionError),
}  # fmt: skip
_HELPERS.update(("_x_" + name, classes) for name, classes in errors.CAUGHT.items())
_HELPERS.update(methods.DISPATCH)


def _error(name: str, *message: Any) -> Exception:
    """What `raise NAME(message)` raises."""
    return errors.RAISED[name](*[render.text_of(each)[: costs.MAX_MESSAGE] for each in message])


def _caught(value: Any) -> Exception:
    """What `raise NAME` raises where NAME is a variable."""
    if isinstance(value, errors.CATCHABLE):
        value.__traceback__ = value.__context__ = None
        return value
    raise TypeError("only errors can be raised")


def _handle(depth: int) -> None:
    """At the begin of each handler and `finally`: calls that the error has left are over.

    Errors that were raised while others were handled hold these, and the interpreter goes through all of them for
    each further one: the chain is cut.
    """
    meter.D[0] = depth
    error = sys.exc_info()[1]
    if error is not None:
        error.__context__ = None


_HELPERS["_handle"] = _handle
_HELPERS["_error"] = _error
_HELPERS["_caught"] = _caught


def run(
    program: Program,
    values_in: dict[str, Any],
    functions: dict[str, int],
    limits: dict[str, Any],
    ask: Callable[[str, list[Any], dict[str, Any]], Any],
    write: Callable[[str], Any],
) -> dict[str, Any]:
    """Run a script and say how it ended, as plain data.

    functions: {name: price in cycles}. limits: cycles; output (bytes that print() may write), depth (of calls),
    nodes_out and text_out (of what is handed over) have defaults; lines=True: cost of each line, too.
    ask(name, args, kwargs): the result of a host function; ScriptError is told to the script, HostFailed without words,
    anything else ends the run and is raised here. write(text): text that print() writes.
    Raises BadValue for what cannot be fed in.
    """
    if meter.STATE.running:
        raise RuntimeError("a script is running already")
    inwards = Inwards()
    scope: dict[str, Any] = {}
    for name, value in values_in.items():
        _check_name(name)
        scope[name] = inwards.copy(value)
    for name, price in functions.items():
        _check_name(name)
        if type(price) is not int or price < 0:
            raise BadValue(f"the price of {name} must be a whole number from 0 on")
    answers: list[tuple[bool, Any]] = []
    record = _run(program, scope, functions, limits, _recorded(ask, answers), write, bool(limits.get("lines")))
    program.last = (values_in, functions, limits, answers)
    if program in _recent:
        _recent.remove(program)
    _recent.append(program)
    if len(_recent) > EXPLAINABLE:
        _recent.pop(0).last = None
    return record


def _recorded(ask: Any, answers: list[tuple[bool, Any]]) -> Any:
    def asked(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            answer = ask(name, args, kwargs)
        except (ScriptError, HostFailed) as error:
            answers.append((False, error))
            raise
        answers.append((True, answer))
        return answer

    return asked


def explain(program: Program) -> dict[str, Any]:
    """The record of the last run, with `lines`: {line: cycles}. Runs it again, on the answers the host gave then."""
    if program.last is None:
        raise BadValue("the script has not been run")
    values_in, functions, limits, answers = program.last
    replies = iter(answers)

    def ask(name: str, args: Any, kwargs: Any) -> Any:
        succeeded, answer = next(replies)
        if not succeeded:
            raise answer.__class__(*answer.args)
        return answer

    inwards = Inwards()
    scope = {name: inwards.copy(value) for name, value in values_in.items()}
    return _run(program, scope, functions, limits, ask, lambda text: None, True)


def _check_name(name: Any) -> None:
    if type(name) is not str or not name.isidentifier() or name[0] == "_" or name in errors.CAUGHT:
        raise BadValue("%.60r cannot be the name of a variable" % (name,))


def _host_function(name: str, price: int, ask: Any) -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        meter.spend(price)
        outwards = Outwards()
        try:
            arguments = [outwards.copy(each) for each in args]
            named = {each: outwards.copy(value) for each, value in kwargs.items()}
        except TooMuch as error:
            meter.over(error.limit, f"what is handed to {name}() {error}")
        except NotPlain:
            raise TypeError(f"{name}() takes plain values only, no function and no error") from None
        meter.spend(costs.MAX_NODES_OUT - outwards.nodes)
        failed: ScriptError | None = None
        try:
            answer = ask(name, arguments, named)
        except ScriptError as error:
            failed = ScriptError(render.message_of(error))
        except HostFailed:
            failed = ScriptError(f"the function {name}() failed")
        except Exception as error:
            meter.abort(error)
        if failed is not None:
            raise failed
        inwards = Inwards()
        try:
            value = inwards.copy(answer)
        except BadValue:
            raise ScriptError(f"the function {name}() gave back what a script cannot use") from None
        meter.spend(costs.MAX_NODES_IN - inwards.nodes)
        return value

    function.__name__ = function.__qualname__ = name
    return function


def _run(
    program: Program, scope: dict[str, Any], functions: Any, limits: dict[str, Any], ask: Any, write: Any, lines: bool
) -> dict[str, Any]:
    for name, price in functions.items():
        scope[name] = _host_function(name, price, ask)
    scope.update(_HELPERS)
    scope["__builtins__"] = builtins.SCOPE.copy()
    main = _Function(program.by_line() if lines else program.code, scope)
    depth = limits.get("depth", costs.MAX_CALLS)
    if type(depth) is not int or not 0 <= depth <= costs.MOST_CALLS:
        raise BadValue("the limit of calls inside each other must be from 0 to %d" % costs.MOST_CALLS)
    recursion = sys.getrecursionlimit()
    frames = _depth_of_stack()
    meter.begin(limits["cycles"], limits.get("output", 65536), depth)
    state = meter.STATE

    def guarded_write(text: str) -> None:
        try:
            write(text)
        except Exception as error:
            meter.abort(error)

    state.write = guarded_write
    error: BaseException | None = None
    where: tuple[int | None, int | None] = (None, None)
    try:
        sys.setrecursionlimit(frames + 8 * depth + 1000)
        try:
            main()
            if meter.B[0] < 0:
                meter.over()
        except OverBudget as raised:
            where = _place(raised)
        except errors.Aborted:
            pass
        except (MemoryError, RecursionError) as raised:
            where = _place(raised)
            state.over, state.spent = state.over or "memory", meter.spent()
            state.message = "the script used too much memory"
        except Exception as raised:
            error = raised
            where = _place(raised)
        if state.aborted is not None:
            raise state.aborted
        if lines:
            meter.at_line(0)
            state.lines.pop(0, None)
        return _record(scope, limits, error, where, lines)
    finally:
        state.reset()
        sys.setrecursionlimit(recursion)
        scope.clear()
        error = None


def _record(scope: dict[str, Any], limits: dict[str, Any], error: Any, where: Any, lines: bool) -> dict[str, Any]:
    state = meter.STATE
    record: dict[str, Any] = {
        "status": "finished",
        "over": state.over,
        "cycles": meter.spent(),
        "globals": {},
        "error": None,
        "lines": dict(sorted(state.lines.items())) if lines else None,
        "dropped": [],
        "costs": costs.VERSION,
    }
    line, column = where
    if state.over:
        record["status"] = "over_budget"
        record["error"] = _told("OverBudget", state.message, line, column)
        return record
    if error is not None:
        record["status"] = "failed"
        record["error"] = _told(type(error).__name__, render_error(error), line, column)
        return record
    outwards = Outwards(limits.get("nodes_out", costs.MAX_NODES_OUT), limits.get("text_out", costs.MAX_TEXT_OUT))
    for name, value in scope.items():
        if name[0] == "_" or type(value) is _Function:
            continue
        try:
            record["globals"][name] = outwards.copy(value)
        except NotPlain:
            record["dropped"].append(name)
        except TooMuch as raised:
            record.update(status="over_budget", over=raised.limit, globals={}, dropped=[])
            record["error"] = _told("OverBudget", f"the variable {name[:60]} {raised}", None, None)
            break
    return record


def _told(kind: str, message: str, line: int | None, column: int | None) -> dict[str, Any]:
    return {"type": kind, "message": message, "line": line, "column": column}


def render_error(error: BaseException) -> str:
    """The message of an error that has ended a script, within no budget."""
    left, meter.B[0] = meter.B[0], 1 << 30
    try:
        return render.message_of(error)
    finally:
        meter.B[0] = left


def _depth_of_stack() -> int:
    frame: Any = sys._getframe()
    depth = 0
    while frame is not None:
        depth += 1
        frame = frame.f_back
    return depth


def _place(error: BaseException) -> tuple[int | None, int | None]:
    """Line and column, from 1, of the innermost place in the script where an error was; column None: not known."""
    found = None
    trace: Any = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILENAME:
            found = trace
        trace = trace.tb_next
    if found is None:
        return None, None
    column = None
    positions = getattr(found.tb_frame.f_code, "co_positions", None)
    if positions is not None:
        for index, place in enumerate(positions()):
            if index == found.tb_lasti // 2:
                column = place[2]
                break
    return found.tb_lineno, None if column is None else column + 1
