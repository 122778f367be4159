"""Section 3 of the contract: each call's output is its own, complete and in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from extsession import PIPE, ExtResults, ExtSession, Outcome


@pytest.fixture
def session() -> Iterator[ExtSession]:
    with ExtSession() as one:
        yield one


def out(session: ExtSession, source: str, **options: Any) -> str:
    results = session.execute(source, **options).wait(60)
    assert results.outcome is Outcome.FINISHED, (results, results.stderr)
    assert results.stderr == ""
    return results.stdout


def until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


# order on one stream


def test_prints_around_processes(session: ExtSession) -> None:
    source = """
import os, subprocess, sys
print("1")
subprocess.run(["sh", "-c", "echo 2; echo 3"])
print("4", end="")
os.system("echo 5")
print("6")
os.write(1, b"7\\n")
sys.stdout.write("8\\n")
subprocess.Popen(["echo", "9"]).wait()
print("10")
"""
    assert out(session, source) == "1\n2\n3\n45\n6\n7\n8\n9\n10\n"
    assert out(session, "print('next')") == "next\n"


def test_c_code_between_prints(session: ExtSession) -> None:
    pytest.importorskip("ctypes")
    session.execute("import ctypes; libc = ctypes.CDLL(None)").wait()
    source = 'for i in range(3):\n    print("p", i)\n    libc.printf(b"c%d ", i)\n    libc.puts(b"end")'
    assert out(session, source) == "p 0\nc0 end\np 1\nc1 end\np 2\nc2 end\n"


def test_c_code_in_the_first_call_is_complete(session: ExtSession) -> None:
    pytest.importorskip("ctypes")
    assert out(session, 'import ctypes; ctypes.CDLL(None).puts(b"from C")') == "from C\n"


@pytest.mark.parametrize("every", [1, 3, 250, 700])
def test_raw_writes_in_a_flood_of_prints(session: ExtSession, every: int) -> None:
    source = f"""
import os
for i in range(3000):
    print(i)
    if i % {every} == 0: os.write(1, b"raw %d\\n" % i)
"""
    expected = "".join(f"{i}\n" + (f"raw {i}\n" if i % every == 0 else "") for i in range(3000))
    assert out(session, source) == expected


def test_processes_threads_and_forks_in_a_flood(session: ExtSession) -> None:
    source = """
import os, threading
def flood(): [print(i) for i in range(2000)]
flood()
os.system("echo process")
flood()
thread = threading.Thread(target=lambda: (print("thread"), os.write(1, b"raw\\n"), print("thread again")))
thread.start(); thread.join()
flood()
if not os.fork():
    print("child", flush=True)
    os._exit(0)
os.wait()
flood()
copy = os.dup(1)
flood()
os.write(copy, b"copy\\n")
flood()
"""
    flood = "".join(f"{i}\n" for i in range(2000))
    middle = ["process\n", "thread\nraw\nthread again\n", "child\n", "", "copy\n"]
    assert out(session, source) == flood + "".join(each + flood for each in middle)
    assert out(session, "print('next')") == "next\n"


def test_the_tail_of_a_flood_is_not_kept_back(session: ExtSession) -> None:
    results = session.execute("for i in range(5000): print(i)\ninput()", stdin=PIPE)
    text = b""
    for chunk in results:
        text += chunk.data
        if text.endswith(b"4999\n"):
            break
    assert not results.done
    session.writeline("")
    results.wait(10)


def test_redirected_in_a_flood(session: ExtSession, tmp_path: Path) -> None:
    source = f"""
