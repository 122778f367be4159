"""Stopping commands: a timeout, from other threads, by leaving a block."""

from __future__ import annotations

import builtins
import logging
import os
import pickle
import signal
import threading
import time
from typing import Any

import pytest

from extsession import Step
from extsession.execute import (
    ExecuteRequest,
    InterruptError,
    LocalSubProcessExecute,
    StdinSource,
    TimeoutError,
)

INT, TERM, KILL = Step.INTERRUPT, Step.TERMINATE, Step.KILL
SLEEP = "import time; print('there', flush=True); time.sleep(60)"
#: ends at the signals that are named, with a status; ignores the others
CHOOSY = """
import os, signal, sys, time
for name in ("SIGINT", "SIGTERM"):
    if name in sys.argv[1:]:
        signal.signal(getattr(signal, name), lambda number, frame: (print(name, number, flush=True), os._exit(number)))
    else:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
print("there", flush=True)
while True:
    time.sleep(60)
"""
QUICK = {"interrupt_timeout": 0.1, "terminate_timeout": 0.1}


@pytest.fixture
def begun(program: Any, eventually: Any) -> Any:
    """begun(executor, source, *arguments): a live status of a command that has said that it is there."""
    import contextlib

    @contextlib.contextmanager
    def begin(executor: LocalSubProcessExecute, source: str, *arguments: str) -> Any:
        with executor.call(program(source, *arguments)) as status:
            eventually(lambda: "there" in status.out)
            yield status

    return begin


@pytest.mark.parametrize(
    ("obeys", "how", "code", "steps", "least", "most"),
    [
        (["SIGINT"], "interrupt", 2, (INT,), 0.0, 0.1),
        (["SIGTERM"], "interrupt", 15, (INT, TERM), 0.2, 0.35),
        ([], "interrupt", -9, (INT, TERM, KILL), 0.35, 0.55),
        (["SIGINT", "SIGTERM"], "terminate", 15, (TERM,), 0.0, 0.1),
        (["SIGINT"], "terminate", -9, (TERM, KILL), 0.15, 0.35),
    ],
)
@pytest.mark.parametrize("owner", ["executor", "status"])
def test_the_ladder(
    begun: Any, obeys: list[str], how: str, code: int, steps: Any, least: float, most: float, owner: str, caplog: Any
) -> None:
    executor = LocalSubProcessExecute(interrupt_timeout=0.2, terminate_timeout=0.15)
    with begun(executor, CHOOSY, *obeys) as status:
        began = time.monotonic()
        getattr(executor if owner == "executor" else status, how)()
        took = time.monotonic() - began
        assert status.exit_code == code  # it is dead when that returns
        assert status.steps == steps
    assert least <= took < most + 5  # for a machine that is busy
    assert type(status.outcome.exception) is InterruptError
    assert f"{how}()" in str(status.outcome.exception)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    names = {INT: "SIGINT", TERM: "SIGTERM", KILL: "SIGKILL"}
    assert [text.split()[1] for text in warnings] == [names[step] for step in steps]
    assert status.outcome.steps == steps


def test_it_may_end_by_itself_first(begun: Any) -> None:
    source = "import time; print('there', flush=True); time.sleep(0.3); print('done')"
    with begun(LocalSubProcessExecute(suicide_timeout=10), source) as status:
        status.interrupt()
    assert (status.exit_code, status.steps, status.out) == (0, (), "there\ndone\n")
    assert type(status.outcome.exception) is InterruptError  # also when it ended with 0


@pytest.mark.parametrize(("argument", "code"), [("", -2), ("SIGINT", 2)])
def test_timeout(program: Any, argument: str, code: int) -> None:
    request = program(SLEEP if not argument else CHOOSY, argument)
    executor = LocalSubProcessExecute(timeout=0.3)
    with pytest.raises(TimeoutError, match=r"0\.3 s") as caught:
        executor(request)
    error = caught.value
    assert isinstance(error, builtins.TimeoutError)
    assert (error.timeout, error.request, error.errno) == (0.3, request, None)
    assert error.status is not None and error.status.exit_code == code
    assert error.status.out.startswith("there\n")
    assert 0.3 <= error.status.duration < 2
    again = pickle.loads(pickle.dumps(error))
    assert (again.timeout, again.status.exit_code, again.status.out) == (0.3, code, error.status.out)
    outcome = executor.run(request)
    assert not outcome and type(outcome.exception) is TimeoutError and outcome.exit_code == code


