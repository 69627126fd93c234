"""The regression's problem: residuals in the place of margins."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.dataset import describe
from client.engine import to_engine
from client.problem import Problem
from client.solvers import descend, solve
from common.datafiles import Dataset
from common.errors import UserError
from common.handshake import pack_description
from common.losses import Squared
from common.solution import SolverSettings
from tests.problems import repeatable

module = importlib.import_module("client.solvers.descent")


def problem_of(seed: int, n: int, d: int) -> Problem:
    rng = np.random.default_rng(seed)
    return Problem(rng.standard_normal((n, d)), Squared(), offset=rng.standard_normal(n))


def test_by_hand() -> None:
    # X w − t = (1·2 − 5, 3·2 − 1) = (−3, 5): the loss (9 + 25)/4, the gradient (−3·1 + 5·3)/2 = 6
    problem = Problem(np.array([[1.0], [3.0]]), Squared(), offset=np.array([5.0, 1.0]))
    np.testing.assert_array_equal(problem.forward(np.array([2.0])), [-3, 5])
    np.testing.assert_array_equal(problem.linear(np.array([2.0])), [2, 6])
    measures = problem.measure(np.array([2.0]))
    assert (measures.loss, measures.margin, measures.errors, measures.count) == (8.5, 0, 0, 2)
    found = descend(problem, np.array([2.0]), 1, 0.1, 0.0)
    np.testing.assert_allclose(found.displacement, [-0.6])
    assert (found.dual_mass, found.active, found.steps, len(found.parts)) == (0, 2, 1, 1)


@pytest.mark.parametrize("span", [True, False])
@repeatable
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 40))
def test_steps_are_descent_on_half_the_mean_square(span: bool, seed: int, n: int, d: int, steps: int) -> None:
    problem = problem_of(seed, n, d)
    X, t, w = problem.rows, problem.offset, np.random.default_rng(seed + 1).standard_normal(d)
    rate = 1.5 / problem.beta
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "span_is_cheaper", lambda *_: span)
        found = descend(problem, w, steps, rate, 0.0)
    expected = w.copy()
    for _ in range(steps):
        expected -= rate * X.T @ (X @ expected - t) / n
    np.testing.assert_allclose(w + found.displacement, expected, atol=1e-10 * (1 + np.abs(expected).max()))


def test_a_step_of_one_over_beta_never_raises_the_loss() -> None:
    for seed in range(30):
        problem = problem_of(seed, 1 + seed % 7, 1 + seed % 5)
        w = np.random.default_rng(seed).standard_normal(problem.dimension)
        before = problem.measure(w).loss
        for steps in (1, 3, 100):
            moved = solve(problem, w, SolverSettings("gradient", "squared", steps, "1/beta")).displacement
            assert problem.measure(w + moved).loss <= before * (1 + 1e-12)


def test_the_offset_goes_along() -> None:
    problem = problem_of(0, 6, 4)
    w = np.arange(4.0)
    chosen = np.array([4, 1])
    np.testing.assert_array_equal(problem.part(chosen).forward(w), problem.forward(w)[chosen])
    halved = problem.divided(2.0)
    np.testing.assert_array_equal(halved.offset, problem.offset)  # features are scaled, targets are not
    np.testing.assert_allclose(halved.forward(2 * w), problem.forward(w))


def test_numpy_and_torch_agree() -> None:
    pytest.importorskip("torch")
    ours = problem_of(1, 9, 14)
    theirs = Problem(
        to_engine(ours.rows, "torch", "cpu"),
        Squared(),
        offset=to_engine(np.asarray(ours.offset), "torch", "cpu"),
    )
    settings = SolverSettings("gradient", "squared", 50, "1/beta")
    a = solve(ours, np.ones(14), settings)
    b = solve(theirs, to_engine(np.ones(14), "torch", "cpu"), settings)
    np.testing.assert_allclose(b.displacement, a.displacement, atol=1e-12)
    assert ours.measure(np.ones(14)).loss == pytest.approx(
        theirs.measure(to_engine(np.ones(14), "torch", "cpu")).loss
    )


# what a client tells of its targets


def dataset(*targets: str) -> Dataset:
    return Dataset(np.arange(2.0 * len(targets)).reshape(-1, 2), np.array(targets))


def test_a_description_does_not_hold_the_targets() -> None:
    data = dataset("12.5", "-77.25", "12.5")
    found = describe("clinic", data, "salt", statistics=True, loss="squared")
    assert (found.classes, found.count, found.dimension) == ((), 3, 2)
    assert describe("clinic", data, "salt", statistics=True).classes == ("-77.25", "12.5")  # as for classes
    told = repr(found) + repr(pack_description(found))
    assert "12.5" not in told
    assert "77.25" not in told
    # the fingerprint changes with them, but only who knows the salt and all rows could try values
    other = describe("clinic", dataset("12.5", "-77.5", "12.5"), "salt", statistics=True, loss="squared")
    assert other.fingerprint != found.fingerprint
    assert (
        describe("clinic", data, "pepper", statistics=True, loss="squared").fingerprint != found.fingerprint
    )


def test_a_bad_target_is_named_by_its_row() -> None:
    with pytest.raises(UserError, match=r"^row 2: the label 'cat' is not a finite number"):
        describe("clinic", dataset("1", "cat"), "salt", statistics=False, loss="squared")
    assert describe("clinic", dataset("1", "cat"), "salt", statistics=False).classes == ("1", "cat")