import os
for i in range(3000): print(i)
keep = os.dup(1)
fd = os.open({str(tmp_path / "file")!r}, os.O_CREAT | os.O_WRONLY)
os.dup2(fd, 1)
print("to the file")
os.dup2(keep, 1)
print("back")
"""
    assert out(session, source) == "".join(f"{i}\n" for i in range(3000)) + "back\n"
    assert (tmp_path / "file").read_text() == "to the file\n"


# order across the streams


def test_alternating_prints_stay_alternating(session: ExtSession) -> None:
    source = "import sys\nfor i in range(2000):\n    print('o', i)\n    print('e', i, file=sys.stderr)"
    results = session.execute(source).wait(60)
    texts = [(name, "".join(each.text for each in some)) for name, some in groupby(results.events, lambda c: c.stream)]
    lines = [(name, line) for name, text in texts for line in text.splitlines()]
    expected = [pair for i in range(2000) for pair in (("stdout", f"o {i}"), ("stderr", f"e {i}"))]
    assert lines == expected


def test_flood_before_an_error(session: ExtSession) -> None:
    results = session.execute("for i in range(3000): print(i)\n1/0").wait(60)
    streams = [chunk.stream for chunk in results.events]
    assert streams == sorted(streams, reverse=True)
    assert results.stdout.endswith("2999\n")
    assert results.stderr.endswith("ZeroDivisionError: division by zero\n")


# whose output it is


def test_a_thread_that_goes_on(session: ExtSession) -> None:
    source = """
import threading, sys
go = [threading.Event() for _ in range(3)]; done = [threading.Event() for _ in range(3)]
def work():
    for i in range(3):
        go[i].wait(); print("thread", i); sys.stderr.write("thread err\\n"); done[i].set()
threading.Thread(target=work, daemon=True).start()
print("started")
"""
    first = session.execute(source).wait(10)
    second = session.execute("print('before'); go[0].set(); done[0].wait(); print('after')").wait(10)
    third = session.execute("go[1].set(); done[1].wait()").wait(10)
    session.execute("threading.Timer(0, go[2].set).start(); done[2].wait()").wait(10)
    assert (first.stdout, second.stdout, third.stdout) == ("started\n", "before\nafter\n", "")
    until(lambda: first.late_stdout == "thread 0\nthread 1\nthread 2\n")
    assert first.late_stderr == "thread err\n" * 3
    assert second.late_stdout == third.late_stdout == ""


def test_a_thread_started_by_one_that_goes_on(session: ExtSession) -> None:
    source = """
import threading
go = threading.Event(); done = threading.Event()
def inner(): print("inner"); done.set()
def outer(): go.wait(); threading.Thread(target=inner).start()
threading.Thread(target=outer).start()
"""
    first = session.execute(source).wait(10)
    second = session.execute("go.set(); done.wait(); print('own')").wait(10)
    assert (second.stdout, second.late_stdout) == ("own\n", "")
    until(lambda: first.late_stdout == "inner\n")


def test_a_thread_of_the_running_call_is_its_own(session: ExtSession) -> None:
    session.execute("import threading; stop = threading.Event(); threading.Thread(target=stop.wait).start()").wait(10)
    source = "t = threading.Thread(target=print, args=('mine',)); t.start(); t.join(); print('and me')"
    assert out(session, source) == "mine\nand me\n"
    session.execute("stop.set()").wait(10)


def test_a_process_that_goes_on(session: ExtSession, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = session.execute(f"import os; os.system('(read x < {fifo}; echo late) & echo early')").wait(10)
    second = session.execute("print('second')").wait(10)
    fifo.write_text("go\n")
    until(lambda: session.is_alive and first.late_stdout == "late\n")
    assert (first.stdout, second.stdout, second.late_stdout) == ("early\n", "second\n", "")
    assert out(session, "print('third')") == "third\n"


def test_a_task_that_goes_on(session: ExtSession) -> None:
    source = """
import asyncio
async def work():
    await event.wait()
    print("task")
