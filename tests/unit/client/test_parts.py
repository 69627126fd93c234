"""A projection's displacement in several parts: each is a cut, and none gives away more than it has to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.engine import to_engine
from client.problem import Problem
from client.solvers import project
from client.solvers.reply import deal
from common.losses import Logistic
from common.reference import max_margin
from tests.problems import repeatable, signed_rows


def problem_of(Z: NDArray[np.float64]) -> Problem:
    return Problem(Z, Logistic())


def test_the_largest_multipliers_are_dealt_first() -> None:
    # 5 > 4 > 3 > 2 > 1 in turn to two groups; the row without a multiplier to none
    dual = np.array([3.0, 0.0, 5.0, 1.0, 4.0, 2.0])
    first, second = deal(dual, dual, 5, 2)
    np.testing.assert_array_equal(first, [3, 0, 5, 1, 0, 0])
    np.testing.assert_array_equal(second, [0, 0, 0, 0, 4, 2])


@pytest.mark.parametrize(
    ("cuts", "active", "parts"),
    [(1, 6, 1), (2, 6, 2), (4, 6, 3), (9, 6, 3), (4, 5, 2), (4, 3, 1), (4, 2, 1), (4, 1, 1), (4, 8, 4)],
)
def test_no_part_is_one_example_where_there_are_two(cuts: int, active: int, parts: int) -> None:
    # orthogonal rows of different lengths: all are active from 0, with multipliers 1/‖z‖²
    Z = np.diag(np.arange(1.0, active + 1))
    found = project(problem_of(Z), np.zeros(active), cuts=cuts)
    assert (len(found.parts), found.active) == (parts, active)
    for part in found.parts:
        assert np.count_nonzero(part.displacement) >= min(2, active)


def test_a_feasible_centre_has_one_part_without_mass() -> None:
    found = project(problem_of(np.eye(3)), np.full(3, 2.0), cuts=4)
    [part] = found.parts
    assert part.dual_mass == 0
    np.testing.assert_array_equal(part.displacement, np.zeros(3))


@repeatable
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 25), st.integers(1, 8), st.floats(-1.5, 0)
)
def test_the_parts_are_cuts_and_make_up_the_whole(
    seed: int, n: int, d: int, cuts: int, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 10.0**margin)
    centre = rng.standard_normal(d) * (seed % 2)
    whole, found = project(problem_of(Z), centre), project(problem_of(Z), centre, cuts=cuts)
    assert len(found.parts) == min(cuts, max(1, found.active // 2))
    size = max(1.0, whole.dual_mass)
    np.testing.assert_allclose(found.displacement, whole.displacement, rtol=0, atol=1e-13 * size)
    assert found.dual_mass == pytest.approx(whole.dual_mass, rel=1e-13)
    assert found.active == whole.active
    reference = max_margin(Z)
    assert reference is not None
    for part in found.parts:
        assert part.dual_mass > 0 or found.active == 0
        assert part.displacement @ reference.weights >= part.dual_mass - 1e-10 * size
    # dealt in turn from the largest down, so they are in order of what they hold
    masses = [part.dual_mass for part in found.parts]
    if found.active % len(masses) == 0:
        assert masses == sorted(masses, reverse=True)


def test_torch_deals_the_same() -> None:
    pytest.importorskip("torch")
    Z = signed_rows(np.random.default_rng(0), 20, 40, 0.1)
    expected = project(problem_of(Z), np.zeros(40), cuts=4)
    found = project(problem_of(to_engine(Z, "torch", "cpu")), to_engine(np.zeros(40), "torch", "cpu"), cuts=4)
    assert len(found.parts) == len(expected.parts) == 4
    for a, b in zip(found.parts, expected.parts, strict=True):
        np.testing.assert_allclose(a.displacement, b.displacement, rtol=0, atol=1e-11)
        assert a.dual_mass == pytest.approx(b.dual_mass, rel=1e-11)
