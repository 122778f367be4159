"""Session: run source in this process and capture it.

It is announced as part of the public API since 2006, and it is what a child process runs too: `serve` drives an
Evaluator, and so does this class, with files in the place of pipes.
"""

from __future__ import annotations

import os
import sys

from .evaluate import Evaluator, exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Session:
    """A namespace in *this* process in which source runs with its output captured in files.

    A light sandbox of output only. It is no security wall: the code runs in this process and can do
    whatever this process can do; only what it prints by sys.stdout and sys.stderr is kept apart. For a process of its
    own there is ExtSession.
    """

    def __init__(self, namespace: dict[str, Any] | None = None) -> None:
        if namespace is None:
            namespace = vars(type(sys)("__main__"))
            namespace["__builtins__"] = __builtins__
        self.namespace = namespace
        self._evaluator = Evaluator(namespace)

    def execute(
        self,
        source: str,
        stdout_fn: str | os.PathLike[str] | None = None,
        stderr_fn: str | os.PathLike[str] | None = None,
        done_fn: str | os.PathLike[str] | None = None,
    ) -> tuple[str, str, str]:
        """Run `source`; returns the names of the files (stdout_fn, stderr_fn, done_fn).

        What it prints goes to the named files, or to fresh temporary ones, which the caller deletes. When those two
        are complete, `DONE` is written to the done file. An exception is printed on the captured stderr, as an
        interpreter does. SystemExit ends the source, not this process. Raises OSError where a file cannot be
        opened, before the source runs; and KeyboardInterrupt, after the files are complete.
        """
        out_name = _named(stdout_fn, "stdout")
        err_name = _named(stderr_fn, "stderr")
        done_name = _named(done_fn, "done")
        interrupt: BaseException | None = None
        with open(out_name, "w", encoding="utf-8", errors="backslashreplace") as out, open(
            err_name, "w", encoding="utf-8", errors="backslashreplace"
        ) as err, open(done_name, "w", encoding="utf-8") as done:
            kept = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = out, err
            try:
                self._evaluator.run(source)
            except SystemExit as error:
                text = exit_status(error)[1]
                if text is not None:
                    self._evaluator.report_text(text)
            except BaseException as error:
                self._evaluator.report(error)
                if isinstance(error, KeyboardInterrupt):
                    interrupt = error
            finally:
                self._evaluator.inside = False
                sys.stdout, sys.stderr = kept
                for each in (out, err):
                    if not each.closed:
                        each.flush()
            done.write("DONE")
        if interrupt is not None:
            raise interrupt
        return out_name, err_name, done_name


def _named(name: str | os.PathLike[str] | None, what: str) -> str:
    if name is not None:
        return os.fspath(name)
    import tempfile

    fd, made = tempfile.mkstemp(prefix="extsession-", suffix="." + what)
    os.close(fd)
    return made
