"""Whether source is complete, and the indent of its next line if it is not."""

from __future__ import annotations

from .cursor import scan


def status_of(source: str) -> str:
    """complete, incomplete or invalid."""
    import ast
    import codeop
    import warnings

    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        # Not printed here; ignored ones are not noted as seen, so the call itself will print them.
        warnings.simplefilter("ignore")
        try:
            if compiler(source, "<input>", "exec") is None:
                return "incomplete"
            tree = ast.parse(source)
        except (SyntaxError, ValueError, OverflowError):
            return "invalid"
    compound = tree.body and hasattr(tree.body[-1], "body") and not isinstance(tree.body[-1], ast.Expr)
    if compound and source.rpartition("\n")[2].strip():
        return "incomplete"
    return "complete"


def indent_after(source: str) -> str:
    """The blanks that the line after `source` begins with."""
    source = source.rstrip()
    place = scan(source)
    if place.where == "string" or place.brackets:
        line = source[source.rfind("\n") + 1 :]
        return line[: len(line) - len(line.lstrip())]
    line = source[place.line : place.start if place.where == "comment" else None]
    indent = line[: len(line) - len(line.lstrip())]
    code = line.strip()
    if code.endswith(":"):
        return indent + "    "
    if code.split("(")[0].split(" ")[0] in ("return", "raise", "pass", "break", "continue"):
        return indent[:-4]
    return indent
