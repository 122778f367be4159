"""A script that the controller wants to be run, or only checked, and what is said of it: plain data both ways."""

from __future__ import annotations

import sys

from ..._protocol import values
from . import engine
from .errors import BadValue, HostFailed, ScriptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..serve import Server


def run_script(server: Server, data: bytes) -> dict[str, Any]:
    """The record of a run (`engine.run`); {"rejected": findings}; {"bad": why} for what cannot be fed in; {} if it is
    a script and was only to be checked.
    """
    wanted = values.decode(data)
    program = engine.prepare(wanted["source"], wanted["name"])
    if isinstance(program, engine.Rejected):
        return {"rejected": program.findings}
    if "globals" not in wanted:
        return {}

    def ask(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        answer = server.ask_host(name, args, kwargs)
        if answer[0] == "value":
            return answer[1]
        raise ScriptError(answer[1]) if answer[0] == "error" else HostFailed(answer[1])

    out = sys.stdout
    assert out is not None
    try:
        return engine.run(program, wanted["globals"], wanted["functions"], wanted["limits"], ask, out.write)
    except BadValue as error:
        return {"bad": str(error)}
    finally:
        program.last = None  # what is explained, the controller runs again
