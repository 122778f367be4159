"""Ctrl-C in the program that controls a session, at any moment: the session goes on, or says why not; never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PROGRAM = f"""
import os, random, signal, sys, threading, time
sys.path.insert(0, {os.fspath(ROOT)!r})
from extsession import ExtSession
chance = random.Random(int(sys.argv[1]))
session = ExtSession(warm=sys.argv[2] == "warm")
session.execute("n = 0").wait()
rounds, hit, stop = 300, 0, False
wanted = threading.Event()
def ring():
    while not stop:
        wanted.wait()
        wanted.clear()
        end = time.perf_counter() + chance.random() * 0.0008
        while time.perf_counter() < end:
            pass
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=ring, daemon=True).start()
for number in range(rounds):
    rung = False
    try:
        wanted.set()
        for _ in range(40):
            assert session.execute("n += 1; print(n)").wait().stdout.strip().isdecimal()
            assert session.eval("n") > 0
    except KeyboardInterrupt:
        hit += 1
        rung = True
    if not rung:
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            pass
    assert session.execute("print('well')").wait(20).stdout == "well\\n", number
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
stop = True
assert session.exit(3) == 3
print("hit", hit)
"""


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_at_random_moments(seed: int, kind: str) -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(seed), kind], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout.split()[1]) > 100
