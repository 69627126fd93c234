import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.engine import to_engine
from client.problem import Problem
from common.losses import Logistic
from tests.problems import repeatable

SEEDS = st.integers(0, 2**32 - 1)


@repeatable
@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
def test_beta_gram_and_norm(seed: int, n: int, d: int) -> None:
    Z = np.random.default_rng(seed).standard_normal((n, d))
    problem = Problem(Z, Logistic())
    assert problem.beta == pytest.approx(np.linalg.norm(Z, 2) ** 2 / (4 * n), rel=1e-10)
    assert problem.max_norm == pytest.approx(np.sqrt((Z**2).sum(axis=1).max()), rel=1e-14)
    np.testing.assert_allclose(problem.gram, Z @ Z.T)
    assert (problem.count, problem.dimension, problem.size) == (n, d, n * d)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_divided_is_a_problem_of_the_divided_rows_to_the_last_bit(shape: tuple[int, int]) -> None:
    # a process that made the rows anew must come to the same numbers as one that kept them
    Z = np.random.default_rng(0).standard_normal(shape)
    problem = Problem(Z, Logistic())
    beta = problem.beta
    found, expected = problem.divided(2.3), Problem(Z / 2.3, Logistic(), 2.3)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.gram, expected.gram)
    assert found.beta == expected.beta == pytest.approx(beta / 2.3**2)
    assert (found.norm, problem.norm) == (2.3, 1.0)


def test_a_problem_of_zero_rows_has_no_curvature() -> None:
    assert Problem(np.zeros((2, 3)), Logistic()).beta == 0


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_measures_by_hand(engine: str) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    Z = np.array([[1.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [0.0, 0.0]])
    problem = Problem(to_engine(Z, engine, "cpu"), Logistic())
    found = problem.measure(to_engine(np.array([1.0, 3.0]), engine, "cpu"))
    assert found.margin == -2
    assert found.errors == 2  # a margin of 0 decides nothing, so it is an error
    assert found.count == 4
    # ln(1 + e⁻¹), ln(1 + e⁻³), ln(1 + e²), ln 2
    expected = (0.313261687518223 + 0.048587351573742 + 2.126928011042972 + 0.693147180559945) / 4
    assert found.loss == pytest.approx(expected, rel=1e-14)
    assert all(isinstance(value, float | int) for value in vars(found).values())


def test_margins_of_a_received_model_are_formed_once_and_of_one_that_may_change_anew() -> None:
    problem = Problem(np.eye(2), Logistic())
    received = np.array([1.0, 2.0])
    received.flags.writeable = False
    assert problem.forward(received) is problem.forward(received)
    assert np.array_equal(problem.forward(received), [1.0, 2.0])
    own = np.array([3.0, 4.0])
    problem.forward(own)
    own[0] = 5.0
    assert np.array_equal(problem.forward(own), [5.0, 4.0])
    assert np.array_equal(problem.forward(received), [1.0, 2.0])
