"""Filters of system calls: rules by name, assembled into the program that the kernel runs. seccomp(2), Linux 4.14.

A rule is an action (ALLOW, `error(n)`, KILL), or checks of arguments:

    ([(argument, test, value, rule), ...], rule of the rest)

test: "==", "!=", "&" (any of these bits), "&==" (value: mask and what is left under it), on the lower half of the
argument, which is all of it where the kernel takes an int; "set": the whole of it is not 0, for pointers, which a
filter cannot follow. The first check that holds decides.

The program looks for the number in a balanced tree. Calls whose answer needs no argument cost nothing from Linux 5.11
on: the kernel keeps them in a bitmap.
"""

from __future__ import annotations

import errno
import struct

from . import libc
from .syscalls import AUDIT, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

    Code = list[tuple[int, int, int, int]]
    Rule = Any  # int, or (checks, Rule)

ALLOW = 0x7FFF0000
KILL = 0x80000000  # the whole process, by SIGSYS
#: stands for the pid of whoever installs the program, see `with_pid`
PID = 0x7FFF5E1F

_LD, _JEQ, _JGE, _JSET, _JA, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x05, 0x54, 0x06
_X32 = 0x40000000  # __X32_SYSCALL_BIT
_LONG = 255  # as far as a conditional jump goes


def error(number: int) -> int:
    """The call is not made, and fails with this errno; 0: it seems to have succeeded."""
    return 0x00050000 | number


def assemble(rules: Mapping[str, Rule], default: int, machine: str = libc.MACHINE) -> bytes:
    """The program. Names that this machine does not have are left out; default: for numbers without a rule.

    What is not made by this machine's own way of calling (int 0x80, x32) ends the process. Denied for a machine that
    we do not know.
    """
    if machine not in AUDIT:
        raise libc.Denied(errno.ENOSYS, "seccomp on %s" % machine)
    known = numbers(machine)
    found = sorted([(known[name], rule) for name, rule in rules.items() if name in known], key=lambda each: each[0])
    spans: list[tuple[int, Rule]] = [(0, default)]  # (first number, rule) up to the next
    for number, rule in found:
        if spans[-1][0] == number:
            spans.pop()
        if not spans or spans[-1][1] != rule:
            spans.append((number, rule))
        spans.append((number + 1, default))
    if machine == "x86_64":
        spans.append((_X32, KILL))
    code: Code = [(_LD, 0, 0, 4), (_JEQ, 1, 0, AUDIT[machine]), (_RET, 0, 0, KILL), (_LD, 0, 0, 0)]
    code += _search(_merged(spans))
    return b"".join([struct.pack("=HBBI", *each) for each in code])


def with_pid(program: bytes, pid: int) -> bytes:
    """The program with this in the place of PID: a template assembles it, each clone has its own."""
    marked = struct.pack("=I", PID)
    mine = struct.pack("=I", pid)
    words = [program[i : i + 4] for i in range(0, len(program), 4)]
    return b"".join([mine if word == marked and i & 1 else word for i, word in enumerate(words)])


def _merged(spans: list[tuple[int, Rule]]) -> list[tuple[int, Rule]]:
    merged: list[tuple[int, Rule]] = []
    for first, rule in spans:
        if not merged or merged[-1][1] != rule:
            merged.append((first, rule))
    return merged


def _search(spans: list[tuple[int, Rule]]) -> Code:
    if len(spans) == 1:
        return _rule(spans[0][1])
    middle = len(spans) // 2
    below, above = _search(spans[:middle]), _search(spans[middle:])
    return [*_branch(_JGE, spans[middle][0], len(below)), *below, *above]


def _branch(test: int, value: int, distance: int) -> Code:
    """Jump so far where the test holds."""
    if distance <= _LONG:
        return [(test, distance, 0, value)]
    return [(test, 0, 1, value), (_JA, 0, 0, distance)]


def _rule(rule: Rule) -> Code:
    if isinstance(rule, int):
        return [(_RET, 0, 0, rule)]
    checks, rest = rule
    code: Code = []
    for argument, test, value, then in checks:
        code += _check(argument, test, value, _rule(then))
    return code + _rule(rest)


def _check(argument: int, test: str, value: Any, then: Code) -> Code:
    low = 16 + 8 * argument  # struct seccomp_data; both machines have the lower half first
    size = len(then)
    assert size <= _LONG
    if test == "==":
        return [(_LD, 0, 0, low), (_JEQ, 0, size, value), *then]
    if test == "!=":
        return [(_LD, 0, 0, low), (_JEQ, size, 0, value), *then]
    if test == "&":
        return [(_LD, 0, 0, low), (_JSET, 0, size, value), *then]
    if test == "&==":
        mask, wanted = value
        return [(_LD, 0, 0, low), (_AND, 0, 0, mask), (_JEQ, 0, size, wanted), *then]
    assert test == "set"
    return [(_LD, 0, 0, low), (_JEQ, 0, 2, 0), (_LD, 0, 0, low + 4), (_JEQ, size, 0, 0), *then]
