"""From the tree of a checked script to code that charges for what it does.

* A *tick* stands at the head of each block: of a script, function, loop, branch, handler, `finally`; after a
  statement that may jump away, the rest is a block of its own. It takes the number of nodes of the block off
  `_b[0]`, and is inline.
* Operators become calls of guards, unless it is known or quickly seen that the operands are numbers.
* `x.append(v)` becomes `_m_append(x, v)`. Comprehensions are charged when they start, for all elements.
* The whole is the body of a function whose variables are global: helpers are found faster than by a module's code.

All names of ours begin with an underscore, which no name of a script does (`checker`).
"""

from __future__ import annotations

import _ast as ast

from .errors import RAISED
from .expressions import IN_PLACE, Expressions
from .nodes import LOAD, STORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Callable

_JUMPS = (ast.Return, ast.Break, ast.Continue, ast.Raise)


class Compiler(Expressions):
    """Rewrites one tree, in place. by_line: code that also notes which line has cost what."""

    def __init__(self, by_line: bool) -> None:
        super().__init__(by_line)
        self._statements: dict[Any, Callable[[Any, list[Any]], None]] = {
            ast.Expr: self._expression_statement, ast.Assign: self._assign, ast.AugAssign: self._augmented,
            ast.If: self._if, ast.For: self._for, ast.While: self._while, ast.FunctionDef: self._function,
            ast.Return: self._return, ast.Try: self._try, ast.Raise: self._raise, ast.Assert: self._assert,
            ast.Delete: self._delete, ast.Global: self._global,
        }  # fmt: skip

    def open_tick(self, out: list[Any]) -> Any:
        weight = self.constant(0)
        if self.by_line:
            out.append(self.statement(self.helper("_tick_lines", weight, self.constant(()))))
            return out[-1].value.args
        self.count("_b", weight, out, "_over")
        return [weight]

    def close_tick(self, tick: Any) -> None:
        tick[0].value = self.weight
        if len(tick) > 1:
            tick[1].value = tuple(self.lines)

    def block(self, body: list[Any], at: Any, extra: int = 0, first: Any = None) -> list[Any]:
        """The statements with their ticks. extra: weight that each run of the block has besides."""
        saved, lines = self.weight, self.lines
        self.at = at
        out: list[Any] = []
        tick = self.open_tick(out)
        self.weight, self.lines = extra, [(at.lineno, extra)] if extra else []
        if first is not None:
            out.append(first)
        last = len(body) - 1
        for index, node in enumerate(body):
            before, jumped = self.weight, self.jumps
            self.jumps = False
            self.at = node
            if self.by_line:
                out.append(self.statement(self.helper("_at_line", self.constant(node.lineno))))
            self.weight += 1
            handle = self._statements.get(type(node))
            if handle is None:
                if type(node) in _JUMPS:
                    self.jumps = True
                out.append(node)
            else:
                handle(node, out)
            self.lines.append((node.lineno, self.weight - before))
            leaves = self.jumps
            self.jumps = jumped or leaves
            if leaves and index < last and type(node) not in _JUMPS:
                self.close_tick(tick)
                self.at = body[index + 1]
                tick = self.open_tick(out)
                self.weight, self.lines = 0, []
        self.close_tick(tick)
        self.weight, self.lines = saved, lines
        return out

    # ---- statements

    def _expression_statement(self, node: Any, out: list[Any]) -> None:
        if type(node.value) is ast.Constant:
            self.weight += 1
            out.append(self.place(ast.Pass()))
            return
        node.value = self.expression(node.value)
        out.append(node)

    def _assign(self, node: Any, out: list[Any]) -> None:
        first = node.targets[0]
        if len(node.targets) == 1 and type(first) is ast.Subscript and type(first.slice) is ast.Slice:
            value = self.expression(node.value)
            self.weight += 1
            bounds = self._bounds(first.slice)
            self.at = node
            # the value is evaluated first, as in Python
            name = self.temporary()
            out.append(self.assign(name, value))
            target = self.expression(first.value)
            self.at = node
            out.append(self.statement(self.helper("_set_slice", target, *bounds, self.load(name))))
            return
        value = self.expression(node.value)
        self.at = node
        if any(type(each) is ast.Starred for target in node.targets for each in getattr(target, "elts", ())):
            value = self.helper("_starred", value)
        node.value = value
        node.targets = [self.target(target) for target in node.targets]
        out.append(node)

    def _augmented(self, node: Any, out: list[Any]) -> None:
        target, operator = node.target, node.op
        self.weight += 1
        if type(target) is ast.Name:
            if self.top:
                self.stored.add(target.id)
            self.at = node
            old = self.load(target.id)
            value = self._operate(old, operator, node.value, IN_PLACE)
            self.at = node
            out.append(self.assign(target.id, value))
            return
        container, index, old_name = self.temporary(), self.temporary(), self.temporary()
        found = self.expression(target.value)
        key = self._index(target.slice, False)
        self.at = node
        out.append(self.assign(container, found))
        out.append(self.assign(index, key))
        item = self.place(ast.Subscript(self.load(container), self.load(index), LOAD))
        out.append(self.assign(old_name, item))
        value = self._operate(self.load(old_name), operator, node.value, IN_PLACE)
        self.at = node
        item = self.place(ast.Subscript(self.load(container), self.load(index), STORE))
        out.append(self.place(ast.Assign([item], value)))

    def _if(self, node: Any, out: list[Any]) -> None:
        node.test = self.expression(node.test)
        node.body = self.block(node.body, node.body[0])
        if node.orelse:
            node.orelse = self.block(node.orelse, node.orelse[0])
        out.append(node)

    def _for(self, node: Any, out: list[Any]) -> None:
        values = self.expression(node.iter)
        self.at = node.iter
        node.iter = self.helper("_loop", values)
        before = self.weight
        node.target = self.target(node.target)
        turn = 1 + self.weight - before
        self.weight = before
        node.body = self.block(node.body, node, turn)
        if node.orelse:
            node.orelse = self.block(node.orelse, node.orelse[0])
        out.append(node)

    def _while(self, node: Any, out: list[Any]) -> None:
        before = self.weight
        node.test = self.expression(node.test)
        node.body = self.block(node.body, node, self.weight - before)
        if node.orelse:
            node.orelse = self.block(node.orelse, node.orelse[0])
        out.append(node)

    def _function(self, node: Any, out: list[Any]) -> None:
        if self.top:
            self.stored.add(node.name)
        self._defaults(node.args)
        top, comprehensions, calls, jumps = self.top, self.comprehensions, self.calls, self.jumps
        self.top, self.comprehensions = False, 0
        declared = [each for each in node.body if type(each) in (ast.Global, ast.Nonlocal)]
        body = self.block(node.body, node, 1)
        if self.calls != calls:
            self.at = node
            head = 1 if self.by_line else 2  # statements of the tick
            deeper: list[Any] = []
            self.count("_d", self.constant(1), deeper, "_deep")
            higher = self.place(ast.BinOp(self.counter("_d"), ast.Add(), self.constant(1)))
            cell = self.place(ast.Subscript(self.load("_d"), self.constant(0), STORE))
            finish = [self.place(ast.Assign([cell], higher))]
            body = [*body[:head], *deeper, self.place(ast.Try(body[head:], [], [], finish))]
        self.top, self.comprehensions, self.jumps = top, comprehensions, jumps
        node.body = body
        if declared:
            self._declare(declared)
        out.append(node)

    def _declare(self, declared: list[Any]) -> None:
        for each in declared:
            if type(each) is ast.Global:
                self.stored.update(each.names)

    def _return(self, node: Any, out: list[Any]) -> None:
        self.jumps = True
        if node.value is not None:
            node.value = self.expression(node.value)
        out.append(node)

    def _try(self, node: Any, out: list[Any]) -> None:
        depth = self.temporary()
        out.append(self.assign(depth, self.counter("_d")))
        node.body = self.block(node.body, node.body[0])
        for handler in node.handlers:
            self.at = handler
            named = handler.type.elts if type(handler.type) is ast.Tuple else [handler.type] if handler.type else []
            errors = [self.load("_x_" + str(getattr(each, "id", ""))) for each in named] or [self.load("_x_Exception")]
            handler.type = errors[0]  # each is a tuple
            for each in errors[1:]:
                handler.type = self.place(ast.BinOp(handler.type, ast.Add(), each))
            if self.top and handler.name:
                self.stored.add(handler.name)
            handler.body = self.block(handler.body, handler, 1, self._restore(depth))
        self.at = node
        if node.handlers:
            fatal = self.statement(self.helper("_fatal"))
            node.handlers.insert(0, self.place(ast.ExceptHandler(self.load("_x_fatal"), None, [fatal])))
        if node.orelse:
            node.orelse = self.block(node.orelse, node.orelse[0])
        if node.finalbody:
            self.at = node.finalbody[0]
            node.finalbody = self.block(node.finalbody, node.finalbody[0], 0, self._restore(depth))
            if not node.handlers:
                self.at = node
                fatal = self.statement(self.helper("_fatal"))
                node.handlers.append(self.place(ast.ExceptHandler(self.load("_x_fatal"), None, [fatal])))
        out.append(node)

    def _restore(self, depth: str) -> Any:
        return self.statement(self.helper("_handle", self.load(depth)))

    def _raise(self, node: Any, out: list[Any]) -> None:
        self.jumps = True
        error: Any = node.exc
        if error is not None:
            self.weight += 1
            raised: Any = error.func if type(error) is ast.Call else error
            name = raised.id
            message = [self.expression(each) for each in error.args] if type(error) is ast.Call else []
            self.at = node
            if type(error) is ast.Name and error.id not in RAISED:
                node.exc = self.helper("_caught", self.load(name))
            elif name in RAISED:
                node.exc = self.helper("_error", self.constant(name), *message)
        node.cause = None
        out.append(node)

    def _assert(self, node: Any, out: list[Any]) -> None:
        test = self.expression(node.test)
        message = [self.expression(node.msg)] if node.msg is not None else []
        self.at = node
        error = self.helper("_error", self.constant("AssertionError"), *message)
        wrong = self.place(ast.UnaryOp(ast.Not(), test))
        out.append(self.place(ast.If(wrong, [self.place(ast.Raise(error, None))], [])))

    def _delete(self, node: Any, out: list[Any]) -> None:
        for target in node.targets:
            self.weight += 1
            if type(target) is ast.Name:
                if self.top:
                    self.stored.add(target.id)
                self.at = node
                out.append(self.place(ast.Delete([target])))
                continue
            if type(target) is not ast.Subscript:
                self._delete(target_list(target), out)
                continue
            container = self.expression(target.value)
            if type(target.slice) is ast.Slice:
                arguments = self._bounds(target.slice)
                helper = "_del_slice"
            else:
                arguments = [self.expression(target.slice)]
                helper = "_del_item"
            self.at = node
            out.append(self.statement(self.helper(helper, container, *arguments)))

    def _global(self, node: Any, out: list[Any]) -> None:
        if self.top:
            self.stored.update(node.names)
            out.append(self.place(ast.Pass()))
        else:
            self.stored.update(node.names)
            out.append(node)


def target_list(node: Any) -> Any:
    """`del (a, b)` as a statement."""
    made = ast.Delete(node.elts)
    made.lineno, made.col_offset = node.lineno, node.col_offset
    made.end_lineno, made.end_col_offset = node.end_lineno, node.end_col_offset
    return made


def compile_tree(tree: Any, filename: str, by_line: bool) -> CodeType:
    """The code of a function without arguments that runs the script. SyntaxError: what only CPython's compiler sees."""
    compiler = Compiler(by_line)
    at = ast.Pass()
    at.lineno = at.end_lineno = 1
    at.col_offset = at.end_col_offset = 0
    body = compiler.block(tree.body, at, 1)
    compiler.at = at
    if compiler.stored:
        body.insert(0, compiler.place(ast.Global(sorted(compiler.stored))))
    arguments = ast.arguments([], [], None, [], [], None, [])
    main = compiler.place(ast.FunctionDef("_main", arguments, body, [], None))
    if "type_params" in ast.FunctionDef._fields:
        main.type_params = []
    module = compile(ast.Module([main], []), filename, "exec", dont_inherit=True, optimize=0)
    code: CodeType | None = next((each for each in module.co_consts if type(each) is type(module)), None)
    assert code is not None
    return code
