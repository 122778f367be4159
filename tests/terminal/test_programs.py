"""The other programs that are known, and those that are not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from extsession import IncompleteSource, LaunchError, Outcome
from extsession.terminal import GDB, PYTHON, SQLITE, Definition, Tags, TerminalSession

from .conftest import SOON, find, output, run

# Python

PYTHONS = ["python2.7", "python3.6", "python3.13", "python3"]


@pytest.fixture(scope="module", params=PYTHONS)
def python(request: pytest.FixtureRequest) -> Iterator[TerminalSession]:
    with TerminalSession(find(request.param)) as session:
        yield session


BLOCK = """\
def double(x):

    '''first

    last'''
    if x:

        return 2 * x
    else:
        return ''
for i in range(2):
    print(double(i))
double(21)
print('>>> ')
u'caf\u00e9' == u'caf\\xe9'
"""


@pytest.mark.leaks(reason="the session is shared by the tests of its interpreter")
class TestPython:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("6 * 7", "42\n"),
            ("", ""),
            (BLOCK, "\n2\n42\n>>> \nTrue\n"),
            ("print('... ')", "... \n"),
            ("from __future__ import division", ""),
            ("1 / 2", "0.5\n"),
            ("_", "0.5\n"),
            ("x = '" + "y" * 20000 + "'\nlen(x)", "20000\n"),
            ("import sys; sys.stdout.isatty() and sys.stdin.isatty()", "True\n"),
            ("sorted(n for n in globals() if not n.startswith('__'))[:2]", "['division', 'double']\n"),
            ("sys.argv", "['']\n"),
        ],
    )
    def test_source(self, python: TerminalSession, source: str, expected: str) -> None:
        results = run(python, source)
        assert (results.output, results.exit_code) == (expected, 0)

    @pytest.mark.parametrize("source", ["x = 'abc", "def f(:", "(1", "def f():", "if True:\n pass\n  x"])
    def test_unfinished_source(self, python: TerminalSession, source: str) -> None:
        results = run(python, source)
        assert results.exit_code == 1
        assert re.search(r'File "<stdin>", line \d', results.output)
        assert re.search(r"(Syntax|Indentation)Error: ", results.output)
        assert "in run" not in results.output

    def test_an_exception_shows_the_code_only(self, python: TerminalSession) -> None:
        results = run(python, "def fail():\n    1 // 0\nfail()")
        assert results.exit_code == 1
        lines = [line for line in results.output.splitlines() if set(line.strip()) - set("^~")]
        assert lines[0] == "Traceback (most recent call last):"
        assert [line.strip() for line in lines if "File" in line] == [
            'File "<stdin>", line 3, in <module>',
            'File "<stdin>", line 2, in fail',
        ]
        assert lines[-1].startswith("ZeroDivisionError")

    def test_input(self, python: TerminalSession) -> None:
        ask = "(raw_input if sys.version_info[0] < 3 else input)('name? ')"
        results = python.execute("import sys\n" + ask + "\nsys.stdin.readline()")
        results.wait_for("name? ", SOON)
        results.writeline("foo")
        results.wait_for("foo", SOON)
        results.send("bar\nnot_read\n")
        assert results.wait(SOON).output == "name? 'foo'\n'bar\\n'\n"
        assert output(python, "1") == "1\n"

    def test_interrupt_and_timeout(self, python: TerminalSession) -> None:
        results = python.execute("import time\nprint('begun')\ntime.sleep(97)")
        results.interrupt()
        assert results.wait(SOON).outcome is Outcome.INTERRUPTED
        results = run(python, "print('begun'); time.sleep(97)" if "begun" in results.output else "while 1: pass", 0.1)
        assert results.timed_out
        assert "KeyboardInterrupt" in results.output
        assert output(python, "1") == "1\n"

    def test_interrupts_at_any_moment(self, python: TerminalSession) -> None:
        for number in range(10):
            results = python.execute("for i in range(%d): pass" % (1000 * number))
            results.interrupt()
            results.wait(SOON)
            assert output(python, f"{number}") == f"{number}\n"

    def test_a_prompt_that_was_changed(self, python: TerminalSession) -> None:
        run(python, "import sys; sys.ps1 = '>>> '; sys.ps2 = 'x'")
        assert output(python, "1") == "1\n"


@pytest.mark.parametrize("name", PYTHONS[:2])
def test_python_ends(name: str) -> None:
    with TerminalSession(PYTHON.with_command(find(name), "-B")) as session:
        results = run(session, "print('last'); raise SystemExit(4)")
        assert (results.output, results.outcome, results.exit_code) == ("last\n", Outcome.EXITED, 4)
    with TerminalSession(find(name)) as session:
        assert session.exit() == 0


# Node.js


@pytest.fixture(scope="module")
def node() -> Iterator[TerminalSession]:
    with TerminalSession(find("node", "nodejs")) as session:
        yield session


@pytest.mark.leaks(reason="the session is shared by these tests")
class TestNode:
    @pytest.mark.parametrize(
        ("source", "expected", "status"),
        [
            ("6 * 7", "42\n", 0),
            ("const x = {a: 1,\n\n  b: 2\n};\nx", "{ a: 1, b: 2 }\n", 0),
            ("x.b", "2\n", 0),
            ("console.log('> '); console.error('... ')", "> \n... \n", 0),
            ("await new Promise(r => setTimeout(() => r(7), 10))", "7\n", 0),
            ("'" + "é" * 10000 + "'.length", "10000\n", 0),
            ("", "", 0),
        ],
    )
    def test_source(self, node: TerminalSession, source: str, expected: str, status: int) -> None:
        results = run(node, source)
        assert (results.output, results.exit_code) == (expected, status)

    @pytest.mark.parametrize("source", ["throw new Error('no')", "(1", "'abc", "nothing.here"])
    def test_errors(self, node: TerminalSession, source: str) -> None:
        results = run(node, source)
        assert results.exit_code == 1
        assert "Error" in results.output
        assert output(node, "1") == "1\n"

    @pytest.mark.parametrize("source", ["for (;;);", "await new Promise(() => {})"])
    def test_timeouts(self, node: TerminalSession, source: str) -> None:
        assert run(node, source, 0.2).timed_out
        assert output(node, "1") == "1\n"


def test_node_ends() -> None:
    with TerminalSession(find("node", "nodejs")) as session:
        assert session.exit() == 0


# sqlite3


def test_sqlite(tmp_path: Path) -> None:
    with TerminalSession([find("sqlite3"), str(tmp_path / "base")]) as session:
        assert output(session, "create table t(a, b);\ninsert into t values (1, 'x\n y');\nselect *\nfrom t;") == "1|x\n y\n"
        assert output(session, "select 'sqlite> ';") == "sqlite> \n"
        assert output(session, ".headers on\nselect 2 as two;\n-- nothing\n") == "two\n2\n"
        assert "nothing" in output(session, "select nothing;")
        for source in ("select 'abc", 'select "abc', "select 1", "/* no end", "select 1;\nselect ("):
            results = run(session, source)
            assert results.outcome is Outcome.FAILED, source
            with pytest.raises(IncompleteSource):
                results.raise_for_error()
            assert output(session, "select 3;") == "two\n3\n".replace("two", "3"), source
        endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c;"
        assert run(session, endless, 0.2).timed_out
        assert output(session, "select 4;") == "4\n4\n"
        for bad in ("select '" + "x" * 5000 + "';", "select '\x03';"):
            with pytest.raises(ValueError, match=r"4095|control character"):
                session.execute(bad)
        session.exit()
        assert not session.is_alive
    assert (tmp_path / "base").exists()


# gdb


def test_gdb() -> None:
    with TerminalSession(find("gdb")) as session:
        assert output(session, "print 6 * 7\nprint \"(gdb) \"") == '$1 = 42\n$2 = "(gdb) "\n'
        assert output(session, "define foo\nif 1\nprint 3\nend\nend\nfoo").endswith("$3 = 3\n")
        assert "No symbol" in output(session, "print nothing")
        with pytest.raises(ValueError, match='"end" is missing'):
            session.execute("define bar\nprint 1")
        assert run(session, "shell sleep 97", 0.2).timed_out
        assert output(session, "print 1") == "$4 = 1\n"
        assert session.exit() == 0


def test_gdb_splits_blocks() -> None:
    source = "p 1\ndefine a\nif x\np 2\nend\nend\npython\nif 1:\n  pass\nend\npython print(1)\nend"
    assert GDB.split(source) == [
        "p 1", "define a\nif x\np 2\nend\nend", "python\nif 1:\n  pass\nend", "python print(1)", "end"
    ]  # fmt: skip


# psql


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(folder of the socket, user) of a PostgreSQL server of this test's own."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), Path(shutil.which("initdb") or "/none").parent]
    folder = next((each for each in sorted(programs, reverse=True) if (each / "initdb").exists()), None)
    if folder is None:
        pytest.skip("there is no PostgreSQL server on this machine")
    base = Path("/tmp") / f"extsession-psql-{os.getpid()}"  # the path of a socket is short, see unix(7)
    base.mkdir(mode=0o700)
    options: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    name = "postgres"
    if os.geteuid() == 0:  # it does not run as root
        options["user"] = options["group"] = 65534
        options["extra_groups"] = []
        os.chown(base, 65534, 65534)
    try:
        made = subprocess.run([folder / "initdb", "-D", base / "data", "-A", "trust", "-N", "-U", name], **options)  # type: ignore[call-overload]
        if made.returncode:
            pytest.skip("initdb does not make a database here")
        run_server = [folder / "postgres", "-D", base / "data", "-k", base, "-c", "listen_addresses=", "-F"]
        process = subprocess.Popen(run_server, **options)  # type: ignore[call-overload]
        try:
            yield str(base), name
        finally:
            process.terminate()
            process.wait(SOON)
    finally:
        shutil.rmtree(base)


def test_psql(server: tuple[str, str]) -> None:
    psql = find("psql")
    folder, user = server
    command = [psql, "-h", folder, "-U", user, "postgres"]
    for _ in range(300):
        if subprocess.run([*command, "-c", ""], capture_output=True, check=False).returncode == 0:
            break
    with TerminalSession(command) as session:
        assert output(session, "\\t on\nselect 6 *\n 7,\n 'postgres=# ';") == "       42 | postgres=# \n\n"
        assert output(session, "select * from generate_series(1, 200);").split() == [str(n) for n in range(1, 201)]
        for source in ("select 'abc", 'select "abc', "select 1", "select $$", "select (1"):
            results = run(session, source)
            assert results.outcome is Outcome.FAILED, source
            assert isinstance(results.error, IncompleteSource)
        assert output(session, "create table t(a int);\ncopy t from stdin;\n1\n2\n\\.\nselect sum(a) from t;") == "   3\n\n"
        assert "division by zero" in output(session, "select 1 / 0;")
        assert run(session, "select pg_sleep(97);", 0.2).timed_out
        assert output(session, "select 1;") == "        1\n\n"
        assert session.exit() == 0


def test_psql_without_a_server() -> None:
    with pytest.raises(LaunchError, match=r"could not connect|connection to server") as caught:
        TerminalSession([find("psql"), "-h", "/no/such/folder"])
    assert "No such file" in str(caught.value.stderr)


# programs that are not known

CMD = """
import cmd, sys, time
class Shell(cmd.Cmd):
    def do_echo(self, line): sys.stdout.write(line); sys.stdout.flush()
    def do_pose(self, line):
        for _ in range(3):
            sys.stdout.write("(Cmd) "); sys.stdout.flush(); time.sleep(0.005)
        print("end")
    def do_ask(self, line): print("got", input("more? "))
    def do_quit(self, line): sys.exit(5)
