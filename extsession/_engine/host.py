"""What this machine allows, as users ask for it."""

from __future__ import annotations

import os

from .._launch import payload
from .._launch.host import HostReport as HostReport
from .._launch.host import TierReport as TierReport
from .._launch.host import report
from .._launch.interpreter import find


def host_report(python: str | os.PathLike[str] | None = None) -> HostReport:
    """Try on this machine what isolation needs, in a throwaway process, and say what it allows and what would help.

    python: the interpreter whose sessions are to be isolated, as of ExtSession. Takes about half a second. Raises
    InterpreterError, LaunchError.
    """
    return report(find(python, sources=payload.sources()))
