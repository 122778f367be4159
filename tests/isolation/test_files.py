"""`session.files`, whose other side is hostile."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession, SessionClosed, SessionDied

Opened = Callable[..., ExtSession]
SECONDS = 30.0


def ran(session: ExtSession, source: str, **given: Any) -> Any:
    return session.execute(source, **given).wait(SECONDS)


def packed(*members: tuple[str, bytes | None], kind: bytes | None = None, link: str = "", mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = kind or tarfile.DIRTYPE
                info.linkname = link
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_there_and_back(session: ExtSession, tmp_path: Path) -> None:
    files = session.files
    files.put("a", b"bytes")
    files.put("folder/below/b", "text \u20ac")
    (tmp_path / "ours").write_bytes(bytes(3 << 20))
    files.put("c", tmp_path / "ours")
    assert ran(session, "print(open('a').read(), open('folder/below/b', encoding='utf-8').read(), len(open('c', 'rb').read()))").stdout == (
        f"bytes text \u20ac {3 << 20}\n"
    )
    ran(session, "open('made', 'w').write('in there'); open('a', 'a').write('!'); import os; os.mkdir('folder/own')")
    assert files.get("made") == b"in there" and files.get("a") == b"bytes!"
    assert [(each.name, each.kind, each.size) for each in files.list() if each.kind == "file"] == [
        ("a", "file", 6), ("c", "file", 3 << 20), ("made", "file", 8),
    ]  # fmt: skip
    assert [each.name for each in files.list("folder")] == ["folder/below", "folder/own"]
    files.delete("folder")
    files.delete("a")
    assert ran(session, "import os; print(sorted(os.listdir()))").stdout == "['c', 'made']\n"
    for name in ("nothing", "folder/x"):
        with pytest.raises(FileNotFoundError):
            files.get(name)
    with pytest.raises(FileNotFoundError):
        files.delete("nothing")
    with pytest.raises(ValueError, match="more than"):
        files.get("c", most=1000)


def test_tar(session: ExtSession) -> None:
    files = session.files
    assert list(files.put_tar(packed(("d", None), ("d/x", b"1"), ("./y", b"22")))) == ["d/x", "./y"]
    ran(session, "open('z', 'w').write('333'); import os; os.symlink('/etc/passwd', 'link'); os.mkfifo('fifo')")
    with tarfile.open(fileobj=io.BytesIO(files.get_tar())) as archive:
        found = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
        assert all(each.isfile() or each.isdir() for each in archive.getmembers())
    assert found == {"d/x": b"1", "y": b"22", "z": b"333"}
    with pytest.raises(ValueError, match="more than"):
        files.get_tar(most=4)


@pytest.mark.parametrize("name", ["/etc/passwd", "..", "../x", "a/../../x", "", ".", "/", "a\0b", "a/.."])
def test_names_that_lead_out(session: ExtSession, name: str) -> None:
    files = session.files
    for what in (lambda: files.put(name, b"x"), lambda: files.get(name), lambda: files.delete(name)):
        with pytest.raises(ValueError):
            what()
    with pytest.raises((ValueError, tarfile.TarError)):
        files.put_tar(packed((name, b"x")))
        raise ValueError  # an archive has no name with NUL in it


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE])
def test_members_that_are_no_files(session: ExtSession, kind: bytes) -> None:
    with pytest.raises(ValueError, match="'x'"):
        session.files.put_tar(packed(("ok", b"1"), ("x", None), kind=kind, link="/etc/passwd"))
    assert session.files.list() == []


def test_an_archive_that_grows(opened: Opened) -> None:
    """A small archive of much: no more is unpacked than there is room for, and not in our memory."""
    session = opened(work_size=4 << 20)
    bomb = packed(*[(f"zeros{n}", bytes(32 << 20)) for n in range(3)], mode="w:gz")
    assert len(bomb) < 2**20
    with pytest.raises((OSError, ValueError)):
        session.files.put_tar(bomb)
    assert session.eval("1") == 1


def test_links_are_not_followed(session: ExtSession, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.write_text("ours")
    ran(
        session,
        f"import os\nos.symlink({str(ours)!r}, 'link'); os.symlink({str(tmp_path)!r}, 'folder')\n"
        "os.symlink('/etc/passwd', 'passwd'); os.symlink('/', 'root'); os.symlink('/proc/self/root', 'proc')\n"
        "os.symlink('nowhere', 'dangling'); os.mkdir('real'); open('real/x', 'w').close(); os.symlink('real', 'alias')",
    )
    files = session.files
    for name in ("link", "passwd", "folder/ours", "root/etc/passwd", "proc/etc/passwd", "alias/x"):
        with pytest.raises(OSError):
            files.get(name)
        with pytest.raises(OSError):
            files.put(name, b"x")
    for name in ("folder", "root", "alias"):
        with pytest.raises(OSError):
            files.list(name)
    with pytest.raises(OSError):
        files.put("dangling", b"x")
    assert {each.kind for each in files.list() if each.name != "real"} == {"other"}
    for name in ("link", "folder", "root", "alias", "dangling"):
        files.delete(name)
    assert ours.read_text() == "ours" and files.get("real/x") == b""


def test_what_would_block_or_never_end(session: ExtSession) -> None:
    ran(session, "import os, socket\nos.mkfifo('fifo')\nfor n in range(30): os.makedirs('/'.join(['d'] * 90), exist_ok=True)")
    files = session.files
    began = time.monotonic()
    for what in (lambda: files.get("fifo"), lambda: files.put("fifo", b"x")):
        with pytest.raises((OSError, ValueError)):
            what()
    files.get_tar()
    assert time.monotonic() - began < 5
    files.delete("fifo")
    try:
        files.delete("d")
    except OSError:
        assert session.eval("__import__('shutil').rmtree('d')") is None
    assert files.list() == []


def test_files_that_change_meanwhile(session: ExtSession) -> None:
    """It takes what is there, or says that it is not: nothing else comes of it."""
    results = session.execute(
        """
