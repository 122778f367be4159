"""Read before you judge: a call that ends while its controller is stalled has ended. `python -m benchmarks.stalls`
tries it a thousand times.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("trio", reason="the controllers that are stalled use it")

ROOT = Path(__file__).parent.parent.parent
TRIES = int(os.environ.get("EXTSESSION_STALLS", "50"))
WAYS = (
    "stopped-sync",
    "stopped-trio",
    "stopped-asyncio",
    "blocked-hub",
    "blocked-thread",
    "blocked-trio",
    "blocked-asyncio",
)


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_ends_while_the_controller_is_stalled(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way.startswith("stopped") and not Path("/proc/self/stat").exists():
        pytest.skip("looks into /proc")
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    from benchmarks import stalls

    assert dict(stalls.WAYS[way](TRIES)) == {stalls.FINE: TRIES}
