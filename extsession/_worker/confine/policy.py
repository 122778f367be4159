"""Which system calls a session may make. A list of what is allowed: kernels add calls, and those are not there.

A number that is in no list gives ENOSYS, as on an older kernel: programs know what to do then. What they know to be
there, and is denied, gives EPERM. Reasons stand beside what is not obvious.
"""

from __future__ import annotations

import errno

from . import libc
from .landlock import SIGNALS
from .seccomp import ALLOW, PID, assemble, error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPERM = error(errno.EPERM)
_NOTHING = error(0)  # it seems to have worked

_FILES = """
read write open close stat fstat lstat poll lseek pread64 pwrite64 readv writev access pipe select dup dup2 sendfile
flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink
readlink umask statfs fstatfs ustat sync getdents64 readahead fadvise64 openat mkdirat newfstatat unlinkat renameat
linkat symlinkat readlinkat faccessat pselect6 ppoll splice tee sync_file_range vmsplice epoll_create epoll_ctl
epoll_wait epoll_pwait epoll_create1 epoll_pwait2 fallocate eventfd eventfd2 signalfd signalfd4 timerfd_create
timerfd_settime timerfd_gettime dup3 pipe2 preadv pwritev preadv2 pwritev2 renameat2 copy_file_range statx faccessat2
openat2 close_range syncfs getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr getxattrat listxattrat
"""
#: of files that are there: in the weak tier also of those that the user has elsewhere, so they do nothing there
_METADATA = """
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat setxattr lsetxattr
fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
"""
_MEMORY = """
mmap mprotect munmap brk mremap msync mincore madvise mlock munlock mlockall munlockall mlock2 membarrier pkey_mprotect
pkey_alloc pkey_free mseal map_shadow_stack get_mempolicy
"""
_PROCESSES = """
execve execveat exit exit_group wait4 waitid getpid gettid getppid getpgrp setpgid getpgid setsid getsid getuid geteuid
getgid getegid getgroups getresuid getresgid setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid
capget capset times getrusage sysinfo uname getrlimit getpriority sched_yield sched_getparam
sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_getaffinity sched_getattr
ioprio_get arch_prctl set_tid_address set_robust_list get_robust_list rseq futex futex_waitv futex_wake futex_wait
futex_requeue restart_syscall getcpu getrandom
"""
_TIME = """
gettimeofday time clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer alarm pause timer_create
timer_settime timer_gettime timer_getoverrun timer_delete
"""
_SIGNALS = """
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
"""
#: on sockets that are there: our channel, and those of socketpair()
_SOCKETS = """
sendto recvfrom sendmsg recvmsg shutdown getsockname getpeername setsockopt getsockopt sendmmsg recvmmsg
"""
#: only where sockets may be made
_CONNECTIONS = "connect accept accept4 bind listen"
_SENDING = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal"
_SCHEDULING = "sched_setparam sched_setscheduler sched_setaffinity sched_setattr"  # the pid is their first argument

_DENIED = """
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd
mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr
statmount listmount unshare setns open_by_handle_at name_to_handle_at quotactl quotactl_fd acct swapon swapoff
memfd_create memfd_secret shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open
mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
io_uring_setup io_uring_enter io_uring_register io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents
bpf userfaultfd perf_event_open add_key request_key keyctl seccomp
landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_set_self_attr
init_module finit_module delete_module create_module kexec_load kexec_file_load reboot iopl ioperm modify_ldt vhangup
syslog settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname setgroups uselib _sysctl sysfs
nfsservctl lookup_dcookie mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages cachestat
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_init fanotify_mark
"""
# inotify, dnotify and leases tell what the host does with files that are shared with it, as all of /usr is

