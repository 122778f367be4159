"""Files in the work directory of an isolated session, put there and fetched from outside.

Its code is hostile: what looks like a file may be a link to one of ours, a FIFO that nobody writes to, or a file that
grows while it is read. So each part of a name is opened below the one before, and never through a link (O_NOFOLLOW, see
open(2)), only regular files are read and written, without blocking, and never more than was said.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import itertools
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final


def _flags(*names: str) -> int:
    """Together, as far as the system has them: the package is imported on Windows as well."""
    return sum(getattr(os, name, 0) for name in names)


_FOLDER: Final = os.O_RDONLY | _flags("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_FILE: Final = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
#: bytes that are read at most, where nothing else is said
MOST: Final = 64 * 2**20
#: most files and folders that are listed or packed, and how deep
_MANY: Final = 100_000
_DEEP: Final = 64
#: what opening a file gives that is not there any more, or something else by now
_CHANGED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR)


@dataclass(frozen=True)
class FileInfo:
    """A file or folder of a session's. name: from the work directory on; size: bytes; modified: seconds since 1970.

    kind: "file", "folder", or "other", which can be neither fetched nor written to: links, sockets and the like.
    """

    name: str
    kind: str
    size: int
    modified: float


class WorkDir:
    """A work directory. path: by which the controller comes to it; room: bytes that an archive may unpack to.

    is_there: asked when it has been opened, whether the session was alive: the path could lead to another's, else.
    """

    def __init__(self, path: str, room: int = MOST, is_there: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._room = room
        self._is_there = is_there

    def put(self, name: str, data: bytes) -> None:
        """Write a file, with the folders on its way. OSError: no room is left, or something else is there."""
        *folders, last = _parts(name)
        with self._open() as root, _walk(root, folders, make=True) as folder:
            fd = os.open(last, _FILE | os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
            try:
                _require_file(fd, name)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            except OSError:  # no half of a file
                os.unlink(last, dir_fd=folder)
                raise
            finally:
                os.close(fd)

    def get(self, name: str, most: int) -> bytes:
        """What is in a file. ValueError: it is larger than `most` bytes; OSError: there is none."""
        *folders, last = _parts(name)
        with self._open() as root, _walk(root, folders) as folder:
            return _read(last, folder, name, most)

    def list(self, name: str) -> list[FileInfo]:
        """What is in a folder, by name."""
        with self._open() as root, _walk(root, _parts(name) if name not in ("", ".") else []) as folder:
            prefix = "" if name in ("", ".") else "/".join(_parts(name)) + "/"
            return [found for each in _names(folder) if (found := _info(prefix + each, each, folder)) is not None]

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it. OSError: there is none."""
        *folders, last = _parts(name)
        with self._open() as root, _walk(root, folders) as folder:
            _remove(last, folder)

    def put_tar(self, data: bytes) -> Sequence[str]:
        """Unpack an archive: regular files and folders only. Their names. ValueError names a member that is none."""
        found = []
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = archive.getmembers()
            for member in members:
                if not (member.isfile() or member.isdir()):
                    raise ValueError(f"{member.name!r} in the archive is neither a file nor a folder")
                _parts(member.name)
            size = sum(member.size for member in members)
            if size > self._room:
                raise ValueError(f"the archive unpacks to {size} bytes, and there is room for {self._room}")
            for member in members:
                if member.isdir():
                    with self._open() as root, _walk(root, _parts(member.name), make=True):
                        pass
                    continue
                content = archive.extractfile(member)
                assert content is not None
                self.put(member.name, content.read())
                found.append(member.name)
        return found

    def get_tar(self, most: int) -> bytes:
        """All files as an archive. ValueError: they are more than `most` bytes together."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive, self._open() as root:
            self._pack(archive, root, "", most, 0)
        return buffer.getvalue()

    def _pack(self, archive: tarfile.TarFile, folder: int, prefix: str, room: int, depth: int) -> int:
        for name in _names(folder):
            info = _info(prefix + name, name, folder)
            if info is None:
                continue
            member = tarfile.TarInfo(info.name)
            member.mtime = info.modified
            try:
                if info.kind == "file":
                    content = _read(name, folder, info.name, room)
                    member.size = len(content)
                    room -= len(content)
                    archive.addfile(member, io.BytesIO(content))
                elif info.kind == "folder" and depth < _DEEP:
                    with _walk(folder, [name]) as below:
                        member.type, member.mode = tarfile.DIRTYPE, 0o755
                        archive.addfile(member)
                        room = self._pack(archive, below, info.name + "/", room, depth + 1)
            except OSError as error:
                if error.errno not in _CHANGED:
                    raise
        return room

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._is_there():
                raise FileNotFoundError(errno.ENOENT, "the session has ended", self._path)
            with _as_owner(fd):
                yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _as_owner(folder: int) -> Iterator[None]:
    """For root: be who the folder belongs to, for this thread and as far as files go (setfsuid(2)).

    So we can do no more there than the session, and what we make is its own. In a file system of its user namespace
    nobody else can make anything.
    """
    if os.geteuid() != 0:
        yield
        return
    owner = os.fstat(folder)
    libc = ctypes.CDLL(None)
    libc.setfsgid(owner.st_gid)
    libc.setfsuid(owner.st_uid)
    try:
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(os.getegid())


def _parts(name: str) -> list[str]:
    """The parts of a name; ValueError for one that is none, or leads out."""
    if not isinstance(name, str):
        raise TypeError(f"names of files are str, not {type(name).__name__}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file in the work directory: it is to be relative, without ..")
    return parts


@contextlib.contextmanager
def _walk(root: int, folders: list[str], make: bool = False) -> Iterator[int]:
    """The folder below `root`, by no link."""
    fd = os.dup(root)
    try:
        for name in folders:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=fd)
            below = os.open(name, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _require_file(fd: int, name: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ValueError(f"{name!r} is no regular file")


def _read(name: str, folder: int, shown: str, most: int) -> bytes:
    fd = os.open(name, _FILE | os.O_RDONLY, dir_fd=folder)
    try:
        _require_file(fd, shown)
        data = bytearray()
        while len(data) <= most:
            piece = os.read(fd, min(2**20, most + 1 - len(data)))
            if not piece:
                return bytes(data)
            data += piece
    finally:
        os.close(fd)
    raise ValueError(f"{shown!r} has more than the {most} bytes that may be read")


def _names(folder: int) -> list[str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > _MANY:
                raise ValueError(f"there are more than {_MANY} files in one folder")
    return sorted(names)


def _info(shown: str, name: str, folder: int) -> FileInfo | None:
    """None: it is not there any more."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    kind = "file" if stat.S_ISREG(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else "other"
    return FileInfo(shown, kind, found.st_size, found.st_mtime)


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
        return
    except (IsADirectoryError, PermissionError):
        _allow(name, folder)
    with _walk(folder, [name]) as below:
        _empty(below)
    os.rmdir(name, dir_fd=folder)


def _empty(folder: int) -> None:
    """Remove all that is in a folder, however deep: a folder in a folder of it is moved up first."""
    while names := _some_names(folder):
        for name in names:
            if _is_unlinked(name, folder):
                continue
            with _walk(folder, [name]) as below:
                while inner := _some_names(below):
                    for each in inner:
                        if not _is_unlinked(each, below):
                            os.rename(each, f".{os.urandom(8).hex()}", src_dir_fd=below, dst_dir_fd=folder)
            os.rmdir(name, dir_fd=folder)


def _some_names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, 1000)]


def _is_unlinked(name: str, folder: int) -> bool:
    """Remove it, unless it is a folder, which may be changed then."""
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):
        _allow(name, folder)
        return False
    return True


def _allow(name: str, folder: int) -> None:
    """Let its owner do all with a folder. By a descriptor of the folder itself: no link leads us elsewhere."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove a work directory of the host, after its session; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        fd = os.open(path, _FOLDER)
        try:
            with _as_owner(fd):
                _empty(fd)
        finally:
            os.close(fd)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def size_of(path: str) -> int:
    """Bytes on disk of what is in a folder, of its first 100,000 files; no link is followed."""
    total = count = 0
    with contextlib.suppress(OSError, RecursionError):  # what changes meanwhile is seen the next time
        for _, folders, files, fd in os.fwalk(path, follow_symlinks=False):
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
            count += len(folders) + len(files)
            if count > _MANY:
                break
    return total
