from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.active_set import Multipliers, least_distance_of_rows
from common.errors import NotSeparable
from common.geometry import angle
from common.reference import max_margin
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from strategies import Callback, Costs, CuttingPlane, Turnout, cutting_plane
from strategies.cuts import IDLE_ROUNDS, Cut
from strategies.cutting_plane import INWARD, MOST_OWNERS, RELEASED, CutState
from tests.problems import Shard, answer, federation_data, grid_of, run, signed_rows

Vector = NDArray[np.float64]


def two_clients() -> list[Shard]:
    """z = (1, 0) and (0, ½) at the first client, z = (1, −¼) at the second."""
    return [
        Shard(np.array([[1.0, 0.0], [0.0, -0.5]]), np.array([1.0, -1.0])),
        Shard(np.array([[1.0, -0.25]]), np.array([1.0])),
    ]


class States(Callback):
    """Keep the strategy's state and dual mass after every round."""

    def __init__(self, strategy: CuttingPlane) -> None:
        self.strategy = strategy
        self.states: list[CutState] = []
        self.masses: list[float] = []

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        self.states.append(self.strategy._now)
        self.masses.append(dual_mass)


def watched(directory: Path, shards: Sequence[Shard], rounds: int, cuts: int = 4) -> States:
    strategy = CuttingPlane(SolverSettings(solver="projection", cuts=cuts))
    states = States(strategy)
    run(strategy, grid_of(directory, shards), rounds, np.zeros(shards[0].X.shape[1]), states)
    return states


def normals(state: CutState) -> NDArray[np.float64]:
    return np.array([cut.normal for cut in state.cuts])


# by hand


