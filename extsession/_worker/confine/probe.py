"""What this host allows: the whole way to a session, tried in a throwaway process, and a cure for each refusal.

One call tells nothing: user namespaces may be refused by their number (ENOSPC), by a filter (EPERM), when ids are
mapped, or only when something is mounted. So each tier is tried to its end, and the step that failed is told.
"""

from __future__ import annotations

import marshal
import os
import select

from . import landlock, libc, lockdown, namespaces, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

TIERS = ("full", "weak", "none")
_SECONDS = 20.0
_SIGCHLD = 17


def probe(work: str = "/", config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Try both tiers. work: a folder for the weak one, which is only looked at. Forks; this process stays as it is.

    Returns {"tier": the best that was reached; "abi": of Landlock; "seccomp", "userns": bool; "proc": "pid", "full" or
    "none" (a session without); "full", "weak": {"reached": bool, "steps": [(name, error)], "cure": [text]}}. error: ""
    or {"step", "error": name of the errno, "text"}.
    """
    config = dict(config or {})
    found: dict[str, Any] = {"abi": libc.landlock_abi(), "seccomp": libc.has_seccomp(), "proc": "none", "userns": False}
    for tier, run in (("full", _full), ("weak", _weak)):
        told = _in_child(run, {**config, "work": config.get("work", namespaces.WORK) if tier == "full" else work})
        steps = told["steps"]
        reached = bool(steps) and steps[-1] == ("ready", "")
        found[tier] = {"reached": reached, "steps": steps, "cure": _cures(tier, steps, found)}
        found["proc"] = told.get("proc", found["proc"])
    found["userns"] = any(name == "clone" for name, error in found["full"]["steps"] if not error)
    found["tier"] = next((tier for tier in TIERS[:2] if found[tier]["reached"]), "none")
    if found["full"]["reached"] and found["proc"] == "none":
        found["full"]["cure"].append(_CURES["proc"])
    return found


def _full(config: dict[str, Any], tell: Callable[[str, Any], None]) -> None:
    namespaces.enter_base(config)
    tell("base", "")
    libc.prctl(libc.PR_SET_PDEATHSIG, 9)
    ready = lockdown.prepare(config)
    pid = libc.clone(namespaces.session_flags(config) | _SIGCHLD, "clone user|pid|mount")
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        tell("clone", "")
        facts = namespaces.enter_session(config)
        tell("session", "")
        tell("proc", facts["proc"])
        lockdown.full(ready, facts)
        tell("lockdown", "")
        tell("ready", "")
    except OSError as error:
        tell("failed", _as_data(error))
    os._exit(0)


def _weak(config: dict[str, Any], tell: Callable[[str, Any], None]) -> None:
    libc.prctl(libc.PR_SET_PDEATHSIG, 9)
    lockdown.weak(config)
    tell("lockdown", "")
    places.require_library()
    tell("ready", "")


def _as_data(error: OSError) -> dict[str, str]:
    fault = error if isinstance(error, libc.Denied) else libc.Denied(error.errno or 1, error.filename or "files")
    return {"step": fault.step, "error": fault.name, "text": str(error)}


def _in_child(run: Any, config: dict[str, Any]) -> dict[str, Any]:
    """What it tells, as far as it comes: {"steps": [...], ...}. A child that hangs is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:

        def tell(name: str, value: Any) -> None:
            data = marshal.dumps((name, value), 2)
            os.write(writing, len(data).to_bytes(4, "little") + data)

        try:
            os.close(reading)
            run(config, tell)
        except OSError as error:
            tell("failed", _as_data(error))
        except BaseException as error:
            tell("failed", {"step": "ours", "error": type(error).__name__, "text": str(error)})
        finally:
            os._exit(0)
    os.close(writing)
    data = b""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while poll.poll(int(_SECONDS * 1000)):
        more = os.read(reading, 65536)
        if not more:
            break
        data += more
    else:
        os.kill(pid, 9)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    told: dict[str, Any] = {"steps": []}
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "little")
        name, value = marshal.loads(data[4 : 4 + size])
        data = data[4 + size :]
        if name == "proc":
            told["proc"] = value
        else:
            told["steps"].append((name, value))
    if not told["steps"] or (told["steps"][-1][0] not in ("ready", "failed")):
        text = "the process ended with status %d" % status
        told["steps"].append(("failed", {"step": "unknown", "error": "", "text": text}))
    return told


