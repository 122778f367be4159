"""Limits of isolated sessions: always finite, each one broken once, and told truthfully."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from extsession import ExtSession, LimitExceeded, Limits, Outcome
from extsession.options import ISOLATED_LIMITS

Opened = Callable[..., ExtSession]
SECONDS = 40.0


def ran(session: ExtSession, source: str, **given: Any) -> Any:
    return session.execute(source, **given).wait(SECONDS)


def test_there_are_limits_where_none_is_given(session: ExtSession) -> None:
    force = session.limits_in_force()
    assert {name: each.value for name, each in force.items()} == ISOLATED_LIMITS.given()
    for name, each in force.items():
        assert each.mechanism and each.exactness, name
    results = ran(
        session,
        "import resource as r\nfor n in ('NOFILE', 'FSIZE', 'CORE', 'MEMLOCK', 'MSGQUEUE'): print(n, *r.getrlimit(getattr(r, 'RLIMIT_' + n)))",
    )
    assert "-1" not in results.stdout, results.stdout


def test_a_limit_that_is_given_leaves_the_others(opened: Opened) -> None:
    session = opened(limits=Limits(open_files=64))
    assert {name: each.value for name, each in session.limits_in_force().items()} == {
        **ISOLATED_LIMITS.given(), "open_files": 64,
    }  # fmt: skip


def test_memory(session: ExtSession) -> None:
    results = ran(session, "x = bytearray(700 << 20)")
    assert results.completion.error is None or results.completion.error.type_name == "MemoryError"
    assert not results.completion.ok
    if session.is_alive:
        assert session.eval("1") == 1


@pytest.mark.parametrize("tier", ["full"])
def test_memory_of_all_together(opened: Opened) -> None:
    session = opened(limits=Limits(memory=200 * 2**20))
    results = ran(
        session,
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        x = bytearray(80 << 20)\n        time.sleep(30)\n        os._exit(0)\ntime.sleep(30)",
    )
    assert results.outcome is Outcome.OVER_LIMIT, results.completion
    assert results.completion.limit == "memory"


@pytest.mark.parametrize("tier", ["full"])
def test_a_fork_bomb_harms_nobody_else(opened: Opened) -> None:
    neighbour = opened()
    session = opened(limits=Limits(wall=4))
    began = time.monotonic()
    results = session.execute(
        "import os, time\nprint('up', flush=True)\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    )
    next(iter(results.chunks()))
    most = 0
    while not results.done and time.monotonic() - began < SECONDS:
        assert neighbour.eval("1 + 1") == 2
        most = max(most, session.usage().processes or 0)
        time.sleep(0.2)
    results.wait(SECONDS)
    assert results.outcome in (Outcome.OVER_LIMIT, Outcome.KILLED, Outcome.TIMED_OUT), results.completion
    assert 2 <= most <= 65
    assert neighbour.eval("2") == 2


@pytest.mark.parametrize("tier", ["full"])
def test_processes(opened: Opened) -> None:
    session = opened(limits=Limits(processes=8))
    results = ran(
        session,
        "import subprocess\np = []\ntry:\n    for n in range(20): p.append(subprocess.Popen(['/bin/sleep', '60']))\nexcept OSError as e: print(len(p), e)",
    )
    if session.is_alive:
        assert results.stdout.startswith("7 "), (results.stdout, results.completion)
    else:
        assert results.completion.limit == "processes"


def test_threads(opened: Opened, tier: str) -> None:
    session = opened(limits=Limits(processes=8))
    results = ran(
        session,
        "import threading, time\ngo = threading.Event()\nn = 0\ntry:\n    for n in range(100): threading.Thread(target=go.wait).start()\nexcept RuntimeError: print('no more')\nfinally: go.set()",
    )
    assert results.stdout == "no more\n" or results.completion.limit == "processes", results.completion


def test_open_files(session: ExtSession) -> None:
    results = ran(session, "import os\nfds = []\ntry:\n    while True: fds.append(os.dup(0))\nexcept OSError as e: print(len(fds), e.errno)\nfor fd in fds: os.close(fd)")
    count, number = map(int, results.stdout.split())
    assert 200 < count < 256 and number == 24
    assert session.eval("1") == 1


def test_file_size(opened: Opened) -> None:
    session = opened(limits=Limits(file_size=2**20))
    results = ran(session, "open('x', 'wb').write(bytes(2 << 20))")
    assert results.outcome is Outcome.OVER_LIMIT or "File too large" in results.stderr, results.completion


def test_output(session: ExtSession) -> None:
    results = ran(session, "while True: print('x' * 10000)")
    assert results.outcome is Outcome.OVER_LIMIT and results.completion.limit == "output"
    assert len(results.stdout_bytes) <= 16 * 2**20
    with pytest.raises(LimitExceeded):
        results.raise_for_error()


def test_output_by_bytes(session: ExtSession) -> None:
    results = ran(session, "import os\nwhile True: os.write(1, bytes(65536)); os.write(2, b'\\xff' * 65536)")
    assert results.outcome is Outcome.OVER_LIMIT and results.completion.limit == "output"
    assert len(results.stdout_bytes) + len(results.stderr_bytes) <= 16 * 2**20


def test_wall(opened: Opened) -> None:
    session = opened(limits=Limits(wall=0.5))
    results = ran(session, "import time; time.sleep(60)")
    assert results.outcome is Outcome.OVER_LIMIT and results.completion.limit == "wall"
    assert session.eval("1") == 1


def test_cpu(opened: Opened) -> None:
    session = opened(limits=Limits(cpu=0.5))
    results = ran(session, "while True: pass")
    assert results.outcome is Outcome.OVER_LIMIT and results.completion.limit == "cpu"


@pytest.mark.parametrize("tier", ["full"])
def test_cpu_of_all_together(opened: Opened) -> None:
    session = opened(limits=Limits(cpu=1.0))
    results = ran(session, "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        os.setsid()\n        while True: pass\ntime.sleep(60)")
    assert results.outcome is Outcome.OVER_LIMIT and results.completion.limit == "cpu", results.completion


def test_session_cpu_and_wall(opened: Opened) -> None:
    session = opened(limits=Limits(session_cpu=1))
    results = ran(session, "while True: pass")
    assert results.completion.limit == "session_cpu", results.completion
    assert not session.is_alive
    session = opened(limits=Limits(session_wall=1))
    results = ran(session, "import time; time.sleep(60)")
    assert results.completion.limit == "session_wall", results.completion


def test_limits_change(opened: Opened) -> None:
    session = opened()
    session.set_limits(Limits(wall=0.5, output=1000, processes=64, open_files=256, cpu=60, memory=512 * 2**20, file_size=64 * 2**20))
    assert ran(session, "import time; time.sleep(60)").completion.limit == "wall"
    assert ran(session, "print('x' * 2000)").completion.limit == "output"


@pytest.mark.parametrize("tier", ["full"])
def test_limits_of_a_branch(opened: Opened) -> None:
    session = opened(limits=Limits(wall=1.0, processes=5))
    with session.fork() as other:
        assert ran(other, "import time; time.sleep(60)").completion.limit == "wall"
        assert other.limits_in_force() == session.limits_in_force()


@pytest.mark.parametrize("count", [32, 64, 200])
def test_few_open_files(opened: Opened, count: int, tier: str) -> None:
    """What a session has of its own stays below the limit: it can be replaced, after calls that leave a process."""
    session = opened(limits=Limits(open_files=count))
    for n in range(3):
        if tier == "full":
            results = ran(session, "import os, time\nif os.fork() == 0:\n    time.sleep(60); os._exit(0)")
            assert results.completion.ok, results.stderr
        assert ran(session, f"print({n})").stdout == f"{n}\n"
    if tier == "full":
        with session.fork(force=True) as other:
            assert other.eval("1") == 1


@pytest.mark.parametrize("tier", ["weak"])
def test_a_work_directory_that_nothing_bounds_is_polled(opened: Opened) -> None:
    session = opened(work_size=3_000_000, limits=Limits(file_size=1_000_000))
    fill = "for number in range(10**6):\n    with open(f'f{number}', 'wb') as file: file.write(bytes(900_000))"
    results = ran(session, fill)
    assert results.completion.limit == "work_size", results.completion
    assert results.completion.reached > 3_000_000
    assert "had a work directory of" in str(results.completion)
