"""A round in this process against Flower's plain FedAvg on the same grid, with clients that do nothing."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from flwr.serverapp.strategy import FedAvg

from benchmarks.fedavg_app import client as idle
from benchmarks.federations import in_process, initial
from benchmarks.table import Row
from benchmarks.timing import in_turns, text
from server.grids.in_process import InProcessGrid

CLIENTS, DIMENSION, COUNT = 4, 1000, 16


def rows(quick: bool) -> Iterator[Row]:
    """Run both strategies' `start` for many rounds, once with FedAvg's evaluation and once without."""
    rounds = 3 if quick else 100
    with tempfile.TemporaryDirectory() as directory:
        ours = in_process(Path(directory), CLIENTS, COUNT, DIMENSION, steps=1)
        grid = InProcessGrid(idle, [{}] * CLIENTS, {})

        def fedavg(evaluations: float) -> None:
            FedAvg(fraction_evaluate=evaluations, min_evaluate_nodes=0, min_available_nodes=CLIENTS).start(
                grid, initial(DIMENSION), rounds
            )

        taken, plain, bare = in_turns(
            lambda: ours(rounds), lambda: fedavg(1.0), lambda: fedavg(0.0), repeats=3 if quick else 9
        )
    what = f"in-process round, {CLIENTS} clients, d = {DIMENSION}, K = 1, n = {COUNT}"
    for other, theirs, target in (
        ("`FedAvg.start` on the same grid, clients that do nothing", plain, 1.5),
        ("the same without evaluation (ours measures the model in the same message)", bare, None),
    ):
        yield Row(
            what,
            other,
            f"{text(taken.median / rounds)} against {text(theirs.median / rounds)}",
            taken.median / theirs.median,
            target,
            at_most=True,
            limit=f"{taken.least / theirs.least:.2f} × by the smallest times",
        )
