"""The quick way to a projection's dual: the exact method's answer, and mostly without that method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.projection import example
from client.problem import Problem
from client.solvers import exchange
from client.solvers.exchange import by_exchange
from client.solvers.projection import project
from common.active_set import Multipliers, least_distance
from common.losses import LOSSES
from tests.problems import repeatable, signed_rows

Matrix = NDArray[np.float64]


@pytest.fixture
def guesses(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Note where the exact method is made to start, whenever it is asked at all."""
    noted = []

    def noting(gram: Matrix, short: Matrix, active: list[int]) -> Multipliers:
        noted.append(active)
        return least_distance(gram, short, active)

    monkeypatch.setattr(exchange, "least_distance", noting)
    return noted


@pytest.mark.parametrize(("count", "dimension"), [(40, 300), (150, 400), (80, 40)])
def test_an_ordinary_problem_needs_no_other_method(
    count: int, dimension: int, guesses: list[list[int]]
) -> None:
    rows = example(count, dimension)
    gram, short = rows @ rows.T, np.ones(count)
    found, exact = by_exchange(gram, short), least_distance(gram, short, [])
    assert guesses == []
    assert 2 <= len(exact.active) < count
    assert (found.active, found.result) == (exact.active, "solved")
    np.testing.assert_array_equal(found.values, exact.values)
    assert found.changes == 0 < exact.changes


def test_what_exchanges_cannot_end_is_near_the_answer(guesses: list[list[int]]) -> None:
    # more examples than weights and a thin margin: exchanges of many rows at once go astray
    changes = from_nothing = 0
    for seed in range(10):
        rows = signed_rows(np.random.default_rng(seed), 100, 50, 0.05)
        gram, short = rows @ rows.T, np.ones(100)
        found, exact = by_exchange(gram, short), least_distance(gram, short, [])
        assert found.result == exact.result == "solved"
        np.testing.assert_allclose(rows.T @ found.values, rows.T @ exact.values, rtol=0, atol=1e-7)
        changes, from_nothing = changes + found.changes, from_nothing + exact.changes
    assert guesses, "the exact method was never asked: choose harder problems"
    assert changes < from_nothing / 2


def test_nothing_is_active_where_the_centre_meets_all() -> None:
    found = by_exchange(np.eye(3), np.array([0.0, -1.0, -2.0]))
    assert (found.active, found.changes, found.result) == ([], 0, "solved")
    np.testing.assert_array_equal(found.values, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("spread", [0.0, 1e-15, 1e-12, 1e-9])
def test_the_same_rows_twice_are_left_to_the_exact_method(spread: float) -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(example(20, 100), 2, axis=0)
    problem = Problem(rows + spread * rng.standard_normal(rows.shape), LOSSES["logistic"])
    once = Problem(rows[::2], LOSSES["logistic"])
    np.testing.assert_allclose(
        project(problem, np.zeros(100)).displacement,
        project(once, np.zeros(100)).displacement,
        atol=1e-9 + 100 * spread,
    )


@pytest.mark.parametrize("more", [0, 40])
def test_contradictory_rows_are_never_taken_for_solved(more: int) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((10 + more, 20))
        rows[-1] = -rng.random(9 + more) @ rows[:-1]
        rows[-1] /= np.abs(rows[-1]).max()
        found = by_exchange(rows @ rows.T, np.ones(10 + more))
        assert found.result == "infeasible"
        assert np.linalg.norm(rows.T @ found.values) <= 1e-6


@repeatable
@given(st.integers(1, 30), st.integers(1, 12), st.floats(0, 3), st.integers(0, 999))
def test_whatever_it_starts_from_the_answer_is_the_exact_one(
    count: int, dimension: int, shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dimension)) + shift
    gram, short = rows @ rows.T, 1 - rows @ rng.standard_normal(dimension)
    found, exact = by_exchange(gram, short), least_distance(gram, short, [])
    assert (found.result == "infeasible") == (exact.result == "infeasible")
    if found.result == exact.result == "solved":
        assert found.active == sorted(set(found.active))
        moved, expected = rows.T @ found.values, rows.T @ exact.values
        assert np.linalg.norm(moved - expected) <= 1e-6 * (1 + np.linalg.norm(expected))
