"""Runs programs behind the walls, in a child: what attacks and the tests of `confine` share (loaded by path)."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent
DRIVER = (Path(__file__).parent / "driver.py").read_text()
ORDINARY = 65534
ACCOUNT = 65521  # namespaces.ACCOUNT
USERS = ("root", "ordinary") if os.geteuid() == 0 else ("ordinary",)
SECONDS = 60.0


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    did: list[str] | None  # None: it has not come to its end
    refused: dict[str, int | None]


def identity(user: str) -> dict[str, Any]:
    """For Popen."""
    if user == "ordinary" and os.geteuid() == 0:
        return {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
    return {}


@functools.cache
def python(user: str) -> str:
    """An interpreter that everybody may use, by its own right; "" if there is none."""
    check = f"import sys, ctypes; open({str(ROOT / 'extsession/__init__.py')!r}); sys.exit(sys.version_info < (3, 8))"
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if os.path.exists(path) and not (os.geteuid() == 0 and os.path.realpath(path).startswith("/root")):
            try:
                done = subprocess.run([path, "-I", "-c", check], capture_output=True, timeout=SECONDS, **identity(user))
            except OSError:
                continue
            if done.returncode == 0:
                return path
    return ""


def start(
    tier: str,
    user: str,
    source: str = "",
    host: dict[str, Any] | None = None,
    work: str = "/",
    interpreter: str = "",
    env: dict[str, str] | None = None,
    deny: str = "",
    **config: Any,
) -> subprocess.Popen[bytes]:
    order = {"tier": tier, "config": {"work": work, **config}, "source": source, "host": host or {}, "deny": deny}
    child = subprocess.Popen(
        [interpreter or python(user), "-I", "-B", "-c", DRIVER, str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "PATH": "/usr/bin:/bin", **(env or {})},
        start_new_session=True,
        **identity(user),
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(order).encode())
    child.stdin.close()
    child.stdin = None
    return child


def run(*arguments: Any, **options: Any) -> Ended:
    child = start(*arguments, **options)
    try:
        out, err = [each.decode("utf-8", "replace") for each in child.communicate(timeout=SECONDS)]
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    did, refused = None, {}
    last = out.rstrip().rpartition("\n")[2]
    if last.startswith('{"did"'):
        record = json.loads(last)
        did, refused = record["did"], dict(map(tuple, record["refused"]))
    return Ended(child.returncode, out, err, did, refused)


@contextmanager
def work_folder(user: str, tier: str) -> Iterator[str]:
    """A folder for the weak tier and for controls: of whoever the program will be."""
    path = tempfile.mkdtemp(prefix="work-", dir="/tmp")
    try:
        if os.geteuid() == 0:
            owner = ORDINARY if user == "ordinary" else ACCOUNT if tier == "weak" else 0
            os.chown(path, owner, owner)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def host(user: str) -> Iterator[dict[str, Any]]:
    """Things of the user's that a session must not touch: files, a process, sockets of all sorts."""
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="host-", dir="/tmp")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        os.chmod(folder, 0o755)
        secret = os.path.join(folder, "secret")
        Path(secret).write_text("hunter2")
        sockets = {}
        for name, family, kind, address in (
            ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0walls-{os.getpid()}-{user}"),
            ("path", socket.AF_UNIX, socket.SOCK_STREAM, os.path.join(folder, "socket")),
            ("datagram", socket.AF_UNIX, socket.SOCK_DGRAM, os.path.join(folder, "datagram")),
            ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ):
            one = stack.enter_context(socket.socket(family, kind))
            one.bind(address)
            if kind == socket.SOCK_STREAM:
                one.listen(200)
            if name in ("path", "datagram"):
                os.chmod(str(address), 0o777)
            sockets[name] = one.getsockname()[1] if family == socket.AF_INET else address
        if user == "ordinary" and os.geteuid() == 0:
            for each in (folder, secret):
                os.chown(each, ORDINARY, ORDINARY)
        code = "import signal; signal.signal(signal.SIGUSR1, lambda *a: None); print(flush=True)\nwhile True: signal.pause()"
        victim = subprocess.Popen(
            [python(user), "-I", "-c", code], stdout=subprocess.PIPE, env={"SECRET": "hunter2"}, **identity(user)
        )
        stack.callback(victim.communicate)
        stack.callback(victim.kill)
        assert victim.stdout is not None
        victim.stdout.readline()
        yield {"folder": folder, "secret": secret, "victim": victim.pid, "name": socket.gethostname(), **sockets}