event = asyncio.Event()
await asyncio.sleep(0)
task = asyncio.get_running_loop().create_task(work())
"""
    first = session.execute(source).wait(10)
    second = session.execute("print('before'); event.set(); await task; print('after')").wait(10)
    assert (first.stdout, second.stdout) == ("", "before\nafter\n")
    until(lambda: session.is_alive and first.late_stdout == "task\n")


def test_late_output_is_in_the_event_stream(session: ExtSession) -> None:
    events = session.events()
    session.execute("import threading; e = threading.Event(); d = threading.Event()").wait(10)
    session.execute("threading.Thread(target=lambda: (e.wait(), print('late'), d.set())).start()").wait(10)
    session.execute("e.set(); d.wait(); print('x')").wait(10)
    text = ""
    for chunk in events:
        text += chunk.text if chunk.late else ""
        if text == "late\n":
            break


# sizes and bytes


@pytest.mark.parametrize("edge", [4096, 8192, 65536, 2**20])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_sizes_around_buffers(session: ExtSession, edge: int, off: int) -> None:
    size = edge + off
    assert out(session, f"import os, sys; print('x' * {size}, end='')") == "x" * size
    assert len(out(session, f"os.write(1, b'y' * {size}); print('z' * {size})")) == 2 * size + 1


def test_bytes_that_are_no_text(session: ExtSession) -> None:
    source = "import os, time\nfor b in (b'a\\xff', b'\\xc3', b'\\xa4', b'\\xe2\\x82', b'\\xac!'): os.write(1, b)"
    results = session.execute(source).wait(10)
    assert results.stdout_bytes == b"a\xff\xc3\xa4\xe2\x82\xac!"
    assert results.stdout == "a\ufffdä€!"


def test_no_line_end(session: ExtSession) -> None:
    assert out(session, "print('a', end='')") == "a"
    assert out(session, "print('b')") == "b\n"


def test_a_hundred_megabytes_unattended(session: ExtSession) -> None:
    results = session.execute("b = 'x' * 2**20\nfor i in range(100): print(b)", output_limit=None)
    until(lambda: results.done, 60)
    assert len(results.stdout_bytes) == 100 * (2**20 + 1)


def test_the_limit_counts_what_it_drops(session: ExtSession) -> None:
    results = session.execute("print('x' * 100_000)", output_limit=1000).wait(10)
    assert (len(results.stdout), results.dropped) == (1000, 99_001)
    assert out(session, "print('next')") == "next\n"


def test_a_flood_into_a_function(session: ExtSession) -> None:
    sizes: list[int] = []
    results = session.execute("print('x' * 5_000_000)", on_output=lambda chunk: sizes.append(len(chunk.data)))
    results.wait(20)
    assert (sum(sizes), results.stdout) == (5_000_001, "")


# streaming


def test_chunks_come_while_the_code_runs(session: ExtSession) -> None:
    results = session.execute("print('one')\ninput()\nprint('two')", stdin=PIPE)
    chunks = iter(results)
    assert next(chunks).text.startswith("one")
    assert not results.done
    session.writeline("")
    assert "".join(chunk.text for chunk in chunks).strip() == "two"
    assert "".join(chunk.text for chunk in results) == "one\ntwo\n"


# code that does things to its streams


BREAK = {
    "closes sys.stdout": "import sys; sys.stdout.close()",
    "None": "import sys; sys.stdout = None",
    "a number": "import sys; sys.stdout = 5",
    "raises": "import sys\nclass S:\n  def write(self, t): raise OSError('no')\n  def flush(self): raise OSError\nsys.stdout = S()",
    "both gone": "import sys; del sys.stdout, sys.stderr",
    "descriptor 1 closed": "import os; os.close(1)",
    "all redirected": "import os; fd = os.open('/dev/null', os.O_WRONLY); os.dup2(fd, 1); os.dup2(fd, 2)",
}


@pytest.mark.parametrize("how", BREAK)
def test_broken_streams_harm_nobody(session: ExtSession, how: str) -> None:
    session.execute(BREAK[how]).wait(10)
    session.execute("print('x'); 1/0").wait(10)
    assert session.eval("6 * 7") == 42
    error = session.execute("1/0").wait(10).error
    assert isinstance(error, ZeroDivisionError)


def test_descriptor_1_is_there_again_in_the_next_call(session: ExtSession) -> None:
    session.execute("import os; os.close(1)\ntry: print('lost')\nexcept OSError: pass").wait(10)
    assert out(session, "print('there')") == "there\n"


def test_redirect_stdout(session: ExtSession) -> None:
    source = """
