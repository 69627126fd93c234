"""A round with a thousand clients in this process against Flower's simulation (Ray) of the same app."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import ray  # noqa: F401  without it there is nothing to compare with

from benchmarks.federations import in_process
from benchmarks.table import Row
from benchmarks.timing import text
from common.config import Config
from localgd.cli.options import stop_on_sigterm
from localgd.submission import simulate

CLIENTS, COUNT, DIMENSION = 1000, 4, 1000
ROUNDS = 4
"""The simulation's rounds; the first does not count."""

LIMIT = 1200.0
"""Seconds that the simulation may take."""


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
    """Run the federation of ``directory/data`` in Flower's simulation; return each round's seconds.

    What it says goes to stderr, as it takes minutes.  Whatever becomes of it, nothing of it is left running.
    """
    out = directory / "simulated"
    config = Config.of(
        {
            "strategy": "local-gd",
            "local-steps": 1,
            "num-server-rounds": rounds,
            "dataset": "file",
            "data-dir": str(directory / "data"),
            "intercept": False,
            "scale": "none",
            "reference": "none",
            "round-timeout": LIMIT,
            "out": str(out),
        }
    )
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    stop_on_sigterm()
    simulate(config, LIMIT, say)
    lines = (out / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    return [float(json.loads(line)["seconds"]["total"]) for line in lines]
