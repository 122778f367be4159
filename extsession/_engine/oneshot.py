"""What a one-shot gives."""

from __future__ import annotations

from typing import NamedTuple


class _Printed(NamedTuple):
    stdout: str
    stderr: str


class ExecResult(_Printed):
    """What a program printed: a tuple (stdout, stderr).

    exit_status: as the shell would see it, None if a signal ended the process; error: what the program
    raised, or what ended it; None if it went well.
    """

    exit_status: int | None
    error: BaseException | None

    def __new__(
        cls, stdout: str, stderr: str, exit_status: int | None = 0, error: BaseException | None = None
    ) -> ExecResult:
        self = super().__new__(cls, stdout, stderr)
        self.exit_status = exit_status
        self.error = error
        return self
