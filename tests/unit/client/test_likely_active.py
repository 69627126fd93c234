"""The guess that a projection starts from: right where it can be, harmless where it cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.projection import example
from client.problem import Problem
from client.solvers.likely_active import likely_active
from client.solvers.projection import project
from common.active_set import least_distance
from common.losses import LOSSES
from tests.problems import repeatable

Matrix = NDArray[np.float64]


@pytest.mark.parametrize(("count", "dimension"), [(40, 300), (150, 400), (80, 40)])
def test_it_is_the_active_set_of_an_ordinary_problem(count: int, dimension: int) -> None:
    rows = example(count, dimension)
    gram, short = rows @ rows.T, np.ones(count)
    exact = least_distance(gram, short, [])
    assert likely_active(gram, short) == exact.active
    assert 2 <= len(exact.active) < count
    from_there = least_distance(gram, short, exact.active)
    np.testing.assert_array_equal(from_there.values, exact.values)
    assert from_there.changes == 0 < exact.changes


def test_nothing_is_active_where_the_centre_meets_all() -> None:
    assert likely_active(np.eye(3), np.array([0.0, -1.0, -2.0])) == []


def test_the_same_rows_twice_are_left_to_the_exact_method() -> None:
    rows = np.repeat(example(20, 100), 2, axis=0)
    problem = Problem(rows, LOSSES["logistic"])
    once = Problem(rows[::2], LOSSES["logistic"])
    np.testing.assert_allclose(
        project(problem, np.zeros(100)).displacement, project(once, np.zeros(100)).displacement, atol=1e-9
    )


@repeatable
@given(st.integers(1, 30), st.integers(1, 12), st.floats(0, 3), st.integers(0, 999))
def test_whatever_it_is_the_answer_is_the_exact_one(
    count: int, dimension: int, shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dimension)) + shift
    gram, short = rows @ rows.T, 1 - rows @ rng.standard_normal(dimension)
    guess = likely_active(gram, short)
    assert guess == sorted(set(guess))
    found, exact = least_distance(gram, short, guess), least_distance(gram, short, [])
    assert (found.result == "infeasible") == (exact.result == "infeasible")
    if found.result == exact.result == "solved":
        moved, expected = rows.T @ found.values, rows.T @ exact.values
        assert np.linalg.norm(moved - expected) <= 1e-6 * (1 + np.linalg.norm(expected))
