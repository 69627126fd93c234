"""How many rounds cutting planes need on random separable problems, in this process.

Three studies, each printed as a table: ``separable``, many problems of every size; ``tall``, fewer columns
than examples; ``many``, five hundred clients whose cuts are summed in groups of several sizes.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from client.app import app as client_app
from client.dataset import node_config
from common.active_set import least_distance_of_rows
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from server.monitor import Monitor, StopAtCertifiedAngle
from strategies import CuttingPlane

Matrix = NDArray[np.float64]

EXACT = 0.1
"""The certified angle, in degrees, at which a run stops."""

MARGINS = 1e-4, 0.3
"""Between which margins problems are drawn, evenly on a logarithmic scale."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to: rounds made, the angle certified, the bound on the margin, and what it cost.

    ``seconds`` are the processor's, of clients and server together; ``cut_bytes`` the cuts at the end.
    """

    rounds: int
    certified: float
    bound: float
    seconds: float
    cut_bytes: int

    @property
    def exact(self) -> bool:
        """Whether the model is proved to be the centralized one, within `EXACT`."""
        return self.certified <= EXACT


def run(shards: Sequence[Matrix], rounds: int, cuts: int = 4, groups: int | None = None) -> Outcome:
    """Run cutting planes until the model is proved exact, from zero and on the rows as they are.

    Parameters
    ----------
    shards
        Each client's signed rows ``y x``, shape (n_i, d).
    """
    with tempfile.TemporaryDirectory() as directory:
        nodes = []
        for k, rows in enumerate(shards):
            labels = np.where((np.arange(len(rows)) + k) % 2 == 0, 1.0, -1.0)
            path = Path(directory) / f"client-{k:04}.npz"
            np.savez(path, X=rows * labels[:, None], y=labels)
            nodes.append(node_config(path, "label", None))
        grid = InProcessGrid(client_app, nodes, {})
        settings = SolverSettings(solver="projection", cuts=cuts)
        federation = handshake(grid, grid.get_node_ids(), settings, intercept=False, scale="none")
        monitor = Monitor(federation, lambda row: None, None)
        strategy = CuttingPlane(settings, federation, groups=groups)
        start = ArrayRecord({"weights": Array(np.zeros(shards[0].shape[1]))})
        began = time.process_time()
        strategy.start(grid, start, rounds, callbacks=[monitor, StopAtCertifiedAngle(monitor, EXACT)])
        last = monitor.last
        assert last is not None
        return Outcome(
            last["round"],
            last["certified_angle_deg"],
            last["margin_bound"],
            time.process_time() - began,
            sum(cut.normal.nbytes for cut in strategy._now.cuts),
        )


def signed_rows(rng: np.random.Generator, count: int, dimension: int, margin: float) -> Matrix:
    """Return separable rows (n, d) with a largest norm of 1.

    Noise of order 1 across a hidden direction; along it once to a few times ``margin``, so the best margin is
    about that where rows outnumber columns by far.
    """
    hidden = rng.standard_normal(dimension)
    hidden /= np.linalg.norm(hidden)
    rows = rng.standard_normal((count, dimension)) / np.sqrt(dimension)
    rows -= np.outer(rows @ hidden, hidden)
    rows /= max(float(np.linalg.norm(rows, axis=1).max()), 1e-300)
    rows += np.outer(margin * (1 + rng.exponential(1, count)), hidden)
    scaled: Matrix = rows / np.linalg.norm(rows, axis=1).max()
    return scaled


def draw(seed: int) -> list[Matrix]:
    """Return a federation: 2 to 100 clients of 1 to 50 examples, none with more than there are columns."""
    rng = np.random.default_rng(seed)
    clients = int(np.exp(rng.uniform(np.log(2), np.log(101))))
    most = int(rng.integers(1, 51))
    counts = rng.integers(1, most + 1, clients)
    dimension = max(2, int(np.exp(rng.uniform(np.log(counts.max()), np.log(1000)))))
    margin = np.exp(rng.uniform(*np.log(MARGINS)))
    return list(np.split(signed_rows(rng, counts.sum(), dimension, margin), np.cumsum(counts)[:-1]))


def separable(count: int, seed: int, cuts: int) -> bool:
    """Run ``count`` random problems; tell whether all were proved exact within 100 rounds."""
    found = []
    for k in range(seed, seed + count):
        shards = draw(k)
        outcome = run(shards, 100, cuts)
        found.append(outcome)
        examples = sum(map(len, shards))
        if not outcome.exact or outcome.rounds >= max(other.rounds for other in found):
            print(
                f"seed {k}: {len(shards)} clients, {examples} × {shards[0].shape[1]}, "
                f"γ ≤ {outcome.bound:.2g}: {outcome.certified:.3f}° after "
                f"{outcome.rounds} rounds, {outcome.seconds:.1f} s",
                flush=True,
            )
    rounds = sorted(outcome.rounds for outcome in found)
    exact = sum(outcome.exact for outcome in found)
    print(f"{exact} of {count} certified below {EXACT}° within 100 rounds, {cuts} cuts to a reply")
    print(
        f"rounds: median {rounds[len(rounds) // 2]}, 90 % {rounds[int(0.9 * len(rounds))]}, most {rounds[-1]}"
    )
    print(f"smallest bound on γ: {min(outcome.bound for outcome in found):.2g}")
    print(f"processor seconds: {sum(o.seconds for o in found):.0f}, most {max(o.seconds for o in found):.1f}")
    return exact == count


def tall(seed: int) -> None:
    """Five clients, fewer columns than examples: rounds against columns, margin and cuts to a reply."""
    print(
        f"{'examples':>8} {'columns':>7} {'margin':>8} {'support':>7}   rounds with 1, 2, 4, 8 cuts a reply"
    )
    for count, dimension in ((200, 20), (200, 50), (200, 100), (300, 200), (500, 400), (1000, 200)):
        for margin in (1e-2, 1e-3, 1e-4):
            rows = signed_rows(np.random.default_rng(seed), count, dimension, margin)
            support = least_distance_of_rows(rows, np.ones(count), []).active
            outcomes = [run(np.array_split(rows, 5), 150, cuts) for cuts in (1, 2, 4, 8)]
            rounds = "".join(f"{o.rounds:>6}" if o.exact else f"{'>150':>6}" for o in outcomes)
            print(
                f"{count:>8} {dimension:>7} {outcomes[0].bound:>8.1g} {len(support):>7} {rounds}", flush=True
            )


def many(seed: int, clients: int, sizes: Sequence[int], cuts: int) -> None:
    """Many clients of 10 examples and 1000 columns, their cuts summed in groups of several sizes."""
    print(f"{clients} clients of 10 examples, 1000 columns, {cuts} cuts to a reply")
    print(f"{'group of':>8} {'rounds':>6} {'certified':>9} {'CPU, s':>8} {'cuts, MB':>8} {'peak, MB':>8}")
    for size in sizes:
        # a process of its own for each, whose peak is not that of those before
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            outcome, peak = pool.apply(_grouped, (seed, clients, size, cuts))
        print(
            f"{size:>8} {outcome.rounds:>6} {outcome.certified:>8.3f}° {outcome.seconds:>8.1f} "
            f"{outcome.cut_bytes / 1e6:>8.0f} {peak:>8.0f}",
            flush=True,
        )


def _grouped(seed: int, clients: int, size: int, cuts: int) -> tuple[Outcome, float]:
    """Run with groups of one size; return the outcome and the process's peak memory in MB."""
    rows = signed_rows(np.random.default_rng(seed), 10 * clients, 1000, 1e-2)
    outcome = run(np.array_split(rows, clients), 100, cuts, groups=-(-clients // size))
    return outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Run the study that the command line asks for; the exit code tells whether it met its promise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_problems", description=__doc__)
    parser.add_argument("study", nargs="?", choices=("separable", "tall", "many"), default="separable")
    parser.add_argument("--count", type=int, default=200, help="problems (separable)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cuts", type=int, default=4, help="cuts to a reply (separable, many)")
    parser.add_argument("--clients", type=int, default=500, help="clients (many)")
    parser.add_argument("--sizes", type=int, nargs="+", default=(1, 5, 10, 50), help="group sizes (many)")
    given = parser.parse_args()
    if given.study == "separable":
        return 0 if separable(given.count, given.seed, given.cuts) else 1
    if given.study == "tall":
        tall(given.seed)
    else:
        many(given.seed, given.clients, given.sizes, given.cuts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
