"""The control channel is in the hands of the code: whatever it does there ends its own session, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from extsession import ExtSession, ExtSessionError, LimitExceeded, SessionDied, ValueRefused
from extsession._protocol import messages
from extsession._protocol.frames import pack_frame, pack_header
from extsession.errors import RemoteProtocolError

Opened = Callable[..., ExtSession]
SECONDS = 40.0

#: finds what is ours among the descriptors, and by no name
FIND = """
import array, fcntl, os, select, signal, socket, stat, struct, sys, time
def kinds(check):
    found = []
    for fd in range(256):
        try:
            if check(os.fstat(fd).st_mode): found.append(fd)
        except OSError: pass
    return found
sockets = kinds(stat.S_ISSOCK)
pipes = kinds(stat.S_ISFIFO)
print(len(sockets), flush=True)
def send(data):
    for fd in sockets:
        try:
            view = memoryview(data)
            while view: view = view[os.write(fd, view):]
        except OSError: pass
"""

FRAMES = {
    "done of this call": pack_frame(messages.DONE, 2, bytes(36)),
    "done of another call": pack_frame(messages.DONE, 4711, bytes(36)),
    "done without a body": pack_frame(messages.DONE, 2),
    "done that lies about its sizes": pack_frame(messages.DONE, 2, bytes(28) + b"\xff" * 8),
    "done with nonsense": pack_frame(messages.DONE, 2, b"\xff" * 36),
    "done with new pipes that do not come": pack_frame(messages.DONE, 2, bytes(2) + bytes([messages.NEW_PIPES]) + bytes(33)),
    "done that says it leaves": pack_frame(messages.DONE, 2, bytes(2) + bytes([messages.LEAVING]) + bytes(33)),
    "ready again": pack_frame(messages.READY, 0, messages.pack_ready({"pid": 1, "token": b"x" * 16})),
    "ready of nonsense": pack_frame(messages.READY, 0, b"\xff" * 1000),
    "oversized": pack_header(messages.DONE, 2, 2**32 - 1),
    "just over its bound": pack_header(messages.DONE, 2, 2**26 + 1),
    "half of a header": pack_header(messages.DONE, 2, 36)[:7],
    "half of a frame": pack_frame(messages.DONE, 2, bytes(36))[:-5],
    "large half": pack_header(messages.DONE, 2, 2**26) + bytes(1000),
    "unknown type": pack_frame(200, 2, b"x"),
    "message of the controller": pack_frame(messages.RUN, 2, b"x"),
    "cloning": pack_frame(messages.CLONING, 0),
    "pipes that do not come": pack_frame(messages.PIPES, 2, b"\1\0\0\0"),
    "late of nobody": pack_frame(messages.LATE, 999, b"\1text"),
    "display of nonsense": pack_frame(messages.DISPLAY, 2, b"\xff" * 50),
    "input": pack_frame(messages.INPUT, 2, b"\xff" * 64),
    "preloading": pack_frame(messages.PRELOADING, 0, b"os"),
    "garbage": b"\xa5" * 10000,
    "zeros": bytes(10000),
}


def ends(session: ExtSession, results: Any, neighbour: ExtSession, seconds: float = SECONDS) -> None:
    """Whatever becomes of the session, it is bounded, and others go on."""
    began = time.monotonic()
    while not results.done and time.monotonic() - began < seconds:
        assert neighbour.eval("1 + 1") == 2
        time.sleep(0.02)
    assert results.done, "a hang"
    try:  # it may live on, where what was sent looks like a truth of its own
        session.execute("pass", timeout=2).wait(SECONDS)
    except ExtSessionError:
        pass
    assert neighbour.eval("2 + 2") == 4


@pytest.mark.parametrize("name", FRAMES)
def test_forged(opened: Opened, name: str) -> None:
    neighbour = opened()
    session = opened()
    assert session.execute(FIND).wait(SECONDS).stdout.strip() != "0"
    session["data"] = FRAMES[name]
    number = session.execute("pass").wait(SECONDS).number + 1
    data = FRAMES[name]
    if len(data) >= 13 and name.startswith(("done of this", "done without", "done that", "done with")):
        data = pack_frame(messages.DONE, number, data[13:])
    results = session.execute(f"send({data!r}); time.sleep(1)", timeout=5)
    assert results.number == number
    ends(session, results, neighbour)


def test_nonsense_is_called_so(opened: Opened) -> None:
    session = opened()
    session.execute(FIND).wait(SECONDS)
    results = session.execute("send(b'\\xa5' * 1000); time.sleep(60)").wait(SECONDS)
    assert isinstance(results.error, RemoteProtocolError), results.error
    assert not session.is_alive
    with pytest.raises(ExtSessionError):
        session.execute("pass").wait(SECONDS).raise_for_error()
    session.restart()
    assert session.eval("1") == 1


FLOODS = {
    "garbage": "while True: send(os.urandom(65536))",
    "late": f"data = {pack_frame(messages.LATE, 2, bytes([1]) + b'x' * 60000)!r}\nwhile True: send(data)",
    "input": f"data = {pack_frame(messages.INPUT, 2, b'')!r} * 1000\nwhile True: send(data)",
    "cloning": f"data = {pack_frame(messages.CLONING, 0)!r} * 1000\nwhile True: send(data)",
    "display": f"data = {pack_frame(messages.DISPLAY, 2, bytes(60000))!r}\nwhile True: send(data)",
    "large done": f"data = {pack_header(messages.DONE, 2, 2**26)!r}\nsend(data)\nwhile True: send(bytes(65536))",
    "descriptors": (
        "data = array.array('i', [0] * 200)\nwhile True:\n    for fd in sockets:\n"
        "        try: socket.socket(fileno=os.dup(fd)).sendmsg([b'\\xa5'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)])\n"
        "        except OSError: pass"
    ),
    "both streams by marks": "while True: os.write(1, os.urandom(65536)); os.write(2, os.urandom(65536))",
}


@pytest.mark.parametrize("name", FLOODS)
def test_flooded(opened: Opened, name: str) -> None:
    import resource

    neighbour = opened()
    session = opened()
    session.execute(FIND).wait(SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends(session, session.execute(FLOODS[name], timeout=3), neighbour)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024
    assert not session.is_alive or session.eval("1") == 1


CLOSES = {
    "shut down": "for fd in sockets:\n    try: socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_RDWR)\n    except OSError: pass",
    "shut down for writing": "for fd in sockets:\n    try: socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_WR)\n    except OSError: pass",
    "shut down for reading": "for fd in sockets:\n    try: socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_RD)\n    except OSError: pass",
    "closed": "for fd in sockets: os.close(fd)",
    "all closed": "os.closerange(0, 256)",
    "all but the streams closed": "os.closerange(3, 256)",
    "streams closed": "os.closerange(0, 3)",
    "replaced": "null = os.open('/dev/null', os.O_RDWR)\nfor fd in sockets: os.dup2(null, fd)",
    "swapped": "a, b = sockets[0], pipes[0]\nos.dup2(b, a)",
    "made to block no more": "for fd in sockets + pipes: os.set_blocking(fd, False)",
    "read empty": "for fd in sockets:\n    os.set_blocking(fd, False)\n    try: os.read(fd, 100000)\n    except OSError: pass",
    "stopped reading": "time.sleep(3)",
}


@pytest.mark.parametrize("name", CLOSES)
def test_closed(opened: Opened, name: str) -> None:
    neighbour = opened()
    session = opened()
    session.execute(FIND).wait(SECONDS)
    results = session.execute(CLOSES[name] + "\ntime.sleep(0.3)", timeout=8)
    more = session.execute("x = 1", timeout=8)
    ends(session, results, neighbour)
    ends(session, more, neighbour)


@pytest.mark.parametrize("tier", ["full"])
@pytest.mark.parametrize(
    "source",
    [
        # whatever of the warden's is in reach: announcements, as a clone makes them
        "for fd in sockets:\n    for data in (b'2 0', b'1 0', b'x', b'', b'2 99999999999', b'3 1', b'9' * 60):\n"
        "        try: socket.socket(fileno=os.dup(fd)).sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])\n"
        "        except OSError: pass",
        "for n in range(100):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(0.2)",
        "for n in range(20):\n    if os.fork() == 0:\n        os.setsid()\n        os.kill(1, 9); os.kill(1, 15); os.kill(1, 17); os._exit(0)",
    ],
)
def test_the_inner_warden(opened: Opened, source: str) -> None:
    neighbour = opened()
    session = opened()
    session.execute(FIND).wait(SECONDS)
    ends(session, session.execute(source, timeout=5), neighbour)
    session.close()
    assert neighbour.eval("1") == 1


@pytest.mark.parametrize("tier", ["full"])
def test_a_flood_of_announcements(opened: Opened) -> None:
    neighbour = opened()
    session = opened()
    session.execute(FIND).wait(SECONDS)
    source = (
        "data = array.array('i', [0])\nwhile True:\n    for fd in sockets:\n"
        "        try: socket.socket(fileno=os.dup(fd)).sendmsg([b'2 5'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)], socket.MSG_DONTWAIT)\n"
        "        except OSError: pass"
    )
    results = session.execute(source, timeout=2)
    ends(session, results, neighbour)
    session.close()


# values


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "source",
    [
        "x = []\nfor _ in range(100000): x = [x]",
        "x = {}\nfor _ in range(3000): x = {'a': x}",
        "x = ()\nfor _ in range(900): x = (x, x)",
        "x = 'lol' * 10\nfor _ in range(40): x = [x] * 10",
        "x = 1 << (1 << 28)",
        "x = []; x.append(x)",
        "x = b'x' * (80 << 20)",
        "x = ['x'] * (8 << 20)",
        "import fractions; x = fractions.Fraction(1 << 100000, 3)",
        "import decimal; x = decimal.Decimal('1e999999999')",
        "x = {float('nan'): 1}",
        "class X(str): pass\nx = X('a')",
        "class X(dict):\n    def items(self): raise SystemExit\nx = X(a=1)",
        "x = frozenset([frozenset([frozenset()])])",
        "x = '\\ud800'",
    ],
)
def test_hostile_values(opened: Opened, source: str) -> None:
    neighbour = opened()
    session = opened()
    made = session.execute(source, timeout=20).wait(SECONDS)
    began = time.monotonic()
    if made.completion.ok:
        try:
            session["x"]
        except (ValueRefused, RemoteProtocolError, SessionDied, LimitExceeded, MemoryError, RecursionError):
            pass
    assert time.monotonic() - began < 80  # seconds where the machine is ours alone
    assert neighbour.eval("1") == 1


def test_values_made_by_hand(opened: Opened) -> None:
    """Bytes of a pickle, and of a safe value that lies, in place of a value."""
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("touch /tmp/extsession-was-here",)

    for kind in range(8):
        session = opened()
        session.execute(FIND).wait(SECONDS)
        head = pickle.dumps(Evil())
        number = session.execute("pass").wait(SECONDS).number + 1
        body = bytes([0, kind, 0, 0]) + bytes(24) + len(head).to_bytes(4, "little") + bytes(4) + head
        frame = pack_frame(messages.DONE, number, body)
        session["frame"] = frame
        results = session.execute(f"send({pack_frame(messages.DONE, number + 1, body)!r}); time.sleep(0.5)", timeout=5)
        try:
            results.wait(SECONDS)
            if results.error is None:
                results.result(SECONDS)
        except ExtSessionError:
            pass
        assert not os.path.exists("/tmp/extsession-was-here")


@pytest.mark.parametrize(
    "source",
    [
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "class E(Exception):\n    __module__ = 'x' * 10**6\nraise E('y' * 10**7)",
        "e = Exception()\nfor _ in range(5000):\n    n = Exception(); n.__cause__ = e; e = n\nraise e",
        "e = Exception(); e.__cause__ = Exception(); e.__cause__.__cause__ = e\nraise e",
        "raise ExceptionGroup('g', [ExceptionGroup('g', [ValueError(n) for n in range(1000)]) for _ in range(100)])",
        "import sys; sys.excepthook = None; sys.stderr = None; raise ValueError",
        "import builtins; builtins.__dict__.clear()",
        "import sys; sys.modules.clear(); raise ValueError",
        "import gc\nfor each in gc.get_objects():\n    if type(each).__module__.startswith('_extsession'): each.__dict__.clear() if hasattr(each, '__dict__') else None",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass",
        "import sys; sys.settrace(lambda *a: 1 / 0)\ndef f(): pass\nf()",
        "import threading\ndef f():\n    while True: print('x' * 100)\nfor _ in range(5): threading.Thread(target=f, daemon=True).start()",
        "import sys\ndef f(*a): raise KeyboardInterrupt\nsys.setprofile(f)\nprint(1)",
    ],
)
def test_errors_that_are_traps(opened: Opened, source: str) -> None:
    neighbour = opened()
    session = opened()
    ends(session, session.execute(source, timeout=5), neighbour)
