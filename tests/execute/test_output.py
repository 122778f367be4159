"""What a command prints: all of it, and as it was."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extsession.execute import ExecuteError, ExecuteRequest, LocalSubProcessExecute, StdinSource
from extsession.execute.text import Text, without_escapes

#: bytes that mean something: characters of one to four bytes, parts of them, pieces of escape sequences
PIECES = [
    b"a", "\u00fc".encode(), "\u20ac".encode(), "\U0001f409".encode(), b"\xff", b"\x80", b"\xf0\x9f", b"\xed\xa0\x80", b"\x1b", b"[",
    b"\x1b[31m", b"\x1b[1;2;3m", b"\x1b[?25l", b"\x1b]0;title\x07", b"\x1b]8;;x\x1b\\", b"\x1bPx\x1b\\", b"\x1bM", b"\x1b(B", b"\x1b[3",
    b"m", b";", b"\x07", b"\\", b"]", b"\x1b]", b"\r\n", b" ", b"P", b"X", b"\x9b",
]  # fmt: skip
DATA = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join) | st.binary(max_size=60)


def _cut(data: bytes, cuts: list[int], plain: bool) -> tuple[str, list[str]]:
    """The text of bytes that arrive in pieces, and what it was in between."""
    arrived = bytearray()
    text = Text(plain, arrived)
    seen = []
    at = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        arrived += data[at:cut]
        at = cut
        seen.append(text.text)
    arrived += data[at:]
    return text.end().text, seen


@given(DATA, st.lists(st.integers(0, 1000), max_size=8), st.booleans())
def test_the_same_however_it_is_cut(data: bytes, cuts: list[int], plain: bool) -> None:
    whole, _ = _cut(data, [], plain)
    found, seen = _cut(data, cuts, plain)
    assert found == whole
    assert all(whole.startswith(each) for each in seen)  # what was there does not change
    decoded = data.decode("utf-8", "surrogateescape")
    assert whole == (without_escapes(decoded) if plain else decoded)
    if not plain:
        assert whole.encode("utf-8", "surrogateescape") == data


@pytest.mark.parametrize("colored", [True, False])
def test_colored_is_about_the_text(program: Any, colored: bool) -> None:
    source = r"""
import sys
sys.stdout.write("\x1b[32mgreen\x1b[0m\n")
sys.stderr.write("\x1b[1mbold\x1b[0m\n")
"""
    status = LocalSubProcessExecute(colored)(program(source))
    assert (status.out, status.err) == (("\x1b[32mgreen\x1b[0m\n", "\x1b[1mbold\x1b[0m\n") if colored else ("green\n", "bold\n"))
    assert (status.out_bytes, status.err_bytes) == (b"\x1b[32mgreen\x1b[0m\n", b"\x1b[1mbold\x1b[0m\n")


def test_any_bytes_survive(program: Any) -> None:
    status = LocalSubProcessExecute()(program("import os; os.write(1, bytes(range(256)) * 3)"))
    data = bytes(range(256)) * 3
    assert status.out_bytes == data
    assert status.out.encode("utf-8", "surrogateescape") == data


def test_no_newline_is_changed_or_added(program: Any) -> None:
    assert LocalSubProcessExecute()(program(r"import os; os.write(1, b'a\r\nb\rc\n\nd')")).out == "a\r\nb\rc\n\nd"


def test_a_character_cut_between_two_writes(program: Any, eventually: Any) -> None:
    source = r"""
import os, sys
os.write(1, b"a\xf0\x9f"); sys.stdin.read(1); os.write(1, b"\x90\x89b")
sys.stdin.read()
"""
    with LocalSubProcessExecute().call(program(source, stdin=StdinSource.API)) as status:
        eventually(lambda: len(status.out_bytes) == 3)
        assert status.out == "a"
        status.write_stdin("x")
        eventually(lambda: len(status.out_bytes) == 6)
        assert status.out == "a\U0001f409b"
        status.close_stdin()
        status.wait(10)


def test_complete_after_exit_right_behind_the_write(program: Any) -> None:
    source = "import os; os.write(1, b'x' * 65536); os.write(2, b'y' * 65536); os._exit(0)"
    executor = LocalSubProcessExecute()
    for _ in range(30):
        status = executor(program(source))
        assert (len(status.out_bytes), len(status.err_bytes)) == (65536, 65536)


def test_complete_though_a_background_process_holds_the_pipe(is_running: Any) -> None:
    request = ExecuteRequest(["sh", "-c", "sleep 30 & echo $!; head -c 60000 /dev/zero"])
    status = LocalSubProcessExecute(drain_timeout=0.05)(request)
    pid = int(status.out.split("\n")[0])
    assert len(status.out_bytes) == len(str(pid)) + 1 + 60000
    assert status.duration < 2
    assert is_running(pid)
    os.kill(pid, 9)


def test_100_mb_in_linear_time(program: Any) -> None:
    def seconds(size: int) -> float:
        status = LocalSubProcessExecute()(ExecuteRequest(["head", "-c", str(size), "/dev/zero"]))
        assert len(status.out_bytes) == size
        return status.duration

    small = min(seconds(10_000_000) for _ in range(3))
    assert seconds(100_000_000) < max(0.02, small) * 60  # quadratic would be 100


def test_both_streams_at_once_never_block(program: Any) -> None:
    source = """
