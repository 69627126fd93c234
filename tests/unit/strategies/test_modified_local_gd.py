from pathlib import Path

import numpy as np
import pytest

from common.reference import max_margin
from common.solution import SolverSettings
from strategies import ModifiedLocalGD
from strategies.modified_local_gd import AnchoredState
from tests.problems import Shard, answer, deal, grid_of, run, signed_rows

PROJECTION = SolverSettings(solver="projection")


def two_clients() -> list[Shard]:
    """z = (1, 0) at the first client; z = (0, 1) twice at the second, once under each label."""
    return [
        Shard(np.array([[1.0, 0.0]]), np.array([1.0])),
        Shard(np.array([[0.0, 1.0], [0.0, -1.0]]), np.array([1.0, -1.0])),
    ]


def test_projections_from_zero_by_hand(tmp_path: Path) -> None:
    # onto w₁ ≥ 1 and w₂ ≥ 1, mean (1 + u)/2 on both axes, times α = ½, ⅔, ¾:
    # 0 → ¼ → ⅔ · ⅝ = 5/12 → ¾ · 17/24 = 17/32
    trace = run(ModifiedLocalGD(settings=PROJECTION), grid_of(tmp_path, two_clients()), 3, np.zeros(2))
    np.testing.assert_allclose(trace.models, [[u, u] for u in (0, 1 / 4, 5 / 12, 17 / 32)], rtol=1e-14)


def test_the_anchor_is_the_initial_model_by_hand(tmp_path: Path) -> None:
    # from (3, 0) the first client never moves: the second coordinate runs as before, the first stays
    trace = run(
        ModifiedLocalGD(settings=PROJECTION), grid_of(tmp_path, two_clients()), 3, np.array([3.0, 0.0])
    )
    np.testing.assert_allclose(trace.models, [[3, u] for u in (0, 1 / 4, 5 / 12, 17 / 32)], rtol=1e-14)


def test_another_anchor_by_hand(tmp_path: Path) -> None:
    # anchor (2, 2), from 0: means ½, 5/4, 3/2 on both axes (feasible from round 1 on)
    # ½ · 2 + ½ · ½ = 5/4;  ⅓ · 2 + ⅔ · 5/4 = 3/2;  ¼ · 2 + ¾ · 3/2 = 13/8
    strategy = ModifiedLocalGD(np.array([2.0, 2.0]), PROJECTION)
    trace = run(strategy, grid_of(tmp_path, two_clients()), 3, np.zeros(2))
    np.testing.assert_allclose(trace.models, [[u, u] for u in (0, 5 / 4, 3 / 2, 13 / 8)], rtol=1e-14)


def test_proximal_steps_by_hand(tmp_path: Path) -> None:
    # K = 2, η = 1, λ = 0.5 · β = 0.5: a = ½ · ½ + 1/(1 + e^(u + ½)), times ½ for the mean
    #   u = 0: a = 0.25 + 0.377540668798145, u₁ = ½ · ½ a
    settings = SolverSettings(
        solver="proximal", local_steps=2, learning_rate=1.0, regularization=0.5, beta=1.0
    )
    trace = run(ModifiedLocalGD(settings=settings), grid_of(tmp_path, two_clients()), 2, np.zeros(2))
    np.testing.assert_allclose(trace.models[1], [0.156885167199536, 0.156885167199536], rtol=1e-14)
    #   u = u₁: pull 0.460858956683753, margin 0.617744123883290, a = ½ · pull + 0.350294688934840,
    #   u₂ = ⅔ (u₁ + ½ a)
    np.testing.assert_allclose(trace.models[2], [0.298164833891930, 0.298164833891930], rtol=1e-14)


def test_the_weight_of_the_anchor_fades_like_one_over_the_round() -> None:
    strategy = ModifiedLocalGD()
    state = AnchoredState(np.zeros(1), np.array([12.0]), rounds=0)
    for rounds, expected in ((1, 6.0), (2, 4.0), (3, 3.0)):
        found = strategy.combine(
            AnchoredState(np.zeros(1), state.anchor, rounds - 1), [answer("a", [0.0]), answer("b", [0.0])]
        )
        assert found.weights[0] == pytest.approx(expected)
        assert found.rounds == rounds
        assert found.anchor is state.anchor


def test_the_combination_changes_no_state() -> None:
    strategy = ModifiedLocalGD()
    state = strategy.init(np.array([1.0, 2.0]))
    strategy.combine(state, [answer("a", [5.0, 5.0])])
    np.testing.assert_array_equal(state.weights, [1.0, 2.0])
    assert state.rounds == 0


def test_from_zero_the_dual_mass_is_shrunk_with_the_model() -> None:
    strategy = ModifiedLocalGD()
    state = strategy.init(np.zeros(1))
    answers = [answer("a", [6.0], 3.0), answer("b", [0.0], 1.0)]
    for weights, mass in ((1.5, 1.0), (3.0, 2.0)):  # ½ · (0 + 3) and ⅔ · (3/2 + 3), alike for the mass
        state = strategy.combine(state, answers)
        assert state.weights[0] == pytest.approx(weights)
        assert strategy.dual_mass(state) == pytest.approx(mass)
    elsewhere = strategy.init(np.ones(1))
    assert strategy.dual_mass(strategy.combine(elsewhere, answers)) == 0.0
    assert ModifiedLocalGD(np.ones(1)).init(np.zeros(1)).from_zero is False


def test_proximal_is_the_default() -> None:
    assert ModifiedLocalGD().settings.solver == "proximal"


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_the_limit_is_the_projection_of_the_anchor(start: float, tmp_path: Path) -> None:
    # from 0 it is the max-margin model itself, from elsewhere another point of the intersection
    from client.problem import Problem
    from client.solvers import project
    from common.losses import Logistic

    Z = signed_rows(np.random.default_rng(0), 12, 30, 0.3)
    reference = max_margin(Z)
    assert reference is not None
    anchor = start * np.ones(30)
    limit = anchor + project(Problem(Z, Logistic()), anchor).displacement
    assert np.allclose(limit, reference.weights) == (start == 0)
    trace = run(ModifiedLocalGD(settings=PROJECTION), grid_of(tmp_path, deal(Z, 3)), 300, anchor)
    errors = [float(np.linalg.norm(trace.models[r] - limit)) for r in (30, 100, 300)]
    assert errors[2] < 0.5 * errors[1] < 0.25 * errors[0]
    assert errors[2] < 0.03 * np.linalg.norm(limit)
