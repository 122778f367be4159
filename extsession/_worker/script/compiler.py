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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Callable

_LOAD, _STORE = ast.Load(), ast.Store()
_BINARY = {
    ast.Add: "_add", ast.Sub: "_sub", ast.Mult: "_mul", ast.FloorDiv: "_floordiv", ast.Mod: "_mod", ast.Pow: "_pow",
    ast.LShift: "_lshift", ast.BitOr: "_or", ast.BitAnd: "_and", ast.BitXor: "_xor",
}  # fmt: skip
_IN_PLACE = {
    ast.Add: "_iadd", ast.Mult: "_imul", ast.BitOr: "_ior", ast.BitAnd: "_iand", ast.BitXor: "_ixor", ast.Sub: "_isub",
}  # fmt: skip
_COMPARISONS = {
    ast.Eq: "_eq", ast.NotEq: "_ne", ast.Lt: "_lt", ast.LtE: "_le", ast.Gt: "_gt", ast.GtE: "_ge",
}  # fmt: skip
_JUMPS = (ast.Return, ast.Break, ast.Continue, ast.Raise)


def _is_number(node: Any) -> bool:
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
            return _is_number(node.left) or _is_number(node.right)
        return operator is ast.Mult and (_is_float(node.left) or _is_float(node.right))
    return False


def _is_float(node: Any) -> bool:
    kind = type(node)
    if kind is ast.Constant:
        return type(node.value) is float
    if kind is ast.BinOp:
        if type(node.op) is ast.Div:
            return True
        return type(node.op) in (ast.Add, ast.Sub, ast.Mult) and (_is_float(node.left) or _is_float(node.right))
    return type(node) is ast.UnaryOp and type(node.op) in (ast.USub, ast.UAdd) and _is_float(node.operand)


def _is_small(node: Any) -> bool:
    value: Any = node.value if type(node) is ast.Constant else None
    return type(value) in (int, bool) and -(2**30) < value < 2**30


def _is_simple(node: Any) -> bool:
    return type(node) is ast.Name or type(node) is ast.Constant


