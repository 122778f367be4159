"""What tox loads at every start: the keys and options of `extsession.tox_plugin`, and the hooks that call it.

It is a package of its own so that a tox that does not use it does not import extsession, which takes several times as
long as all that is here. Only tox is imported here, and what of it tox itself has imported already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional  # noqa: UP035

from tox.plugin import impl
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner

if TYPE_CHECKING:
    from tox.config.cli.parser import ToxParser
    from tox.config.sets import EnvConfigSet
    from tox.execute.api import Execute
    from tox.session.state import State
    from tox.tox_env.api import ToxEnv
    from tox.tox_env.register import ToxEnvRegister

    from extsession.tox_plugin.executor import ToxExecute

RUNNER = "extsession"


class ExtSessionRunner(VirtualEnvRunner):
    """tox's own virtualenv runner, all of whose commands go through extsession, the installation of packages as well.

    For `runner = extsession`, and `tox --runner extsession`.
    """

    _extsession: ToxExecute | None = None

    @staticmethod
    def id() -> str:
        return RUNNER

    @property
    def executor(self) -> Execute:
        if self._extsession is None:
            from extsession.tox_plugin.executor import ToxExecute

            self._extsession = ToxExecute(self.options.is_colored)
        return self._extsession


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    register.add_run_env(ExtSessionRunner)


@impl
def tox_add_option(parser: ToxParser) -> None:
    parser.add_argument(
        "--extsession",
        action="store_true",
        default=False,
        help="run the commands of all environments through extsession",
    )
    parser.add_argument(
        "--extsession-warm",
        action="store_true",
        default=False,
        help="the same, and Python commands in forks of a warm interpreter",
    )


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    keys: list[tuple[str, Any, Any, str]] = [
        ("extsession", bool, False, "run the commands of this environment through extsession"),
        ("extsession_timeout", Optional[float], None, "seconds that each command may run; none: no end"),  # noqa: UP045
        ("extsession_warm", bool, False, "with extsession: run Python commands in forks of a warm interpreter"),
        # tox 4.11 cannot make sense of list[str]
        ("extsession_preload", List[str], [], "modules that the warm interpreter imports first"),  # noqa: UP006
        ("extsession_stdin", bool, True, "with extsession: commands may read what tox is given to read"),
        ("extsession_memory", str, "", "memory that a command may use with all it starts, as 512M; none: no limit"),
    ]
    for name, of_type, default, text in keys:
        env_conf.add_config(keys=[name], of_type=of_type, default=default, desc=text)


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    if isinstance(tox_env, ExtSessionRunner) or _is_wanted(tox_env):
        from extsession.tox_plugin import hooks

        hooks.before_commands(tox_env)


@impl
def tox_after_run_commands(tox_env: ToxEnv) -> None:
    _done(tox_env)


@impl(optionalhook=True)  # not in tox 4.0, and there the one above is always called
def tox_env_teardown(tox_env: ToxEnv) -> None:
    _done(tox_env)


def _is_wanted(tox_env: ToxEnv) -> bool:
    options = tox_env.options
    return bool(
        getattr(options, "extsession", False)
        or getattr(options, "extsession_warm", False)
        or tox_env.conf["extsession"]
    )


def _is_in_use() -> bool:
    import sys

    return "extsession.tox_plugin.hooks" in sys.modules


def _done(tox_env: ToxEnv) -> None:
    if _is_in_use():
        from extsession.tox_plugin import hooks

        hooks.done(tox_env)
