"""The problem of several classes, against the constraints ``(e_y − e_c) ⊗ x`` written out one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.engine import to_engine, to_numpy
from client.multiclass import MultiClass
from client.problem import Problem
from client.solvers import project, solve
from common.losses import Logistic, Softmax
from common.solution import SolverSettings
from tests.problems import repeatable, signed_rows

Matrix = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 12)
CLASSES = st.integers(2, 5)


def problem_of(seed: int, n: int, d: int, classes: int) -> MultiClass:
    """Rows that a hidden model tells apart, so that the projection exists."""
    rng = np.random.default_rng(seed)
    X, hidden = rng.standard_normal((n, d)), rng.standard_normal((classes, d))
    return MultiClass(X / np.linalg.norm(X, axis=1).max(), Softmax(), (X @ hidden.T).argmax(axis=1), classes)


def constraints(problem: MultiClass) -> Matrix:
    """The rows (n (C−1), C d) of all constraints, in the order of the flattened margins."""
    eye = np.eye(problem.classes)
    return np.array(
        [
            np.outer(eye[y] - eye[c], x).reshape(-1)
            for x, y in zip(problem.rows, problem.labels, strict=True)
            for c in range(problem.classes)
            if c != y
        ]
    )


@repeatable
@given(SEEDS, SIZES, SIZES, CLASSES)
def test_the_maps_are_those_of_the_constraints(seed: int, n: int, d: int, classes: int) -> None:
    problem, rng = problem_of(seed, n, d, classes), np.random.default_rng(seed + 1)
    A = constraints(problem)
    W, a = rng.standard_normal(problem.shape), rng.standard_normal((n, classes - 1))
    np.testing.assert_allclose(problem.linear(W).reshape(-1), A @ W.reshape(-1), atol=1e-13)
    np.testing.assert_allclose(problem.forward(W), problem.linear(W))
    np.testing.assert_allclose(problem.adjoint(a).reshape(-1), A.T @ a.reshape(-1), atol=1e-13)
    assert np.sum(problem.linear(W) * a) == pytest.approx(
        np.sum(W * problem.adjoint(a)), rel=1e-11, abs=1e-11
    )
    np.testing.assert_allclose(problem.images(a), problem.linear(problem.adjoint(a)), atol=1e-12)
    np.testing.assert_allclose(problem.constraint_gram, A @ A.T, atol=1e-13)
    np.testing.assert_allclose(problem.per_example(np.abs(a)), np.abs(a).sum(axis=1))


def test_margins_by_hand() -> None:
    # scores (1, 2, 4) of class 1: ahead of 0 by 1, behind 2 by 2; the same scores of class 2
    problem = MultiClass(np.array([[1.0], [1.0]]), Softmax(), np.array([1, 2]), 3)
    W = np.array([[1.0], [2.0], [4.0]])
    np.testing.assert_array_equal(problem.forward(W), [[1, -2], [3, 2]])
    measures = problem.measure(W)
    assert (measures.margin, measures.errors, measures.count) == (-2, 1, 2)
    np.testing.assert_array_equal(
        problem.pulls(np.array([[0.1, 0.2], [0.3, 0.4]])), [[-0.1, 0.1 + 0.2, -0.2], [-0.3, -0.4, 0.3 + 0.4]]
    )


@repeatable
@given(SEEDS, SIZES, SIZES, CLASSES, st.floats(0, 3))
def test_a_projection_is_that_onto_the_constraints(
    seed: int, n: int, d: int, classes: int, far: float
) -> None:
    problem = problem_of(seed, n, d, classes)
    centre = far * np.random.default_rng(seed + 1).standard_normal(problem.shape)
    written_out = Problem(constraints(problem), Logistic())
    expected = project(written_out, centre.reshape(-1))
    found = project(problem, centre)
    assert found.result == expected.result == "solved"
    size = max(1.0, float(np.linalg.norm(expected.displacement)))
    assert found.displacement.shape == problem.shape
    assert np.linalg.norm(found.displacement.reshape(-1) - expected.displacement) <= 1e-7 * size
    assert found.dual_mass == pytest.approx(expected.dual_mass, rel=1e-6, abs=1e-9)
    assert found.active <= min(n, expected.active)  # it counts examples, not constraints
    # optimal: feasible, and ⟨w − c, w⟩ = 1ᵀa says that only tight constraints have multipliers
    W = centre + found.displacement
    assert problem.forward(W).min() >= 1 - 1e-8
    assert np.sum(found.displacement * W) == pytest.approx(found.dual_mass, rel=1e-6, abs=1e-8)
    again = project(problem, centre)  # from the active set that the first has left
    np.testing.assert_allclose(again.displacement, found.displacement, rtol=0, atol=1e-9 * size)


@pytest.mark.parametrize("solver", ["gradient", "proximal", "projection"])
def test_two_classes_are_the_two_class_problem(solver: str) -> None:
    # w = W₁ − W₀ moves twice as fast as W₁ does, and the automatic step is half as long
    rng = np.random.default_rng(0)
    y = np.where(rng.random(20) < 0.5, 1.0, -1.0)
    X = signed_rows(rng, 20, 30, 0.1) * y[:, None]
    several = MultiClass(X, Softmax(), (y > 0).astype(np.intp), 2)
    two = Problem(X * y[:, None], Logistic())
    assert several.beta == pytest.approx(2 * two.beta, rel=1e-12)
    centre = 0.3 * rng.standard_normal(30)
    settings = SolverSettings(solver, local_steps=37)
    expected = solve(two, centre, settings)
    found = solve(several, np.array([-centre / 2, centre / 2]), settings)
    np.testing.assert_allclose(found.displacement[1], -found.displacement[0], atol=1e-13)
    np.testing.assert_allclose(2 * found.displacement[1], expected.displacement, atol=1e-11)
    assert 2 * found.dual_mass == pytest.approx(expected.dual_mass, rel=1e-10)
    assert found.active == expected.active
    a, b = several.measure(np.array([-centre / 2, centre / 2])), two.measure(centre)
    assert (a.errors, a.count) == (b.errors, b.count)
    assert (a.loss, a.margin) == pytest.approx((b.loss, b.margin), rel=1e-12)


@repeatable
@given(SEEDS, SIZES, SIZES, CLASSES, st.integers(1, 30))
def test_gradient_steps_are_descent_on_the_cross_entropy(
    seed: int, n: int, d: int, classes: int, steps: int
) -> None:
    problem = problem_of(seed, n, d, classes)
    start = np.random.default_rng(seed + 1).standard_normal(problem.shape)
    found = solve(
        problem, start, SolverSettings("gradient", "softmax", local_steps=steps, learning_rate="1/beta")
    )
    W, truth = start.copy(), np.eye(classes)[problem.labels]
    for _ in range(steps):  # from the definition
        scores = problem.rows @ W.T
        p = np.exp(scores - scores.max(axis=1)[:, None])
        W -= 1 / problem.beta * (p / p.sum(axis=1)[:, None] - truth).T @ problem.rows / n
    np.testing.assert_allclose(start + found.displacement, W, atol=1e-9 * (1 + np.abs(W).max()))


def test_a_part_is_the_problem_of_those_examples() -> None:
    problem = problem_of(3, 10, 6, 4)
    chosen = np.array([7, 2, 5])
    part = problem.part(chosen)
    W = np.random.default_rng(0).standard_normal(problem.shape)
    np.testing.assert_array_equal(part.forward(W), problem.forward(W)[chosen])
    assert (part.count, part.classes, part.shape, part.norm) == (3, 4, (4, 6), problem.norm)
    halved = problem.divided(2.0)
    assert halved.norm == 2
    np.testing.assert_allclose(halved.forward(W), problem.forward(W) / 2)


def test_the_parts_of_a_reply_hold_whole_examples() -> None:
    problem = problem_of(5, 12, 40, 4)
    whole, found = (
        project(problem, np.zeros(problem.shape)),
        project(problem, np.zeros(problem.shape), cuts=3),
    )
    assert len(found.parts) == 3
    np.testing.assert_allclose(found.displacement, whole.displacement, atol=1e-12)
    owners = []
    for part in found.parts:  # d > n: a displacement says which rows it is made of
        per_class = np.linalg.lstsq(problem.rows.T, part.displacement.T, rcond=None)[0]
        owners.append(set(np.flatnonzero(np.abs(per_class).max(axis=1) > 1e-9)))
        assert len(owners[-1]) >= 2
    assert sum(map(len, owners)) == len(set.union(*owners)) == whole.active


@pytest.mark.parametrize("solver", ["gradient", "proximal", "projection"])
def test_numpy_and_torch_agree(solver: str) -> None:
    pytest.importorskip("torch")
    for seed in range(20):
        ours = problem_of(seed, 9, 5 + seed, 4)
        theirs = MultiClass(
            to_engine(ours.rows, "torch", "cpu"), Softmax(), to_engine(ours.labels, "torch", "cpu"), 4
        )
        centre = np.random.default_rng(seed).standard_normal(ours.shape)
        settings = SolverSettings(solver, "softmax", local_steps=20, cuts=2)
        moved = to_engine(centre, "torch", "cpu")
        expected, found = solve(ours, centre, settings), solve(theirs, moved, settings)
        assert isinstance(found.displacement, np.ndarray)
        size = max(1.0, float(np.linalg.norm(expected.displacement)))
        assert np.linalg.norm(found.displacement - expected.displacement) <= 1e-10 * size
        assert found.dual_mass == pytest.approx(expected.dual_mass, rel=1e-9)
        assert (found.active, found.result, len(found.parts)) == (
            expected.active,
            expected.result,
            len(expected.parts),
        )
        np.testing.assert_allclose(to_numpy(theirs.constraint_gram), ours.constraint_gram, atol=1e-14)
        a, b = ours.measure(centre), theirs.measure(moved)
        assert a.errors == b.errors
        assert a.margin == pytest.approx(b.margin, rel=1e-12)


@pytest.mark.parametrize("solver", ["gradient", "projection"])
def test_sparse_rows_give_the_same(solver: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    ours = problem_of(1, 8, 12, 3)
    X = np.where(np.random.default_rng(0).random(ours.rows.shape) < 0.5, ours.rows, 0)
    dense, thin = (MultiClass(rows, Softmax(), ours.labels, 3) for rows in (X, sparse.csr_array(X)))
    settings = SolverSettings(solver, "softmax", local_steps=20)
    expected, found = (solve(problem, np.zeros(ours.shape), settings) for problem in (dense, thin))
    np.testing.assert_allclose(found.displacement, expected.displacement, atol=1e-10)
    assert found.dual_mass == pytest.approx(expected.dual_mass, rel=1e-10)


def test_the_same_row_in_two_classes_is_infeasible() -> None:
    X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    problem = MultiClass(X, Softmax(), np.array([0, 1, 2]), 3)
    found = project(problem, np.zeros((3, 2)))
    assert found.result == "infeasible"
    assert np.linalg.norm(found.displacement) < 1e-7
    assert found.dual_mass == pytest.approx(1)
