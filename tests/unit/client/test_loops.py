"""The inner loops in place and compiled against steps written from the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.problem import Problem
from client.solvers import loops
from client.solvers.descent import descent_dual
from common.losses import Logistic
from tests.problems import repeatable

Vector = NDArray[np.float64]
LOOPS = ["in_place", "plain", "compiled"]


def loop_of(name: str) -> loops.Loop:
    if name != "compiled":
        return getattr(loops, name)
    pytest.importorskip("numba")
    compiled = loops.compiled()
    assert compiled is not None
    return compiled


def by_definition(gram: Vector, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    dual = np.zeros_like(start)
    for _ in range(steps):
        margins = start + gram @ dual
        dual = keep * dual + gain * np.exp(-np.logaddexp(0, margins))
    return dual


@pytest.mark.parametrize("name", LOOPS)
@repeatable
@given(st.integers(1, 12), st.integers(1, 30), st.floats(0, 1), st.floats(0, 5), st.integers(0, 999))
def test_steps(name: str, count: int, steps: int, keep: float, gain: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, start = rng.standard_normal((count, 5)), 10 * rng.standard_normal(count)
    before = start.copy()
    found = loop_of(name)(rows @ rows.T, start, steps, keep, gain)
    expected = by_definition(rows @ rows.T, start, steps, keep, gain)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(start, before)


@pytest.mark.parametrize("name", LOOPS)
def test_margins_of_any_size(name: str) -> None:
    start = np.array([-1e300, -800.0, 0.0, 800.0, 1e300])
    found = loop_of(name)(np.zeros((5, 5)), start, 3, 1.0, 0.5)
    np.testing.assert_allclose(found[:3], [1.5, 1.5, 0.75])
    assert (found[3:] >= 0).all()
    assert (found[3:] < 1e-300).all()


def test_long_solves_of_small_clients_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def fake(gram: Vector, start: Vector, steps: int, keep: float, gain: float) -> Vector:
        sizes.append((len(start), steps))
        return np.zeros_like(start)

    monkeypatch.setattr(loops, "compiled", lambda: fake)
    for count, steps in ((4, loops.COMPILED_STEPS), (4, 1), (loops.COMPILED_COUNT + 1, loops.COMPILED_STEPS)):
        loops.logistic_steps(np.eye(count), np.zeros(count), steps, 1.0, 0.1)
    assert sizes == [(4, loops.COMPILED_STEPS)]


def test_a_descent_takes_the_loop_and_agrees_with_the_one_for_every_loss() -> None:
    class Other(Logistic):
        """The same loss, which the loop does not know."""

    rng = np.random.default_rng(0)
    rows, centre = rng.standard_normal((7, 40)), rng.standard_normal(40)
    ours, theirs = (Problem(rows, loss) for loss in (Logistic(), Other()))
    found = descent_dual(ours, ours.forward(centre), 600, 0.3, 0.01)
    expected = descent_dual(theirs, theirs.forward(centre), 600, 0.3, 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
