"""Finding and probing interpreters: real ones of this machine, and shell scripts that pretend to be one."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from extsession._launch import interpreter, places
from extsession._launch.interpreter import Interpreter, candidates, find, probe
from extsession.errors import InterpreterError, LaunchError

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(body: str, name: str = "fake") -> Path:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + body + "\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget for one test what was found before."""
    monkeypatch.setattr("extsession._launch.probe._probed", {})
    monkeypatch.setattr(interpreter, "_looked_up", {})


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nothing_known: None) -> Path:
    """A folder that is all of PATH; the usual places are empty."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(interpreter, "usual_places", lambda version=(): iter(()))
    return folder


def _refused(python: object, **kwargs: object) -> InterpreterError:
    with pytest.raises(InterpreterError) as caught:
        find(python, **kwargs)  # type: ignore[arg-type]
    return caught.value


def _base() -> str:
    return os.path.join(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")


# -- real ones


def test_nothing_is_this_interpreter_and_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    this = find()
    assert this.path == sys.executable
    assert this.version == sys.version_info[:3]
    assert this.magic == importlib.util.MAGIC_NUMBER
    assert this.is_this
    assert this.payload is None


@pytest.mark.parametrize("executable", ["", None])
def test_a_process_that_does_not_know_its_interpreter(
    monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert "sys.executable" in str(_refused(None))


def test_this_interpreter_may_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "'/nowhere/python'" in str(_refused(None))


def test_probing_this_interpreter_tells_the_same() -> None:
    assert probe(sys.executable) == find()


def test_every_interpreter_says_what_it_is(each_python: Interpreter) -> None:
    said = subprocess.run(
        [each_python.path, "-c", "import sys; print(*sys.version_info[:3]); print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said == [" ".join(map(str, each_python.version)), each_python.prefix]
    assert each_python.implementation == "cpython"
    assert each_python.cache_tag == f"cpython-{each_python.version[0]}{each_python.version[1]}"
    assert len(each_python.magic) == 4


def test_every_interpreter_is_found_by_its_version(each_python: Interpreter) -> None:
    number = ".".join(map(str, each_python.version))
    assert find(number).version == each_python.version
    minor = number.rpartition(".")[0]
    assert find(minor).version[:2] == each_python.version[:2]
    assert find(f"python{minor}") == find(minor)


def test_every_interpreter_compiles_a_payload(each_python: Interpreter) -> None:
    sources = {"a": "def f():\n    return '\xe9 \u20ac'\n", "b.c": "x = 1\n"}
    one = probe(each_python.path, sources=sources)
    if one.magic == importlib.util.MAGIC_NUMBER:
        assert one.payload is None
        return
    assert one.payload is not None
    assert "payload" not in repr(one)
    assert one == each_python
    run = (
        "import sys, marshal; codes = marshal.loads(sys.stdin.buffer.read()); space = {}; "
        "exec(marshal.loads(codes['a']), space); exec(marshal.loads(codes['b.c']), space); "
        "print(ascii(space['f']()), space['x'], marshal.loads(codes['a']).co_filename)"
    )
    done = subprocess.run([one.path, "-c", run], input=one.payload, capture_output=True, check=True)
    assert done.stdout.split() == [b"'\\xe9", b"\\u20ac'", b"1", b"<extsession>/a.py"]
    # Without sources it is the same answer without the payload, and nothing is asked again.
    assert probe(one.path).payload is None


def test_candidates_are_usable_and_newest_first(pythons: list[Interpreter]) -> None:
    assert [one.version for one in pythons] == sorted((one.version for one in pythons), reverse=True)
    assert all(one.version >= (3, 8) for one in pythons)
    real = [os.path.realpath(one.path) for one in pythons]
    assert len(set(real)) == len(real)
    assert find() in pythons


def test_candidates_survive_what_is_no_python(only_path: Path, script: Script) -> None:
    script("exit 3").rename(only_path / "python3")
    assert candidates() == [find()]


def test_a_virtual_environment_by_its_folder_keeps_its_python(tmp_path: Path) -> None:
    venv = tmp_path / "some venv"
    subprocess.run([_base(), "-m", "venv", "--without-pip", str(venv)], check=True)
    for python in (str(venv), venv, str(venv) + "/", venv / "bin" / "python"):
        one = find(python)
        assert one.path == str(venv / "bin" / "python")
        assert one.prefix == str(venv)
        assert not one.is_this


def test_a_relative_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(sys.executable))
    assert find("./" + os.path.basename(sys.executable)).path == sys.executable
    monkeypatch.chdir("/")
    assert find(sys.executable[1:]).path == sys.executable


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "mypython"
    link.symlink_to(_base())
    assert find(link).path == str(link)


@pytest.mark.parametrize("number", ["2.7", "3.6", "3.7"])
def test_a_real_old_interpreter_is_too_old(number: str) -> None:
    found = [path for path in places.usual_places(tuple(map(int, number.split(".")))) if number in path]
    if not found:
        pytest.skip(f"no Python {number} on this machine")
    error = _refused(found[0])
    assert found[0] in str(error)
    assert f"is Python {number}." in str(error)
    assert "needs 3.8 or newer" in str(error)


@pytest.mark.parametrize("python", ["2", "2.7", "3.7", "3.7.16", "python3.6", "python2"])
def test_an_old_version_is_refused_without_looking(monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert "needs 3.8 or newer" in str(_refused(python))


def test_a_module_in_the_current_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_known: None
) -> None:
    for name in ("marshal", "binascii", "os", "encodings"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert find(_base(), sources={"a": "1"}).version == sys.version_info[:3]


def test_what_sitecustomize_prints_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_known: None
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "sys.stdout.write('facts (3, 2, 1) end\\n' * 10 + 'no newline'); sys.stdout.flush()\n"
        "sys.stderr.write('noise'); atexit.register(print, 'bye')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find(_base()).version == sys.version_info[:3]


# -- values that name nothing


@pytest.mark.parametrize("python", [3.12, 3, True])
def test_a_number_is_no_version(python: object) -> None:
    with pytest.raises(TypeError, match=f'write python="{python}"'):
        find(python)  # type: ignore[arg-type]


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"\(3, 12\)"):
        find((3, 12))  # type: ignore[arg-type]


@pytest.mark.parametrize("python", ["", "a\0b"])
def test_an_impossible_name(python: str) -> None:
    assert repr(python) in str(_refused(python))


@pytest.mark.parametrize("python", ["3.99", "3.8.99", "3.99t"])
def test_a_version_that_is_not_here(python: str) -> None:
    error = _refused(python)
    assert f"no Python '{python}' found" in str(error)
    assert error.python == python


def test_a_command_that_is_not_here() -> None:
    assert "no-such-python" in str(_refused("no-such-python"))


def test_a_missing_file(tmp_path: Path) -> None:
    error = _refused(tmp_path / "python")
    assert str(error) == f"no Python interpreter at '{tmp_path}/python': there is no such file"
    assert error.python == f"{tmp_path}/python"
    assert isinstance(error, LaunchError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    assert "a folder, and no virtual environment" in str(_refused(tmp_path))
    (tmp_path / "pyvenv.cfg").touch()
    assert "without bin/python" in str(_refused(tmp_path))


def test_an_environment_whose_python_was_removed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/nowhere/python3")
    assert "broken link to '/nowhere/python3'" in str(_refused(tmp_path))


def test_a_file_that_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("hello")
    assert "not executable" in str(_refused(tmp_path / "python"))


def test_what_is_no_file() -> None:
    assert "not a regular file" in str(_refused("/dev/null"))


def test_a_file_of_no_known_format(tmp_path: Path) -> None:
    (tmp_path / "python").write_bytes(b"\0hello")
    (tmp_path / "python").chmod(0o755)
    assert "cannot be run: Exec format error" in str(_refused(tmp_path / "python"))


def test_the_current_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "name an absolute path" in str(_refused("bin/python"))
    assert find(sys.executable) == find()


# -- what is not Python


@pytest.mark.parametrize("name", ["true", "cat", "sleep", "echo", "sh", "env"])
def test_a_program_that_is_not_python(name: str) -> None:
    path = f"/bin/{name}"
    if not os.path.exists(path):
        pytest.skip(f"no {path} on this machine")
    began = time.monotonic()
    error = _refused(path)
    assert time.monotonic() - began < 5.0
    assert f"'{path}' is not a Python interpreter, or cannot start" in str(error)
    assert error.command is not None and error.command[0] == path


def test_the_last_words_are_told(script: Script) -> None:
    error = _refused(script("echo first >&2; echo no encodings module >&2; exit 7"))
    assert "exit status 7" in str(error)
    assert "(no encodings module)" in str(error)
    assert error.stderr == "first\nno encodings module\n"


def test_the_signal_is_named(script: Script) -> None:
    assert "SIGSEGV" in str(_refused(script("kill -SEGV $$")))


def test_one_that_reads_its_stdin_sees_the_end_of_it(script: Script) -> None:
    assert "exit status 0" in str(_refused(script("exec cat"), sources={"a": "x = 1"}))


def test_one_that_repeats_its_arguments_is_not_believed(script: Script) -> None:
    assert "no answer" in str(_refused(script('echo "$@"; echo "$4$3" "$3$4"')))


@pytest.mark.parametrize(
    "facts", ["", "3.12", "3.12.1 zz zz zz zz zz zz", "x.y.z 61 61 61 61 61 61", "3.12.1 6 6 6 6 6 6"]
)
def test_nonsense_with_the_right_token_is_refused(script: Script, facts: str) -> None:
    assert "does not answer as Python does" in str(_refused(script(f'echo "$4$3 facts {facts}"')))


def test_another_implementation_is_refused(script: Script) -> None:
    name = b"pypy".hex()
    error = _refused(script(f'echo "$4$3 facts 3.10.1 {name} 00 00 00 00 00"'))
    assert "is pypy: extsession needs CPython" in str(error)


def test_garbage_first_then_python(script: Script) -> None:
    path = script(f"head -c 1000000 /dev/zero; echo hello; exec {shlex.quote(_base())} \"$@\"")
    one = find(path)
    assert one.path == str(path)
    assert one.version == sys.version_info[:3]


def test_an_answer_counts_though_the_process_lives_on(script: Script) -> None:
    path = script(f'{shlex.quote(_base())} "$@"; sleep 1000')
    began = time.monotonic()
    assert find(path).version == sys.version_info[:3]
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("where", ["", ">&2"])
def test_a_flood_is_bounded(script: Script, where: str) -> None:
    error = _refused(script(f"exec cat /dev/zero {where}"))
    assert "printed" in str(error)
    assert len(error.stderr or "") <= 8 * 1024


@pytest.mark.parametrize(
    "body",
    [
        "sleep 1000",
        "sleep 1000 & echo $! >> {pids}; wait",
        "exec >&- 2>&-; sleep 1000",
        "sleep 1000 & echo $! >> {pids}; exit 0",
        "trap '' TERM INT HUP; while :; do sleep 1000; done",
        "kill -STOP $$",
    ],
)
def test_one_that_never_answers_is_killed_with_its_group(script: Script, tmp_path: Path, body: str) -> None:
    pids = tmp_path / "pids"
    path = script(f"echo $$ >> {pids}; " + body.format(pids=pids))
    began = time.monotonic()
    error = _refused(path, timeout=0.5)
    assert 0.4 < time.monotonic() - began < 5.0
    assert "did not answer within 0.5 s" in str(error)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 1 + body.count("{pids}")
    deadline = time.monotonic() + 5.0
    while any(map(_runs, started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_runs, started))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_source_that_does_not_compile_there(pythons: list[Interpreter]) -> None:
    other = next((one for one in pythons if one.magic != importlib.util.MAGIC_NUMBER), None)
    if other is None:
        pytest.skip("only interpreters with the magic of this one on this machine")
    error = _refused(other.path, sources={"broken": "x = (\n"})
    assert "cannot compile the worker's code: SyntaxError" in str(error)
    assert "broken.py" in str(error)


# -- by version


def test_a_shim_that_fails_is_not_the_interpreter(only_path: Path, script: Script) -> None:
    number = f"{sys.version_info[0]}.{sys.version_info[1]}"
    script(f"echo 'pyenv: python{number}: command not found' >&2; exit 127").rename(
        only_path / f"python{number}"
    )
    (only_path / "python3").symlink_to(_base())
    assert find(number).path == str(only_path / "python3")


def test_a_shim_that_works_leads_to_its_interpreter(only_path: Path, script: Script) -> None:
    script(f'exec {shlex.quote(_base())} "$@"').rename(only_path / "python3")
    one = find("3")
    assert not one.path.startswith(str(only_path))
    assert one.version == sys.version_info[:3]


def test_path_comes_before_the_usual_places_and_its_version_is_verified(
    only_path: Path, pythons: list[Interpreter]
) -> None:
    other = next((one for one in pythons if one.version[:2] != sys.version_info[:2]), None)
    if other is None:
        pytest.skip("only one Python on this machine")
    liar = only_path / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    liar.symlink_to(other.path)
    (only_path / "python").symlink_to(_base())
    assert find(liar.name).path == str(only_path / "python")


def test_the_newest_patch_wins_in_the_usual_places(
    only_path: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(version: str) -> str:
        fields = [text.encode().hex() for text in ("cpython", "mgc", "tag", "/prefix", "", "")]
        body = f'echo "$4$3 facts {version} {" ".join(fields)}"'
        return str(script(body, name=f"python-{version}"))

    places = [fake("3.77.9"), fake("3.77.10"), fake("3.78.11"), str(script("exit 1")), fake("3.77.2")]
    monkeypatch.setattr(interpreter, "usual_places", lambda version=(): iter(places))
    assert find("3.77").version == (3, 77, 10)
    assert find("3.77.2").path == places[-1]


def test_a_free_threaded_build_only_when_asked_for(
    only_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [text.encode().hex() for text in ("cpython", "mgc", "tag", "/prefix", "", "t")]
    script(f'echo "$4$3 facts 3.77.1 {" ".join(fields)}"').rename(only_path / "python3")
    assert "no Python '3.77'" in str(_refused("3.77"))
    assert find("3.77t").abiflags == "t"


@pytest.mark.parametrize(
    "place",
    [
        ".pyenv/versions/3.77.1/bin/python",
        ".local/bin/python3.77",
        ".local/share/uv/python/cpython-3.77.1-linux-x86_64-gnu/bin/python",
        "miniconda3/envs/work/bin/python",
        ".conda/envs/work/bin/python",
    ],
)
def test_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    for name in ("PYENV_ROOT", "XDG_DATA_HOME", "UV_PYTHON_INSTALL_DIR", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.touch(0o755)
    assert str(path) in list(places.usual_places())
    assert str(path) in list(places.usual_places((3, 77)))


# -- what is kept


@pytest.mark.usefixtures("nothing_known")
def test_an_answer_is_kept_until_the_file_changes(script: Script, tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = f'echo x >> {log}; exec {shlex.quote(_base())} "$@"'
    path = script(body)
    assert probe(path) is probe(path)
    assert log.read_text() == "x\n"
    os.utime(path, ns=(1, 1))
    probe(path)
    assert log.read_text() == "x\nx\n"
    path.unlink()
    assert "no such file" in str(_refused(path))


def test_a_failure_is_not_kept(script: Script, nothing_known: None) -> None:
    path = script("exit 1")
    _refused(path)
    status = path.stat()
    path.write_text(path.read_text().replace("exit 1", f'exec {shlex.quote(_base())} "$@"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert probe(path).version == sys.version_info[:3]


def test_threads_may_ask_at_once(nothing_known: None) -> None:
    answers: list[Interpreter] = []
    threads = [threading.Thread(target=lambda: answers.append(find(_base()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(set(answers)) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_of_fork_may_ask(tmp_path: Path, nothing_known: None) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if find(_base()).version == sys.version_info[:3] else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_children_that_are_reaped_by_the_kernel(script: Script) -> None:
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert "no answer" in str(_refused(script("exit 3")))
    finally:
        signal.signal(signal.SIGCHLD, old)


@pytest.mark.usefixtures("nothing_known")
def test_the_payload_is_made_once_for_the_same_sources(pythons: list[Interpreter]) -> None:
    other = next((one for one in pythons if one.magic != importlib.util.MAGIC_NUMBER), None)
    if other is None:
        pytest.skip("only interpreters with the magic of this one on this machine")
    first = probe(other.path, sources={"a": "x = 1"})
    assert probe(other.path, sources={"a": "x = 1"}) is first
    second = probe(other.path, sources={"a": "x = 2"})
    assert second.payload != first.payload
    assert probe(other.path).payload is None
