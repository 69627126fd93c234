"""A federation of processes that runs for thousands of rounds, and what becomes of its memory."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.e2e.data import RunFiles
from tests.faults.federations import Federation, begun, rows_written

WARM_UP = 0.2
"""The share of the rounds after which memory is to be flat."""

SECONDS = 2.0
"""From one look at the memory to the next."""

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Memory:
    """What a process held at the first look after the warm-up and at the last, and its growth in between.

    In bytes, and bytes per round: the slope of the least-squares line.
    """

    first: int
    last: int
    slope: float


def soak(
    federation: Federation, rounds: int, out: Path, limit: float, say: Callable[[str], None]
) -> dict[str, Memory]:
    """Serve so many rounds to clients that join, and return the memory of the server and of each client."""
    keys = {"strategy": "modified-local-gd", "solver": "projection", "num-server-rounds": rounds}
    server = federation.serve(keys, "--out", out)
    clients = {f"client-{k}": federation.join(k) for k in range(federation.clients)}
    pids = {"server": server.pid, **{name: client.pid for name, client in clients.items()}}
    looks: list[tuple[int, dict[str, int]]] = []
    began = time.monotonic()
    while server.running():
        assert time.monotonic() - began < limit, f"not done in {limit:g} s"
        # not after the last row, when the server loads what it makes the report with
        if begun(out) and WARM_UP * rounds < (rows := rows_written(out)) < rounds:
            seen = {name: resident(pid) for name, pid in pids.items()}
            if all(seen.values()):
                looks.append((rows, {name: size or 0 for name, size in seen.items()}))
                say(f"round {rows}: server {looks[-1][1]['server'] / 2**20:.1f} MiB")
        time.sleep(SECONDS)
    assert server.wait().code == 0, server.stderr()
    assert [client.wait().code for client in clients.values()] == [0] * len(clients)
    assert [row["round"] for row in RunFiles(out).rows] == list(range(1, rounds + 1))
    return {name: _memory([(rows, seen[name]) for rows, seen in looks]) for name in pids}


def resident(pid: int) -> int | None:
    """Return the resident memory of a process in bytes, None if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return None


def _memory(looks: list[tuple[int, int]]) -> Memory:
    rows, sizes = np.array(looks, np.float64).T
    slope, _ = np.polyfit(rows, sizes, 1)
    return Memory(looks[0][1], looks[-1][1], float(slope))
