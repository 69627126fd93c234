import numpy as np
import pytest
from numpy.typing import NDArray

from common.inverse_factor import DRIFT, InverseFactor, solved


def append(factor: InverseFactor, column: NDArray[np.float64], own: float) -> None:
    inward = factor.solve(column)
    factor.append(column, inward, own, own - float(column @ inward))


@pytest.mark.parametrize("seed", range(5))
def test_it_solves_with_whatever_rows_are_left(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((120, 150))
    factor, kept = InverseFactor(A[0]), [int(k) for k in rng.choice(120, 10, replace=False)]
    assert factor.reset(A[kept] @ A[kept].T)
    for _ in range(300):
        others = sorted(set(range(120)) - set(kept))
        if kept and (not others or rng.random() < 0.4):
            k = int(rng.integers(len(kept)))
            before = np.linalg.inv(A[kept] @ A[kept].T)
            lost = factor.drop(k)
            after = before - np.outer(lost, lost)
            np.testing.assert_allclose(after[k], 0, rtol=0, atol=1e-9)
            others = [j for j in range(len(kept)) if j != k]
            inverse = np.linalg.inv(A[kept][others] @ A[kept][others].T)
            np.testing.assert_allclose(after[np.ix_(others, others)], inverse, rtol=0, atol=1e-9)
            kept[k] = kept[-1]
            kept.pop()
        else:
            new = int(rng.choice(others))
            append(factor, A[kept] @ A[new], float(A[new] @ A[new]))
            kept.append(new)
        gram = A[kept] @ A[kept].T
        np.testing.assert_allclose(factor.gram, gram, rtol=1e-13, atol=1e-13)
        right = rng.standard_normal(len(kept))
        np.testing.assert_allclose(gram @ factor.solve(right), right, rtol=0, atol=1e-10)
    assert len(kept) > 40


def test_dependent_rows_are_not_factored() -> None:
    factor = InverseFactor(np.ones(1))
    assert not factor.reset(np.array([[1.0, 1.0], [1.0, 1.0 - 1e-15]]))
    assert factor.size == 0
    append(factor, np.zeros(0), 4.0)
    np.testing.assert_array_equal(factor.solve(np.array([2.0])), [0.5])


def test_a_factor_that_has_drifted_is_made_afresh() -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 30))
    factor, right = InverseFactor(A[0]), rng.standard_normal(20)
    assert factor.reset(A @ A.T)
    factor._inverse[:20, :20] += 1e-3 * rng.standard_normal((20, 20))

    def residual() -> float:
        return float(np.abs(A @ A.T @ factor.times_inverse(right) - right).max())

    assert residual() > DRIFT
    np.testing.assert_allclose(A @ A.T @ factor.solve(right), right, rtol=0, atol=1e-12)
    assert residual() < 1e-10


def test_a_singular_system_has_a_solution_all_the_same() -> None:
    gram = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    np.testing.assert_allclose(solved(gram, np.array([2.0, 2.0, 2.0])), [1, 1, 0.5])
    np.testing.assert_array_equal(solved(4 * np.eye(2), np.array([2.0, 1.0])), [0.5, 0.25])
