"""What the paper claims and the mathematics promises of whole runs, on data small enough to see it."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.geometry import angle
from common.reference import Reference, max_margin
from common.solution import SolverSettings
from server.handshake import handshake
from strategies import LocalGD, LocalSolveStrategy, ModifiedLocalGD
from tests.problems import Shard, Trace, deal, grid_of, rows_of, run, signed_rows

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
PAIRS: list[tuple[type[LocalSolveStrategy], str]] = [
    (LocalGD, "gradient"),
    (LocalGD, "projection"),
    (ModifiedLocalGD, "proximal"),
    (ModifiedLocalGD, "projection"),
]
EACH_PAIR = pytest.mark.parametrize(("strategy", "solver"), PAIRS)


def rows(seed: int = 0, n: int = 24, d: int = 40, margin: float = 0.15) -> Matrix:
    """Overparameterized, separable signed rows: a few more features than examples."""
    return signed_rows(np.random.default_rng(seed), n, d, margin)


def best(Z: Matrix) -> Reference:
    reference = max_margin(Z)
    assert reference is not None
    return reference


def federated(
    directory: Path,
    shards: Sequence[Shard],
    strategy: type[LocalSolveStrategy],
    solver: str,
    rounds: int,
    start: Vector | None = None,
    **settings: object,
) -> tuple[Trace, Matrix]:
    """Handshake without intercept and column scaling, run, and return what happened and the pooled rows."""
    grid = grid_of(directory, shards)
    federation = handshake(grid, grid.get_node_ids(), intercept=False, scale="max-norm")
    local = SolverSettings(solver=solver, **settings)  # type: ignore[arg-type]
    weights = np.zeros(federation.scaling.dimension) if start is None else start
    trace = run(strategy(settings=local, federation=federation), grid, rounds, weights)
    return trace, rows_of(federation, shards)


# Local-GD


def test_one_local_step_on_equal_shards_is_centralized_gradient_descent(tmp_path: Path) -> None:
    trace, Z = federated(tmp_path, deal(rows(), 4), LocalGD, "gradient", 50, local_steps=1, learning_rate=3.0)
    w = np.zeros(Z.shape[1])
    for model in trace.models:
        np.testing.assert_allclose(model, w, rtol=0, atol=1e-12 * max(1.0, float(np.linalg.norm(w))))
        w += 3.0 * (Z / (1 + np.exp(Z @ w))[:, None]).mean(axis=0)


def test_more_local_steps_are_not(tmp_path: Path) -> None:
    trace, Z = federated(tmp_path, deal(rows(), 4), LocalGD, "gradient", 2, local_steps=2, learning_rate=3.0)
    w = np.zeros(Z.shape[1])
    for _ in range(4):
        w += 3.0 * (Z / (1 + np.exp(Z @ w))[:, None]).mean(axis=0)
    assert np.linalg.norm(trace.models[2] - w) > 1e-3 * np.linalg.norm(w)


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_automatic_rates(steps: int, tmp_path: Path) -> None:
    shards = deal(rows(), 3)
    grid = grid_of(tmp_path, shards)
    federation = handshake(grid, grid.get_node_ids(), intercept=False, scale="max-norm")
    norm = federation.norm
    beta = max(float(np.linalg.norm(shard.Z / norm, 2)) ** 2 / (4 * len(shard.Z)) for shard in shards)
    gradient = federation.settings(SolverSettings(local_steps=steps))
    assert gradient.rates(0.0)[0] == pytest.approx(1 / (beta * steps))
    assert gradient.rates(0.0)[1] == 0
    proximal = federation.settings(SolverSettings(solver="proximal", local_steps=steps, regularization=0.01))
    np.testing.assert_allclose(proximal.rates(0.0), (1 / (1.01 * beta), 0.01 * beta), rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_loss_and_angle_fall_for_every_number_of_local_steps(steps: int, tmp_path: Path) -> None:
    trace, Z = federated(
        tmp_path, deal(rows(), 4), LocalGD, "gradient", 30, local_steps=steps, learning_rate="auto"
    )
    losses = [np.mean([answer.measures.loss for answer in answers]) for answers in trace.answers]
    assert all(after < before for before, after in itertools.pairwise(losses))
    w = best(Z).weights
    angles = [angle(trace.models[r], w) for r in (1, 5, 10, 30)]
    assert all(after < before for before, after in itertools.pairwise(angles))


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_direction_converges_to_the_centralized_one(steps: int, tmp_path: Path) -> None:
    # slowly, like 1/log: 1/β instead of 1/(βK) is K times as far along the same road
    trace, Z = federated(
        tmp_path, deal(rows(), 4), LocalGD, "gradient", 300, local_steps=steps, learning_rate="1/beta"
    )
    w = best(Z).weights
    angles = [angle(trace.models[r], w) for r in (1, 10, 50, 300)]
    assert all(after < 0.95 * before for before, after in itertools.pairwise(angles))
    assert angles[-1] < 0.5 * angles[0]


# Modified Local-GD


def gap(model: Vector, best: Vector) -> float:
    """1 − cos of the angle between them, without cancellation."""
    return float(2 * np.sin(np.radians(angle(model, best)) / 2) ** 2)


def slope(gaps: Sequence[float], first: int, last: int) -> float:
    """The exponent of the power of the round that fits the gaps of these rounds."""
    numbers = range(first, last + 1)
    return float(np.polyfit(np.log(numbers), np.log([gaps[r] for r in numbers]), 1)[0])


@pytest.mark.parametrize(
    ("n", "early", "late"), [(24, (-1.8, -1.2), (-2.2, -1.8)), (60, (-1.3, -0.8), (-2.2, -1.7))]
)
def test_halpern_with_projections_converges_and_the_plain_mean_stalls(
    n: int, early: tuple[float, float], late: tuple[float, float], tmp_path: Path
) -> None:
    # At first 1 − cos falls like 1/r, a little faster with fewer examples than features. Once the active
    # examples settle, the anchor's weight 1/(r + 1) is all that is left: the angle falls like 1/r, and
    # 1 − cos like 1/r².
    shards = deal(rows(seed=n // 60, n=n), 4)
    halpern, Z = federated(tmp_path, shards, ModifiedLocalGD, "projection", 400)
    plain, _ = federated(tmp_path, shards, LocalGD, "projection", 400)
    w = best(Z).weights
    gaps = [gap(model, w) for model in halpern.models]
    assert early[0] < slope(gaps, 10, 50) < early[1]
    assert late[0] < slope(gaps, 200, 400) < late[1]
    assert gap(plain.models[400], w) > 10 * gaps[400]
    assert gap(plain.models[400], w) > 0.99 * gap(plain.models[200], w)  # it does not move any more


# invariance


@EACH_PAIR
def test_models_stay_in_the_span_of_the_rows(
    strategy: type[LocalSolveStrategy], solver: str, tmp_path: Path
) -> None:
    start = 0.5 * np.random.default_rng(9).standard_normal(40)
    trace, Z = federated(tmp_path, deal(rows(), 4), strategy, solver, 10, start)
    basis = np.linalg.qr(Z.T)[0]
    for model in trace.models:
        moved = model - start
        assert np.linalg.norm(moved - basis @ (basis.T @ moved)) <= 1e-12 * max(
            1.0, float(np.linalg.norm(moved))
        )
    assert np.linalg.norm(trace.models[-1] - start) > 0.1


def same(found: Sequence[Vector], expected: Sequence[Vector], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert np.linalg.norm(a - b) <= tolerance * max(1.0, float(np.linalg.norm(b)))


@EACH_PAIR
def test_the_order_of_clients_and_examples_does_not_matter(
    strategy: type[LocalSolveStrategy], solver: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    shards = deal(rows(n=23), 4)
    expected, _ = federated(tmp_path / "a", shards, strategy, solver, 10)
    mixed = []
    for k in (2, 0, 3, 1):
        order = rng.permutation(len(shards[k].y))
        mixed.append(Shard(shards[k].X[order], shards[k].y[order]))
    found, _ = federated(tmp_path / "b", mixed, strategy, solver, 10)
    same(found.models, expected.models, 1e-12)


@EACH_PAIR
def test_rotated_data_give_a_rotated_model(
    strategy: type[LocalSolveStrategy], solver: str, tmp_path: Path
) -> None:
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((40, 40)))[0]
    shards = deal(rows(), 4)
    expected, _ = federated(tmp_path / "a", shards, strategy, solver, 10)
    turned = [Shard(shard.X @ Q.T, shard.y) for shard in shards]
    found, _ = federated(tmp_path / "b", turned, strategy, solver, 10)
    same(found.models, [Q @ model for model in expected.models], 1e-11)


@EACH_PAIR
@pytest.mark.parametrize("size", [1e-3, 1e4])
def test_the_size_of_the_data_leaves_every_angle_alone(
    strategy: type[LocalSolveStrategy], solver: str, size: float, tmp_path: Path
) -> None:
    # rows as they are, so that it is the automatic rates that adapt, not the division by the largest norm
    Z = rows()
    models = []
    for scale in (1.0, size):
        grid = grid_of(tmp_path / str(scale), deal(scale * Z, 4))
        federation = handshake(grid, grid.get_node_ids(), intercept=False, scale="none")
        assert federation.norm == 1
        local = SolverSettings(solver=solver, local_steps=50)
        trace = run(strategy(settings=local, federation=federation), grid, 10, np.zeros(40))
        models.append(trace.models[1:])
    for before, after in zip(*models, strict=True):
        assert angle(before, after) < 1e-9
        np.testing.assert_allclose(after * size, before, rtol=0, atol=1e-10 * float(np.linalg.norm(before)))
    assert best(size * Z).margin == pytest.approx(size * best(Z).margin, rel=1e-9)


def test_the_same_run_twice_gives_the_same_bits(tmp_path: Path) -> None:
    for number, (strategy, solver) in enumerate(PAIRS):
        first, second = (
            federated(tmp_path / f"{number}{again}", deal(rows(), 3), strategy, solver, 5)[0].models
            for again in "ab"
        )
        np.testing.assert_array_equal(first, second)
