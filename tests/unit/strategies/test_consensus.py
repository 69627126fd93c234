from pathlib import Path

import numpy as np
import pytest

from common.geometry import angle
from common.reference import max_margin
from strategies import Consensus
from strategies.consensus import PENALTY, RELAXATION, ConsensusState
from tests.problems import Shard, answer, deal, grid_of, run, signed_rows


def two_clients() -> list[Shard]:
    """z = (1, 0) at the first client, z = (0, 1) at the second."""
    return [Shard(np.array([[1.0, 0.0]]), np.array([1.0])), Shard(np.array([[0.0, -1.0]]), np.array([-1.0]))]


def test_three_rounds_by_hand(tmp_path: Path) -> None:
    # The two axes mirror each other; here is the first client, (own axis, other axis), and M + 1/ρ = 17/6.
    #   1: w = (1, 0), relaxed (9/5, 0), z = (9/5)/(17/6) = 54/85, u = (99/85, −54/85)
    #   2: from (−9/17, 108/85) to (1, 108/85), relaxed (549/425, 756/425),
    #      z = (549/425 + 99/85 + 756/425 − 54/85)/(17/6) = 108/85, u = (504/425, −54/425)
    #   3: from (36/425, 594/425) to (1, 594/425), relaxed (333/425, 3186/2125),
    #      z = (333/425 + 504/425 + 3186/2125 − 54/425)/(17/6) = 42606/36125
    trace = run(Consensus(), grid_of(tmp_path, two_clients()), 3, np.zeros(2))
    np.testing.assert_allclose(
        trace.models, [[z, z] for z in (0, 54 / 85, 108 / 85, 42606 / 36125)], rtol=1e-13, atol=0
    )


def test_multipliers_by_hand() -> None:
    strategy = Consensus()
    state = strategy.combine(strategy.init(np.zeros(2)), [answer("a", [1, 0]), answer("b", [0, 1])])
    assert state.penalty == PENALTY
    np.testing.assert_allclose(state.multipliers["a"], [99 / 85, -54 / 85], rtol=1e-14)
    np.testing.assert_allclose(state.multipliers["b"], [-54 / 85, 99 / 85], rtol=1e-14)
    np.testing.assert_allclose(strategy.centres(state, "a"), [[-9 / 17, 108 / 85]], rtol=1e-14)


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
        relaxed = state.weights + RELAXATION * np.array(move)
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
