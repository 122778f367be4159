"""Limits of a command and of all that it starts."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from extsession import Limits
from extsession.execute import ExecuteRequest, LimitError, LocalSubProcessExecute, SessionExecute

MB = 2**20
GREED = "data = []\nwhile True: data.append(bytearray(b'x' * 2**20))"
IN_A_CHILD = "import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', {!r}], start_new_session=True)"
IN_AN_ORPHAN = "import os, time\nif not os.fork():\n    os.setsid()\n    if os.fork(): os._exit(0)\n    exec({!r})\ntime.sleep(60)"


@pytest.fixture(params=[LocalSubProcessExecute, SessionExecute])
def executor(request: pytest.FixtureRequest) -> Any:
    return request.param()


def over(executor: Any, source: str, **limits: Any) -> LimitError:
    with pytest.raises(LimitError) as caught:
        executor(ExecuteRequest([sys.executable, "-c", source], limits=Limits(**limits), timeout=60))
    error = caught.value
    assert error.status is not None
    assert error.status.exit_code == -9
    assert error.limit is not None
    assert error.reached is not None
    assert error.reached >= error.allowed == limits[error.limit]
    assert error.limit in str(error)
    assert pickle.loads(pickle.dumps(error)).limit == error.limit
    return error


@pytest.mark.parametrize("form", ["{}", IN_A_CHILD, IN_AN_ORPHAN])
def test_memory(executor: Any, form: str) -> None:
    source = GREED if form == "{}" else form.format(GREED)
    assert over(executor, source, memory=150 * MB).limit == "memory"


def test_cpu(executor: Any) -> None:
    assert over(executor, "while True: pass", cpu=0.2, memory=500 * MB).limit == "cpu"


def test_processes(executor: Any) -> None:
    source = "import os, time\nfor _ in range(30):\n    if not os.fork(): time.sleep(60); os._exit(0)\ntime.sleep(60)"
    assert over(executor, source, processes=10).limit == "processes"


def test_output(executor: Any) -> None:
    error = over(executor, "print('first', flush=True)\nwhile True: print('x' * 1000)", output=100_000)
    assert error.limit == "output"
    assert error.status is not None
    assert error.status.out.startswith("first\n")


def test_within_the_limits(executor: Any) -> None:
    limits = Limits(memory=500 * MB, cpu=20, processes=20, output=1000)
    request = ExecuteRequest([sys.executable, "-c", "print(sum(range(10**6)))"], limits=limits)
    assert executor(request).out == "499999500000\n"
    assert pickle.loads(pickle.dumps(request)) == request


def test_an_outcome_of_it_is_a_failure(executor: Any) -> None:
    request = ExecuteRequest([sys.executable, "-c", "while True: print('x' * 1000)"], limits=Limits(output=1000))
    outcome = executor.run(request)
    assert isinstance(outcome.exception, LimitError)
    outcome.assert_failure()
    assert not outcome


def test_limits_that_commands_do_not_have() -> None:
    for name, value in (("wall", 1.0), ("open_files", 100), ("file_size", 1000), ("idle", 1.0), ("session_cpu", 1.0)):
        with pytest.raises(ValueError, match=f"Limits.{name} is no limit of a command"):
            ExecuteRequest(["x"], limits=Limits(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="limits takes a Limits"):
        ExecuteRequest(["x"], limits=3)  # type: ignore[arg-type]
