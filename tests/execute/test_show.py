"""Output that is shown while it comes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from extsession.execute import ExecuteRequest, LocalSubProcessExecute, StdinSource

RED, PLAIN = b"\x1b[31m", b"\x1b[39m"


class Writes(io.RawIOBase):
    """A target that remembers each write, and when."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.times: list[float] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.writes.append(bytes(data))
        self.times.append(time.monotonic())
        return len(data)


def test_where_it_goes(program: Any, capfdbinary: Any) -> None:
    request = program("import sys; print('o'); print('e', file=sys.stderr)")
    executor = LocalSubProcessExecute()
    quiet = executor(request)
    assert capfdbinary.readouterr() == (b"", b"")
    with executor.call(request, show=True) as status:
        status.wait()
    assert capfdbinary.readouterr() == (b"o\n", RED + b"e\n" + PLAIN)
    assert (status.out, status.err) == (quiet.out, quiet.err) == ("o\n", "e\n")  # the captured text is not painted
    assert status.outcome is not None and status.outcome.show_on_standard
    assert quiet.outcome is not None and not quiet.outcome.show_on_standard

    showing = LocalSubProcessExecute(show=True)
    showing(request)
    assert capfdbinary.readouterr() == (b"o\n", RED + b"e\n" + PLAIN)
    with showing.call(request, show=False) as status:
        status.wait()
    assert capfdbinary.readouterr() == (b"", b"")


def test_not_colored_passes_unchanged(program: Any) -> None:
    out, err = Writes(), Writes()
    source = r"import sys; sys.stdout.write('\x1b[32mo\n'); sys.stderr.write('\x1b[1me\n')"
    with LocalSubProcessExecute(False, show=True).call(program(source), out_err=(out, err)) as status:
        status.wait()
    assert (b"".join(out.writes), b"".join(err.writes)) == (b"\x1b[32mo\n", b"\x1b[1me\n")
    assert (status.out, status.err) == ("o\n", "e\n")


def test_the_streams_of_the_moment(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = LocalSubProcessExecute(show=True)
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    executor(program("import sys; print('\u00fc'); print('e', file=sys.stderr)"))
    assert (out.getvalue(), err.getvalue()) == ("\u00fc\n", "\x1b[31me\n\x1b[39m")


@pytest.mark.parametrize("kind", ["raw", "buffered", "bytes", "text", "wrapper", "temporary", "temporary text", "own"])
def test_targets_of_every_kind(program: Any, kind: str, tmp_path: Path) -> None:
    class Own:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def write(self, text: str) -> None:
            self.texts.append(text)

    path = tmp_path / "target"
    targets: dict[str, Any] = {
        "raw": lambda: open(path, "wb", buffering=0),
        "buffered": lambda: open(path, "wb"),
        "bytes": io.BytesIO,
        "text": io.StringIO,
        "wrapper": lambda: open(path, "w", encoding="utf-8"),
        "temporary": lambda: tempfile.NamedTemporaryFile(),
        "temporary text": lambda: tempfile.NamedTemporaryFile("w+", encoding="utf-8"),
        "own": Own,
    }
    target = targets[kind]()
    text = "z\u00fcrich\n" * 5000
    with LocalSubProcessExecute(show=True).call(ExecuteRequest(["cat"], stdin=text), out_err=(target, target)) as status:
        status.wait(10)
    if kind in ("bytes", "text"):
        found = target.getvalue()
    elif kind == "own":
        found = "".join(target.texts)
    else:
        found = Path(target.name).read_text(encoding="utf-8")
        target.close()
    assert (found.decode() if isinstance(found, bytes) else found) == text


def test_what_was_printed_before_comes_first(program: Any) -> None:
    raw = Writes()
    target = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    target.write("before\n")
    with LocalSubProcessExecute(show=True).call(program("print('shown')"), out_err=(target, target)) as status:
        status.wait()
    assert b"".join(raw.writes) == b"before\nshown\n"


def test_whole_lines_at_once(program: Any) -> None:
    source = """
import os
for piece in (b"one", b" two\\nthr", b"ee\\n"):
    os.write(1, piece)
    os.write(2, piece)
"""
    for _ in range(5):
        out, err = Writes(), Writes()
        with LocalSubProcessExecute(show=True).call(program(source), out_err=(out, err)) as status:
            status.wait()
        assert all(data.endswith(b"\n") for data in out.writes)
        assert all(data.startswith(RED) and data.endswith(b"\n" + PLAIN) for data in err.writes)
        assert b"".join(out.writes) == b"one two\nthree\n"


def test_a_prompt_appears(program: Any, eventually: Any) -> None:
    out, err = Writes(), Writes()
    source = "import sys; print('name? ', end='', flush=True); print('hello', sys.stdin.readline())"
    request = program(source, stdin=StdinSource.API)
    with LocalSubProcessExecute(show=True).call(request, out_err=(out, err)) as status:
        eventually(lambda: status.out == "name? ")
        arrived = time.monotonic()
        eventually(lambda: out.writes == [b"name? "])
        assert out.times[0] - arrived < 5  # a tenth, and what a busy machine adds
        status.write_stdin("you\n")
        status.wait(10)
    assert b"".join(out.writes) == b"name? hello you\n\n"


def test_a_character_cut_by_a_pause_is_shown_whole(program: Any, eventually: Any) -> None:
    out, err = Writes(), Writes()
    source = r"""
import os
for part in (b"a\xf0\x9f", b"\x90\x89b\xc3"):
    os.write(1, part); os.write(2, part); os.read(0, 1)
"""
    request = program(source, stdin=StdinSource.API)
    with LocalSubProcessExecute(show=True).call(request, out_err=(out, err)) as status:
        eventually(lambda: out.writes == [b"a"] and err.writes == [RED + b"a" + PLAIN])
        status.write_stdin("x")
        eventually(lambda: len(out.writes) == 2 and len(err.writes) == 2)
        status.write_stdin("x")
        status.wait(10)
    dragon = "\U0001f409".encode()
    assert out.writes == [b"a", dragon + b"b", b"\xc3"]
    assert err.writes == [RED + b"a" + PLAIN, RED + dragon + b"b" + PLAIN, RED + b"\xc3" + PLAIN]


class Broken(io.RawIOBase):
    calls = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.calls += 1
        raise OSError("the disk is full")


def test_a_target_that_breaks(program: Any, caplog: pytest.LogCaptureFixture) -> None:
    broken, other = Broken(), Writes()
    source = "import sys, time\nfor n in range(5): print(n, flush=True); time.sleep(0.02)\nprint('e', file=sys.stderr)"
    with LocalSubProcessExecute(show=True).call(program(source), out_err=(broken, other)) as status:
        status.wait()
    assert (status.exit_code, status.out) == (0, "0\n1\n2\n3\n4\n")
    assert broken.calls == 1
    assert b"".join(other.writes) == RED + b"e\n" + PLAIN
    assert [(record.levelname, "disk is full" in record.getMessage()) for record in caplog.records] == [("WARNING", True)]


def test_a_target_that_is_closed(program: Any, caplog: pytest.LogCaptureFixture) -> None:
    target = io.StringIO()
    target.close()
    with LocalSubProcessExecute(show=True).call(program("print(1)"), out_err=(target, target)) as status:
        status.wait()
    assert status.out == "1\n"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_there_are_no_standard_streams(controller: Any, tmp_path: Path) -> None:
    source = f"""
sys.stdout = sys.stderr = sys.stdin = None
from extsession.execute import *
status = LocalSubProcessExecute(show=True)(ExecuteRequest(["sh", "-c", "echo o; echo e >&2; exit 3"]))
try:
    status.outcome.assert_success()
except SystemExit as error:
    open({str(tmp_path / "found")!r}, "w").write(f"{{status.out}}{{status.err}}{{error}}")
"""
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "found").read_text() == "o\ne\n3"


