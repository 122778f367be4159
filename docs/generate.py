"""Write the parts of docs/protocol.md and docs/script-language.md that the code knows: generate.py [--check]

What stands between `<!-- NAME -->` and `<!-- end -->` is replaced. With --check nothing is written; the status is
1 if a page is not current.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "protocol.md"
SCRIPTS = ROOT / "docs" / "script-language.md"
sys.path.insert(0, str(ROOT))

from extsession._engine.machine import Order, Phase  # noqa: E402
from extsession._protocol import frames, messages, pickles, values  # noqa: E402
from extsession._worker.script import builtins, checker, costs, errors, methods  # noqa: E402

#: purposes of the messages are the comments beside their numbers
_SOURCE = Path(messages.__file__).read_text("utf-8")


def _comment(name: str) -> str:
    found = re.search(rf"^{name} = \S+  # (.*)$", _SOURCE, re.MULTILINE)
    if found is None:
        raise SystemExit(f"messages.{name} has no comment that says what it is for")
    text = found[1]
    return text[0].upper() + text[1:] + "."


def _size(number: int) -> str:
    if number == 2**32 - 1:
        return "4 GiB - 1"
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if number >= unit and number % unit == 0:
            return f"{number // unit} {name}"
    return str(number)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def frame() -> str:
    """The layout, read off a header whose fields are all different."""
    length, kind, call = 0x04030201, 0x05, 0x09080706
    packed = frames.pack_header(kind, call, length)
    assert packed[:9] == bytes(range(1, 10)), "the header is not what docs/generate.py tells of it"
    assert len(packed) == 13, "the header is not what docs/generate.py tells of it"
    rows = [
        ["0", "4", "`length`", "bytes of the body"],
        ["4", "1", "`type`", "see the messages"],
        ["5", "4", "`call`", f"the call it is about, at most {frames.MAX_CALL}; 0: none"],
        ["9", "4", "`check`", "a mix of the three, see `frames.header_number`: garbage is not taken for a frame"],
        [str(frames.HEADER_SIZE), "`length`", "`body`", "as the type says"],
    ]
    text = _table(["offset", "bytes", "field", "meaning"], rows)
    return f"{text}\n\nAll numbers are little endian. Bodies over {_size(frames.LARGE)} are collected in place."


def message_table() -> str:
    rows = []
    for number, name in sorted(messages.NAMES.items()):
        constant = name.upper()
        assert getattr(messages, constant) == number
        if number in messages.TO_WORKER:
            way, bound, strict = "controller to worker", messages.TO_WORKER[number], ""
        elif number not in messages.TO_CONTROLLER:
            way, bound, strict = "template to controller", messages.FROM_TEMPLATE[number], ""
        else:
            way, bound = "worker to controller", messages.TO_CONTROLLER[number]
            strict = _size(messages.TO_CONTROLLER_STRICT[number])
        rows.append([str(number), f"`{name}`", way, _size(bound), strict, _comment(constant)])
    return _table(["type", "message", "from", "most bytes", "if isolated", "purpose"], rows)


def states() -> str:
    rows = []
    for state, worker in messages.WORKER_MAY_SEND.items():
        assert Phase(state)
        controller = messages.CONTROLLER_MAY_SEND[state]
        rows.append(
            [
                state,
                ", ".join(f"`{messages.NAMES[kind]}`" for kind in worker) or "nothing",
                ", ".join(f"`{messages.NAMES[kind]}`" for kind in controller) or "nothing",
            ]
        )
    rest = ", ".join(phase.value for phase in Phase if phase.value not in messages.WORKER_MAY_SEND)
    text = _table(["state of the session", "the worker may send", "the controller may send"], rows)
    return f"{text}\n\nNothing is sent or believed in the state: {rest}. Orders for the process itself: {_orders()}."


def _orders() -> str:
    return ", ".join(f"`{order.value}`" for order in Order)


def _constants(names: list[str]) -> list[list[str]]:
    return [[str(getattr(messages, name)), f"`{name}`", _comment(name)] for name in names]


def _between(start: str, end: str) -> list[str]:
    """Names that are given numbers in the part of the module between two comments, in order."""
    part = _SOURCE[_SOURCE.index(start) : _SOURCE.index(end)]
    return re.findall(r"^([A-Z_]+) = \d+\b", part, re.MULTILINE)


def run() -> str:
    actions = _between("# what a RUN does", "# what a RUN asks")
    wants = _between("# what a RUN asks", "# how a call ended")
    assert {getattr(messages, name) for name in actions} == messages.ACTIONS
    listed = ", ".join(f"{getattr(messages, name)} `{name}`" for name in actions)
    return f"Actions: {listed}.\n\n" + _table(["bit", "flag", "the worker is to"], _constants(wants))


def done() -> str:
    outcomes = _between("# how a call ended", "# bits of DONE")
    bits = _between("# bits of DONE", "STDOUT = ")
    assert {getattr(messages, name) for name in outcomes} == messages.OUTCOMES
    listed = ", ".join(f"{getattr(messages, name)} `{name}`" for name in outcomes)
    return f"Outcomes: {listed}.\n\n" + _table(["bit", "flag", "meaning"], _constants(bits))


def barrier() -> str:
    special = "\n".join(
        f"* bit {getattr(messages, name).bit_length() - 1} of the number, `{name}`: {text}"
        for name, text in (
            ("RICH", "a `Display` belongs at this place"),
            ("SWITCH", "no barrier, but the mark that stdout goes on in another pipe"),
        )
    )
    return (
        f"{messages.BARRIER_SIZE} bytes: the session's token ({messages.TOKEN_SIZE} bytes), then a number of"
        f" {messages.BARRIER_SIZE - messages.TOKEN_SIZE} bytes, little endian.\n\n{special}"
    )


def bounds() -> str:
    rows = [
        ["buffers in a message", str(messages.MAX_BUFFERS)],
        ["bytes from which a buffer travels beside the value", _size(pickles.BIG)],
        ["levels in a value", str(values.MAX_DEPTH)],
        ["version of the protocol", str(messages.VERSION)],
    ]
    return _table(["", ""], rows)


# ---- the language of scripts


def script_builtins() -> str:
    return _table(["", ""], [[f"`{usage}`", text] for _, usage, text in builtins.TABLE.values()])


def script_methods() -> str:
    names = {str: "Text", list: "Lists", tuple: "Tuples", dict: "Dicts", int: "Whole numbers", float: "Other numbers"}
    parts = []
    for kind, table in methods.TABLE.items():
        rows = [[f"`{usage}`", text] for _, usage, text in table.values()]
        parts.append(f"**{names.get(kind, 'Sets')}**\n\n{_table(['', ''], rows)}")
    return "\n\n".join(parts)


def script_errors() -> str:
    return ", ".join(f"`{name}`" for name in errors.CAUGHT) + "."


def script_refused() -> str:
    rows = {construct: [f"`{construct}`", f"{why}.", hint] for construct, why, hint in checker.REFUSED.values()}
    return _table(["", "the checker says", "instead"], list(rows.values()))


def script_costs() -> str:
    head = f"Version of this table: **{costs.VERSION}**.\n\n"
    return head + _table(["what", "cycles"], [list(row) for row in costs.TABLE])


def script_limits() -> str:
    source = Path(costs.__file__).read_text("utf-8")
    parts = []
    for title, start, end in (
        ("A script", "# the text of a script", "# one value"),
        ("A value", "# one value", "# one run"),
        ("A run", "# one run", "# sizes, as shifts"),
    ):
        part = source[source.index(start) : source.index(end)]
        found = re.findall(r"^(M\w+) = \d+  # (.*)$", part, re.MULTILINE)
        rows = [[text, f"{getattr(costs, name):,}"] for name, text in found]
        parts.append(_table([title, "at most"], rows))
    return "\n\n".join(parts)


SCRIPT_PARTS: dict[str, Callable[[], str]] = {
    "builtins": script_builtins,
    "methods": script_methods,
    "errors": script_errors,
    "refused": script_refused,
    "costs": script_costs,
    "limits": script_limits,
}

PARTS: dict[str, Callable[[], str]] = {
    "frame": frame,
    "messages": message_table,
    "states": states,
    "run": run,
    "done": done,
    "barrier": barrier,
    "bounds": bounds,
}


def generated(page: str, parts: dict[str, Callable[[], str]] = PARTS, where: str = "") -> str:
    """The page with its parts as the code has them now."""
    for name, make in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = make().replace("\\", r"\\")
        page, count = pattern.subn(rf"\g<1>{text}\n\g<2>", page)
        if count != 1:
            raise SystemExit(f"{where or PAGE.name} has {count} places for {name!r}")
    return page


def main(arguments: list[str]) -> int:
    status = 0
    for path, parts in ((PAGE, PARTS), (SCRIPTS, SCRIPT_PARTS)):
        before = path.read_text("utf-8")
        after = generated(before, parts, path.name)
        if "--check" not in arguments:
            path.write_text(after, "utf-8")
        elif before != after:
            print(f"{path} is not current: run python docs/generate.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
