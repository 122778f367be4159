"""What an executor keeps of its runs: a log of each; and what it gives to each: a folder for temporary files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from .api import LOGGER, Outcome

_VARIABLES: Final = ("TMPDIR", "TEMP", "TMP")


def write_log(folder: Path, outcome: Outcome) -> Path | None:
    """Write what is known of a run into a new file, `0001-program.log` and so on, readable by this user only.

    Command lines are redacted; of the environment only the names are there. None: it could not be written, which is
    logged, and no error of the run.
    """
    program = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(outcome.cmd[0]))[:60] if outcome.cmd else ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        while True:
            number += 1
            path = folder / f"{number:04}-{program or 'command'}.log"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:  # of another thread, or another program
                continue
            with open(fd, "wb") as file:
                file.write(_head(outcome).encode("utf-8", "backslashreplace"))
                for name, data in (("out", outcome.status.out_bytes), ("err", outcome.status.err_bytes)):
                    file.write(b"\n=== %s: %d bytes\n" % (name.encode(), len(data)))
                    file.write(data)
            return path
    except OSError as error:
        LOGGER.warning("the log of a run cannot be written in %s: %s", folder, error)
        return None


def _head(outcome: Outcome) -> str:
    request = outcome.request
    assert request is not None
    facts = {
        "command": request.shell_cmd_redacted,
        "run_id": request.run_id,
        "cwd": str(request.cwd) if request.cwd is not None else os.getcwd(),
        "environment": "of the caller" if request.env is None else " ".join(sorted(request.env)),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": f"{outcome.elapsed:.3f}",
        "exit code": outcome.exit_code,
        "error": outcome.exception,
        "steps": " ".join(step.value for step in outcome.steps),
        "pid": outcome.metadata.get("pid"),
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items() if value not in (None, ""))


class OwnTemporary:
    """A folder for the temporary files of one run."""

    def __init__(self) -> None:
        """OSError: it cannot be made."""
        self.path = tempfile.mkdtemp(prefix="extsession-run-")

    def in_environment(self, env: dict[str, str] | None) -> dict[str, str]:
        """An environment with it."""
        found = dict(os.environ) if env is None else dict(env)
        found.update(dict.fromkeys(_VARIABLES, self.path))
        return found

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
