"""`session.files` of an AsyncExtSession."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import anyio.to_thread

from .._engine.files import SessionFiles
from .._launch.workdir import MOST, FileInfo


class AsyncSessionFiles:
    """As SessionFiles; a thread does the work."""

    def __init__(self, files: SessionFiles) -> None:
        self._files = files

    async def put(self, name: str, data: bytes | str | os.PathLike[str]) -> None:
        """As SessionFiles.put."""
        await anyio.to_thread.run_sync(self._files.put, name, data)

    async def get(self, name: str, *, most: int = MOST) -> bytes:
        """As SessionFiles.get."""
        return await anyio.to_thread.run_sync(partial(self._files.get, name, most=most))

    async def list(self, folder: str = "") -> list[FileInfo]:
        """As SessionFiles.list."""
        return await anyio.to_thread.run_sync(self._files.list, folder)

    async def delete(self, name: str) -> None:
        """As SessionFiles.delete."""
        await anyio.to_thread.run_sync(self._files.delete, name)

    async def put_tar(self, data: bytes) -> Sequence[str]:
        """As SessionFiles.put_tar."""
        return await anyio.to_thread.run_sync(self._files.put_tar, data)

    async def get_tar(self, *, most: int = MOST) -> bytes:
        """As SessionFiles.get_tar."""
        return await anyio.to_thread.run_sync(partial(self._files.get_tar, most=most))
