"""What this machine allows: which tiers of isolation, tried in a throwaway process, and who holds limits."""

from __future__ import annotations

import marshal
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import LaunchError
from . import cgroup, payload
from .interpreter import Interpreter, candidates

#: seconds for the trial of both tiers
_MOST = 60.0


@dataclass(frozen=True)
class TierReport:
    """Whether a tier of isolation is to be had here. denied: the step that the host refuses, and how; cure: what an
    administrator can change, the likeliest first.
    """

    reached: bool
    denied: str
    cure: tuple[str, ...]


@dataclass(frozen=True)
class HostReport:
    """What this machine has and allows.

    tier: the best tier of isolation that an interpreter reaches, "none" if there is none; landlock_abi: 0 for none;
    proc: what an isolated session has of /proc; groups: limit -> where a control group can be made for it, "" for
    nowhere; interpreters: path -> version.
    """

    platform: str
    python: str
    user: str
    tier: str
    full: TierReport
    weak: TierReport
    landlock_abi: int
    seccomp: bool
    user_namespaces: bool
    proc: str
    groups: Mapping[str, str]
    interpreters: Mapping[str, str]


def report(interpreter: Interpreter) -> HostReport:
    """Look at this machine, for sessions of this interpreter. LaunchError: it does not run."""
    if sys.platform == "linux":
        found = _try(interpreter)
    else:
        steps = [("failed", {"text": "isolation needs Linux"})]
        nothing: dict[str, Any] = {"reached": False, "steps": steps, "cure": []}
        found = {"tier": "none", "full": nothing, "weak": nothing}
    return HostReport(
        platform=platform.platform(),
        python=interpreter.path,
        user=f"{os.geteuid()}" + (" (root)" if os.geteuid() == 0 else ""),
        tier=str(found["tier"]),
        full=_tier(found["full"]),
        weak=_tier(found["weak"]),
        landlock_abi=int(found.get("abi", 0)),
        seccomp=bool(found.get("seccomp", False)),
        user_namespaces=bool(found.get("userns", False)),
        proc=str(found.get("proc", "none")),
        groups={limit: _group(limit) for limit in ("memory", "processes")},
        interpreters={each.path: ".".join(map(str, each.version)) for each in candidates()},
    )


def _tier(found: dict[str, Any]) -> TierReport:
    steps = found["steps"]
    last = steps[-1][1] if steps and not found["reached"] else None
    denied = "" if last is None else str(last.get("text", last))
    return TierReport(bool(found["reached"]), denied, tuple(map(str, found["cure"])))


def _group(limit: str) -> str:
    place = cgroup.where(limit)
    return "" if place is None else f"{place.home} (version {place.version})"


def _try(interpreter: Interpreter) -> dict[str, Any]:
    modules = interpreter.payload
    if modules is None:
        modules = payload.compiled()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = theirs.fileno()
        first = payload.first_bytes(modules, {"channel": channel, "isolation": True, "probe": {}})
        command = [interpreter.path, "-c", payload.STAGE0, str(channel)]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(channel,),
            start_new_session=True,
        )
        theirs.close()
        try:
            ours.settimeout(_MOST)
            data = _exchange(ours, first)
            _, printed = child.communicate(timeout=_MOST)
        except (OSError, subprocess.TimeoutExpired):
            data, printed = b"", b"it did not end in time"
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()
    try:
        found: dict[str, Any] = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        text = printed.decode("utf-8", "replace")[-2000:]
        raise LaunchError(
            f"{interpreter.path} could not try the walls: {text}", python=interpreter.path, command=command, stderr=text
        ) from None
    return found


def _exchange(ours: socket.socket, first: bytes) -> bytes:
    ours.sendall(first)
    data = b""
    while piece := ours.recv(65536):
        data += piece
    return data
