"""The exact model over a SuperLink: ``python -m benchmarks.exact_superlink`` prints its rounds and seconds.

A SuperLink and a SuperNode with a data file of its own for each client, all on this machine; then the same
run in this process, whose model has to be the same.  The exit code is 0 if the model was proved to be the
centralized one, within 0.1°, in less than ``--limit`` seconds from submitting the run to its end.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from common.config import Config, Value
from localgd.federations import run_in_process
from localgd.processes import CONNECTION, FlowerProcesses
from localgd.shards import write_shards
from localgd.submission import submit

EXACT = 0.1


def main() -> int:
    """Run it both ways."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact_superlink", description=__doc__)
    parser.add_argument("--dataset", default="parkinson")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds that it may take")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # and leave no process behind
    keys: dict[str, Value] = {
        "strategy": "cutting-plane", "dataset": given.dataset, "clients": given.clients,
        "alpha": 0.3, "seed": given.seed, "test-fraction": 0.0,
        "num-server-rounds": 50, "stop-at-certified-angle": EXACT,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here, there = folder / "here", folder / "superlink"
        print(write_shards(Config.of(keys), folder / "data"), flush=True)
        seconds = over_superlink(Config.of(keys | {"dataset": "file", "out": str(there)}), folder / "data")
        run_in_process(Config.of(keys | {"out": str(here)}))
        gap = float(np.linalg.norm(weights(there) - weights(here)) / np.linalg.norm(weights(here)))
        rows = rounds(there)
    last, each = rows[-1], sorted(row["seconds"]["total"] for row in rows)
    print(f"{len(rows)} rounds, certified {last['certified_angle_deg']:.2g}°")
    print(f"{seconds:.0f} s from submitting to the end; a round took {each[0]:.1f} to {each[-1]:.1f} s")
    print(f"the model differs from that of one process by {gap:.1g} of its length")
    return 0 if last["certified_angle_deg"] <= EXACT and seconds < given.limit and gap < 1e-9 else 1


def over_superlink(config: Config, data: Path) -> float:
    """Run on a SuperLink of our own, a SuperNode for each data file; return the seconds."""
    with FlowerProcesses() as processes:
        processes.superlink()
        for file in sorted(data.glob("*.npz")):
            processes.supernode(file.stem, {"name": file.stem, "data": str(file)})
        began = time.monotonic()
        submit(config, CONNECTION, 3600, print, environment=processes.environment)
        return time.monotonic() - began


def rounds(directory: Path) -> list[dict[str, Any]]:
    """Return the rounds of a run."""
    return [json.loads(line) for line in (directory / "rounds.jsonl").read_text("utf-8").splitlines()]


def weights(directory: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the model of a run."""
    with np.load(directory / "model.npz") as model:
        return np.append(model["weights"], model["intercept"])


if __name__ == "__main__":
    sys.exit(main())
