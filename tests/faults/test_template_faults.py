"""Templates that are killed, stopped, starved or broken: each session starts or says why, and others are unharmed."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, LaunchError, TemplateInfo, templates, warm_up
from extsession._launch import template as template_module

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="templates are made on Linux only")

SOON = 20.0
ROOT = Path(__file__).parent.parent.parent


class Family:
    """A template of this test's own, and what belongs to it."""

    def __init__(self, name: str, **options: Any) -> None:
        self.options = {"env": {**os.environ, "EXTSESSION_TEST": name}, **options}
        self.pid = 0
        self.warm()

    def warm(self) -> TemplateInfo:
        template = warm_up(**self.options)
        assert template is not None
        self.pid = template.pid
        return template

    def start(self, **options: Any) -> ExtSession:
        return ExtSession(**{**self.options, **options})

    @property
    def warden(self) -> int:
        return int(Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()[1])

    @property
    def is_known(self) -> bool:
        return self.pid in [each.pid for each in templates()]


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    family = Family(request.node.name)
    yield family
    for each in templates():
        if each.pid == family.pid:
            each.end()


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def works(session: ExtSession) -> bool:
    return session.execute("print(6 * 7)").wait(SOON).stdout == "42\n"


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


# killed


def test_killed_before_it_is_asked(family: Family, watch: Any) -> None:
    with family.start() as before:
        os.kill(family.pid, signal.SIGKILL)
        assert watch.gone([family.pid], SOON)
        with family.start() as session:
            assert works(session)
            assert parent(session.pid) != parent(before.pid)  # type: ignore[arg-type]
        assert works(before)


def killed_when_stopped(pid: int) -> Callable[[], None]:
    """Stop a process now; what is called later kills it, with all that was sent to it unread."""
    os.kill(pid, signal.SIGSTOP)
    return lambda: kill(pid)


@pytest.mark.parametrize("which", ["template", "warden"])
def test_killed_when_it_has_been_asked(family: Family, which: str, watch: Any) -> None:
    """The order is in its channel, with the descriptors, and nobody reads it any more. Another one is started."""
    with family.start() as before:
        end = killed_when_stopped(family.pid)
        if which == "warden":
            warden = family.warden
            end = functools.partial(kill, warden)
        timer = threading.Timer(0.1, end)
        timer.start()
        with family.start() as session:
            assert works(session)
        timer.join()
        if which == "template":
            assert works(before)
        else:
            assert not before.is_alive or watch.until(lambda: not before.is_alive, SOON)
        with family.start() as session:
            assert works(session)


def test_many_asked_when_it_is_killed(family: Family) -> None:
    """In several threads, one after the other in its channel."""
    with family.start() as before:
        end = killed_when_stopped(family.pid)
        results: list[bool] = []
        errors: list[BaseException] = []

        def start() -> None:
            try:
                with family.start() as session:
                    results.append(works(session))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        end()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert results == [True] * 6
        assert works(before)


@pytest.mark.parametrize("delay", [0.0, 0.0003, 0.001, 0.002, 0.005])
def test_killed_at_some_moment(family: Family, delay: float) -> None:
    """While it forks, passes descriptors, or just has. A session starts each time; the others go on."""
    with family.start() as before:
        for _ in range(10):
            pid = family.warm().pid
            timer = threading.Timer(delay, kill, (pid,))
            timer.start()
            with family.start() as session:
                assert works(session)
            timer.join()
        assert works(before)


def test_killed_while_it_is_started(watch: Any, tmp_path: Path) -> None:
    """During the probe of what it can do: a preload that never ends."""
    (tmp_path / "endless.py").write_text(f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}} ')\ntime.sleep(1000)")
    killed: list[int] = []

    def end() -> None:
        path = tmp_path / "pid"
        assert watch.until(lambda: path.exists() and path.read_text().endswith(" "), SOON)
        killed.append(int(path.read_text()))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(LaunchError, match=r"'endless'.*SIGKILL"):
        ExtSession(preload=["endless"], env={**os.environ, "PYTHONPATH": str(tmp_path)})
    thread.join()


