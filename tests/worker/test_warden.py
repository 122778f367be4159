"""The warden: what it is told, whose an orphan is, and that no session's code can make it fail the others."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, ForkRefused, warm_up

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper and /proc")

SOON = 20.0

#: finds the socket on which a session's process announces its clones
FIND = """
import os, socket, array
def announcer():
    for name in os.listdir('/proc/self/fd'):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
            if found.type == socket.SOCK_SEQPACKET:
                return found
            found.close()
        except OSError:
            pass
"""
#: starts a daemon by setsid and a double fork, which holds no descriptor and lives on; its pid is printed
ORPHAN = """
import os, signal
def orphan(change=lambda: None):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            change()
            os.write(writing, b'%d' % os.getpid())
            os.closerange(0, 5000)
            for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
            while True: signal.pause()
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    found = int(os.read(reading, 100))
    os.close(reading)
    return found
"""


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""


def until(check: Callable[[], object], seconds: float = SOON) -> bool:
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def gone(pid: int, seconds: float = SOON) -> bool:
    return until(lambda: state(pid) in ("", "Z", "X"), seconds)


def is_there(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


@pytest.fixture
def of_one_template() -> Iterator[Callable[[], ExtSession]]:
    """Makes sessions of one template that is this test's alone."""
    made: list[ExtSession] = []
    env = {**os.environ, "EXTSESSION_TEST": f"{time.monotonic()}"}
    template = warm_up(env=env)
    assert template is not None

    def make() -> ExtSession:
        made.append(ExtSession(env=env))
        return made[-1]

    yield make
    for each in made:
        each.close()
    template.end()


def with_orphan(session: ExtSession, change: str = "lambda: None") -> int:
    session.execute(ORPHAN).wait(SOON)
    pid = session.eval(f"orphan({change})", timeout=SOON)
    assert isinstance(pid, int)
    assert is_there(pid)
    return pid


RAISE = "import resource; resource.setrlimit(10, (5, 5)); resource.setrlimit(10, (-1, -1))"
NONSENSE = {
    "nothing": "s.send(b'')",
    "garbage": "s.send(os.urandom(64))",
    "too much": "s.send(b'1 ' * 30000)",
    "a number that is no pid": "s.send(b'9' * 60)",
    "a pid beyond all": "send(b'9' * 30 + b' 1', 1)",
    "a pid of nobody's child": "send(b'1 1', 1)",
    "zero": "send(b'0 0', 1)",
    "its own": "send(b'%d 5' % os.getpid(), 1)",
    "no descriptor": "s.send(b'%d 5' % os.getpid())",
    "many descriptors": "send(b'%d 5' % os.getpid(), 100)",
    "descriptors alone": "send(b'x', 4)",
    "negative": "send(b'-5 -5', 1)",
    "a flood": "s.setblocking(False)\nfor _ in range(5000):\n    try: s.send(b'1 2')\n    except BlockingIOError: pass",
    "only what is read": "s.shutdown(socket.SHUT_RD)",
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_on_its_socket(case: str, of_one_template: Callable[[], ExtSession]) -> None:
    """It goes on to watch over the session and its siblings, and takes in new ones."""
    session, other = of_one_template(), of_one_template()
    session.execute(FIND).wait(SOON)
    session.execute(
        "s = announcer()\nnull = os.open('/dev/null', os.O_RDONLY)\n"
        "def send(data, count):\n"
        "    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [null] * count))])\n"
    ).wait(SOON)
    session.execute(NONSENSE[case]).wait(SOON)
    session.execute("os.close(null); s.close()").wait(SOON)
    assert session.eval("1 + 1") == other.eval("1 + 1") == 2
    third = of_one_template()
    assert third.eval("1 + 1") == 2
    branch = session.fork()
    assert branch.eval("1 + 1") == 2
    assert (third.exit(3), branch.exit(4)) == (3, 4)
    orphan = with_orphan(session)
    session.close()
    assert gone(orphan)
    assert other.eval("1 + 1") == 2


def test_a_socket_that_a_session_has_shut(of_one_template: Callable[[], ExtSession]) -> None:
    """It is the same for the siblings: they go on, and new sessions start in another way."""
    session, other = of_one_template(), of_one_template()
    session.execute(FIND + "announcer().shutdown(socket.SHUT_RDWR)").wait(SOON)
    assert other.eval("1 + 1") == 2
    for _ in range(3):
        assert of_one_template().eval("1 + 1") == 2
    with pytest.raises(ForkRefused, match="warden"):
        session.fork()
    with pytest.raises(ForkRefused, match="warden"):
        other.checkpoint()
    assert session.eval("1 + 1") == other.eval("1 + 1") == 2


# orphans


def test_an_orphan_ends_with_its_session_and_with_no_other(of_one_template: Callable[[], ExtSession]) -> None:
    sessions = [of_one_template() for _ in range(4)]
    orphans = [with_orphan(each) for each in sessions]
    order = [2, 0, 3, 1]
    for index, at in enumerate(order):
        sessions[at].close()
        assert not is_there(orphans[at])
        assert [is_there(orphans[each]) for each in order[index + 1 :]] == [True] * (3 - index)


@pytest.mark.parametrize("first", ["branch", "session", "branch of branch"])
def test_an_orphan_of_a_branch(first: str, of_one_template: Callable[[], ExtSession]) -> None:
    session = of_one_template()
    of_session = with_orphan(session)
    branch = session.fork()
    of_branch = with_orphan(branch)
    leaf = branch.fork()
    of_leaf = with_orphan(leaf)
    late = with_orphan(session)
    order = {"branch": [1, 2, 0], "session": [0, 1, 2], "branch of branch": [2, 0, 1]}[first]
    all_of = [(session, [of_session, late]), (branch, [of_branch]), (leaf, [of_leaf])]
    for index, at in enumerate(order):
        ended, orphans = all_of[at]
        ended.close()
        assert not any(map(is_there, orphans))
        for other in order[index + 1 :]:
            assert all_of[other][0].eval("1 + 1") == 2
            assert all(is_there(each) for each in all_of[other][1])


def test_an_orphan_of_a_session_that_is_killed_from_outside(of_one_template: Callable[[], ExtSession]) -> None:
    session, other = of_one_template(), of_one_template()
    orphan, theirs = with_orphan(session), with_orphan(other)
    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)
    assert gone(orphan)
    assert is_there(theirs)


