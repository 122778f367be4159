"""Runs in a child, by any interpreter: go behind the walls as a session would, then run a program there.

    python -I -c <this file> root

stdin: JSON {"tier": "full" | "weak" | "none" | "probe", "config": ..., "source": ..., "host": {...}, "deny": name}. The
program has `attempt`, `win` and `call`, and what it could do stands on the last line of stdout. Our modules come from
memory, by the loader that sessions use.
"""

import json
import marshal
import os
import signal
import sys

# runs before the program, in its scope: helpers of attacks
PRELUDE = '''
import ctypes, errno, fcntl, os, signal, socket, stat, struct, sys, time
did, refused = [], []
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
def win(name): did.append(name)
def attempt(name, function, *arguments):
    try: found = function(*arguments)
    except (OSError, MemoryError, ValueError) as error:
        refused.append((name, getattr(error, "errno", None))); return None
    did.append(name); return found
def call(name, *arguments):
    result = _libc.syscall(ctypes.c_long(NR.get(name, name)), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        number = ctypes.get_errno(); raise OSError(number, os.strerror(number))
    return result
def reached(name, *arguments):
    """Count it as done if the kernel has looked at the call at all."""
    try: call(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            refused.append((name, error.errno)); return
    did.append(name)
'''


def loader(root):
    folder = os.path.join(root, "extsession")
    codes = {}
    for package in ("_protocol", "_worker"):
        for place, _, files in os.walk(os.path.join(folder, package)):
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(place, name)
                    parts = os.path.relpath(path, folder)[:-3].split(os.sep)
                    full = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                    if full.startswith(("_protocol", "_worker.confine", "_worker.boot")) or full == "_worker":
                        with open(path, encoding="utf-8") as file:
                            codes[full] = marshal.dumps(compile(file.read(), full, "exec", dont_inherit=True))
    scope = {"__name__": "_extsession._worker.boot", "__package__": "_extsession._worker"}
    exec(marshal.loads(codes["_worker.boot"]), scope)
    return scope["Loader"](codes)


def deny(kind, load):
    """Be a host that refuses isolation at this step."""
    libc, seccomp, namespaces = [load("_worker.confine." + n) for n in ("libc", "seccomp", "namespaces")]
    eperm, enosys = seccomp.error(1), seccomp.error(38)
    flags = ([(0, "&", 0x7E020000, eperm)], seccomp.ALLOW)
    rules = {
        "unshare": {"unshare": eperm, "clone": flags, "clone3": enosys},
        "clone": {"clone": flags, "clone3": enosys},
        "uid_map": {"openat": ([(2, "&==", (0o103, 1), eperm)], seccomp.ALLOW)},
        "mount": {"mount": eperm},
        "pivot": {"pivot_root": eperm},
        "setattr": {"mount_setattr": enosys},
        "landlock": {"landlock_create_ruleset": enosys},
        "everything": {"unshare": eperm, "landlock_create_ruleset": enosys},
        "seccomp": {"seccomp": enosys},
    }
    if kind in rules:
        libc.no_new_privs()
        libc.seccomp_install(seccomp.assemble(rules[kind], seccomp.ALLOW))
        return
    uid, gid = os.geteuid(), os.getegid()
    reading, writing = os.pipe()
    helper = 0 if uid else os.fork()
    if uid == 0 and helper == 0:  # root maps all, which only somebody outside may do
        os.read(reading, 1)
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (os.getppid(), name), "w") as file:
                file.write("0 0 65536")
        os._exit(0)
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    os.write(writing, b"x")
    os.close(reading)
    os.close(writing)
    if helper:
        os.waitpid(helper, 0)
    else:
        namespaces._write("setgroups", "deny")
        namespaces._write("uid_map", "0 %d 1" % uid)
        namespaces._write("gid_map", "0 %d 1" % gid)
    if kind == "number":
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    elif kind == "covered":
        libc.mount("tmpfs", "/proc/acpi" if os.path.isdir("/proc/acpi") else "/proc/sys", "tmpfs", 0)


def run(source, host, numbers):
    scope = {"__name__": "__main__", "HOST": host, "NR": numbers}
    exec(compile(PRELUDE, "prelude", "exec"), scope)
    try:
        exec(compile(source, "attack", "exec"), scope)
    except SystemExit:
        pass
    except BaseException:
        import traceback

        traceback.print_exc()
        scope["did"].append("crashed")
    sys.stdout.write("\n" + json.dumps({"did": scope["did"], "refused": scope["refused"]}) + "\n")
    sys.stdout.flush()


def main():
    order = json.loads(sys.stdin.buffer.read())
    load = loader(sys.argv[1]).load
    libc = load("_worker.confine.libc")
    tier, config, host = order["tier"], order["config"], order["host"]
    if order.get("deny"):
        deny(order["deny"], load)
    if tier == "probe":
        sys.stdout.write(json.dumps(load("_worker.confine.probe").probe(config.get("work", "/"))))
        return
    for name in order.get("imports", ()):
        __import__(name)
    namespaces, lockdown = load("_worker.confine.namespaces"), load("_worker.confine.lockdown")
    numbers = libc.NUMBERS
    if tier == "none":
        os.chdir(config["work"])
        run(order["source"], host, numbers)
    elif tier == "weak":
        os.chdir(config["work"])
        os.environ["TMPDIR"] = os.environ["HOME"] = config["work"]
        lockdown.weak(config)
        run(order["source"], host, numbers)
    else:
        del config["work"]
        namespaces.enter_base(config)
        libc.prctl(libc.PR_SET_PDEATHSIG, 9)
        config = lockdown.prepare(config)
        reading, writing = os.pipe()
        pid = libc.clone(namespaces.session_flags(config) | signal.SIGCHLD)
        if pid == 0:
            facts = namespaces.enter_session(config, report=writing)
            os.close(reading)
            os.environ["TMPDIR"] = os.environ["HOME"] = "/work"
            lockdown.full(config, facts)
            run(order["source"], host, numbers)
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as file:
            lines = file.read().splitlines()
        code, value = [int(word) for word in lines[0].split()[1:]] if lines else (0, 0)
        mirrored = (value if code == 1 else 128 + value) if lines else -1
        if lines and os.WEXITSTATUS(status) != mirrored:
            sys.exit("init ended with %r, and reported %r" % (status, lines))
        if code == 2:
            os.kill(os.getpid(), value)
            signal.pause()
        sys.exit(value if lines else 99)


main()