def test_the_timeout_of_the_request_is_first(program: Any) -> None:
    with pytest.raises(TimeoutError) as caught:
        LocalSubProcessExecute(timeout=60)(program(SLEEP, timeout=0.2))
    assert caught.value.timeout == 0.2
    assert LocalSubProcessExecute(timeout=0.01)(program("import time; time.sleep(0.1)", timeout=60)).success


@pytest.mark.parametrize("timeout", [1e9, float("inf")])
def test_very_long(program: Any, timeout: float) -> None:
    assert LocalSubProcessExecute(timeout=timeout, drain_timeout=timeout)(program("print(1)")).out == "1\n"


def test_no_time_at_all(program: Any) -> None:
    with pytest.raises(TimeoutError):
        LocalSubProcessExecute(timeout=0)(program(SLEEP))


def test_in_time(program: Any) -> None:
    status = LocalSubProcessExecute(timeout=30)(program("print(1)"))
    assert (status.exit_code, status.steps) == (0, ())


def test_from_another_thread(program: Any) -> None:
    there = threading.Event()
    executor = LocalSubProcessExecute(on_out=lambda data: there.set())
    result: list[Any] = []

    def run() -> None:
        try:
            executor(program(SLEEP))
        except InterruptError as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert there.wait(10)
    executor.interrupt()
    thread.join(10)
    (error,) = result
    assert (error.status.exit_code, error.status.out, error.status.steps) == (-2, "there\n", (INT,))
    assert not isinstance(error, KeyboardInterrupt)
    assert pickle.loads(pickle.dumps(error)).status.exit_code == -2


def test_all_commands_of_the_executor(begun: Any, program: Any) -> None:
    executor, other = LocalSubProcessExecute(), LocalSubProcessExecute()
    with begun(other, SLEEP) as untouched:
        with begun(executor, SLEEP) as one, begun(executor, SLEEP) as two:
            executor.terminate()
            assert (one.exit_code, two.exit_code) == (-15, -15)
        assert untouched.exit_code is None


def test_nothing_runs(program: Any) -> None:
    executor = LocalSubProcessExecute()
    executor.interrupt()
    executor.terminate()
    status = executor(program("print(1)"))
    assert status.success  # no effect on the next run
    executor.interrupt()
    status.interrupt()
    status.terminate()
    assert status.outcome is not None and status.outcome


def test_one_that_has_ended(program: Any) -> None:
    executor = LocalSubProcessExecute()
    with executor.call(program("print(1)")) as status:
        status.wait(10)
        executor.interrupt()
        status.terminate()
    assert status.outcome is not None and status.outcome
    assert (status.exit_code, status.steps) == (0, ())


@pytest.mark.parametrize("argument", ["SIGINT", ""])
def test_many_stops_at_once(begun: Any, argument: str) -> None:
    executor = LocalSubProcessExecute(**QUICK)
    with begun(executor, CHOOSY, argument) as status:
        threads = [
            threading.Thread(target=stop)
            for stop in (executor.interrupt, status.interrupt, executor.terminate, status.terminate) * 3
        ]
        codes: list[Any] = []
        threads.append(threading.Thread(target=lambda: (status.interrupt(), codes.append(status.exit_code))))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert status.exit_code is not None
        assert codes == [status.exit_code]  # a second stop waits for the first
    assert len(status.steps) == len(set(status.steps))


def test_stop_at_any_moment_of_the_start(program: Any) -> None:
    """No window in which a stop is lost: it is never started, or it is stopped."""
    executor = LocalSubProcessExecute()
    request = program(SLEEP)
    for number in range(40):
        results: list[Any] = []

        def run(results: list[Any] = results) -> None:
            try:
                executor(request)
            except InterruptError as error:
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        end = time.perf_counter() + number * 0.0001
        while time.perf_counter() < end:
            pass
        while thread.is_alive():  # one before the command is there has no effect on it
            executor.interrupt()
        assert [type(each) for each in results] == [InterruptError]
        status = results[0].status
        assert status.exit_code in (-2, 1, None) and (status.exit_code is None) == ("pid" not in status.metadata)


