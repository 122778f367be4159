"""The census of a session's process: each finding, and its absence, on every CPython here.

The code of a test runs in a session. There `census()` is what the worker would find, `load(name)` one of the worker's
modules, `branch(function)` the text that a forked child returns, and `libc` has a thread that is not Python's.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession
from extsession._protocol.census import Census
from extsession._worker import holdings, runtimes

SOON = 30.0
PRELUDE = """
import os, sys
def _find():
    frame = sys._getframe()
    while type(frame.f_locals.get("self")).__name__ != "Server":
        frame = frame.f_back
    return frame.f_locals["self"], frame.f_globals["__builtins__"]["__import__"].__self__.load
server, load = _find()
def census(**options):
    return load("_worker.census").take(server.evaluator.loop, server.own_descriptors(), **options).to_wire()
def branch(function):
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            load("_worker.disown").disown()
            os.write(there, repr(function()).encode())
            os._exit(0)
        except BaseException as error:
            os.write(there, repr(error).encode())
        finally:
            os._exit(1)
    os.close(there)
    with open(here, "rb") as file:
        told = file.read().decode()
    os.waitpid(pid, 0)
    return told
"""
#: threads that Python does not know
NATIVE = """
import ctypes, threading
libc = ctypes.CDLL(None)
def start_native(name):
    thread = ctypes.c_ulong()
    assert not libc.pthread_create(ctypes.byref(thread), None, libc.sleep, ctypes.c_void_p(1000))
    assert not libc.pthread_setname_np(thread, name)
    return thread
def end_native(thread):
    assert not libc.pthread_cancel(thread)
    assert not libc.pthread_join(thread, None)