def test_two_rounds_by_hand(tmp_path: Path) -> None:
    # 1: from 0 the first client goes to (1, 2) with a = (1, 4): the cut (1, 2)/5; the second has one example.
    #    Both cuts hold with equality at w = (13, 16)/9 with α = (385, 40)/81.
    # 2: from w the first goes up to w₂ = 2, which is example (0, ½); without its share (77, 154)/81, from
    #    (40, −10)/81, to (1, 2): a = (41, 344)/81. The second has a margin of 1 at w; without its share, from
    #    (77, 154)/81, its example again. w = (3/2, 2) = 19/4 (0, ½) + 3/2 (1, −¼), and that is exact.
    states = watched(tmp_path, two_clients(), 2)
    first, second = states.states
    np.testing.assert_allclose(first.weights, [13 / 9, 16 / 9], rtol=1e-13)
    np.testing.assert_allclose(normals(first), [[0.2, 0.4], [1, -0.25]], rtol=1e-13)
    np.testing.assert_allclose([cut.weight for cut in first.cuts], [385 / 81, 40 / 81], rtol=1e-13)
    assert first.feasible is None
    np.testing.assert_allclose(second.weights, [3 / 2, 2], rtol=1e-13)
    for owner, expected in (
        (0, [[0, 0.5], [41 / 385, 172 / 385], [0.2, 0.4]]),
        (1, [[1, -0.25]]),  # again and again, and kept once
    ):
        found = np.unique([cut.normal.round(12) for cut in second.cuts if cut.owner == owner], axis=0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert second.cuts[0].idle == 1
    assert sum(cut.weight for cut in second.cuts if cut.owner == 1) == pytest.approx(3 / 2)
    assert second.feasible is not None
    np.testing.assert_allclose(second.feasible, [13 / 8, 2], rtol=1e-13)  # w over its smallest margin, 8/9
    np.testing.assert_allclose(states.masses, [425 / 81, 25 / 4], rtol=1e-13)


def test_centres() -> None:
    # what each client's cuts carry: (1, 2) and (0, 3)
    cuts = (
        Cut(0, np.array([0.5, 1.0]), 2.0),
        Cut(1, np.array([0.0, 1.0]), 3.0),
        Cut(0, np.array([7.0, 7.0]), 0.0, 4),
    )
    state = CutState(np.array([1.0, 5.0]), cuts, clients=("a", "b", "c"))
    strategy = CuttingPlane()
    np.testing.assert_array_equal(strategy.centres(state, "a"), [[1, 5], [0, 3]])
    np.testing.assert_array_equal(strategy.centres(state, "b"), [[1, 5], [1, 2]])
    np.testing.assert_array_equal(strategy.centres(state, "c"), [[1, 5]])  # a client that carries nothing
    np.testing.assert_array_equal(strategy.centres(state, "new"), [[1, 5]])
    assert (INWARD, RELEASED) == (0.5, 0.25)
    known = replace(state, feasible=np.array([3.0, 7.0]))
    np.testing.assert_array_equal(strategy.centres(known, "a"), [[1, 5], [0, 3], [1.75, 5.5]])
    np.testing.assert_array_equal(strategy.centres(known, "b"), [[1, 5], [1, 2], [2, 5.25]])
    np.testing.assert_array_equal(strategy.centres(known, "c"), [[1, 5], [2, 6]])
    assert len(strategy.centres(strategy.init(np.zeros(2)), "a")) == 1


def test_clients_are_dealt_to_groups_in_the_order_of_their_names() -> None:
    strategy = CuttingPlane(groups=2)
    answers = [answer(name, list(row), mass=2.0) for name, row in zip("badc", np.eye(4), strict=True)]
    state = strategy.combine(strategy.init(np.zeros(4)), answers)
    assert state.clients == ("a", "b", "c", "d")
    # a and c: (0, 1, 0, 1)/4; b and d: (1, 0, 1, 0)/4; each holds with equality at eight times itself
    np.testing.assert_allclose(sorted(map(tuple, normals(state))), [[0, 0.25, 0, 0.25], [0.25, 0, 0.25, 0]])
    np.testing.assert_allclose(state.weights, [2, 2, 2, 2])
    for name, expected in (("a", [2, 0, 2, 0]), ("b", [0, 2, 0, 2]), ("c", [2, 0, 2, 0])):
        np.testing.assert_allclose(strategy.centres(state, name)[1], expected)
    # one who comes later goes on with the deal, and moves nobody
    state = strategy.combine(state, [answer("aa", [0, 0, 0, 0], mass=0.0)])
    assert state.clients == ("a", "b", "c", "d", "aa")
    assert [strategy.owner(state, name) for name in state.clients] == [0, 1, 0, 1, 0]


def test_without_a_word_about_groups_a_client_is_one_unless_they_are_very_many() -> None:
    many = CutState(np.zeros(1), clients=tuple(map(str, range(MOST_OWNERS + 2))))
    owners = [CuttingPlane().owner(many, name) for name in many.clients]
    assert owners == [*range(MOST_OWNERS), 0, 1]


@pytest.mark.parametrize("groups", [1, 3])
def test_groups_reach_the_exact_model_too(groups: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shards = [Shard(Z, np.ones(len(Z))) for Z in np.split(signed_rows(rng, 24, 30, 0.1), 8)]
    reference = max_margin(np.vstack([shard.Z for shard in shards]))
    assert reference is not None
    strategy = CuttingPlane(groups=groups)
    states = States(strategy)
    trace = run(strategy, grid_of(tmp_path, shards), 60, np.zeros(30), states)
    assert {cut.owner for state in states.states for cut in state.cuts} == set(range(groups))
    assert angle(trace.models[-1], reference.weights) < 0.5
    for state in states.states:
        assert (normals(state) @ reference.weights).min() >= 1 - 1e-12 * np.linalg.norm(reference.weights)


def test_the_model_keeps_its_shape() -> None:
    strategy, rows = CuttingPlane(), np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])

    def of(client: str, scale: float) -> Answer:
        solution = LocalSolution((Part(scale * rows, 1.0),), 1, 1)
        return Answer(client, (solution,), Measures(0.5, 0.5, 0, 3))

    state = strategy.combine(strategy.init(np.zeros((2, 3))), [of("a", 1.0)])
    state = strategy.combine(state, [of("a", 0.5), of("b", 0.8)])
    np.testing.assert_allclose(state.weights, rows / 3.5)
    assert [centre.shape for centre in strategy.centres(state, "a")] == [(2, 3)] * 3


def test_the_initial_model_is_only_the_first_centre() -> None:
    strategy = CuttingPlane()
    start = strategy.init(np.array([5.0, 5.0]))
    assert strategy.dual_mass(start) == 0
    np.testing.assert_array_equal(strategy.centres(start, "a"), [[5, 5]])
    after = strategy.combine(start, [answer("a", [2.0, 0.0], mass=2.0)])
    np.testing.assert_allclose(after.weights, [1.0, 0.0])


