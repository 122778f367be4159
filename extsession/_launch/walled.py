"""Isolated sessions, seen from the controller: clones of a template behind walls, and the processes of the full tier.
Those of the tier in between, in bubblewrap, are in `bubble.py`.

In the full tier a session is in a PID namespace of its own, where it is number 2; process 1, its *init*, is a warden
(`_worker/walled.py`). A signal to the number that the session has out here could hit another process once it has ended,
for the init may collect it: so it is sent by a pidfd, which is looked up at Ready, before any of its code runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import select
import signal
import tempfile
import threading
from typing import Any

from ..errors import IsolationUnavailable, LaunchError
from ..options import Isolation
from . import ends, marks, procfs, templates, tree
from .base import ExitReport, Process, Spec
from .interpreter import Interpreter
from .local import LocalProcess, Warden
from .template import CannotServe, Template
from .usage import Orphans
from .workdir import WorkDir, remove, size_of

#: the best first
TIERS = ("full", "bwrap", "weak")
#: where a session of the full tier, and of bwrap, has its work directory, as it sees it
WORK = "/work"
#: open files with which a template need not know how many its sessions may have: its own are below
_MANY_FILES = 256
#: of the environment, where the caller says nothing else: all that is there
_CLEAN = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": WORK,
    "TMPDIR": WORK,
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",  # each arena of glibc reserves 64 MiB of address space
}


class WalledProcess(LocalProcess):
    """A session's process in the full tier. root: the session that its namespace was made for; None: this one."""

    def __init__(self, warden: Warden, mine: ends.Ends, first: bytes, mark: int, is_clone: bool = False) -> None:
        super().__init__(warden, mine, first, mark, is_clone)
        self._root: WalledProcess = self
        self._members = 1  # of its namespace, that have not been let go of
        self._counting = threading.RLock()  # the collector may end a session in the middle of anything
        self._inner = 0  # its number inside, where that is told before Ready
        self._here = 0  # its number out here
        self._pidfd = -1
        self._inhabitants: Orphans | None = None  # of the namespace
        self.room = 0  # in its work directory

    # which process it is

    def _on_pid(self, pid: int) -> None:
        if self._root is self:
            self.pid = pid  # the init's, by the template
        else:
            self._inner = pid

    def pid_of(self, pid: int) -> int:
        if not self._here:
            self._find(pid)
        return self._here

    def _find(self, inner: int) -> None:
        root = self._root
        if root.pid is None:
            root._early = root.read_leash()
        if root.pid is None or self._gone:
            return
        for pid in procfs.children(root.pid, 1):
            if procfs.innermost(pid) != inner:
                continue
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(pid)
                if procfs.innermost(pid) == inner:  # still the same process
                    self._here, self._pidfd = pid, fd
                    return
                os.close(fd)

    def _own_pid(self) -> int:
        return self._here

    def work_dir(self, pid: int) -> WorkDir:
        return WorkDir(f"/proc/{self.pid_of(pid)}/root{WORK}", self._root.room, self._is_alive)

    def _is_alive(self) -> bool:
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def _orphans(self, pid: int) -> list[int]:
        root = self._root
        if root.pid is None:
            return []
        if root._inhabitants is None:
            root._inhabitants = Orphans(root.pid)
        return [each for each in root._inhabitants.of(self._here, self.mark) if each != self._here]

    # what is done to it

    def signal(self, pid: int, number: int) -> None:
        if self.pid_of(pid) and self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill_tree(self, pid: int | None) -> None:
        self._killed = True
        if self._pidfd < 0 and pid is not None:
            self._find(pid)
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        elif self._root is self and self.pid is not None and not self._gone:
            tree.hasten(self.pid)  # it is not there yet, or not any more: all of its world goes
        else:
            super().kill_tree(None)
            return
        self.warden.wake()

    def read_leash(self) -> ExitReport | None:
        report = super().read_leash()
        if report is not None and self._here and report.exit_code is None and report.signal is None:
            # its init is dead, and the kernel has ended all that was in its namespace
            return dataclasses.replace(report, signal=signal.SIGKILL, why="")
        return report

    def prepare_clone(self) -> tuple[LocalProcess, int, ends.Ends]:
        clone, mark, theirs = super().prepare_clone()
        assert isinstance(clone, WalledProcess)
        clone._root = self._root
        with self._root._counting:
            self._root._members += 1
        return clone, mark, theirs

    def stand_apart(self) -> None:
        if self._outer is not None:
            self._await_pid(lambda: bool(self._inner))
            if self._inner and self.pid_of(self._inner):
                self._outer.expel(self._here)

    def usage(self, pid: int, pss: bool) -> Any:
        return super().usage(self.pid_of(pid), pss)

    def confine(self, pid: int, limits: Any) -> frozenset[str]:
        return super().confine(self.pid_of(pid), limits) if self.pid_of(pid) else frozenset()

    def sample(self, pid: int, memory: int | None) -> Any:
        return super().sample(self.pid_of(pid), memory)

    def change_limit(self, pid: int, name: str, value: int) -> None:
        super().change_limit(self.pid_of(pid), name, value)

    def let_go(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        root = self._root
        with root._counting:
            root._members -= 1
            is_last = not root._members
        if self is not root:
            super().let_go()
        if is_last:
            root._end()

    def _end(self) -> None:
        """Close the leash that the warden outside has as well: it ends the init, with all that is in there."""
        super().let_go()


WalledProcess.makes = WalledProcess


class _WeakProcess(LocalProcess):
    """A session's process in the weak tier, which has a folder of the host."""

    work = ""
    room = 0
    _looked = 0.0
    _size = 0  # of the work directory, as last seen

    def work_dir(self, pid: int) -> WorkDir:
        return WorkDir(self.work, self.room)

    def sample(self, pid: int, memory: int | None) -> Any:
        """With the size of the work directory, which no file system bounds here."""
        found = super().sample(pid, memory)
        if found is None or not self.work:
            return found
        if found.when - self._looked >= _LOOK_AT_WORK:
            self._looked, self._size = found.when, size_of(self.work)
        return found._replace(work=self._size)

    def let_go(self) -> None:
        super().let_go()
        if self.work and self._owned:
            remove(self.work)


class WalledLauncher:
    """Clones an isolated template: of the full tier, or, where that is acceptable and the host allows no more, weak.
    Between them are sessions in bubblewrap, each started by itself.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    def launch(self, spec: Spec) -> Process:
        """A session; IsolationUnavailable, LaunchError. May take as long as its template needs."""
        refused: Exception | None = None
        for tier in acceptable(self._isolation):
            wanted = self._spec(spec, tier)
            if marks.step() and templates.denied(wanted) is None:
                try:
                    process = self._clone(wanted, tier)
                    process.again = functools.partial(self._clone, wanted, tier)  # the template ends before it is made
                    return process
                except IsolationUnavailable as error:
                    refused = error
                    if tier != "bwrap":  # that is for each interpreter to find out, and known there
                        templates.note_denied(wanted, error)
                    continue
            refused = templates.denied(wanted) or refused
        raise refused or IsolationUnavailable("isolation needs Linux", python=spec.interpreter.path, step="platform")

    def _clone(self, spec: Spec, tier: str) -> LocalProcess:
        if tier == "full":
            process = self._by_template(spec)
            process.room = self._isolation.work_size  # type: ignore[attr-defined]
            return process
        if tier == "bwrap":
            from . import bubble

            return bubble.launch(spec)
        sweep(tempfile.gettempdir())
        work = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
        try:
            if os.geteuid() == 0:
                uid = self._isolation.uid or ACCOUNT
                os.chown(work, uid, uid)
            process = self._by_template(dataclasses.replace(spec, work=work))
            process.work, process.room = work, self._isolation.work_size  # type: ignore[attr-defined]
        except BaseException:
            remove(work)
            raise
        return process

    def _by_template(self, spec: Spec) -> LocalProcess:
        try:
            return templates.launch(spec)
        except CannotServe as fault:
            why = str(fault) or "there can be no template for it"
            raise LaunchError(
                f"{spec.interpreter.path} cannot be isolated: {why}", python=spec.interpreter.path
            ) from None

    def warm_up(self, spec: Spec) -> Template | None:
        """The template for these walls, started if it is not there; None: sessions have none in the tier that is to be
        had. IsolationUnavailable, LaunchError.
        """
        for tier in acceptable(self._isolation):
            if tier == "bwrap":
                return None
            wanted = self._spec(spec, tier)
            if templates.denied(wanted) is None:
                try:
                    return templates.warm_up(wanted)
                except IsolationUnavailable as error:
                    templates.note_denied(wanted, error)
        raise templates.denied(wanted) or IsolationUnavailable("isolation needs Linux", step="platform")

    def may_block(self, spec: Spec) -> bool:
        return not templates.is_ready(self._spec(spec, "full"))

    def _spec(self, spec: Spec, tier: str) -> Spec:
        isolation = self._isolation
        few = spec.limits.get("open_files", _MANY_FILES)
        walls: dict[str, Any] = {
            "tier": tier,
            "network": isolation.network,
            "loopback": isolation.loopback,
            "read": list(isolation.read),
            "work_size": isolation.work_size,
            "work_inodes": isolation.work_inodes,
            "step": marks.step(),
            "limits": {},
            **({} if isolation.uid is None else {"uid": isolation.uid, "gid": isolation.uid}),
            **({"work": WORK} if tier != "weak" else {}),
            **({"open_files": few} if few < _MANY_FILES else {}),
        }
        return dataclasses.replace(spec, cwd="/", env={**_CLEAN, **isolation.env}, walls=walls)


#: seconds between looks at the size of a work directory
_LOOK_AT_WORK = 0.1
#: names of work directories in the weak tier: this, the controller's pid, and what mkdtemp adds
_PREFIX = "extsession-work-"


@functools.lru_cache(1)
def sweep(folder: str) -> None:
    """Remove what controllers that were killed have left there; once in a process."""
    for name in os.listdir(folder):
        pid = name[len(_PREFIX) :].partition("-")[0]
        path = os.path.join(folder, name)
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(OSError):
                if os.lstat(path).st_uid in (os.geteuid(), ACCOUNT) and not os.path.islink(path):
                    remove(path)


#: who sessions of root are in the weak tier: as `_worker/confine/namespaces.py` has it
ACCOUNT = 65521


def acceptable(isolation: Isolation) -> tuple[str, ...]:
    """Tiers, the best first."""
    return TIERS[: TIERS.index(isolation.tier) + 1]


def makes(tier: str) -> type[LocalProcess]:
    """The kind of process that a template of this tier makes."""
    return WalledProcess if tier == "full" else _WeakProcess


def report_of_bubblewrap(interpreter: Interpreter) -> dict[str, Any]:
    """Try it, with what sessions have where nothing else is said."""
    from . import bwrap_trial

    spec = WalledLauncher(Isolation(tier="bwrap"))._spec(Spec(interpreter, b""), "bwrap")
    return bwrap_trial.report(interpreter, spec.walls or {}, spec.env or {})