@pytest.mark.parametrize("limit", ["(5, hard)", "(hard - 1, hard)", "(0, hard)"])
def test_an_orphan_that_has_changed_its_soft_limit_of_locks(
    limit: str, of_one_template: Callable[[], ExtSession]
) -> None:
    session, other = of_one_template(), of_one_template()
    session.execute(
        "def change():\n    import resource\n    hard = resource.getrlimit(10)[1]\n"
        f"    resource.setrlimit(10, {limit})\n"
    ).wait(SOON)
    orphan, theirs = with_orphan(session, "change"), with_orphan(other)
    session.close()
    assert not is_there(orphan)
    assert is_there(theirs)


@pytest.mark.parametrize("limit", ["(0, 0)", "(5, 5)", "(-1, -1)"])
def test_an_orphan_that_has_thrown_its_mark_away(limit: str) -> None:
    """Nobody knows whose it is: it is no harm to others, and ends with the last of the family, if not before."""
    if limit == "(-1, -1)" and subprocess.call([sys.executable, "-c", RAISE], stderr=subprocess.DEVNULL):
        pytest.skip("this user cannot raise a hard limit")
    env = {**os.environ, "EXTSESSION_TEST": f"{time.monotonic()}"}
    template = warm_up(env=env)
    assert template is not None
    with ExtSession(env=env) as session:
        with ExtSession(env=env) as other:
            session.execute(f"def change():\n    import resource\n    resource.setrlimit(10, {limit})\n").wait(SOON)
            orphan, theirs = with_orphan(session, "change"), with_orphan(other)
        assert not is_there(theirs)
        assert session.eval("1 + 1") == 2
    template.end()
    assert gone(orphan)


def test_a_session_that_has_thrown_its_mark_away_can_be_branched(of_one_template: Callable[[], ExtSession]) -> None:
    session = of_one_template()
    session.execute("import resource; resource.setrlimit(10, (5, 5)); x = 1").wait(SOON)
    with session.fork() as branch:
        assert branch.eval("x") == 1
        session.checkpoint("here")
        session.execute("x = 2").wait(SOON)
        session.rollback("here")
        assert session.eval("x") == 1
        assert branch.eval("x") == 1


NESTED = """
import os, sys
sys.path.insert(0, %r)
from extsession import ExtSession
""" % os.fspath(Path(__file__).parent.parent.parent)


@pytest.mark.parametrize("depth", [1, 2])
def test_orphans_of_nested_sessions(depth: int, of_one_template: Callable[[], ExtSession]) -> None:
    """Each ends with its own session, however deep that is."""
    session, other = of_one_template(), of_one_template()
    theirs = with_orphan(other)
    mine = with_orphan(session)
    inner = ""
    for _ in range(depth - 1):
        inner = f"one.execute({NESTED + inner!r} + 'one, two = ExtSession(), ExtSession()').wait(20)\n"
    session.execute(NESTED + "one, two = ExtSession(), ExtSession()\n" + inner).wait(60)
    def ask(which: str, code: str) -> Any:
        """The value of code in a nested session."""
        text = f"{which}.eval({code!r})"
        for _ in range(depth - 1):
            text = f"one.eval({text!r})"
        return session.eval(text, timeout=60)

    def do(which: str, code: str) -> None:
        text = f"{which}.execute({code!r}).wait(20)"
        for _ in range(depth - 1):
            text = f"one.execute({text!r}).wait(20)"
        session.execute(text).wait(60)

    for which in ("one", "two"):
        do(which, ORPHAN)
    first, second = ask("one", "orphan()"), ask("two", "orphan()")
    assert is_there(first) and is_there(second)
    text = "one.close()"
    for _ in range(depth - 1):
        text = f"one.execute({text!r}).wait(20)"
    session.execute(text).wait(60)
    assert gone(first)
    assert is_there(second) and is_there(mine) and is_there(theirs)
    session.close()
    assert gone(second)
    assert not is_there(mine)
    assert is_there(theirs)
    assert other.eval("1 + 1") == 2


def test_more_sessions_than_its_limit_of_files_at_first() -> None:
    """That was the controller's when the warden was started, which has raised its own since."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    if hard < 1000:
        pytest.skip("the hard limit of open files is too low")
    branches: list[ExtSession] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
        with ExtSession(env={**os.environ, "EXTSESSION_TEST": "few"}) as session:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            branches += session.fork(count=used + 60)
            assert [each.eval("1") for each in branches] == [1] * len(branches)
            for each in branches:
                each.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in branches:
            each.close()
