"""Which scripts there are: a closed set of syntax nodes, and words for authors about everything else.

The walk has no recursion, so no depth of a script can hurt it. `compiler` relies on all that is checked here.
"""

from __future__ import annotations

import _ast as ast

from . import costs
from .errors import CAUGHT
from .methods import NAMES
from .render import spec_problem
from .text import finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALLOWED = frozenset(
    [
        ast.Module, ast.Expr, ast.Assign, ast.AugAssign, ast.If, ast.For, ast.While, ast.Break, ast.Continue, ast.Pass,
        ast.FunctionDef, ast.Return, ast.Try, ast.ExceptHandler, ast.Raise, ast.Assert, ast.Delete, ast.Global,
        ast.Nonlocal, ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp,
        ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Lambda, ast.Subscript, ast.Slice, ast.JoinedStr,
        ast.FormattedValue, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Starred, ast.Attribute,
        ast.comprehension, ast.arguments, ast.arg, ast.keyword,
    ]
)  # fmt: skip
_OPERATORS = frozenset(
    [
        ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift, ast.BitOr,
        ast.BitAnd, ast.BitXor, ast.UAdd, ast.USub, ast.Not, ast.Invert, ast.And, ast.Or, ast.Eq, ast.NotEq, ast.Lt,
        ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot, ast.In, ast.NotIn, ast.Load, ast.Store, ast.Del,
    ]
)  # fmt: skip
_SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

#: {node: (construct, why, hint)}
REFUSED: dict[str, tuple[str, str, str]] = {
    "Import": ("import", "a script cannot import", "All there is can be used by its name, without import."),
    "ImportFrom": ("import", "a script cannot import", "All there is can be used by its name, without import."),
    "ClassDef": ("class", "classes are not part of the language", "Use a dict for what belongs together."),
    "With": ("with", "with is not part of the language", "There is nothing that needs to be closed."),
    "AsyncFunctionDef": ("async", "async is not part of the language", "Write def without async."),
    "AsyncFor": ("async", "async is not part of the language", "Write for without async."),
    "AsyncWith": ("async", "async is not part of the language", "There is nothing that needs to be closed."),
    "Await": ("await", "await is not part of the language", "Call the function without await."),
    "Yield": ("yield", "yield is not part of the language", "Collect the values in a list and return it."),
    "YieldFrom": ("yield", "yield is not part of the language", "Collect the values in a list and return it."),
    "Match": ("match", "match is not part of the language", "Use if and elif."),
    "NamedExpr": (":=", ":= is not part of the language", "Assign with = in a line of its own."),
    "TryStar": ("except*", "except* is not part of the language", "Use except."),
    "AnnAssign": ("annotation", "types behind a colon are not part of the language", "Leave the colon and type out."),
    "TypeAlias": ("type", "type is not part of the language", "Leave it out."),
    "MatMult": ("@", "@ is not part of the language", "Use * or a loop."),
    "TemplateStr": ("t-string", "t-strings are not part of the language", "Use an f-string."),
}