def test_its_warden_is_killed_while_it_is_started(watch: Any, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}} ')\ntime.sleep(1000)")
    killed: list[int] = []

    def end() -> None:
        path = tmp_path / "pid"
        assert watch.until(lambda: path.exists() and path.read_text().endswith(" "), SOON)
        killed.append(int(path.read_text()))
        os.kill(watch.parent(killed[0]), signal.SIGKILL)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(LaunchError, match="'endless'"):
        ExtSession(preload=["endless"], env={**os.environ, "PYTHONPATH": str(tmp_path)})
    thread.join()
    assert watch.gone(killed)


def test_a_killed_template_is_no_template(family: Family, watch: Any) -> None:
    os.kill(family.pid, signal.SIGKILL)
    assert watch.gone([family.pid], SOON)
    assert watch.until(lambda: not family.is_known)
    assert not Path(f"/proc/{family.pid}").exists()  # no zombie


def test_the_warden_is_killed(family: Family, watch: Any) -> None:
    """All that it watched over ends; sessions say so, and there are new ones."""
    with family.start() as session, family.start() as busy:
        results = busy.execute("while True: pass")
        pids = [family.pid, session.pid, busy.pid]
        os.kill(family.warden, signal.SIGKILL)
        results.wait(SOON)
        assert results.error is not None
        assert watch.until(lambda: not session.is_alive, SOON)
        assert watch.gone(pids)
        with family.start() as fresh:
            assert works(fresh)


# stopped