_CURES = {
    "number": "allow user namespaces: sysctl user.max_user_namespaces=15000 (also net, mnt, pid, ipc and uts: "
    "user.max_*_namespaces)",
    "filter": "in a container, give it a seccomp profile that allows unshare, clone with CLONE_NEW*, mount, umount2, "
    "pivot_root and mount_setattr (docker run --security-opt seccomp=PROFILE, or =unconfined); on Debian before 11: "
    "sysctl kernel.unprivileged_userns_clone=1; the process must not be in a chroot",
    "apparmor": "on Ubuntu from 23.10 on: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor "
    "profile with `userns,` for this interpreter; in a container: docker run --security-opt apparmor=unconfined",
    "hidepid": "mount /proc without hidepid, for ids are mapped in /proc/self",
    "selinux": "let SELinux allow it (ausearch -m avc says what was denied)",
    "proc": "for a /proc in sessions, mount the host's /proc without covering parts of it: docker run "
    "--security-opt systempaths=unconfined; in Kubernetes procMount: Unmasked",
    "kernel": "a kernel with this system call: user namespaces need CONFIG_USER_NS, the weak tier Linux 6.2",
    "landlock": "a kernel from 6.2 on with Landlock switched on: `landlock` in CONFIG_LSM, or in lsm= at boot; in a "
    "container also a seccomp profile that allows the landlock_* calls (Docker from 20.10.11 on)",
    "seccomp": "a kernel from 4.14 on with CONFIG_SECCOMP_FILTER; x86_64 and aarch64 only",
    "ctypes": "an interpreter with ctypes",
    "root": "do not run as root, or let it become another user: CAP_SETUID, CAP_SETGID, and more than one mapped id",
    "files": "let the session's user read and enter the interpreter's folders",
}


def cures_of(tier: str, fault: libc.Denied) -> list[str]:
    """What an administrator can change where a step was denied."""
    found = {"abi": libc.landlock_abi(), "seccomp": libc.has_seccomp()}
    return _cures(tier, [("failed", _as_data(fault))], found)


def _cures(tier: str, steps: list[tuple[str, Any]], found: dict[str, Any]) -> list[str]:
    if not steps or steps[-1][0] != "failed":
        return []
    fault = steps[-1][1]
    step, name = fault["step"], fault["error"]
    keys: list[str] = []
    if libc._ctypes is None:
        keys.append("ctypes")
    elif step.startswith("read "):
        keys.append("files")
    elif "landlock" in step or (tier == "weak" and found["abi"] < landlock.LEAST):
        keys.append("landlock")
    elif step == "seccomp" or not found["seccomp"]:
        keys.append("seccomp")
    elif name == "ENOSPC" or name == "EUSERS":
        keys.append("number")
    elif name == "ENOSYS":
        keys += ["kernel", "filter"]
    elif step.startswith("become "):
        keys.append("root")
    elif step.startswith("write "):
        keys += ["apparmor", "hidepid", "filter"]
    elif step.startswith(("unshare", "clone")):
        keys += ["filter", "apparmor"] if name in ("EPERM", "EACCES") else ["kernel"]
    elif step.startswith(("mount", "bind", "pivot", "umount", "root", "read-only", "cover")):
        keys += ["apparmor", "filter", "selinux"] if name in ("EPERM", "EACCES") else ["kernel"]
    elif name in ("EPERM", "EACCES"):
        keys += ["files", "apparmor", "selinux"]
    return [_CURES[key] for key in keys]
