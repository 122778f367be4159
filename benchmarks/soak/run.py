"""The soak's own process: users in threads, on trio and on asyncio; pools; faults; a look for leaks at the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections.abc import Iterator
from typing import Any

import psutil
import trio

from extsession import AsyncExtSession, CallTimeout, ExtSession, PoolTimeout, SessionPool, templates
from extsession.testing import LeakError, no_leaks

from . import output
from .faults import Faults
from .life import ALLOWED, HANG, LADDER, TIMEOUT, User, drive, drive_async
from .tally import Tally


async def _start_async(**options: Any) -> AsyncExtSession:
    return await AsyncExtSession(**options).__aenter__()


def soak(seconds: float, sessions: int, seed: str) -> dict[str, Any]:
    """Run for so long; what was seen."""
    tally = Tally()
    stop = threading.Event()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    begin = time.monotonic()
    memory: list[int] = []  # MB
    skipped = {"jumps of the machine's clock": "others use it; all deadlines are monotonic"}
    try:
        with no_leaks(15.0), _full_folder(skipped) as folder:
            _load(tally, stop, seconds, sessions, seed, folder, memory)
    except LeakError as error:
        for each in error.left:
            tally.wrong("processes left" if each.startswith("process") else "other leaks", 1, each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = tally.as_json()
    found["skipped"] = skipped
    found["facts"] = {
        "seconds": round(time.monotonic() - begin),
        "sessions at a time": sessions,
        "seed": seed,
        "controller's memory meanwhile, MB": " ".join(map(str, memory)),
        "controller's memory after, MB": psutil.Process().memory_info().rss // 2**20,
    }
    return found


def _load(
    tally: Tally, stop: threading.Event, seconds: float, sessions: int, seed: str, folder: str, memory: list[int]
) -> None:
    in_pools = max(2, sessions // 10)
    in_loops = max(1, sessions // 8)
    in_threads = max(1, sessions - in_pools - 2 * in_loops)

    def users(kind: str, count: int, start: Any) -> list[User]:
        made = [User(f"{kind} {number}", seed, tally, start, stop) for number in range(count)]
        for each in made:
            each.full_folder = folder
        return made

    sync = users("thread", in_threads, ExtSession)
    on_trio = users("trio", in_loops, _start_async)
    on_asyncio = users("asyncio", in_loops, _start_async)
    everyone = sync + on_trio + on_asyncio
    work = [functools.partial(drive, each) for each in sync]
    work.append(functools.partial(trio.run, _on_trio, on_trio))
    work.append(lambda: asyncio.run(_on_asyncio(on_asyncio)))
    work.append(functools.partial(_pool, tally, stop, in_pools, seed))
    threads = [
        threading.Thread(target=_guarded, args=(tally, each), name=f"soak {number}", daemon=True)
        for number, each in enumerate(work)
    ]
    faults = Faults(everyone, seed, tally, stop, pause=3.0 / sessions)
    for thread in (*threads, faults):
        thread.start()
    end = time.monotonic() + seconds
    next_look = 0.0
    while time.monotonic() < end:
        time.sleep(min(0.5, max(0.0, end - time.monotonic())))
        _look_for_hangs(tally, everyone)
        if time.monotonic() > next_look:
            next_look = time.monotonic() + max(1.0, seconds / 10)
            memory.append(psutil.Process().memory_info().rss // 2**20)
    stop.set()
    last = time.monotonic() + HANG + 30
    while any(thread.is_alive() for thread in threads) and time.monotonic() < last:
        time.sleep(0.05)
        _look_for_hangs(tally, everyone)
    faults.join(10)
    for thread in threads:
        if thread.is_alive():
            frame = sys._current_frames().get(thread.ident or 0)
            stack = "".join(traceback.format_stack(frame)[-6:]) if frame else ""
            tally.wrong("hangs", 1, f"{thread.name} does not end:\n{stack}")
    for template in templates():
        template.end()


def _guarded(tally: Tally, work: Any) -> None:
    try:
        work()
    except BaseException:
        tally.wrong("errors of ours", 1, traceback.format_exc())


def _look_for_hangs(tally: Tally, users: list[User]) -> None:
    now = time.monotonic()
    for user in users:
        if now - user.since > HANG + 10 and not user.is_told and user.session is not None:
            user.is_told = True
            tally.wrong("hangs", 1, f"{user.name}: {user.doing} for {now - user.since:.0f} s")


async def _on_trio(users: list[User]) -> None:
    async with trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(drive_async, user, trio.lowlevel.checkpoint)


async def _on_asyncio(users: list[User]) -> None:
    await asyncio.gather(*(drive_async(user, lambda: asyncio.sleep(0)) for user in users))


def _pool(tally: Tally, stop: threading.Event, size: int, seed: str) -> None:
    """One pool after another."""
    number = 0
    allowed = (*ALLOWED, PoolTimeout, CallTimeout)
    while not stop.is_set():
        number += 1
        tally.add("sessions", "pool")
        with SessionPool(size, reuse=number % 2 == 0, timeout=HANG, ladder=LADDER) as pool:
            data = [b"%d" % each * 1000 for each in range(60)]
            values = pool.map(zlib.crc32, data, chunksize=1 + number % 4, timeout=TIMEOUT)
            for each in data:
                try:
                    found = next(values)
                except StopIteration:
                    tally.wrong("lost bytes", 1, "a map that ends too early")
                    break
                except allowed as error:
                    tally.add("calls", f"of a map: {type(error).__name__}")
                    continue
                tally.add("calls", "of a map: value")
                if found != zlib.crc32(each):
                    tally.wrong("wrong attributions", 1, "a map gave another item's value")
            values.close()
            tag = f"p{number}"
            try:
                results = pool.run(
                    output.PRELUDE + output.source_of(tag, ("print", "raw"), number, 100, 100), timeout=TIMEOUT
                )
            except allowed as error:
                tally.add("calls", f"of a pool: {type(error).__name__}")
                continue
            tally.add("calls", f"of a pool: {results.outcome.value}")
            streams = (results.stdout_bytes, results.stderr_bytes)
            if results.completion.ok:
                said = output.told(results.repr)
                assert said is not None
                output.check_complete(tally, tag, streams, said, tag)
            else:
                output.check_partial(tally, tag, streams, tag)


@contextlib.contextmanager
def _full_folder(skipped: dict[str, str]) -> Iterator[str]:
    """A file system of 64 kB without room, which is also everybody's TMPDIR; "" where there cannot be one."""
    folder = tempfile.mkdtemp(prefix="extsession-soak-")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "soak", folder], capture_output=True, text=True)
    if done.returncode:
        skipped["full temporary directory"] = done.stderr.strip() or "mount failed"
        os.rmdir(folder)
        yield ""
        return
    before = os.environ.get("TMPDIR")
    try:
        with contextlib.suppress(OSError), open(os.path.join(folder, "full"), "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.environ["TMPDIR"] = folder
        yield folder
    finally:
        if before is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = before
        subprocess.run(["umount", "-l", folder], check=False)
        os.rmdir(folder)