_NAMESPACES = (
    libc.CLONE_NEWNS
    | libc.CLONE_NEWCGROUP
    | libc.CLONE_NEWUTS
    | libc.CLONE_NEWIPC
    | libc.CLONE_NEWUSER
    | libc.CLONE_NEWPID
    | libc.CLONE_NEWNET
)
_F_SETOWN, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY, _F_SETPIPE_SZ, _F_ADD_SEALS = 8, 15, 1024, 1026, 1031, 1033
_PR_SET_SECCOMP, _PR_SET_MM, _PR_SET_SYSCALL_USER_DISPATCH, _PR_SCHED_CORE = 22, 35, 59, 62
_PR_SET_PTRACER = 0x59616D61
_RLIMIT_CORE = 4
#: TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD: words put into the mouth of a terminal, ioctl_tty(2)
_IOCTLS_DENIED = (0x5412, 0x541C, 0x541D, 0x5423)
#: the only others: some change a file, or make one, by a descriptor that is open for reading (FS_IOC_SETFLAGS,
#: FS_IOC_ENABLE_VERITY, those of btrfs and XFS), of which Landlock and modes of files know nothing
_IOCTLS = (
    *range(0x5401, 0x540C),  # TCGETS to TCFLSH
    *(0x540F, 0x5410, 0x5411, 0x5413, 0x5414, 0x5429),  # TIOCGPGRP, TIOCSPGRP, TIOCOUTQ, TIOC[GS]WINSZ, TIOCGSID
    *(0x541B, 0x5421, 0x5450, 0x5451, 0x5452),  # FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC
    *(0x80086601, 0x80087601, 2),  # FS_IOC_GETFLAGS, FS_IOC_GETVERSION, FIGETBSZ
    *(0x40049409, 0x4020940D),  # FICLONE, FICLONERANGE: into a file that is open for writing
)
_SIOC = (0xFFFFFF00, 0x8900)  # of sockets, where there are any
_SOL_SOCKET = 1
#: SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF: programs for the kernel
_SOCKET_OPTIONS = (26, 50, 51, 52)
#: others have the kernel load modules that hardly anybody uses
_IP_PROTOCOLS = (0, 6, 17)
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET, _SOCK_KIND = 1, 2, 5, 15
_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000


def full(loopback: bool = False, network: bool = False, unix: bool = False) -> bytes:
    """The program for a session with namespaces of its own: processes are its own, and so are signals.

    loopback, network: sockets of IP and of routing (getaddrinfo asks for addresses). unix: those as well; never with
    the host's network where Landlock does not see to abstract sockets.
    """
    families = [_AF_INET, _AF_INET6] if loopback or network else []
    if unix:
        families.append(_AF_UNIX)
    rules = _common(families)
    for name in (*_METADATA.split(), *_SENDING.split(), *_SCHEDULING.split(), "setpriority", "ioprio_set"):
        rules[name] = ALLOW
    for name in (*_SCHEDULING.split(), "prlimit64"):  # a limit of CPU time would end pid 1, and it all
        rules[name] = ([(0, "==", 1, _EPERM)], rules[name])
    rules["fork"] = rules["vfork"] = ALLOW
    rules["clone"] = ([(0, "&", _NAMESPACES, _EPERM)], ALLOW)
    return assemble(rules, error(errno.ENOSYS))


def weak(abi: int) -> bytes:
    """The program for a session among the processes of its user; `seccomp.with_pid` completes it. abi: of Landlock."""
    rules = _common([])
    own = ([(0, "==", 0, ALLOW), (0, "==", PID, ALLOW)], _EPERM)
    for name in _METADATA.split():
        rules[name] = _NOTHING
    for name in _SENDING.split():
        rules[name] = ALLOW if abi >= SIGNALS else ([(0, "==", PID, ALLOW)], _EPERM)
    if abi >= SIGNALS:
        rules["kill"] = ([(0, "==", 0xFFFFFFFF, _EPERM)], ALLOW)  # all: it says that it works where it reaches nobody
    else:
        rules["tkill"] = _EPERM
        # F_SETOWN sends signals, too; its value is a pid, that of F_SETOWN_EX a pointer
        rules["fcntl"][0].insert(0, (1, "==", _F_SETOWN, ([(2, "==", PID, ALLOW)], _EPERM)))
        rules["fcntl"][0].insert(0, (1, "==", _F_SETOWN_EX, _EPERM))
    for name in _SCHEDULING.split():
        rules[name] = own
    rules["prlimit64"] = ([(0, "!=", 0, ([(0, "!=", PID, _EPERM)], rules["prlimit64"]))], rules["prlimit64"])
    rules["setpriority"] = ([(0, "!=", 0, _EPERM), (1, "==", 0, ALLOW), (1, "==", PID, ALLOW)], _EPERM)
    rules["ioprio_set"] = ([(0, "!=", 1, _EPERM), (1, "==", 0, ALLOW), (1, "==", PID, ALLOW)], _EPERM)
    rules["fork"] = rules["vfork"] = rules["pidfd_open"] = rules["pidfd_send_signal"] = _EPERM
    rules["clone"] = ([(0, "&", _NAMESPACES, _EPERM), (0, "&", libc.CLONE_THREAD, ALLOW)], _EPERM)
    rules["prctl"][0].append((0, "==", libc.PR_SET_PDEATHSIG, _EPERM))
    return assemble(rules, error(errno.ENOSYS))