def test_a_start_that_everybody_accepts_is_left_for_zero(tmp_path: Path) -> None:
    # it gives no cut, and from where it is there would never be one
    strategy = CuttingPlane()
    state = strategy.combine(strategy.init(np.array([5.0, 5.0])), [answer("a", [0, 0], mass=0.0, margin=2.0)])
    np.testing.assert_array_equal(state.weights, [0, 0])
    assert state.cuts == ()
    assert state.feasible is not None
    np.testing.assert_array_equal(state.feasible, [2.5, 2.5])
    trace = run(CuttingPlane(), grid_of(tmp_path, two_clients()), 4, np.array([10.0, 10.0]))
    np.testing.assert_allclose(trace.models[-1], [3 / 2, 2], rtol=1e-12)


def test_a_round_without_cuts_keeps_the_model() -> None:
    strategy = CuttingPlane()
    before = strategy.combine(strategy.init(np.zeros(2)), [answer("a", [1.0, 0.0])])
    after = strategy.combine(before, [answer("a", [0, 0], mass=0.0, margin=1.0)])
    np.testing.assert_array_equal(after.weights, before.weights)
    assert after.cuts == before.cuts


def test_every_part_of_every_solution_is_a_cut() -> None:
    parts = tuple(Part(np.array(v), mass) for v, mass in (([2.0, 0.0], 2.0), ([0.0, 3.0], 1.0)))
    solutions = (LocalSolution(parts, 4, 1), LocalSolution((Part(np.zeros(2), 0.0),), 0, 1))
    given = Answer("a", solutions, Measures(0.5, 0.0, 1, 3))
    state = CuttingPlane().combine(CuttingPlane().init(np.zeros(2)), [given])
    np.testing.assert_array_equal(normals(state), [[1, 0], [0, 3]])
    np.testing.assert_allclose(state.weights, [1, 1 / 3])


def test_the_shortest_feasible_model_is_kept() -> None:
    strategy = CuttingPlane()
    state = CutState(np.array([4.0, 0.0]), feasible=np.array([3.0, 0.0]), clients=("a", "b"))
    for margins, expected in (((4.0, 2.0), 2.0), ((4.0, 1.0), 3.0), ((4.0, -1.0), 3.0)):
        answers = [answer(name, [0, 0], mass=0.0, margin=m) for name, m in zip("ab", margins, strict=True)]
        found = strategy.combine(state, answers).feasible
        assert found is not None
        np.testing.assert_array_equal(found, [expected, 0])


def test_the_combination_changes_no_state() -> None:
    strategy = CuttingPlane()
    before = strategy.combine(strategy.init(np.zeros(2)), [answer("a", [1.0, 0.0])])
    strategy.combine(before, [answer("a", [2.0, 2.0], mass=0.1)])
    np.testing.assert_array_equal(before.weights, [1, 0])
    assert before.clients == ("a",)
    assert [(cut.weight, cut.idle) for cut in before.cuts] == [(1.0, 0)]


# which cuts are kept


def test_a_cut_is_dropped_after_eight_idle_rounds() -> None:
    strategy = CuttingPlane()
    state = strategy.combine(strategy.init(np.zeros(3)), [answer("a", [2.0, 0.0, 0.0])])
    weak = state.cuts[0].normal
    state = strategy.combine(state, [answer("a", [1.0, 0.0, 0.0])])  # w₁ ≥ 1, more than w₁ ≥ ½
    for idle in range(1, IDLE_ROUNDS):
        assert [cut.idle for cut in state.cuts if cut.normal is weak] == [idle]
        state = strategy.combine(state, [answer("b", [0.0, 1.0, 0.1 * idle])])
    assert not any(cut.normal is weak for cut in state.cuts)
    assert any(cut.weight > 0 and cut.normal[0] == 1 for cut in state.cuts)  # what carries is kept


def test_a_cut_that_carries_again_is_young_again() -> None:
    strategy = CuttingPlane()
    cuts = (Cut(0, np.array([1.0, 0.0]), 0.0, IDLE_ROUNDS - 1),)
    state = strategy.combine(CutState(np.zeros(2), cuts, clients=("a",)), [answer("b", [0.0, 1.0])])
    assert [(cut.weight, cut.idle) for cut in state.cuts] == [(1.0, 0), (1.0, 0)]


