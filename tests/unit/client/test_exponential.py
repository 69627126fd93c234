"""Gradient steps on the exponential loss, whose curvature has no bound: they follow the loss."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.problem import Problem
from client.solvers import descend, solve
from common.losses import Exponential
from common.solution import SolverSettings
from tests.problems import repeatable, signed_rows

Vector = NDArray[np.float64]


def log_loss(Z: NDArray[np.float64], w: Vector) -> float:
    """ln of the mean loss, whatever its size."""
    u = -Z @ w
    return float(u.max() + np.log(np.exp(u - u.max()).mean()))


@repeatable
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 10),
    st.integers(1, 10),
    st.floats(-3, 2.8),
    st.floats(-6, 9),
    st.floats(-2, 2),
)
def test_every_step_descends_from_any_centre_at_any_rate(
    seed: int, n: int, d: int, far: float, rate: float, size: float
) -> None:
    rng = np.random.default_rng(seed)
    Z = 10.0**size * rng.standard_normal((n, d))  # separable or not
    w = rng.standard_normal(d)
    w *= 10.0**far / max(1.0, float(np.abs(Z @ w).max()))  # margins up to ±630
    problem = Problem(Z, Exponential())
    before = log_loss(Z, w)
    for _ in range(10):
        found = descend(problem, w, 1, 10.0**rate, 0.0)
        assert found.dual_mass >= 0
        w = w + found.displacement
        after = log_loss(Z, w)
        assert after <= before + 1e-12 * (1 + abs(before))
        before = after


@repeatable
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 5),
    st.floats(-6, 9),
    st.sampled_from([0.0, 1e-3, 0.5]),
    st.booleans(),
)
def test_nothing_overflows_or_divides_by_zero(
    seed: int, far: float, rate: float, decay: float, some: bool
) -> None:
    # margins up to ±1e5: beyond 745 the loss is 0 in floating point, beyond −690 it is held
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, 6, 4, 0.1)
    centre = 10.0**far * rng.standard_normal(4)
    batches = iter([rng.choice(6, 2, replace=False) for _ in range(20)]) if some else None
    length = min(10.0**rate, 1 / decay if decay else math.inf)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = descend(Problem(Z, Exponential()), centre, 20, length, decay, batches)
    assert np.isfinite(found.displacement).all()
    assert 0 <= found.dual_mass < math.inf


def test_from_where_the_loss_is_zero_nothing_moves() -> None:
    found = descend(Problem(np.eye(2), Exponential()), np.full(2, 1000.0), 5, 1.0, 0.0)
    np.testing.assert_array_equal(found.displacement, [0, 0])
    assert (found.dual_mass, found.active) == (0, 0)


def test_it_gets_out_of_where_the_loss_is_held() -> None:
    problem = Problem(np.array([[1.0, 0.0], [0.6, 0.8]]), Exponential())
    w = np.array([-2000.0, -1000.0])
    for _ in range(40):
        w = w + solve(problem, w, SolverSettings("gradient", "exponential", 100, 1e6)).displacement
    assert problem.measure(w).errors == 0


def test_steps_by_hand() -> None:
    # one row of length 2 at a margin of −2: f = e², so η = min(rate, 1/(4 e²)) and the margin rises by 1
    problem = Problem(np.array([[2.0]]), Exponential())
    found = descend(problem, np.array([-1.0]), 1, 5.0, 0.0)
    np.testing.assert_allclose(found.displacement, [0.5], rtol=1e-14)
    assert found.dual_mass == pytest.approx(0.25)
    # where the step may be as long as asked: f = e⁻⁴ at a margin of 4
    found = descend(problem, np.array([2.0]), 1, 5.0, 0.0)
    np.testing.assert_allclose(found.displacement, [10 * math.exp(-4)], rtol=1e-14)
    # with a proximal term 1/η has room for it too
    found = descend(problem, np.array([-1.0]), 1, 5.0, 3.0)
    np.testing.assert_allclose(found.displacement, [2 * math.exp(2) / (4 * math.exp(2) + 3)], rtol=1e-14)
