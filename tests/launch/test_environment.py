"""The environment of a session to come, compared with what real children of Popen get."""

from __future__ import annotations

import marshal
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from extsession._launch import environment


def _of_real_child(env: Mapping[str, str]) -> dict[bytes, bytes]:
    done = subprocess.run(["/usr/bin/env", "-0"], env=env, capture_output=True, check=True, timeout=30)
    pairs = (each.partition(b"=") for each in done.stdout.split(b"\0") if each)
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("env", [None, {}, {"A": "1", "É": "\udcff=\n", "EMPTY": ""}])
def test_as_popen_gives_it(env: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTSESSION_TEST", "\udcfe é")
    monkeypatch.delenv("TERM", raising=False)
    mine = environment.of_child(env)
    assert list(mine.items()) == list(_of_real_child(dict(os.environ) if env is None else env).items())
    if env is None:
        assert mine[b"EXTSESSION_TEST"] == b"\xfe \xc3\xa9"


def test_a_copy_of_the_callers_own() -> None:
    mine = environment.of_child()
    mine[b"EXTSESSION_TEST"] = b"1"
    assert "EXTSESSION_TEST" not in os.environ


def test_where_environ_is_made_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = environment.of_child()

    class Environ(dict):  # type: ignore[type-arg]
        pass

    monkeypatch.setattr(os, "environ", Environ(os.environ))
    assert environment.of_child() == expected


@pytest.mark.parametrize("env", [{"A=B": "1"}, {"A\0": "1"}, {"A": "1\0"}])
def test_refused_as_popen_refuses(env: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        subprocess.Popen(["/bin/true"], env=env)
    with pytest.raises(ValueError):
        environment.of_child(env)


def test_bytes_and_paths() -> None:
    env: dict[Any, Any] = {b"A": Path("/x"), "B": b"\xff"}
    assert environment.of_child(env) == {b"A": b"/x", b"B": b"\xff"}


def test_not_a_string() -> None:
    with pytest.raises(TypeError):
        environment.of_child({"A": 1})  # type: ignore[dict-item]


def test_changes() -> None:
    base = {b"A": b"1", b"B": b"2", b"C": b"3"}
    assert environment.changes(dict(base), base) is None
    assert environment.changes({b"C": b"3", b"B": b"2", b"A": b"1"}, base) is None
    changes = environment.changes({b"A": b"1", b"B": b"", b"D": b"4"}, base)
    assert changes == ({b"B": b"", b"D": b"4"}, [b"C"])
    assert marshal.loads(marshal.dumps(changes, 2)) == changes
    assert environment.changes({}, base) == ({}, [b"A", b"B", b"C"])


def test_fixed() -> None:
    plain = {b"PATH": b"/bin", b"TERM": b"x", b"TZ": b"UTC", b"XLC_A": b""}
    assert environment.fixed(plain, False) == environment.fixed(plain, True) == ()
    for name in (b"PYTHONPATH", b"PYTHONHASHSEED", b"LC_ALL", b"LANG", b"LANGUAGE", b"LD_LIBRARY_PATH", b"HOME"):
        for preloaded in (False, True):
            assert environment.fixed({**plain, name: b"1"}, preloaded) == ((name, b"1"),)
    for name in (b"OMP_NUM_THREADS", b"OPENBLAS_NUM_THREADS", b"MPLBACKEND"):
        assert environment.fixed({**plain, name: b"1"}, False) == ()
        assert environment.fixed({**plain, name: b"1"}, True) == ((name, b"1"),)
    both = {b"LANG": b"1", b"HOME": b"2"}
    assert environment.fixed(both, False) == environment.fixed(dict(reversed(both.items())), False)


def test_fixed_does_not_take_a_changed_dict_for_the_last_one() -> None:
    env = {b"HOME": b"1"}
    assert environment.fixed(env, False) == ((b"HOME", b"1"),)
    env[b"HOME"] = b"2"
    assert environment.fixed(env, False) == ((b"HOME", b"2"),)
