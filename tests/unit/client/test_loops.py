"""The inner loops in place and compiled against steps written from the definition."""

import sys
from collections.abc import Callable

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
SPAN, PRIMAL = [loops.span_in_place, loops.span_plain], [loops.primal_in_place, loops.primal_plain]
LOOPS = [(loop, False) for loop in [*SPAN, *PRIMAL]] + [
    (loops.span_plain, True),
    (loops.primal_plain, True),
]
every_loop = pytest.mark.parametrize(
    ("loop", "compiled"), LOOPS, ids=[loop.__name__ + "-compiled" * compiled for loop, compiled in LOOPS]
)


def ready(loop: loops.Loop, compiled: bool) -> loops.Loop:
    if not compiled:
        return loop
    pytest.importorskip("numba")
    fast = loops.compiled(loop)
    assert fast is not None
    return fast


def by_definition(rows: Vector, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    dual = np.zeros_like(start)
    for _ in range(steps):
        margins = start + rows @ (rows.T @ dual)
        dual = keep * dual + gain * np.exp(-np.logaddexp(0, margins))
    return dual


@every_loop
@repeatable
@given(st.integers(1, 12), st.integers(1, 30), st.floats(0, 1), st.floats(0, 5), st.integers(0, 999))
def test_steps(
    loop: loops.Loop, compiled: bool, count: int, steps: int, keep: float, gain: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, start = rng.standard_normal((count, 5)), 10 * rng.standard_normal(count)
    before = start.copy()
    matrix = rows @ rows.T if loop in SPAN else rows
    found = ready(loop, compiled)(matrix, start, steps, keep, gain)
    expected = by_definition(rows, start, steps, keep, gain)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(start, before)


@every_loop
def test_margins_of_any_size(loop: loops.Loop, compiled: bool) -> None:
    start = np.array([-1e300, -800.0, 0.0, 800.0, 1e300])
    found = ready(loop, compiled)(np.zeros((5, 5)), start, 3, 1.0, 0.5)
    np.testing.assert_allclose(found[:3], [1.5, 1.5, 0.75])
    assert (found[3:] >= 0).all()
    assert (found[3:] < 1e-300).all()


def test_long_solves_are_compiled_and_span_ones_of_small_clients_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def compiled(loop: loops.Loop) -> loops.Loop:
        def fake(matrix: Vector, start: Vector, steps: int, keep: float, gain: float) -> Vector:
            seen.append((loop, len(start), steps))
            return np.zeros_like(start)

        return fake

    monkeypatch.setattr(loops, "compiled", compiled)
    many, large = loops.COMPILED_STEPS, loops.COMPILED_COUNT + 1
    for count, steps in ((4, many), (4, 1), (large, many)):
        loops.span_steps(np.eye(count), np.zeros(count), steps, 1.0, 0.1)
        loops.primal_steps(np.eye(count), np.zeros(count), steps, 1.0, 0.1)
    assert seen == [
        (loops.span_plain, 4, many),
        (loops.primal_plain, 4, many),
        (loops.primal_plain, large, many),
    ]


@pytest.mark.parametrize(("count", "dimension"), [(7, 40), (70, 6)])
@pytest.mark.parametrize("steps", [30, loops.COMPILED_STEPS])
def test_a_descent_takes_a_loop_and_agrees_with_the_one_for_every_loss(
    count: int, dimension: int, steps: int
) -> None:
    class Other(Logistic):
        """The same loss, which the loops do not know."""

    rng = np.random.default_rng(0)
    rows, centre = rng.standard_normal((count, dimension)), rng.standard_normal(dimension)
    ours, theirs = (Problem(rows, loss) for loss in (Logistic(), Other()))
    found = descent_dual(ours, ours.forward(centre), steps, 0.3, 0.01)
    expected = descent_dual(theirs, theirs.forward(centre), steps, 0.3, 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_numba_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    fresh: Callable[[loops.Loop], loops.Loop | None] = loops.compiled.__wrapped__
    assert fresh(loops.span_plain) is None
