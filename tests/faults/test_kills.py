"""A kill is told of when everything that the session has started is gone, wherever that went."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extsession import ExtSession, Outcome

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper and /proc")


@pytest.fixture
def every_way(monkeypatch: pytest.MonkeyPatch) -> str:
    """A program that starts children: plain, setsid, double fork, nohup, without descriptors; `grown` is their pids."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import rows_kill

    return rows_kill.EVERY_WAY


@pytest.mark.parametrize("count", [5, 200])
@pytest.mark.parametrize("how", ["kill", "code", "close"])
def test_when_it_is_told_all_are_gone(how: str, count: int, every_way: str) -> None:
    with ExtSession() as session:
        assert session.execute(every_way.format(count=count)).wait(60).completion.ok
        pids = session["grown"]
        results = session.execute("import os, time; time.sleep(60)" if how != "code" else "import os; os.abort()")
        if how == "kill":
            session.kill()
        elif how == "close":
            session.close()
        results.wait(60)
        assert results.outcome is (Outcome.LOST if how == "code" else Outcome.KILLED)
        assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


@pytest.mark.parametrize("missing", [(), ("os.pidfd_open",), ("os.pidfd_open", "select.epoll"), ("select.epoll",)])
def test_a_warden_with_less(missing: tuple[str, ...]) -> None:
    """As on Python 3.8, on an old kernel, or elsewhere: it does the same, and the session stays a zombie till the end."""
    program = f"""
import os, select, signal, socket, sys, time
for name in {missing!r}:
    module, _, name = name.rpartition(".")
    if hasattr(sys.modules[module], name):
        delattr(sys.modules[module], name)
ours, leash = socket.socketpair()
told, ready = os.pipe()
grown, grow = os.pipe()
warden = os.fork()
if not warden:
    ours.close()
    session = os.fork()
    if session:
        os.close(grow)
        from extsession._worker import warden
        warden.main(session, leash.fileno(), ready, -1, 0, 0)
    os.read(told, 1)
    os.setsid()
    for number in range(20):
        if not os.fork():
            os.setsid()
            if number % 2 and os.fork():
                os._exit(0)
            os.write(grow, b"%8d" % os.getpid())
            time.sleep(60)
            os._exit(0)
    signal.pause()
leash.close()
session = int(ours.recv(100).split()[1])
pids = []
while len(pids) < 20:
    pids.append(int(os.read(grown, 8)))
os.kill(session, signal.SIGKILL)
print(ours.recv(100), [pid for pid in pids if os.path.exists("/proc/%d" % pid)])
print(os.path.exists("/proc/%d" % session))
ours.close()
print(os.waitpid(warden, 0)[1], os.path.exists("/proc/%d" % session))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert found.stderr == ""
    killed = rf"b'X {os.CLD_KILLED} {int(signal.SIGKILL)} 0 \d+ \d+\\n' \[\]"
    assert re.fullmatch(killed + "\nTrue\n0 False\n", found.stdout), found.stdout
