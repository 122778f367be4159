"""The verdict on a branch as data: there, across, and nonsense refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extsession._protocol import census as bounds
from extsession._protocol.census import VERDICTS, Census, Finding
from extsession._protocol.faults import BadMessage
from extsession._protocol.values import decode, encode
from extsession.errors import ForkRefused

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

codes = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z][a-z0-9]{0,8}){0,2}", fullmatch=True)
texts = st.text(st.characters(), max_size=300)  # surrogates and line ends too
findings = st.builds(
    Finding, codes, st.sampled_from(VERDICTS), st.text(max_size=1500), st.lists(texts, max_size=bounds.MAX_NAMES + 3)
)
nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.sampled_from(VERDICTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def example() -> Census:
    return Census(
        [
            Finding("files", "safe", "they share positions", ["7: /tmp/x"]),
            Finding("threads", "refused", "they hang", ["a", "b"]),
            Finding("native-threads", "refused", "they hang too", ["polars-0", "polars-0"]),
        ]
    )


@QUICK
@given(st.lists(findings, max_size=bounds.MAX_FINDINGS + 3))
def test_round_trip(found: list[Finding]) -> None:
    census = Census(found)
    wire = decode(encode(census.to_wire()))
    assert Census.from_wire(wire) == census
    assert census.verdict == max([each.verdict for each in census.findings], key=VERDICTS.index, default="safe")
    for each in census.findings:
        assert len(each.names) <= bounds.MAX_NAMES and len(each.why) <= bounds.MAX_WHY
        assert str(each).isprintable()


@QUICK
@given(nonsense)
def test_nonsense_is_refused(wire: Any) -> None:
    for cls in (Finding, Census):
        with pytest.raises(BadMessage):
            cls.from_wire(wire)


@QUICK
@given(st.sampled_from(["code", "verdict", "why", "names"]), nonsense)
def test_one_field_of_nonsense_is_refused_or_a_finding(field: str, value: Any) -> None:
    wire = {**example().findings[0].to_wire(), field: value}
    try:
        found = Finding.from_wire(wire)
    except BadMessage:
        return
    assert Finding.from_wire(decode(encode(found.to_wire()))) == found


@pytest.mark.parametrize(
    "change",
    [
        {"code": "Threads"},
        {"code": ""},
        {"code": "a" * (bounds.MAX_CODE + 1)},
        {"code": "-"},
        {"code": "ä"},
        {"verdict": "harmless"},
        {"verdict": ["safe"]},
        {"why": "x" * (bounds.MAX_WHY + 1)},
        {"why": None},
        {"names": ("7",)},
        {"names": ["x"] * (bounds.MAX_NAMES + 1)},
        {"names": ["x" * (bounds.MAX_NAME + 1)]},
        {"names": [b"x"]},
        {"other": 1},
    ],
)
def test_what_is_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    good = example().findings[0].to_wire()
    assert Finding.from_wire(good) == example().findings[0]
    with pytest.raises(BadMessage):
        Finding.from_wire({**good, **change})
    with pytest.raises(BadMessage):
        Census.from_wire({"findings": [{**good, **change}]})


def test_too_many_findings_are_refused() -> None:
    one = example().findings[0].to_wire()
    assert len(Census.from_wire({"findings": [one] * bounds.MAX_FINDINGS}).findings) == bounds.MAX_FINDINGS
    with pytest.raises(BadMessage, match="65 findings"):
        Census.from_wire({"findings": [one] * (bounds.MAX_FINDINGS + 1)})


def test_a_finding_is_cut_and_cleaned() -> None:
    found = Finding("threads", "refused", "y" * 2000, ["x" * 500, "a\nb\x1b[31m\udc80", *map(str, range(200))])
    assert len(found.names) == bounds.MAX_NAMES
    assert found.names[0] == "x" * (bounds.MAX_NAME - 3) + "..."
    assert found.names[1] == "a?b?[31m?"
    assert found.names[-1] == "and 103 more"
    assert len(found.why) == bounds.MAX_WHY


def test_what_is_none_is_not_made() -> None:
    with pytest.raises(ValueError, match="'fine' is no verdict: safe, risky, refused"):
        Finding("threads", "fine")
    with pytest.raises(ValueError, match="no code"):
        Finding("Threads!", "safe")


def test_records_are_values() -> None:
    census = example()
    assert census == example() != Census()
    assert hash(census) == hash(example())
    for same in (pickle.loads(pickle.dumps(census)), copy.deepcopy(census)):
        assert same == census
    with pytest.raises(AttributeError):
        census.findings = ()
    with pytest.raises(AttributeError):
        census.findings[0].verdict = "safe"
    assert repr(Finding("files", "safe")) == "Finding(code='files', verdict='safe', why='', names=())"
    assert repr(Census()) == "Census(findings=())"


def test_what_a_census_tells() -> None:
    census = example()
    assert census.verdict == "refused"
    assert census.threads == ("a", "b", "polars-0", "polars-0")
    assert census.names("files") == ("7: /tmp/x",)
    assert [each.code for each in census.of("refused")] == ["threads", "native-threads"]
    assert str(census) == (
        "refused: threads a, b: they hang; native-threads polars-0 (2 times): they hang too"
    )
    assert Census().verdict == str(Census()) == "safe"
    assert Census().threads == ()


def test_the_error_carries_the_census() -> None:
    census = example()
    error = ForkRefused(str(census), threads=census.threads, census=census)
    same = pickle.loads(pickle.dumps(error))
    assert (same.census, same.threads, str(same)) == (census, census.threads, str(census))
    assert ForkRefused("no").census is None
