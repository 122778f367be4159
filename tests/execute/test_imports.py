"""The package is imported on Windows as well, where much is missing."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

#: what a Windows Python does not have, as far as the package could want it at import
SOURCE = """
import importlib.abc, os, select, signal, socket
import anyio, multiprocessing, pexpect, psutil, subprocess, trio  # these have their own ways there
missing = {"fcntl", "termios", "pty", "resource", "pwd", "grp", "tty", "_posixsubprocess"}
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in missing:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Finder())
names = {
    os: "fork forkpty register_at_fork pidfd_open eventfd EFD_CLOEXEC EFD_NONBLOCK killpg setsid getpgid getsid setpgid setpgrp "
        "waitid wait WNOHANG WEXITED P_PID geteuid getuid getgid getegid mkfifo pipe2 sysconf uname getloadavg openpty "
        "sched_getaffinity memfd_create posix_spawn O_CLOEXEC O_NONBLOCK O_DIRECTORY O_NOFOLLOW statvfs initgroups",
    select: "poll epoll POLLIN POLLOUT POLLHUP kqueue",
    signal: "SIGKILL SIGSTOP SIGCONT SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGCHLD SIGALRM SIGPIPE SIGXCPU SIGTSTP pthread_sigmask "
            "pthread_kill setitimer ITIMER_REAL pidfd_send_signal sigwait siginterrupt SIG_BLOCK SIG_UNBLOCK SIG_SETMASK",
    socket: "AF_UNIX SCM_RIGHTS CMSG_SPACE CMSG_LEN MSG_DONTWAIT MSG_NOSIGNAL SO_PEERCRED",
}
for module, those in names.items():
    for name in those.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "win32"
from extsession.execute import *
from extsession.execute import request, api, local_sub_process
print(ExecuteRequest(["ls"]), Outcome(ExecuteStatus(0)).exit_code, StdinSource.OFF.name)
"""


def test_where_all_of_posix_is_missing(controller: Any) -> None:
    done = subprocess.run(controller(SOURCE), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ExecuteRequest(ls, cwd=None, run_id=None) 0 OFF\n"


@pytest.mark.parametrize("module", ["trio", "anyio", "cloudpickle", "pexpect"])
def test_what_is_not_needed_is_not_imported(controller: Any, module: str) -> None:
    source = f"import extsession\nbefore = set(sys.modules)\nimport extsession.execute\nprint({module!r} in set(sys.modules) - before)"
    done = subprocess.run(controller(source), capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("False\n", "")
