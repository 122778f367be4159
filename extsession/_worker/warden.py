"""The parent of sessions: it tells how each ended, and ends all that each started.

It runs alone in its own process, forked before any user code, with one job, and imports nothing of ours.
Its *charges* are its children: a session, or a template and the sessions that were cloned as siblings of it, and
branches of those. On Linux it is a child subreaper: processes that lose their parent come to it, wherever they went
with setsid or a double fork. A charge that has ended stays a zombie until the controller has taken the report
and let go of its leash, so its pid cannot come to mean another process.

It waits and does not poll: a pidfd of each charge tells that it has ended, where there are such (Linux 5.3, Python
3.9), and SIGCHLD that anybody has, also of those that were killed below a charge: they are our children by then.
Looking again after a pause is for what cannot be waited for.

Whose an orphan is, when there are several charges, its *mark* tells: the limit RLIMIT_LOCKS, which means nothing
to kernels since 2.4.25, is inherited by all that a process starts, survives setsid and exec, and can be read by
anybody in /proc. Each session has one of its own (`_launch/marks.py`); what has none is the first charge's.

Lines on a leash: S and the pid of its session, once that is there; X, code, status, left, cpu and memory when it has
ended and nothing is left of it. Code and status are as `waitid` has them; left is the number of processes that could
not be ended in time; cpu, in microseconds, and memory, the most it had in KiB, are -1 where the kernel does not tell.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

_PR_SET_CHILD_SUBREAPER = 36
#: seconds to try; what is left then sits in the kernel and cannot be ended by anyone
_GIVE_UP = 5.0
#: seconds after which children that have ended are looked for behind the zombie of a charge
_HIDDEN = 0.05
_NOBODY = -1
_NOT_TOLD = (-1, -1)
#: machine -> number of waitid
_WAITID = {"x86_64": 247, "aarch64": 95, "riscv64": 95, "ppc64le": 272}
_SIZE_OF_RUSAGE = 144


class Charge:
    """A process that is watched over. mark: of all that it starts; 0: what has no mark of its own."""

    def __init__(self, pid: int, leash: int, mark: int) -> None:
        self.pid = pid
        self.leash = leash
        self.mark = mark
        self.ended: Any = None  # as waitid tells it
        self.report = True  # somebody is there to be told
        self.reported = False
        self.free = False  # a command: what it leaves is left alone
        self.pidfd = _NOBODY  # readable when it has ended; none: it is asked for
        self.pause = 0.01
        self.next_try = 0.0
        self.give_up = 0.0
        self.dying: set[int] = set()  # of what it left, killed by us and not known to be gone


class Warden:
    """Watches over charges until the last has ended and the controller has let go of its leash.

    registrar: a socket on which clones of charges announce themselves; step: how far apart marks are. inside: this is
    process 1 of a PID namespace, so all that is in there is a charge's.
    """

    def __init__(self, registrar: int, step: int, inside: bool = False) -> None:
        self._is_inside = inside
        self.charges: dict[int, Charge] = {}  # by leash
        self._pids: dict[int, Charge] = {}  # the same by pid: nothing that happens often goes through hundreds
        self._pidfds: dict[int, Charge] = {}  # the same by pidfd
        self._asked: dict[int, Charge] = {}  # by pid, those without one
        self._ended: list[Charge] = []  # that are to be told of
        self._freed: set[int] = set()  # marks of commands, while there is something that has them
        self._look_again = 0.0  # for orphans that have ended; 0: when something ends
        self._registrar = registrar
        self._step = step
        self._socket: Any = None
        self._first: Charge | None = None
        bell, ring = os.pipe()
        os.set_blocking(bell, False)
        os.set_blocking(ring, False)
        self._bell = bell
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # select() knows no descriptors above 1023, and leashes keep their numbers; poll() looks at hundreds each time
        self._poll: Any = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._unit = 1.0 if hasattr(select, "epoll") else 1000.0  # of its timeout, a second
        self._poll.register(bell, select.POLLIN)
        if registrar >= 0:
            self._poll.register(registrar, select.POLLIN)

    def watch(self, charge: Charge) -> None:
        if self._first is None:
            self._first = charge
        self.charges[charge.leash] = charge
        self._pids[charge.pid] = charge
        self._poll.register(charge.leash, select.POLLIN)
        try:
            charge.pidfd = os.pidfd_open(charge.pid)
        except (AttributeError, OSError):  # before Python 3.9 or Linux 5.3; macOS; no descriptors left
            self._asked[charge.pid] = charge
        else:
            self._pidfds[charge.pidfd] = charge
            self._poll.register(charge.pidfd, select.POLLIN)

    def run(self) -> None:
        self._look_for_ended()
        while self.charges:
            try:
                ready = [fd for fd, _ in self._poll.poll(self._timeout())]
            except InterruptedError:
                continue
            if self._registrar in ready:
                self._register()
            for fd in ready:
                charge = self._pidfds.get(fd)
                if charge is not None:
                    self._look_at(charge)
                    continue
                charge = self.charges.get(fd)
                if charge is not None:
                    self._on_leash(charge)
            if self._bell in ready:
                _drain(self._bell)
                self._look_for_ended()
            elif self._look_again:
                self._reap_orphans()
            if self._ended:
                self._go_on()
        self._reap_orphans(now=True)

    def _timeout(self) -> float | None:
        """Until something has to be tried again, as the poll wants it."""
        due = [each.next_try for each in self._ended]
        if self._look_again:
            due.append(self._look_again)
        if not due:
            return None
        return max(0.0, (min(due) - time.monotonic()) * self._unit + 0.001 * self._unit)

    # announcements

    def _register(self) -> None:
        """A clone of a charge tells of itself: b"pid mark", with its leash. Nonsense is dropped: code could send it.

        It does so before it does anything else, so who has not can be ended without anybody having seen it. Whom it was
        cloned from may have told already.
        """
        import _socket

        if self._registrar < 0:
            return
        if self._socket is None:
            self._socket = _socket.socket(fileno=os.dup(self._registrar))
            self._socket.setblocking(False)
            _allow_many_files()
        while True:
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(64, _socket.CMSG_SPACE(16))
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            fds = _descriptors(ancillary)
            if not data and not fds and self._is_shut():
                self._poll.unregister(self._registrar)
                self._registrar = _NOBODY
                return
            charge = self._announced(data, fds)
            if charge is None:
                for fd in fds:
                    os.close(fd)
                continue
            self.watch(charge)
            self._look_at(charge)

    def _is_shut(self) -> bool:
        """Whether nobody can announce anything any more. An empty message looks like that, too."""
        poll = select.poll()
        poll.register(self._registrar, 0)
        return bool(poll.poll(0))

    def _announced(self, data: bytes, fds: list[int]) -> Charge | None:
        words = data.split()
        if len(words) == 2 and words[0] == b"F" and words[1].isdigit():
            self._free(int(words[1]))
        if len(fds) != 1 or len(words) != 2 or not all(word.isdigit() for word in words):
            return None
        pid, mark = map(int, words)
        if pid >= 2**31 or pid in self._pids:
            return None
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:  # not a child of ours
            return None
        os.set_inheritable(fds[0], False)
        return Charge(pid, fds[0], mark)

    def _free(self, pid: int) -> None:
        """A charge has become a command. It says so before any code of the user's runs in it."""
        charge = self._pids.get(pid)
        if charge is not None and charge.mark and not self._is_inside:
            charge.free = True
            self._freed.add(charge.mark)

    # ends

    def _on_leash(self, charge: Charge) -> None:
        """Nothing is ever sent to us: the controller is gone, or lets go of a session that has ended."""
        charge.report = False
        if charge.reported:
            self._dismiss(charge)
        else:
            self._poll.unregister(charge.leash)
            _kill(charge.pid)
            _kill(charge.pid, signal.SIGCONT)

    def _look_for_ended(self) -> None:
        """Find out who has ended, of those whose descriptor does not tell. Zombies of charges hide others from a wait
        for any child.
        """
        for charge in list(self._asked.values()):
            self._look_at(charge)
        self._reap_orphans()

    def _look_at(self, charge: Charge) -> None:
        if charge.ended is not None:
            return
        try:
            charge.ended = _end_of(charge.pid)
        except ChildProcessError:  # somebody else has collected it: cannot be
            charge.report = False
            charge.reported = True
            self._dismiss(charge)
            return
        if charge.ended is not None:
            self._forget_pidfd(charge)
            charge.give_up = time.monotonic() + _GIVE_UP
            self._ended.append(charge)

    def _forget_pidfd(self, charge: Charge) -> None:
        self._asked.pop(charge.pid, None)
        if charge.pidfd >= 0:
            del self._pidfds[charge.pidfd]
            self._poll.unregister(charge.pidfd)
            os.close(charge.pidfd)
            charge.pidfd = _NOBODY

    def _reap_orphans(self, now: bool = False) -> None:
        """Collect children that have ended and are no charges: at once, if no zombie of a charge hides them, else soon.

        now: look at all children, which takes long when there are hundreds.
        """
        ours = self._pids
        if not now and hasattr(os, "waitid"):
            while True:
                try:
                    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                except ChildProcessError:
                    ended = None
                if ended is None:
                    self._look_again = 0.0
                    return
                if ended.si_pid in ours:
                    break
                self._register()  # it may have announced itself
                if ended.si_pid not in ours:
                    _collect(ended.si_pid)
            when = time.monotonic()
            if not self._look_again or when < self._look_again:
                self._look_again = self._look_again or when + _HIDDEN
                return
            self._look_again = 0.0
        self._orphans()

    def _go_on(self) -> None:
        """End what is left of sessions that have ended, and tell."""
        waiting, self._ended = self._ended, []
        now = time.monotonic()
        orphans: list[int] | None = None  # one look for all of them
        for charge in waiting:
            if charge.dying:
                charge.dying = {pid for pid in charge.dying if not self._is_gone(pid)}
                if charge.dying and now < charge.next_try:
                    self._ended.append(charge)
                    continue
            if self._is_inside and not self._others(charge):
                _kill(-1)  # all but ourselves, in one step: no fork is faster
            if orphans is None and sys.platform == "linux":
                orphans = self._orphans()  # all of `waiting` have ended, so what they have left is here by now
            below = self._below(charge, orphans or ())
            if below and now < charge.give_up:
                self._end_orphans(below)
                charge.next_try = now + charge.pause
                charge.pause = min(charge.pause * 2, 0.05)
                charge.dying.update(below)
                self._ended.append(charge)
                continue
            charge.reported = True
            if charge.report:
                try:
                    ended = charge.ended
                    facts = (ended.si_code, ended.si_status, len(below), *_usage_of(charge.pid))
                    os.write(charge.leash, b"X %d %d %d %d %d\n" % facts)
                except OSError:
                    self._dismiss(charge)
            else:
                self._dismiss(charge)

    def _is_gone(self, pid: int) -> bool:
        """Whether a process that we have killed has ended; it is collected, if it is our child by now."""
        if pid in self._pids:
            return True  # a clone that has announced itself: not for us to end
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return _is_zombie(pid)

    def _end_orphans(self, pids: list[int]) -> None:
        """Kill them, but for clones that have announced themselves by now."""
        for pid in pids:  # stopped first: a process that forks faster than it is killed
            _kill(pid, signal.SIGSTOP)
        self._register()
        ours = self._pids
        for pid in pids:
            _kill(pid, signal.SIGCONT if pid in ours else signal.SIGKILL)

    def _collect_orphans(self, pids: Iterable[int]) -> None:
        ours = self._pids
        for pid in pids:
            if pid not in ours:
                _collect(pid)

    def _dismiss(self, charge: Charge) -> None:
        """Let its zombie go. It is not left to whoever is process 1: in a container that may reap nothing."""
        if self.charges.pop(charge.leash, None) is None:
            return
        if charge.free:
            left = {self._freed_by(pid) for pid in self._orphans()}
            running = {each.mark for each in self.charges.values()}
            self._freed &= left | running
        self._pids.pop(charge.pid, None)
        self._forget_pidfd(charge)
        _collect(charge.pid)
        try:
            self._poll.unregister(charge.leash)
        except (KeyError, OSError):  # it was told on that the controller is gone
            pass
        os.close(charge.leash)

    # whose is what

    def _below(self, charge: Charge, orphans: Iterable[int]) -> list[int]:
        """Processes that a charge which has ended has left, in no order. orphans: of all charges."""
        if sys.platform != "linux":
            try:  # what is left of the session's group
                os.killpg(charge.pid, signal.SIGKILL)
            except OSError:
                pass
            return []
        below: list[int] = []
        if charge.free and charge.report:
            return below
        for pid in orphans:
            if self._is_of(pid, charge) and pid not in self._pids:
                below.append(pid)
                _add_descendants(pid, below)
        return below

    def _orphans(self) -> list[int]:
        """Our children that are no charges. Those that have ended are collected: what is told to be gone is gone."""
        if sys.platform != "linux":
            return []
        ours = self._pids
        alive: list[int] = []
        ended: list[int] = []
        for pid in _children(os.getpid()):
            if pid not in ours:
                (ended if _is_zombie(pid) else alive).append(pid)
        if ended:
            self._register()  # one of them may have announced itself
            self._collect_orphans(ended)
        return alive

    def _others(self, charge: Charge) -> bool:
        """Whether there are charges besides that have not ended, with all that they have left."""
        return any(each is not charge and not each.reported for each in self.charges.values())

    def _is_of(self, pid: int, charge: Charge) -> bool:
        """Whether an orphan belongs to this charge: by its mark, or because there is no other."""
        freed = self._freed_by(pid)
        if freed:
            return freed == charge.mark
        if not self._others(charge):
            return True
        mark = _mark_of(pid)
        owner = None
        for each in self.charges.values():
            if each.mark and each.mark - self._step < mark <= each.mark:
                owner = each
        if owner is None and self._first is not None and not self._first.mark:
            owner = self._first
        # nobody's: a clone that is about to announce itself, perhaps; it is not harmed while others live
        return owner is not None and (owner is charge or owner.reported)

    def _freed_by(self, pid: int) -> int:
        """The mark of the command that has started it, perhaps indirectly; 0: none has."""
        if self._freed:
            mark = _mark_of(pid)
            for each in self._freed:
                if each - self._step < mark <= each:
                    return each
        return 0


