"""What code in an isolated session sees: nothing of ours but what was asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, Isolation

Opened = Callable[..., ExtSession]
SECONDS = 30.0


def ran(session: ExtSession, source: str, **given: Any) -> Any:
    return session.execute(source, **given).wait(SECONDS)


def test_walls_are_told(session: ExtSession, tier: str) -> None:
    walls = session.walls
    assert walls is not None and walls.tier == tier
    assert {"seccomp", "landlock", "no_new_privs"} <= set(walls.mechanisms)
    assert walls.landlock_abi > 0
    assert ("network namespace" in walls.mechanisms) == (tier == "full")
    assert bool(walls.missing) == (tier == "weak")


def test_walls_are_what_the_kernel_says(session: ExtSession, tier: str) -> None:
    pid = session.pid
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert "0" not in status["Uid"].split()
    if tier == "full":
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_the_environment_is_clean(opened: Opened, monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    session = opened(variables={"MINE": "1", "PATH": "/bin"})
    found = session.eval("dict(__import__('os').environ)")
    assert found.pop("MINE") == "1" and found.pop("PATH") == "/bin"
    assert set(found) <= {"LANG", "HOME", "TMPDIR", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE", "MALLOC_ARENA_MAX", "LC_CTYPE"}
    results = ran(
        session,
        """
import os
try: pids = [n for n in os.listdir('/proc') if n.isdigit()]
except OSError: pids = ['self', '1', str(os.getppid())]
for pid in pids:
    try: data = open('/proc/%s/environ' % pid, 'rb').read()
    except OSError: continue
    if b'hunter2' in data or b'SECRET' in data: print('found in', pid)
import ctypes
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
n = 0
while environ[n]:
    if b'hunter2' in environ[n]: print('in memory')
    n += 1
try: maps = list(open('/proc/self/maps'))
except OSError: maps = []
for line in maps:
    if '[stack]' in line:
        low, high = [int(x, 16) for x in line.split()[0].split('-')]
        if b'hunter2' in ctypes.string_at(low, high - low): print('on the stack')
""",
    )
    assert results.stdout == "" and results.completion.ok, (results.stdout, results.stderr)
    host = f"/proc/{session.pid}/environ"
    assert b"SECRET" not in Path(host).read_bytes()


def test_read(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "data").write_text("data")
    (tmp_path / "other").write_text("hidden")
    for each in (tmp_path, *tmp_path.parents[:-2], folder):
        if os.stat(each).st_uid == os.geteuid():
            each.chmod(os.stat(each).st_mode & 0o7777 | 0o755)  # nothing is taken from what is there for others
    session = opened(read=(str(folder),))
    assert ran(session, f"print(open({str(folder / 'data')!r}).read())").stdout == "data\n"
    for source in (f"open({str(tmp_path / 'other')!r})", f"open({str(folder / 'data')!r}, 'a')", f"open({str(folder / 'new')!r}, 'w')"):
        assert not ran(session, source).completion.ok, source
    assert (folder / "data").read_text() == "data" and not (folder / "new").exists()


@pytest.mark.parametrize("tier", ["full"])
def test_network_and_loopback(opened: Opened) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        connect = f"import socket; s = socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert not ran(opened(), connect).completion.ok
        assert not ran(opened(loopback=True), connect).completion.ok
        assert ran(opened(network=True), connect).completion.ok
    own = (
        "import socket, threading\ns = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(s.getsockname()); c.send(b'x'); print(s.accept()[0].recv(1))"
    )
    assert ran(opened(loopback=True), own).stdout == "b'x'\n"
    walls = opened(network=True).walls
    assert walls is not None and "network namespace" not in walls.mechanisms


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose who a session is")
def test_uid(opened: Opened) -> None:
    session = opened(uid=54321)
    assert os.stat(f"/proc/{session.pid}").st_uid == 54321
    assert os.stat(f"/proc/{opened().pid}").st_uid == 65521


def test_no_descriptor_of_ours(session: ExtSession) -> None:
    with open(os.devnull) as ours:
        os.set_inheritable(ours.fileno(), True)
        results = ran(
            session,
            "import os, stat\nfor fd in range(256):\n    try: s = os.fstat(fd)\n    except OSError: continue\n"
            "    print(fd, stat.filemode(s.st_mode)[0])",
        )
    kinds = [line.split()[1] for line in results.stdout.splitlines()]
    assert set(kinds) <= {"c", "p", "s"} and len(kinds) <= 10, results.stdout


def test_neighbours_do_not_see_each_other(opened: Opened, tier: str) -> None:
    one, other = opened(), opened()
    ran(one, "open('secret', 'w').write('x')")
    assert other.eval("__import__('os').listdir('.')") == []
    place = one.eval("__import__('os').getcwd()")
    if tier == "weak":
        assert not ran(other, f"print(open({place + '/secret'!r}).read())").completion.ok
        assert not ran(other, f"import os; os.listdir({place!r})").completion.ok
        assert not ran(other, f"import os; os.kill({one.pid}, 9)").completion.ok
    else:
        assert ran(other, "import os; print([n for n in os.listdir('/proc') if n.isdigit()])").stdout in (
            "['1', '2']\n",
            "[]\n",
        )
    assert one.eval("1") == 1


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="cwd"):
        ExtSession(isolation=Isolation(), cwd="/tmp")
    with pytest.raises(ValueError, match="env"):
        ExtSession(isolation=Isolation(), env={"A": "1"})
    with pytest.raises(TypeError):
        ExtSession(isolation=True)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's sessions are of that user")
@pytest.mark.parametrize("tier", ["weak"])
def test_an_interpreter_that_nobody_else_may_read(tier: str, options: Any, tmp_path: Path) -> None:
    """It says so at once, instead of a session that can import nothing."""
    import sys

    from extsession import IsolationUnavailable

    if not os.path.realpath(sys.executable).startswith("/root/"):
        pytest.skip("this interpreter is for everybody")
    with pytest.raises(IsolationUnavailable, match="read"):
        ExtSession(**{**options(), "python": sys.executable})
