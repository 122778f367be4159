"""What runs in the peers' processes: source text, executed or evaluated. Standard library only."""

import io
from contextlib import redirect_stdout
from typing import Any

names: "dict[str, Any]" = {"__name__": "__main__"}


def run(mode: str, source: str) -> Any:
    """exec: None. print: what the source printed. eval: the value."""
    if mode == "exec":
        exec(source, names)
        return None
    if mode == "print":
        captured = io.StringIO()
        with redirect_stdout(captured):
            exec(source, names)
        return captured.getvalue()
    return eval(source, names)


def serve_pipe(connection: Any) -> None:
    """Answer pickled (mode, source) until the other end is closed."""
    while True:
        try:
            mode, source = connection.recv()
        except EOFError:
            return
        connection.send(run(mode, source))


def serve_lines() -> None:
    """Answer lines of JSON on stdin."""
    import json
    import sys

    stdin, stdout = sys.stdin, sys.stdout
    for line in stdin:
        stdout.write(json.dumps(run(*json.loads(line))) + "\n")
        stdout.flush()
