"""A shell: what belongs to a call, what the terminal does to it, input, interrupts, unfinished source."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from extsession import CallCancelled, Ladder, NotReady, Outcome, Step
from extsession.terminal import BASH, TerminalSession

from .conftest import SOON, find, output, run


def test_output_and_status_are_of_the_call(bash: TerminalSession) -> None:
    first = bash.execute("echo one; cd /; false")
    second = bash.execute("echo $? $PWD; echo to stderr >&2")
    assert second.wait(SOON).output == "1 /\nto stderr\n"
    assert (first.output, first.exit_code, first.outcome) == ("one\n", 1, Outcome.FINISHED)
    assert (second.exit_code, second.number, second.error, second.completion.survived) == (0, 2, None, True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("printf abc", "abc"),
        ("", ""),
        ("\n\n", ""),
        ("# nothing", ""),
        ("echo '$ '; echo 'bash-5.2$ '; echo '>>> '", "$ \nbash-5.2$ \n>>> \n"),
        ("cat <<E\na\n\n\tb 'c\nE\necho d", "a\n\n\tb 'c\nd\n"),
        ("for i in 1 2\ndo\n\n  echo $i\ndone", "1\n2\n"),
        ("echo 'two\nlines' \"a\\\\b\" $'\\t!' !x", "two\nlines a\\b \t! !x\n"),
        ("echo é ü 漢 😀", "é ü 漢 😀\n"),
        ("printf 'a\\r\\nb\\rc\\n'", "a\nb\rc\n"),
        ("printf '\\e[31mred\\e[0m \\e]0;title\\a.\\n'", "red .\n"),
        ("printf '~%s~:0:' 0123456789abcdef", "~0123456789abcdef~:0:"),
        ("echo $-|tr -d ei; set -o|grep -c 'history.*off'", "hmBs\n1\n"),
    ],
)
def test_what_is_printed(bash: TerminalSession, source: str, expected: str) -> None:
    got = output(bash, source)
    if source.startswith("echo $-"):
        assert "H" not in got.splitlines()[0] and got.endswith("1\n")
    else:
        assert got == expected
    assert output(bash, "echo next") == "next\n"


def test_bytes_come_as_they_are(bash: TerminalSession) -> None:
    results = run(bash, r"printf '\377\000\r\n\033[1m~\n'")
    assert results.raw == b"\xff\0\r\n\x1b[1m~\n"
    assert results.output == "\ufffd\0\n~\n"


def test_old_prompts_and_the_prompt_of_a_call_are_no_output(bash: TerminalSession) -> None:
    results = run(bash, 'echo "$PS1"')
    assert re.fullmatch(r"~[0-9a-f]{16}~:\$\?:\n", results.output)
    assert output(bash, f"printf '%s' '{results.output.strip().replace('$?', '0')}'; echo .").endswith(":0:.\n")


def test_a_flood_is_complete(bash: TerminalSession) -> None:
    results = run(bash, "seq 1 1000000; echo; printf end")
    assert results.raw == b"".join(b"%d\n" % number for number in range(1, 1000001)) + b"\nend"
    assert results.dropped == 0


def test_the_time_for_output_is_linear(bash: TerminalSession) -> None:
    """Eight times as much without any line end takes about eight times as long."""

    def measure(size: int) -> float:
        began = time.monotonic()
        results = run(bash, f"head -c {size} /dev/zero | tr '\\0' '~'")
        took = time.monotonic() - began
        assert results.raw == b"~" * size
        return took

    small = min(measure(500_000) for _ in range(3))
    assert measure(4_000_000) < 8 * 8 * max(small, 0.01)


def test_output_over_the_limit_is_counted(bash: TerminalSession) -> None:
    results = bash.execute("seq 1 100000", output_limit=1000).wait(SOON)
    assert len(results.raw) == 1000
    assert results.dropped == 588895 - 1000


def test_long_source_and_long_lines(bash: TerminalSession) -> None:
    text = "x'\\\t é" * 20000
    quoted = "'" + text.replace("'", "'\\''") + "'"
    assert output(bash, f"false\nx={quoted}; echo ${{#x}}") == f"{len(text)}\n"
    assert output(bash, "echo \"$x\"") == text + "\n"  # no width of a terminal cuts or breaks it
    assert output(bash, "compgen -v | grep -c ^__extsession; true") == "0\n"
    run(bash, "false")
    assert output(bash, f": {quoted[:0]}\necho $? # {'x' * 8000}") == "0\n"
    run(bash, "false")
    assert output(bash, f"echo $? # {'x' * 8000}") == "1\n"


def test_source_with_a_null_character_is_refused(bash: TerminalSession) -> None:
    with pytest.raises(ValueError, match="null"):
        bash.execute("echo \0")


@pytest.mark.parametrize("source", ["echo 'abc", 'echo "abc', "for", "(", "echo $((1", "if true; then", "echo `x"])
def test_unfinished_source_is_an_error_at_once(bash: TerminalSession, source: str) -> None:
    results = run(bash, source, timeout=SOON)
    assert results.outcome is Outcome.FINISHED
    assert results.exit_code == 2
    assert "bash: " in results.output
    assert output(bash, "echo $?") == "2\n"


def test_echo_that_was_switched_on_does_not_show_what_is_typed(bash: TerminalSession) -> None:
    assert output(bash, "stty sane echo") == ""
    assert output(bash, "echo here") == "here\n"


def test_a_changed_prompt_does_no_harm(bash: TerminalSession) -> None:
    assert output(bash, "PS1='$ '; PS2='$ '; PROMPT_COMMAND='PS1=x'") == ""
    assert output(bash, "unset PROMPT_COMMAND; echo here") == "here\n"


def test_set_e_does_not_end_the_shell_before_its_time(bash: TerminalSession) -> None:
    run(bash, "set -e; sleep 97", timeout=0.2)
    assert output(bash, "echo $-").count("e") == 1
    results = run(bash, "false")
    assert (results.outcome, results.exit_code) == (Outcome.EXITED, 1)


# input


def test_code_reads_what_is_sent(bash: TerminalSession) -> None:
    results = bash.execute("read -p 'name? ' name; echo; echo got $name; cat; echo end")
    assert results.wait_for("name? ", SOON) == "name? "
    results.writeline("foo")
    results.wait_for("got foo", SOON)
    results.send("a\nb\n")
    results.send_eof()
    assert results.wait(SOON).output == "name? \ngot foo\na\nb\nend\n"


def test_what_is_sent_early_waits_for_the_code(bash: TerminalSession) -> None:
    results = bash.execute("sleep 0.1; read x; echo got $x")
    bash.writeline("early")
    assert results.wait(SOON).output == "got early\n"


def test_what_nobody_has_read_is_no_command(bash: TerminalSession) -> None:
    results = bash.execute("head -c 2")
    results.send("a\necho BAD\necho WORSE\n")
    assert results.wait(SOON).output == "a\n"
    assert output(bash, "echo good") == "good\n"


def test_nobody_reads_after_the_end(bash: TerminalSession) -> None:
    results = run(bash, "true")
    with pytest.raises(NotReady):
        results.writeline("x")
    with pytest.raises(NotReady):
        bash.writeline("x")
    with pytest.raises(EOFError):
        results.wait_for("x", SOON)


def test_a_line_that_the_terminal_would_cut_is_refused(bash: TerminalSession) -> None:
    results = bash.execute("read x; echo ${#x}")
    with pytest.raises(ValueError, match="4095"):
        results.writeline("x" * 4096)
    results.writeline("x" * 4094)
    assert results.wait(SOON).output == "4094\n"


def test_secrets_may_be_asked_for(bash: TerminalSession) -> None:
    results = bash.execute("read -s -p 'Password: ' x; echo; echo ${#x}; stty -a | grep -o '[-]*echo '")
    results.wait_for("Password: ", SOON)
    results.writeline("secret")
    assert results.wait(SOON).output == "Password: \n6\n-echo \n"


# interrupts and timeouts


def test_an_interrupt_gives_the_prompt_back(bash: TerminalSession) -> None:
    results = bash.execute("echo begun; sleep 97; echo not here")
    results.wait_for("begun", SOON)
    assert results.interrupt()
    results.wait(SOON)
    assert (results.outcome, results.exit_code) == (Outcome.INTERRUPTED, 130)
    assert results.output.startswith("begun\n")
    assert "not here" not in results.output
    assert isinstance(results.error, KeyboardInterrupt)
    assert not results.interrupt()
    assert not bash.interrupt()
    assert output(bash, "echo alive") == "alive\n"


def test_interrupts_at_any_moment_hit_their_call_only(bash: TerminalSession) -> None:
    """Sent as soon as the call is there, later, and when it may be over: the next call is whole."""
    for attempt in range(60):
        results = bash.execute("true" if attempt % 3 else "sleep 97")
        if attempt % 2:
            time.sleep(0.0005 * (attempt % 8))
        results.interrupt()
        results.wait(SOON)
        assert results.outcome in ((Outcome.INTERRUPTED, Outcome.FINISHED) if attempt % 3 else (Outcome.INTERRUPTED,))
        following = run(bash, f"echo {attempt}")
        assert (following.output, following.exit_code) == (f"{attempt}\n", 0), attempt


def test_a_timeout_interrupts_and_the_session_lives_on(bash: TerminalSession) -> None:
    results = run(bash, "sleep 97", timeout=0.1)
    assert results.timed_out
    assert results.completion.steps == (Step.INTERRUPT,)
    assert results.completion.survived
    assert isinstance(results.error, TimeoutError)
    with pytest.raises(TimeoutError):
        results.raise_for_error()
    assert output(bash, "echo alive") == "alive\n"


@pytest.mark.parametrize(
    ("ignored", "terminate", "steps"),
    [("INT", SOON, (Step.INTERRUPT, Step.TERMINATE)), ("INT TERM", 1.0, (Step.INTERRUPT, Step.TERMINATE, Step.KILL))],
)
def test_a_job_that_ignores_signals_is_ended_and_the_shell_is_not(
    ignored: str, terminate: float, steps: tuple[Step, ...]
) -> None:
    with TerminalSession("bash", ladder=Ladder(0.2, terminate)) as session:
        run(session, f"trap '' {ignored}")  # before the time runs; jobs inherit it
        results = run(session, "sleep 97", timeout=0.3)
        assert results.timed_out
        assert results.completion.steps == steps
        assert results.completion.survived
        assert output(session, "echo alive") == "alive\n"


def test_a_shell_that_ignores_all_is_killed(bash: TerminalSession) -> None:
    results = run(bash, "trap '' INT TERM; while :; do :; done", timeout=0.2)
    assert results.timed_out
    assert results.completion.steps == (Step.INTERRUPT, Step.TERMINATE, Step.KILL)
    assert not results.completion.survived
    assert not bash.is_alive


@pytest.mark.parametrize("program", ["vi", "top", "less"])
def test_a_full_screen_program_is_ended(bash: TerminalSession, program: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("line\n" * 500)
    results = run(bash, f"{find(program)} {file if program != 'top' else ''}", timeout=0.5)
    assert results.timed_out
    assert results.completion.survived
    assert "\x1b" not in results.output
    assert output(bash, "echo alive; stty -a | grep -o ' icanon'") == "alive\n icanon\n"


def test_a_pager_does_not_wait(bash: TerminalSession, tmp_path: Path) -> None:
    git = find("git")
    commits = "; ".join(f"{git} commit -q --allow-empty -m 'commit {number}'" for number in range(3))
    source = (
        f"cd {tmp_path}; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; "
        f"{git} init -q 2>/dev/null; {commits}"
    )
    assert output(bash, source) == ""
    got = output(bash, f"{git} log --format='%s%n%n%n%n%n%n%n%n%n%n'")
    assert [line for line in got.splitlines() if line] == ["commit 2", "commit 1", "commit 0"]


def test_a_nested_shell_is_not_the_end_of_the_call(bash: TerminalSession) -> None:
    results = bash.execute("PS1='inner$ ' bash --norc --noediting")
    results.wait_for("inner$ ", SOON)
    results.writeline("echo $((40 + 2)); exit 7")
    results.wait(SOON)
    assert results.exit_code == 7
    assert "42\n" in results.output


# order


def test_threads_share_a_session(bash: TerminalSession) -> None:
    failed = []

    def use(name: int) -> None:
        for number in range(20):
            results = run(bash, f"echo {name} {number}")
            if results.output != f"{name} {number}\n":
                failed.append((name, number, results.output))

    threads = [threading.Thread(target=use, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_calls_queue_and_may_be_cancelled(bash: TerminalSession) -> None:
    first = bash.execute("read x")
    second = bash.execute("echo second")
    third = bash.execute("echo third")
    assert second.cancel()
    assert not second.cancel()
    assert not first.cancel()
    assert (second.outcome, type(second.error)) == (Outcome.CANCELLED, CallCancelled)
    with pytest.raises(TimeoutError):
        third.wait(0.01)
    with pytest.raises(NotReady):
        _ = third.output
    first.writeline("")
    assert third.wait(SOON).output == "third\n"


def test_output_streams(bash: TerminalSession) -> None:
    results = bash.execute("echo one; read x; echo two")
    chunks = iter(results)
    assert next(chunks).data == b"one\n"
    results.writeline("")
    assert b"".join(chunk.data for chunk in chunks) == b"two\n"
    assert b"".join(chunk.data for chunk in results) == b"one\ntwo\n"


def test_callbacks(bash: TerminalSession) -> None:
    seen: list[str] = []
    called = threading.Event()
    results = bash.execute("read x; echo $x")
    results.add_done_callback(lambda each: seen.append(each.output))
    results.add_done_callback(lambda each: called.set())
    results.writeline("done")
    assert called.wait(SOON)
    results.add_done_callback(lambda each: seen.append("at once"))
    assert seen == ["done\n", "at once"]


def test_late_output_is_of_the_call_that_left_it(bash: TerminalSession) -> None:
    results = run(bash, "set +m; (read x < /dev/null; sleep 0.2; echo late) & echo early")
    assert "early\n" in results.output
    assert "late" not in results.output
    deadline = time.monotonic() + SOON
    while "late\n" not in results.late_output and time.monotonic() < deadline:
        time.sleep(0.01)
    assert results.late_output == "late\n"
    assert output(bash, "echo next") == "next\n"


# the terminal


def test_size(bash: TerminalSession) -> None:
    size = "stty size; trap 'echo changed' WINCH"
    assert output(bash, size) == "24 80\n"
    results = bash.execute("echo ready; read x; stty size")
    results.wait_for("ready", SOON)
    bash.resize(50, 132)
    results.writeline("")
    assert "50 132\n" in results.wait(SOON).output
    for bad in ((0, 80), (24, 70000)):
        with pytest.raises(ValueError, match="65535"):
            bash.resize(*bad)
    with pytest.raises(TypeError):
        bash.resize(24, 80.0)  # type: ignore[arg-type]


def test_a_terminal_of_its_own(bash: TerminalSession) -> None:
    assert output(bash, "tty | sed s/[0-9].*//; test -t 0 && test -t 1 && test -t 2 && echo yes; echo $TERM") == (
        "/dev/pts/\nyes\ndumb\n"
    )
    assert output(bash, "echo to the terminal > /dev/tty") == "to the terminal\n"
    assert output(bash, "echo $$; ps -o sid= -p $$ | tr -d ' '").split() == [str(bash.pid)] * 2


def test_environment_and_directory(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "WHO": "me", "TERM": "vt100"}
    with TerminalSession("bash", cwd=tmp_path, env=env, size=(10, 40), ladder=Ladder(0.3, 0.3)) as session:
        assert output(session, "echo $WHO $TERM $PAGER ${HOME-none}; pwd; stty size") == (
            f"me vt100 cat none\n{tmp_path}\n10 40\n"
        )


def test_a_shell_behind_another_terminal() -> None:
    """As by `ssh -tt`: what is typed first is shown by the inner terminal, and is no start, prompt or output."""
    command = (find("script"), "-qc", "bash --noediting --norc --noprofile", "/dev/null")
    definition = replace(BASH, command=command, arguments=())
    with TerminalSession(definition, ladder=Ladder(1.0, 1.0)) as session:
        results = run(session, "echo one; seq 2; false")
        assert (results.raw, results.exit_code) == (b"one\n1\n2\n", 1)
        assert run(session, "sleep 97", timeout=0.3).completion.steps == (Step.INTERRUPT,)
        results = session.execute("read x; echo got $x")
        results.writeline("it")
        assert results.wait(SOON).output == "got it\n"