class Compiler:
    """Rewrites one tree, in place. by_line: code that also notes which line has cost what."""

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
        self._expressions: dict[Any, Callable[[Any], Any]] = {
            ast.Name: self._name, ast.Constant: lambda node: node, ast.List: self._display, ast.Tuple: self._display,
            ast.Dict: self._dict, ast.Set: self._set, ast.BinOp: self._binary, ast.UnaryOp: self._unary,
            ast.BoolOp: self._boolean, ast.Compare: self._compare, ast.IfExp: self._conditional, ast.Call: self._call,
            ast.Lambda: self._lambda, ast.Subscript: self._subscript, ast.JoinedStr: self._formatted,
            ast.ListComp: self._comprehension, ast.SetComp: self._comprehension, ast.GeneratorExp: self._comprehension,
            ast.DictComp: self._comprehension, ast.Starred: self._starred,
        }  # fmt: skip
        self._statements: dict[Any, Callable[[Any, list[Any]], None]] = {
            ast.Expr: self._expression_statement, ast.Assign: self._assign, ast.AugAssign: self._augmented,
            ast.If: self._if, ast.For: self._for, ast.While: self._while, ast.FunctionDef: self._function,
            ast.Return: self._return, ast.Try: self._try, ast.Raise: self._raise, ast.Assert: self._assert,
            ast.Delete: self._delete, ast.Global: self._global,
        }  # fmt: skip

    # ---- making nodes

    def place(self, node: Any) -> Any:
        at = self.at
        node.lineno = at.lineno
        node.col_offset = at.col_offset
        node.end_lineno = at.end_lineno
        node.end_col_offset = at.end_col_offset
        return node

    def load(self, name: str) -> Any:
        return self.place(ast.Name(name, _LOAD))

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
        return self.place(ast.Assign([self.place(ast.Name(name, _STORE))], value))

    def counter(self, name: str) -> Any:
        return self.place(ast.Subscript(self.load(name), self.constant(0), _LOAD))

    def count(self, name: str, by: Any, out: list[Any], helper: str) -> None:
        """`name[0] = _n = name[0] - by`; `if _n < 0: helper()`."""
        left = self.place(ast.BinOp(self.counter(name), ast.Sub(), by))
        cell = self.place(ast.Subscript(self.load(name), self.constant(0), _STORE))
        out.append(self.place(ast.Assign([cell, self.place(ast.Name("_n", _STORE))], left)))
        test = self.place(ast.Compare(self.load("_n"), [ast.Lt()], [self.constant(0)]))
        out.append(self.place(ast.If(test, [self.statement(self.helper(helper))], [])))

    # ---- blocks

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

    def target(self, node: Any) -> Any:
        self.weight += 1
        kind = type(node)
        if kind is ast.Name:
            if self.top:
                self.stored.add(node.id)
        elif kind is ast.Subscript:
            node.value = self.expression(node.value)
            node.slice = self._index(node.slice, False)
        elif kind is ast.Starred:
            node.value = self.target(node.value)
        else:
            node.elts = [self.target(each) for each in node.elts]
        return node

    def _augmented(self, node: Any, out: list[Any]) -> None:
        target, operator = node.target, node.op
        self.weight += 1
        if type(target) is ast.Name:
            if self.top:
                self.stored.add(target.id)
            self.at = node
            old = self.load(target.id)
            value = self._operate(old, operator, node.value, _IN_PLACE)
            self.at = node
            out.append(self.assign(target.id, value))
            return
        container, index, old_name = self.temporary(), self.temporary(), self.temporary()
        found = self.expression(target.value)
        key = self._index(target.slice, False)
        self.at = node
        out.append(self.assign(container, found))
        out.append(self.assign(index, key))
        item = self.place(ast.Subscript(self.load(container), self.load(index), _LOAD))
        out.append(self.assign(old_name, item))
        value = self._operate(self.load(old_name), operator, node.value, _IN_PLACE)
        self.at = node
        item = self.place(ast.Subscript(self.load(container), self.load(index), _STORE))
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
            cell = self.place(ast.Subscript(self.load("_d"), self.constant(0), _STORE))
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

    def _defaults(self, arguments: Any) -> None:
        arguments.defaults = [self.expression(each) for each in arguments.defaults]
        arguments.kw_defaults = [None if each is None else self.expression(each) for each in arguments.kw_defaults]

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
            if type(error) is ast.Name and error.id not in ERRORS:
                node.exc = self.helper("_caught", self.load(name))
            elif name in ERRORS:
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

    # ---- expressions

    def expression(self, node: Any) -> Any:
        self.weight += 1
        self.at = node
        return self._expressions[type(node)](node)

    def _name(self, node: Any) -> Any:
        return node

    def _starred(self, node: Any) -> Any:
        raise AssertionError("checked before")

    def _display(self, node: Any) -> Any:
        node.elts = [self.expression(each) for each in node.elts]
        return node

    def _dict(self, node: Any) -> Any:
        keys, values = [], []
        for key, value in zip(node.keys, node.values):
            keys.append(self._index(key, True))
            values.append(self.expression(value))
        node.keys, node.values = keys, values
        return node

    def _set(self, node: Any) -> Any:
        values = [self.expression(each) for each in node.elts]
        self.at = node
        return self.helper("_set", self.place(ast.List(values, _LOAD)))

    def _unary(self, node: Any) -> Any:
        node.operand = self.expression(node.operand)
        return node

    def _boolean(self, node: Any) -> Any:
        node.values = [self.expression(each) for each in node.values]
        return node

    def _conditional(self, node: Any) -> Any:
        node.test = self.expression(node.test)
        node.body = self.expression(node.body)
        node.orelse = self.expression(node.orelse)
        return node

    def _binary(self, node: Any) -> Any:
        left = node.left
        self.weight += 1
        return self._operate(left, node.op, node.right, {}, node)

    def _operate(self, left: Any, operator: Any, right: Any, names: dict[Any, str], node: Any = None) -> Any:
        """`left operator right`, guarded. `left` has been counted; if there is a node, not yet rewritten."""
        kind = type(operator)
        at = node or self.at
        numeric = _is_number(left) or _is_number(right)
        quick = self._quick(left, kind, right, numeric)
        simple = _is_simple(right)
        small = _is_small(right)
        is_name = type(left) is ast.Name
        if node is not None and not _is_simple(left):
            left = self._expressions[type(left)](self._moved(left))
        right = self.expression(right)
        self.at = at
        if quick:
            return self.place(ast.BinOp(left, operator, right))
        helper = names.get(kind) or _BINARY[kind]
        types = self._fast_types(kind, small)
        if types and simple and (is_name or not self.comprehensions):
            if is_name:
                name, test_of = left.id, left
            else:
                name = self.temporary()
                test_of = self.place(ast.NamedExpr(self.place(ast.Name(name, _STORE)), left))
            test = self._type_test(test_of, name, types)
            native = self.place(ast.BinOp(self.load(name), operator, right))
            return self.place(ast.IfExp(test, native, self.helper(helper, self.load(name), right)))
        return self.helper(helper, left, right)

    def _moved(self, node: Any) -> Any:
        self.at = node
        return node

    def _quick(self, left: Any, kind: Any, right: Any, numeric: bool) -> bool:
        """Whether an operation needs no guard, whatever the operands are when it runs."""
        if kind in (ast.Div, ast.RShift):
            return True
        if kind in (ast.Add, ast.Sub, ast.BitOr, ast.BitAnd, ast.BitXor):
            return numeric
        if _is_float(left) or (_is_float(right) and kind is not ast.Mod):
            return kind in (ast.Mult, ast.FloorDiv, ast.Mod)
        if kind is ast.FloorDiv:
            return _is_small(right)
        return kind is ast.Mod and _is_small(right) and _is_number(left)

    def _fast_types(self, kind: Any, small: bool) -> tuple[str, ...]:
        """With which types of the left operand CPython may do it, whatever the right one is."""
        if kind in (ast.Add, ast.Sub) or (kind is ast.Mod and small):
            return ("_int", "_float")
        return ("_float",) if kind in (ast.Mult, ast.Mod) else ()

    def _type_test(self, node: Any, name: str, types: tuple[str, ...]) -> Any:
        tests = []
        for each in types:
            kind = self.helper("_type", node)
            tests.append(self.place(ast.Compare(kind, [ast.Is()], [self.load(each)])))
            node = self.load(name)
        return tests[0] if len(tests) == 1 else self.place(ast.BoolOp(ast.Or(), tests))

    def _compare(self, node: Any) -> Any:
        left = node.left
        parts = []
        last = len(node.ops) - 1
        rewritten = self.expression(left)
        for index, (operator, right) in enumerate(zip(node.ops, node.comparators)):
            new = self.expression(right)
            self.at = node
            following = new
            if index < last:
                if type(right) is ast.Constant:
                    following = self.constant(right.value)
                elif type(right) is ast.Name:
                    following = self.load(right.id)
                elif self.iterables:
                    raise Unsupported(right, "a comparison of three values cannot stand behind in")
                else:
                    name = self.temporary()
                    new = self.place(ast.NamedExpr(self.place(ast.Name(name, _STORE)), new))
                    following = self.load(name)
            parts.append(self._comparison(left, rewritten, operator, right, new))
            left, rewritten = right, following
        self.at = node
        return parts[0] if len(parts) == 1 else self.place(ast.BoolOp(ast.And(), parts))

    def _comparison(self, old_left: Any, left: Any, operator: Any, old_right: Any, right: Any) -> Any:
        kind = type(operator)
        if kind in (ast.In, ast.NotIn):
            found = self.helper("_in", left, right)
            return found if kind is ast.In else self.place(ast.UnaryOp(ast.Not(), found))
        native = kind in (ast.Is, ast.IsNot) or _is_number(old_left) or _is_number(old_right)
        if native or type(old_left) is ast.Constant or type(old_right) is ast.Constant:
            return self.place(ast.Compare(left, [operator], [right]))
        helper = _COMPARISONS[kind]
        if type(left) is ast.Name and type(right) is ast.Name:
            test = self._type_test(left, left.id, ("_int", "_float"))
            quick = self.place(ast.Compare(self.load(left.id), [operator], [right]))
            return self.place(ast.IfExp(test, quick, self.helper(helper, self.load(left.id), self.load(right.id))))
        return self.helper(helper, left, right)

    def _call(self, node: Any) -> Any:
        self.calls += 1
        if type(node.func) is ast.Attribute:
            self.weight += 1
            value = self.expression(node.func.value)
            self.at = node.func
            prefix = "_m%d_" % len(node.args) if len(node.args) < 2 and not node.keywords else "_m_"
            node.func = self.load(prefix + node.func.attr)
            node.args.insert(0, value)
            first = 1
        else:
            node.func = self.expression(node.func)
            first = 0
        node.args[first:] = [self.expression(each) for each in node.args[first:]]
        for keyword in node.keywords:
            keyword.value = self.expression(keyword.value)
        return node

    def _lambda(self, node: Any) -> Any:
        self._defaults(node.args)
        saved, calls, top, comprehensions = self.weight, self.calls, self.top, self.comprehensions
        self.weight, self.top = 1, False
        # a walrus below would be refused where the lambda stands in what a comprehension goes through
        body = self.expression(node.body)
        self.at = node
        cost = self.constant(self.weight)
        if self.calls == calls:
            node.body = self.place(ast.IfExp(self.helper("_tick", cost), body, self.constant(None)))
        else:
            done = self.helper("_leave", body)
            node.body = self.place(ast.IfExp(self.helper("_enter", cost), done, self.constant(None)))
        self.weight, self.top, self.comprehensions = saved, top, comprehensions
        return node

    def _subscript(self, node: Any) -> Any:
        value = self.expression(node.value)
        if type(node.slice) is ast.Slice:
            bounds = self._bounds(node.slice)
            self.at = node
            return self.helper("_slice", value, *bounds)
        node.value = value
        node.slice = self._index(node.slice, True)
        return node

    def _index(self, node: Any, loaded: bool) -> Any:
        """A key or position, guarded unless it is seen to be harmless."""
        new = self.expression(node)
        self.at = node
        if type(node) is ast.Constant and (type(node.value) is str or _is_small(node)):
            return new
        if loaded:
            if type(node) is ast.UnaryOp and _is_small(node.operand):
                return new
            if type(node) is ast.Name:
                test = self._type_test(new, node.id, ("_int",))
                return self.place(ast.IfExp(test, self.load(node.id), self.helper("_key", self.load(node.id))))
        return self.helper("_key", new)

    def _bounds(self, node: Any) -> list[Any]:
        self.weight += 1
        found = []
        for each in (node.lower, node.upper, node.step):
            self.at = node
            found.append(self.constant(None) if each is None else self.expression(each))
        return found

    def _formatted(self, node: Any) -> Any:
        parts = []
        for part in node.values:
            if type(part) is ast.Constant:
                parts.append(part)
                continue
            self.weight += 1
            value = self.expression(part.value)
            self.at = node
            spec = "".join([each.value for each in part.format_spec.values]) if part.format_spec is not None else ""
            conversion = "" if part.conversion < 0 else chr(part.conversion)
            parts.append(self.helper("_field", value, self.constant(conversion), self.constant(spec)))
        self.at = node
        return self.helper("_joined", *parts)

    def _comprehension(self, node: Any) -> Any:
        """Each `in` charges, when it is reached, for all elements of what it goes through, all that stands after it."""
        kind = type(node)
        top, self.top = self.top, False
        iterables = []
        saved = self.weight
        self.comprehensions += 1
        weights = []
        for generator in node.generators:
            self.weight = 0
            generator.target = self.target(generator.target)
            before = self.weight
            self.weight = 0
            self.iterables += 1
            values = self.expression(generator.iter)
            self.iterables -= 1
            iterables.append((values, self.weight))
            self.weight = before
            generator.ifs = [self.expression(each) for each in generator.ifs]
            weights.append(1 + self.weight)
        self.weight = 0
        if kind is ast.DictComp:
            node.key = self._index(node.key, True)
            node.value = self.expression(node.value)
        else:
            node.elt = self.expression(node.elt)
        inner = self.weight
        self.comprehensions -= 1
        self.top = top
        for index in range(len(node.generators) - 1, -1, -1):
            values, own = iterables[index]
            generator = node.generators[index]
            self.at = generator.iter
            generator.iter = self.helper("_comprehend", values, self.constant(weights[index] + inner))
            # the next one out goes through this once for each of its elements; what this costs, it charges itself
            inner = own
        self.weight = saved + inner
        self.at = node
        if kind is ast.DictComp or kind is ast.ListComp:
            return node
        made = self.place(ast.ListComp(node.elt, node.generators))
        return made if kind is ast.GeneratorExp else self.helper("_set", made)


class Unsupported(Exception):
    """Something that is seen only here. args: node, why."""


def target_list(node: Any) -> Any:
    """`del (a, b)` as a statement."""
    made = ast.Delete(node.elts)
    made.lineno, made.col_offset = node.lineno, node.col_offset
    made.end_lineno, made.end_col_offset = node.end_lineno, node.end_col_offset
    return made


ERRORS = frozenset(RAISED)


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
