"""`session.files`: the work directory of an isolated session."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .._launch.workdir import MOST, FileInfo, WorkDir


class SessionFiles:
    """Files of an isolated session: put, got, listed and deleted from outside, also while its code runs.

    Names are relative to the work directory, with "/". No link is followed. The directory is gone with the session.
    For all of them: ValueError for names that lead out of it; SessionClosed or SessionDied where there is no session;
    OSError as of files anywhere (FileNotFoundError, no space left).
    """

    def __init__(self, find: Callable[[], WorkDir]) -> None:
        self._find = find

    def put(self, name: str, data: bytes | str | os.PathLike[str]) -> None:
        """Write a file: bytes, text as UTF-8, or the content of a file of ours, by its path."""
        self._find().put(name, content_of(data))

    def get(self, name: str, *, most: int = MOST) -> bytes:
        """The content of a file; ValueError if it has more than `most` bytes."""
        return self._find().get(name, most)

    def list(self, folder: str = "") -> list[FileInfo]:
        """The files and folders in a folder, by name."""
        return self._find().list(folder)

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        self._find().delete(name)

    def put_tar(self, data: bytes) -> Sequence[str]:
        """Unpack a tar archive of regular files and folders; the names of the files."""
        return self._find().put_tar(data)

    def get_tar(self, *, most: int = MOST) -> bytes:
        """All files as a tar archive; ValueError if they are more than `most` bytes together."""
        return self._find().get_tar(most)


def content_of(data: bytes | str | os.PathLike[str]) -> bytes:
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, os.PathLike):
        with open(data, "rb") as file:
            return file.read()
    raise TypeError(f"a file is written from bytes, a str or a path, not from {type(data).__name__}")
