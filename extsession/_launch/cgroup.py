"""Control groups: the kernel's own limits for a session and all that it starts, where we may make groups.

A group is made below the one that this process is in, for each session that has such limits, and removed with it. The
first version of the interface (a hierarchy for each controller) and the second (one for all) are used alike; both may
be there. In the second one a group that has processes can only hand out controllers where its manager has switched them
on for it (`cgroup.subtree_control`, "delegation" in cgroups(7)), so mostly it cannot.

A group is removed when the session's last process is gone. What a controller that was killed has left, empty folders,
the next one removes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import sys
from typing import Any, Final, NamedTuple

_NAME: Final = "extsession"
_numbers = itertools.count(1)


class Place(NamedTuple):
    """Where groups for a limit can be made. home: the folder of the group that we are in; version: of the interface."""

    home: str
    version: int


#: limit -> controller, and the files that are written in each version: value, and those that may be missing
_CONTROLLER: Final = {"memory": "memory", "processes": "pids"}
_FILE: Final = {
    ("memory", 1): "memory.limit_in_bytes",
    ("memory", 2): "memory.max",
    ("processes", 1): "pids.max",
    ("processes", 2): "pids.max",
}
#: so that what is over the limit is not swapped out, and no part of a session goes on without the others
_BESIDES: Final = {("memory", 2): (("memory.swap.max", "0"), ("memory.oom.group", "1"))}
_KILLS: Final = {1: "memory.oom_control", 2: "memory.events"}


class Group:
    """The groups of one session: one, or one for each controller. Made by `make`."""

    def __init__(self, folders: dict[str, str], places: dict[str, Place]) -> None:
        self._folders = folders  # limit -> folder
        self._places = places

    @property
    def holds(self) -> frozenset[str]:
        """The limits that it holds."""
        return frozenset(self._folders)

    def add(self, pid: int) -> None:
        """Put a process in; what it starts from then on is in it, too. OSError."""
        for folder in set(self._folders.values()):
            _write(os.path.join(folder, "cgroup.procs"), str(pid))

    def expel(self, pid: int) -> None:
        """Put a process where we are: it is none of the session's."""
        for place in set(self._places.values()):
            with contextlib.suppress(OSError):  # it is gone
                _write(os.path.join(place.home, "cgroup.procs"), str(pid))

    def change(self, limit: str, value: int) -> None:
        """Another value. OSError: it has more already, in a way that cannot be taken from it."""
        _write(os.path.join(self._folders[limit], _FILE[limit, self._places[limit].version]), str(value))

    def oom_kills(self) -> int:
        """How many of its processes the kernel has ended because of the memory limit."""
        folder = self._folders.get("memory")
        if folder is None:
            return 0
        try:
            with open(os.path.join(folder, _KILLS[self._places["memory"].version])) as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except OSError:
            pass
        return 0

    def remove(self) -> None:
        """The session is gone, or soon: what cannot be removed yet is tried again later."""
        _left.update(self._folders.values())
        tidy()


#: folders that could not be removed yet
_left: set[str] = set()


def tidy() -> None:
    """Remove the groups of sessions that are gone by now."""
    for folder in list(_left):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:  # there is still a process in it
            continue
        _left.discard(folder)


atexit.register(tidy)


def make(wanted: dict[str, int]) -> Group | None:
    """Groups for those of the wanted limits that a group can hold; None: there is none to be had."""
    tidy()
    places = {name: place for name in wanted if (place := where(name)) is not None}
    if not places:
        return None
    name = f"{_NAME}-{os.getpid()}-{next(_numbers)}"
    folders: dict[str, str] = {}
    group = Group(folders, places)
    try:
        for limit, place in places.items():
            folder = os.path.join(place.home, name)
            with contextlib.suppress(FileExistsError):  # made for the other limit
                os.mkdir(folder)
            folders[limit] = folder
            for file, value in _BESIDES.get((limit, place.version), ()):
                with contextlib.suppress(OSError):
                    _write(os.path.join(folder, file), value)
            group.change(limit, wanted[limit])
    except OSError:
        group.remove()
        return None
    return group


def where(limit: str) -> Place | None:
    """Where groups can be made that hold a limit; None: nowhere."""
    return _find(limit, os.getpid())


@functools.lru_cache(8)
def _find(limit: str, pid: int) -> Place | None:
    """pid: of this process; a forked one may be put elsewhere."""
    if sys.platform != "linux":
        return None
    controller = _CONTROLLER[limit]
    for home, version in _candidates(controller):
        sweep(home)
        probe = os.path.join(home, f"{_NAME}-{pid}-0")
        try:
            os.mkdir(probe)
        except OSError:
            continue
        try:
            _write(os.path.join(probe, _FILE[limit, version]), str(2**40 if limit == "memory" else 2**15))
        except OSError:
            continue
        finally:
            os.rmdir(probe)
        return Place(home, version)
    return None


def _candidates(controller: str) -> list[tuple[str, int]]:
    """Folders of our own groups in the hierarchies that this controller may be in."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
        with open("/proc/self/mountinfo") as file:
            mounts = [_mount(line) for line in file]
    except OSError:
        return []
    found = []
    for _, controllers, path in lines:
        for kind, root, point, options in mounts:
            if controllers and kind == "cgroup" and controller in controllers.split(",") and controller in options:
                version = 1
            elif not controllers and kind == "cgroup2":
                version = 2
            else:
                continue
            relative = os.path.relpath(path, root)
            if not relative.startswith(".."):
                found.append((os.path.normpath(os.path.join(point, relative)), version))
    return sorted(found, key=lambda each: each[1])


def _mount(line: str) -> Any:
    """(type, root, mount point, options of the file system) of a line of mountinfo, see proc(5)."""
    before, _, after = line.partition(" - ")
    fields, rest = before.split(), after.split()
    return rest[0], fields[3], fields[4].replace("\\040", " "), rest[2].split(",")


def sweep(home: str) -> None:
    """Remove what controllers that are gone have left. Groups with processes stay."""
    try:
        names = os.listdir(home)
    except OSError:
        return
    for name in names:
        words = name.split("-")
        if len(words) == 3 and words[0] == _NAME and words[1].isdigit() and not os.path.exists(f"/proc/{words[1]}"):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(home, name))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