"""


class Session(ExtSession):
    """run: execute, and it must succeed; census: what would be found now."""

    def run(self, source: str) -> None:
        results = self.execute(source)
        results.wait(SOON)
        assert results.error is None, results.error

    def census(self, options: str = "") -> Census:
        return Census.from_wire(self.eval(f"census({options})"))

    def codes(self) -> dict[str, str]:
        return {each.code: each.verdict for each in self.census().findings}


@pytest.fixture
def each(each_python: Any) -> Iterator[Session]:
    """A session in each interpreter."""
    with Session(python=each_python.path) as session:
        session.run(PRELUDE)
        yield session


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as session:
        session.run(PRELUDE)
        yield session


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def test_the_docs_have_every_code_and_its_verdict() -> None:
    package = Path(holdings.__file__).parent
    source = (package / "census.py").read_text() + (package / "branch.py").read_text()
    found = re.findall(r'Finding\("([a-z-]+)", ([A-Z]+)', source)
    codes = {code: verdict.lower() for code, verdict in found}
    codes.update({code: verdict for code, (verdict, _) in holdings._CODES.items()})
    codes.update({runtimes.BLAS: "safe", runtimes.OPENMP: "safe"})
    page = (package.parents[1] / "docs" / "branching.md").read_text()
    assert dict(re.findall(r"^\| `([a-z-]+)` \| `([a-z]+)` \|", page, re.MULTILINE)) == codes


# nothing


def test_an_ordinary_session_is_safe_and_nothing_is_loaded(each: Session) -> None:
    each.run("before = set(sys.modules)\nfound = census()\nnew = set(sys.modules) - before")
    assert each.eval("found, new") == ({"findings": []}, set())
    each.run("import asyncio, concurrent.futures, multiprocessing.util, socket, sqlite3, subprocess, tempfile")
    each.run("await asyncio.sleep(0)\nsubprocess.run(['true'])\nopen(os.devnull).close()\nprint(1)")
    assert each.census() == Census()


def test_it_leaves_no_descriptor(each: Session) -> None:
    each.run(NATIVE + "file = open(os.__file__)\nthread = start_native(b'x')\ncensus()\nbefore = os.listdir('/proc/self/fd')")
    each.run("for _ in range(20): census()\nafter = os.listdir('/proc/self/fd')\nend_native(thread)")
    assert each.eval("before == after")


def test_an_ordinary_census_is_cheap(each: Session) -> None:
    each.run("import threading, asyncio, tempfile, weakref\nawait asyncio.sleep(0)")
    each.run(
        "import time\ntimes = []\n"
        "for _ in range(200):\n    start = time.perf_counter(); census(); times.append(time.perf_counter() - start)"
    )
    assert each.eval("min(times)") < 150e-6


# threads


def test_threads_are_named(each: Session) -> None:
    each.run(
        "import threading, _thread\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "go = threading.Event()\n"
        "threading.Thread(target=go.wait, name='plain').start()\n"
        "threading.Thread(target=go.wait, name='a daemon', daemon=True).start()\n"
        "pool = ThreadPoolExecutor(1)\npool.submit(int).result()"
    )
    census = each.census()
    assert census.verdict == "refused"
    assert census.threads == ("ThreadPoolExecutor-0_0", "a daemon", "plain")
    assert "hangs" in census.findings[0].why
    each.run("go.set()\npool.shutdown()\nfor thread in threading.enumerate()[1:]: thread.join()")
    assert each.census() == Census()


def test_a_thread_that_was_just_joined_is_none(each: Session) -> None:
    each.run(
        "import threading\nfound = []\n"
        "for _ in range(200):\n"
        "    thread = threading.Thread(target=int); thread.start(); thread.join()\n"
        "    found += census()['findings']"
    )
    assert each.eval("found") == []


def test_a_thread_without_threading_has_its_number(each: Session) -> None:
    each.run("import _thread, time\nlock = _thread.allocate_lock()\nlock.acquire()")
    each.run("ident = _thread.start_new_thread(lock.acquire, ())\ntime.sleep(0.05)")
    census = each.census()
    assert [finding.code for finding in census.findings] == ["threads"]
    assert census.threads == ("thread",)
    assert each.eval("'threading' in sys.modules") is False
    each.run("def f(): lock.acquire()\nident = _thread.start_new_thread(f, ())\ntime.sleep(0.05)")
    assert each.census().threads == ("thread", f"thread {each.eval('ident'):#x}")
    each.run("for _ in range(2):\n    while not lock.locked(): time.sleep(0.001)\n    lock.release()")
    each.run("while census()['findings']: time.sleep(0.001)")


def test_native_threads_are_named(each: Session) -> None:
    each.run(NATIVE)
    assert each.census() == Census()
    each.run("one, two = start_native(b'polars-0'), start_native(b'tokio-runtime-w')")
    census = each.census()
    assert each.codes() == {"native-threads": "refused"}
    assert sorted(census.threads) == ["polars-0", "tokio-runtime-w"]
    each.run("end_native(one)\nend_native(two)")
    assert each.census() == Census()


def test_native_threads_beside_those_of_python(each: Session) -> None:
    each.run(NATIVE + "go = threading.Event()\nthread = threading.Thread(target=go.wait, name='mine')\nthread.start()")
    assert each.codes() == {"threads": "refused"}
    each.run("native = start_native(b'other')")
    assert each.census().threads == ("mine", "other")
    each.run("go.set()\nthread.join()\nend_native(native)")


def test_a_thread_of_c_that_calls_python_is_found_once(each: Session) -> None:
    each.run(
        NATIVE + "go = threading.Event()\nseen = threading.Event()\n"
        "@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)\n"
        "def inside(_):\n    threading.current_thread().name = 'from C'\n    seen.set()\n    go.wait()\n"
        "native = ctypes.c_ulong()\nlibc.pthread_create(ctypes.byref(native), None, inside, None)\nseen.wait()"
    )
    assert each.census().threads == ("from C",)
    each.run("go.set()\nlibc.pthread_join(native, None)")
    assert each.census() == Census()


def test_without_proc_it_is_refused(each: Session) -> None:
    each.run("load('_worker.native')._TASKS = '/nowhere/task'")
    assert each.codes() == {"unseen": "refused"}


# threads that come back

BLAS = """
import numpy
a = numpy.arange(810000.0).reshape(900, 900) / 810000
def count(): return len(os.listdir("/proc/self/task"))
def product(): return float((a @ a).sum())
def expected(): return float((a.sum(axis=0) * a.sum(axis=1)).sum())
"""


@needs("numpy")
@pytest.mark.parametrize("symbol", ["blas_thread_shutdown_", "hidden"])
@pytest.mark.parametrize("scipy", [False, pytest.param(True, marks=needs("scipy"))])
def test_threads_of_openblas_are_ended_and_come_back(session: Session, symbol: str, scipy: bool) -> None:
    session.run(BLAS)
    if scipy:
        session.run("import scipy.linalg\nscipy.linalg.lu(a)")
    session.run("product()")
    before = session.eval("count()")
    if before == 1:
        pytest.skip("this NumPy has no threads here: one processor, or no OpenBLAS")
    session.run(f"load('_worker.runtimes')._SHUTDOWN = {symbol!r}\nmodules = set(sys.modules)")
    census = session.census()
    assert {finding.code: finding.verdict for finding in census.findings} == {"blas-threads": "safe"}
    assert all("blas" in name for name in census.names("blas-threads"))
    assert session.eval("count()") == 1
    assert session.eval("set(sys.modules) - modules") == set()
    assert float(session.eval("branch(product)")) == pytest.approx(session.eval("expected()"))
    assert session.eval("count()") == 1
    assert session.census() == Census()
    assert session.eval("product()") == pytest.approx(session.eval("expected()"))
    assert 1 < session.eval("count()") <= before
    assert session.codes() == {"blas-threads": "safe"}  # the libraries are known by now


@needs("numpy")
def test_openblas_is_left_alone_beside_other_threads(session: Session) -> None:
    session.run(BLAS + NATIVE + "product()\nbefore = count()")
    session.run("import threading\ngo = threading.Event()\nthread = threading.Thread(target=go.wait)\nthread.start()")
    assert session.census().verdict == "refused"
    assert session.eval("count() == before + 1")
    session.run("go.set()\nthread.join()\nnative = [start_native(b'other') for _ in range(3)]")
    assert session.codes() == {"native-threads": "refused"}
    assert session.eval("count() == before + 3")
    assert session.census("quiet=False").verdict == "refused"


@needs("numpy")
def test_a_census_need_not_end_threads(session: Session) -> None:
    session.run(BLAS + "product()\nbefore = count()")
    if session.eval("before") == 1:
        pytest.skip("this NumPy has no threads here")
    assert session.census("quiet=False").verdict == "refused"
    assert session.eval("count() == before")


@needs("numpy")
def test_nobody_is_told_of_the_fork_that_runs_the_handlers(session: Session) -> None:
    session.run(BLAS + "import signal\ntold = []\nsignal.signal(signal.SIGCHLD, lambda *args: told.append(args))")
    session.run("load('_worker.runtimes')._SHUTDOWN = 'hidden'\nproduct()\nfound = census()")
    assert session.eval("told") == []
    assert session.eval("count()") == 1
    session.run("import resource, subprocess\nsubprocess.run(['true'])")
    assert session.eval("len(told)") == 1
    assert session.eval("resource.getrlimit(resource.RLIMIT_NPROC)") == session.eval(
        "tuple(int(x) if x.isdigit() else -1 for x in open('/proc/self/limits').read()"
        ".partition('Max processes')[2].split()[:2])"
    )


@needs("numpy")
@pytest.mark.skipif(os.getuid() != 0, reason="needs to be root, to compare with what is done for another user")
def test_the_handlers_run_without_a_fork_for_a_plain_user(session: Session) -> None:
    session.run(BLAS + "load('_worker.runtimes')._SHUTDOWN = 'hidden'\nproduct()\nused = count() > 1\ncensus()")
    if not session.eval("used"):
        pytest.skip("this NumPy has no threads here")
    session.run("from resource import *\nos.setuid(65534)\nproduct()\nbefore = getrusage(RUSAGE_CHILDREN)\nfound = census()")
    assert session.eval("getrusage(RUSAGE_CHILDREN) == before")
    assert session.eval("count()") == 1
    assert session.eval("product()") == pytest.approx(session.eval("expected()"))


def test_ctypes_works_after_our_use_of_it(each: Session) -> None:
    each.run("load('_worker.runtimes')._functions()")
    assert each.eval("[name for name in sys.modules if 'ctypes' in name]") == []
    each.run(NATIVE + "numbers = (ctypes.c_int * 3)(3, 1, 2)")
    each.run("@ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.POINTER(ctypes.c_int)] * 2)\ndef compare(a, b): return a[0] - b[0]")
    each.run("libc.qsort(numbers, 3, 4, compare)")
    assert each.eval("list(numbers)") == [1, 2, 3]


OPENMP = """
#include <omp.h>
int run(int n) { int sum = 0;
#pragma omp parallel for num_threads(3) reduction(+:sum)
for (int i = 0; i < n; i++) sum += i;
return sum; }
"""


def test_threads_of_openmp_are_ended_and_come_back(session: Session, tmp_path: Path) -> None:
    library, source = tmp_path / "sum.so", tmp_path / "sum.c"
    source.write_text(OPENMP)
    try:
        subprocess.run(["gcc", "-shared", "-fPIC", "-fopenmp", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no gcc with OpenMP here")
    session.run(f"import ctypes\nrun = ctypes.CDLL({str(library)!r}).run\nassert run(100) == 4950")
    session.run("def count(): return len(os.listdir('/proc/self/task'))")
    assert session.eval("count()") == 3
    census = session.census()
    assert [(finding.code, finding.verdict) for finding in census.findings] == [("openmp-threads", "safe")]
    assert "gomp" in census.names("openmp-threads")[0]
    assert session.eval("count()") == 1
    assert session.eval("branch(lambda: run(100))") == "4950"
    assert session.eval("run(100)") == 4950
    assert session.eval("count()") == 3


@needs("polars")
def test_polars_is_refused(session: Session) -> None:
    session.run("import polars\npolars.DataFrame({'a': range(10)}).lazy().select(polars.col('a').sum()).collect()")
    census = session.census()
    assert census.verdict == "refused"
    assert any("polars" in name for name in census.threads)


# a GPU


def test_an_initialised_gpu_is_refused(each: Session) -> None:
    each.run(
        "import types\ncuda = sys.modules['torch.cuda'] = types.ModuleType('torch.cuda')\n"
        "cuda.is_initialized = lambda: False"
    )
    assert each.census() == Census()
    each.run("cuda.is_initialized = lambda: True")
    census = each.census()
    assert (census.verdict, census.names("gpu")) == ("refused", ("torch.cuda",))
    each.run("del cuda.is_initialized")
    assert each.census() == Census()


def test_an_open_gpu_device_is_refused(each: Session, tmp_path: Path) -> None:
    device = tmp_path / "nvidia0"
    device.touch()
    each.run(f"load('_worker.holdings')._GPU = ({str(device)!r},)\nfd = os.open({str(device)!r}, os.O_RDONLY)")
    census = each.census()
    assert (census.verdict, census.names("gpu")) == ("refused", (f"{each.eval('fd')}: {device}",))
    each.run("os.close(fd)")
    assert each.census() == Census()


# tasks and the loop


def test_tasks_are_named(each: Session) -> None:
    each.run("import asyncio\nasync def wait(): await asyncio.sleep(1000)")
    each.run("async def start():\n    global task\n    task = asyncio.ensure_future(wait())\nawait start()")
    census = each.census()
    assert census.verdict == "risky"
    [name] = census.names("tasks")
    assert name.startswith("Task-") and name.endswith("(wait)")
    each.run("task.cancel()\nawait asyncio.sleep(0)")
    assert each.census() == Census()


def test_the_loop_goes_on_in_the_branch_by_itself(each: Session) -> None:
    each.run(
        "import asyncio, socket\nleft, right = socket.socketpair()\nloop = None\n"
        "async def start():\n    global loop\n    loop = asyncio.get_running_loop()\n    loop.add_reader(left, got.append, 1)\n"
        "got = []\nawait start()"
    )
    each.run(
        "def go_on():\n"
        "    server.evaluator.loop.renew()\n"
        "    async def wake():\n"
        "        woken = loop.create_future()\n"
        "        loop.call_soon_threadsafe(woken.set_result, 'woken')\n"
        "        return await woken\n"
        "    told = loop.run_until_complete(wake())\n"
        "    loop._write_to_self()\n"  # nobody reads it here
        "    loop.remove_reader(left)\n"
        "    return told"
    )
    assert each.eval("branch(go_on)") == "'woken'"
    each.run("import select\nwaiting = select.select([loop._ssock], [], [], 0)[0]")
    assert each.eval("waiting") == []
    each.run("right.send(b'x')\nawait asyncio.sleep(0.01)")
    assert each.eval("bool(got)"), "the branch removed the session's reader"
    each.run("loop.remove_reader(left)\nleft.close()\nright.close()")
    assert each.census() == Census()


# children


def test_children_are_named(each: Session) -> None:
    each.run("import subprocess\nprocess = subprocess.Popen(['sleep', '1000'])")
    census = each.census()
    assert census.verdict == "risky"
    assert census.names("children") == (f"{each.eval('process.pid')}: sleep 1000",)
    each.run("process.kill()\nos.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)")
    assert census.verdict == "risky"
    assert each.census().names("children") == (f"{each.eval('process.pid')}: sleep (ended, not waited for)",)
    each.run("process.wait()")
    assert each.census() == Census()


def test_an_ended_child_that_nobody_asks_for_is_none(each: Session) -> None:
    each.run("import subprocess, warnings\nwarnings.simplefilter('ignore')\nr, w = os.pipe()")
    each.run("pid = subprocess.Popen(['cat'], stdin=r).pid\nos.close(r)")  # the object is gone before the process is
    assert each.codes() == {"children": "risky", "pipes": "risky"}
    each.run("os.close(w)\nos.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)")
    assert each.census() == Census()


# descriptors


def test_sockets_and_pipes_are_risky(each: Session) -> None:
    each.run("import socket\na, b = socket.socketpair()\nt = socket.create_server(('127.0.0.1', 0))\nr, w = os.pipe()")
    assert each.codes() == {"sockets": "risky", "pipes": "risky"}
    census = each.census()
    assert len(census.names("sockets")) == 3 and len(census.names("pipes")) == 2
    port = each.eval("t.getsockname()[1]")
    assert f"{each.eval('t.fileno()')}: 127.0.0.1 port {port}" in census.names("sockets")
    each.run("u = socket.create_connection(t.getsockname())\nv = t.accept()[0]")
    assert any(name.endswith(f" to 127.0.0.1 port {port}") for name in each.census().names("sockets"))
    each.run("for each in (a, b, t, u, v): each.close()\nos.close(r)\nos.close(w)")
    assert each.census() == Census()


def test_to_look_at_a_socket_does_not_change_it(each: Session) -> None:
    each.run("import socket\na, b = socket.socketpair()\nsocket.setdefaulttimeout(5)\ncensus()")
    assert each.eval("os.get_blocking(a.fileno())") is True
    assert len(each.census().names("sockets")) == 2
    each.run("socket.setdefaulttimeout(None)\ncensus()\na.send(b'x')")
    assert each.eval("b.recv(1), a.gettimeout()") == (b"x", None)


def test_copies_of_the_streams_do_not_count(each: Session) -> None:
    each.run("saved = os.dup(1), os.dup(2)")
    assert each.census() == Census()


def test_files_are_safe(each: Session, tmp_path: Path) -> None:
    each.run(f"one = open({str(tmp_path / 'one')!r}, 'w')\ntwo = open(os.__file__)\nfolder = os.open('/', os.O_RDONLY)")
    assert each.codes() == {"files": "safe"}
    assert each.census().names("files") == (
        f"{each.eval('one.fileno()')}: {tmp_path / 'one'} (for writing)",
        f"{each.eval('two.fileno()')}: {each.eval('os.path.realpath(os.__file__)')}",
    )
    assert each.census().verdict == "safe"
    each.run("one.close()\ntwo.close()\nos.close(folder)")
    assert each.census() == Census()


def test_named_pipes_and_terminals_are_risky_and_null_is_not(each: Session, tmp_path: Path) -> None:
    each.run("null = open(os.devnull), open('/dev/urandom', 'rb')")
    assert each.census() == Census()
    each.run(f"os.mkfifo({str(tmp_path / 'fifo')!r})\nfifo = os.open({str(tmp_path / 'fifo')!r}, os.O_RDWR)")
    assert each.codes() == {"pipes": "risky"}
    each.run("os.close(fifo)\nmaster, slave = os.openpty()")
    assert len(each.census().names("pipes")) == 2


def test_kernel_objects_are_risky(each: Session) -> None:
    each.run("import select\nepoll = select.epoll()")
    assert each.codes() == {"events": "risky"}
    assert each.census().names("events") == (f"{each.eval('epoll.fileno()')}: anon_inode:[eventpoll]",)
    each.run("epoll.close()\npid = os.pidfd_open(os.getpid()) if hasattr(os, 'pidfd_open') else -1")
    assert each.census() == Census()


def test_shared_memory_is_safe(each: Session) -> None:
    each.run("fd = os.memfd_create('mine')")
    assert each.codes() == {"shared-memory": "safe"}
    assert each.census().names("shared-memory")[0].endswith("/memfd:mine (deleted) (for writing)")


def test_a_database_is_risky(each: Session, tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    each.run(f"import sqlite3\nbase = sqlite3.connect({str(path)!r})\nbase.execute('create table t (x)')\nbase.commit()")
    census = each.census()
    assert (census.verdict, [name.split()[1] for name in census.names("databases")]) == ("risky", [str(path)])
    each.run("base.close()\nbase = sqlite3.connect(':memory:')\nbase.execute('create table t (x)')")
    assert each.census() == Census()


# temporary directories and files


def test_temporary_directories_are_deleted_once(each: Session) -> None:
    each.run("import tempfile\nfolder = tempfile.TemporaryDirectory()")
    path = each.eval("folder.name")
    assert each.codes() == {"temporary-directories": "safe"}
    assert each.census().names("temporary-directories") == (path,)
    # a child that ends as an interpreter ends
    each.run("pid = os.fork()\nif not pid:\n    load('_worker.disown').disown()\n    raise SystemExit")
    assert each.eval("os.waitpid(pid, 0)[1]") == 0
    assert os.path.isdir(path)
    each.run("def drop():\n    global folder\n    del folder\n    return os.path.isdir(%r)" % path)
    assert each.eval("branch(drop)") == "True"
    each.run("folder.cleanup()")
    assert not os.path.isdir(path)
    assert each.census() == Census()


def test_without_disowning_the_directory_would_be_gone(each: Session) -> None:
    each.run("import tempfile\nfolder = tempfile.TemporaryDirectory()\npid = os.fork()\nif not pid: raise SystemExit")
    each.run("os.waitpid(pid, 0)")
    assert not os.path.isdir(each.eval("folder.name"))


def test_temporary_files_are_deleted_once(each: Session) -> None:
    each.run("import tempfile\nfile = tempfile.NamedTemporaryFile('w')\nkept = tempfile.NamedTemporaryFile(delete=False)")
    path, kept = each.eval("(file.name, kept.name)")
    each.run(
        "def end():\n"
        "    global file\n"
        "    file.close()\n"
        "    again = tempfile.NamedTemporaryFile()\n"
        "    load('_worker.disown').disown_temporaries()\n"  # a branch of the branch
        "    new = tempfile.NamedTemporaryFile()\n"
        "    names = again.name, new.name\n"
        "    again.close(); new.close()\n"
        "    del file\n"
        "    result = [os.path.exists(name) for name in names], tempfile._TemporaryFileCloser.__name__\n"
        "    os.unlink(names[0])\n"
        "    return result"
    )
    assert each.eval("branch(end)") == "([True, False], '_TemporaryFileCloser')"
    assert os.path.exists(path)
    each.run("file.close()\nkept.close()")
    assert not os.path.exists(path) and os.path.exists(kept)
    os.unlink(kept)
    each.run("with tempfile.NamedTemporaryFile() as file: pass")
    assert each.eval("os.path.exists(file.name)") is False


# multiprocessing


def test_helpers_of_multiprocessing_are_safe_and_stay_with_the_session(each: Session) -> None:
    each.run("from multiprocessing import resource_tracker, forkserver\nresource_tracker.ensure_running()")
    assert each.codes() == {"multiprocessing": "safe"}
    assert each.census().names("multiprocessing") == ("resource tracker",)
    each.run(
        "def own():\n"
        "    tracker = resource_tracker._resource_tracker\n"
        "    before = tracker._fd, tracker._pid\n"
        "    tracker.ensure_running()\n"
        "    pid = tracker._pid\n"
        "    os.close(tracker._fd)\n"
        "    os.waitpid(pid, 0)\n"
        "    return before, pid != parent\n"
        "parent = resource_tracker._resource_tracker._pid"
    )
    assert each.eval("branch(own)") == "((None, None), True)"
    each.run("os.close(resource_tracker._resource_tracker._fd)\nos.waitpid(parent, 0)")  # it ends: nobody else holds it
    each.run("resource_tracker._resource_tracker._fd = resource_tracker._resource_tracker._pid = None")
    assert each.census() == Census()


def test_daemonic_processes_are_not_terminated_by_the_branch(each: Session) -> None:
    each.run(
        "import multiprocessing, time\nfork = multiprocessing.get_context('fork')\n"
        "process = fork.Process(target=time.sleep, args=(1000,), daemon=True)\nprocess.start()"
    )
    census = each.census()
    assert census.verdict == "risky"
    assert len(census.names("children")) == 1
    each.run("pid = os.fork()\nif not pid:\n    load('_worker.disown').disown()\n    raise SystemExit")
    each.run("os.waitpid(pid, 0)\nprocess.join(0.2)")
    assert each.eval("process.is_alive()")
    each.run("process.terminate()\nprocess.join()")
