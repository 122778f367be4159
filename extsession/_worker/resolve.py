"""From source to objects, and what can be said of an object, without running code of the user's.

Expressions are not evaluated but walked, a step at a time, with `step`, which calls no property and no
`__getattr__`.
"""

from __future__ import annotations

import sys

from .cursor import START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    Namespace = Dict[str, Any]

MISSING = object()
_IMPORTED = rf"{START}(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]*(?:\(([\w.\s,]+)|[ \t]([\w., \t]+))"


def resolve(expression: str, namespace: Namespace, source: str = "") -> Any:
    """The object that names, attributes and constant keys lead to, or MISSING."""
    import ast

    # In parentheses, as it may go over several lines.
    return _walk(ast.parse(f"({expression.strip()})", mode="eval").body, namespace, source)


def _walk(node: Any, namespace: Namespace, source: str) -> Any:
    import ast

    if isinstance(node, ast.Name):
        return _named(node.id, namespace, source)
    if isinstance(node, ast.Attribute):
        value = _walk(node.value, namespace, source)
        return MISSING if value is MISSING else step(value, node.attr)
    if isinstance(node, ast.Subscript):
        value = _walk(node.value, namespace, source)
        if type(value) in (dict, list, tuple):  # exactly: their __getitem__ is not the user's
            try:
                index: Any = node.slice
                if type(index).__name__ == "Index":  # a wrapper that 3.9 did away with
                    index = index.value
                return value[ast.literal_eval(index)]
            except (LookupError, TypeError, ValueError):
                pass
        return MISSING
    return ast.literal_eval(node)


def _named(name: str, namespace: Namespace, source: str) -> Any:
    import builtins

    if name in namespace:
        return namespace[name]
    value = vars(builtins).get(name, MISSING)
    if value is MISSING:  # `import os; os.pa`: not run yet, but loaded long ago
        module, attribute = import_of(name, source)
        value = sys.modules.get(module, MISSING)
        if value is not MISSING and attribute:
            inner = sys.modules.get(f"{module}.{attribute}", MISSING)
            value = step(value, attribute) if inner is MISSING else inner
    return value


def import_of(name: str, source: str) -> tuple[str, str]:
    """The module, and the attribute of it or "", that an import in `source` binds to `name`."""
    import re

    for match in re.finditer(_IMPORTED, source):
        for part in (match.group(2) or match.group(3)).split(","):
            words = part.split()
            if len(words) not in (1, 3) or words[-1].partition(".")[0] != name:
                continue
            if match.group(1):
                return match.group(1), words[0]
            return (words[0] if len(words) == 3 else name), ""
    return "", ""


def raw_of(value: Any, name: str) -> Any:
    """What is stored under the name, descriptors not called; MISSING if nothing is."""
    import inspect

    try:
        if issubclass(type(value), type(sys)):
            return object.__getattribute__(value, "__dict__").get(name, MISSING)
        if issubclass(type(value), type):
            # Before 3.12 a member of an enum is not an attribute of the class.
            members = type.__getattribute__(value, "__dict__").get("_member_map_")
            if type(members) is dict and name in members:
                return members[name]
        return inspect.getattr_static(value, name, MISSING)
    except Exception:
        return MISSING


def step(value: Any, name: str) -> Any:
    """`value.name`, if that runs no code of the user's; else MISSING."""
    import types

    raw = raw_of(value, name)
    if raw is MISSING or not hasattr(type(raw), "__get__"):
        return raw
    kind = type(raw)
    is_class = issubclass(type(value), type)
    if kind is property:
        return raw if is_class else MISSING
    if kind is staticmethod:
        return raw.__func__
    if kind is classmethod:  # it may wrap a descriptor, which 3.9 to 3.12 call
        if type(raw.__func__) is not types.FunctionType:
            return MISSING
        return raw.__get__(None, value) if is_class else raw.__get__(value, type(value))
    safe = (
        types.FunctionType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.ClassMethodDescriptorType,
        types.MemberDescriptorType,
        types.GetSetDescriptorType,
    )
    if kind in safe:
        try:
            if is_class and _stored(raw, name, value):
                return raw.__get__(None, value)
            return raw.__get__(value, type(value)) if _stored(raw, name, type(value)) else raw
        except (AttributeError, TypeError):  # a slot that is not filled
            return MISSING
    plain = (types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType)
    return raw if kind in plain or issubclass(kind, type) else MISSING


def _stored(raw: Any, name: str, cls: Any) -> bool:
    return any(vars(base).get(name) is raw for base in type.__getattribute__(cls, "__mro__"))


def kind_of(value: Any) -> str:
    """class, module, property, function or instance."""
    import types

    kind = type(value)  # isinstance would ask a user's __class__
    if issubclass(kind, type):
        return "class"
    if issubclass(kind, types.ModuleType):
        return "module"
    if kind is property or kind.__name__ == "cached_property":
        return "property"
    functions = (
        types.FunctionType,
        types.BuiltinFunctionType,
        types.MethodType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.MethodWrapperType,
        types.ClassMethodDescriptorType,
        staticmethod,
        classmethod,
    )
    return "function" if kind in functions else "instance"


def dir_of(value: Any) -> list[str]:
    """dir(value), or that of its type where a `__dir__` fails."""
    try:
        return list(dir(value))
    except Exception:
        return list(type.__dir__(type(value)))


def signature_of(function: Any) -> Any:
    """The inspect.Signature, or None."""
    import functools
    import inspect
    import types

    kind = type(function)
    known = (types.FunctionType, types.MethodType, functools.partial, types.BuiltinFunctionType)
    if kind not in known and not issubclass(kind, type) and kind_of(function) != "function":
        # Of an instance inspect would ask for attributes, and so its __getattr__.
        function = step(function, "__call__")
        if type(function) is not types.MethodType:
            return None
    try:
        return inspect.signature(function)
    except Exception:
        return None