import contextlib, io
text = io.StringIO()
with contextlib.redirect_stdout(text): print("inside")
print("outside", repr(text.getvalue()))
"""
    assert out(session, source) == "outside 'inside\\n'\n"


def test_a_stream_of_their_own_over_descriptor_1(session: ExtSession) -> None:
    assert out(session, "import sys; sys.stdout = open(1, 'w', closefd=False); print('buffered')") == "buffered\n"


def test_buffer_and_text(session: ExtSession) -> None:
    source = "import sys\nprint('a'); sys.stdout.buffer.write(b'b\\n'); print('c')\nsys.stdout.writelines(['d', 'e'])"
    assert out(session, source) == "a\nb\nc\nde"


def test_a_pipe_that_was_made_non_blocking(session: ExtSession) -> None:
    source = "import os\nos.set_blocking(1, False)\nfor i in range(20): print('x' * 100_000)"
    assert len(out(session, source)) == 20 * 100_001


def test_both_sides_of_a_fork_print_once(session: ExtSession) -> None:
    source = """
import os, sys
print("before", end=" ")
pid = os.fork()
if pid == 0:
    print("child")
    sys.exit()
os.waitpid(pid, 0)
print("parent")
"""
    assert out(session, source) == "before child\nparent\n"
    assert session.is_alive


def test_multiprocessing(session: ExtSession) -> None:
    source = """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=print, args=("from a process",))
process.start(); process.join()
print(process.exitcode)
"""
    assert out(session, source) == "from a process\n0\n"


def test_atexit(session: ExtSession) -> None:
    session.execute("import atexit, sys; atexit.register(lambda: (print('bye'), sys.stderr.write('err')))").wait(10)
    assert session.exit(3) == 3
    assert session.exit_output == ("bye\n", "err")


def test_atexit_of_a_call_that_exits(session: ExtSession) -> None:
    results = session.execute("import atexit; atexit.register(print, 'bye'); print('hi'); raise SystemExit(4)").wait(10)
    assert (results.stdout, results.exit_code, results.outcome) == ("hi\nbye\n", 4, Outcome.EXITED)


# input


def test_input(session: ExtSession) -> None:
    assert out(session, "print(input('? '))\nprint(input())", stdin="one\ntwo") == "? one\ntwo\n"
    assert out(session, "import sys; print(repr(sys.stdin.read()))", stdin="all\nof it\n") == "'all\\nof it\\n'\n"
    assert isinstance(session.execute("input()").wait(10).error, EOFError)
    assert out(session, "import sys; print(sys.stdin.read(1))", stdin="left over") == "l\n"
    assert isinstance(session.execute("input()").wait(10).error, EOFError)


def test_writeline_before_and_after(session: ExtSession) -> None:
    session.writeline("before")
    results = session.execute("print(input()); print(input())", stdin=PIPE)
    assert session.readline(10) == "before\n"
    session.writeline("after")
    assert results.wait(10).stdout == "before\nafter\n"


def test_a_function_answers(session: ExtSession) -> None:
    asked = []

    def answer(prompt: str, password: bool) -> str | None:
        asked.append((prompt, password))
        return f"answer {len(asked)}" if len(asked) < 3 else None

    source = "import getpass, warnings\nwarnings.simplefilter('ignore')\na = input('who? ')\nb = getpass.getpass('word? ')\nc = input()"
    results = session.execute(source, stdin=answer).wait(10)
    assert isinstance(results.error, EOFError)
    assert (session["a"], session["b"]) == ("answer 1", "answer 2")
    assert [password for _, password in asked] == [False, True, False]
    assert asked[0][0] == "who? "


def test_a_process_finds_no_input(session: ExtSession) -> None:
    assert out(session, "import subprocess; print(subprocess.run(['cat']).returncode)") == "0\n"


def test_the_barrier_never_shows(session: ExtSession) -> None:
    source = "import sys\nfor i in range(50): print(i); print(i, file=sys.stderr); sys.stdout.flush()"
    results: ExtResults = session.execute(source).wait(10)
    assert results.stdout == results.stderr == "".join(f"{i}\n" for i in range(50))


def test_as_the_interpreter_prints(session: ExtSession) -> None:
    source = "import sys\nfor i in range(300): sys.stdout.write(str(i)); print(end=';')\nprint(1, 2, sep='-', end='!', flush=True)"
    plain = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert out(session, source) == plain.stdout
