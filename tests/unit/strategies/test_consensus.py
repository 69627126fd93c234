from pathlib import Path

import numpy as np
import pytest

from common.geometry import angle
from common.reference import max_margin
from strategies import Consensus
from strategies.consensus import ConsensusState
from tests.problems import Shard, answer, deal, grid_of, run, signed_rows


def two_clients() -> list[Shard]:
    """z = (1, 0) at the first client, z = (0, 1) at the second."""
    return [Shard(np.array([[1.0, 0.0]]), np.array([1.0])), Shard(np.array([[0.0, -1.0]]), np.array([-1.0]))]


def test_three_rounds_by_hand(tmp_path: Path) -> None:
    # The two axes mirror each other; here is the first client, (own axis, other axis).
    #   1: w = (1, 0), relaxed (8/5, 0), z = (8/5)/3 = 8/15, u = (16/15, −8/15)
    #   2: from (−8/15, 16/15) to (1, 16/15), relaxed (32/25, 104/75),
    #      z = (32/25 + 16/15 + 104/75 − 8/15)/3 = 16/15, u = (32/25, −16/75);
    #      ‖w − z‖ is 1/15, ‖z − z'‖ is 8√2/15, more than ten times that: ρ = ½, u = (64/25, −32/75)
    #   3: from (16/15 − 64/25, 112/75) to (1, 112/75), relaxed (24/25, 656/375),
    #      z = (24/25 + 64/25 + 656/375 − 32/75)/4 = 454/375
    trace = run(Consensus(), grid_of(tmp_path, two_clients()), 3, np.zeros(2))
    np.testing.assert_allclose(
        trace.models, [[z, z] for z in (0, 8 / 15, 16 / 15, 454 / 375)], rtol=1e-13, atol=0
    )


def test_multipliers_by_hand() -> None:
    strategy = Consensus()
    state = strategy.combine(strategy.init(np.zeros(2)), [answer("a", [1, 0]), answer("b", [0, 1])])
    assert state.penalty == 1
    np.testing.assert_allclose(state.multipliers["a"], [16 / 15, -8 / 15], rtol=1e-14)
    np.testing.assert_allclose(state.multipliers["b"], [-8 / 15, 16 / 15], rtol=1e-14)
    np.testing.assert_allclose(strategy.centres(state, "a"), [[-8 / 15, 16 / 15]], rtol=1e-14)


def test_everybody_starts_at_the_initial_model() -> None:
    strategy = Consensus()
    state = strategy.init(np.array([1.0, 2.0]))
    [centre] = strategy.centres(state, "a")
    assert centre is state.weights


@pytest.mark.parametrize(
    ("weights", "moves", "penalty"),
    [
        # at z = 0 the two pull apart: z stays, the local models disagree, the penalty rises
        ([0.0, 0.0], ([1.0, 0.0], [-1.0, 0.0]), 6.0),
        # both go the same way, to 14, where z goes too: the penalty falls
        ([10.0, 0.0], ([4.0, 0.0], [4.0, 0.0]), 1.5),
        # from (1, 0) to (0, 1) and (1, 0): both residuals are alike
        ([1.0, 0.0], ([-1.0, 1.0], [0.0, 0.0]), 3.0),
    ],
)
def test_the_penalty_balances_the_residuals_and_rescales_the_multipliers(
    weights: list[float], moves: tuple[list[float], list[float]], penalty: float
) -> None:
    u = {"a": np.array([0.2, 0.1]), "b": np.array([-0.2, -0.1])}
    state = ConsensusState(np.array(weights), u, 3.0)
    # the moves are those of the local models from z; a displacement starts at z − u
    answers = [answer(name, list(np.add(move, u[name]))) for name, move in zip("ab", moves, strict=True)]
    after = Consensus().combine(state, answers)
    assert after.penalty == penalty
    for name, move in zip("ab", moves, strict=True):
        relaxed = state.weights + 1.6 * np.array(move)
        unscaled = 3.0 * (u[name] + relaxed - after.weights)  # ρ u is what does not depend on ρ
        np.testing.assert_allclose(after.penalty * after.multipliers[name], unscaled, rtol=1e-13, atol=1e-14)


def test_the_combination_changes_no_state() -> None:
    state = ConsensusState(np.array([1.0, 2.0]), {"a": np.array([0.5, 0.5])}, 1.0)
    Consensus().combine(state, [answer("a", [1.0, 1.0])])
    np.testing.assert_array_equal(state.weights, [1, 2])
    np.testing.assert_array_equal(state.multipliers["a"], [0.5, 0.5])
    assert Consensus().dual_mass(state) == 0


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_it_converges_to_the_max_margin_model_from_anywhere(start: float, tmp_path: Path) -> None:
    Z = signed_rows(np.random.default_rng(0), 12, 30, 0.3)
    reference = max_margin(Z)
    assert reference is not None
    trace = run(Consensus(), grid_of(tmp_path, deal(Z, 3)), 200, start * np.ones(30))
    angles = [angle(trace.models[r], reference.weights) for r in (1, 50, 100, 200)]
    assert angles[0] > 5
    assert angles[3] < 1e-3
    assert angles[2] < 0.5 * angles[1]
    np.testing.assert_allclose(
        trace.models[-1], reference.weights, rtol=0, atol=1e-4 * float(np.linalg.norm(reference.weights))
    )