def main(session: int, leash: int, ready: int, registrar: int, mark: int, step: int) -> None:
    """Watch over `session` and whoever is announced on `registrar`."""
    _stand_apart()
    warden = Warden(registrar, step)
    _become_subreaper()
    try:
        os.write(ready, b"1")
    except OSError:  # the session has ended already: that is told below
        pass
    os.close(ready)
    try:
        os.write(leash, b"S %d\n" % session)
    except OSError:
        pass
    warden.watch(Charge(session, leash, mark))
    warden.run()
    os._exit(0)


def inside(session: int, leash: int, registrar: int, mark: int, step: int) -> None:
    """The same as process 1 of a session's PID namespace. Nobody outside knows the pids of there, so none is told."""
    _stand_apart()
    warden = Warden(registrar, step, inside=True)
    warden.watch(Charge(session, leash, mark))
    warden.run()
    os._exit(0)


def _stand_apart() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(each, signal.SIG_IGN)


def _become_subreaper() -> None:
    if sys.platform != "linux":
        return
    arguments = (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:  # what ctypes is made of: to import all of it takes a millisecond, and each start would wait for it
        import _ctypes

        library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None: what the interpreter is linked with
        _ctypes.call_function(_ctypes.dlsym(library, "prctl"), arguments)
        return
    except Exception:  # not as it is in CPython 3.8 to 3.13
        pass
    try:
        import ctypes

        ctypes.CDLL(None).prctl(*arguments)
    except Exception:  # an interpreter without ctypes: the controller's own walk of the tree has to do
        return


def _allow_many_files() -> None:
    """Each charge takes a descriptor; the controller may have raised its own limit since we were started."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # hard is above what the system allows by now
        return


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for _level, _kind, data in ancillary:
        found += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data) - 3, 4)]
    return found


def _drain(fd: int) -> None:
    try:
        while len(os.read(fd, 4096)) == 4096:
            pass
    except BlockingIOError:
        pass


class _End:
    """What waitid tells, made of what waitpid tells."""

    def __init__(self, status: int) -> None:
        signaled = os.WIFSIGNALED(status)
        self.si_code = os.CLD_KILLED if signaled else os.CLD_EXITED
        self.si_status = os.WTERMSIG(status) if signaled else os.WEXITSTATUS(status)


def _end_of(pid: int) -> Any:
    """How a child has ended, None if it has not. It is left to be collected, where that is possible."""
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    # macOS before Python 3.13: its pid may come to mean another process before the controller has let go of it
    found, status = os.waitpid(pid, os.WNOHANG)
    return _End(status) if found else None


def _usage_of(pid: int) -> tuple[int, int]:
    """(CPU in microseconds, most memory in KiB) of a zombie and the children that it has waited for; -1: not known.

    By the system call, for Python's waitid() leaves out the last argument of the kernel's: a struct rusage.
    """
    number = _WAITID.get(os.uname().machine)
    if sys.platform != "linux" or number is None or sys.maxsize < 2**32:
        return _NOT_TOLD
    try:
        import _ctypes

        library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
        usage = bytes(_SIZE_OF_RUSAGE)  # of its own, and nobody else has seen it: the kernel may write there
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        arguments = (number, int(os.P_PID), pid, None, int(options), usage)
        if _ctypes.call_function(_ctypes.dlsym(library, "syscall"), arguments):
            return _NOT_TOLD
    except Exception:  # not as it is in CPython 3.8 to 3.13
        return _NOT_TOLD
    numbers = [int.from_bytes(usage[at : at + 8], sys.byteorder) for at in range(0, 40, 8)]
    seconds, microseconds = numbers[0] + numbers[2], numbers[1] + numbers[3]
    return seconds * 1000000 + microseconds, numbers[4]


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _mark_of(pid: int) -> int:
    """Its hard limit: the soft one may be changed by anybody for himself."""
    try:
        with open("/proc/%d/limits" % pid, "rb") as file:
            for line in file:
                if line.startswith(b"Max file locks"):
                    hard = line.split()[4]
                    return int(hard) if hard.isdigit() else 0
    except OSError:
        pass
    return 0


def _add_descendants(pid: int, below: list[int]) -> None:
    todo = [pid]
    while todo:
        for child in _children(todo.pop()):
            below.append(child)
            todo.append(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it has ended, or this kernel does not list children
        if pid == os.getpid():
            return _children_by_search(pid)
    return found


def _children_by_search(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and int(fields[1]) == parent:
                found.append(int(name))
    return found


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] == b"Z"


def _stat(pid: int) -> list[bytes]:
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass
