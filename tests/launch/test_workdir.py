"""Files in a work directory whose owner is hostile (`_launch/workdir.py`), without a session."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from extsession._launch import walled
from extsession._launch.workdir import FileInfo, WorkDir, remove

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation is for Linux only")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "secret").write_text("hunter2")
    return folder


@pytest.fixture
def files(work: Path) -> WorkDir:
    return WorkDir(str(work))


def test_there_and_back(files: WorkDir, work: Path) -> None:
    files.put("a/b/c.bin", bytes(range(256)) * 9000)
    files.put("top", b"")
    assert files.get("a/b/c.bin", 2**22) == bytes(range(256)) * 9000
    assert files.get("./a//b/./c.bin", 2**22)[:3] == b"\0\1\2"
    found = files.list("")
    assert [(each.name, each.kind) for each in found] == [("a", "folder"), ("top", "file")]
    assert isinstance(found[0], FileInfo)
    assert [each.name for each in files.list("a/b")] == ["a/b/c.bin"]
    files.put("top", b"shorter")
    files.put("top", b"s")
    assert files.get("top", 10) == b"s"
    files.delete("a")
    files.delete("top")
    assert files.list(".") == []
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "/", "/etc/passwd", "..", "../secret", "a/../../secret", "a\0b", "//x"])
def test_names_that_lead_out(files: WorkDir, name: str) -> None:
    for use in (lambda: files.put(name, b""), lambda: files.get(name, 9), lambda: files.delete(name)):
        with pytest.raises(ValueError, match="is no name of a file"):
            use()
    with pytest.raises(TypeError):
        files.get(3, 9)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "..", "/", "loop"])
def test_no_link_is_followed(files: WorkDir, work: Path, target: str) -> None:
    (work / "loop").symlink_to(target)
    for use in (
        lambda: files.get("loop", 99),
        lambda: files.put("loop", b"x"),
        lambda: files.get("loop/secret", 99),
        lambda: files.put("loop/new", b"x"),
        lambda: files.list("loop"),
        lambda: files.delete("loop/secret"),
    ):
        with pytest.raises(OSError):
            use()
    assert (work.parent / "secret").read_text() == "hunter2"
    assert [each.kind for each in files.list("")] == ["other"]
    files.delete("loop")  # the link itself
    assert (work.parent / "secret").exists()


def test_what_is_no_file(files: WorkDir, work: Path) -> None:
    os.mkfifo(work / "fifo")
    (work / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises((ValueError, OSError)):
            files.get(name, 9)
        with pytest.raises((ValueError, OSError)):
            files.put(name, b"x")
    with pytest.raises(FileNotFoundError):
        files.get("none", 9)
    with pytest.raises(NotADirectoryError):
        files.put("fifo/x", b"")


def test_more_than_may_be_read(files: WorkDir, work: Path) -> None:
    (work / "large").write_bytes(bytes(1000))
    assert len(files.get("large", 1000)) == 1000
    with pytest.raises(ValueError, match="more than the 999 bytes"):
        files.get("large", 999)


def test_a_file_that_grows_while_it_is_read(files: WorkDir, work: Path) -> None:
    stop = threading.Event()

    def grow() -> None:
        with open(work / "growing", "wb", buffering=0) as file:
            while not stop.is_set():
                file.write(bytes(65536))
                if file.tell() > 50_000_000:
                    file.seek(0)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        while not (work / "growing").exists() or (work / "growing").stat().st_size < 3_000_000:
            os.sched_yield()
        with pytest.raises(ValueError, match="more than"):
            files.get("growing", 2_000_000)
    finally:
        stop.set()
        thread.join()


def test_folders_without_end(files: WorkDir, work: Path) -> None:
    fd = os.open(work, os.O_RDONLY)
    for depth in range(3000):
        os.mkdir("d", 0o700, dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o400, dir_fd=below))
        if depth % 7 == 0:
            os.chmod(fd, 0o700)
        os.close(fd)
        fd = below
    os.fchmod(fd, 0)
    os.close(fd)
    files.put("other", b"1")
    files.delete("d")
    assert [each.name for each in files.list("")] == ["other"]
    remove(str(work))
    assert not work.exists()


def test_removing_goes_no_way_out(work: Path) -> None:
    (work / "out").symlink_to("..")
    (work / "inner").mkdir()
    (work / "inner" / "up").symlink_to(work.parent)
    (work / "inner" / "hard").hardlink_to(work.parent / "secret")
    remove(str(work))
    assert not work.exists()
    assert (work.parent / "secret").read_text() == "hunter2"
    remove(str(work))  # nothing the second time


def _archive(*members: tuple[str, bytes | None, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = "/etc/passwd"
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def test_archives(files: WorkDir) -> None:
    data = _archive(("a", None, tarfile.DIRTYPE), ("a/b.txt", b"text", tarfile.REGTYPE), ("c", b"", tarfile.REGTYPE))
    assert list(files.put_tar(data)) == ["a/b.txt", "c"]
    assert files.get("a/b.txt", 9) == b"text"
    with tarfile.open(fileobj=io.BytesIO(files.get_tar(100))) as archive:
        assert archive.getnames() == ["a", "a/b.txt", "c"]
        content = archive.extractfile("a/b.txt")
        assert content is not None
        assert content.read() == b"text"
    with pytest.raises(ValueError, match="more than"):
        files.get_tar(3)


@pytest.mark.parametrize(
    "member",
    [
        ("../out", b"x", tarfile.REGTYPE),
        ("/abs", b"x", tarfile.REGTYPE),
        ("link", None, tarfile.SYMTYPE),
        ("hard", None, tarfile.LNKTYPE),
        ("fifo", None, tarfile.FIFOTYPE),
        ("device", None, tarfile.CHRTYPE),
    ],
)
def test_archives_that_lead_out_unpack_nothing(files: WorkDir, work: Path, member: tuple[str, bytes | None, bytes]) -> None:
    with pytest.raises(ValueError):
        files.put_tar(_archive(("fine", b"1", tarfile.REGTYPE), member))
    assert list(work.iterdir()) == []


def test_packing_follows_no_link(files: WorkDir, work: Path) -> None:
    (work / "link").symlink_to("../secret")
    os.mkfifo(work / "fifo")
    with tarfile.open(fileobj=io.BytesIO(files.get_tar(100))) as archive:
        assert archive.getnames() == []


def test_what_a_killed_controller_has_left(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = tmp_path / f"extsession-work-{gone.pid}-abc"
    kept = tmp_path / f"extsession-work-{os.getpid()}-abc"
    other = tmp_path / "extsession-work-x"
    for folder in (left, kept, other):
        (folder / "deep").mkdir(parents=True)
    link = tmp_path / f"extsession-work-{gone.pid}-link"
    link.symlink_to(tmp_path)
    walled.sweep(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([kept, other, link])
