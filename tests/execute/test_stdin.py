"""What a command reads."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import Any

import pytest

from extsession.execute import ExecuteRequest, LocalSubProcessExecute, StdinSource

READ = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data)"


@pytest.mark.parametrize("stdin", [None, StdinSource.OFF, ""])
def test_end_of_file_at_once(program: Any, stdin: Any) -> None:
    assert LocalSubProcessExecute()(program(READ + "; print('end')", stdin=stdin)).out == "end\n"


def test_text(program: Any) -> None:
    text = "z\u00fcrich \U0001f409\r\n\udc80"
    status = LocalSubProcessExecute()(program(READ, stdin=text))
    assert status.out == text
    assert status.out_bytes == text.encode("utf-8", "surrogateescape")


def test_5_mb_through_cat() -> None:
    text = "0123456789" * 500_000
    assert LocalSubProcessExecute(timeout=20)(ExecuteRequest(["cat"], stdin=text)).out == text


def test_a_child_that_never_reads(program: Any) -> None:
    status = LocalSubProcessExecute(timeout=20)(program("import time; time.sleep(0.1)", stdin="x" * 5_000_000))
    assert status.success


def test_a_child_that_closes_its_stdin(program: Any) -> None:
    source = "import os, time; os.close(0); time.sleep(0.1); print('well')"
    assert LocalSubProcessExecute(timeout=20)(program(source, stdin="x" * 5_000_000)).out == "well\n"


def test_that_of_the_caller(controller: Any) -> None:
    source = """
from extsession.execute import *
out = LocalSubProcessExecute()(ExecuteRequest(["cat"], stdin=StdinSource.USER)).out
print("read", out)
"""
    done = subprocess.run(controller(source), input="of the caller", capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("read of the caller\n", "")


def test_that_of_the_caller_which_is_closed(controller: Any) -> None:
    source = """
import os
os.close(0)
from extsession.execute import *
status = LocalSubProcessExecute()(ExecuteRequest(["sh", "-c", "cat; echo end"], stdin=StdinSource.USER))
print(status.exit_code, status.out)
"""
    done = subprocess.run(controller(source), input="x", capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("0 end\n\n", "")


def test_written_by_the_program(eventually: Any) -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        for text in ("one\n", "z\u00fcrich", ""):
            status.write_stdin(text)
        eventually(lambda: status.out == "one\nz\u00fcrich")
        assert status.exit_code is None
        status.close_stdin()
        assert status.wait(10) == 0
        status.close_stdin()
    assert status.out == "one\nz\u00fcrich"


def test_all_that_was_written_comes_before_the_end() -> None:
    text = "0123456789" * 100_000
    with LocalSubProcessExecute().call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        status.write_stdin(text)
        status.close_stdin()
        status.wait(20)
    assert status.out == text


def test_write_returns_when_all_is_taken(program: Any) -> None:
    source = "import sys, time; time.sleep(0.2); print(len(sys.stdin.read()))"
    with LocalSubProcessExecute().call(program(source, stdin=StdinSource.API)) as status:
        began = time.monotonic()
        status.write_stdin("x" * 1_000_000)
        assert time.monotonic() - began > 0.15  # a pipe holds less
        status.close_stdin()
        status.wait(10)
    assert status.out == "1000000\n"


def test_from_several_threads() -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        texts = [str(number) * 100_000 for number in range(4)]
        threads = [threading.Thread(target=status.write_stdin, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status.close_stdin()
        status.wait(20)
    assert sorted(status.out) == sorted("".join(texts))


def test_to_a_child_that_is_gone() -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["true"], stdin=StdinSource.API)) as status:
        status.wait(10)
        with pytest.raises(BrokenPipeError):
            status.write_stdin("x")
    with pytest.raises(BrokenPipeError):
        status.write_stdin("x")


def test_to_a_child_that_goes_meanwhile(program: Any) -> None:
    source = "import sys, time; time.sleep(0.2)"
    with LocalSubProcessExecute().call(program(source, stdin=StdinSource.API)) as status:
        with pytest.raises(BrokenPipeError):
            status.write_stdin("x" * 1_000_000)


def test_behind_the_end_of_file() -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        status.close_stdin()
        with pytest.raises(BrokenPipeError):
            status.write_stdin("x")
        assert status.wait(10) == 0
    assert status.out == ""


def test_silence_if_we_stopped_it(program: Any) -> None:
    with LocalSubProcessExecute().call(program("import time; time.sleep(60)", stdin=StdinSource.API)) as status:
        status.terminate()
        status.write_stdin("x")
        status.close_stdin()
    status.write_stdin("x")


def test_a_stop_ends_a_write_that_waits(program: Any) -> None:
    executor = LocalSubProcessExecute()
    with executor.call(program("import time; time.sleep(60)", stdin=StdinSource.API)) as status:
        timer = threading.Timer(0.1, executor.interrupt)
        timer.start()
        began = time.monotonic()
        status.write_stdin("x" * 1_000_000)
        assert time.monotonic() - began < 5
        timer.join()


@pytest.mark.parametrize("stdin", [None, StdinSource.OFF, "text"])
def test_other_sources_take_nothing(program: Any, stdin: Any) -> None:
    with LocalSubProcessExecute().call(program(READ, stdin=stdin)) as status:
        status.write_stdin("x" * 1_000_000)
        status.close_stdin()
        status.wait(10)
        status.write_stdin("x")
    assert status.out == (stdin if isinstance(stdin, str) else "")


def test_only_text_is_written() -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        with pytest.raises(TypeError, match="bytes"):
            status.write_stdin(b"x")  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            status.write_stdin("\ud800")
        status.close_stdin()
        assert status.wait(10) == 0


def test_the_pipe_is_the_childs_alone(program: Any) -> None:
    """Another command that starts meanwhile does not keep it open."""
    executor = LocalSubProcessExecute()
    with executor.call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as first:
        with executor.call(program("import time; time.sleep(60)")):
            first.close_stdin()
            assert first.wait(10) == 0
    assert os.getpid() != first.metadata["pid"]
