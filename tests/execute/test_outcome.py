"""Statuses and outcomes, by hand and of commands."""

from __future__ import annotations

import io
import logging
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSessionError
from extsession.execute import (
    CommandNotAllowedError,
    CommandNotFoundError,
    Execute,
    ExecuteError,
    ExecuteRequest,
    ExecuteStatus,
    InterruptError,
    LocalSubProcessExecute,
    Outcome,
    TimeoutError,
)


def test_a_status_by_hand() -> None:
    status = ExecuteStatus(3, "out\udcff", "err", 1.5, metadata={"host": "a"})
    assert (status.exit_code, status.out, status.err, status.duration) == (3, "out\udcff", "err", 1.5)
    assert (status.out_bytes, status.err_bytes) == (b"out\xff", b"err")
    assert (status.success, status.metadata, status.outcome, status.steps) == (False, {"host": "a"}, None, ())
    plain = ExecuteStatus(0)
    assert (plain.success, plain.out, plain.err, plain.duration, plain.metadata) == (True, "", "", 0.0, {})
    assert ExecuteStatus(None).success is False
    for each in (status, plain):
        assert each.wait() == each.wait(0) == each.exit_code
        each.write_stdin("x")
        each.close_stdin()
        each.interrupt()
        each.terminate()


@pytest.mark.parametrize("name", ["exit_code", "out", "err", "duration", "success", "outcome", "metadata"])
def test_a_status_is_not_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(ExecuteStatus(0), name, 1)


@pytest.mark.parametrize("wrong", [b"x", 3, None])
def test_output_by_hand_is_text(wrong: Any) -> None:
    with pytest.raises(TypeError, match="text"):
        ExecuteStatus(0, wrong)


def test_a_status_of_a_process(program: Any) -> None:
    status = LocalSubProcessExecute()(program("import os; print(os.getpid()); os._exit(3) if 0 else None"))
    assert status.metadata == {"pid": int(status.out)}
    assert isinstance(status.duration, float) and 0 < status.duration < 10
    assert status.outcome is not None and status.outcome.status is status


def test_the_facts_of_an_outcome(program: Any) -> None:
    request = program("import sys; print('o'); print('e', file=sys.stderr); sys.exit(3)")
    outcome = LocalSubProcessExecute().run(request)
    assert (outcome.exit_code, outcome.out, outcome.err, outcome.out_err()) == (3, "o\n", "e\n", ("o\n", "e\n"))
    assert outcome.request is request
    assert outcome.cmd == tuple(request.cmd)
    assert outcome.exception is None and outcome.metadata == outcome.status.metadata
    assert outcome.elapsed == pytest.approx(outcome.end - outcome.start) == pytest.approx(outcome.status.duration)
    assert (Outcome.OK, Outcome.FAILED) == (0, 1)
    assert not outcome.show_on_standard


def test_an_outcome_by_hand() -> None:
    outcome = Outcome(ExecuteStatus(0, duration=2.5))
    assert (outcome.start, outcome.end, outcome.elapsed, outcome.request, outcome.cmd) == (0.0, 2.5, 2.5, None, ())
    outcome = Outcome(ExecuteStatus(0), cmd=["x", "--token=a"], start=3.0, end=4.5)
    assert (outcome.elapsed, repr(outcome)) == (1.5, "Outcome: exit 0 in 1.50 seconds for x '--token=*'")


ERROR = ExecuteError("no")
STARTED = {"metadata": {"pid": 7}}
#: exit code, exception, metadata: is it true, does assert_success return, does assert_failure
JUDGED = [
    (0, None, {}, True, True, False),
    (1, None, {}, False, False, True),
    (-9, None, {}, False, False, True),
    (None, None, {}, False, True, True),
    (2, CommandNotFoundError("no"), {}, False, False, False),
    (None, CommandNotAllowedError("no"), {}, False, False, False),
    (None, ERROR, {}, False, False, False),
    (-9, TimeoutError("no"), STARTED, False, False, True),
    (0, InterruptError("no"), STARTED, False, False, False),
    (0, ERROR, {}, False, False, False),
    (1, ValueError("their own"), {}, False, False, True),
]