@pytest.fixture
def pipe_that_nobody_reads() -> Any:
    read, write = os.pipe()
    target = open(write, "wb", buffering=0)
    yield read, target
    os.close(read)  # which ends a write that waits
    target.close()


FLOOD = "import os, sys\nos.write(1, b'x\\n' * 200_000)\nprint('written', file=sys.stderr)\n"


def test_a_full_target_does_not_block_the_command(program: Any, pipe_that_nobody_reads: Any, eventually: Any) -> None:
    """It ends. We wait for the target, as any program does; here somebody reads it in the end."""
    read, target = pipe_that_nobody_reads
    shown = bytearray()

    def drain() -> None:
        while not shown.endswith(b"end\n"):
            shown.extend(os.read(read, 65536))

    request = program(FLOOD + "print('end')")
    with LocalSubProcessExecute(show=True).call(request, out_err=(target, io.BytesIO())) as status:
        eventually(lambda: status.exit_code == 0)
        assert len(status.out_bytes) == 400_004
        assert status.wait(0.2) is None  # all is captured, and not all is shown
        thread = threading.Thread(target=drain)
        thread.start()
        assert status.wait(10) == 0
        thread.join()
    assert bytes(shown) == status.out_bytes


@pytest.mark.leaks("the thread that waits for the target can end only when that is read or closed, after the test")
@pytest.mark.parametrize("how", ["timeout", "interrupt", "after its end"])
def test_what_is_stopped_does_not_hang_on_a_full_target(
    program: Any, pipe_that_nobody_reads: Any, how: str, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    _, target = pipe_that_nobody_reads
    executor = LocalSubProcessExecute(show=True, timeout=0.3 if how == "timeout" else None)
    request = program(FLOOD + ("" if how == "after its end" else "import time; time.sleep(60)"))
    began = time.monotonic()
    with executor.call(request, out_err=(target, target)) as status:
        if how != "timeout":
            eventually(lambda: status.exit_code == 0 if how == "after its end" else status.out.count("x") == 200_000)
            executor.interrupt()
            assert status.exit_code is not None
        status.wait(10)
    assert time.monotonic() - began < 5
    assert status.out.count("x") == 200_000
    assert "taken nothing" in caplog.text
