import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.engine import to_engine
from client.problem import Problem
from client.solvers import descend
from client.solvers import solve as solve_as_asked
from client.solvers.descent import span_is_cheaper
from common.errors import UserError
from common.losses import Logistic
from common.solution import LocalSolution, SolverSettings
from tests.problems import repeatable, signed_rows

Vector = NDArray[np.float64]
module = importlib.import_module("client.solvers.descent")
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 25)


def problem_of(seed: int, n: int, d: int, margin: float = 0.1) -> tuple[Problem, Vector]:
    """A problem with rows of norm up to 1, and a centre."""
    rng = np.random.default_rng(seed)
    return Problem(signed_rows(rng, n, d, margin), Logistic()), 3 * rng.standard_normal(d)


def primal(Z: Vector, centre: Vector, steps: int, rate: float, decay: float) -> Vector:
    """Gradient descent on the weights, written from the definition; no code in common."""
    w = centre.copy()
    for _ in range(steps):
        gradient = -(Z * (1 / (1 + np.exp(Z @ w)))[:, None]).mean(axis=0) + decay * (w - centre)
        w -= rate * gradient
    return w


def solve(span: bool, *arguments: object) -> LocalSolution:
    """Solve by the form asked for, whichever is cheaper."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "span_is_cheaper", lambda *_: span)
        return descend(*arguments)  # type: ignore[arg-type]


# what it computes


def test_two_steps_by_hand() -> None:
    # one example z = (2, 0), centre 0, η = 0.5: a₁ = 0.5 · ½, margin 4a₁ = 1, a₂ = a₁ + 0.5/(1 + e)
    problem = Problem(np.array([[2.0, 0.0]]), Logistic())
    one = descend(problem, np.zeros(2), 1, 0.5, 0.0)
    np.testing.assert_allclose(one.displacement, [0.5, 0.0], rtol=1e-15)
    assert (one.dual_mass, one.active, one.steps, one.result) == (0.25, 1, 1, "solved")
    two = descend(problem, np.zeros(2), 2, 0.5, 0.0)
    np.testing.assert_allclose(two.displacement, [0.768941421369995, 0.0], rtol=1e-14)
    assert two.dual_mass == pytest.approx(0.384470710684998, rel=1e-14)
    # with decay 0.4: a₂ = 0.8 a₁ + 0.5/(1 + e)
    decayed = descend(problem, np.zeros(2), 2, 0.5, 0.4)
    assert decayed.dual_mass == pytest.approx(0.334470710684998, rel=1e-14)


@pytest.mark.parametrize("span", [True, False])
@repeatable
@given(SEEDS, SIZES, SIZES, st.integers(1, 60), st.floats(0.01, 1.9))
def test_gradient_is_descent_on_the_loss(
    span: bool, seed: int, n: int, d: int, steps: int, share: float
) -> None:
    problem, centre = problem_of(seed, n, d)
    rate = share / problem.beta
    found = solve(span, problem, centre, steps, rate, 0.0)
    expected = primal(problem.rows, centre, steps, rate, 0.0) - centre
    np.testing.assert_allclose(
        found.displacement, expected, rtol=0, atol=1e-11 * (1 + np.abs(expected).max())
    )


@pytest.mark.parametrize("span", [True, False])
@repeatable
@given(SEEDS, SIZES, SIZES, st.integers(1, 60), st.floats(-5, 0))
def test_proximal_is_descent_on_the_regularized_loss(
    span: bool, seed: int, n: int, d: int, steps: int, weight: float
) -> None:
    problem, centre = problem_of(seed, n, d)
    decay = 10.0**weight * problem.beta
    rate = 1 / (problem.beta + decay)
    found = solve(span, problem, centre, steps, rate, decay)
    expected = primal(problem.rows, centre, steps, rate, decay) - centre
    np.testing.assert_allclose(
        found.displacement, expected, rtol=0, atol=1e-11 * (1 + np.abs(expected).max())
    )


def test_proximal_converges_to_the_minimiser() -> None:
    problem, centre = problem_of(0, 6, 4)
    decay = 0.1 * problem.beta
    rate = 1 / (problem.beta + decay)
    w = centre + descend(problem, centre, 2000, rate, decay).displacement
    mass = 1 / (1 + np.exp(problem.rows @ w))
    np.testing.assert_allclose(problem.rows.T @ mass / 6, decay * (w - centre), atol=1e-14)


@pytest.mark.parametrize(("n", "d"), [(7, 30), (30, 7)])
def test_against_torch_sgd(n: int, d: int) -> None:
    torch = pytest.importorskip("torch")
    problem, centre = problem_of(n, n, d)
    rate, decay = 0.7 / problem.beta, 0.05 * problem.beta
    Z = torch.as_tensor(problem.rows)
    for weight in (0.0, decay):
        w = torch.tensor(centre, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=rate)
        for _ in range(50):
            optimizer.zero_grad()
            pull = weight / 2 * ((w - torch.as_tensor(centre)) ** 2).sum()
            (torch.nn.functional.softplus(-(Z @ w)).mean() + pull).backward()
            optimizer.step()
        found = descend(problem, centre, 50, rate, weight)
        np.testing.assert_allclose(found.displacement, w.detach().numpy() - centre, rtol=0, atol=1e-12)


@pytest.mark.parametrize("span", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_exactly_k_steps(span: bool, steps: int) -> None:
    taken = []

    class Counting(Logistic):
        def pull(self, margins):
            taken.append(1)
            return super().pull(margins)

    problem = Problem(signed_rows(np.random.default_rng(0), 4, 6, 0.1), Counting())
    assert solve(span, problem, np.zeros(6), steps, 0.1, 0.0).steps == steps
    assert len(taken) == steps


# both forms


@repeatable
@given(SEEDS, SIZES, SIZES, st.sampled_from([1, 2, 10, 100, 1000]), st.sampled_from([0.0, 1e-5, 1e-2, 1.0]))
def test_span_and_primal_forms_agree(seed: int, n: int, d: int, steps: int, weight: float) -> None:
    problem, centre = problem_of(seed, n, d, 10.0 ** -(seed % 5))
    decay = weight * problem.beta
    rate = 1 / (problem.beta + decay)
    by_span = solve(True, problem, centre, steps, rate, decay)
    by_weights = solve(False, problem, centre, steps, rate, decay)
    scale = 1e-10 * max(1.0, float(np.abs(by_span.displacement).max()))
    np.testing.assert_allclose(by_span.displacement, by_weights.displacement, rtol=0, atol=scale)
    assert by_span.dual_mass == pytest.approx(by_weights.dual_mass, rel=1e-10)


def test_the_cheaper_form_by_shape_and_steps() -> None:
    assert span_is_cheaper(64, 64 * 100_000, 100)
    assert not span_is_cheaper(64, 64 * 10, 100)
    assert not span_is_cheaper(64, 64 * 100_000, 1)  # G would be computed for nothing
    assert span_is_cheaper(10, 10 * 25, 2)


def test_the_gram_matrix_is_not_made_where_it_does_not_pay() -> None:
    problem, centre = problem_of(0, 25, 3)
    descend(problem, centre, 100, 0.1, 0.0)
    assert "gram" not in problem.__dict__


# the dual


@repeatable
@given(SEEDS, st.integers(1, 12), st.integers(0, 12), st.integers(1, 100), st.sampled_from([0.0, 1e-3, 1.0]))
def test_displacement_is_a_non_negative_combination_with_this_mass(
    seed: int, n: int, more: int, steps: int, weight: float
) -> None:
    nnls = pytest.importorskip("scipy.optimize").nnls
    problem, centre = problem_of(seed, n, n + more)
    decay = weight * problem.beta
    found = descend(problem, centre, steps, 1 / (problem.beta + decay), decay)
    dual, residual = nnls(problem.rows.T, found.displacement)
    assert residual <= 1e-10 * np.linalg.norm(found.displacement)
    if np.linalg.cond(problem.rows) < 1e6:  # full row rank: the representation is the only one
        assert found.dual_mass == pytest.approx(float(dual.sum()), rel=1e-8)
    assert found.active == n  # the logistic loss pulls with every example


def test_far_in_the_tail_the_mass_is_still_positive() -> None:
    problem = Problem(np.array([[1.0, 0.0]]), Logistic())
    found = descend(problem, np.array([600.0, 0.0]), 3, 1.0, 0.0)
    assert found.dual_mass == pytest.approx(3 * np.exp(-600), rel=1e-12)
    assert found.displacement[0] == pytest.approx(3 * np.exp(-600), rel=1e-12)


def test_the_longest_proximal_step_forgets_the_last_dual() -> None:
    problem, centre = problem_of(1, 5, 8)
    found = descend(problem, centre, 3, 2.0, 0.5)  # η λ = 1
    before = primal(problem.rows, centre, 2, 2.0, 0.5)
    mass = 2.0 / 5 * (1 / (1 + np.exp(problem.rows @ before)))
    np.testing.assert_allclose(found.displacement, problem.rows.T @ mass, atol=1e-12)
    assert found.dual_mass == pytest.approx(mass.sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(6, 20), (20, 6)])
def test_numpy_and_torch_agree(n: int, d: int) -> None:
    pytest.importorskip("torch")
    problem, centre = problem_of(2, n, d)
    moved = Problem(to_engine(problem.rows, "torch", "cpu"), Logistic())
    for decay in (0.0, 1e-3):
        expected = descend(problem, centre, 200, 1.0, decay)
        found = descend(moved, to_engine(centre, "torch", "cpu"), 200, 1.0, decay)
        assert isinstance(found.displacement, np.ndarray)
        np.testing.assert_allclose(found.displacement, expected.displacement, rtol=0, atol=1e-12)
        assert found.dual_mass == pytest.approx(expected.dual_mass, rel=1e-12)


def test_solving_changes_neither_centre_nor_rows() -> None:
    problem, centre = problem_of(3, 5, 5)
    rows, start = problem.rows.copy(), centre.copy()
    for solver in ("gradient", "proximal", "projection"):
        solve_as_asked(problem, centre, SolverSettings(solver, local_steps=10))
    np.testing.assert_array_equal(problem.rows, rows)
    np.testing.assert_array_equal(centre, start)


# step sizes


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_automatic_rates(steps: int) -> None:
    gradient = SolverSettings(solver="gradient", local_steps=steps, beta=0.25)
    np.testing.assert_allclose(gradient.rates(99.0), (4 / steps, 0.0), rtol=1e-15)
    proximal = SolverSettings(solver="proximal", local_steps=steps, beta=0.25, regularization=0.6)
    np.testing.assert_allclose(proximal.rates(99.0), (2.5, 0.15), rtol=1e-15)


def test_other_rates() -> None:
    assert SolverSettings(learning_rate="1/beta", beta=0.25).rates(99.0) == (4.0, 0.0)
    assert SolverSettings(learning_rate=0.3, beta=0.25).rates(99.0) == (0.3, 0.0)
    proximal = SolverSettings(solver="proximal", learning_rate="1/beta", beta=0.25, regularization=1.0)
    assert proximal.rates(99.0) == (4.0, 0.25)
    # without a handshake a client knows its own smoothness only
    assert SolverSettings(local_steps=10).rates(0.5) == (0.2, 0.0)


def test_a_proximal_step_so_long_that_the_dual_would_turn_negative_is_refused() -> None:
    longest = 8.0  # λ = 0.125
    proximal = SolverSettings("proximal", learning_rate=longest, beta=0.25, regularization=0.5)
    assert proximal.rates(0.25) == (longest, 0.125)
    too_long = replace(proximal, learning_rate=math.nextafter(longest, 9))
    with pytest.raises(UserError, match="allowed: <= 8"):
        too_long.rates(0.25)
    assert SolverSettings("gradient", learning_rate=1e9, beta=0.25).rates(0.25) == (1e9, 0.0)
