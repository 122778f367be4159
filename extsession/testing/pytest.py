"""A plugin for pytest: `-p extsession.testing.pytest`, or `pytest_plugins = ["extsession.testing.pytest"]` in the
`conftest.py` of the root. It is not loaded by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .leaks import LeakError, no_leaks


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "leaks(reason): this test may leave descriptors, threads or processes; the reason says why"
    )


@pytest.fixture(scope="session")
def leak_patience() -> float:
    """Seconds in which what a test leaves must be gone; to be overridden in a `conftest.py`."""
    return 5.0


@pytest.fixture(name="no_leaks")
def checked(request: pytest.FixtureRequest, leak_patience: float) -> Iterator[None]:
    """Fail a test after which there is a descriptor, thread or process that was not there before it.

    Not for tests with the marker `leaks`.
    """
    if request.node.get_closest_marker("leaks"):
        yield
        return
    try:
        with no_leaks(leak_patience):
            yield
    except LeakError as error:
        pytest.fail(str(error), pytrace=False)