class _Checker:
    def __init__(self) -> None:
        self.findings: list[dict[str, Any]] = []

    def refuse(self, node: Any, construct: str, why: str, hint: str = "") -> None:
        column = getattr(node, "col_offset", 0) + 1
        found = finding(getattr(node, "lineno", 1), column, construct[:80], why, hint)
        if found not in self.findings and len(self.findings) < 50:
            self.findings.append(found)

    def name(self, node: Any, name: Any, stored: bool = False) -> None:
        if name is None:
            return
        if name[:1] == "_":
            self.refuse(node, name, "names cannot begin with an underscore", "Choose another name.")
        elif stored and name in CAUGHT:
            self.refuse(node, name, f"{name} is the name of an error", "Choose another name.")

    def check(self, tree: Any) -> None:
        # (node, depth, scopes around, in a function, in a loop, in a handler, what an expression may be)
        stack: list[tuple[Any, int, int, bool, bool, bool, str]] = [(tree, 0, 0, False, False, False, "")]
        count = 0
        while stack:
            node, depth, scopes, function, loop, handler, place = stack.pop()
            kind = type(node)
            if kind in _OPERATORS:
                continue
            count += 1
            if count > costs.MAX_NODES:
                self.refuse(tree, "script", "the script has more than %d parts" % costs.MAX_NODES, "Split it.")
                return
            if depth > costs.MAX_DEPTH:
                self.refuse(node, "nesting", "more than %d parts are inside each other" % costs.MAX_DEPTH,
                            "Use variables or functions for some of it.")  # fmt: skip
                return
            if kind not in _ALLOWED:
                construct, why, hint = REFUSED.get(
                    kind.__name__, (kind.__name__, "this is not part of the language", "")
                )
                self.refuse(node, construct, why, hint)
                continue
            special = getattr(self, "check_" + kind.__name__, None)
            skip: tuple[Any, ...] = ()
            if special is not None:
                skip = special(node, function, loop, handler, place) or ()
            if kind in _SCOPES:
                scopes += 1
                if scopes > costs.MAX_SCOPES:
                    self.refuse(node, "nesting", "more than %d functions or comprehensions are inside each other"
                                % costs.MAX_SCOPES, "Use functions that stand side by side.")  # fmt: skip
                    continue
            if kind is ast.FunctionDef:
                function, loop, handler = True, False, False
            elif kind is ast.ExceptHandler:
                handler = True
            for field in node._fields:
                if field in skip:
                    continue
                value = getattr(node, field, None)
                inner = place_of(kind, field, place)
                looped = loop or (field == "body" and kind in (ast.For, ast.While))
                if isinstance(value, ast.AST):
                    stack.append((value, depth + 1, scopes, function, looped, handler, inner))
                elif type(value) is list:
                    for each in value:
                        if isinstance(each, ast.AST):
                            stack.append((each, depth + 1, scopes, function, looped, handler, inner))

    # each returns the fields that it has seen to

    def check_Name(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        stored = type(node.ctx) is not ast.Load
        self.name(node, node.id, stored)
        if not stored and node.id in CAUGHT and place != "raised":
            self.refuse(node, node.id, "an error can only stand behind raise or except", "")

    def check_Constant(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        value = node.value
        if type(value) is str:
            if not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError:
                    self.refuse(node, "text", "the text has a character that is no text", "Remove it.")
        elif value is not None and type(value) not in (bool, int, float):
            construct = {bytes: "bytes", complex: "complex number"}.get(type(value), "...")
            self.refuse(node, construct, f"{construct} is not part of the language", "")

    def check_Attribute(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        name = node.attr
        if place != "callee":
            hint = f"To call it, write .{name}()" if name in NAMES else f"Elements of a dict are written d['{name}']"
            self.refuse(node, "." + name, "what follows a point must be the call of a method", hint)
        elif name not in NAMES:
            self.refuse(node, "." + name, "there is no method of this name", "See the list of methods.")

    def check_Starred(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if place != "target" or type(node.ctx) is not ast.Store:
            self.refuse(node, "*", "a * before a value can only stand on the left of =, once",
                        "Use + to join lists.")  # fmt: skip

    def check_Call(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        for keyword in node.keywords:
            if keyword.arg is None:
                self.refuse(keyword.value, "**", "a call cannot have **", "Write the arguments one by one.")
        if len(node.args) + len(node.keywords) > 200:
            self.refuse(node, "call", "a call has more than 200 arguments", "Use a list.")

    def check_keyword(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        self.name(node, node.arg)

    def check_Dict(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if None in node.keys:
            self.refuse(node, "**", "a dict cannot have ** in it", "Use .update().")

    def check_arg(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        self.name(node, node.arg, True)
        if node.annotation is not None:
            self.refuse(node, "annotation", *REFUSED["AnnAssign"][1:])
            return ("annotation",)
        return None

    def check_arguments(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if node.vararg or node.kwarg:
            self.refuse(node.vararg or node.kwarg, "*", "a function cannot take * or **", "Take a list.")
        if len(node.posonlyargs) + len(node.args) + len(node.kwonlyargs) > 200:
            self.refuse(
                (node.posonlyargs + node.args + node.kwonlyargs)[0], "def", "a function takes more than 200 values"
            )

    def check_FunctionDef(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        self.name(node, node.name, True)
        for each in node.decorator_list:
            self.refuse(each, "@", "decorators are not part of the language", "Call the function instead.")
        if node.returns is not None:
            self.refuse(node.returns, "annotation", *REFUSED["AnnAssign"][1:])
        for each in getattr(node, "type_params", ()):
            self.refuse(each, "[ ]", "types are not part of the language", "Leave them out.")
        return ("decorator_list", "returns", "type_params")

    def check_Return(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if not function:
            self.refuse(node, "return", "return can only stand in a function", "Use if and else.")

    def check_Break(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if not loop:
            word = type(node).__name__.lower()
            self.refuse(node, word, f"{word} can only stand in a loop", "")

    check_Continue = check_Break

    def check_Global(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        for name in node.names:
            self.name(node, name, True)

    check_Nonlocal = check_Global

    def check_comprehension(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if node.is_async:
            self.refuse(node.target, *REFUSED["AsyncFor"])

    def check_Compare(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        for operator, right in zip(node.ops, node.comparators):
            constant = type(right) is ast.Constant and (right.value is None or type(right.value) is bool)
            if type(operator) in (ast.Is, ast.IsNot) and not constant:
                word = "is" if type(operator) is ast.Is else "is not"
                self.refuse(node, word, f"{word} can only be used with None, True and False", "Use == or !=.")

    def check_Subscript(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        index = node.slice
        if type(index) is ast.Tuple and any(type(each) is ast.Slice for each in index.elts):
            self.refuse(node, "[ ]", "a slice cannot have a comma", "Take one slice after the other.")
        if type(index) is ast.Slice and type(node.ctx) is not ast.Load and place != "statement":
            self.refuse(node, "[:]", "a slice cannot stand here", "Assign to it in a line of its own.")

    def check_AugAssign(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if type(node.target) is ast.Subscript and type(node.target.slice) is ast.Slice:
            self.refuse(node, "[:]", "a slice cannot be changed like this", "Assign to it with =.")

    def check_FormattedValue(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        if node.conversion == 97:
            self.refuse(node, "!a", "!a is not part of the language", "Use !r.")
        if node.format_spec is not None:
            parts = node.format_spec.values
            if any(type(part) is not ast.Constant for part in parts):
                self.refuse(node.value, "f-string", "a format cannot have { } in it", "Write the width as a number.")
            else:
                problem = spec_problem("".join([part.value for part in parts]))
                if problem:
                    self.refuse(node.value, "f-string", problem, "For example: {price:>10.2f}")
        return ("format_spec",)

    def check_Raise(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        error = node.exc
        if node.cause is not None:
            self.refuse(node, "raise", "raise cannot have from", "Leave from out.")
        if error is None:
            if not handler:
                self.refuse(node, "raise", "raise alone can only stand in except", "Name an error.")
            return ("cause",)
        called = error.func if type(error) is ast.Call else error
        if type(called) is ast.Name and called.id in CAUGHT:
            if type(error) is ast.Call and (len(error.args) > 1 or error.keywords):
                self.refuse(error, "raise", "an error takes one message", "For example: raise ValueError('...')")
                return ("exc", "cause")
            return ("cause",)
        if type(error) is not ast.Name:
            self.refuse(
                node, "raise", "only an error of the list can be raised", "For example: raise ValueError('...')"
            )
            return ("exc", "cause")
        return ("cause",)

    def check_ExceptHandler(self, node: Any, function: bool, loop: bool, handler: bool, place: str) -> Any:
        self.name(node, node.name, True)
        for each in node.type.elts if type(node.type) is ast.Tuple else [node.type] if node.type else []:
            if type(each) is not ast.Name or each.id not in CAUGHT:
                name = getattr(each, "id", "except")
                self.refuse(each, name, "only errors of the list can be caught", "For example: except ValueError:")
        return ("type",)


def place_of(kind: Any, field: str, place: str) -> str:
    """What may stand in a field of a node that stands in `place`, where not every expression may."""
    if field == "func":
        return "raised" if place == "raised" else "callee"
    if kind is ast.Raise:
        return "raised"
    if kind in (ast.For, ast.comprehension) and field == "target":
        return "each"
    if (kind is ast.Assign and field == "targets") or kind is ast.Delete:
        return "statement"
    if kind in (ast.Tuple, ast.List) and field == "elts":
        return {"each": "each", "statement": "target"}.get(place, "")
    return ""


def _expanded(node: Any) -> tuple[int, int]:
    """(parts, jumps) of what CPython makes of a tree: the code of a finally is there once for each way to it."""
    parts, jumps = 1, int(type(node) in (ast.Return, ast.Break, ast.Continue))
    ends = (0, 0)
    for field in node._fields:
        value = getattr(node, field, None)
        for each in value if type(value) is list else (value,):
            if isinstance(each, ast.AST) and type(each) not in _OPERATORS:
                more, ways = _expanded(each)
                if field == "finalbody":
                    ends = (ends[0] + more, ends[1] + ways)
                else:
                    parts, jumps = parts + more, jumps + ways
    copies = 2 + jumps if ends[0] else 0
    return parts + copies * ends[0], jumps + copies * ends[1]


def check(tree: Any) -> list[dict[str, Any]]:
    """What is wrong with a script, in the order of its text."""
    checker = _Checker()
    checker.check(tree)
    if not checker.findings and _expanded(tree)[0] > costs.MAX_EXPANDED:
        checker.refuse(tree, "finally", "the script has too much in finally", "Put it into a function to call there.")
    return sorted(checker.findings, key=lambda each: (each["line"], each["column"]))
