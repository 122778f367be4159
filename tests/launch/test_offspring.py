"""All that a process has started, found and ended from outside."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from extsession._launch import marks, offspring, procfs
from extsession._launch.offspring import Offspring

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signatures, and what is looked at here, are Linux's")

#: a process with a child, a child in another session, and an orphan in another session; says who they are
FAMILY = """
import os, sys, time
def child(session, orphan):
    read, write = os.pipe()
    if os.fork():
        return int(os.read(read, 20))
    if session:
        os.setsid()
    if orphan:
        parent = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == parent:
            time.sleep(0.001)
    os.write(write, b"%d" % os.getpid())
    time.sleep(60)
input()
print(child(False, False), child(True, False), child(True, True), flush=True)
if sys.argv[1] == "ends":
    sys.exit()
time.sleep(60)
"""


class Family:
    """root and its pids, in the order of FAMILY; begin(): they are started now."""

    def __init__(self, how: str) -> None:
        self.root = subprocess.Popen(
            [sys.executable, "-ISc", FAMILY, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pids: list[int] = []

    def begin(self) -> None:
        assert self.root.stdin is not None and self.root.stdout is not None
        self.root.stdin.write("\n")
        self.root.stdin.flush()
        self.pids = [int(word) for word in self.root.stdout.readline().split()]
        assert len(self.pids) == 3

    def running(self) -> list[int]:
        found = []
        for pid in self.pids:
            try:
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
            except psutil.NoSuchProcess:
                pass
        return found


@pytest.fixture
def family(request: Any) -> Iterator[Family]:
    made = Family(getattr(request, "param", "stays"))
    yield made
    for pid in made.running():
        os.kill(pid, signal.SIGKILL)
    made.root.kill()
    made.root.wait()
    for stream in (made.root.stdin, made.root.stdout):
        assert stream is not None
        stream.close()


def _signed(family: Family) -> Offspring:
    signature = marks.new_signature()
    assert signature and marks.sign(family.root.pid, signature) == signature
    return Offspring(family.root.pid, signature)


def test_all_are_found_and_ended(family: Family) -> None:
    found = _signed(family)
    assert found.alive() == []
    family.begin()
    assert found.alive() == sorted(family.pids)
    assert found.end() == 0
    assert family.running() == []
    assert family.root.poll() is None  # it is not counted itself
    assert found.end(with_root=True) == 0
    assert family.root.wait(5) == -9


@pytest.mark.parametrize("family", ["ends"], indirect=True)
def test_when_the_root_has_ended_before_anybody_looked(family: Family) -> None:
    found = _signed(family)
    family.begin()
    family.root.wait(5)
    assert found.alive() == sorted(family.pids)
    assert found.end() == 0
    assert family.running() == []


def test_without_a_signature_what_was_seen_is_remembered(family: Family) -> None:
    found = Offspring(family.root.pid, 0)
    family.begin()
    found.look()
    assert found.alive() == sorted(family.pids[:2])  # and the orphan cannot be told from anybody's
    family.root.kill()
    family.root.wait(5)
    assert found.end() == 0
    assert family.running() == [family.pids[2]]


@pytest.mark.parametrize("family", ["ends"], indirect=True)
def test_without_a_signature_there_is_the_group(family: Family) -> None:
    """Also of those whom nobody has seen below it."""
    found = Offspring(family.root.pid, 0)
    family.begin()
    family.root.wait(5)
    assert found.alive() == [family.pids[0]]
    assert found.end() == 0


def test_what_it_has_started_before_it_was_signed(family: Family) -> None:
    family.begin()
    found = _signed(family)
    found.sign_all()
    assert [marks.signature_of(pid) == found.signature for pid in family.pids] == [True, True, False]
    assert found.end() == 0
    assert family.running() == [family.pids[2]]  # an orphan by then


def test_nobody_elses(family: Family) -> None:
    one, other = _signed(family), Family("stays")
    try:
        others = _signed(other)
        assert one.signature != others.signature
        family.begin()
        other.begin()
        assert one.end() == 0
        assert family.running() == [] and len(other.running()) == 3
        assert others.end(with_root=True) == 0
    finally:
        other.root.kill()
        other.root.wait()
        for stream in (other.root.stdin, other.root.stdout):
            assert stream is not None
            stream.close()


def test_a_number_that_has_become_anothers(family: Family) -> None:
    """Those who began before the process are not of it; what was seen and began at another time is another one."""
    family.begin()
    found = Offspring(family.root.pid, 0)
    found.look()
    found._seen[family.pids[0]] -= 1  # as if that had been an earlier one with its number
    found._leads = False
    assert found.alive() == [family.pids[1]]
    signature = marks.new_signature()
    marks.sign(family.pids[2], signature)
    later = Offspring(family.root.pid, signature, began=10**15)
    assert later.alive() == []
    assert later.end() == 0
    assert len(family.running()) == 3


def test_a_strike_at_those_who_are_there(family: Family) -> None:
    family.begin()
    found = _signed(family)
    found.strike()
    assert family.root.wait(5) == -9
    assert found.alive() in ([], [family.pids[0]], [family.pids[1]], family.pids[:2])  # who is killed ends a moment later
    assert found.end() == 0
    assert family.running() == [family.pids[2]]  # an orphan before it was signed


def test_one_that_was_gone_before(family: Family) -> None:
    family.root.kill()
    family.root.wait()
    found = Offspring(family.root.pid, 0)
    assert (found.began, found.alive(), found.end(), found.end(with_root=True)) == (0, [], 0, 0)


def test_no_pidfd(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    found = _signed(family)
    family.begin()
    assert found.end(with_root=True) == 0
    assert family.running() == []


def test_a_kernel_that_does_not_list_children(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "lists_children", lambda: False)
    family.begin()
    below = procfs.descendants_by_parents(family.root.pid)  # the orphan's parent too, which nobody has collected
    assert [pid in below for pid in family.pids] == [True, True, False]
    assert sorted(below) == sorted(procfs.descendants(family.root.pid))
    found = Offspring(family.root.pid, 0)
    found.look()
    assert found.end() == 0
    assert family.running() == [family.pids[2]]


def test_another_system(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offspring, "_IS_LINUX", False)
    found = Offspring(family.root.pid, 0)
    family.begin()
    found.look()
    assert found.end(with_root=True) == 0
    assert family.running() == [family.pids[2]]


def test_it_gives_up(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """On those that cannot be ended, as they sit in the kernel: here nothing reaches them."""
    monkeypatch.setattr(offspring, "_GIVE_UP", 0.1)
    monkeypatch.setattr(offspring._Handle, "signal", lambda self, number: None)
    found = _signed(family)
    family.begin()
    began = time.monotonic()
    assert found.end() == 3
    assert time.monotonic() - began < 2


def test_the_last_number() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert procfs.last_pid() >= child.pid or child.pid - procfs.last_pid() > 1000  # they may have begun again


def test_signatures_are_random() -> None:
    found = {marks.new_signature() for _ in range(100)}
    assert len(found) == 100
    hard = resource.getrlimit(marks.RLIMIT_LOCKS)[1]
    assert hard < 0 or all(0 < each <= hard for each in found)


def test_signing_what_is_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert marks.sign(child.pid, marks.new_signature()) == 0
    assert marks.sign(os.getpid(), 0) == 0
    assert marks.signature_of(child.pid) == 0
