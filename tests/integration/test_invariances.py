"""What must not matter, and what must follow: the span of the rows, order, rotation and scale.

Property tests of whole runs, for two classes and several, over the strategies that the certificate is about.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.geometry import angle
from strategies import CuttingPlane, LocalGD, LocalSolveStrategy, ModifiedLocalGD
from tests.problems import Run, Shard, federate, repeatable, signed_rows

Vector = NDArray[np.float64]
few = settings(repeatable, max_examples=4)


class Way(NamedTuple):
    """A loss, a strategy, its solver, and how exactly two runs that should be the same are."""

    loss: str
    strategy: type[LocalSolveStrategy]
    solver: str
    settings: dict[str, Any]
    tolerance: float


METHODS: list[tuple[type[LocalSolveStrategy], str, dict[str, Any], float]] = [
    (LocalGD, "gradient", {"local_steps": 20}, 1e-10),
    (ModifiedLocalGD, "proximal", {"local_steps": 20, "regularization": 1e-3}, 1e-10),
    # projections are solved to a tolerance
    (ModifiedLocalGD, "projection", {}, 1e-8),
    (CuttingPlane, "projection", {"cuts": 3}, 1e-6),
]
WAYS = [Way(loss, *method) for loss in ("logistic", "softmax") for method in METHODS]
EACH_WAY = pytest.mark.parametrize(
    "way", WAYS, ids=[f"{way.loss}-{way.strategy.__name__}-{way.solver}" for way in WAYS]
)
SEEDS = st.integers(0, 2**32 - 1)
ROUNDS = 5


def shards_of(seed: int, loss: str, equal: bool = False) -> list[Shard]:
    """Three clients with separable rows, more features than examples or fewer."""
    rng = np.random.default_rng(seed)
    d, counts = int(rng.integers(4, 20)), [4, 4, 4] if equal else rng.integers(2, 7, 3).tolist()
    n = sum(counts)
    if loss == "softmax":
        hidden = np.linalg.qr(rng.standard_normal((d, 3)))[0].T
        y = np.arange(n) % 3
        noise = rng.standard_normal((n, d)) / np.sqrt(d)
        X = noise - noise @ hidden.T @ hidden + (1 + rng.random((n, 1))) * hidden[y]
        y = y.astype(np.float64)
    else:
        y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
        X = signed_rows(rng, n, d, 0.2) * y[:, None]
    cuts = np.cumsum(counts)[:-1]
    return [Shard(*part) for part in zip(np.split(X, cuts), np.split(y, cuts), strict=True)]


def train(way: Way, shards: Sequence[Shard], scale: str = "max-norm", **more: Any) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        chosen = {"learning_rate": "1/beta", **way.settings, **more}
        return federate(
            Path(directory), shards, way.strategy, way.solver, ROUNDS, way.loss, scale=scale, **chosen
        )


def same(found: Sequence[Vector], expected: Sequence[Vector], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert np.linalg.norm(a - b) <= tolerance * max(1.0, float(np.linalg.norm(b)))
    assert float(np.linalg.norm(expected[-1])) > 1e-3  # and there is something to compare


@EACH_WAY
@few
@given(SEEDS)
def test_models_stay_in_the_span_of_the_rows(way: Way, seed: int) -> None:
    shards = shards_of(seed, way.loss)
    start = 0.5 * np.random.default_rng(seed).standard_normal(
        (3, shards[0].X.shape[1]) if way.loss == "softmax" else shards[0].X.shape[1]
    )
    run = train(way, shards, start=start)
    left, singular, _ = np.linalg.svd(np.vstack([shard.X for shard in shards]).T, full_matrices=False)
    basis = left[:, singular > 1e-10 * singular[0]]
    # cutting planes forget where they started once they have a cut
    origin = np.zeros_like(start) if way.strategy is CuttingPlane else start
    for model in run.trace.models[1:]:
        moved = model - origin
        assert np.linalg.norm(moved - moved @ basis @ basis.T) <= 1e-10 * max(
            1.0, float(np.linalg.norm(moved))
        )


@pytest.mark.parametrize("loss", ["logistic", "exponential", "softmax"])
@few
@given(SEEDS)
def test_one_local_step_on_equal_shards_is_centralized_gradient_descent(loss: str, seed: int) -> None:
    # one client that holds all rows does centralized gradient descent
    shards = shards_of(seed, loss, equal=True)
    pooled = [Shard(np.vstack([s.X for s in shards]), np.concatenate([s.y for s in shards]))]
    way = Way(loss, LocalGD, "gradient", {"local_steps": 1, "learning_rate": 0.3}, 1e-12)
    dealt, whole = train(way, shards), train(way, pooled)
    same(dealt.trace.models, whole.trace.models, way.tolerance)
    for a, b in zip(dealt.rows, whole.rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-12)
        assert a["errors"] == b["errors"]
        assert a["margin_bound"] == pytest.approx(b["margin_bound"], rel=1e-10)
        assert a["certified_angle_deg"] == pytest.approx(b["certified_angle_deg"], abs=1e-5)
    # two steps are not the same, so that the first says something
    twice = train(way._replace(settings={"local_steps": 2, "learning_rate": 0.3}), shards)
    assert np.linalg.norm(twice.trace.models[2] - whole.trace.models[4]) > 1e-6


@EACH_WAY
@few
@given(SEEDS)
def test_the_order_of_clients_and_examples_does_not_matter(way: Way, seed: int) -> None:
    rng, shards = np.random.default_rng(seed), shards_of(seed, way.loss)
    mixed = []
    for k in rng.permutation(len(shards)):
        order = rng.permutation(len(shards[k].y))
        mixed.append(Shard(shards[k].X[order], shards[k].y[order]))
    expected, found = train(way, shards), train(way, mixed)
    same(found.trace.models, expected.trace.models, way.tolerance)
    for a, b in zip(found.rows, expected.rows, strict=True):
        assert a["errors"] == b["errors"]
        assert a["certified_angle_deg"] == pytest.approx(b["certified_angle_deg"], abs=1e-2)


@EACH_WAY
@few
@given(SEEDS)
def test_rotated_data_give_a_rotated_model(way: Way, seed: int) -> None:
    shards = shards_of(seed, way.loss)
    d = shards[0].X.shape[1]
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    expected, found = train(way, shards), train(way, [Shard(s.X @ Q.T, s.y) for s in shards])
    same(found.trace.models, [model @ Q.T for model in expected.trace.models], way.tolerance)
    assert found.reference is not None
    assert expected.reference is not None
    assert found.reference.margin == pytest.approx(expected.reference.margin, rel=1e-6)


@EACH_WAY
@few
@given(SEEDS, st.sampled_from([1e-3, 1e4]), st.sampled_from(["auto", "1/beta"]))
def test_the_size_of_the_data_scales_the_margin_and_leaves_every_angle_alone(
    way: Way, seed: int, size: float, rate: str
) -> None:
    # rows as they are, so that it is the automatic rates that adapt, not a division by the largest norm
    shards = shards_of(seed, way.loss)
    expected = train(way, shards, "none", learning_rate=rate)
    found = train(way, [Shard(size * s.X, s.y) for s in shards], "none", learning_rate=rate)
    assert (found.federation.norm, expected.federation.norm) == (1, 1)
    for after, before in zip(found.trace.models[1:], expected.trace.models[1:], strict=True):
        assert angle(after.reshape(-1), before.reshape(-1)) < 100 * way.tolerance
        assert np.linalg.norm(after * size - before) <= way.tolerance * np.linalg.norm(before)
    assert found.reference is not None
    assert expected.reference is not None
    assert found.reference.margin == pytest.approx(size * expected.reference.margin, rel=1e-6)
    for a, b in zip(found.rows, expected.rows, strict=True):
        assert a["margin_bound"] == pytest.approx(size * b["margin_bound"], rel=1e-5)
        assert a["margin"] == pytest.approx(size * b["margin"], rel=1e-5, abs=1e-8 * size)
        assert a["certified_angle_deg"] == pytest.approx(b["certified_angle_deg"], abs=1e-2)
        assert a["true_angle_deg"] == pytest.approx(b["true_angle_deg"], abs=1e-2)
