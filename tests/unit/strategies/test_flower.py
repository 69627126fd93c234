import gc
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.common.logger import FLOWER_LOGGER
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Bulyan, FedAdam, FedAvg, FedAvgM, FedMedian, FedProx, FedTrimmedAvg, Krum
from flwr.serverapp.strategy import QFedAvg as FlowerQFedAvg

from common.config import SOLVERS, Config
from common.errors import RunError, UserError
from common.flower_options import BUILT_IN, PREFIX, parse_options
from common.reference import max_margin
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from server.handshake import handshake
from server.lines import Row
from server.monitor import Monitor
from strategies import BuiltIn, LocalGD, ModifiedLocalGD
from strategies.flower_by_name import by_name
from tests.problems import Shard, deal, grid_of, record, rows_of, run, signed_rows

START = np.array([1.0, -1.0])


def local(name: str, displacement: list[float], count: int, loss: float = 0.5) -> Answer:
    part = Part(np.array(displacement), 1.0)
    return Answer(name, (LocalSolution((part,), 1, 1),), Measures(loss, 0.0, 0, count))


ANSWERS = [local("a", [1.0, 0.0], 1), local("b", [0.0, 4.0], 3), local("c", [2.0, 1.0], 4, loss=2.0)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # weighted by 1, 3 and 4 of 8 examples
        (FedAvg(), [(1 + 8) / 8, (12 + 4) / 8]),
        (FedMedian(), [1.0, 1.0]),
        (FedTrimmedAvg(beta=0.34), [1.0, 1.0]),
        # the nearest other of each: a-c at 2, b-c at 13, c-a at 2; the first of the best is a
        (Krum(), [1.0, 0.0]),
        (Bulyan(), [1.0, 5 / 3]),
        # q = 0 is the uniform mean; else Δ = L·(−d) F^q and h = q F^(q−1) ‖L d‖² + L F^q, here with L = 2
        (FlowerQFedAvg(client_learning_rate=0.5, q=0.0), [1.0, 5 / 3]),
        (
            FlowerQFedAvg(client_learning_rate=0.5, q=1.0),
            [(0.5 * 1 + 2 * 2) * 2 / (4 * (1 + 16 + 5) + 2 * 3), (0.5 * 4 + 2 * 1) * 2 / (88 + 6)],
        ),
        # delta = (9/8, 2), m = δ/10, v = δ²/100, at step 1 (Flower counts from 2)
        (
            FedAdam(eta=0.5, tau=1.0),
            [0.5 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2) * 0.1 * d / (0.1 * d + 1.0) for d in (9 / 8, 2.0)],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, FedAvg) else "",
)
def test_one_round_by_hand(strategy: FedAvg, expected: list[float]) -> None:
    built_in = BuiltIn(strategy)
    state = built_in.init(START)
    after = built_in.combine(state, ANSWERS)
    np.testing.assert_allclose(built_in.weights(after) - START, expected, rtol=1e-9)
    np.testing.assert_array_equal(state.weights, START)


def test_what_flower_remembers_is_part_of_the_state() -> None:
    # momentum ½: the second update is the first one's half and its own
    strategy = BuiltIn(FedAvgM(server_momentum=0.5))
    alone = [local("a", [1.0, 2.0], 5)]
    first = strategy.combine(strategy.init(START), alone)
    second = strategy.combine(first, alone)
    np.testing.assert_allclose(first.weights - START, [1.0, 2.0], rtol=1e-14)
    np.testing.assert_allclose(second.weights - START, [2.5, 5.0], rtol=1e-14)
    again = strategy.combine(first, alone)  # a state can be gone back to
    np.testing.assert_array_equal(again.weights, second.weights)
    fresh = strategy.combine(strategy.init(START), alone)  # … and a run begun again
    np.testing.assert_array_equal(fresh.weights, first.weights)


def test_a_mean_from_zero_is_a_proof_of_its_own() -> None:
    strategy, zero = BuiltIn(FedAvg()), np.zeros(2)
    masses = [(1 * 1.0 + 3 * 1.0 + 4 * 1.0) / 8 * rounds for rounds in (1, 2)]
    first = strategy.combine(strategy.init(zero), ANSWERS)
    second = strategy.combine(first, ANSWERS)
    assert [strategy.dual_mass(state) for state in (first, second)] == masses
    elsewhere = strategy.combine(strategy.init(START), ANSWERS)
    assert strategy.dual_mass(elsewhere) == 0.0
    median = BuiltIn(FedMedian())
    assert median.dual_mass(median.combine(median.init(zero), ANSWERS)) == 0.0


def test_with_clients_of_the_same_size_fedavg_is_local_gd(tmp_path: Path) -> None:
    Z = signed_rows(np.random.default_rng(0), 12, 5, 0.1)
    settings = SolverSettings(local_steps=7, learning_rate="1/beta")
    traces = []
    for kind in (lambda s, f: BuiltIn(FedAvg(), s, f), lambda s, f: LocalGD(s, f)):
        grid = grid_of(tmp_path, deal(Z, 3))
        federation = handshake(grid, grid.get_node_ids())
        traces.append(run(kind(settings, federation), grid, 5, np.zeros(federation.scaling.dimension)))
    np.testing.assert_allclose(traces[0].models, traces[1].models, rtol=1e-12)


