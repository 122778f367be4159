"""The filters: what their programs answer, by a machine like the kernel's, for both kinds of processor."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from extsession._worker.confine import policy, seccomp, syscalls
from extsession._worker.confine.seccomp import ALLOW, KILL, error

EPERM, ENOSYS, NOTHING = error(errno.EPERM), error(errno.ENOSYS), error(0)
MACHINES = ["x86_64", "aarch64"]
PID = 4711
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def answer(program: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = ARCH["x86_64"]) -> int:
    """Run it, as seccomp(2) says. Everything it reads must be aligned and inside; it must end."""
    data = struct.pack("<iIQ6Q", number if number < 1 << 31 else number - (1 << 32), arch, 0, *(*arguments, *[0] * 6)[:6])
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        what, yes, no, k = code[at]
        at += 1
        if what == 0x20:
            assert k % 4 == 0 and k < 64
            (value,) = struct.unpack_from("<I", data, k)
        elif what == 0x05:
            at += k
        elif what == 0x54:
            value &= k
        elif what == 0x06:
            return int(k)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[what]
            at += yes if holds else no


class Filter:
    def __init__(self, program: bytes, machine: str) -> None:
        self.program, self.machine = program, machine
        self.numbers = syscalls.numbers(machine)

    def __call__(self, name: str, *arguments: int) -> int:
        return answer(self.program, self.numbers[name], arguments, ARCH[self.machine])


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    original = seccomp.assemble
    monkeypatch.setattr(policy, "assemble", lambda rules, default: original(rules, default, request.param))
    return str(request.param)


@pytest.fixture
def full(machine: str) -> Filter:
    return Filter(policy.full(), machine)


@pytest.fixture
def weak(machine: str) -> Filter:
    return Filter(seccomp.with_pid(policy.weak(7), PID), machine)


def test_numbers() -> None:
    """Some that are easy to get wrong; from the kernel's tables."""
    x86, arm = (syscalls.numbers(each) for each in MACHINES)
    assert (x86["read"], x86["clone"], x86["mknodat"], x86["seccomp"], x86["clone3"], x86["mseal"]) == (0, 56, 259, 317, 435, 462)
    assert (arm["read"], arm["clone"], arm["mknodat"], arm["seccomp"], arm["clone3"], arm["mseal"]) == (63, 220, 33, 277, 435, 462)
    assert "fork" not in arm and "open" not in arm and arm["newfstatat"] == 79
    assert {name: number for name, number in x86.items() if number >= 424} == {
        name: number for name, number in arm.items() if number >= 424
    }
    assert syscalls.numbers("mips") == {}


def test_numbers_that_nobody_knows(full: Filter, weak: Filter) -> None:
    for each in (full, weak):
        for number in (470, 500, 999, 1 << 20, (1 << 30) - 1):
            assert answer(each.program, number, (), ARCH[each.machine]) == ENOSYS


def test_other_machines_and_x32(full: Filter, weak: Filter) -> None:
    for each in (full, weak):
        assert answer(each.program, 0, (), 0x40000003) == KILL  # AUDIT_ARCH_I386
        assert answer(each.program, 0, (), ARCH["aarch64" if each.machine == "x86_64" else "x86_64"]) == KILL
        if each.machine == "x86_64":
            for number in (1 << 30, (1 << 30) + 39, (1 << 30) + 520, (1 << 31) + 1, (1 << 32) - 1):
                assert answer(each.program, number) == KILL


def test_every_call_has_its_answer(full: Filter) -> None:
    """Each name of the lists, and nothing else, with arguments of 0."""
    rules = policy._common([])
    for name in full.numbers:
        found = full(name)
        if rules.get(name) == ALLOW:
            assert found == ALLOW, name
        elif rules.get(name) == EPERM:
            assert found == EPERM, name
        else:
            assert found in (ALLOW, EPERM, ENOSYS) or name == "ioctl", name
    assert full("clone3") == ENOSYS
    allowed = [name for name in full.numbers if full(name) == ALLOW]
    assert 190 < len(allowed) < 270


@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_clones_in_new_namespaces(full: Filter, weak: Filter, bit: int) -> None:
    for extra in (17, 0x8000 | 17, 0x3D0F00):
        assert full("clone", 1 << bit | extra) == EPERM
        assert weak("clone", 1 << bit | extra) == EPERM


def test_processes(full: Filter, weak: Filter) -> None:
    thread, fork, branch = 0x3D0F00, 0x1200011, 0x8000 | 0x1200011
    assert [full("clone", flags) for flags in (thread, fork, branch)] == [ALLOW] * 3
    assert [weak("clone", flags) for flags in (thread, fork, branch)] == [ALLOW, EPERM, EPERM]
    if full.machine == "x86_64":
        assert full("fork") == full("vfork") == ALLOW
        assert weak("fork") == weak("vfork") == EPERM


def test_what_a_branch_needs(full: Filter) -> None:
    assert full("setrlimit", 10, 1 << 40) == ALLOW
    assert full("setsid") == full("prctl", 1, 9) == full("prctl", 40, 1 << 40) == ALLOW
    assert full("sendmsg", 3, 1 << 40) == full("recvmsg", 3, 1 << 40) == ALLOW
    assert full("socketpair", 1, 1 | 0o2000000) == full("socketpair", 1, 5) == ALLOW
    assert full("socketpair", 1, 2) == full("socketpair", 30, 1) == EPERM