Shell().cmdloop("hello")
"""


def test_a_program_with_a_prompt_of_its_own() -> None:
    with TerminalSession([sys.executable, "-c", CMD], prompt="(Cmd) ", more=re.compile("more[?] ")) as session:
        assert session.startup == "hello\n"
        assert output(session, "echo abc") == "abc"
        assert output(session, "echo one\necho two") == "onetwo"
        assert output(session, "pose") == "(Cmd) (Cmd) (Cmd) end\n"
        assert output(session, "ask\nfoo") == "got foo\n"
        assert "Unknown syntax" in output(session, "nothing")
        results = run(session, "quit")
        assert (results.outcome, results.exit_code) == (Outcome.EXITED, 5)


def test_unfinished_source_without_a_way_out_ends_the_session() -> None:
    with TerminalSession([sys.executable, "-c", CMD], prompt="(Cmd) ", more="more? ") as session:
        results = run(session, "ask")
        assert results.outcome is Outcome.FAILED
        assert isinstance(results.error, IncompleteSource)
        assert not results.completion.survived


def test_a_definition_of_ones_own() -> None:
    """What `ready-made` is made of is public: a calculator that takes its prompt as a command."""
    calculator = """
import sys
prompt = ""
while True:
    sys.stdout.write(prompt); sys.stdout.flush()
    line = sys.stdin.readline()
    if not line: break
    if line.startswith("prompt "): prompt = line.split()[1]
    else: print(eval(line))