def test_fedprox_takes_its_proximal_steps_at_the_clients(tmp_path: Path) -> None:
    # one client: one round of FedProx is the proximal local solve, as in Modified Local-GD before its anchor
    Z = signed_rows(np.random.default_rng(1), 6, 4, 0.1)
    grid = grid_of(tmp_path, deal(Z, 1))
    federation = handshake(grid, grid.get_node_ids())
    start = np.zeros(federation.scaling.dimension)
    settings = SolverSettings(local_steps=50, learning_rate=1.0)
    decay = 0.3
    strategy = BuiltIn(FedProx(proximal_mu=decay), settings, federation)
    assert strategy.settings.solver == "proximal"
    assert strategy.settings.rates(federation.beta)[1] == pytest.approx(decay, rel=1e-14)
    rows, dual = rows_of(federation, deal(Z, 1)), np.zeros(6)
    for _ in range(50):
        dual = (1 - decay) * dual + 1 / (1 + np.exp(rows @ (rows.T @ dual))) / 6
    np.testing.assert_allclose(run(strategy, grid, 1, start).models[1], rows.T @ dual, rtol=1e-10)
    relative = SolverSettings(solver="proximal", local_steps=50, regularization=0.01)
    named = by_name("FedProx", {}, relative, federation)
    assert named.settings.regularization == pytest.approx(0.01, rel=1e-14)
    anchored = ModifiedLocalGD(settings=relative, federation=federation)
    found = run(named, grid, 1, start).models[1]
    np.testing.assert_allclose(found, 2 * run(anchored, grid, 1, start).models[1], rtol=1e-10)


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="FedProx needs a federation"):
        BuiltIn(FedProx(proximal_mu=0.1))
    with pytest.raises(UserError, match=r"fraction_train = 0.5 is not allowed; allowed: 1.0"):
        BuiltIn(FedAvg(fraction_train=0.5))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_model_that_flower_does_not_make_ends_the_run_by_name() -> None:
    few = BuiltIn(Bulyan(num_malicious_nodes=1))
    with pytest.raises(RunError, match="round 1: Flower's Bulyan made no model of 3 local ones"):
        few.combine(few.init(START), ANSWERS)
    strange = BuiltIn(FedAvg(weighted_by_key="votes"))
    with pytest.raises(RunError, match=r"round 1: Flower's FedAvg failed: .*votes"):
        strange.combine(strange.init(START), ANSWERS)
    far = BuiltIn(FedAvgM(server_learning_rate=1e308))
    with pytest.raises(RunError, match="round 1: the model of Flower's FedAvgM is not finite"):
        far.combine(far.init(START), [local("a", [1e300, 1.0], 1)])


def test_flower_logs_nothing_between_the_rows_and_later_what_it_likes() -> None:
    seen: list[str] = []

    class Listener(logging.Handler):
        def emit(self, log: logging.LogRecord) -> None:
            seen.append(log.getMessage())

    listener, strategy = Listener(), BuiltIn(FedAvg())
    FLOWER_LOGGER.addHandler(listener)
    try:
        strategy.combine(strategy.init(START), ANSWERS)
        assert seen == []
        FLOWER_LOGGER.info("after")
        assert seen == ["after"]
    finally:
        FLOWER_LOGGER.removeHandler(listener)


def test_flowers_garbage_collections_leave_everything_else_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: looked_at.append(len(gc.get_objects())))
    everything = len(gc.get_objects())
    strategy = BuiltIn(FlowerQFedAvg(client_learning_rate=0.5))
    strategy.combine(strategy.init(START), ANSWERS)
    assert len(looked_at) > len(ANSWERS)
    assert max(looked_at) < everything / 10
    assert gc.get_freeze_count() == 0


# by name


@pytest.fixture
def six(tmp_path: Path) -> Any:
    """A grid of six clients, their shards and the federation."""
    shards = deal(signed_rows(np.random.default_rng(2), 30, 40, 0.1), 6)
    grid = grid_of(tmp_path, shards)
    return grid, shards, handshake(grid, grid.get_node_ids())


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("solver", ["gradient", "projection", "proximal"])
def test_every_strategy_runs_and_its_certificate_holds(
    name: str, solver: str, six: tuple[Any, list[Shard], Any]
) -> None:
    grid, shards, federation = six
    reference, rows = max_margin(rows_of(federation, shards)), list[Row]()
    assert reference is not None
    strategy = by_name(name, {}, SolverSettings(solver=solver, learning_rate="1/beta"), federation)
    trace = run(
        strategy,
        grid,
        15,
        np.zeros(federation.scaling.dimension),
        Monitor(federation, rows.append, reference),
    )
    assert len(rows) == 15
    for row in rows:
        assert row["certified_angle_deg"] + reference.error_deg >= row["true_angle_deg"]
        assert row["margin_bound"] >= reference.margin * (1 - 1e-9)
    assert rows[-1]["true_angle_deg"] < (90 if "Krum" in name else 60)  # Krum follows one client
    assert len(trace.models) == 16


