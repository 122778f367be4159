"""A host that really keeps user namespaces from us, and has a bubblewrap that is setuid: an ordinary user's sessions.

A filter refuses them to the controller and to all that it starts, bubblewrap too, which does without one then: it is
the least that this tier has. The filter is put on by root without no_new_privs, which would take setuid away.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession._launch import bwrap

from .conftest import interpreter, runner

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program setuid")
ROOT = Path(__file__).parent.parent.parent

DENY = """
load = loader(sys.argv[1]).load
libc, seccomp = load("_worker.confine.libc"), load("_worker.confine.seccomp")
flags = ([(0, "&", 0x10000000, seccomp.error(1))], seccomp.ALLOW)
rules = {"unshare": flags, "clone": flags, "clone3": seccomp.error(38)}
libc.seccomp_install(seccomp.assemble(rules, seccomp.ALLOW))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.execve(sys.argv[2], [sys.argv[2], "-c", sys.argv[3]], {"PATH": sys.argv[4], "PYTHONDONTWRITEBYTECODE": "1"})
"""
PROGRAM = f"""
import sys, json, os; sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import ExtSession, Isolation, IsolationUnavailable, host_report, Limits, Outcome
found = {{}}
try:
    ExtSession(python=sys.executable, isolation=Isolation())
except IsolationUnavailable as error:
    found["full"] = error.step
with ExtSession(python=sys.executable, isolation=Isolation(tier="bwrap"), limits=Limits(processes=10)) as session:
    walls = session.walls
    found["walls"] = [walls.tier, list(walls.mechanisms), list(walls.missing), walls.proc]
    found["ids"] = list(session.eval("(__import__('os').getuid(), __import__('getpass').getuser())"))
    session.files.put("x", b"hello")
    found["files"] = session.eval("open('/work/x').read()")
    session.execute("import os; os.mkdir('made'); open('made/y', 'w').write('back')").wait()
    found["back"] = session.files.get("made/y").decode()
    with session.fork() as branch:
        found["branch"] = branch.eval("os.getppid()")
    results = session.execute("while True: pass", timeout=0.2).wait()
    found["interrupted"] = results.completion.outcome.name
    found["usage"] = session.usage().processes
    bomb = '''
import signal
for n in range(3000):
    if os.fork() == 0: signal.pause()
'''
    found["bomb"] = session.execute(bomb).wait().completion.outcome.name
with ExtSession(python=sys.executable, isolation=Isolation(tier="weak")) as session:
    found["weak"] = session.walls.tier
report = host_report(sys.executable)
found["report"] = [report.tier, report.full.reached, report.bwrap.reached]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def setuid_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(dir="/opt")
    try:
        os.chmod(folder, 0o755)
        program = bwrap.find()
        assert program is not None
        path = shutil.copy(program.path, folder)
        os.chmod(path, 0o4755)
        yield folder
    finally:
        shutil.rmtree(folder)


def test_everything_by_a_setuid_bubblewrap(setuid_folder: str) -> None:
    driver = runner().DRIVER.replace("\nmain()\n", DENY)
    path = f"{setuid_folder}:/usr/bin:/bin"
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", driver, str(ROOT), interpreter(), PROGRAM, path],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    print(found)
    tier, mechanisms, missing, _ = found["walls"]
    assert found["full"] == "unshare user" and tier == found["weak"] == "bwrap"
    assert "user namespace" not in mechanisms and "pid namespace" in mechanisms
    assert {"processes counted by the kernel", "size of the work directory and /dev/shm"} <= set(missing)
    assert found["ids"] == [65534, "session"]
    assert (found["files"], found["back"], found["branch"]) == ("hello", "back", 1)
    assert found["interrupted"] == "TIMED_OUT" and found["usage"] == 1
    assert found["bomb"] == "OVER_LIMIT"
    assert found["report"] == ["bwrap", False, True]