@pytest.mark.parametrize(("code", "error", "facts", "truth", "success", "failure"), JUDGED)
def test_judged(
    code: Any, error: Any, facts: Any, truth: bool, success: bool, failure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = Outcome(ExecuteStatus(code, **facts), error)
    assert bool(outcome) is truth
    for method, returns in ((outcome.assert_success, success), (outcome.assert_failure, failure)):
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            if returns:
                method()
            else:
                with pytest.raises(SystemExit) as caught:
                    method()
                assert caught.value.code == (code or 1) != 0
        assert [record.levelname for record in caplog.records] == ["INFO" if returns else "CRITICAL"]


@pytest.mark.parametrize("shown", [False, True])
def test_to_fail_shows_what_was_not_shown(shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    for out, err, wanted in (
        ("o", "e\n", ("o\n", "\x1b[31me\x1b[39m\n")),
        ("o\n", "e", ("o\n", "\x1b[31me\x1b[39m\n")),
        ("", "", ("", "")),
    ):
        with pytest.raises(SystemExit):
            Outcome(ExecuteStatus(1, out, err), show_on_standard=shown).assert_success()
        assert tuple(capsys.readouterr()) == (("", "") if shown else wanted)


def test_what_the_terminal_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with pytest.raises(SystemExit):
        Outcome(ExecuteStatus(1, "z\u00fcrich \udcff\n")).assert_success()
    assert raw.getvalue() == b"z\\xfcrich \\udcff\n"


def test_the_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    with caplog.at_level(logging.DEBUG, "extsession.execute"):
        outcome = LocalSubProcessExecute().run(ExecuteRequest(["sh", "-c", "exit 3", "--token=abc"], tmp_path))
        outcome.log_run_done(logging.WARNING)
        Outcome(ExecuteStatus(None), request=ExecuteRequest(["ls"]), start=1.0, end=1.126).log_run_done(logging.DEBUG)
    first, second = caplog.records
    assert (first.name, first.levelname, second.levelname) == ("extsession.execute", "WARNING", "DEBUG")
    wanted = rf"exit 3 \(\d\.\d\d seconds\) {re.escape(str(tmp_path))}> sh -c 'exit 3' '--token=\*\*\*' pid=\d+"
    assert re.fullmatch(wanted, first.getMessage())
    assert second.getMessage() == "exit None (0.13 seconds) /> ls"


def test_repr() -> None:
    outcome = LocalSubProcessExecute().run(ExecuteRequest(["sh", "-c", "exit 3", "--token=abc"]))
    assert re.fullmatch(r"Outcome: exit 3 in \d\.\d\d seconds for sh -c 'exit 3' '--token=\*\*\*'", repr(outcome))
    assert "exit 3" in repr(outcome.status)


ERRORS = [ExecuteError, CommandNotFoundError, CommandNotAllowedError, TimeoutError, InterruptError]


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind: type[ExecuteError]) -> None:
    request, status = ExecuteRequest(["ls"]), ExecuteStatus(3, "out")
    error = kind("text", request=request, status=status, errno=5)
    assert isinstance(error, (ExecuteError, ExtSessionError))
    assert not isinstance(error, KeyboardInterrupt)
    assert (str(error), error.request, error.status, error.errno) == ("text", request, status, 5)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.request, again.errno) == (kind, "text", request, 5)
    assert (again.status.exit_code, again.status.out) == (3, "out")
    bare = kind("text")
    assert (bare.request, bare.status, bare.errno) == (None, None, None)


def test_all_of_it_pickles(program: Any) -> None:
    executor = LocalSubProcessExecute(timeout=0.2)
    with executor.call(program("print('o')")) as live:
        live.wait(10)
        assert pickle.loads(pickle.dumps(live)).out == "o\n"
    outcome = executor.run(program("import time; print('o', flush=True); time.sleep(60)"))
    again = pickle.loads(pickle.dumps(outcome))
    assert (again.exit_code, again.out, type(again.exception)) == (outcome.exit_code, "o\n", TimeoutError)
    assert again.status.outcome is again
    assert again.exception.status.exit_code == outcome.exit_code
    with executor.call(program("import time; time.sleep(60)")) as live, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(live)


def test_an_executor_is_abstract() -> None:
    with pytest.raises((TypeError, NotImplementedError)):
        Execute()(ExecuteRequest(["ls"]))  # type: ignore[abstract]


class Own(Execute):
    """Of a user, who did not call super().__init__()."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)

    def __call__(self, request: ExecuteRequest) -> ExecuteStatus:
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return ExecuteStatus(result, str(result))


def test_an_executor_of_a_user() -> None:
    with Own(0, 3, ExecuteError("no", errno=7)) as own:
        assert isinstance(own, Own)
        own.interrupt()
        own.terminate()
        request = ExecuteRequest(["ls"])
        assert own(request).success
        outcome = own.run(request)
        assert (outcome.exit_code, outcome.request, outcome.cmd, bool(outcome)) == (3, request, ("ls",), False)
        outcome = own.run(request)
        assert (outcome.exit_code, str(outcome.exception)) == (7, "no")
    for error in (KeyboardInterrupt(), ValueError("no")):
        with pytest.raises(type(error)), Own(error) as own:
            own.run(request)


def test_leaving_an_executor_lets_errors_pass() -> None:
    stopped = []

    class Stopping(Own):
        def interrupt(self) -> None:
            stopped.append(1)

    with pytest.raises(ZeroDivisionError), Stopping():
        1 / 0
    assert stopped == [1]


def test_run_of_what_is_missing_and_of_what_is_stopped(program: Any) -> None:
    executor = LocalSubProcessExecute(timeout=0.2)
    missing = executor.run(ExecuteRequest(["nonesuch"]))
    with pytest.raises(SystemExit):
        missing.assert_failure()
    late = executor.run(program("import time; time.sleep(60)"))
    late.assert_failure()
    with pytest.raises(SystemExit) as caught:
        late.assert_success()
    assert caught.value.code == -2
