"""The tox that is installed, run in small projects. Nothing is installed from an index."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

#: the environment variable that marks a tox and all that it starts
MARK = "EXTSESSION_TOX_TEST"
_PATIENCE = 10.0

#: what differs between two runs of one thing
_VARIABLE = [
    (re.compile(r" pid=\d+(, extsession=\w+)?"), " pid=N"),
    (re.compile(r"\d+(\.\d+)?(?= seconds?\b)|(?<=[=,\[(])\d+(\.\d+)?(?=[=+,\])s])"), "N"),
    # by another thread than what comes around it
    (re.compile(r"^\w+: (OK|FAIL) \S+ in N seconds?\n", re.MULTILINE), ""),
]


@dataclass
class Run:
    """A tox that has ended."""

    exit_code: int
    out: str
    err: str

    @property
    def shown(self) -> tuple[str, str]:
        """stdout and stderr without what differs from run to run."""
        return _usual(self.out), _usual(self.err)


def _usual(text: str) -> str:
    for pattern, by in _VARIABLE:
        text = pattern.sub(by, text)
    return text


class Project:
    """A folder with a tox.ini."""

    #: options of the three ways to run a command
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        "tox": (),
        "cold": ("--extsession",),
        "warm": ("--extsession-warm",),
    }

    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("TOX_", "VIRTUALENV_"))}
        self.env |= {
            MARK: self.mark,
            "VIRTUALENV_OVERRIDE_APP_DATA": str(shared),
            "VIRTUALENV_NO_SEED": "1",  # nobody needs pip here, and making it takes most of the time
            "TOX_USER_CONFIG_FILE": os.devnull,
        }
        for name in ("PY_COLORS", "FORCE_COLOR"):
            self.env.pop(name, None)

    def write(self, text: str, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def ini(self, text: str, environments: str = "a", core: str = "") -> None:
        """Its tox.ini; text: what is below [testenv]."""
        head = f"[tox]\nenv_list = {environments}\nno_package = true\n{core}\n"
        shared = f"[testenv]\nrunner = virtualenv\npass_env = {MARK}\nlist_dependencies_command = python -c pass\n"
        (self.folder / "tox.ini").write_text(head + shared + textwrap.dedent(text), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tox", *arguments]

    def tox(self, *arguments: str, timeout: float = 60) -> Run:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
        out, err = (text.decode("utf-8", "backslashreplace") for text in (done.stdout, done.stderr))
        return Run(done.returncode, out, err)

    def log(self, environment: str, run_id: str) -> str:
        """What tox has logged of a command, the last time."""
        files = sorted(
            (self.folder / ".tox" / environment / "log").glob(f"*-{glob_escape(run_id)}.log"),
            key=lambda path: int(path.name.partition("-")[0]),
        )
        assert files, f"tox has logged nothing of {run_id}"
        return files[-1].read_text("utf-8", "backslashreplace")

    def how(self, environment: str = "a", run_id: str = "commands[0]") -> str:
        """How a command was run: "warm", "process", or "tox" without us."""
        match = re.search(r"^metadata extsession: (\w+)$", self.log(environment, run_id), re.MULTILINE)
        return "tox" if match is None else match[1]

    def json(self, name: str = "result.json") -> Any:
        return json.loads((self.folder / name).read_text("utf-8"))

    def processes(self) -> list[psutil.Process]:
        """All that a tox of this project has started, itself included, and that is there."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_for(self, what: Callable[[], object], text: str) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not what():
            assert time.monotonic() < give_up, text
            time.sleep(0.01)

    def nothing_left(self, patience: float = _PATIENCE) -> None:
        give_up = time.monotonic() + patience
        while left := self.processes():
            assert time.monotonic() < give_up, f"left: {[(each.pid, _command_of(each)) for each in left]}"
            time.sleep(0.02)


def glob_escape(text: str) -> str:
    return text.replace("[", "[[]")


def _command_of(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ["gone"]


@pytest.fixture(scope="session")
def app_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("virtualenv")


@pytest.fixture
def project(tmp_path: Path, app_data: Path) -> Iterator[Project]:
    found = Project(tmp_path, app_data)
    yield found
    try:
        found.nothing_left()  # what sees to it that nothing is left ends a moment after tox
    finally:
        for each in found.processes():
            each.kill()