def _common(families: list[int]) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    for allowed in (_FILES, _MEMORY, _PROCESSES, _TIME, _SIGNALS, _SOCKETS):
        rules.update(dict.fromkeys(allowed.split(), ALLOW))
    rules.update(dict.fromkeys(_DENIED.split(), _EPERM))
    rules.update(dict.fromkeys(_CONNECTIONS.split(), ALLOW if families else _EPERM))
    rules["clone3"] = error(errno.ENOSYS)  # its flags are behind a pointer; libc takes clone() then
    rules["personality"] = ([(0, "==", 0xFFFFFFFF, ALLOW)], _EPERM)  # to ask; others switch protections off
    rules["mknod"] = _mknod(1)
    rules["mknodat"] = _mknod(2)
    ioctls: list[Any] = [(1, "==", number, ALLOW) for number in _IOCTLS]
    ioctls += [(1, "==", number, _EPERM) for number in _IOCTLS_DENIED]
    if families:
        ioctls.append((1, "&==", _SIOC, ALLOW))
    rules["ioctl"] = (ioctls, error(errno.ENOTTY))
    options = [(2, "==", option, _EPERM) for option in _SOCKET_OPTIONS]
    rules["setsockopt"] = ([(1, "==", _SOL_SOCKET, (options, ALLOW))], ALLOW)
    refused = (_F_SETLEASE, _F_NOTIFY, _F_SETPIPE_SZ, _F_ADD_SEALS)
    rules["fcntl"] = ([(1, "==", number, _EPERM) for number in refused], ALLOW)
    refused = (_PR_SET_SECCOMP, _PR_SET_MM, _PR_SET_SYSCALL_USER_DISPATCH, _PR_SCHED_CORE)
    rules["prctl"] = ([(0, "==", number, _EPERM) for number in (*refused, _PR_SET_PTRACER)], ALLOW)
    # a limit of 1 is what keeps a core from a handler of the host's, where 0 does not (`lockdown`), so it stays
    rules["setrlimit"] = ([(0, "==", _RLIMIT_CORE, _NOTHING)], ALLOW)
    rules["prlimit64"] = ([(1, "==", _RLIMIT_CORE, ([(2, "set", 0, _NOTHING)], ALLOW))], ALLOW)
    if families:
        protocols: Any = ([(2, "==", protocol, ALLOW) for protocol in _IP_PROTOCOLS], _EPERM)
        ip = [(1, "&==", (_SOCK_KIND, kind), protocols) for kind in (_SOCK_STREAM, _SOCK_DGRAM)]
        sockets: list[Any] = []
        if _AF_UNIX in families:
            sockets.append((0, "==", _AF_UNIX, ALLOW))
        if _AF_INET in families:
            sockets += [(0, "==", family, (ip, _EPERM)) for family in (_AF_INET, _AF_INET6)]
            sockets.append((0, "==", _AF_NETLINK, ([(2, "==", 0, ALLOW)], _EPERM)))  # NETLINK_ROUTE
        rules["socket"] = (sockets, _EPERM)
    else:
        rules["socket"] = _EPERM
    # an end of a datagram pair can send anywhere, as to a socket of the host that has a path
    kinds = [(1, "&==", (_SOCK_KIND, kind), ALLOW) for kind in (_SOCK_STREAM, _SOCK_SEQPACKET)]
    pair: Any = ALLOW if _AF_UNIX in families else (kinds, _EPERM)
    rules["socketpair"] = ([(0, "==", _AF_UNIX, pair)], _EPERM)
    return rules


def _mknod(argument: int) -> Any:
    kinds = [(argument, "&==", (_S_IFMT, kind), _EPERM) for kind in (_S_IFCHR, _S_IFBLK)]
    return (kinds, ALLOW)
