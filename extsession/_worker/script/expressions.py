"""Expressions of a script, with their guards. `compiler` says what the whole is."""

from __future__ import annotations

import _ast as ast

from .nodes import LOAD, STORE, Maker, Unsupported, is_float, is_number, is_simple, is_small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_BINARY = {
    ast.Add: "_add", ast.Sub: "_sub", ast.Mult: "_mul", ast.FloorDiv: "_floordiv", ast.Mod: "_mod", ast.Pow: "_pow",
    ast.LShift: "_lshift", ast.BitOr: "_or", ast.BitAnd: "_and", ast.BitXor: "_xor",
}  # fmt: skip
IN_PLACE = {
    ast.Add: "_iadd", ast.Mult: "_imul", ast.BitOr: "_ior", ast.BitAnd: "_iand", ast.BitXor: "_ixor", ast.Sub: "_isub",
}  # fmt: skip
_COMPARISONS = {
    ast.Eq: "_eq", ast.NotEq: "_ne", ast.Lt: "_lt", ast.LtE: "_le", ast.Gt: "_gt", ast.GtE: "_ge",
}  # fmt: skip


class Expressions(Maker):
    """Each method takes a node whose parts are the script's, and returns what is to stand there. It may change it."""

    def __init__(self, by_line: bool) -> None:
        super().__init__(by_line)
        self._expressions: dict[Any, Callable[[Any], Any]] = {
            ast.Name: self._name, ast.Constant: lambda node: node, ast.List: self._display, ast.Tuple: self._display,
            ast.Dict: self._dict, ast.Set: self._set, ast.BinOp: self._binary, ast.UnaryOp: self._unary,
            ast.BoolOp: self._boolean, ast.Compare: self._compare, ast.IfExp: self._conditional, ast.Call: self._call,
            ast.Lambda: self._lambda, ast.Subscript: self._subscript, ast.JoinedStr: self._formatted,
            ast.ListComp: self._comprehension, ast.SetComp: self._comprehension, ast.GeneratorExp: self._comprehension,
            ast.DictComp: self._comprehension, ast.Starred: self._starred,
        }  # fmt: skip

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
        return self.helper("_set", self.place(ast.List(values, LOAD)))

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
        numeric = is_number(left) or is_number(right)
        quick = self._quick(left, kind, right, numeric)
        simple = is_simple(right)
        small = is_small(right)
        is_name = type(left) is ast.Name
        if node is not None and not is_simple(left):
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
                test_of = self.place(ast.NamedExpr(self.place(ast.Name(name, STORE)), left))
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
        if is_float(left) or (is_float(right) and kind is not ast.Mod):
            return kind in (ast.Mult, ast.FloorDiv, ast.Mod)
        if kind is ast.FloorDiv:
            return is_small(right)
        return kind is ast.Mod and is_small(right) and is_number(left)

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
                    new = self.place(ast.NamedExpr(self.place(ast.Name(name, STORE)), new))
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
        native = kind in (ast.Is, ast.IsNot) or is_number(old_left) or is_number(old_right)
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

    def _defaults(self, arguments: Any) -> None:
        arguments.defaults = [self.expression(each) for each in arguments.defaults]
        arguments.kw_defaults = [None if each is None else self.expression(each) for each in arguments.kw_defaults]

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
        if type(node) is ast.Constant and (type(node.value) is str or is_small(node)):
            return new
        if loaded:
            if type(node) is ast.UnaryOp and is_small(node.operand):
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
