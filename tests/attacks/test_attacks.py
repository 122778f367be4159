"""One test an attack: a program that must not get through, in both tiers, by root's sessions and an ordinary user's.

Each attack notes what it could do, which must be nothing, and is run without walls as well: there something must work,
or the test could not fail.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

BOTH = ("full", "weak")
LIMITS = {"nproc": 24, "nofile": 64, "as": 256 << 20, "cpu": (20, 21), "fsize": 64 << 20}


class Attack(NamedTuple):
    source: str
    tiers: tuple[str, ...] = BOTH
    control: bool = True  # something works without walls, for both users
    config: dict[str, Any] = {}
    landlock: bool = False  # harmless without: they are the session's own init and its own files in /proc


A: dict[str, Attack] = {}

# files of the host

A["read a file"] = Attack("attempt('read', lambda: open(HOST['secret']).read())")
A["read by another name"] = Attack("""
attempt('root', lambda: open('/proc/self/root' + HOST['secret']).read())
attempt('dots', lambda: open('../../../../../..' + HOST['secret']).read())
attempt('init', lambda: open('/proc/1/root' + HOST['secret']).read())
attempt('cwd', lambda: open('/proc/self/cwd/../../../..' + HOST['secret']).read())
os.symlink(HOST['secret'], 'link')
attempt('link', lambda: open('link').read())
""")
A["openat2"] = Attack("""
how = struct.pack('QQQ', os.O_RDONLY, 0, 0)
attempt('openat2', lambda: os.read(call('openat2', -100, HOST['secret'].encode(), how, 24), 9))
""")
A["read passwords"] = Attack("attempt('shadow', open, '/etc/shadow'); attempt('gshadow', open, '/etc/gshadow')", control=False)
A["other people's folders"] = Attack("""
for path in ('/root', '/home', '/var/log', '/srv', '/opt', '/boot', '/etc/ssh', '/sys', '/sys/kernel', '/run/systemd'):
    attempt(path, lambda: os.listdir(path)[0]) if os.path.isdir(path) and os.access(path, os.R_OK) and os.listdir(path) else None
""", tiers=("full",))
A["other people's folders, weak"] = Attack("""
for path in ('/root', '/home', '/var/log', '/srv', '/opt', '/boot', '/etc/ssh', '/sys', '/sys/kernel', '/tmp', '/var'):
    attempt(path, os.listdir, path)
""", tiers=("weak",))
A["list a folder"] = Attack("attempt('list', os.listdir, HOST['folder']); attempt('scan', lambda: list(os.scandir(HOST['folder'])))")
A["write to a file"] = Attack("attempt('append', lambda: open(HOST['secret'], 'a').write('x'))")
A["truncate a file"] = Attack("""
attempt('truncate', os.truncate, HOST['secret'], 7)
attempt('open', lambda: os.open(HOST['secret'], os.O_WRONLY | os.O_TRUNC) and open(HOST['secret'], 'w').write('hunter2'))
""")
A["make, rename and remove files"] = Attack("""
f = HOST['folder'] + '/'
attempt('create', lambda: open(f + 'new', 'w'))
attempt('mkdir', os.mkdir, f + 'folder')
attempt('symlink', os.symlink, 'x', f + 'symlink')
attempt('link', os.link, HOST['secret'], f + 'hard')
attempt('steal', os.link, HOST['secret'], 'mine')
attempt('fifo', os.mkfifo, f + 'fifo')
attempt('rename', os.rename, f + 'new', f + 'newer')
attempt('remove', os.unlink, f + 'newer')
attempt('rmdir', os.rmdir, f + 'folder')
for name in ('symlink', 'hard', 'fifo'):
    attempt('remove ' + name, os.unlink, f + name)
""")
A["write where programs are"] = Attack("""
for path in (sys.prefix, os.path.dirname(os.__file__), '/usr/bin', '/usr/lib', '/etc', '/lib', '/'):
    if os.access(path, os.W_OK) or os.getuid():
        name = path + '/extsession-attack'
        if attempt(path, lambda: os.close(os.open(name, os.O_CREAT | os.O_WRONLY))) is not None or os.path.exists(name):
            os.unlink(name)
