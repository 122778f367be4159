"""The benchmarks' own logic, on rows that are made up. Nothing is timed here."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def harness() -> Any:
    from benchmarks import harness

    return harness


def _bench(harness: Any, prepare: Callable[[Any], None], *goals: Any, **fields: Any) -> Any:
    given = {"reference": "floor", "unit": "us", **fields}
    return harness.Bench(harness.Row("fake", "a made-up row", prepare, goals=tuple(goals), **given))


def _series(*amounts: float) -> Callable[[], float]:
    left = iter(amounts)
    return lambda: next(left)


def _two(bench: Any) -> None:
    bench.rounds, bench.warm_up = 3, False
    bench.add("floor", "limit", _series(1e-6, 2e-6, 4e-6))
    bench.add("mine", "ours", _series(3e-6, 6e-6, 20e-6))


def test_a_ratio_is_the_median_of_the_rounds(harness: Any) -> None:
    bench = _bench(harness, _two).run()
    assert bench.ratios("mine", "floor") == pytest.approx([3, 3, 5])
    assert statistics.median(bench.ratios("mine", "floor")) == pytest.approx(3)
    assert bench.contenders["mine"].median == pytest.approx(6e-6)


@pytest.mark.parametrize(("factor", "met"), [(3.1, True), (2.9, False)])
def test_goals_are_met_or_missed(harness: Any, factor: float, met: bool) -> None:
    bench = _bench(harness, _two, harness.Goal("mine", factor, "floor")).run()
    (verdict,) = bench.verdicts()
    assert verdict.met is met
    assert ("met" if met else "MISSED") in bench.table()


def test_a_goal_may_be_an_amount(harness: Any) -> None:
    bench = _bench(harness, _two, harness.Goal("mine", 5e-6)).run()
    assert bench.verdicts()[0].met is False
    assert "MISSED  mine <= 5.00 us: 6.00 us" in bench.table()


def test_the_table_puts_the_ratio_first(harness: Any) -> None:
    lines = _bench(harness, _two).run().table().splitlines()
    assert lines[2].split() == ["1.00", "x", "2.00", "us", "1.50", "..", "3.00", "limit", "floor"]
    assert lines[3].split() == ["3.00", "x", "6.00", "us", "4.50", "..", "13.0", "ours", "mine"]


def test_rates_are_shown_as_such(harness: Any) -> None:
    def prepare(bench: Any) -> None:
        bench.rounds, bench.warm_up = 1, False
        bench.add("floor", "limit", _series(0.02))
        bench.add("mine", "ours", _series(0.002))

    table = _bench(harness, prepare, unit="/s").run().table()
    assert "10.0 x        500 /s" in table


def test_each_round_begins_with_another(harness: Any) -> None:
    order: list[str] = []

    def prepare(bench: Any) -> None:
        bench.rounds = 3
        for name in "abc":
            bench.add(name, "peer", lambda name=name: order.append(name) or 1.0)

    _bench(harness, prepare).run()
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_a_missing_peer_is_named_and_its_goal_unknown(harness: Any) -> None:
    def prepare(bench: Any) -> None:
        _two(bench)
        with bench.optional("peer"):
            raise harness.Missing("nosuch is not installed")

    bench = _bench(harness, prepare, harness.Goal("mine", 1, "peer")).run()
    (verdict,) = bench.verdicts()
    assert verdict.met is None
    assert verdict.why == "peer: nosuch is not installed"
    assert "left out: peer (nosuch is not installed)" in bench.table()


def test_what_is_not_installed_is_missing(harness: Any) -> None:
    from benchmarks import peers

    class NoSuch(peers.Peer):
        name = "nosuch"
        needs = "extsession_has_no_such_peer"

    def prepare(bench: Any) -> None:
        _two(bench)
        assert peers.start(bench, NoSuch) is None

    bench = _bench(harness, prepare).run()
    assert bench.left_out == {"nosuch": "extsession_has_no_such_peer is not installed"}


def test_what_fails_is_left_out_and_the_rest_goes_on(harness: Any) -> None:
    def prepare(bench: Any) -> None:
        _two(bench)
        bench.add("broken", "peer", lambda: 1 // 0)

    bench = _bench(harness, prepare).run()
    assert set(bench.contenders) == {"floor", "mine"}
    assert "ZeroDivisionError" in bench.left_out["broken"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGALRM")
def test_a_turn_is_bounded(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TURN_BOUND", 0.05)

    def prepare(bench: Any) -> None:
        _two(bench)
        bench.add("stuck", "peer", lambda: time.sleep(60))

    bench = _bench(harness, prepare).run()
    assert "took more than 0.05 s" in bench.left_out["stuck"]


def test_what_was_entered_is_closed_also_if_the_row_fails(harness: Any) -> None:
    closed: list[str] = []

    def prepare(bench: Any) -> None:
        bench.closing(lambda: closed.append("first"))
        bench.closing(lambda: closed.append("second"))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        _bench(harness, prepare).run()
    assert closed == ["second", "first"]


def test_json_holds_samples_and_goals(harness: Any) -> None:
    bench = _bench(harness, _two, harness.Goal("mine", 4, "floor")).run()
    found = json.loads(json.dumps(bench.as_json()))
    assert found["contenders"][1]["samples"] == [3e-6, 6e-6, 20e-6]
    assert found["goals"][0]["met"] is True
    assert found["goals"][0]["reached"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(1234.5e-6, "us", "1,234"), (0.0041, "ms", "4.10"), (52e6, "MB", "52.0"), (8, "", "8.00"), (0, "", "0")],
)
def test_amounts(harness: Any, amount: float, unit: str, text: str) -> None:
    assert harness.show(amount, unit) == text


def test_a_wrong_answer_is_not_timed(harness: Any) -> None:
    with pytest.raises(ValueError, match="41 instead of 42"):
        harness.checked(lambda: 41, 42)


def test_latency_stops_at_its_budget(harness: Any) -> None:
    calls: list[None] = []
    harness.latency(lambda: calls.append(None), 10_000, budget=-1.0)
    assert len(calls) == 2 + 3  # warm-up, and the least that has a median


@pytest.fixture
def rows() -> Iterator[Any]:
    from benchmarks.__main__ import load_rows

    yield load_rows()


def test_goals_are_about_things_that_can_be_measured(rows: Any) -> None:
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        for goal in row.goals:
            assert goal.factor > 0 and math.isfinite(goal.factor)


def test_the_list(capsys: pytest.CaptureFixture[str], rows: Any) -> None:
    from benchmarks.__main__ import main

    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    for row in rows:
        assert row.name in listed
    assert "extsession <= 6 x ping-pong" in listed


def test_the_command_line_refuses_a_row_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit):
        main(["--only", "nosuch"])
    assert "nosuch" in capsys.readouterr().err


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import plot

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'extsession\[bench\]'"):
        plot.require()


@pytest.mark.leaks("matplotlib keeps the fonts it has read open")
def test_a_plot_is_drawn(harness: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from benchmarks import plot

    file = tmp_path / "bars.svg"
    plot.draw([_bench(harness, _two).run().as_json()], str(file), {"python": "3"})
    assert "a made-up row" in file.read_text("utf-8")


def test_starts_time_the_beginning_alone(harness: Any) -> None:
    events: list[str] = []

    def end(begun: str) -> None:
        events.append(f"end {begun}")
        time.sleep(0.01)

    taken = harness.starts(lambda: events.append("begin") or "it", end, 3)
    assert taken < 0.01
    assert events == ["begin", "end it"] * 3


def test_load_is_told(harness: Any) -> None:
    assert _bench(harness, _two).run().as_json()["load"] >= 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("setup", ["", "data = list(range(1000))"])
def test_a_raw_fork_runs_its_source_each_time(setup: str) -> None:
    from benchmarks import limits

    fork = limits.RawFork(f"assert {setup[:4] or '1'}", setup)
    for _ in range(3):
        fork()
        fork.collect()
    fork.close()


def test_a_raw_fork_that_cannot_be_prepared() -> None:
    from benchmarks import limits

    with pytest.raises(ChildProcessError, match="status 1"):
        limits.RawFork(setup="raise SystemExit(1)")


def test_the_soak_tells_what_was_left(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import soak_templates

    before = soak_templates.Holdings(11, 2, 2, 0, 20_000_000, 10_000_000, 10_000_000)
    assert soak_templates.report(100, 1.0, before, before) == 0
    assert soak_templates.report(100, 1.0, before, before._replace(controller=21_000_000)) == 0
    capsys.readouterr()
    assert soak_templates.report(100, 1.0, before, before._replace(zombies=1, template=12_000_000)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("GREW")] == ["zombies", "RSS"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_short_soak(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import soak_templates

    assert soak_templates.main(["--sessions", "20"]) == 0, capsys.readouterr().out


def test_the_table_of_timeouts(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import timeouts

    timeouts.main(["--tries", "1", "--only", "sleeps"])  # how late they are is not for a test to judge
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:2] == ["sleeps", "interrupt"]


def test_the_table_of_stalls(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import stalls

    stalls.main(["--tries", "2", "--only", "blocked-trio"])  # tests/faults/test_stalls.py judges
    assert capsys.readouterr().out.startswith("blocked-trio    2 tries: ")
