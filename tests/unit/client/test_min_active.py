"""Replies of too few examples: blended with all the others, and still cuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.multiclass import MultiClass
from client.problem import Problem
from client.solvers import project, solve
from common.errors import UserError
from common.losses import LOSSES
from common.reference import max_margin
from common.solution import SolverSettings
from tests.problems import repeatable, signed_rows


@repeatable
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.integers(0, 15),
    st.integers(1, 6),
    st.sampled_from(["logistic", "exponential"]),
)
def test_every_part_is_made_of_enough_examples_and_is_a_cut(
    seed: int, least: int, more: int, cuts: int, name: str
) -> None:
    rng = np.random.default_rng(seed)
    n = least + more
    d = n + int(rng.integers(1, 6))  # d > n: a displacement says what it is made of
    Z = signed_rows(rng, n, d, 10.0 ** rng.uniform(-1, 0))
    centre = rng.standard_normal(d) * rng.integers(0, 4)
    reference = max_margin(Z)
    assert reference is not None
    plain = project(Problem(Z, LOSSES[name]), centre, cuts)
    found = project(Problem(Z, LOSSES[name]), centre, cuts, least)
    assert (found.active == 0) == (plain.active == 0)
    for part in found.parts:
        made_of = np.linalg.lstsq(Z.T, part.displacement, rcond=None)[0]
        scale = max(1e-300, float(np.abs(made_of).max()))
        assert made_of.min() >= -1e-6 * scale
        assert part.displacement @ reference.weights >= part.dual_mass * (1 - 1e-9) - 1e-10 * scale
    if plain.active >= least:  # nothing to hide: the same reply, in no more parts
        np.testing.assert_allclose(found.displacement, plain.displacement, rtol=0, atol=1e-13 * scale)
        assert found.active == plain.active
        assert len(found.parts) <= len(plain.parts)
        assert len(found.parts) == min(cuts, max(1, found.active // max(2, least)))
    elif found.active:
        assert len(found.parts) == 1
        assert found.active == n  # all of them


def test_a_blend_by_hand() -> None:
    # from 0 the projection onto w₁ ≥ 1, w₂ ≥ −9 is (1, 0): the first example alone
    Z = np.array([[1.0, 0.0], [0.0, 1.0]])
    centre = np.array([0.0, 10.0])
    alone = project(Problem(Z, LOSSES["logistic"]), centre)
    np.testing.assert_allclose(alone.displacement, [1, 0], atol=1e-12)
    assert alone.active == 1
    found = project(Problem(Z, LOSSES["logistic"]), centre, 1, 2)
    assert found.active == 2
    first, second = found.displacement
    assert first > 1
    assert second > 0
    assert found.dual_mass == pytest.approx(first + second)
    # three steps of 1/β = 8 on a mean of two losses: 4/(1 + eᵘ) each
    u, expected = 10.0, 0.0
    for _ in range(3):
        expected += 4 / (1 + np.exp(u + expected))
    assert second == pytest.approx(expected, rel=1e-10)


def test_a_blend_of_several_classes() -> None:
    X = np.vstack([np.eye(4), -np.eye(4)])
    problem = MultiClass(X, LOSSES["softmax"], np.array([0, 1, 2, 0, 1, 2, 0, 1]), 3)
    solved = project(problem, np.zeros(problem.shape))
    at = solved.displacement * 1.5
    at[:, 0] = 0  # only the rows that need the first column fall short
    few = project(problem, at)
    assert 0 < few.active < 5
    found = project(problem, at, 4, 5)
    assert (found.active, len(found.parts)) == (8, 1)
    assert found.dual_mass > few.dual_mass
    reference = project(problem, np.zeros(problem.shape)).displacement
    assert np.sum(found.displacement * reference) >= found.dual_mass * (1 - 1e-9)


@pytest.mark.parametrize("name", ["logistic", "exponential"])
def test_a_client_with_too_few_rows_is_refused_in_one_line(name: str) -> None:
    problem = Problem(np.eye(3), LOSSES[name])
    for solver in ("gradient", "proximal", "projection"):
        settings = SolverSettings(solver, name, local_steps=5, min_active=4)
        with pytest.raises(UserError) as caught:
            solve(problem, np.zeros(3), settings)
        assert str(caught.value) == "a reply would be made of 3 of 3 examples, fewer than min-active = 4"
    assert solve(problem, np.zeros(3), SolverSettings("projection", name, min_active=3)).active == 3


def test_so_are_mini_batch_steps_that_saw_too_few() -> None:
    problem = Problem(np.eye(9), LOSSES["logistic"])
    settings = SolverSettings("gradient", local_steps=1, batch_size=2, min_active=3)
    with pytest.raises(UserError, match="made of 2 of 9 examples, fewer than min-active = 3"):
        solve(problem, np.zeros(9), settings)


def test_a_feasible_centre_and_an_infeasible_client_say_nothing_of_examples() -> None:
    feasible = project(Problem(np.eye(2), LOSSES["logistic"]), np.full(2, 3.0), 4, 2)
    assert (feasible.active, feasible.dual_mass) == (0, 0)
    opposite = Problem(np.array([[1.0], [-1.0], [2.0]]), LOSSES["logistic"])
    found = project(opposite, np.zeros(1), 4, 3)
    assert found.result == "infeasible"
    assert abs(float(found.displacement[0])) < 1e-7  # it gives away next to nothing
