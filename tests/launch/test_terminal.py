"""Programs that are not ours are started below a warden, on a terminal, and sessions are not sent what that takes."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest

from extsession._launch import environment, payload, terminal
from extsession.errors import LaunchError

SOON = 20.0


def started(*command: str, size: tuple[int, int] = (24, 80)) -> terminal.TerminalProcess:
    return terminal.start(command, None, environment.of_child(), size, SOON)


def all_of(process: terminal.TerminalProcess) -> bytes:
    """What it prints, until nobody holds the terminal any more."""
    poll = select.poll()
    poll.register(process.master, select.POLLIN)
    data = b""
    while True:
        assert poll.poll(SOON * 1000)
        try:
            data += os.read(process.master, 65536)
        except BlockingIOError:
            continue
        except OSError:  # EIO: the other end is closed, see pty(7)
            return data


def end_of(process: terminal.TerminalProcess) -> object:
    poll = select.poll()
    poll.register(process.leash, select.POLLIN)
    report = process.read_leash()
    while report is None:
        assert poll.poll(SOON * 1000)
        report = process.read_leash()
    process.close()
    return report.exit_code if report.signal is None else -report.signal


def test_all_that_is_printed_comes_and_the_status() -> None:
    for count in (0, 1, 100000):
        process = started("sh", "-c", f"seq {count} 2>&1; exit 3")
        assert all_of(process) == b"".join(b"%d\n" % number for number in range(1, count + 1))
        assert end_of(process) == 3


def test_the_terminal_changes_nothing_and_echoes_nothing() -> None:
    process = started("sh", "-c", "read x; printf 'a\\r\\n\\n\\023b%s' $x", size=(7, 9))
    assert not process.is_echoing()
    assert process.takes_lines()
    os.write(process.master, b"typed\n")
    assert all_of(process) == b"a\r\n\n\x13btyped"
    assert end_of(process) == 0


def test_echo_is_switched_off_again() -> None:
    process = started("sh", "-c", "stty echo -icanon; echo on; read x; stty sane; exit 0")
    deadline = time.monotonic() + SOON
    while not process.is_echoing() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.is_echoing()
    process.stop_echo()
    assert not process.is_echoing()
    os.write(process.master, b"\n")
    assert b"on" in all_of(process)
    assert end_of(process) == 0


def test_what_was_typed_is_dropped() -> None:
    process = started("sh", "-c", "kill -STOP $$; read x; echo $x")
    assert process.pid is not None
    deadline = time.monotonic() + SOON
    while b"T" not in state(process.pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.write(process.master, b"dropped\n")
    time.sleep(0.05)  # through the terminal
    process.drop_typed()
    os.write(process.master, b"read\n")
    process.signal(process.pid, signal.SIGCONT)
    assert all_of(process) == b"read\n"
    assert end_of(process) == 0


def state(pid: int) -> bytes:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0]


@pytest.mark.parametrize("source", ["exec sleep 94", "sleep 94", "stty raw -isig; dd bs=1 count=1 2>/dev/null | od -An -c"])
def test_ctrl_c(source: str) -> None:
    """As SIGINT, also for a process that was just about to become another one; as the byte where that is wanted."""
    process = started("sh", "-c", f"echo begun; {source}")
    data = b""
    deadline = time.monotonic() + SOON
    while b"begun" not in data or ("isig" in source and is_cooked(process)):
        assert time.monotonic() < deadline
        try:
            data += os.read(process.master, 4096)
        except BlockingIOError:
            time.sleep(0.002)
    while True:
        process.interrupt()
        if select.select([process.leash], [], [], 0.1)[0] or "isig" in source:
            break
    data += all_of(process)
    if "isig" in source:
        assert b"003" in data
        assert end_of(process) == 0
    else:
        assert end_of(process) in (-signal.SIGINT, 130)


def is_cooked(process: terminal.TerminalProcess) -> bool:
    import termios

    return bool(termios.tcgetattr(process.master)[3] & termios.ISIG)


def test_the_program_is_in_the_foreground() -> None:
    process = started("sleep", "94")
    group, age = process.foreground()
    assert group == process.pid
    assert 0 <= age + 0.1 < SOON
    assert not process.signal_job(signal.SIGKILL)
    assert process.signal_job(signal.SIGKILL, leader=True)
    assert end_of(process) == -signal.SIGKILL


def test_a_program_that_cannot_be_started() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for command, text in (("/no/such", "No such file"), ("/etc", "Permission denied"), ("a\0b", "Invalid argument")):
        with pytest.raises(LaunchError, match=text) as caught:
            started(command)
        assert list(caught.value.command or ()) == [command]
    assert len(os.listdir("/proc/self/fd")) == before


def test_sessions_are_not_sent_what_starts_programs() -> None:
    assert "_worker.foreign" in payload.sources()
    assert b"_worker.foreign" not in payload.first_bytes(payload.compiled(), {"isolation": True, "script": True})