""", control=False)
A["metadata"] = Attack("""
attempt('stat', os.stat, HOST['secret'])
attempt('chdir', os.chdir, HOST['folder'])
attempt('readlink', os.readlink, '/proc/%d/exe' % HOST['victim'])
attempt('path', os.open, HOST['secret'], os.O_PATH)
if os.access(HOST['secret'], os.F_OK): win('access')
attempt('statvfs', lambda: os.statvfs(HOST['folder']))
""", tiers=("full",))
A["change metadata"] = Attack("""
p = HOST['secret']
def look(): s = os.stat(p); return s.st_mode, s.st_mtime_ns, sorted(os.listxattr(p))
try: before = look()
except OSError: before = None
attempt('chmod', os.chmod, p, 0o600); attempt('utime', os.utime, p, (1, 1)); attempt('chown', os.chown, p, -1, -1)
attempt('xattr', os.setxattr, p, 'user.x', b'1')
def by_fd(): fd = os.open(p, os.O_RDONLY); os.fchmod(fd, 0o640)
attempt('fchmod', by_fd)
done = did[:]; del did[:]
if before and look() != before:
    win('changed'); os.chmod(p, 0o644); os.removexattr(p, 'user.x') if os.listxattr(p) else None
""")
A["attributes by ioctl"] = Attack("""
open('mine', 'w').close(); fd = os.open('mine', os.O_RDONLY)
flags = struct.pack('l', 0x40)  # no dump
for number, value in ((0x40086602, flags), (0x401c5820, bytes(28)), (0x40806685, bytes(128)), (0x40087602, flags), (0x5000940e, bytes(1000))):
    try: fcntl.ioctl(fd, number, value)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTTY): win(hex(number))
    else: win(hex(number))
for number in (0x8901, 0x8902, 0x8927, 0x5207, 0x40085203):
    attempt(hex(number), fcntl.ioctl, socket.socketpair()[0], number, struct.pack('i', os.getpid()) + bytes(60))
""")
A["programs for sockets"] = Attack("""
one = socket.socketpair()[0]; code = struct.pack('HBBI', 6, 0, 0, 0); buffer = ctypes.create_string_buffer(code, 8)
attempt('filter', one.setsockopt, socket.SOL_SOCKET, 26, struct.pack('HxxxxxxQ', 1, ctypes.addressof(buffer)))
""")
A["rare protocols"] = Attack("""
for family in (2, 10):
    for kind, protocol in ((1, 132), (1, 262), (1, 256), (2, 136), (2, 1), (2, 58), (6, 33), (3, 255), (5, 132)):
        attempt('%d %d %d' % (family, kind, protocol), lambda: os.close(call('socket', family, kind, protocol)))
""", tiers=("full",), config={"loopback": True}, control=False)
A["names of control groups"] = Attack("""
try: text = open('/proc/self/cgroup').read()
except OSError: text = ''
for line in text.splitlines():
    if line.rpartition(':')[2] != '/': win(line)
