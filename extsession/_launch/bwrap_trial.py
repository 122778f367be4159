"""Whether sessions in bubblewrap work here: tried once, with all that they will have.

By an interpreter which is told to become a session and to end. Of the two things that hosts do not allow everywhere,
/proc and a user namespace for a bwrap that is setuid, the trial finds out as well, and goes on without.
"""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from ..errors import IsolationUnavailable, LaunchError
from . import ambient, bwrap, environment, payload, places
from .base import Spec
from .bwrap import Program, World
from .interpreter import Interpreter
from .template import isolation_unavailable

#: the first with --size
LEAST: Final = (0, 7)
#: what is denied where the trial was killed, or did not end in time, which may be otherwise the next time
_UNKNOWN: Final = "unknown"
#: bytes that are kept of what bwrap has to say
SAID: Final = 4096


class _Refused(Exception):
    """It does not work here."""

    def __init__(self, denied: str, step: str, *cures: str) -> None:
        super().__init__(denied)
        self.denied = denied
        self.step = step
        self.cures = cures


_worlds: dict[Any, tuple[Any, World | IsolationUnavailable]] = {}


def world_of(spec: Spec) -> World:
    """Tried once; again when the interpreter has changed, or what is installed for it."""
    interpreter, walls, env = spec.interpreter, dict(spec.walls or {}), environment.of_child(spec.env)
    program = bwrap.find()
    key = (places.key_of(interpreter.path), marshal.dumps(walls), tuple(sorted(env.items())), program, os.geteuid())
    known = _worlds.get(key)
    if known is not None:
        stamps, found = known
        if isinstance(found, IsolationUnavailable):
            raise found
        if stamps == ambient.stamps(found.plan["watched"]):
            return found
    try:
        found = _try(interpreter, walls, env, program)
    except _Refused as fault:
        fields = {"denied": fault.denied, "step": fault.step, "cure": "\n".join(fault.cures)}
        error = isolation_unavailable(interpreter.path, fields)
        if fault.step != _UNKNOWN:
            _worlds[key] = (None, error)
        raise error from None
    _worlds[key] = (ambient.stamps(found.plan["watched"]), found)
    return found


def _try(
    interpreter: Interpreter, walls: dict[str, Any], env: Mapping[bytes, bytes], program: Program | None
) -> World:
    """The first of the ways that works; _Refused with what is wrong with the best of them, LaunchError."""
    if program is None:
        raise _Refused("there is no bubblewrap (bwrap) on PATH", "find bubblewrap", _CURES["missing"])
    if program.version < LEAST:
        text = f"{program.path} is bubblewrap {program.text}, which is too old"
        raise _Refused(text, "version of bubblewrap", _CURES["old"])
    is_setuid = bool(os.stat(program.path).st_mode & 0o4000)
    plan = _ask(interpreter, walls, env)
    first: _Refused | None = None
    for users in (True, False) if is_setuid else (True,):
        for proc in (True, False):
            world = World(program, plan, users, proc, not is_setuid, 0)  # of root's it takes no sizes
            found, said = _inside(interpreter, walls, env, world)
            if found is None:
                cures = _cures_of(said, is_setuid)
                step = "bubblewrap" if said else _UNKNOWN
                error = _Refused(said or "bubblewrap ended without a word", step, *cures)
            elif found["reached"]:
                return world._replace(abi=found["abi"])
            else:
                fault = found["steps"][-1][1]
                error = _Refused(f"in bubblewrap: {fault['text']}", fault["step"], *found["cure"])
            first = first or error
    assert first is not None
    raise first


