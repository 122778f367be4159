"""Interactive programs on a pseudo-terminal: bash, other Pythons, node, sqlite3, psql, gdb, and what else has a prompt.

    >>> from extsession.terminal import TerminalSession
    >>> with TerminalSession("bash") as session:
    ...     session.execute("cd /; pwd").wait().output
    '/\\n'

What lives here: how to talk to programs (definitions; inside: what runs in them), the thread that does (pump), what it
reads (wire), and what users hold (session, results). A program is started and ended by `_launch/terminal.py`.
"""

from __future__ import annotations

from .definitions import BASH, GDB, NODE, PSQL, PYTHON, SQLITE, Definition, Tags
from .results import TerminalResults
from .session import TerminalSession

__all__ = [
    "BASH",
    "GDB",
    "NODE",
    "PSQL",
    "PYTHON",
    "SQLITE",
    "Definition",
    "Tags",
    "TerminalResults",
    "TerminalSession",
]
