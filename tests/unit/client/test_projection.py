from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.engine import to_engine
from client.problem import Problem
from client.solvers import project
from common import active_set
from common.losses import Logistic
from common.reference import max_margin
from common.solution import LocalSolution
from tests.problems import repeatable, signed_rows

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 25)


def problem_of(Z: object) -> Problem:
    return Problem(np.asarray(Z, np.float64), Logistic())


def least_distance(Z: Matrix, centre: Vector) -> Vector:
    """The projection by scipy: least-distance programming as non-negative least squares."""
    nnls = pytest.importorskip("scipy.optimize").nnls
    short = 1 - Z @ centre
    E = np.vstack([Z.T, short])
    target = np.zeros(len(E))
    target[-1] = 1
    u, _ = nnls(E, target, maxiter=100 * len(Z))
    residual = E @ u - target
    return centre - residual[:-1] / residual[-1]


def check_kkt(Z: Matrix, centre: Vector, found: LocalSolution, tolerance: float = 1e-9) -> None:
    """The four conditions that make a point the projection; the multipliers are found again by scipy."""
    nnls = pytest.importorskip("scipy.optimize").nnls
    assert found.result == "solved"
    w = centre + found.displacement
    margins = Z @ w
    assert margins.min() >= 1 - tolerance
    tight = margins <= 1 + 1e-7
    length = float(np.linalg.norm(found.displacement))
    if not tight.any():
        assert length == 0
    else:  # w − c = Zᵀa with a ≥ 0 and a = 0 where the margin is above 1
        _, residual = nnls(Z[tight].T, found.displacement, maxiter=100 * len(Z))
        assert residual <= 1e-7 * max(1.0, length)
    # complementary slackness in one number: ‖w − c‖² = Σ aⱼ (1 − zⱼ·c) and Σ aⱼ zⱼ·w = Σ aⱼ
    assert found.dual_mass == pytest.approx(float(found.displacement @ w), rel=1e-6, abs=1e-9)
    assert found.dual_mass >= 0


# by hand


def test_one_example_in_closed_form() -> None:
    # z = (3, 4), c = (0, 0.1): short by 0.6, a = 0.6/25
    found = project(problem_of([[3.0, 4.0]]), np.array([0.0, 0.1]))
    assert found.dual_mass == pytest.approx(0.024, rel=1e-14)
    np.testing.assert_allclose(found.displacement, [0.072, 0.096], rtol=1e-14)
    assert (found.active, found.result) == (1, "solved")


def test_two_examples_by_hand() -> None:
    # from 0 onto w₁ ≥ 1 and w₁ + w₂ ≥ 1: (1, 0), the second met with equality and no multiplier
    found = project(problem_of([[1.0, 0.0], [1.0, 1.0]]), np.zeros(2))
    np.testing.assert_allclose(found.displacement, [1.0, 0.0], atol=1e-12)
    assert found.dual_mass == pytest.approx(1)
    # … and w₂ ≥ 2: a = (1, 2/4)
    found = project(problem_of([[1.0, 0.0], [0.0, 0.5]]), np.zeros(2))
    np.testing.assert_allclose(found.displacement, [1.0, 2.0], rtol=1e-14)
    assert found.dual_mass == pytest.approx(5)
    assert found.active == 2


def test_a_feasible_centre_stays() -> None:
    found = project(problem_of([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 7.0]))
    np.testing.assert_array_equal(found.displacement, [0.0, 0.0])
    assert (found.dual_mass, found.active, found.steps, found.result) == (0.0, 0, 0, "solved")


def test_duplicates() -> None:
    once = project(problem_of([[1.0, 0.0], [0.3, 1.0]]), np.zeros(2))
    Z = [[1.0, 0.0], [0.3, 1.0], [1.0, 0.0], [0.3, 1.0], [2.0, 0.0]]
    twice = project(problem_of(Z), np.zeros(2))
    np.testing.assert_allclose(twice.displacement, once.displacement, rtol=1e-13)
    assert twice.dual_mass == pytest.approx(once.dual_mass)
    assert twice.result == "solved"


# on random problems