def _ask(interpreter: Interpreter, walls: Mapping[str, Any], env: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The plan, by the interpreter itself, out here."""
    channel, theirs = socket.socketpair()
    with channel, theirs:
        command = [interpreter.path, "-c", payload.STAGE0, str(theirs.fileno())]
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=dict(env),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        number = theirs.fileno()
        theirs.close()
        uid, gid = bwrap.account(walls)
        question = {"read": list(walls["read"]), "network": walls["network"], "uid": uid, "gid": gid}
        data, printed = payload.answer(channel, child, _first(interpreter, number, "plan", question))
    try:
        plan: dict[str, Any] = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        why = printed.decode("utf-8", "replace")[-2000:]
        raise LaunchError(
            f"{interpreter.path} cannot tell what it needs: {why}", python=interpreter.path, stderr=why
        ) from None
    return plan


def _inside(
    interpreter: Interpreter, walls: Mapping[str, Any], env: Mapping[bytes, bytes], world: World
) -> tuple[dict[str, Any] | None, str]:
    """(What became of a session inside, what bubblewrap said); None: it has not come so far."""
    channel, theirs = socket.socketpair()
    said = os.memfd_create("bubblewrap", os.MFD_CLOEXEC)
    try:
        with channel, theirs:
            number = theirs.fileno()
            child = bwrap.popen(world, walls, interpreter.path, number, env, (number,), said)
            theirs.close()
            data, _ = payload.answer(channel, child, _first(interpreter, number, "trial", bwrap.told(walls, world)))
        text = os.pread(said, SAID, 0).decode("utf-8", "replace").strip()[-1000:]
    finally:
        os.close(said)
    try:
        found: dict[str, Any] = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        return None, text
    return found, text


def _first(interpreter: Interpreter, channel: int, question: str, config: dict[str, Any]) -> bytes:
    modules = payload.compiled() if interpreter.payload is None else interpreter.payload
    wanted = {"channel": channel, "isolation": True, "probe": config, "question": question}
    return payload.first_bytes(modules, wanted)


_CURES: Final = {
    "missing": "install bubblewrap: apt install bubblewrap, dnf install bubblewrap",
    "old": f"bubblewrap from {'.'.join(map(str, LEAST))} on",
    "apparmor": "an AppArmor profile that lets bwrap have user namespaces: on Ubuntu from 24.04 on "
    "bwrap-userns-restrict, which the package apparmor-profiles has in /usr/share/apparmor/extra-profiles, copied to "
    "/etc/apparmor.d and loaded with apparmor_parser -r",
    "setuid": "a bwrap that is setuid: chmod u+s",
    "number": "allow user namespaces: sysctl user.max_user_namespaces=15000 (also net, mnt, pid, ipc and uts: "
    "user.max_*_namespaces)",
    "filter": "in a container, a seccomp profile that allows namespaces and mounts: docker run --security-opt "
    "seccomp=unconfined",
    "files": "an interpreter that the session's user may reach: it runs as another user than root, to whom folders "
    "such as /root are closed; or not to be root",
}


def _cures_of(said: str, is_setuid: bool) -> list[str]:
    if "source path" in said or "execvp" in said or not said.startswith("bwrap:"):  # or the interpreter cannot start
        keys = ["files"]
    elif "No space left" in said or "max_user_namespaces" in said:
        keys = ["number"]
    else:
        keys = ["apparmor", *([] if is_setuid else ["setuid"]), "filter"]
    return [_CURES[key] for key in keys]


def report(interpreter: Interpreter, walls: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """As a tier of `_worker/confine/probe.py`, and the version, "" for none."""
    program = bwrap.find()
    found: dict[str, Any] = {"reached": False, "steps": [], "cure": [], "version": program.text if program else ""}
    try:
        world = _try(interpreter, dict(walls), environment.of_child(env), program)
    except _Refused as fault:
        found["steps"], found["cure"] = [("failed", {"text": fault.denied})], list(fault.cures)
    except (LaunchError, OSError, ValueError) as error:
        found["steps"] = [("failed", {"text": str(error)})]
    else:
        found.update(reached=True, steps=[("ready", "")], proc="pid" if world.proc else "none", abi=world.abi)
    return found
