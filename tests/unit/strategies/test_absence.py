"""Clients that miss rounds: the exact strategies come to the same model, only later."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from client.problem import Problem
from client.solvers import project
from common.federation import Federation
from common.geometry import angle
from common.losses import Logistic
from common.reference import max_margin
from common.solution import Answer, Measures, SolverSettings
from strategies import Consensus, CuttingPlane, LocalSolveStrategy
from strategies.cutting_plane import CutState
from tests.problems import answer, signed_rows

Matrix = NDArray[np.float64]
CUTS = SolverSettings(solver="projection", cuts=4)


def clients(seed: int, examples: int = 30, columns: int = 40, count: int = 6) -> dict[str, Matrix]:
    Z = signed_rows(np.random.default_rng(seed), examples, columns, 0.1)
    return {f"c{k}": part for k, part in enumerate(np.array_split(Z, count))}


def answered(strategy: LocalSolveStrategy, state: Any, name: str, Z: Matrix) -> Answer:
    """What a client answers: its projections of the centres, and the margin of the model."""
    problem, weights = Problem(Z, Logistic()), strategy.weights(state)
    solutions = tuple(
        project(problem, centre, strategy.settings.cuts) for centre in strategy.centres(state, name)
    )
    return Answer(name, solutions, Measures(0.0, float((Z @ weights).min()), 0, len(Z)))


def rounds_until_exact(
    strategy: LocalSolveStrategy, rows: Mapping[str, Matrix], there: float, within: float, most: int
) -> int:
    """Run with each client there now and then; return the round from which the model is as near as asked."""
    rng = np.random.default_rng(0)
    reference = max_margin(np.vstack(list(rows.values())))
    assert reference is not None
    state = strategy.init(np.zeros(next(iter(rows.values())).shape[1]))
    far = 0
    for number in range(1, most + 1):
        here = [name for name in rows if rng.random() < there]
        state = strategy.combine(state, [answered(strategy, state, name, rows[name]) for name in here])
        if mass := strategy.dual_mass(state):
            assert np.linalg.norm(strategy.weights(state)) / mass >= reference.margin * (1 - 1e-12)
        if angle(strategy.weights(state), reference.weights) > within:
            far = number
    return far + 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("strategy", "within", "most"), [(CuttingPlane(CUTS), 1e-6, 30), (Consensus(), 0.01, 200)]
)
def test_absences_delay_the_exact_model_and_do_not_move_it(
    strategy: LocalSolveStrategy, within: float, most: int, seed: int
) -> None:
    rows = clients(seed)
    always = rounds_until_exact(strategy, rows, 1.0, within, most // 2)
    sometimes = rounds_until_exact(strategy, rows, 0.5, within, most)
    assert always < sometimes < most - 5


def test_a_model_that_some_have_not_measured_is_not_taken_for_feasible() -> None:
    strategy = CuttingPlane()
    state = CutState(np.array([4.0, 0.0]), clients=("a", "b"))
    met = [answer(name, [0, 0], mass=0.0, margin=2.0) for name in "ab"]
    assert strategy.combine(state, met[:1]).feasible is None
    known = strategy.combine(state, met)
    np.testing.assert_array_equal(known.feasible, [2, 0])
    np.testing.assert_array_equal(strategy.combine(known, met[1:]).feasible, [2, 0])  # not a shorter one
    strategy.federation = cast("Federation", SimpleNamespace(names={1: "a", 2: "b", 3: "never seen"}))
    assert strategy.combine(state, met).feasible is None
    strategy.federation = None
    # one who comes later has measured none of the models before
    newcomer = answer("c", [0, 0], mass=0.0, margin=-1.0)
    assert strategy.combine(known, [*met, newcomer]).feasible is None


def test_a_round_in_which_nobody_answers_changes_next_to_nothing() -> None:
    strategies: list[LocalSolveStrategy] = [CuttingPlane(CUTS), Consensus()]
    for strategy in strategies:
        rows = clients(0)
        state = strategy.init(np.zeros(40))
        assert not strategy.weights(strategy.combine(state, [])).any()
        for _ in range(5):
            everybody = [answered(strategy, state, name, Z) for name, Z in rows.items()]
            state = strategy.combine(state, everybody)
        before = strategy.weights(state)
        after = strategy.weights(strategy.combine(state, []))
        np.testing.assert_allclose(after, before, rtol=1e-12)


def test_a_client_whose_data_have_changed_is_forgotten() -> None:
    rows = clients(0)
    changed = rows | {"c2": clients(1)["c2"]}
    cases: list[tuple[Any, float, int]] = [
        (CuttingPlane(CUTS), 1e-6, 15),
        (Consensus(), 0.01, 120),
    ]
    for strategy, within, most in cases:
        state = strategy.init(np.zeros(40))
        for _ in range(most // 3):
            state = strategy.combine(state, [answered(strategy, state, n, Z) for n, Z in rows.items()])
        state = strategy.forget(state, "c2")
        if isinstance(state, CutState):
            assert state.feasible is None
            assert not any(cut.owner == state.places["c2"] for cut in state.cuts)
            np.testing.assert_allclose(sum(cut.weight * cut.normal for cut in state.cuts), state.weights)
        for _ in range(most):
            state = strategy.combine(state, [answered(strategy, state, n, Z) for n, Z in changed.items()])
        reference = max_margin(np.vstack(list(changed.values())))
        assert reference is not None
        assert angle(strategy.weights(state), reference.weights) < within


def test_cuts_that_one_client_gave_alone_leave_nothing_when_it_is_forgotten() -> None:
    strategy = CuttingPlane()
    state = strategy.combine(strategy.init(np.zeros(2)), [answer("a", [1.0, 0.0])])
    forgotten = strategy.forget(state, "a")
    np.testing.assert_array_equal(forgotten.weights, [0, 0])
    assert (forgotten.cuts, strategy.dual_mass(forgotten)) == ((), 0)
    assert strategy.forget(state, "stranger").cuts == state.cuts