def test_the_names_and_options_are_flowers() -> None:
    strategies = {
        name
        for name in flower.__all__
        if isinstance(kind := getattr(flower, name), type) and issubclass(kind, FedAvg)
    }
    assert set(BUILT_IN) == {name for name in strategies if "Xgb" not in name}
    for name, options in BUILT_IN.items():
        required: dict[str, float] = {"client_learning_rate": 1.0} if name == "QFedAvg" else {}
        fresh = getattr(flower, name)(**required)
        for option, known in options.items():
            assert hasattr(fresh, option)
            if known.default is not None and option != "server_momentum":
                assert getattr(fresh, option) == known.default
                assert known.test(known.default)
    assert {PREFIX + name for name in BUILT_IN} <= set(SOLVERS)


def test_options_reach_flower(six: tuple[Any, list[Shard], Any]) -> None:
    federation = six[2]
    options = parse_options("FedAdam", "eta=0.5, beta_1 = 0, tau=1e-2")
    adam = by_name("FedAdam", options, SolverSettings(), federation).flower
    assert isinstance(adam, FedAdam)
    assert (adam.eta, adam.beta_1, adam.beta_2, adam.tau) == (0.5, 0.0, 0.99, 0.01)
    fair = by_name("QFedAvg", {}, SolverSettings(local_steps=10), federation).flower
    assert isinstance(fair, FlowerQFedAvg)
    assert fair.client_learning_rate == pytest.approx(1 / (10 * federation.beta))


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        (
            "Bulyan",
            "num_malicious_nodes=1",
            "needs 7 clients with num_malicious_nodes = 1, not 6",
        ),
        (
            "Krum",
            "num_malicious_nodes=2",
            "needs 7 clients with num_malicious_nodes = 2, not 6",
        ),
        (
            "MultiKrum",
            "num_nodes_to_select=7",
            "needs 7 clients with num_nodes_to_select = 7, not 6",
        ),
    ],
)
def test_too_few_clients(name: str, options: str, complaint: str, six: tuple[Any, list[Shard], Any]) -> None:
    with pytest.raises(UserError) as caught:
        by_name(name, parse_options(name, options), SolverSettings(), six[2])
    assert str(caught.value) == f"strategy = 'flower:{name}' {complaint}"


def test_the_clients_that_a_strategy_needs_are_enough(six: tuple[Any, list[Shard], Any]) -> None:
    for name, options in (
        ("Krum", "num_malicious_nodes=1"),
        ("MultiKrum", "num_nodes_to_select=6"),
        ("Bulyan", ""),
    ):
        strategy = by_name(name, parse_options(name, options), SolverSettings(), six[2])
        assert len(run(strategy, six[0], 1, np.zeros(six[2].scaling.dimension)).models) == 2


# the configuration


@pytest.mark.parametrize(
    ("strategy", "options", "complaint"),
    [
        ("flower:FedAvgg", "", "strategy = 'flower:FedAvgg' is not allowed; did you mean 'flower:FedAvg'?"),
        ("flower:fedavg", "", "strategy = 'flower:fedavg' is not allowed; did you mean 'flower:FedAvg'?"),
        (
            "flower:FedAdam",
            "etta=1",
            "strategy-options: 'etta' is not an option of flower:FedAdam; allowed: eta, beta_1, beta_2, tau",
        ),
        (
            "flower:FedAvg",
            "eta=1",
            "'eta' is not an option of flower:FedAvg; allowed: none",
        ),
        ("flower:FedAdam", "eta=-1", "strategy-options: eta = -1 is not allowed; allowed: a number > 0"),
        ("flower:FedAdam", "beta_1=1", "beta_1 = 1 is not allowed; allowed: a number >= 0 and < 1"),
        ("flower:FedAdam", "eta=nan", "eta = nan is not allowed; allowed: a number > 0"),
        ("flower:Krum", "num_malicious_nodes=0.5", "= 0.5 is not allowed; allowed: a whole number >= 0"),
        ("flower:FedAdam", "eta", "strategy-options takes NAME=NUMBER, with commas between them, not 'eta'"),
        ("flower:FedAdam", "eta=1, eta=2", "strategy-options: 'eta' is given twice"),
        ("local-gd", "eta=1", "strategy-options goes with flower:NAME, not with strategy = 'local-gd'"),
    ],
)
def test_a_bad_name_or_option(strategy: str, options: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        Config.of({"strategy": strategy, "strategy-options": options})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_solvers_by_name() -> None:
    assert Config.of({"strategy": "flower:FedYogi"}).solver == "gradient"
    assert Config.of({"strategy": "flower:FedProx"}).solver == "proximal"
    with pytest.raises(UserError, match="solver = 'gradient' does not go with strategy = 'flower:FedProx'"):
        Config.of({"strategy": "flower:FedProx", "solver": "gradient"})


def test_as_a_library(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, deal(signed_rows(np.random.default_rng(3), 8, 3, 0.2), 2))
    result = BuiltIn(FedMedian()).start(grid, record(np.zeros(3)), num_rounds=3)
    assert result.evaluate_metrics_clientapp[3]["num-examples"] == 8
