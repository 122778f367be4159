"""What is known of the walls around a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Walls:
    """What is in force around an isolated session. See docs/security.md for what each tier promises.

    tier: "full", "bwrap" or "weak"; mechanisms: that hold it; landlock_abi: the version of Landlock in the kernel, 0
    for none; proc: "pid" (processes of the session only), "full" or "none": what it has of /proc; missing: what is not
    held here.
    """

    tier: str
    mechanisms: tuple[str, ...]
    landlock_abi: int
    proc: str
    missing: tuple[str, ...]


_NAMESPACES = tuple(f"{kind} namespace" for kind in ("user", "pid", "mount", "ipc", "uts"))


def walls_of(ready: Mapping[str, Any] | None, network: bool) -> Walls | None:
    """By what the session has said in its Ready."""
    if ready is None or type(ready.get("tier")) is not str:
        return None
    tier, abi = ready["tier"], ready.get("landlock", 0)
    held = ["seccomp", "no capabilities", "no_new_privs", "resource limits"]
    if abi:
        held.insert(0, "landlock")
    if tier != "weak":
        own = _NAMESPACES if ready.get("users", 1) else _NAMESPACES[1:]
        held = [*own, *(() if network else ("network namespace",)), *held]
    missing = tuple(each for each in str(ready.get("missing", "")).split(", ") if each)
    return Walls(tier, tuple(held), int(abi), str(ready.get("proc", "none")), missing)