def test_sockets(machine: str) -> None:
    def families(**options: bool) -> list[int]:
        program = Filter(policy.full(**options), machine)
        return [family for family in range(64) if program("socket", family, 1, 0) == ALLOW]

    assert families() == []
    assert families(loopback=True) == families(network=True) == [2, 10, 16]
    assert families(loopback=True, unix=True) == [1, 2, 10, 16]
    assert families(unix=True) == [1]
    loopback = Filter(policy.full(loopback=True, unix=True), machine)
    assert [protocol for protocol in range(30) if loopback("socket", 16, 3, protocol) == ALLOW] == [0]
    for family in (2, 10):
        found = [kind for kind in range(16) if loopback("socket", family, kind | 0o2004000, 0) == ALLOW]
        assert found == [1, 2]
        assert [number for number in range(300) if loopback("socket", family, 1, number) == ALLOW] == [0, 6, 17]
    assert loopback("connect") == loopback("socketpair", 1, 2) == ALLOW


def test_upper_halves_do_not_help(full: Filter, weak: Filter) -> None:
    """The kernel takes the lower 32 bits of an int; so does the filter."""
    high = 1 << 32
    assert full("clone", high | 1 << 28) == EPERM
    assert full("ioctl", 0, high | 0x541B) == ALLOW
    assert full("ioctl", 0, 0x40086602) == weak("ioctl", 0, 0x8902) == full("ioctl", 0, 0) == error(errno.ENOTTY)
    assert full("setsockopt", 3, high | 1, 26) == weak("setsockopt", 3, 1, 50) == EPERM
    assert full("setsockopt", 3, 1, 16) == full("setsockopt", 3, 6, 26) == ALLOW
    assert full("ioctl", 0, high | 0x5412) == full("fcntl", 0, high | 1026) == full("prctl", high | 22) == EPERM
    assert weak("setpriority", 0, high | 1) == weak("prlimit64", high | 1, 7) == EPERM
    assert full("prlimit64", 0, 4, high) == full("prlimit64", 0, 4, 1) == NOTHING
    assert full("prlimit64", 0, 4, 0) == ALLOW
    assert full("personality", 0xFFFFFFFF) == ALLOW
    assert full("personality", 0x0040000) == EPERM


def test_devices(full: Filter) -> None:
    for kind, expected in ((0o010000, ALLOW), (0o100000, ALLOW), (0o140000, ALLOW), (0, ALLOW), (0o020000, EPERM), (0o060000, EPERM)):
        assert full("mknodat", 0, 0, kind | 0o644) == expected


def test_weak_looks_after_others(weak: Filter) -> None:
    for name in ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr", "prlimit64"):
        assert [weak(name, pid, 7) for pid in (0, PID, 1, PID + 1)] == [ALLOW, ALLOW, EPERM, EPERM], name
    assert [weak("setpriority", *each) for each in ((0, 0), (0, PID), (0, 1), (1, 0), (2, 0))] == [ALLOW, ALLOW] + [EPERM] * 3
    assert [weak("ioprio_set", *each) for each in ((1, 0), (1, PID), (1, 1), (2, 0), (3, 0))] == [ALLOW, ALLOW] + [EPERM] * 3
    for name in ("fchmod", "fchownat", "utimensat", "setxattr", "fremovexattr", "fchmodat2"):
        assert weak(name) == NOTHING
    assert weak("prlimit64", PID, 4, 1) == NOTHING
    assert weak("prctl", 1, 0) == weak("pidfd_open") == weak("pidfd_send_signal") == weak("kill", 0xFFFFFFFF) == EPERM


def test_weak_without_scopes(machine: str) -> None:
    weak = Filter(seccomp.with_pid(policy.weak(5), PID), machine)
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        assert [weak(name, pid) for pid in (PID, 0, 1, 0xFFFFFFFF, 1 << 32 | PID)] == [ALLOW, EPERM, EPERM, EPERM, ALLOW]
    assert weak("tkill", PID) == weak("fcntl", 0, 15, 1) == weak("fcntl", 0, 8, 1) == weak("fcntl", 0, 8, 0) == EPERM
    assert weak("fcntl", 0, 8, PID) == weak("fcntl", 0, 1) == ALLOW
    assert weak("fcntl", 0, 1024) == EPERM


def test_own_pid_is_not_for_pid_1(full: Filter) -> None:
    assert full("prlimit64", 1, 0, 1) == full("sched_setscheduler", 1) == EPERM
    assert full("prlimit64", 2, 0, 1) == ALLOW


def test_an_unknown_machine() -> None:
    with pytest.raises(OSError) as caught:
        seccomp.assemble({}, ALLOW, "mips")
    assert caught.value.errno == errno.ENOSYS


def test_far_jumps() -> None:
    rules: dict[str, Any] = {
        name: ([(0, "==", number, EPERM) for number in range(60)], ALLOW) for name in ("read", "write", "open", "close", "stat")
    }
    program = seccomp.assemble(rules, ENOSYS, "x86_64")
    for number in range(5):
        assert [answer(program, number, (value,)) for value in (0, 59, 60)] == [EPERM, EPERM, ALLOW]
    assert answer(program, 5) == ENOSYS
