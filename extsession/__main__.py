"""`python -m extsession` and the `extsession` command. For now: its version, and what is to come."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (None: those of this process) and return its exit status.

    Raises SystemExit for --help, --version (0) and arguments it does not know (2), as argparse does.
    """
    parser = argparse.ArgumentParser(
        prog="extsession",
        description="Persistent Python sessions in other processes.",
        epilog="The interactive console comes with a later release; until then: import extsession.",
    )
    parser.add_argument("--version", action="version", version="extsession %s" % __version__)
    parser.parse_args(argv)
    print(
        "extsession %s has no console yet: it comes with a later release. Try --help." % __version__,
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