@repeatable
@given(SEEDS, SIZES, SIZES, st.floats(-2, 0), st.floats(0, 3))
def test_against_scipy_and_kkt(seed: int, n: int, d: int, margin: float, far: float) -> None:
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 10.0**margin)
    centre = far * rng.standard_normal(d)
    found = project(problem_of(Z), centre)
    check_kkt(Z, centre, found)
    expected = least_distance(Z, centre) - centre
    np.testing.assert_allclose(
        found.displacement, expected, rtol=0, atol=1e-7 * max(1.0, float(np.linalg.norm(expected)))
    )


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("margin", [1e-2, 1e-3, 1e-4])
def test_thin_margins(margin: float, copies: int) -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(20, 80)), int(rng.integers(2, 40))
        Z = np.tile(signed_rows(rng, n, d, margin), (copies, 1))
        centre = rng.standard_normal(d) * (seed % 2)
        found = project(problem_of(Z), centre)
        case = f"seed {seed}: {n} rows, {d} columns"
        assert found.result == "solved", case
        w = centre + found.displacement
        # margins carry the rounding of a sum of multipliers, which is of order 1/γ²
        assert (Z @ w).min() >= 1 - 1e-9 - 2e-14 / margin**2, case
        assert found.dual_mass == pytest.approx(float(found.displacement @ w), rel=1e-5, abs=1e-9), case
        if seed % 2 == 0:
            reference = max_margin(Z)
            assert reference is not None
            length = float(np.linalg.norm(found.displacement))
            assert length == pytest.approx(float(np.linalg.norm(reference.weights)), rel=1e-5), case
            assert length / found.dual_mass == pytest.approx(reference.margin, rel=1e-5), case  # U is tight


@repeatable
@given(SEEDS, st.integers(1, 15), st.integers(0, 15), st.floats(-2, 0))
def test_mass_is_that_of_the_only_representation(seed: int, n: int, more: int, margin: float) -> None:
    nnls = pytest.importorskip("scipy.optimize").nnls
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, n + more, 10.0**margin)
    found = project(problem_of(Z), rng.standard_normal(n + more))
    if np.linalg.cond(Z) < 1e5:
        dual, residual = nnls(Z.T, found.displacement)
        assert residual <= 1e-9 * max(1.0, float(np.linalg.norm(found.displacement)))
        assert found.dual_mass == pytest.approx(float(dual.sum()), rel=1e-7, abs=1e-9)
        assert found.active == np.count_nonzero(dual > 1e-12 * max(1.0, dual.max(initial=0)))


@repeatable
@given(SEEDS, SIZES, SIZES, st.floats(-3, 0))
def test_projecting_is_nonexpansive_and_idempotent(seed: int, n: int, d: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    problem = problem_of(signed_rows(rng, n, d, 10.0**margin))
    first, second = rng.standard_normal((2, d))
    p, q = (c + project(problem, c).displacement for c in (first, second))
    assert np.linalg.norm(p - q) <= np.linalg.norm(first - second) + 1e-6
    np.testing.assert_allclose(project(problem, p).displacement, 0, atol=1e-6)


@repeatable
@given(SEEDS, SIZES, SIZES, st.floats(-3, 0))
def test_an_answer_depends_on_its_centre_alone(seed: int, n: int, d: int, margin: float) -> None:
    """To the last bit, so that a run can go on with clients that have forgotten everything."""
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 10.0**margin)
    old, centre = problem_of(Z), np.zeros(d)
    for k in range(5):
        fresh, found = project(problem_of(Z), centre), project(old, centre)
        assert (found.result, found.dual_mass) == (fresh.result, fresh.dual_mass)
        assert found.displacement.tobytes() == fresh.displacement.tobytes()
        # nearer and nearer to the solution, where multipliers are but rounding
        centre = centre + (1 - 10.0 ** (-5 * k)) * found.displacement


def test_a_guess_does_not_mislead() -> None:
    rng = np.random.default_rng(1)
    problem = problem_of(signed_rows(rng, 12, 5, 0.05))
    expected = project(problem, np.zeros(5))
    for _ in range(20):
        guess = sorted(rng.choice(12, 4, replace=False).tolist())
        found = active_set.least_distance(problem.constraint_gram, np.ones(12), guess)
        np.testing.assert_allclose(problem.rows.T @ found.values, expected.displacement, rtol=1e-8)


# no projection


