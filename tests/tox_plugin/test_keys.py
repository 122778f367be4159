"""What the configuration and the options do, and what is there when they do nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import extsession_tox
from extsession.tox_plugin import internals

#: a plugin of the project's own, which tells what has been imported when the commands are over
SPY = """
    import sys
    from tox.plugin import impl

    @impl(tryfirst=True)
    def tox_after_run_commands(tox_env):
        print("imported:", "extsession" in sys.modules, type(tox_env.executor).__name__)
"""
#: a runner that keeps its executor somewhere else
OTHER_RUNNER = """
    from tox.execute.local_sub_process import LocalSubProcessExecutor
    from tox.plugin import impl
    from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner

    class Other(VirtualEnvRunner):
        def __init__(self, create_args):
            super().__init__(create_args)
            del self._executor

        @staticmethod
        def id():
            return "other"

        @property
        def executor(self):
            return LocalSubProcessExecutor(self.options.is_colored)

    @impl
    def tox_register_tox_env(register):
        register.add_run_env(Other)
"""


def test_off(project: Any) -> None:
    project.write(SPY, "toxfile.py")
    project.ini("commands = python -c \"print('it runs')\"")
    done = project.tox("run")
    assert done.exit_code == 0
    assert "imported: False LocalSubProcessExecutor" in done.out
    assert project.how() == "tox"
    done = project.tox("run", "--extsession")
    assert "imported: True ToxExecute" in done.out
    assert project.how() == "process"


def test_one_environment_of_two(project: Any) -> None:
    project.write(SPY, "toxfile.py")
    project.ini(
        """
        commands = python -c "print('it runs')"
        [testenv:b]
        extsession = true
        extsession_warm = true
        extsession_preload = json, decimal
        commands = python -c "import sys; print('decimal' in sys.modules)"
        """,
        "a, b",
    )
    done = project.tox("run")
    assert done.exit_code == 0
    assert [project.how("a"), project.how("b")] == ["tox", "warm"]
    assert "\nTrue\n" in done.out
    shown = project.tox("config", "-e", "b", "-k", "extsession", "extsession_preload", "extsession_timeout").out
    assert re.search(r"extsession = True\nextsession_preload =\n +json\n +decimal\nextsession_timeout =", shown)


def test_our_own_runner(project: Any) -> None:
    """All goes through it, what installs as well; that is never warm, and has no time."""
    project.write("import sys, time\ntime.sleep(1.5)\nprint('installing', sys.argv[1:])\n", "install.py")
    project.ini(
        """
        deps = something
        install_command = python {tox_root}/install.py {packages}
        extsession_timeout = 1
        commands = python -c "print('it runs')"
        """
    )
    done = project.tox("run", "--runner", "extsession", "-x", "testenv.runner=extsession", "-x", "testenv.extsession_warm=true")
    assert done.exit_code == 0, done
    assert project.how("a", "install_deps") == "process"
    assert "installing ['something']" in project.log("a", "install_deps")
    assert project.how() == "warm"


def test_with_tox_uv(project: Any) -> None:
    pytest.importorskip("tox_uv", reason="tox-uv is not installed, whose runner this is about")
    project.ini("runner = uv-venv-runner\ncommands =\n  python -c \"print('it runs')\"\n  missing-program")
    text = (project.folder / "tox.ini").read_text().replace("runner = virtualenv\n", "")
    (project.folder / "tox.ini").write_text(text)
    for way, how in (("cold", "process"), ("warm", "warm")):
        done = project.tox("run", *project.ways[way])
        assert "it runs\n" in done.out and "No such file or directory: 'missing-program'" in done.out
        assert done.exit_code == 2
        assert project.how() == how


def test_a_runner_that_keeps_it_elsewhere(project: Any) -> None:
    project.write(OTHER_RUNNER, "toxfile.py")
    project.ini("commands = python -c \"print('it runs')\"", "a, b")
    text = (project.folder / "tox.ini").read_text().replace("runner = virtualenv", "runner = other")
    (project.folder / "tox.ini").write_text(text)
    done = project.tox("run", "--extsession")
    assert done.exit_code == 0
    assert done.out.count("extsession does not know the runner Other of tox") == 1
    assert project.how() == "tox"


@pytest.mark.parametrize(
    "line, text",
    [
        ("extsession_timeout = -1", "failed with extsession_timeout takes seconds, more than 0, not -1.0"),
        ("extsession_memory = lots", "failed with extsession_memory takes a size of 1M at least, as 512M or 2G"),
        ("extsession_warm = true\nextsession_preload = a-b", "failed with extsession_preload takes names of modules"),
    ],
)
def test_nonsense(project: Any, line: str, text: str) -> None:
    project.ini(f"extsession = true\n{line}\ncommands = python -c \"print('never')\"")
    done = project.tox("run")
    assert done.exit_code == 1
    assert text in done.out
    assert "\nnever" not in done.out


def test_what_is_always_loaded_imports_tox_alone() -> None:
    source = Path(extsession_tox.__file__).read_text("utf-8")
    top = [line for line in source.splitlines() if re.match("(from|import) ", line)]
    assert top
    for line in top:
        assert re.match(r"from (__future__|typing|tox(\.\w+)*) import ", line)


def test_this_tox_has_all_that_we_use() -> None:
    """Where this fails, tox has moved: see extsession/tox_plugin/internals.py."""
    assert internals.missing() == []


@pytest.mark.parametrize(
    "target, value, text",
    [
        ("tox.execute.local_sub_process.LocalSubProcessExecuteInstance.cmd", None, "cmd is no property"),
        ("tox.tox_env.python.virtual_env.runner.VirtualEnvRunner.executor", property(lambda self: 1), "_executor"),
        ("tox.execute.api.Execute.build_instance", lambda self, request: None, "build_instance takes other"),
        ("tox.execute.api.ExecuteOptions.interrupt_timeout", None, "has no interrupt_timeout"),
        ("tox.execute.api.ExecuteStatus.__abstractmethods__", frozenset({"wait", "more"}), "wants more.*'more'"),
    ],
)
def test_it_would_notice(monkeypatch: pytest.MonkeyPatch, target: str, value: Any, text: str) -> None:
    if text.startswith("has no"):
        monkeypatch.delattr(target)
    else:
        monkeypatch.setattr(target, value)
    found = internals.missing()
    assert len(found) == 1
    assert re.search(text, found[0])