def test_stopped(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session that asked it ends with an error in time; the next one has another."""
    with family.start() as before:
        os.kill(family.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(LaunchError, match="in time"):
            family.start(start_timeout=1.5)
        assert time.monotonic() - began < 15
        assert works(before)
        with family.start(start_timeout=15) as session:
            assert works(session)
        assert works(before)
    assert not family.is_known


def test_stopped_and_asked_by_many(family: Family) -> None:
    """Nobody waits for room in its channel: whoever finds none is spawned."""
    template = next(each for each in templates() if each.pid == family.pid)._template
    os.kill(family.pid, signal.SIGSTOP)
    made = []
    try:
        with pytest.raises(BlockingIOError):
            for _ in range(2000):
                made.append(template._make())
        with family.start() as session:
            assert works(session)
    finally:
        for each in made:
            each.discard()
        os.kill(family.pid, signal.SIGCONT)


def test_stopped_and_ended(family: Family, watch: Any) -> None:
    warden = family.warden
    os.kill(family.pid, signal.SIGSTOP)
    next(each for each in templates() if each.pid == family.pid).end()
    assert watch.gone([family.pid, warden])


def test_its_warden_stopped_and_ended(family: Family, watch: Any) -> None:
    warden = family.warden
    with family.start() as session:
        os.kill(warden, signal.SIGSTOP)
        assert works(session)
        pid = session.pid
    assert watch.gone([pid])
    os.kill(warden, signal.SIGSTOP)
    next(each for each in templates() if each.pid == family.pid).end()
    assert watch.gone([family.pid, warden])


def test_a_session_is_asked_for_while_the_warden_is_stopped(family: Family) -> None:
    os.kill(family.warden, signal.SIGSTOP)
    with family.start() as session:
        assert works(session)


# what it is told


def test_a_large_environment(family: Family) -> None:
    """It does not fit into a socket at once."""
    env = {**family.options["env"], **{f"LARGE_{index}": "x" * 100_000 for index in range(10)}}
    with family.start(env=env) as session:
        assert session.eval("sum(len(v) for k, v in __import__('os').environ.items() if k.startswith('LARGE'))") == 10**6
        assert works(session)


# few resources


def test_no_descriptors_in_the_controller(family: Family) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with family.start() as session:
        used = len(os.listdir("/proc/self/fd"))
        try:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, before[1]))
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            for free in range(12):
                for fd in taken[:free]:
                    os.close(fd)
                try:
                    family.start().close()
                except LaunchError as error:
                    assert "Too many open files" in str(error)
                else:
                    assert free >= 5
                for index in range(free):
                    taken[index] = os.open("/dev/null", os.O_RDONLY)
            assert works(session)
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert len(os.listdir("/proc/self/fd")) <= used + 1
    with family.start() as session:
        assert works(session)


#: a program that may have few processes, as a user who is not root. After `limit()` it can start none.
FEW = """
import os, resource, sys, time
sys.path.insert(0, %r)
from extsession import *
def limit():
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
def said(what, *expected):
    try:
        what()
    except expected as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("no error")
"""


@pytest.fixture
def as_a_user(tmp_path: Path) -> Callable[[str], str]:
    """Run a program as an ordinary user, whose number of processes the kernel limits; its output."""
    if os.geteuid():
        prefix = []
    elif not (setpriv := next((p for p in ("/usr/bin/setpriv", "/bin/setpriv") if os.path.exists(p)), None)):
        pytest.skip("no setpriv on this machine")
    else:
        prefix = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]

    def run(code: str) -> str:
        import shutil

        copy = tmp_path / "copy"
        shutil.copytree(ROOT / "extsession", copy / "extsession")
        for folder in (*reversed(copy.parents[:3]), copy):
            if os.stat(folder).st_uid == os.geteuid() and not os.stat(folder).st_mode & 0o001:
                folder.chmod(0o755)
        home = tmp_path / "home"
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        program = FEW % os.fspath(copy) + textwrap.dedent(code)
        probe = subprocess.run([*prefix, sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import extsession; extsession.ExtSession().close()", copy], cwd=copy, capture_output=True, text=True)
        if probe.returncode:
            pytest.skip(f"another user cannot run this interpreter: {probe.stderr[-300:]}")
        result = subprocess.run(
            [*prefix, sys.executable, "-B", "-c", program], cwd=copy, capture_output=True, text=True, timeout=100,
            env={**os.environ, "HOME": os.fspath(home)},
        )
        assert result.stderr == ""
        return result.stdout

    return run


def test_no_more_processes(as_a_user: Callable[[str], str]) -> None:
    out = as_a_user(
        """
        s = ExtSession()
        s.execute("x = 1").wait()
        s.checkpoint("here")
        r = ExtSession(recover=True)
        r.execute("x = 1").wait()
        used = len(os.listdir('/proc/self/fd'))
        inside = "len(__import__('os').listdir('/proc/self/fd'))"
        s.eval(inside)
        used_inside = s.eval(inside)
        for session in (s, r):
            session.execute("import resource; resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))").wait()
        limit()
        for _ in range(5):
            said(lambda: ExtSession(warm=False), LaunchError)
            said(lambda: s.fork(), LaunchError)
            said(lambda: s.checkpoint(), LaunchError)
        print(s.eval("x"), s.eval(inside) - used_inside, len(os.listdir('/proc/self/fd')) <= used)
        r.execute("x = 2").wait()
        print(r.eval("x"), r.statistics().unprotected)
        s.close(); r.close()
        """
    )
    lines = out.splitlines()
    for line in lines[:15]:
        assert line.startswith("LaunchError")
        assert "Resource temporarily unavailable" in line
    assert lines[15] == "1 0 True"
    assert lines[16].startswith("2 ")
    assert "Resource temporarily unavailable" in lines[16]


def test_an_ordinary_user_has_all_of_it(as_a_user: Callable[[str], str]) -> None:
    """Marks, which an ordinary user can only lower; orphans; branches of branches; rollbacks."""
    out = as_a_user(
        """
        ORPHAN = '''
        import os
        def orphan():
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setsid()
                if os.fork() == 0:
                    os.write(writing, b'%d' % os.getpid())
                    os.closerange(0, 5000)
                    while True: time.sleep(1000)
                os._exit(0)
            os.waitpid(pid, 0)
            found = int(os.read(reading, 100))
            os.close(reading); os.close(writing)
            return found
        import time
        '''
        def there(pid):
            try:
                return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] not in 'ZX'
            except OSError:
                return False
        s = ExtSession(recover=True)
        s.execute(ORPHAN).wait()
        s.checkpoint("start")
        first = s.eval("orphan()")
        b = s.fork(force=True)
        second = b.eval("orphan()")
        c = b.fork(force=True)
        third = c.eval("orphan()")
        b.close()
        print(there(first), there(second), there(third))
        s.rollback("start")
        print(there(first), there(third))
        fourth = s.eval("orphan()")
        s.execute("os._exit(1)").wait()
        print(there(fourth), there(third), s.eval("1 + 1"))
        c.close(); s.close()
        print(there(third))
        """
    )
    assert out.splitlines() == ["True False True", "False True", "False True 2", "False"]


# idle


def test_an_idle_template_ends(monkeypatch: pytest.MonkeyPatch, watch: Any) -> None:
    monkeypatch.setattr(template_module, "IDLE", 0.2)
    family = Family("idle")
    warden = family.warden
    with family.start() as session:
        assert watch.gone([family.pid], SOON)
        assert watch.until(lambda: not Path(f"/proc/{family.pid}").exists(), SOON)  # collected, by nobody's asking
        assert watch.state(warden) not in ("", "Z")
        assert works(session)
        with family.start() as another:
            assert works(another)
    assert watch.gone([warden])
    family.warm()
    watch.gone([family.pid], SOON)


def test_asked_at_the_very_end_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is replaced, or still serves: each session starts."""
    monkeypatch.setattr(template_module, "IDLE", 0.05)
    family = Family("the very end")
    began = time.monotonic()
    for turn in range(12):
        family.warm()
        until = time.monotonic() + 0.046 + turn * 0.0007
        while time.monotonic() < until:
            pass
        with family.start() as session:
            assert works(session)
    assert time.monotonic() - began < 100


