"""The same command again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from extsession.execute import (
    CommandNotFoundError,
    Execute,
    ExecuteError,
    ExecuteRequest,
    ExecuteStatus,
    InterruptError,
    LocalSubProcessExecute,
    TimeoutError,
)

REQUEST = ExecuteRequest(["tool", "--token=abc"])


class Scripted(Execute):
    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.requests: list[ExecuteRequest] = []

    def __call__(self, request: ExecuteRequest) -> ExecuteStatus:
        self.requests.append(request)
        result = self.results[len(self.requests) - 1]
        if isinstance(result, BaseException):
            raise result
        return ExecuteStatus(result)


@pytest.mark.parametrize(
    ("results", "options", "code", "attempts"),
    [
        ([0, 1], {}, 0, 1),
        ([1, 0, 1], {}, 0, 2),
        ([1, 2, 3, 0], {}, 3, 3),
        ([1, 0], {"max_retries": 1}, 1, 1),
        ([1, 2, 3, 4, 5, 0], {"max_retries": 5}, 5, 5),
        ([1, 2, 0], {"should_retry": lambda status: status.exit_code == 1}, 2, 2),
        ([ExecuteError("a"), 0], {}, 0, 2),
        ([TimeoutError("a"), CommandNotFoundError("b"), 7], {}, 7, 3),
        ([ExecuteError("a"), 2, 0], {"should_retry": lambda status: False}, 2, 2),
    ],
)
def test_attempts(results: list[Any], options: Any, code: int, attempts: int, caplog: pytest.LogCaptureFixture) -> None:
    executor = Scripted(*results)
    most = options.get("max_retries", 3)
    began = time.monotonic()
    assert executor.execute_with_retry(REQUEST, **options).exit_code == code
    assert time.monotonic() - began < 5  # no sleeping
    assert executor.requests == [REQUEST] * attempts
    assert [record.levelname for record in caplog.records] == ["WARNING"] * (attempts - 1)
    wanted = [f"attempt {number} of {most}: tool '--token=***'" for number in range(2, attempts + 1)]
    assert [record.getMessage() for record in caplog.records] == wanted


def test_an_error_of_the_last_attempt() -> None:
    last = TimeoutError("last")
    executor = Scripted(ExecuteError("first"), last, 0)
    with pytest.raises(TimeoutError) as caught:
        executor.execute_with_retry(REQUEST, 2)
    assert caught.value is last


@pytest.mark.parametrize("error", [InterruptError("no"), KeyboardInterrupt(), ValueError("no")])
def test_never_again(error: BaseException) -> None:
    executor = Scripted(1, error, 0)
    with pytest.raises(type(error)) as caught:
        executor.execute_with_retry(REQUEST)
    assert caught.value is error
    assert len(executor.requests) == 2


@pytest.mark.parametrize("number", [0, -1])
def test_at_least_one(number: int) -> None:
    executor = Scripted(0)
    with pytest.raises(ValueError, match="at least 1"):
        executor.execute_with_retry(REQUEST, number)
    assert not executor.requests


@pytest.mark.parametrize("number", [1.5, "3", True, None])
def test_a_number(number: Any) -> None:
    with pytest.raises(TypeError, match="max_retries"):
        Scripted(0).execute_with_retry(REQUEST, number)


def test_with_processes(tmp_path: Any) -> None:
    source = 'echo x >> "$0"; test $(wc -l < "$0") -ge 3'
    request = ExecuteRequest(["sh", "-c", source, str(tmp_path / "count")])
    assert LocalSubProcessExecute().execute_with_retry(request, 5).success
    assert (tmp_path / "count").read_text() == "x\n" * 3