# on random federations


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_cuts_hold_for_the_max_margin_model_and_bound_its_margin(seed: int, tmp_path: Path) -> None:
    shards = federation_data(np.random.default_rng(seed))
    reference = max_margin(np.vstack([shard.Z for shard in shards]))
    assert reference is not None
    states = watched(tmp_path, shards, 12, cuts=1 + seed % 8)
    length = float(np.linalg.norm(reference.weights))
    for state, mass in zip(states.states, states.masses, strict=True):
        P, weights = normals(state), np.array([cut.weight for cut in state.cuts])
        assert (P @ reference.weights).min() >= 1 - 1e-12 * length  # rows are no longer than 1
        assert (weights >= 0).all()
        assert mass == pytest.approx(weights.sum())
        np.testing.assert_allclose(
            P.T @ weights, state.weights, rtol=0, atol=1e-13 * max(1, float(weights.sum()))
        )
        assert np.linalg.norm(state.weights) / mass >= reference.margin - 1e-14
    final = states.states[-1].weights
    bound = float(np.linalg.norm(final)) / states.masses[-1]
    assert bound <= float(np.linalg.norm(states.states[0].weights)) / states.masses[0] + 1e-14


@pytest.mark.parametrize("spread", [0.0, 1e-15, 1e-13, 1e-11, 1e-9])
def test_near_duplicate_cuts_prove_nothing_that_is_not_so(spread: float) -> None:
    # the same few cuts over and over, as they come once a run has converged, with the noise of rounding
    strategy = CuttingPlane()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        P = rng.standard_normal((6, 8)) + 0.5
        reference = max_margin(P)
        assert reference is not None
        state = strategy.init(np.zeros(8))
        for _ in range(20):
            noisy = P * (1 + spread * rng.standard_normal(P.shape))
            mass = float(rng.uniform(0.5, 2))
            state = strategy.combine(
                state, [answer(f"c{k}", list(mass * row), mass) for k, row in enumerate(noisy)]
            )
            bound = float(np.linalg.norm(state.weights)) / strategy.dual_mass(state)
            assert bound >= reference.margin - (100 * spread + 1e-13) * float(np.linalg.norm(P))
            assert (P @ state.weights).min() >= 1 - 1e-6
        assert bound == pytest.approx(reference.margin, rel=1e-6)
        assert len(state.cuts) <= 6 * (IDLE_ROUNDS + 1)


def test_the_bound_is_that_of_the_dual_however_badly_it_was_solved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ‖w‖ itself would "prove" a margin of 1/‖w‖, which a model that is too long or too short gets wrong
    rng = np.random.default_rng(0)
    P = rng.standard_normal((6, 8)) + 0.5
    reference = max_margin(P)
    assert reference is not None

    def badly(rows: Vector, short: Vector, active: list[int]) -> Multipliers:
        found = least_distance_of_rows(rows, short, [])
        off = found.values * rng.uniform(0, 3, len(found.values)) + rng.uniform(0, 3, len(found.values))
        return Multipliers(off, found.active, found.changes, "inexact")

    monkeypatch.setattr(cutting_plane, "least_distance_of_rows", badly)
    strategy, wrong = CuttingPlane(), 0
    state = strategy.init(np.zeros(8))
    for _ in range(20):
        state = strategy.combine(state, [answer(f"c{k}", list(row)) for k, row in enumerate(P)])
        assert np.linalg.norm(state.weights) / strategy.dual_mass(state) >= reference.margin - 1e-14
        wrong += bool(1 / np.linalg.norm(state.weights) < reference.margin)
    assert wrong


def test_data_that_are_separable_only_apart_end_the_run(tmp_path: Path) -> None:
    # z = (1, 0) and (−1, 1); z = (0, −1): any two of them can be separated, the three cannot
    shards = [
        Shard(np.array([[1.0, 0.0], [-1.0, 1.0]]), np.array([1.0, 1.0])),
        Shard(np.array([[0.0, -1.0]]), np.array([1.0])),
    ]
    with pytest.raises(NotSeparable, match="data together are not linearly separable"):
        run(CuttingPlane(), grid_of(tmp_path, shards), 10, np.zeros(2))