def test_an_idle_template_that_is_stopped_is_ended(monkeypatch: pytest.MonkeyPatch, watch: Any) -> None:
    monkeypatch.setattr(template_module, "IDLE", 0.1)
    monkeypatch.setattr(template_module, "_OVERDUE", 1.5)
    family = Family("stopped and idle")
    os.kill(family.pid, signal.SIGSTOP)
    assert watch.gone([family.pid], SOON)
    assert watch.until(lambda: not family.is_known)


# preloads


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Options for a session that preloads a module with this code."""

    def make(code: str) -> dict[str, Any]:
        (tmp_path / "preloaded.py").write_text(textwrap.dedent(code))
        return {"preload": ["preloaded"], "env": {**os.environ, "PYTHONPATH": os.fspath(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}}

    return make


PRELOADS = {
    "fails": ("import sys; sys.stderr.write('trouble\\n'); 1 / 0", "'preloaded' failed: ZeroDivisionError", "trouble"),
    "imports what is missing": ("import no_such_module", "'preloaded' failed: ModuleNotFoundError.*no_such_module", "Traceback"),
    "has a syntax error": ("print('x'\n", "'preloaded' failed: SyntaxError", "SyntaxError"),
    "prints": ("print('hello')", "'preloaded' printed", "hello"),
    "prints with C": ("import os; os.write(2, b'hello')", "'preloaded' printed", "hello"),
    "starts a thread": (
        "import threading, time\nprint('hello')\nthreading.Thread(target=time.sleep, args=(1000,), name='worker', daemon=True).start()",
        "'preloaded' failed: it started threads.*worker", "hello",
    ),
    "exits": ("import sys; print('bye'); sys.exit(3)", "'preloaded' failed: SystemExit: 3", "bye"),
    "exits at once": ("import os; print('bye', flush=True); os._exit(3)", "'preloaded' ended .exit status 3", "bye"),
    "crashes": ("import ctypes; print('bye', flush=True); ctypes.string_at(0)", "'preloaded' ended .killed by SIGSEGV", "bye"),
    "kills itself": ("import os; print('bye', flush=True); os.kill(os.getpid(), 9)", "'preloaded' ended .killed by SIGKILL", "bye"),
    "is interrupted": ("raise KeyboardInterrupt('x')", "'preloaded' failed: KeyboardInterrupt", "Traceback"),
    "forks and leaves a child": (
        "import os, time\nif os.fork() == 0: time.sleep(1000)", "'preloaded' failed: it started processes", "",
    ),
    "forks and both go on": ("import os; os.fork(); import time; time.sleep(0.2)", "'preloaded' failed: it started processes", ""),
    "starts a subprocess": (
        "import subprocess; p = subprocess.Popen(['sleep', '1000'])", "'preloaded' failed: it started processes", "",
    ),
    "closes everything": ("import os; os.closerange(0, 5000)", "'preloaded'", ""),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", PRELOADS)
def test_a_preload_that(case: str, module: Callable[[str], dict[str, Any]]) -> None:
    code, expected, printed = PRELOADS[case]
    with pytest.raises(LaunchError, match=expected) as caught:
        ExtSession(**module(code), start_timeout=20)
    assert caught.value.stderr is not None
    assert printed in caught.value.stderr
    assert printed in str(caught.value)
    assert caught.value.python == sys.executable


def test_a_preload_that_never_ends(module: Callable[[str], dict[str, Any]]) -> None:
    began = time.monotonic()
    with pytest.raises(LaunchError, match=r"'preloaded' did not end in time.*working") as caught:
        ExtSession(**module("import sys, time\nprint('working', flush=True)\nwhile True: time.sleep(1)"), start_timeout=2)
    assert time.monotonic() - began < 20
    assert caught.value.stderr == "working\n"


def test_a_preload_that_prints_without_end(module: Callable[[str], dict[str, Any]]) -> None:
    with pytest.raises(LaunchError, match="'preloaded' did not end in time") as caught:
        ExtSession(**module("while True: print('x' * 1000)"), start_timeout=2)
    assert caught.value.stderr is not None
    assert 0 < len(caught.value.stderr) < 100_000


@pytest.mark.filterwarnings("ignore")
def test_a_preload_that_runs_a_subprocess(module: Callable[[str], dict[str, Any]]) -> None:
    """And waits for it: nothing is left, so nothing is wrong."""
    with ExtSession(**module("import subprocess; out = subprocess.check_output(['echo', 'x'])")) as session:
        assert session.eval("__import__('preloaded').out") == b"x\n"
        assert session.execute("print(1)").wait(SOON).completion.usage is not None


def test_a_preload_that_blocks_the_other_signals(module: Callable[[str], dict[str, Any]]) -> None:
    """What it changes is there in each session, as with a spawned one."""
    with ExtSession(**module("import sys, os; sys.argv.append('y'); os.chdir('/tmp'); x = []")) as session:
        assert session.eval("__import__('os').getcwd()") == os.getcwd()
        assert works(session)


def test_a_preload_that_failed_is_tried_again(module: Callable[[str], dict[str, Any]]) -> None:
    with pytest.raises(LaunchError):
        ExtSession(**module("1 / 0"))
    with ExtSession(**module("x = 1")) as session:
        assert session.eval("__import__('preloaded').x") == 1


def test_a_module_that_was_edited(module: Callable[[str], dict[str, Any]]) -> None:
    for number in range(3):
        with ExtSession(**module(f"x = {number}" + " " * number)) as session:
            assert session.eval("__import__('preloaded').x") == number


# the collector


def test_sessions_that_the_collector_ends_in_the_middle_of_anything(family: Family) -> None:
    """Also while another one of the same template starts or ends."""
    done = threading.Event()

    def work() -> None:
        for _ in range(30):
            session = family.start()
            cycle: list[Any] = [session]
            cycle.append(cycle)
            session.checkpoint()
            del session, cycle
            with family.start() as other:
                other.checkpoint("a")
                assert other.checkpoints
        done.set()

    threshold = gc.get_threshold()
    gc.set_threshold(20)
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert done.wait(100)
        thread.join()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
