"""Read before you judge: a call that ends while its controller is stalled has ended. `python -m benchmarks.stalls`
tries it a thousand times.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("trio", reason="the controllers that are stalled use it")

ROOT = Path(__file__).parent.parent.parent
TRIES = int(os.environ.get("EXTSESSION_STALLS", "20"))
#: seconds; the machine may be busy
TIMEOUT = 0.1
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
    monkeypatch.setenv("EXTSESSION_STALL_TIMEOUT", str(TIMEOUT))
    from benchmarks import stalls

    monkeypatch.setattr(stalls, "TIMEOUT", TIMEOUT)
    monkeypatch.setattr(stalls, "RUNS", TIMEOUT / 2)
    found = stalls.WAYS[way](TRIES)
    assert set(found) <= {stalls.FINE, stalls.CUT}, found
    assert found[stalls.FINE]
