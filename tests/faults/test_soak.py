"""Thousands of rounds over the stream, which is for `make faults` only."""

from pathlib import Path

import pytest

from tests.faults.effort import ALL, SOAK_ROUNDS
from tests.faults.federations import Federation
from tests.faults.soak import soak
from tests.processes import Processes

FLAT = 2000.0
"""Bytes per round that the memory of a process may grow by."""


@pytest.mark.skipif(not ALL, reason="takes minutes: make faults")
@pytest.mark.timeout(3600)
def test_memory_is_flat_over_ten_thousand_rounds(tmp_path: Path) -> None:
    (tmp_path / "processes").mkdir()
    with Processes(tmp_path / "processes") as processes:
        federation = Federation.make(processes, clients=8)
        memory = soak(federation, SOAK_ROUNDS, tmp_path / "run", limit=3500, say=print)
    for name, m in memory.items():
        print(f"{name}: {m.first / 2**20:.1f} to {m.last / 2**20:.1f} MiB, {m.slope:+.1f} bytes per round")
    assert max(m.slope for m in memory.values()) < FLAT