"""
    definition = Definition("", (sys.executable, "-c", calculator), arm="prompt {prompt}")
    with TerminalSession(definition) as session:
        assert output(session, "6 * 7\n'\\n'") == "42\n\n\n"
        assert session.exit() == 0  # by the end of the file


def test_definitions_are_checked() -> None:
    with pytest.raises(ValueError, match="one of wrap, arm and prompt"):
        Definition("", ("x",))
    with pytest.raises(ValueError, match="command"):
        Definition("", (), prompt="> ")
    with pytest.raises(ValueError, match="nothing is printed"):
        Definition("", ("x",), prompt=re.compile("x*"))
    assert len({tag for _ in range(100) for tag in Tags.new()}) == 300
    assert hash(SQLITE) == hash(replace(SQLITE)) and SQLITE == replace(SQLITE)


@pytest.mark.parametrize(
    ("command", "error"),
    [("", ValueError), ([], ValueError), ("cat", ValueError), ("unknown -x", ValueError), (5, TypeError)],
)
def test_commands_that_are_none(command: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        TerminalSession(command)  # type: ignore[arg-type]


def test_a_prompt_for_a_definition_is_refused() -> None:
    with pytest.raises(TypeError, match="Definition"):
        TerminalSession(SQLITE, prompt="> ")


def test_options_are_checked() -> None:
    for options, error in (
        ({"encoding": "utf-16"}, ValueError),
        ({"encoding": "no-such"}, LookupError),
        ({"size": (0, 80)}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"output_limit": -5}, ValueError),
    ):
        with pytest.raises(error):
            TerminalSession("bash", **options)  # type: ignore[arg-type]
    with TerminalSession("bash", encoding="latin-1") as session:
        assert output(session, "printf '\\351'; printf \u00e9 | od -An -tx1") == "\u00e9 e9\n"
        with pytest.raises(UnicodeEncodeError):
            session.execute("\u6f22")
        with pytest.raises(TypeError):
            session.execute(5)  # type: ignore[arg-type]
        for timeout in (-1, "1"):
            with pytest.raises((TypeError, ValueError)):
                session.execute("true", timeout=timeout)  # type: ignore[arg-type]
