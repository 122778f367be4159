"""Messages between a test's process and who reports it: a length of four bytes, then JSON. See `messages`.

A test's process writes, and nobody answers:

    ["phase", when, xfail or null]           setup, call or teardown begins
    ["report", data, text or null]           as of `pytest_report_to_serializable`; of failures that it has no form for
    ["warning", {...}]                       a warning, as data
    ["exit", reason, returncode or null]     pytest.exit() was called
    ["interrupt"]                            KeyboardInterrupt came out
    ["stop", shouldstop, shouldfail]         of the session, where the test has set them
    ["failed", traceback]                    what is not the test's fault
    ["done"]                                 nothing is to come
"""

from __future__ import annotations

import json
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LENGTH = struct.Struct("!I")


def pack(message: Any) -> bytes:
    data = json.dumps(message, default=repr).encode("ascii")
    return LENGTH.pack(len(data)) + data


def write(fd: int, data: bytes) -> None:
    """Write all of it. It blocks until there is room. OSError: nobody reads any more."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Decoder:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        """The messages that are complete now. ValueError: it is none of ours."""
        self._data += data
        found = []
        while len(self._data) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._data)
            end = LENGTH.size + length
            if len(self._data) < end:
                break
            message = json.loads(bytes(self._data[LENGTH.size : end]))
            del self._data[:end]
            if not isinstance(message, list) or not message or not isinstance(message[0], str):
                raise ValueError("a message that is none")
            found.append(message)
        return found
