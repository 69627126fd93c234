import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common import active_set
from common.active_set import WORKING_SET, Multipliers, least_distance, least_distance_of_rows
from common.constraints import OfGram
from tests.problems import repeatable, signed_rows

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 30)


def solve(A: object, centre: Vector | None = None, active: list[int] | None = None) -> Multipliers:
    rows = np.asarray(A, np.float64)
    short = np.ones(len(rows)) if centre is None else 1 - rows @ centre
    return least_distance(rows @ rows.T, short, active or [])


def check_kkt(A: Matrix, centre: Vector, found: Multipliers) -> None:
    """Feasible, non-negative and complementary: together with ``w = c + Aᵀa`` that makes it the solution."""
    assert found.result == "solved"
    a = found.values
    size = 1.0 + float(a.sum())
    margins = A @ (centre + A.T @ a)
    assert margins.min() >= 1 - 1e-9 - 1e-13 * size
    assert (a >= 0).all()
    assert not a[np.setdiff1d(np.arange(len(A)), found.active)].any()
    np.testing.assert_allclose(margins[found.active], 1, rtol=0, atol=1e-9 + 1e-13 * size)


def test_two_rows_by_hand() -> None:
    # p = (1/5, 2/5) and (1, −1/4), from 0: both hold with equality at w = (13/9, 16/9), a = (385, 40)/81
    found = solve([[0.2, 0.4], [1.0, -0.25]])
    np.testing.assert_allclose(found.values, [385 / 81, 40 / 81], rtol=1e-13)
    assert (found.active, found.result) == ([0, 1], "solved")


def test_a_row_that_is_met_anyway_has_no_multiplier() -> None:
    found = solve([[1.0, 0.0], [3.0, 1.0]])
    np.testing.assert_array_equal(found.values, [1.0, 0.0])
    assert found.active == [0]


@repeatable
@given(SEEDS, SIZES, SIZES, st.floats(-2, 0), st.floats(0, 3))
def test_kkt(seed: int, n: int, d: int, margin: float, far: float) -> None:
    rng = np.random.default_rng(seed)
    A = signed_rows(rng, n, d, 10.0**margin)
    centre = far * rng.standard_normal(d)
    check_kkt(A, centre, solve(A, centre))


def test_a_warm_start_saves_the_search_and_not_a_bit_more() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        A = signed_rows(rng, 25, 30, 0.1)
        cold = solve(A)
        warm = solve(A, active=cold.active)
        assert cold.changes > 0
        assert warm.changes == 0
        np.testing.assert_array_equal(warm.values, cold.values)


def test_a_wrong_guess_does_not_mislead() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        A = signed_rows(rng, 25, 30, 0.1)
        guess = sorted(rng.choice(25, 10, replace=False).tolist())
        np.testing.assert_allclose(solve(A, active=guess).values, solve(A).values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("spread", [0.0, 1e-15, 1e-12, 1e-9])
def test_duplicate_and_dependent_rows(spread: float) -> None:
    # more rows than columns, each several times over: every Gram matrix of all rows is singular
    for seed in range(30):
        rng = np.random.default_rng(seed)
        A = np.tile(signed_rows(rng, 8, 4, 0.05), (4, 1))
        A += spread * rng.standard_normal(A.shape)
        found = solve(A)
        check_kkt(A, np.zeros(4), found)
        once = solve(A[:8])
        np.testing.assert_allclose(A.T @ found.values, A[:8].T @ once.values, rtol=1e-5)
        assert found.values.sum() == pytest.approx(once.values.sum(), rel=1e-5)


@pytest.mark.parametrize(
    "A", [[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0], [5.0, 0.0]]]
)
def test_contradictory_rows_end_with_their_proof(A: list[list[float]]) -> None:
    found = solve(A)
    assert found.result == "infeasible"
    assert (found.values >= 0).all()
    assert found.values.sum() == pytest.approx(1)
    assert np.linalg.norm(np.array(A).T @ found.values) <= 1e-12


def test_rows_that_are_met_need_nothing() -> None:
    found = solve([[1.0, 0.0], [0.0, 1.0]], np.array([1.0, 2.0]))
    np.testing.assert_array_equal(found.values, [0.0, 0.0])
    assert (found.active, found.changes, found.result) == ([], 0, "solved")


@repeatable
@given(SEEDS, SIZES, SIZES, st.floats(-2, 0), st.floats(0, 3))
def test_the_rows_themselves_give_what_their_gram_matrix_gives(
    seed: int, n: int, d: int, margin: float, far: float
) -> None:
    rng = np.random.default_rng(seed)
    A = signed_rows(rng, n, d, 10.0**margin)
    centre = far * rng.standard_normal(d)
    found = least_distance_of_rows(A, 1 - A @ centre, [])
    check_kkt(A, centre, found)
    of_gram = solve(A, centre)
    size = 1 + float(of_gram.values.sum())
    np.testing.assert_allclose(A.T @ found.values, A.T @ of_gram.values, rtol=0, atol=1e-8 * size)


def test_many_more_rows_than_are_looked_at_together() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A = signed_rows(rng, 12 * WORKING_SET, 40, 0.02)
        found = least_distance_of_rows(A, np.ones(len(A)), [])
        check_kkt(A, np.zeros(40), found)
        check_kkt(A, np.zeros(40), solve(A))
        warm = least_distance_of_rows(A, np.ones(len(A)), found.active)
        assert warm.changes == 0
        np.testing.assert_array_equal(warm.values, found.values)


def test_a_guess_of_dependent_rows_is_thinned_out() -> None:
    rng = np.random.default_rng(0)
    A = np.tile(signed_rows(rng, 10, 20, 0.1), (3, 1))
    check_kkt(A, np.zeros(20), solve(A, active=list(range(30))))


def test_rows_that_contradict_each_other_among_many() -> None:
    rng = np.random.default_rng(0)
    A = signed_rows(rng, 300, 30, 0.1)
    A[-1] = -A[:7].sum(axis=0)
    found = least_distance_of_rows(A, np.ones(300), [])
    assert found.result == "infeasible"
    assert found.values.sum() == pytest.approx(1)
    assert np.linalg.norm(A.T @ found.values) <= 1e-7 * np.linalg.norm(A, axis=1).max()


class Rough(OfGram):
    """A Gram matrix whose products come with another error every time, far beyond the tolerance."""

    def __init__(self, gram: Matrix, error: float) -> None:
        super().__init__(gram)
        self.error, self.rng = error, np.random.default_rng(0)

    def products(self, index: object, values: object) -> Matrix:
        exact = np.asarray(super().products(index, values))
        return exact + self.error * self.rng.standard_normal(exact.shape)


@pytest.mark.parametrize("error", [1e-8, 1e-5])
def test_rows_that_rounding_makes_violated_do_not_come_back_for_ever(
    error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_set, "OfGram", lambda gram: Rough(gram, error))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A = signed_rows(rng, 60, 12, 0.02)
        A = np.vstack([A, A + 1e-7 * rng.standard_normal(A.shape)])
        found = solve(A)
        assert found.result == "solved"
        assert found.changes <= 10 * len(A)
        assert (A @ (A.T @ found.values)).min() >= 1 - 100 * error
