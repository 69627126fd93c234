import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from numpy.typing import NDArray

from client.app import app as client_app
from common.messages import pack_answer
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from strategies import LocalGD
from strategies.local_gd import AverageState, mean_local_model
from tests.problems import Shard, answer, grid_of, record, run

ONE_STEP = SolverSettings(local_steps=1, learning_rate=1.0)


def two_clients() -> list[Shard]:
    """z = (1, 0) at the first client; z = (0, 1) twice at the second, once under each label."""
    return [
        Shard(np.array([[1.0, 0.0]]), np.array([1.0])),
        Shard(np.array([[0.0, 1.0], [0.0, -1.0]]), np.array([1.0, -1.0])),
    ]


def test_three_rounds_by_hand(tmp_path: Path) -> None:
    # K = 1, η = 1. Each client moves along its own axis by −ℓ' = 1/(1 + eᵘ), whatever its number of examples
    # (mean loss), and the server halves it: u ← u + ½/(1 + eᵘ) on both axes.
    #   u₁ = ½ · ½ = 0.25;  u₂ = 0.25 + ½/(1 + e^0.25) = 0.25 + ½ · 0.437823499114202
    #   u₃ = u₂ + ½/(1 + e^0.468911749557101) = u₂ + ½ · 0.384873850215182
    trace = run(LocalGD(ONE_STEP), grid_of(tmp_path, two_clients()), 3, np.zeros(2))
    expected = [0.0, 0.25, 0.468911749557101, 0.661348674664692]
    np.testing.assert_allclose(trace.models, [[u, u] for u in expected], rtol=1e-14)


def test_two_local_steps_by_hand(tmp_path: Path) -> None:
    # K = 2: a client moves by ½ + 1/(1 + e^½) = 0.877540668798145, the server halves it
    settings = SolverSettings(local_steps=2, learning_rate=1.0)
    trace = run(LocalGD(settings), grid_of(tmp_path, two_clients()), 1, np.zeros(2))
    np.testing.assert_allclose(trace.models[1], [0.438770334399073, 0.438770334399073], rtol=1e-14)


def test_another_start_by_hand(tmp_path: Path) -> None:
    # from (ln 3, −ln 3): 1/(1 + 3) = ¼ and 1/(1 + ⅓) = ¾
    start = np.array([np.log(3), -np.log(3)])
    trace = run(LocalGD(ONE_STEP), grid_of(tmp_path, two_clients()), 1, start)
    np.testing.assert_allclose(trace.models[1] - start, [0.125, 0.375], rtol=1e-14)


def test_projections_by_hand(tmp_path: Path) -> None:
    # onto w₁ ≥ 1 and onto w₂ ≥ 1: each coordinate goes half the way to 1
    trace = run(
        LocalGD(SolverSettings(solver="projection")), grid_of(tmp_path, two_clients()), 3, np.zeros(2)
    )
    np.testing.assert_allclose(trace.models, [[u, u] for u in (0.0, 0.5, 0.75, 0.875)], rtol=1e-14)


def test_clients_weigh_the_same_whatever_they_hold() -> None:
    small = answer("a", [1.0, 0.0])
    large = answer("b", [0.0, 3.0])
    assert large.measures.count == 3
    mean, mass = mean_local_model(np.array([2.0, 0.0]), 5.0, [small, large])
    np.testing.assert_array_equal(mean, [2.5, 1.5])
    assert mass == 6.0


def test_the_combination_changes_no_state() -> None:
    strategy = LocalGD()
    state = strategy.init(np.array([1.0, 2.0]))
    after = strategy.combine(state, [answer("a", [2.0, 0.0], 3.0), answer("b", [0.0, 2.0], 2.0)])
    np.testing.assert_array_equal(after.weights, [2.0, 3.0])
    np.testing.assert_array_equal(state.weights, [1.0, 2.0])
    assert strategy.weights(after) is after.weights
    [centre] = strategy.centres(after, "a")
    assert centre is after.weights
    assert strategy.dual_mass(after) == 0.0, "from another start than zero the model is no combination"


def test_from_zero_the_model_is_a_combination_of_examples() -> None:
    strategy = LocalGD()
    state = strategy.init(np.zeros(2))
    for expected in (2.5, 5.0):
        state = strategy.combine(state, [answer("a", [2.0, 0.0], 3.0), answer("b", [0.0, 2.0], 2.0)])
        assert strategy.dual_mass(state) == expected


def test_the_model_lies_in_the_hull_of_the_local_models() -> None:
    displacements: NDArray[np.float64] = np.random.default_rng(0).standard_normal((5, 3))
    start = np.array([1.0, -1.0, 0.5])
    answers = [answer(f"c{k}", row.tolist()) for k, row in enumerate(displacements)]
    after = LocalGD().combine(AverageState(start), answers)
    np.testing.assert_allclose(after.weights, (start + displacements).mean(axis=0), rtol=1e-14)


def test_drop_in(tmp_path: Path) -> None:
    # as the README shows it: no handshake, default settings, files with labels −1 and 1
    rng = np.random.default_rng(0)
    shards = [
        Shard(rng.standard_normal((n, 4)) + 2 * y[:, None], y)
        for n, y in (
            (3, np.array([1.0, 1, -1])),
            (5, np.array([1.0, -1, 1, -1, -1])),
            (2, np.array([-1.0, -1])),
        )
    ]
    result = LocalGD().start(
        grid=grid_of(tmp_path, shards),
        initial_arrays=ArrayRecord({"weights": Array(np.zeros(4))}),
        num_rounds=5,
    )
    found = result.arrays["weights"].numpy()
    w = np.zeros(4)
    for _ in range(5):  # K = 100 steps of 1/(βᵢ K), each client with its own smoothness
        models = []
        for shard in shards:
            Z, local = shard.Z, w.copy()
            rate = 4 * len(Z) / np.linalg.norm(Z, 2) ** 2 / 100
            for _ in range(100):
                local += rate * (Z / (1 + np.exp(Z @ local))[:, None]).mean(axis=0)
            models.append(local)
        w = np.mean(models, axis=0)
    np.testing.assert_allclose(found, w, rtol=1e-12)
    losses = [float(result.train_metrics_clientapp[r]["loss"]) for r in range(1, 6)]  # type: ignore[arg-type]
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert result.evaluate_metrics_clientapp[5]["num-examples"] == 10


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_replies_does_not_matter(order: tuple[int, ...]) -> None:
    # 0.1 + 0.2 + 0.3 depends on the order in its last bit; sorted by name it does not
    grid = InProcessGrid(client_app, [{}, {}, {}], {})
    strategy = LocalGD()
    messages = list(strategy.configure_train(1, record(np.zeros(1)), ConfigRecord(), grid))
    replies = [
        Message(pack_answer(replace(answer(name, [value]), number=1)), reply_to=message)
        for message, (name, value) in zip(messages, (("a", 0.1), ("b", 0.2), ("c", 0.3)), strict=True)
    ]
    arrays, _ = strategy.aggregate_train(1, [replies[k] for k in order])
    assert arrays is not None
    assert arrays["weights"].numpy()[0] == (0.1 + 0.2 + 0.3) / 3