import os
for _ in range(50):
    os.write(1, b"o" * 100_000)
    os.write(2, b"e" * 100_000)
"""
    status = LocalSubProcessExecute(timeout=20)(program(source))
    assert (len(status.out), len(status.err)) == (5_000_000, 5_000_000)


def test_it_does_not_depend_on_the_caller(program: Any, eventually: Any) -> None:
    with LocalSubProcessExecute().call(program("import os; os.write(1, b'x' * 5_000_000)")) as status:
        eventually(lambda: status.exit_code == 0)  # nobody has called wait()
    assert len(status.out) == 5_000_000


def test_the_end_of_the_process_is_the_end(program: Any) -> None:
    source = "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(7)"
    status = LocalSubProcessExecute()(program(source))
    assert status.exit_code == 7
    assert status.duration >= 0.3


def test_a_grandchild_that_writes_for_ever(program: Any) -> None:
    source = """
import os
if not os.fork():
    while True:
        os.write(1, b"g" * 65536)
os.write(2, b"of the command")
print(os.getpid())
"""
    executor = LocalSubProcessExecute(drain_timeout=0.2)
    with executor.call(program(source)) as status:
        began = time.monotonic()
        assert status.wait(10) == 0
        assert time.monotonic() - began < 3
    assert status.err == "of the command"
    assert b"g" in status.out_bytes


def test_drain_timeout_is_how_long_we_read_for_others(program: Any) -> None:
    source = """
import os, time
if not os.fork():
    time.sleep(0.2)
    os.write(1, b"late")
    os._exit(0)
"""
    assert LocalSubProcessExecute(drain_timeout=10)(program(source)).out == "late"  # until its end of file, not longer
    status = LocalSubProcessExecute(drain_timeout=0)(program(source))
    assert status.out == ""


def test_live(program: Any, eventually: Any) -> None:
    source = "import sys; print('first', flush=True); sys.stdin.read(); print('second'); sys.exit(3)"
    with LocalSubProcessExecute().call(program(source, stdin=StdinSource.API)) as status:
        eventually(lambda: status.out == "first\n")
        assert (status.exit_code, status.success, status.outcome) == (None, False, None)
        assert status.wait(0) is None and status.wait(0.01) is None
        first = status.duration
        assert eventually(lambda: status.duration > first)
        assert status.metadata == {"pid": status.metadata["pid"]}
        status.close_stdin()
        assert status.wait() == 3
        end = status.duration
        time.sleep(0.01)
        assert (status.duration, status.exit_code, status.out) == (end, 3, "first\nsecond\n")
    assert status.outcome is not None and status.outcome.exit_code == 3
    assert status.wait() == 3


def test_callbacks_get_all_in_order(program: Any) -> None:
    source = """
import os
for number in range(2000):
    os.write(1, b"%d\\n" % number); os.write(2, b"%d\\n" % -number)