""", control=False)
A["file handles"] = Attack("""
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); mount = ctypes.c_int()
reached('name_to_handle_at', -100, b'/usr', handle, ctypes.addressof(mount), 0)
fd = os.open('/usr', os.O_RDONLY)
attempt('open_by_handle_at', call, 'open_by_handle_at', fd, handle, 0)
""")
A["watch what the host does"] = Attack("""
attempt('inotify', lambda: call('inotify_add_watch', call('inotify_init1', 0), b'/usr/bin', 0x20))
fd = os.open('/usr/bin', os.O_RDONLY)
attempt('dnotify', fcntl.fcntl, fd, fcntl.F_NOTIFY, 1)
reached('fanotify_init', 0, 0)
reached('cachestat', fd, None, None, 0)
""")
A["lease"] = Attack("""
open('mine', 'w').close(); fd = os.open('mine', os.O_RDONLY); attempt('lease', fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
""")
A["devices"] = Attack("""
import glob
for path in ['/dev/kmsg', '/dev/mem', '/dev/port', '/dev/kvm', '/dev/fuse', '/dev/net/tun', '/dev/tty', '/dev/ptmx', '/dev/userfaultfd', *glob.glob('/dev/vd*'), *glob.glob('/dev/sd*'), '/dev/pts/0', '/dev/loop-control']:
    attempt(path, os.open, path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
""")
A["make devices"] = Attack("""
attempt('char', os.mknod, 'mem', stat.S_IFCHR | 0o666, os.makedev(1, 1))
attempt('block', os.mknod, 'disk', stat.S_IFBLK | 0o666, os.makedev(254, 0))
attempt('whiteout', os.mknod, 'white', stat.S_IFCHR | 0o666, 0)
""", control=True)

# /proc and environments

A["other processes in /proc"] = Attack("""
v = '/proc/%d/' % HOST['victim']
for name in ('environ', 'cmdline', 'maps', 'mem', 'status', 'stat', 'limits', 'io'):
    attempt(name, lambda: open(v + name, 'rb').read(1) if name != 'mem' else open(v + name, 'rb'))
attempt('fd', os.listdir, v + 'fd')
""")
A["list processes"] = Attack("""
try: pids = [int(n) for n in os.listdir('/proc') if n.isdigit()]
except OSError: pids = []
for pid in pids:
    if pid > 2: win(str(pid))
""")
A["environment of anybody"] = Attack("""
try: pids = [n for n in os.listdir('/proc') if n.isdigit()]
except OSError: pids = ['self', '1', str(os.getppid()), str(HOST['victim'])]
for pid in pids:
    try: text = open('/proc/%s/environ' % pid, 'rb').read()
    except OSError: continue
    if b'hunter2' in text: win(pid)
""")
A["the kernel's own files"] = Attack("""
for path in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches', '/proc/sys/kernel/modprobe'):
    attempt('w ' + path, os.open, path, os.O_WRONLY)
for path in ('/proc/kcore', '/proc/kallsyms', '/proc/keys', '/proc/timer_list', '/proc/sys/kernel/random/boot_id', '/proc/net/unix', '/proc/cmdline', '/proc/partitions', '/sys/kernel/notes', '/proc/modules', '/proc/interrupts'):
    attempt('r ' + path, lambda: open(path, 'rb').read(1))
""")
A["memory and limits of oneself by /proc"] = Attack("""
for name in ('oom_score_adj', 'coredump_filter', 'clear_refs', 'uid_map', 'gid_map', 'setgroups', 'attr/current', 'timerslack_ns'):
    attempt(name, os.open, '/proc/self/' + name, os.O_WRONLY)
""", landlock=True)
A["the host's name"] = Attack("if socket.gethostname() == HOST['name']: win('name')", tiers=("full",))

# signals, other processes

A["signals"] = Attack("""
v = HOST['victim']
attempt('probe', os.kill, v, 0); attempt('kill', os.kill, v, signal.SIGUSR1)
attempt('tgkill', call, 'tgkill', v, v, int(signal.SIGUSR1)); attempt('tkill', call, 'tkill', v, int(signal.SIGUSR1))
info = struct.pack('iii', signal.SIGUSR1, 0, -1) + bytes(128)
attempt('queue', call, 'rt_sigqueueinfo', v, int(signal.SIGUSR1), info)
""")
A["signal to all"] = Attack("attempt('all', os.kill, -1, 0)", tiers=("weak",))
A["signal to the parent"] = Attack("""
attempt('parent', os.kill, os.getppid() or 1 << 22, 0); attempt('group', os.killpg, os.getpgid(os.getppid()) if os.getppid() else 1 << 22, 0)
""", landlock=True)
A["pidfd"] = Attack("""
fd = attempt('open', call, 'pidfd_open', HOST['victim'], 0)
if fd is not None: attempt('send', call, 'pidfd_send_signal', fd, int(signal.SIGUSR1), None, 0); attempt('get', call, 'pidfd_getfd', fd, 0, 0)
""", tiers=("full",))
A["pidfd, weak"] = Attack("attempt('self', call, 'pidfd_open', os.getpid(), 0); attempt('open', call, 'pidfd_open', HOST['victim'], 0)", tiers=("weak",))
A["signal by a pipe"] = Attack("""
r, w = os.pipe(); attempt('owner', fcntl.fcntl, r, fcntl.F_SETOWN, HOST['victim'])
if did:
    fcntl.fcntl(r, 10, int(signal.SIGUSR1)); fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
""", tiers=("full",))
A["ptrace"] = Attack("""
v = HOST['victim']
attempt('attach', call, 'ptrace', 0x4206, v, 0, 0); attempt('me', call, 'ptrace', 0, 0, 0, 0)
if did: call('ptrace', 17, v, 0, 0) if 0 else None
""", control=True)
A["memory of others"] = Attack("""
buffer = ctypes.create_string_buffer(8); local = struct.pack('QQ', ctypes.addressof(buffer), 8)
for name in ('process_vm_readv', 'process_vm_writev'):
    try: call(name, HOST['victim'], local, 1, struct.pack('QQ', 4096, 8), 1, 0)
    except OSError as error:
        if error.errno == errno.EFAULT: win(name)
attempt('kcmp', call, 'kcmp', os.getpid(), HOST['victim'], 0, 0, 0)
reached('process_madvise', -1, None, 0, 0, 0)
""")
A["scheduling of others"] = Attack("""
v = HOST['victim']
attempt('nice', os.setpriority, os.PRIO_PROCESS, v, 1); attempt('user', os.setpriority, os.PRIO_USER, 0, 1) if 0 else None
attempt('cpus', os.sched_setaffinity, v, {0}); attempt('policy', os.sched_setscheduler, v, os.SCHED_BATCH, os.sched_param(0))
attempt('param', os.sched_setparam, v, os.sched_param(0))
attempt('attr', call, 'sched_setattr', v, struct.pack('IIQiIQQQ', 48, 0, 0, 0, 0, 0, 0, 0), 0)
attempt('io', call, 'ioprio_set', 1, v, (2 << 13) | 7)
""")
A["scheduling of groups and users"] = Attack("""
attempt('group', os.setpriority, os.PRIO_PGRP, 0, 19); attempt('user', os.setpriority, os.PRIO_USER, HOST['victim'] * 0 + 4711, 19)
attempt('io', call, 'ioprio_set', 3, os.getuid(), (2 << 13) | 7)
""", tiers=("weak",))
A["limits of others"] = Attack("""
import resource
attempt('prlimit', resource.prlimit, HOST['victim'], resource.RLIMIT_NOFILE, (50, 50)); attempt('get', resource.prlimit, HOST['victim'], resource.RLIMIT_NOFILE)
attempt('parent', resource.prlimit, os.getppid() or 1 << 22, resource.RLIMIT_NOFILE)
""")
A["the init of a session"] = Attack("""
import resource
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGSEGV, signal.SIGUSR1):
    try: os.kill(1, number)
    except PermissionError: pass
time.sleep(0.05)
attempt('mem', open, '/proc/1/mem', 'rb'); attempt('environ', lambda: open('/proc/1/environ', 'rb').read())
attempt('root', os.listdir, '/proc/1/root'); attempt('fd', os.listdir, '/proc/1/fd')
attempt('trace', call, 'ptrace', 0x4206, 1, 0, 0); attempt('fds', call, 'pidfd_getfd', call('pidfd_open', 1, 0), 0, 0)
""", tiers=("full",), control=False)

# sockets

A["every family of sockets"] = Attack("""
for family in range(50):
    for kind in (1, 2, 3, 4, 5, 10):
        for protocol in (0, 15, 16):
            attempt('%d %d %d' % (family, kind, protocol), lambda: os.close(call('socket', family, kind, protocol)))
        if family != 1 or kind not in (1, 5): attempt('pair %d %d' % (family, kind), socket.socketpair, family, kind)
""")
A["families beside those of the network"] = Attack("""
for family in range(50):
    for kind in (1, 2, 3, 5):
        if family not in (1, 2, 10, 16): attempt('%d %d' % (family, kind), lambda: os.close(call('socket', family, kind, 0)))
        if kind == 3 and family != 1 and family != 16: attempt('raw %d' % family, lambda: os.close(call('socket', family, kind, 1)))
for protocol in range(1, 23): attempt('netlink %d' % protocol, lambda: os.close(call('socket', 16, 3, protocol)))
""", tiers=("full",), config={"loopback": True})
_CONNECT = """
def connect(family, kind, address):
    s = socket.socket(family, kind); s.settimeout(1); s.connect(address); s.send(b'x')
attempt('abstract', connect, socket.AF_UNIX, socket.SOCK_STREAM, HOST['abstract'])
attempt('path', connect, socket.AF_UNIX, socket.SOCK_STREAM, HOST['path'])
attempt('datagram', connect, socket.AF_UNIX, socket.SOCK_DGRAM, HOST['datagram'])
attempt('tcp', connect, socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', HOST['tcp']))
"""
A["sockets of the host"] = Attack(_CONNECT)
A["sockets of the host, with a loopback"] = Attack(_CONNECT, tiers=("full",), config={"loopback": True})
A["loopback of the host"] = Attack("""
def send():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', HOST['udp']))
attempt('udp', send)
def fast():
    s = socket.socket(); s.sendto(b'x', 0x20000000, ('127.0.0.1', HOST['tcp']))
attempt('fast open', fast)
attempt('bind', lambda: socket.socket().bind(('127.0.0.1', 0)))
""")
A["datagram pair sent elsewhere"] = Attack("""
def send():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', HOST['datagram'])
attempt('send', send)
def connect():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.connect(HOST['datagram'])
attempt('connect', connect)
def raw():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW); a.sendto(b'x', HOST['datagram'])
attempt('raw', raw)
def stream():
    a, b = socket.socketpair(); a.connect(HOST['path'])
attempt('stream', stream)
def sequence():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET); a.sendto(b'x', HOST['datagram']); a.connect(HOST['path'])
attempt('sequence', sequence)
""")
A["the outside"] = Attack("""
def connect(address):
    s = socket.socket(); s.settimeout(0.2); s.connect_ex(address)