@pytest.mark.parametrize(
    "Z",
    [
        [[1.0, 0.0], [-1.0, 0.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [[0.0, 0.0]],
        [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]],
        [[0.5, 0.5], [1.0, 0.0], [-3.0, -1.0], [0.0, 1.0]],
    ],
)
def test_infeasible_by_hand(Z: list[list[float]]) -> None:
    found = project(problem_of(Z), np.zeros(2))
    assert found.result == "infeasible"
    assert found.dual_mass == pytest.approx(1)
    assert np.linalg.norm(found.displacement) <= 1e-12


@pytest.mark.parametrize("kind", ["combination", "opposite"])
def test_infeasible_comes_with_a_farkas_vector(kind: str) -> None:
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(2, 40)), int(rng.integers(1, 30))
        Z = rng.standard_normal((n, d))
        Z[-1] = -Z[0] if kind == "opposite" else -(rng.random(n - 1) @ Z[:-1])
        Z[-1] *= np.abs(Z[:-1]).max() / np.abs(Z[-1]).max()
        found = project(problem_of(Z), rng.standard_normal(d) * (seed % 2))
        assert found.result == "infeasible", f"seed {seed}: {n} rows, {d} columns"
        assert found.dual_mass == pytest.approx(1)
        # the proof: no unit vector has a margin above ‖Zᵀa‖/1ᵀa
        assert np.linalg.norm(found.displacement) <= 1e-6 * np.linalg.norm(Z, axis=1).max()


def test_feasible_data_after_infeasible_ones_are_not_misled() -> None:
    # the warm start of a problem is its own
    project(problem_of([[1.0, 0.0], [-1.0, 0.0]]), np.zeros(2))
    assert project(problem_of([[1.0, 0.0]]), np.zeros(2)).result == "solved"


@pytest.mark.parametrize("margin", [1e-3, 1e-5, 1e-6])
def test_nearly_opposite_rows_are_separable(margin: float) -> None:
    # z = (1, m), (−1, m): w = (0, 1/m)
    found = project(problem_of([[1.0, margin], [-1.0, margin]]), np.zeros(2))
    assert found.result == "solved"
    np.testing.assert_allclose(found.displacement, [0.0, 1 / margin], rtol=1e-3, atol=1e-6 / margin)
    assert np.linalg.norm(found.displacement) / found.dual_mass >= margin * (1 - 1e-9)


# engines


@pytest.mark.parametrize(("n", "d", "margin"), [(10, 30, 0.1), (30, 10, 0.05), (5, 5, 1e-3)])
def test_numpy_and_torch_agree(n: int, d: int, margin: float) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    Z = signed_rows(rng, n, d, margin)
    moved = Problem(to_engine(Z, "torch", "cpu"), Logistic())
    for centre in (np.zeros(d), rng.standard_normal(d)):
        expected = project(problem_of(Z), centre)
        found = project(moved, to_engine(centre, "torch", "cpu"))
        assert isinstance(found.displacement, np.ndarray)
        size = float(np.linalg.norm(expected.displacement))
        np.testing.assert_allclose(
            found.displacement, expected.displacement, rtol=0, atol=1e-12 * max(1, size)
        )
        assert found.dual_mass == pytest.approx(expected.dual_mass, rel=1e-9)
        assert (found.active, found.result) == (expected.active, expected.result)


def test_torch_finds_infeasible_too() -> None:
    pytest.importorskip("torch")
    Z = to_engine(np.array([[1.0, 0.0], [-1.0, 0.0]]), "torch", "cpu")
    found = project(Problem(Z, Logistic()), to_engine(np.zeros(2), "torch", "cpu"))
    assert found.result == "infeasible"
    assert found.dual_mass == pytest.approx(1)


def test_weaker_regularization_leads_to_the_projection() -> None:
    # λ → 0 of the proximal solver, rescaled: the angle to the projection of 0 falls with 1/ln(1/λ)
    from client.solvers import descend
    from common.geometry import angle

    problem = problem_of(signed_rows(np.random.default_rng(5), 6, 10, 0.2))
    limit = project(problem, np.zeros(10)).displacement
    angles = []
    for weight in (1e-1, 1e-2, 1e-3):
        decay = weight * problem.beta
        near = descend(problem, np.zeros(10), 20_000, 1 / (problem.beta + decay), decay).displacement
        angles.append(angle(near, limit))
    assert all(closer < farther for farther, closer in pairwise(angles))


def test_a_margin_just_below_one_is_met() -> None:
    found = project(problem_of([[1.0, 0.0], [0.0, 1.0]]), np.array([1 - 1e-9, 1.0]))
    np.testing.assert_allclose(found.displacement, [1e-9, 0.0], rtol=1e-6)
    assert found.active == 1
