"""`python -m extsession` and the `extsession` command. For now: `doctor`, `script`, and what is to come."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import ExtSessionError, __version__, doctor, script_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (None: those of this process) and return its exit status.

    Raises SystemExit for --help, --version (0) and arguments it does not know (2), as argparse does.
    """
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the interpreter flushes once more
        return 1
    return status


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="extsession",
        description="Persistent Python sessions in other processes.",
        epilog="The interactive console comes with a later release; until then: import extsession.",
    )
    parser.add_argument("--version", action="version", version=f"extsession {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    check = commands.add_parser(
        "doctor",
        help="say what this machine has and allows",
        description="Try on this machine what sessions need: isolation, limits, interpreters, optional packages.",
    )
    check.add_argument("--json", action="store_true", help="for programs")
    check.add_argument("--require", choices=doctor.TIERS, help="exit with status 1 if this tier is not to be had")
    check.add_argument("--python", help="the interpreter of the sessions: a path, a version, an environment's folder")
    script_command.add_arguments(
        commands.add_parser(
            "script",
            help="run a locked-down script",
            description="Run a script in an isolated session, with a budget of cycles; print what it has left as JSON. "
            "Exit status: 0 finished, 1 failed, 2 rejected, 3 over budget.",
        )
    )
    given = parser.parse_args(argv)
    if given.command == "script":
        return script_command.main(given)
    if given.command == "doctor":
        try:
            return doctor.run(given.python, given.json, given.require)
        except ExtSessionError as error:
            print(f"extsession doctor: {error}", file=sys.stderr)
            return 2
    print(
        f"extsession {__version__} has no console yet: it comes with a later release. Try --help.",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
