"""`extsession doctor`: what this machine has and allows, and what would help where it does not."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
from typing import Any

from . import __version__, host_report

TIERS = ("full", "bwrap", "weak")


def run(python: str | None = None, as_json: bool = False, require: str | None = None) -> int:
    """Print the report; 1 if the tier that is required is not reached, else 0.

    Raises LaunchError and InterpreterError for an interpreter that cannot be used.
    """
    host = host_report(python)
    is_met = require is None or (host.tier in TIERS and TIERS.index(host.tier) <= TIERS.index(require))
    extras = _extras()
    if as_json:
        found: dict[str, Any] = {"extsession": __version__, **dataclasses.asdict(host), "extras": extras}
        print(json.dumps({**found, "required": require, "met": is_met}, indent=2, default=dict))
        return 0 if is_met else 1
    print(f"extsession {__version__} on {host.platform}, as user {host.user}")
    print(f"isolation by {host.python}: {host.tier}")
    for name in TIERS:
        tier = getattr(host, name)
        print(f"  {name}: {'yes' if tier.reached else 'no, ' + tier.denied}")
        for cure in tier.cure:
            print(f"    what would help: {cure}")
    namespaces = "user namespaces" if host.user_namespaces else "no user namespaces"
    seccomp = "seccomp" if host.seccomp else "no seccomp"
    print(f"  bubblewrap: {host.bubblewrap or 'not found'}")
    print(f"  Landlock ABI {host.landlock_abi}, {seccomp}, {namespaces}; /proc in sessions: {host.proc}")
    for limit, place in host.groups.items():
        print(f"limit of {limit}: {'control group below ' + place if place else 'no control group; watched'}")
    print("interpreters:")
    for path, version in host.interpreters.items():
        print(f"  {version:8} {path}")
    for extra, missing in extras.items():
        print(f"extra [{extra}]: {'installed' if not missing else 'without ' + ', '.join(missing)}")
    if not is_met:
        print(f"the tier {require!r} is required, and is not to be had")
    return 0 if is_met else 1


def _extras() -> dict[str, list[str]]:
    """Each extra, and which of its packages are missing."""
    found: dict[str, list[str]] = {}
    try:
        required = importlib.metadata.requires("extsession") or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return found
    for line in required:
        match = re.match(r"([A-Za-z0-9._-]+).*;.*extra == ['\"]([^'\"]+)", line)
        if match is None or match.group(2) in ("dev", "bench", "test"):
            continue
        missing = found.setdefault(match.group(2), [])
        try:
            importlib.metadata.version(match.group(1))
        except importlib.metadata.PackageNotFoundError:
            missing.append(match.group(1))
    return found