attempt('connect', connect, ('192.0.2.1', 80))
attempt('route', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53)) or True)
""")
A["the outside, with a loopback"] = Attack("""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); attempt('route', lambda: s.connect(('192.0.2.1', 53)))
names = [name for _, name in socket.if_nameindex()]
if names != ['lo']: win(repr(names))
""", tiers=("full",), config={"loopback": True}, control=False)

# rights

A["new namespaces"] = Attack("""
for name, flag in (('user', 0x10000000), ('mnt', 0x20000), ('net', 0x40000000), ('pid', 0x20000000), ('ipc', 0x8000000), ('uts', 0x4000000), ('cgroup', 0x2000000), ('time', 0x80)):
    if name != 'mnt': attempt('unshare ' + name, call, 'unshare', 0x10000000 | flag) if not did else None
    else: attempt('unshare mnt', call, 'unshare', 0x20000)
""")
A["clones in new namespaces"] = Attack("""
def clone(flags):
    pid = call('clone', flags | 17, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
for bit in (17, 25, 26, 27, 28, 29, 30):
    attempt('clone %d' % bit, clone, 1 << bit); attempt('clone user %d' % bit, clone, 1 << bit | 0x10000000)
def clone3():
    pid = call('clone3', struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)
    if pid == 0: os._exit(0)
attempt('clone3', clone3)
""")
A["other namespaces"] = Attack("""
for name in ('mnt', 'net', 'user', 'pid', 'uts', 'ipc'):
    for who in ('self', '1', str(HOST['victim'])):
        fd = None
        try: fd = os.open('/proc/%s/ns/%s' % (who, name), os.O_RDONLY)
        except OSError: continue
        attempt('%s of %s' % (name, who), call, 'setns', fd, 0)
        os.close(fd)
""", control=False)
A["mounts"] = Attack("""
attempt('tmpfs', call, 'mount', b'tmpfs', os.getcwd().encode(), b'tmpfs', 0, None)
if did: call('umount2', os.getcwd().encode(), 2)
attempt('bind', call, 'mount', b'/usr', os.getcwd().encode(), None, 4096, None)
if len(did) > 1: call('umount2', os.getcwd().encode(), 2)
reached('mount', b'/nowhere', b'/nowhere', b'ext4', 0, None); reached('umount2', b'/nowhere', 2); reached('pivot_root', b'/nowhere', b'/nowhere')
reached('open_tree', -1, b'x', 0); reached('move_mount', -1, b'x', -1, b'y', 0); reached('fsopen', b'nofs', 0); reached('fsmount', -1, 0, 0)
reached('fsconfig', -1, 0, None, None, 0); reached('fspick', -1, b'x', 0); reached('mount_setattr', -1, b'x', 0, bytes(32), 32)
reached('statmount', None, None, 0, 0); reached('listmount', None, None, 0, 0)
""", control=True)
A["mounts undone"] = Attack("""
attempt('remount', call, 'mount', None, b'/usr', None, 32 | 4096, None); attempt('grow', call, 'mount', None, b'/work', b'tmpfs', 32, b'size=1g')
attempt('proc', call, 'umount2', b'/proc', 2); attempt('work', call, 'umount2', b'/work', 2); attempt('usr', call, 'umount2', b'/usr', 2)
""", tiers=("full",), control=False)
A["chroot"] = Attack("attempt('chroot', os.chroot, '.'); attempt('root', os.chroot, '/')", control=False)
A["interfaces of the kernel"] = Attack("""
reached('bpf', 99, None, 0); reached('io_uring_setup', 0, None); reached('io_uring_enter', -1, 0, 0, 0, None, 0); reached('io_uring_register', -1, 0, None, 0)
reached('userfaultfd', 1 << 30); reached('perf_event_open', None, 0, 0, 0, 0)
reached('keyctl', 99, 0, 0, 0, 0); reached('add_key', None, None, None, 0, 0); reached('request_key', None, None, None, 0)
reached('quotactl', 1 << 20, None, 0, None); reached('seccomp', 99, 0, None)
reached('landlock_create_ruleset', None, 0, 99); reached('personality', 0x0040000) if 1 else 0
reached('io_setup', 0, None); reached('modify_ldt', 99, None, 0); reached('migrate_pages', 99 << 20, 0, None, None); reached('move_pages', 99 << 20, 0, None, None, None, 0)
reached('mbind', 1, 0, 99, None, 0, 0); reached('set_mempolicy', 99, None, 0)
""")
A["what only root may"] = Attack("""
reached('init_module', None, 0, None); reached('finit_module', -1, None, 99); reached('delete_module', None, 0)
reached('kexec_load', 0, 99, None, 1 << 30); reached('reboot', 1, 2, 3, None); reached('swapon', None, 0); reached('swapoff', None); reached('acct', b'/nowhere/x')
reached('syslog', 99, None, 0); reached('settimeofday', None, b'x' * 8); reached('clock_settime', 99, None); reached('adjtimex', None); reached('clock_adjtime', 0, None)
reached('sethostname', None, 1 << 30); reached('setdomainname', None, 1 << 30); reached('iopl', 99); reached('ioperm', 1 << 40, 1, 1); reached('fanotify_init', 1 << 30, 0); reached('setgroups', 1 << 30, None)
""", control=False)
A["capabilities"] = Attack("""
header = struct.pack('Ii', 0x20080522, 0); data = ctypes.create_string_buffer(24)
call('capget', header, data)
if any(data.raw): win('capabilities')
if call('prctl', 39, 0, 0, 0, 0) != 1: win('new privileges')
for number in range(41):
    attempt('ambient %d' % number, call, 'prctl', 47, 2, number, 0, 0)
attempt('capset', call, 'capset', header, b'\\xff' * 24); attempt('uid', os.setuid, 0); attempt('gid', os.setgid, 0); attempt('groups', os.setgroups, [0])
""")
A["bounding set"] = Attack("""
for number in range(41):
    if call('prctl', 23, number, 0, 0, 0): win('bound %d' % number)
""", tiers=("full",))
A["setuid programs"] = Attack("""
import subprocess
for path in ('/usr/bin/su', '/usr/bin/passwd', '/usr/bin/mount'):
    try: s = os.statvfs(path)
    except OSError: continue
    if not s.f_flag & os.ST_NOSUID: win(path)
""", tiers=("full",))
A["undoing the filter"] = Attack("""
reached('seccomp', 2, 0, struct.pack('I', 0x7fc00000)); attempt('mode', call, 'prctl', 22, 2, 0, 0, 0)
for option in (35, 59, 62, 0x59616d61): reached('prctl', option, 0, 0, 0, 0)
if did and not isinstance(did[0], str): pass
""")
A["outliving the manager"] = Attack("attempt('deathsig', call, 'prctl', 1, 0, 0, 0, 0)", tiers=("weak",))
A["words for a terminal"] = Attack("""
for number in (0x5412, 0x541c, 0x541d, 0x5423):
    try: fcntl.ioctl(0, number, b'x' * 16)
    except OSError as error:
        if error.errno != errno.EPERM: win(hex(number))
    else: win(hex(number))
""")
A["memory that limits do not see"] = Attack("""
attempt('memfd', call, 'memfd_create', b'x', 0); reached('memfd_secret', 0)
attempt('shm', lambda: call('shmctl', call('shmget', 0, 4096, 0o1600), 0, None)); attempt('sem', lambda: call('semctl', call('semget', 0, 1, 0o1600), 0, 0, 0)); attempt('msg', lambda: call('msgctl', call('msgget', 0, 0o1600), 0, None))
reached('mq_open', None, 0, 0, None)
r, w = os.pipe(); attempt('pipe', fcntl.fcntl, w, 1031, 1 << 20)
""")
A["locked memory"] = Attack("""
import mmap
page = mmap.mmap(-1, 1 << 16); attempt('mlock', call, 'mlock', ctypes.addressof(ctypes.c_char.from_buffer(page)), 1 << 16)
attempt('all', call, 'mlockall', 1)
""", control=False)
A["limits raised"] = Attack("""
import resource
for name in ('NOFILE', 'FSIZE', 'AS', 'CPU', 'NPROC', 'MEMLOCK', 'MSGQUEUE', 'CORE'):
    number = getattr(resource, 'RLIMIT_' + name); soft, hard = resource.getrlimit(number)
    if hard == resource.RLIM_INFINITY: win(name); continue
    attempt('raise ' + name, resource.setrlimit, number, (hard + 1, hard + 1)) if name != 'CORE' else None
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if resource.getrlimit(resource.RLIMIT_CORE) != (1, 1): win('core')
call('prlimit64', 0, 4, struct.pack('QQ', 0, 0), None)
if resource.getrlimit(resource.RLIMIT_CORE) != (1, 1): win('core by prlimit')
""")

# exhaustion

A["fork bomb"] = Attack("""
count = 0
try:
    for count in range(200):
        if os.fork() == 0:
            try: signal.pause()
            finally: os._exit(0)
except OSError: pass
else: count = 200
if count >= %d: win('%%d processes' %% count)
signal.signal(signal.SIGTERM, signal.SIG_IGN); os.killpg(0, signal.SIGTERM) if count else None
""" % LIMITS["nproc"], tiers=("full",))
A["any process"] = Attack("""
def fork():
    if os.fork() == 0: os._exit(0)
attempt('fork', fork)
def clone(flags):
    if call('clone', flags, 0, 0, 0, 0) == 0: os._exit(0)
attempt('clone', clone, 17)
if not did: attempt('parent', clone, 0x8000 | 17)  # a child of the one who runs us
attempt('silent', clone, 0)
import subprocess
attempt('run', subprocess.run, ['/bin/true'])
attempt('posix_spawn', os.posix_spawn, '/bin/true', ['true'], {})
try:
    while True: os.waitpid(-1, 0x40000000)
except OSError: pass
""", tiers=("weak",))
A["descriptors"] = Attack("""
count = 0
try:
    while count < 3000: os.dup(0); count += 1
except OSError: pass
if count > %d: win('%%d descriptors' %% count)
""" % LIMITS["nofile"])
A["memory"] = Attack("attempt('memory', bytearray, 400 << 20)")
A["a large file"] = Attack("""
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def grow():
    with open('large', 'wb') as file: file.truncate(200 << 20)
attempt('grow', grow)
""")
A["disk fill"] = Attack("""
for folder in (os.getcwd(), '/dev/shm'):
    total = 0
    try:
        for number in range(40):
            with open('%s/fill%d' % (folder, number), 'wb') as file: total += file.write(bytes(1 << 20))
    except OSError: pass
    if total > 9 << 20: win('%d in %s' % (total, folder))
    for number in range(40):
        if os.path.exists('%s/fill%d' % (folder, number)): os.unlink('%s/fill%d' % (folder, number))
""", tiers=("full",), config={"work_size": 8 << 20, "shm_size": 8 << 20})
A["inode fill"] = Attack("""
for folder in (os.getcwd(), '/dev/shm'):
    count = 0
    try:
        for count in range(3000): os.mkdir('%s/d%d' % (folder, count))
    except OSError: pass
    else: win(folder)
    for number in range(count + 1):
        if os.path.exists('%s/d%d' % (folder, number)): os.rmdir('%s/d%d' % (folder, number))
""", tiers=("full",), config={"work_inodes": 500})
A["writable places"] = Attack("""
for folder, below, _ in os.walk('/'):
    below[:] = [name for name in below if os.path.join(folder, name) not in ('/proc', '/work', '/dev/shm', '/tmp', '/sys', '/run', HOST['folder'])]
    if folder.count('/') > 4: below[:] = []
    path = os.path.join(folder, '.extsession-attack')
    try: os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError: continue
    os.unlink(path); win(folder)
""", tiers=("full",), control=False)


def _cases() -> list[Any]:
    return [pytest.param(name, tier, id=f"{name}-{tier}") for name, attack in A.items() for tier in attack.tiers]


@pytest.mark.parametrize("name, tier", _cases())
def test_attack(user: str, name: str, tier: str, runner: Any, host: dict[str, Any], reached: dict[str, Any]) -> None:
    if not reached[tier]["reached"]:
        pytest.skip(f"this host does not allow the {tier} tier: {reached[tier]['cure']}")
    attack = A[name]
    with runner.work_folder(user, tier) as work:
        ended = runner.run(tier, user, attack.source, host, work, limits=LIMITS, **attack.config)
    assert ended.did is not None, ended
    assert ended.did == [], ended
    assert ended.code == 0, ended


#: the full tier with what it can do without left out, and the weak one with the oldest Landlock it makes do with
LESS: dict[str, tuple[str, dict[str, Any]]] = {
    "no landlock": ("full", {"deny": "landlock"}),
    "covered proc": ("full", {"deny": "covered"}),
    "old landlock": ("weak", {"abi": 3}),
}


@pytest.mark.parametrize(
    "name, less",
    [
        (name, less)
        for name, attack in A.items()
        for less in LESS
        if LESS[less][0] in attack.tiers and not (attack.landlock and less == "no landlock")
    ],
)
def test_attack_with_less(
    user: str, name: str, less: str, runner: Any, host: dict[str, Any], reached: dict[str, Any]
) -> None:
    tier, options = LESS[less]
    if not reached[tier]["reached"]:
        pytest.skip(f"this host does not allow the {tier} tier: {reached[tier]['cure']}")
    with runner.work_folder(user, tier) as work:
        ended = runner.run(tier, user, A[name].source, host, work, limits=LIMITS, **options, **A[name].config)
    assert ended.did == [] and ended.code == 0, ended


@pytest.mark.parametrize("name", [name for name, attack in A.items() if attack.control])
def test_the_attack_works_without_walls(user: str, name: str, runner: Any, host: dict[str, Any]) -> None:
    with runner.work_folder(user, "none") as work:
        ended = runner.run("none", user, A[name].source, host, work)
    assert ended.did, ended
    assert "crashed" not in ended.did, ended
