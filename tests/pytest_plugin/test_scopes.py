"""Where fixtures of a scope wider than a function live."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ran, section

Run = Callable[..., Ran]

WIDE = """
    import os
    import pytest

    def note(text):
        with open({file!r}, "a") as file:
            file.write("%s %d\\n" % (text, os.getpid()))

    @pytest.fixture(scope="session")
    def wide():
        note("up")
        yield []
        note("down")

    @pytest.fixture(scope="module")
    def middle(wide):
        note("middle up")
        yield
        note("middle down")

    @pytest.fixture(scope="module", params=[1, 2])
    def param(request):
        note("param %d" % request.param)
        yield request.param
        note("param down")
"""


def _notes(file: Path) -> list[tuple[str, bool]]:
    """What was noted, and whether it was in this process."""
    lines = [line.rpartition(" ") for line in file.read_text().splitlines()]
    return [(text, int(pid) == os.getpid()) for text, _, pid in lines]


def test_shared_fixtures_live_in_the_parent_once(ran: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    found = ran(
        WIDE.format(file=str(file))
        + """
    def test_a(middle, wide):
        assert wide == []
        wide.append(1)

    def test_b(middle, wide):
        assert wide == []

    def test_params(param): pass

    def test_dynamic(request):
        assert request.getfixturevalue("wide") == []
"""
    )
    assert found.ret == 0
    assert _notes(file) == [
        ("up", True),
        ("middle up", True),
        ("param 1", True),
        ("param down", True),
        ("param 2", True),
        ("param down", True),
        ("middle down", True),
        ("down", True),
    ]


def test_what_a_child_is_the_first_to_ask_for_it_tears_down(ran: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    found = ran(
        WIDE.format(file=str(file))
        + """
    def test_a(request):
        request.getfixturevalue("middle")

    def test_b(request):
        request.getfixturevalue("wide")
"""
    )
    assert found.ret == 0
    of_one = [("up", False), ("middle up", False), ("middle down", False), ("down", False)]
    assert _notes(file) == [*of_one, ("up", False), ("down", False)]


def test_fresh_fixtures_live_in_each_child(ran: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    found = ran(
        WIDE.format(file=str(file))
        + """
    @pytest.mark.isolated(False)
    def test_before(wide):
        wide.append("of the parent")

    @pytest.mark.isolated(fixtures="fresh")
    def test_a(middle, wide):
        assert wide == []

    @pytest.mark.isolated(False)
    def test_after(wide):
        assert wide == ["of the parent"]
""",
        "-v",
    )
    assert found.ret == 0
    assert _notes(file) == [
        ("up", True),
        ("up", False),
        ("middle up", False),
        ("middle down", False),
        ("down", False),
        ("down", True),
    ]


def test_some_fixtures_are_fresh(ran: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    found = ran(
        WIDE.format(file=str(file))
        + """
    @pytest.fixture(scope="session")
    def other():
        note("other")

    def test_a(middle, other): pass
    def test_b(middle, other): pass
""",
        "--isolated",
        "-o",
        "isolated_fresh_fixtures=wid*",
    )
    assert found.ret == 0
    of_child = [("up", False), ("middle up", False), ("middle down", False), ("down", False)]
    assert _notes(file) == [("other", True), *of_child, *of_child]


def test_a_shared_fixture_that_fails(ran: Run) -> None:
    found = ran(
        """
        import pytest

        @pytest.fixture(scope="module")
        def bad():
            print("about to")
            raise ValueError("bad")

        @pytest.fixture(scope="module")
        def absent():
            pytest.skip("absent")

        @pytest.fixture(scope="module")
        def late():
            yield
            print("going down")
            raise KeyError("late")

        def test_a(bad): pass
        def test_b(bad): pass
        def test_c(absent): pass
        def test_d(late): pass
        """
    )
    for name in ("test_a", "test_b"):
        report = found.failed(name)
        assert report.when == "setup" and "ValueError: bad" in report.longreprtext
    assert section(found.failed("test_a"), "Captured stdout setup") == "about to\n"
    assert found.reports["test_c"]["setup"].skipped
    late = found.failed("test_d")
    assert late.when == "teardown" and "KeyError: 'late'" in late.longreprtext
    assert section(late, "Captured stdout teardown") == "going down\n"


def test_output_and_logs_of_shared_fixtures_are_of_the_first_test(ran: Run) -> None:
    found = ran(
        """
        import logging
        import pytest

        @pytest.fixture(scope="module")
        def wide():
            print("printed")
            logging.getLogger("w").warning("logged")

        def test_a(wide, caplog):
            assert len(caplog.get_records("setup")) == 1

        def test_b(wide): pass
        """
    )
    assert found.ret == 0
    setup = found.reports["test_a"]["setup"]
    assert section(setup, "Captured stdout setup") == "printed\n"
    assert section(setup, "Captured log setup").endswith("logged")
    assert found.reports["test_b"]["setup"].sections == []


def test_a_skipped_test_sets_up_nothing(ran: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.touch()
    ran(WIDE.format(file=str(file)) + "\n    @pytest.mark.skipif(True, reason='no')\n    def test_a(middle): pass\n")
    assert _notes(file) == []


def test_mixed_with_others(ran: Run) -> None:
    found = ran(
        """
        import pytest

        class TestOne:
            @pytest.fixture(scope="class", autouse=True)
            def of_class(self): yield
            def test_a(self): pass
            @pytest.mark.isolated
            def test_b(self): pass

        class TestTwo:
            @classmethod
            def setup_class(cls): cls.x = 1
            @pytest.mark.isolated
            def test_c(self): assert self.x == 1
            def test_d(self): assert self.x == 1

        @pytest.mark.isolated
        def test_e(): pass
        """,
        "-v",
    )
    assert found.ret == 0
    assert {name: hasattr(each["teardown"], "isolated") for name, each in found.reports.items()} == {
        "TestOne::test_a": False,
        "TestOne::test_b": True,
        "TestTwo::test_c": True,
        "TestTwo::test_d": False,
        "test_e": True,
    }


def test_nothing_comes_back(ran: Run) -> None:
    assert ran("x = []\n\ndef test_a():\n    x.append(1)\n\ndef test_b():\n    assert x == []\n").ret == 0


@pytest.mark.parametrize("kind", ["Mark", "session"])
def test_duration_has_what_shared_fixtures_took(ran: Run, kind: str) -> None:
    found = ran(
        "import pytest, time\n\n@pytest.fixture(scope='module')\ndef wide():\n    time.sleep(0.2)\n\n"
        "def test_a(wide):\n    pass\n"
    )
    assert 0.2 <= found.reports["test_a"]["setup"].duration < 2
