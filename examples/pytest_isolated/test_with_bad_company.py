"""Good tests, and four that would end the run or spoil it for others. Each of the four costs only itself.

    pytest examples/pytest_isolated

is run with what stands in pytest.ini beside this file: every test in a process of its own, 2 seconds and 200 MB for
each.
"""

import ctypes
import threading
import time

import pytest

database = {"rows": 3}


@pytest.fixture(scope="session")
def connection():
    """Set up once for the whole run, in pytest's own process: what is made there, every test finds."""
    time.sleep(0.1)
    return {"open": True, "used": 0}


def test_good(connection):
    connection["used"] += 1
    assert connection == {"open": True, "used": 1}


def test_segfault():
    print("about to read address 0")
    ctypes.string_at(0)


def test_endless_loop():
    while True:
        pass


def test_memory_eater():
    eaten = []
    while True:
        eaten.append(bytearray(10_000_000))


def test_leaky_thread():
    def spoil():
        while True:
            database["rows"] += 1
            time.sleep(0.001)

    threading.Thread(target=spoil, daemon=True).start()
    while database["rows"] == 3:
        time.sleep(0.001)


def test_good_afterwards(connection):
    """No thread goes on, no row was added, and the connection is as good as new."""
    time.sleep(0.05)
    assert database == {"rows": 3}
    assert connection["used"] == 0
    assert threading.active_count() == 1


@pytest.mark.isolated(timeout=10)
def test_that_may_take_longer():
    time.sleep(0.1)


@pytest.mark.xfail(reason="bug 12: it crashes", strict=True)
def test_known_crash():
    ctypes.string_at(0)
