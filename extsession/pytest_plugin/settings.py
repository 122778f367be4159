"""What is asked for, by a mark, on the command line or in the ini file, as values that were checked.

What is wrong is a WrongSetting, whose text names where it was said, the argument and the value.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

MODES: Final = ("all", "marked", "none")
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
#: bytes, below which no test can begin
_LEAST_MEMORY: Final = 2**20


class WrongSetting(ValueError):
    """A setting is none."""


@dataclass(frozen=True)
class Settings:
    """How a test is isolated. timeout, cpu: seconds; memory: bytes; None: no limit.

    call_timeout: seconds for the call alone; grace: more seconds than `timeout` until it is ended from outside.
    """

    timeout: float | None = None
    memory: int | None = None
    cpu: int | None = None
    fixtures: str = "shared"
    start: str = "fork"
    python: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    call_timeout: float | None = None
    grace: float = 0.0


def size(value: Any, name: str) -> int:
    """Bytes: 5000, "200M", "1.5G"; 1024 of one unit are the next."""
    number: float
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if found is None:
            raise WrongSetting(f"{name} takes bytes, as 500000000, '500M' or '1.5G', not {value!r}")
        number = float(found[1]) * _UNITS[found[2].upper()]
    elif isinstance(value, bool) or not isinstance(value, int):
        raise WrongSetting(f"{name} takes bytes, as 500000000, '500M' or '1.5G', not {value!r}")
    else:
        number = value
    if not _LEAST_MEMORY <= number < 2**62:
        raise WrongSetting(f"{name} takes bytes from 1M up, not {value!r}")
    return int(number)


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value <= 0:
        raise WrongSetting(f"{name} takes seconds above 0, not {value!r}")
    return float(value)


def _cpu(value: Any, name: str) -> int:
    seconds = _seconds(value, name)
    if math.isinf(seconds):
        raise WrongSetting(f"{name} takes seconds above 0, not {value!r}")
    return math.ceil(seconds)  # the kernel counts in whole ones


def _one_of(*words: str) -> Any:
    def check(value: Any, name: str) -> str:
        if value not in words:
            raise WrongSetting(f"{name} takes {' or '.join(map(repr, words))}, not {value!r}")
        return str(value)

    return check


def _pythons(value: Any, name: str) -> tuple[str, ...]:
    given = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(given, (list, tuple)) or not given:
        raise WrongSetting(f"{name} takes a version, path or virtual environment, or a list of these, not {value!r}")
    for each in given:
        if not isinstance(each, (str, os.PathLike)) or not os.fspath(each):
            hint = f": write '{each}'" if isinstance(each, (int, float)) else ""
            raise WrongSetting(f"{name} takes strings or paths, not {each!r}{hint}")
    found = tuple(os.fspath(each) for each in given)
    if len(set(found)) != len(found):
        raise WrongSetting(f"{name} has one of them twice: {value!r}")
    return found


def _env(value: Any, name: str) -> dict[str, str | None]:
    if not isinstance(value, dict):
        raise WrongSetting(f"{name} takes a dict, not {value!r}")
    for key, text in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise WrongSetting(f"{name}: there can be no variable {key!r}")
        if text is not None and (not isinstance(text, str) or "\0" in text):
            raise WrongSetting(f"{name}[{key!r}] takes a string or None, not {text!r}")
    return dict(value)


def _unless_none(check: Any) -> Any:
    return lambda value, name: None if value is None else check(value, name)


_ARGUMENTS: Final = {
    "timeout": _unless_none(_seconds),
    "memory": _unless_none(size),
    "cpu": _unless_none(_cpu),
    "fixtures": _one_of("shared", "fresh"),
    "start": _one_of("fork", "spawn"),
    "python": _pythons,
    "env": _env,
}


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongSetting(f"{name} takes seconds above 0, not {text!r}") from None


#: how the text of an option or ini setting becomes a value for `_ARGUMENTS`
_FROM_TEXT: Final[dict[str, Any]] = {
    "timeout": _number,
    "cpu": _number,
    "python": lambda text, name: [each for each in re.split(r"[,\s]+", text.strip()) if each],
}


class Defaults:
    """What the command line and the ini file say. UsageError: it cannot be."""

    def __init__(self, config: pytest.Config, is_forked: bool = False) -> None:
        try:
            self.mode = self._mode(config, is_forked)
            found = {}
            for name, check in _ARGUMENTS.items():
                if name == "env":
                    continue
                text, where = config.getoption(f"isolated_{name}"), f"--isolated-{name}"
                if not text:
                    text, where = config.getini(f"isolated_{name}"), f"isolated_{name}"
                if text:
                    found[name] = check(_FROM_TEXT.get(name, lambda text, name: text)(text, where), where)
            self.given = frozenset(found)
            if is_forked and "fixtures" not in found:
                found["fixtures"] = "fresh"
            self.settings = replace(Settings(**found), fresh=tuple(config.getini("isolated_fresh_fixtures")))
        except WrongSetting as error:
            raise pytest.UsageError(f"isolated: {error}") from None
        required = config.getoption("isolated_python_required")
        self.python_required = bool(config.getini("isolated_python_required") if required is None else required)

    @staticmethod
    def _mode(config: pytest.Config, is_forked: bool) -> str:
        if found := config.getoption("isolated"):
            return str(found)
        if is_forked:
            return "all"
        value = config.getini("isolated")
        if value not in MODES:
            raise WrongSetting(f"the ini setting isolated takes {', '.join(MODES)}, not {value!r}")
        return str(value)


def settings_of(item: pytest.Item, defaults: Defaults, with_forked: bool) -> Settings | None:
    """How a test is isolated; None: it is not. with_forked: the mark `forked` counts. WrongSetting: a mark is wrong."""
    found: dict[str, Any] = {}
    enabled: bool | None = None
    for mark in item.iter_markers("isolated"):  # the closest first
        if len(mark.args) > 1:
            raise WrongSetting(f"{item.nodeid}: mark isolated takes one argument without a name, not {mark.args!r}")
        keywords = dict(mark.kwargs)
        given = mark.args[0] if mark.args else keywords.pop("enabled", True)
        if not isinstance(given, bool):
            raise WrongSetting(f"{item.nodeid}: mark isolated: enabled takes True or False, not {given!r}")
        if enabled is None:
            enabled = given
        for name, value in keywords.items():
            if name not in _ARGUMENTS:
                known = ", ".join(("enabled", *_ARGUMENTS))
                raise WrongSetting(f"{item.nodeid}: mark isolated has no argument {name}={value!r}; it has {known}")
            try:
                checked = _ARGUMENTS[name](value, name)
            except WrongSetting as error:
                raise WrongSetting(f"{item.nodeid}: mark isolated: {error}") from None
            found.setdefault(name, checked)
    if enabled is None and with_forked and item.get_closest_marker("forked"):
        enabled = True
        found.setdefault("fixtures", "fresh")
    if enabled is None:
        enabled = defaults.mode == "all"
    if not enabled or defaults.mode == "none":
        return None
    settings = replace(defaults.settings, **found)
    if not settings.python:
        return settings
    if found.get("fixtures") == "shared" or ("fixtures" in defaults.given and settings.fixtures == "shared"):
        raise WrongSetting(
            f"{item.nodeid}: mark isolated: python={settings.python!r} together with fixtures='shared': fixtures "
            "cannot be shared with another interpreter; leave fixtures out"
        )
    if found.get("start") == "fork":
        raise WrongSetting(
            f"{item.nodeid}: mark isolated: python={settings.python!r} together with start='fork': another interpreter "
            "is no fork of this one; leave start out"
        )
    return replace(settings, start="spawn", fixtures="fresh")
