from itertools import islice

import numpy as np
import pytest

from client.multiclass import MultiClass
from client.problem import Problem
from client.solvers import solve
from client.solvers.batches import batches
from client.solvers.descent import descend
from common.losses import LOSSES
from common.solution import SolverSettings
from tests.problems import signed_rows


def drawn(number: int, *arguments: object) -> list[list[int]]:
    stream = batches(*arguments)  # type: ignore[arg-type]
    assert stream is not None
    return [batch.tolist() for batch in islice(stream, number)]


@pytest.mark.parametrize("size", [0, 10, 11])
def test_all_examples_are_no_mini_batch(size: int) -> None:
    assert batches(10, size, 0) is None


def test_the_same_draw_gives_the_same_batches_and_any_other_gives_others() -> None:
    draw = (0, "client-3", 7, 1)
    first = drawn(20, 30, 5, *draw)
    assert first == drawn(20, 30, 5, *draw)
    for other in [(1, "client-3", 7, 1), (0, "client-2", 7, 1), (0, "client-3", 8, 1), (0, "client-3", 7, 0)]:
        assert drawn(20, 30, 5, *other) != first
    # not the same in another order: the parts of the draw do not run together
    assert drawn(20, 30, 5, 0, "client-37", 1) != drawn(20, 30, 5, 0, "client-3", 71)


def test_the_draw_is_the_same_in_every_process() -> None:
    # Python's own hash of a text differs from process to process
    assert drawn(3, 10, 3, 0, "client-0", 1, 0) == [[2, 8, 9], [0, 3, 7], [7, 8, 9]]


def test_a_batch_has_no_example_twice() -> None:
    for count, size in [(5, 4), (30, 7), (2, 1)]:
        for batch in drawn(200, count, size, count):
            assert len(set(batch)) == size
            assert batch == sorted(batch)
            assert 0 <= batch[0] <= batch[-1] < count


def test_every_example_is_as_likely_as_any_other() -> None:
    seen = np.bincount(np.concatenate(drawn(4000, 20, 5, "uniform")), minlength=20)
    # each count is binomial (4000, 1/4): mean 1000, deviation 27
    assert np.abs(seen - 1000).max() < 5 * 27.4
    pairs = np.zeros((20, 20))
    for batch in drawn(4000, 20, 5, "pairs"):
        pairs[np.ix_(batch, batch)] += 1
    apart = pairs[~np.eye(20, dtype=bool)]  # 4000 · 5·4/(20·19) = 210.5, deviation 14.1
    assert np.abs(apart - 210.5).max() < 5.5 * 14.1


@pytest.mark.parametrize("name", ["logistic", "exponential", "softmax", "squared"])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_mini_batch_steps_are_descent_on_the_batches_losses(name: str, decay: float) -> None:
    rng, loss = np.random.default_rng(0), LOSSES[name]
    Z = signed_rows(rng, 12, 5, 0.1)
    if name == "softmax":
        problem: Problem = MultiClass(Z, loss, rng.integers(0, 3, 12), 3)
    else:
        problem = Problem(Z, loss, offset=rng.standard_normal(12) if name == "squared" else None)
    centre, rate = 0.3 * rng.standard_normal(problem.shape), 0.2
    stream = drawn(25, 12, 4, name)
    found = descend(problem, centre, 25, rate, decay, iter([np.array(batch) for batch in stream]))
    w, mass = centre.copy(), 0.0
    for batch in stream:
        part = problem.part(np.array(batch))
        pull = loss.pull(part.forward(w)) / 4
        w = w + rate * part.adjoint(pull) - rate * decay * (w - centre)
        mass = (1 - rate * decay) * mass + rate * float(pull.sum())
    np.testing.assert_allclose(found.displacement, w - centre, atol=1e-13)
    assert found.dual_mass == pytest.approx(mass if loss.has_margin else 0.0, rel=1e-12)
    assert found.steps == 25


def test_a_batch_of_one_uses_one_example_a_step() -> None:
    problem = Problem(np.eye(6), LOSSES["logistic"])
    settings = SolverSettings("gradient", local_steps=3, batch_size=1, seed=5)
    found = solve(problem, np.zeros(6), settings, "client-0", 1, 0)
    assert 1 <= found.active <= 3
    assert found.active == np.count_nonzero(found.displacement)
    again = solve(problem, np.zeros(6), settings, "client-0", 1, 0)
    np.testing.assert_array_equal(found.displacement, again.displacement)
    assert any(
        (solve(problem, np.zeros(6), settings, "client-0", r, 0).displacement != found.displacement).any()
        for r in (2, 3, 4)
    )


def test_the_automatic_step_heeds_single_rows() -> None:
    # twenty orthogonal rows of length 1: σ²/(4n) = 1/80, but a batch of one has a curvature of 1/4
    problem = Problem(np.eye(20), LOSSES["logistic"])
    assert problem.smoothness() == pytest.approx(1 / 80)
    assert problem.smoothness(batches=True) == 1 / 4
    settings = SolverSettings("gradient", local_steps=1, batch_size=1, learning_rate="1/beta")
    [moved] = np.flatnonzero(found := solve(problem, np.zeros(20), settings, 0).displacement)
    assert found[moved] == pytest.approx(4 * 0.5)