def test_a_stop_before_the_thread_can_listen(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from extsession import RunningCommand, StopCause
    from extsession._sync import command

    made = command.CommandMachine

    def slow(*arguments: Any) -> Any:
        running.stop(StopCause.TERMINATE)  # the process is there, and there is nothing to ring at
        return made(*arguments)

    monkeypatch.setattr(command, "CommandMachine", slow)
    from extsession import CommandSpec

    running = RunningCommand(CommandSpec(("sleep", "60"), "/bin/sleep"))
    running.start()
    assert running.wait(10)
    assert running.exit_code == -15


def test_leaving_the_block_stops_it(begun: Any, is_running: Any) -> None:
    with begun(LocalSubProcessExecute(), SLEEP) as status:
        pass
    assert (status.exit_code, status.steps) == (-2, (INT,))
    assert not is_running(status.metadata["pid"])
    assert status.outcome is not None and not status.outcome and status.outcome.exception is None


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_leaving_it_by_an_error(begun: Any, kind: type[BaseException]) -> None:
    error = kind("no")
    with pytest.raises(kind) as caught:
        with begun(LocalSubProcessExecute(), SLEEP) as status:
            raise error
    assert caught.value is error
    assert status.exit_code == -2
    assert status.outcome is not None


def test_the_executor_as_a_block(program: Any, is_running: Any) -> None:
    with LocalSubProcessExecute() as executor:
        assert isinstance(executor, LocalSubProcessExecute)
        block = executor.call(program(SLEEP))
        status = block.__enter__()
    assert status.exit_code is not None
    block.__exit__(None, None, None)
    with pytest.raises(ZeroDivisionError), executor:
        1 / 0
    assert executor(program("print(1)")).success  # it can be used again


def test_death_by_a_signal_is_a_result(program: Any) -> None:
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        status = LocalSubProcessExecute()(program(f"import os; os.kill(os.getpid(), {int(number)})"))
        assert status.exit_code == -number
        assert status.outcome is not None and status.outcome.exception is None and not status.outcome


def test_one_that_is_stopped_by_a_signal(begun: Any, eventually: Any) -> None:
    """SIGSTOP, not our ladder: it gets SIGCONT with each step, for else it could do nothing about it."""
    import psutil

    with begun(LocalSubProcessExecute(**QUICK), SLEEP) as status:
        os.kill(status.metadata["pid"], signal.SIGSTOP)
        eventually(lambda: psutil.Process(status.metadata["pid"]).status() == psutil.STATUS_STOPPED)
        status.interrupt()
        assert (status.exit_code, status.steps) == (-2, (INT,))


def test_output_until_death(begun: Any) -> None:
    with begun(LocalSubProcessExecute(), CHOOSY, "SIGINT", "SIGTERM") as status:
        status.interrupt()
    assert status.out == "there\nSIGTERM 2\n" or status.out == "there\nSIGINT 2\n"


def test_its_output_floods(program: Any) -> None:
    with pytest.raises(TimeoutError) as caught:
        LocalSubProcessExecute(timeout=0.2)(ExecuteRequest(["sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxx; done"]))
    assert caught.value.status is not None and caught.value.status.exit_code == -2
    assert caught.value.status.duration < 2


def test_the_whole_group_is_told_once(program: Any, eventually: Any) -> None:
    source = """
import os, signal, sys, time
count = 0
def told(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, told)
children = os.fork() and os.fork()
sys.stdout.write("there\\n"); sys.stdout.flush()
end = time.monotonic() + 0.25
while time.monotonic() < end or not count:
    time.sleep(0.02)
os.write(1, b"told %d\\n" % count)
if children:
    os.wait(); os.wait()
"""
    with LocalSubProcessExecute(interrupt_timeout=20).call(program(source)) as status:
        eventually(lambda: status.out.count("there") == 3)
        assert os.getpgid(status.metadata["pid"]) == status.metadata["pid"]
        status.interrupt()
    assert (status.exit_code, status.out.count("told 1\n")) == (0, 3)


def test_quick_for_a_polite_one_and_exact_for_a_stubborn_one(begun: Any) -> None:
    def seconds(executor: LocalSubProcessExecute, *obeys: str) -> float:
        with begun(executor, CHOOSY, *obeys) as status:
            began = time.monotonic()
            status.interrupt()
            return time.monotonic() - began

    assert min(seconds(LocalSubProcessExecute(interrupt_timeout=10), "SIGINT") for _ in range(3)) < 5
    executor = LocalSubProcessExecute(suicide_timeout=0.1, interrupt_timeout=0.1, terminate_timeout=0.1)
    assert 0.3 <= min(seconds(executor) for _ in range(3)) < 5


def test_stop_while_a_program_waits_for_input(eventually: Any) -> None:
    with LocalSubProcessExecute().call(ExecuteRequest(["cat"], stdin=StdinSource.API)) as status:
        status.write_stdin("x")
        eventually(lambda: status.out == "x")
        status.interrupt()
        assert status.exit_code == -2


def test_the_steps_name_no_secrets(begun: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), begun(LocalSubProcessExecute(), SLEEP, "--token=hush") as status:
        status.interrupt()
    assert caplog.records and "hush" not in caplog.text
    assert "hush" not in str(status.outcome.exception)
