"""All that we use of tox that it does not promise to keep, for tox 4.0 to the newest; and what differs between those.

`missing()` tells what is not there in the tox that is installed. A test calls it, and is meant to fail when tox moves.
"""

from __future__ import annotations

import inspect
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Final

import tox.execute.local_sub_process as local
from tox.execute.api import Execute, ExecuteInstance, ExecuteOptions, ExecuteStatus, Outcome
from tox.execute.request import ExecuteRequest, StdinSource
from tox.execute.stream import SyncWrite
from tox.tox_env.api import ToxEnv
from tox.version import version

#: the attribute in which tox's and tox-uv's runners keep what runs commands; None: not made yet
_EXECUTOR: Final = "_executor"
_ABSENT: Final = object()
#: what tox says of a command that cannot be started
_WHY: Final = "Exception running subprocess %s"


def put_executor(tox_env: ToxEnv, executor: Execute) -> Callable[[], None] | None:
    """Have an environment's commands run by `executor`, until what is returned is called. None: this tox has no way."""
    before = getattr(tox_env, _EXECUTOR, _ABSENT)
    if before is _ABSENT:
        return None
    setattr(tox_env, _EXECUTOR, executor)
    if tox_env.executor is not executor:
        setattr(tox_env, _EXECUTOR, before)
        return None

    def put_back() -> None:
        setattr(tox_env, _EXECUTOR, before)

    return put_back


def resolved(request: ExecuteRequest, options: ExecuteOptions, out: SyncWrite, err: SyncWrite) -> list[str]:
    """The command with the file that its program is, as tox finds it. Fail: the allow-list does not have it."""
    return [str(each) for each in local.LocalSubProcessExecuteInstance(request, options, out, err).cmd]


def add_size(env: dict[str, str]) -> None:
    """Tell a command the size of the terminal, as tox does: in the environment that it logs."""
    columns, lines = shutil.get_terminal_size(fallback=(-1, -1))
    for name, value in (("COLUMNS", columns), ("LINES", lines)):
        if value != -1:
            env.setdefault(name, str(value))


def is_inherited(request: ExecuteRequest, options: ExecuteOptions) -> bool:
    """Whether the command's output is tox's own, and not read by it."""
    return (
        bool(getattr(options, "no_capture", False))  # since 4.31
        and not getattr(request, "capture", False)  # since 4.6x: commands of tox itself
        and request.stdin is not StdinSource.API
    )


def tox_version() -> str:
    return version


def log_start_error(error: OSError) -> None:
    """As tox does, where it does: 4.11 says nothing."""
    if _WHY not in local.LocalSubProcessExecuteInstance.__enter__.__code__.co_consts:
        return
    text = str(error)
    redact = getattr(local, "redact_argv", None)
    if redact is not None and isinstance(error.filename, str):
        text = text.replace(repr(error.filename), repr(redact([error.filename])[0]))
    logging.error(_WHY, text)


def log_request(pid: int, seconds: float) -> None:
    logging.warning("requested interrupt of %d from %d, activate in %.2f", pid, os.getpid(), seconds)


def log_signal(name: str, pid: int, seconds: float | None) -> None:
    if seconds is None:
        logging.warning("send signal %s to %d from %d", name, pid, os.getpid())
    else:
        logging.warning("send signal %s to %d from %d with timeout %.2f", name, pid, os.getpid(), seconds)


def log_stopped(exit_code: int | None, is_ours: bool) -> None:
    if is_ours:
        logging.warning("interrupt finished with success")
    else:
        logging.warning("process already dead with %s within %s", exit_code, os.getpid())


def missing() -> list[str]:
    """What of the things that we use this tox does not have, or has with other arguments; one line for each."""
    found: list[str] = []

    def want(is_there: bool, text: str) -> None:
        if not is_there:
            found.append(f"tox {version}: {text}")

    def takes(function: Any, *names: str) -> bool:
        return list(inspect.signature(function).parameters)[: len(names)] == list(names)

    from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner

    for runner in (VirtualEnvRunner, *_uv_runners()):
        where = f"{runner.__module__}.{runner.__name__}"
        executor = getattr(runner, "executor", None)
        want(isinstance(executor, property), f"{where}.executor is no property")
        code = getattr(getattr(executor, "fget", None), "__code__", None)
        want(code is not None and _EXECUTOR in code.co_names, f"{where}.executor does not use {_EXECUTOR}")
    instance = local.LocalSubProcessExecuteInstance
    want(isinstance(getattr(instance, "cmd", None), property), "LocalSubProcessExecuteInstance.cmd is no property")
    arguments = ("self", "request", "options", "out", "err")
    want(takes(instance.__init__, *arguments), "LocalSubProcessExecuteInstance takes other arguments")
    want(takes(ExecuteInstance.__init__, *arguments), "ExecuteInstance takes other arguments")
    want(takes(Execute.__init__, "self", "colored"), "Execute takes other arguments")
    want(takes(Execute.build_instance, *arguments), "Execute.build_instance takes other arguments")
    want(takes(ExecuteStatus.__init__, "self", "options", "out", "err"), "ExecuteStatus takes other arguments")
    want(takes(SyncWrite.handler, "self", "content"), "SyncWrite.handler takes other arguments")
    for name in ("suicide_timeout", "interrupt_timeout", "terminate_timeout"):
        want(hasattr(ExecuteOptions, name), f"ExecuteOptions has no {name}")
    want(getattr(Outcome, "OK", None) == 0, "Outcome.OK is not 0")
    abstract: dict[type, Sequence[str]] = {
        Execute: ("build_instance",),
        ExecuteInstance: ("__enter__", "__exit__", "cmd"),
        ExecuteStatus: ("exit_code", "wait", "write_stdin", "interrupt"),
    }
    for of_type, names in abstract.items():
        new = set(of_type.__abstractmethods__) - set(names)  # type: ignore[attr-defined]
        want(not new, f"{of_type.__name__} wants more from its subclasses: {sorted(new)}")
    want({"OFF", "USER", "API"} == {each.name for each in StdinSource}, "StdinSource has other members")
    return found


def _uv_runners() -> list[type]:
    """Those of tox-uv, if that is installed."""
    try:
        from tox_uv import plugin
    except ImportError:
        return []
    return [each for each in (getattr(plugin, "UvVenvRunner", None),) if each is not None]
