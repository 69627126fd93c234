"""A round with a thousand clients in this process against Flower's simulation (Ray) of the same app."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import ray  # noqa: F401  without it there is nothing to compare with

from benchmarks.federations import in_process
from benchmarks.stream import ROOT
from benchmarks.table import Row
from benchmarks.timing import text

CLIENTS, COUNT, DIMENSION = 1000, 4, 1000
ROUNDS = 4
"""The simulation's rounds; the first does not count."""


def rows(quick: bool) -> Iterator[Row]:
    """Run the same clients on the same files both ways: ours before and after, as Ray takes all cores."""
    clients, dimension, rounds = (4, 50, 2) if quick else (CLIENTS, DIMENSION, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        run = in_process(directory / "data", clients, COUNT, dimension, steps=1)
        ours: list[float] = []

        def timed() -> None:
            for _ in range(2):
                run(rounds)
                ours.extend(cost.total for cost in run.costs[1:])

        timed()
        first, *theirs = simulated(directory, rounds)
        timed()
    yield Row(
        f"round of {clients} clients in one process, d = {dimension}, K = 1, n = {COUNT}",
        f"Flower's simulation of the same app, median of rounds 2 to {rounds} (the first took {text(first)})",
        f"{text(median(ours))} against {text(median(theirs))}",
        median(theirs) / median(ours),
        20.0,
        limit=f"{text(min(ours) / clients)} for each client, messages and records included",
    )


def simulated(directory: Path, rounds: int) -> list[float]:
    """Run the federation of ``directory/data`` in Flower's simulation; return each round's seconds."""
    config, out = directory / "simulation.toml", directory / "simulated"
    config.write_text(
        f'strategy = "local-gd"\nlocal-steps = 1\nnum-server-rounds = {rounds}\n'
        f'dataset = "file"\ndata-dir = "{directory / "data"}"\n'
        'intercept = false\nscale = "none"\nreference = "none"\nround-timeout = 3600\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "localgd", "simulate", str(config), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the simulation failed: {done.stderr[-1000:]}")
    lines = (out / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    return [float(json.loads(line)["seconds"]["total"]) for line in lines]
