"""How a session comes to be: on every interpreter, from memory, with an init that stays as long as it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession
from extsession._launch import payload
from extsession._worker.confine import landlock, libc, places


def test_every_interpreter(each_python: Any, user: str, runner: Any, reached: dict[str, Any]) -> None:
    """As root: their folders may be its own."""
    if user != "root":
        pytest.skip("an ordinary user may not be able to run them")
    if not reached["full"]["reached"]:
        pytest.skip(f"this host does not allow the full tier: {reached['full']['cure']}")
    source = "import json, decimal\nattempt('read', open, '/etc/shadow'); attempt('socket', socket.socket)\nassert os.getpid() == 2"
    ended = runner.run("full", "root", source, interpreter=str(each_python.path))
    assert ended.did == [], ended


def test_the_payload_has_it_and_sessions_do_not_load_it() -> None:
    names = set(payload.sources())
    assert {"_worker.confine", "_worker.confine.libc", "_worker.confine.policy"} <= names
    plain = payload.first_bytes(payload.compiled(), {})
    isolated = payload.first_bytes(payload.compiled(), {"isolation": True})
    assert b"_worker.confine.libc" not in plain
    assert b"_worker.confine.libc" in isolated
    with ExtSession(warm=False) as session:
        found = session.execute(
            "import gc\nprint([m for m in gc.get_objects() if type(m) is type(gc) and 'confine' in m.__name__])"
        )
        found.wait()
        assert found.stdout.strip() == "[]"


def test_modules_of_ctypes_stay_hidden(user: str, runner: Any) -> None:
    code = runner.DRIVER.replace("\nmain()\n", "\nload = loader(sys.argv[1]).load; load('_worker.confine.lockdown')\n")
    code += "load('_worker.confine.namespaces'); load('_worker.confine.probe')\nprint([n for n in ('ctypes', '_ctypes') if n in sys.modules])"
    done = subprocess.run(
        [runner.python(user), "-I", "-B", "-c", code, str(runner.ROOT)], capture_output=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == b"[]"


HOLD = """
import json, os, signal, sys
load = loader(sys.argv[1]).load
libc, namespaces, lockdown = [load("_worker.confine." + n) for n in ("libc", "namespaces", "lockdown")]
namespaces.enter_base({})
config = lockdown.prepare({})
report, told = os.pipe()
held, hold = os.pipe()
pid = libc.clone(namespaces.session_flags(config) | signal.SIGCHLD)
if pid == 0:
    facts = namespaces.enter_session(config, told, held)
    lockdown.full(config, facts)
    os.close(hold); os.close(report)
    r, w = os.pipe()
    branch = libc.clone(libc.CLONE_PARENT | signal.SIGCHLD)
    if branch == 0:
        os.close(w)
        os.read(r, 1)  # until the first has ended
        os._exit(5)
    os.kill(os.getpid(), 9)
os.close(told); os.close(held)
data = b""
while data.count(b"\\n") < 2:
    more = os.read(report, 100)
    if not more: break
    data += more
print(data)
print(os.waitpid(pid, os.WNOHANG))
os.close(hold)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_init_stays_for_branches(user: str, runner: Any, reached: dict[str, Any]) -> None:
    if not reached["full"]["reached"]:
        pytest.skip(f"this host does not allow the full tier: {reached['full']['cure']}")
    code = runner.DRIVER.replace("\nmain()\n", HOLD)
    done = subprocess.run(
        [runner.python(user), "-I", "-B", "-c", code, str(runner.ROOT)],
        capture_output=True,
        cwd="/",
        timeout=60,
        **runner.identity(user),
    )
    lines = done.stdout.decode().split("\n")
    assert lines[:3] == ["b'2 2 9\\n3 1 5\\n'", "(0, 0)", "137"], done


SIGNALLED = """
import json, os, signal, sys
load = loader(sys.argv[1]).load
libc, namespaces, lockdown = [load("_worker.confine." + n) for n in ("libc", "namespaces", "lockdown")]
namespaces.enter_base({})
config = lockdown.prepare({})
report, told = os.pipe()
held, hold = os.pipe()
pid = libc.clone(namespaces.session_flags(config) | signal.SIGCHLD)
if pid == 0:
    facts = namespaces.enter_session(config, told, held)
    lockdown.full(config, facts)
    os.close(hold); os.close(report)
    def interrupted(*_): raise KeyboardInterrupt
    signal.signal(signal.SIGINT, interrupted)
    try:
        os.write(1, b"up\\n")
        while True: signal.pause()
    except KeyboardInterrupt:
        os.write(1, b"interrupted\\n")
        os.close(1)
        while True: signal.pause()
os.close(told); os.close(held)
sys.stdin.buffer.read(1)
for order in (b"nonsense\\n1 9\\n-1 9\\n999 9\\n2", b" 2\\n"):
    os.write(hold, order)
sys.stdin.buffer.read(1)
os.close(hold)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(report, 10))
"""


def test_init_sends_signals_and_ends_with_its_hold(user: str, runner: Any, reached: dict[str, Any]) -> None:
    if not reached["full"]["reached"]:
        pytest.skip(f"this host does not allow the full tier: {reached['full']['cure']}")
    child = subprocess.Popen(
        [runner.python(user), "-I", "-B", "-c", runner.DRIVER.replace("\nmain()\n", SIGNALLED), str(runner.ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        bufsize=0,
        **runner.identity(user),
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.read(3) == b"up\n"
        child.stdin.write(b"x")
        assert child.stdout.read(12) == b"interrupted\n"
        child.stdin.write(b"x")
        assert child.stdout.read().split(b"\n")[0] == b"70 b''"


def test_rights_by_abi() -> None:
    assert [landlock.rights(abi).bit_length() for abi in range(1, 8)] == [13, 14, 15, 15, 16, 16, 16]


@pytest.mark.skipif(not libc.landlock_abi(), reason="this kernel has no Landlock")
def test_a_ruleset_for_each_abi(tmp_path: Path) -> None:
    for abi in range(1, libc.landlock_abi() + 1):
        os.close(landlock.ruleset(["/usr", "/nowhere"], [str(tmp_path), "/dev/null"], abi))


def test_a_failure_names_its_step() -> None:
    with pytest.raises(libc.Denied) as caught:
        libc.umount("/nowhere/at/all")
    assert caught.value.step == "umount /nowhere/at/all"
    assert caught.value.name in ("EPERM", "ENOENT")
    assert "umount /nowhere/at/all: " in str(caught.value)
    with pytest.raises(libc.Denied, match="no_such_call"):
        libc.call("no_such_call")


def test_what_is_seen(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "inner").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real)
    binds, links = places.plan([str(link / "inner"), str(real), str(real / "inner"), "/nowhere", "/proc/self", "/dev"])
    mine = [(target, source) for target, source in binds if target.startswith(str(tmp_path))]
    assert mine == [(str(real), str(real)), (str(link / "inner"), str(real / "inner"))]
    assert not any(target.startswith(("/proc", "/dev", "/sys")) for target, _ in binds)
    assert all(target == path or not os.path.realpath(path) == "/" for target, path in links)
    for wrong in ("/", "relative", "/usr/.."):
        with pytest.raises(ValueError, match="cannot be given"):
            places.plan([wrong])


def test_paths_of_this_interpreter() -> None:
    found = places.python_paths()
    assert sys.base_prefix in found and sys.prefix in found
    assert all(os.path.isabs(path) and os.path.realpath(path) != "/" for path in found)
