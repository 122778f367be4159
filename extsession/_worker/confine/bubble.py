"""What the controller wants to know of an interpreter that is to be in bubblewrap: asked in throwaway processes.

There the world is made by another program, and by arguments: what of the host it is to have in there, only the
interpreter can tell (`plan`); whether a session can be made in it, only somebody inside (`trial`).
"""

from __future__ import annotations

import os
import sys

from . import libc, lockdown, mounts, namespaces, places, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def plan(config: dict[str, Any]) -> dict[str, Any]:
    """Outside. What to bind, to link and to write, as in the full tier (`mounts.make_root`).

    config: read, network; uid, gid, outside: in the names of users for who has no user namespace, "plain_files".
    """
    network = config.get("network", False)
    binds, links = places.plan([*places.python_paths(), *config.get("read", ())], network)
    targets = [target for target, _ in binds]

    def files(uid: int, gid: int) -> dict[str, str]:
        found = mounts.etc_files(network, uid, gid)
        return {name: text for name, text in found.items() if name not in targets}

    return {
        "binds": binds,
        "links": links,
        "files": files(namespaces.INSIDE, namespaces.INSIDE),
        "plain_files": files(config["uid"], config["gid"]),
        "devices": ["/dev/" + name for name in places.DEVICES if os.path.exists("/dev/" + name)],
        "tmp": not any(places._is_below(target, "/tmp") for target in targets),
        "proc": _beside_processes(),
        "watched": [path for path in _watched() if os.path.exists(path)],
    }


def _beside_processes() -> list[tuple[str, bool]]:
    """What is in /proc and not about processes, and whether it is a folder: it will be covered, for bubblewrap cannot
    mount one without (subset=pid).
    """
    try:
        with os.scandir("/proc") as entries:
            found = [(each.path, each.is_dir()) for each in entries if not (each.name.isdigit() or each.is_symlink())]
    except OSError:
        return []
    return sorted(found)


def _watched() -> list[str]:
    """What changes when something is installed."""
    sites = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return [os.path.join(sys.prefix, "pyvenv.cfg"), *sites]


def trial(config: dict[str, Any]) -> dict[str, Any]:
    """Inside, as process 1: become a session, in a child. As a tier of `probe.probe`."""
    told = probe._in_child(_become, config)
    steps = told["steps"]
    found = {"abi": libc.landlock_abi(), "seccomp": libc.has_seccomp()}
    reached = bool(steps) and steps[-1] == ("ready", "")
    return {"reached": reached, "steps": steps, "cure": probe._cures("bwrap", steps, found), "abi": found["abi"]}


def _become(config: dict[str, Any], tell: Callable[[str, Any], None]) -> None:
    tell("inside", "")
    os.chdir(config["work"])
    lockdown.full(config, {"vm": namespaces.address_space()})
    tell("lockdown", "")
    tell("ready", "")

