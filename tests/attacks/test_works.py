"""What must still work behind the walls."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

EVERYWHERE = {
    "standard library": """
import asyncio, bz2, csv, ctypes, datetime, decimal, email, hashlib, json, lzma, random, re, secrets, select, sqlite3, ssl
import statistics, uuid, xml.etree.ElementTree, zlib
assert decimal.Decimal('0.1') + decimal.Decimal('0.2') == decimal.Decimal('0.3')
hashlib.sha256(b'x'); secrets.token_hex(); uuid.uuid4(); ssl.create_default_context(); os.urandom(4); open('/dev/urandom', 'rb').read(4)
""",
    "sqlite3": """
import sqlite3
base = sqlite3.connect('base.db'); base.execute('create table t (x)'); base.execute('insert into t values (1)'); base.commit()
assert sqlite3.connect('base.db').execute('select * from t').fetchall() == [(1,)]
""",
    "asyncio": """
import asyncio
async def main(): return sum(await asyncio.gather(*[asyncio.sleep(0.001, i) for i in range(20)]))
assert asyncio.run(main()) == 190
""",
    "threads": """
import threading, concurrent.futures
with concurrent.futures.ThreadPoolExecutor(8) as pool: assert sum(pool.map(lambda x: x * x, range(50))) == 40425
""",
    "temporary files": """
import tempfile, shutil, pathlib
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'a', 'b'); path.parent.mkdir(); path.write_text('x'); path.rename(path.with_name('c')); path.with_name('l').symlink_to('c')
    assert path.with_name('l').read_text() == 'x'; os.link(path.with_name('c'), path); os.truncate(path, 0); shutil.copytree(folder + '/a', folder + '/d')
with tempfile.TemporaryFile() as file: file.write(b'x')
with tempfile.NamedTemporaryFile() as file: file.write(b'x')
os.mkfifo('fifo'); os.chmod('fifo', 0o600); open('/dev/null', 'w').write('x')
""",
    "time zones": """
import datetime, time
os.environ['TZ'] = 'Europe/Berlin'; time.tzset()
assert time.localtime(1720000000).tm_gmtoff == 7200
""",
    "signals": """
hits = []
signal.signal(signal.SIGALRM, lambda *a: hits.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
signal.signal(signal.SIGUSR1, lambda *a: hits.append(2)); os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)
import threading; signal.pthread_kill(threading.get_ident(), signal.SIGUSR1); time.sleep(0)
assert hits == [1, 2, 2, 2], hits
r, w = os.pipe(); fcntl.fcntl(w, fcntl.F_SETOWN, os.getpid()); fcntl.fcntl(w, 10, int(signal.SIGURG)); fcntl.fcntl(w, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
""",
    "descriptors over a socket": """
a, b = socket.socketpair(); r, w = os.pipe(); os.write(w, b'x')
import array
a.sendmsg([b'f'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [r]))])
data, extra, _, _ = b.recvmsg(10, 100); fd = array.array('i', extra[0][2])[0]; assert os.read(fd, 1) == b'x'
c, d = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET); c.send(b'y'); assert d.recv(5) == b'y'
""",
    "own limits and scheduling": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 50)); resource.prlimit(0, resource.RLIMIT_NOFILE); os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0))
os.setpriority(os.PRIO_PROCESS, 0, 5); os.getloadavg; os.cpu_count(); time.sleep(0.001); os.times(); resource.getrusage(resource.RUSAGE_SELF)
resource.setrlimit(10, (5, 5)); call('prctl', 15, b'name', 0, 0, 0)
""",
    "questions to descriptors": """
import shutil, select
assert not os.isatty(0); r, w = os.pipe(); os.write(w, b'xy'); assert struct.unpack('i', fcntl.ioctl(r, 0x541b, bytes(4)))[0] == 2
os.set_blocking(r, False); os.set_inheritable(r, True); shutil.get_terminal_size(); a, b = socket.socketpair(); a.setblocking(False); a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000); a.settimeout(1)
open('from', 'w').write('x' * 9999); shutil.copyfile('from', 'to'); shutil.copy2('from', 'too'); assert len(open('to').read()) == 9999
""",
    "memory maps": "import mmap; m = mmap.mmap(-1, 1 << 20); m.write(b'x'); m.madvise(mmap.MADV_DONTNEED); bytearray(50 << 20)",
}
FULL = {
    "subprocess": """
import subprocess
assert subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True, check=True).stdout == '42\\n'
assert subprocess.check_output('echo $((6 * 7)) | cat', shell=True) == b'42\\n'
assert os.popen('ls /').read()
""",
    "multiprocessing": """
import multiprocessing
context = multiprocessing.get_context('fork')
lock, value, queue = context.Lock(), context.Value('i', 0), context.Queue()
def work():
    with lock: value.value += 1
    queue.put(1)
all = [context.Process(target=work) for _ in range(4)]
for one in all: one.start()
for one in all: one.join()
assert value.value == 4 and sum(queue.get() for _ in all) == 4
with context.Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
spawn = multiprocessing.get_context('spawn').Process(target=print, args=('x',)); spawn.start(); spawn.join(); assert spawn.exitcode == 0
""",
    "shared memory": """
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=1 << 20); block.buf[:3] = b'abc'; block.close(); block.unlink()
""",
    "fork and exec": """
pid = os.fork()
if pid == 0: os.setsid(); os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(5)'])
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5 if hasattr(os, 'waitstatus_to_exitcode') else True
fd = os.pidfd_open(os.getpid()) if hasattr(os, 'pidfd_open') else 0
""",
    "names": """
import pwd, getpass
assert pwd.getpwuid(os.getuid()).pw_name == 'session' and os.getuid() == os.geteuid() == 1000
assert os.path.exists('/proc/self/maps') and os.listdir('/proc/self/fd') and open('/dev/fd/%d' % os.pipe()[0], 'rb', opener=lambda p, f: os.open(p, f | os.O_NONBLOCK)) if os.path.isdir('/proc/self') else True
assert os.getcwd() == '/work' and socket.gethostname() == 'session'
open('/dev/shm/x', 'w').write('x'); open('/tmp/x', 'w').write('x'); assert os.path.exists('/work/x')
""",
    "a branch": """
where = ctypes.c_void_p(); _libc.prctl(40, ctypes.byref(where), 0, 0, 0); assert where.value
r, w = os.pipe()
tail = [0, where.value, 0] if os.uname().machine == 'x86_64' else [0, 0, where.value]
pid = call('clone', 0x8000 | 0x1000000 | 0x200000 | 17, 0, *tail)
if pid == 0:
    os.setsid(); call('prctl', 1, 9, 0, 0, 0)
    try: open('/etc/shadow2', 'w')
    except OSError as error: os.write(w, b'%d %d' % (os.getppid(), error.errno))
    os._exit(0)
assert os.read(r, 20) in (b'1 13', b'1 30')
""",
}
LOOPBACK = {
    "tcp": """
import threading
server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname()); one, _ = server.accept(); one.send(b'x'); assert client.recv(1) == b'x'
six = socket.create_server(('::1', 0), family=socket.AF_INET6); socket.create_connection(six.getsockname()[:2])
assert socket.getaddrinfo('localhost', 80)
""",
    "unix": """
server = socket.socket(socket.AF_UNIX); server.bind('/work/s'); server.listen(); client = socket.socket(socket.AF_UNIX); client.connect('/work/s')
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0x'); abstract.listen(); other = socket.socket(socket.AF_UNIX); other.connect('\\0x')
socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
""",
    "http": """
import http.server, threading, urllib.request
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler); threading.Thread(target=server.handle_request).start()
assert urllib.request.urlopen('http://127.0.0.1:%d/' % server.server_port).status == 200
""",
    "manager": """
import multiprocessing
with multiprocessing.get_context('fork').Manager() as manager: assert list(manager.list([1])) == [1]
""",
}


