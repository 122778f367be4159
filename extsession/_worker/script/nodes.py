"""Making nodes of code: what statements and expressions need alike; what is known of a value before the script runs."""

from __future__ import annotations

import _ast as ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOAD, STORE = ast.Load(), ast.Store()


class Unsupported(Exception):
    """Something that is seen only when code is made of a script. args: node, why."""


def is_number(node: Any) -> bool:
    """Whether the value of an expression can be nothing but a number (or an error)."""
    kind = type(node)
    if kind is ast.Constant:
        return type(node.value) in (int, float, bool)
    if kind is ast.UnaryOp:
        return True
    if kind is ast.BinOp:
        operator = type(node.op)
        if operator in (ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift):
            return True
        if operator in (ast.Add, ast.Sub):
            return is_number(node.left) or is_number(node.right)
        return operator is ast.Mult and (is_float(node.left) or is_float(node.right))
    return False


def is_float(node: Any) -> bool:
    kind = type(node)
    if kind is ast.Constant:
        return type(node.value) is float
    if kind is ast.BinOp:
        if type(node.op) is ast.Div:
            return True
        return type(node.op) in (ast.Add, ast.Sub, ast.Mult) and (is_float(node.left) or is_float(node.right))
    return type(node) is ast.UnaryOp and type(node.op) in (ast.USub, ast.UAdd) and is_float(node.operand)


def is_small(node: Any) -> bool:
    value: Any = node.value if type(node) is ast.Constant else None
    return type(value) in (int, bool) and -(2**30) < value < 2**30


def is_simple(node: Any) -> bool:
    return type(node) is ast.Name or type(node) is ast.Constant


class Maker:
    """Makes nodes at the place of `at`, and counts what the script is made of."""

    def __init__(self, by_line: bool) -> None:
        self.by_line = by_line
        self.weight = 0  # of the block so far
        self.lines: list[tuple[int, int]] = []  # (line, weight) of the statements of the block so far
        self.calls = 0  # seen so far: what calls nothing cannot recurse
        self.temporaries = 0
        self.comprehensions = 0  # around the expression
        self.iterables = 0  # whether it is in what a comprehension goes through: no := there
        self.jumps = False  # a statement seen may have left its block
        self.stored: set[str] = set()  # variables of the script itself
        self.top = True
        self.at: Any = None  # the node whose place new nodes get

    def place(self, node: Any) -> Any:
        at = self.at
        node.lineno = at.lineno
        node.col_offset = at.col_offset
        node.end_lineno = at.end_lineno
        node.end_col_offset = at.end_col_offset
        return node

    def load(self, name: str) -> Any:
        return self.place(ast.Name(name, LOAD))

    def constant(self, value: Any) -> Any:
        return self.place(ast.Constant(value))

    def helper(self, name: str, *arguments: Any) -> Any:
        return self.place(ast.Call(self.load(name), list(arguments), []))

    def statement(self, expression: Any) -> Any:
        return self.place(ast.Expr(expression))

    def temporary(self) -> str:
        self.temporaries += 1
        return "_%d" % self.temporaries

    def assign(self, name: str, value: Any) -> Any:
        return self.place(ast.Assign([self.place(ast.Name(name, STORE))], value))

    def counter(self, name: str) -> Any:
        return self.place(ast.Subscript(self.load(name), self.constant(0), LOAD))

    def count(self, name: str, by: Any, out: list[Any], helper: str) -> None:
        """`name[0] = _n = name[0] - by`; `if _n < 0: helper()`."""
        left = self.place(ast.BinOp(self.counter(name), ast.Sub(), by))
        cell = self.place(ast.Subscript(self.load(name), self.constant(0), STORE))
        out.append(self.place(ast.Assign([cell, self.place(ast.Name("_n", STORE))], left)))
        test = self.place(ast.Compare(self.load("_n"), [ast.Lt()], [self.constant(0)]))
        out.append(self.place(ast.If(test, [self.statement(self.helper(helper))], [])))