import os, shutil, time
os.mkdir('d')
print('up', flush=True)
end = time.monotonic() + 3
n = 0
while time.monotonic() < end:
    n += 1
    with open('d/f%d' % (n % 20), 'a') as file: file.write('x' * 10000)
    try: os.unlink('d/f%d' % ((n * 7) % 20))
    except OSError: pass
    os.rename('d', 'e')
    try: os.symlink('/', 'd'); os.unlink('d')
    except OSError: pass
    while os.path.exists('e'):
        shutil.rmtree('d', ignore_errors=True)
        try: os.rename('e', 'd')
        except OSError: pass
"""
    )
    next(iter(results.chunks()))
    files = session.files
    while not results.done:
        for what in (lambda: files.list(), lambda: files.get_tar()):
            what()  # whole folders: what is gone meanwhile is left out
        for what in (lambda: files.list("d"), lambda: files.get("d/f1"), lambda: files.put("d/new", b"x"), lambda: files.delete("d/f2")):
            try:
                what()
            except OSError:
                pass
    results.wait(SECONDS)
    assert results.completion.ok, results.stderr
    assert not os.path.exists("/new") and not os.path.exists("/f1")


def test_a_file_that_grows(session: ExtSession) -> None:
    session.execute("f = open('f', 'w')\nwhile True:\n    f.write('x' * 100000); f.flush()\n    if f.tell() > 30 << 20: f.seek(0)")
    files = session.files
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if files.get("f", most=2**20) is not None:
                continue
        except FileNotFoundError:
            continue
        except ValueError:
            break
    else:
        pytest.fail("it did not grow")
    session.kill()


def test_room(opened: Opened, tier: str) -> None:
    session = opened(work_size=2 << 20, work_inodes=64)
    files = session.files
    if tier == "full":
        with pytest.raises(OSError):
            files.put("large", bytes(3 << 20))
        assert files.list() == []
        with pytest.raises(OSError):
            for n in range(100):
                files.put(f"f{n}", b"")
        assert "No space" in ran(session, "open('x', 'wb').write(bytes(4 << 20))").stderr
    assert session.eval("1") == 1


def test_after_the_end(session: ExtSession) -> None:
    files = session.files
    files.put("x", b"1")
    ran(session, "import os; os._exit(1)")
    for what in (lambda: files.get("x"), lambda: files.put("x", b""), lambda: files.list(), lambda: files.delete("x")):
        with pytest.raises(SessionDied):
            what()
    session.restart()
    assert session.files.list() == []
    session.close()
    with pytest.raises(SessionClosed):
        session.files.list()


def test_an_end_that_nobody_has_noticed(session: ExtSession) -> None:
    files = session.files
    files.put("x", b"1")
    pid = session.pid
    results = session.execute("import os; os._exit(1)")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            files.list()
        except (SessionDied, OSError):
            break
    results.wait(SECONDS)
    with pytest.raises(SessionDied):
        files.list()
    assert pid


def test_only_for_isolated_sessions() -> None:
    with ExtSession() as ordinary, pytest.raises(TypeError, match="isolated"):
        ordinary.files.list()


def test_from_several_threads(session: ExtSession) -> None:
    failed: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for round in range(20):
                session.files.put(f"{n}/{round}", str(n).encode() * 1000)
                assert session.files.get(f"{n}/{round}") == str(n).encode() * 1000
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed, failed
    assert len(session.files.list()) == 4


def test_what_is_put_belongs_to_the_session(session: ExtSession) -> None:
    session.files.put("d/x", b"1")
    results = ran(session, "import os\nopen('d/x', 'a').write('2'); os.rename('d/x', 'd/y'); os.unlink('d/y'); os.rmdir('d')")
    assert results.completion.ok, results.stderr
