"""The soak: a short one ends with zeros, and its checks find what they are there for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it sends signals by pidfds")
def test_a_short_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.05", "--sessions", "8", "--seed", "1"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "soak.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "soak.json").read_text())
    assert not any(data["zero"].values())
    assert data["calls"]["finished"] > 0
    assert data["calls"]["bytes of output"] > 0
    assert data["faults"]["controller killed"] == 1
    assert "| lost bytes | 0 |" in done.stdout


def piece(tag: str, index: int, filling: str = "aaa", stream: int = 0) -> bytes:
    return b"<%s|%d|%d|%d|%s>\n" % (tag.encode(), stream, index, len(filling), filling.encode())


WHOLE = b"".join(piece("t1", index) for index in range(5))


def found(data: bytes) -> dict[str, int]:
    from benchmarks.soak import output
    from benchmarks.soak.tally import Tally, is_good

    tally = Tally()
    said = output.Told(1, [len(WHOLE), 0], [zlib.crc32(WHOLE), 0])
    output.check_complete(tally, "t1", (data, b""), said, "a call")
    counts = {name: count for name, count in tally.as_json()["zero"].items() if count}
    assert is_good(tally.as_json()) is not bool(counts)
    return counts


def test_checks_of_complete_calls() -> None:
    assert found(WHOLE) == {}
    one = len(piece("t1", 0))
    assert found(WHOLE[:-one]) == {"lost bytes": one}
    assert found(WHOLE[one:])["lost bytes"] >= one
    assert found(WHOLE + piece("t1", 4)) == {"doubled bytes": one}
    assert found(WHOLE + piece("t2", 0)) == {"wrong attributions": 1}
    assert found(WHOLE + piece("t1", 0, stream=1)) == {"wrong attributions": 1}
    assert found(WHOLE.replace(b"a", b"b", 1)) == {"wrong order": 1}
    assert "doubled bytes" in found(piece("t1", 1) + piece("t1", 0) + WHOLE[2 * one :])


def test_checks_of_calls_that_were_cut_off() -> None:
    from benchmarks.soak import output
    from benchmarks.soak.tally import Tally

    def counts(data: bytes) -> dict[str, int]:
        tally = Tally()
        output.check_partial(tally, "t1", (data, b"Traceback\n"), "a call")
        return {name: count for name, count in tally.as_json()["zero"].items() if count}

    for size in range(len(WHOLE)):
        assert counts(WHOLE[:size]) == {}
    assert counts(piece("t1", 0) + piece("t1", 2)) == {"lost bytes": 1}
    assert counts(piece("t2", 0)) == {"wrong attributions": 1}


def test_late_output_and_output_of_others() -> None:
    from benchmarks.soak import output
    from benchmarks.soak.tally import Tally

    tally = Tally()
    output.check_late(tally, "t1", WHOLE, 5, "a call")
    output.check_foreign(tally, (b"anything", b""), "a program")
    assert not any(tally.as_json()["zero"].values())
    output.check_late(tally, "t1", WHOLE, 7, "a call")
    output.check_foreign(tally, (WHOLE, b""), "a program")
    assert tally.as_json()["zero"]["lost bytes"] == 2
    assert tally.as_json()["zero"]["wrong attributions"] == 1


def test_the_programs_tell_the_truth() -> None:
    from benchmarks.soak import output
    from extsession import ExtSession

    with ExtSession() as session:
        session.execute(output.PRELUDE).wait().raise_for_error()
        for number, ways in enumerate(output.WAYS):
            results: Any = session.execute(output.source_of("t1", ways, number, 12, 50)).wait(20)
            results.raise_for_error()
            said = output.told(results.repr)
            assert said is not None and said.state == number + 1
            assert said.sums == [zlib.crc32(results.stdout_bytes), zlib.crc32(results.stderr_bytes)]
            assert len(output._PIECE.findall(results.stdout_bytes + results.stderr_bytes)) == 12