"""
    got: dict[str, list[bytes]] = {"out": [], "err": []}
    threads = set()

    def on_out(data: bytes) -> None:
        threads.add(threading.current_thread())
        got["out"].append(data)

    status = LocalSubProcessExecute(on_out=on_out, on_err=got["err"].append)(program(source))
    assert b"".join(got["out"]) == status.out_bytes
    assert b"".join(got["err"]) == status.err_bytes
    assert all(type(data) is bytes and data for data in got["out"])
    assert threading.current_thread() not in threads


def test_callbacks_as_it_arrives(program: Any) -> None:
    arrived = threading.Event()
    executor = LocalSubProcessExecute(on_out=lambda data: arrived.set())
    with executor.call(program("import sys; print('x', flush=True); sys.stdin.read()", stdin=StdinSource.API)) as status:
        assert arrived.wait(10)
        assert status.exit_code is None


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises(program: Any, kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    called, others = [], []

    def bad(data: bytes) -> None:
        called.append(data)
        raise kind("no")

    source = "import time\nfor n in range(3): print(n, flush=True); time.sleep(0.02)\nprint('e', file=__import__('sys').stderr)"
    status = LocalSubProcessExecute(on_out=bad, on_err=others.append)(program(source))
    assert (status.exit_code, status.out) == (0, "0\n1\n2\n")
    assert (len(called), others) == (1, [b"e\n"])
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert kind.__name__ in caplog.text


def test_a_slow_callback_does_not_hold_up_the_command(program: Any) -> None:
    gate = threading.Event()
    executor = LocalSubProcessExecute(on_out=lambda data: gate.wait(10))
    with executor.call(program("import os\nos.write(1, b'x' * 3_000_000)")) as status:
        give_up = time.monotonic() + 10
        while len(status.out_bytes) < 3_000_000:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        gate.set()
        status.wait(10)


@pytest.mark.parametrize("how", ["executor.interrupt", "executor.terminate", "status.interrupt", "status.wait"])
def test_a_callback_that_stops_or_waits(program: Any, how: str) -> None:
    """It is a part of what everybody waits for, so that it must not wait for that itself."""
    there = threading.Event()
    done = threading.Event()

    def react(data: bytes) -> None:
        there.wait(10)
        owner, name = how.split(".")
        getattr(executor if owner == "executor" else status, name)()
        done.set()

    executor = LocalSubProcessExecute(on_out=react)
    seconds = 0.2 if how.endswith("wait") else 60
    with executor.call(program(f"import time; print('x', flush=True); time.sleep({seconds})")) as status:
        there.set()
        assert done.wait(10)
        assert status.exit_code is not None
        assert status.wait(10) is not None


def test_a_callback_that_writes(program: Any) -> None:
    there = threading.Event()

    def answer(data: bytes) -> None:
        there.wait(10)
        status.write_stdin("the answer\n" + "x" * 1_000_000)  # which is never read whole

    executor = LocalSubProcessExecute(on_out=answer)
    source = "import os; print('?', flush=True); print(os.read(0, 10))"
    with executor.call(program(source, stdin=StdinSource.API)) as status:
        there.set()
        assert status.wait(10) == 0
    assert status.out == "?\nb'the answer'\n"


def test_outputs_never_mix(program: Any) -> None:
    executor = LocalSubProcessExecute()
    wrong: list[str] = []

    def run(name: str) -> None:
        for number in range(25):
            text = f"{name} {number} " * 50
            status = executor(ExecuteRequest(["sh", "-c", 'printf %s "$1"; printf %s "$1" >&2', "sh", text]))
            if (status.exit_code, status.out, status.err) != (0, text, text):
                wrong.append(f"{text[:10]}: {status} {status.out[:20]}")

    threads = [threading.Thread(target=run, args=(f"thread{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_room_for_the_output(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession._sync import command_pump

    def no_room(*arguments: Any) -> None:
        raise MemoryError("made up")

    monkeypatch.setattr(command_pump.Pump, "_keep", no_room)
    with pytest.raises(ExecuteError, match="made up") as caught:
        LocalSubProcessExecute()(program("import time; print('x', flush=True); time.sleep(60)"))
    assert caught.value.status is not None and caught.value.status.exit_code == -9


def test_columns_and_lines(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import os; print(os.environ.get('COLUMNS'), os.environ.get('LINES'))"
    executor = LocalSubProcessExecute()
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((91, 17)))
    assert executor(program(source)).out == "91 17\n"
    assert executor(program(source, env={})).out == "91 17\n"
    assert executor(program(source, env={"COLUMNS": "5"})).out == "5 17\n"
    assert executor(program(source, env={"COLUMNS": "5", "LINES": "6"})).out == "5 6\n"

    def none(fd: int) -> None:
        raise OSError("no terminal")

    monkeypatch.setattr(os, "get_terminal_size", none)
    assert executor(program(source)).out == "None None\n"  # also where readline has set them in the C library
    assert executor(program(source, env={})).out == "None None\n"