def _check(ended: Any) -> None:
    assert ended.did == [] and ended.code == 0, ended


@pytest.fixture(autouse=True)
def _allowed(request: pytest.FixtureRequest, reached: dict[str, Any]) -> None:
    tier = request.node.callspec.params.get("tier", "full")
    if not reached[tier]["reached"]:
        pytest.skip(f"this host does not allow the {tier} tier: {reached[tier]['cure']}")


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("tier", ["full", "weak"])
def test_works(user: str, tier: str, name: str, runner: Any) -> None:
    with runner.work_folder(user, tier) as work:
        _check(runner.run(tier, user, EVERYWHERE[name], {}, work, limits={"as": 512 << 20, "nofile": 256}))


@pytest.mark.parametrize("name", EVERYWHERE)
def test_works_with_an_old_landlock(user: str, name: str, runner: Any) -> None:
    with runner.work_folder(user, "weak") as work:
        _check(runner.run("weak", user, EVERYWHERE[name], {}, work, abi=3))


@pytest.mark.parametrize("name", FULL)
def test_works_with_processes(user: str, name: str, runner: Any) -> None:
    _check(runner.run("full", user, FULL[name], limits={"as": 512 << 20, "nproc": 64, "nofile": 256}))


@pytest.mark.parametrize("name", LOOPBACK)
def test_works_with_a_loopback(user: str, name: str, runner: Any) -> None:
    _check(runner.run("full", user, LOOPBACK[name], loopback=True))


def test_the_host_can_be_read_where_asked_for(user: str, host: dict[str, Any], runner: Any) -> None:
    source = """
assert open(HOST['secret']).read() == 'hunter2'
attempt('write', open, HOST['secret'], 'w'); attempt('new', open, HOST['folder'] + '/new', 'w'); attempt('chmod', os.chmod, HOST['secret'], 0o600)
"""
    _check(runner.run("full", user, source, host, read=[host["folder"]]))


def test_any_umask(user: str, runner: Any) -> None:
    before = os.umask(0o077)
    try:
        _check(runner.run("full", user, "import subprocess, json\nsubprocess.run([sys.executable, '-c', ''], check=True)\nopen('/etc/passwd')"))
        if user == "root":
            _check(runner.run("full", user, "import json", interpreter=sys.executable))
    finally:
        os.umask(before)


def test_the_network_of_the_host_where_asked_for(user: str, host: dict[str, Any], runner: Any) -> None:
    source = """
s = socket.create_connection(('127.0.0.1', HOST['tcp'])); s.close()
def connect(address):
    s = socket.socket(socket.AF_UNIX); s.connect(address)
attempt('abstract', connect, HOST['abstract']); attempt('path', connect, HOST['path'])
"""
    _check(runner.run("full", user, source, host, network=True))
    _check(runner.run("full", user, source, host, network=True, loopback=True))
