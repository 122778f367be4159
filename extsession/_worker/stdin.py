"""sys.stdin: what the code reads, the controller is asked for. Descriptor 0 is empty."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .serve import Server


class StdinReader(io.RawIOBase):
    """Asks the controller for each line. End of file where nothing runs.

    In a child that the code has forked it is what sys.stdin is in any process: it reads descriptor 0.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._rest = b""
        self.name = "<stdin>"
        self.mode = "rb"

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def isatty(self) -> bool:
        return os.getpid() != self._server.pid and os.isatty(0)

    def readinto(self, buffer: Any) -> int:
        server = self._server
        if not self._rest:
            if os.getpid() != server.pid:
                return os.readv(0, [buffer])
            if not server.router.call:
                return 0
            self._rest = server.ask_for_input(_asks_for_password())
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def open_stdin(server: Server, encoding: str, errors: str) -> Any:
    """Make sys.stdin anew; what the last one held is gone."""
    text = io.TextIOWrapper(
        io.BufferedReader(StdinReader(server)),
        encoding=encoding,
        errors=errors,
    )
    text.mode = "r"  # type: ignore[misc]
    return text


def _asks_for_password() -> bool:
    # getpass falls back to sys.stdin when there is no terminal: its frame tells that it asks
    module: Any = sys.modules.get("getpass")
    if module is None:
        return False
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is module.__dict__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


