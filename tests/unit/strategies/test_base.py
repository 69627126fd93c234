from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from client import app as client_module
from client.app import app as client_app
from client.memory import Kept, problem_bytes
from common.errors import NotSeparable, RunError, UserError
from common.federation import Federation
from common.messages import TRAIN
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from strategies import Callback, Costs, LocalGD, LocalSolveStrategy, ModifiedLocalGD, Turnout
from tests.problems import Shard, Trace, deal, grid_of, record, run, signed_rows

SETTINGS = SolverSettings(local_steps=5, learning_rate="1/beta")


@pytest.fixture
def shards() -> list[Shard]:
    return deal(signed_rows(np.random.default_rng(0), 14, 6, 0.1), 3)


@pytest.fixture
def grid(tmp_path: Path, shards: list[Shard]) -> InProcessGrid:
    return grid_of(tmp_path, shards)


def agreed(grid: InProcessGrid) -> Federation:
    return handshake(grid, grid.get_node_ids(), SETTINGS, intercept=False, scale="max-norm")


class SpoilingGrid(InProcessGrid):
    """A grid that changes the replies of a round on their way, and counts what is sent."""

    change: Callable[[Message], Message | None]
    sent: list[str]

    @classmethod
    def around(cls, grid: InProcessGrid, change: Callable[[Message], Message | None]) -> "SpoilingGrid":
        spoiling = cls(client_app, [], {})
        spoiling._contexts = grid._contexts
        spoiling.change = change
        spoiling.sent = []
        return spoiling

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        messages = list(messages)
        self.sent += [message.metadata.message_type for message in messages]
        for reply in super().exchange(messages, timeout):
            if (changed := self.change(reply)) is not None:
                yield changed


def at(
    node: int, number: int, change: Callable[[Message], Message | None]
) -> Callable[[Message], Message | None]:
    """Change the reply of one node to its work in one round."""

    def apply(reply: Message) -> Message | None:
        here = (reply.metadata.src_node_id, reply.metadata.group_id) == (node, str(number))
        return change(reply) if here and reply.metadata.message_type == TRAIN else reply

    return apply


def spoil(record_name: str, key: str, value: Any) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        record: Any = reply.content[record_name]
        record[key] = value
        return reply

    return change


def fail(code: int, reason: str) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        spoiled = Message(RecordDict(), 1, TRAIN)
        spoiled.metadata.__dict__.update(reply.metadata.__dict__)
        return _with_error(spoiled, Error(code, reason))

    return change


def _with_error(message: Message, error: Error) -> Message:
    message.__dict__.update(_content=None, _error=error)
    return message


# what a run is made of


@pytest.mark.parametrize("strategy", [LocalGD, ModifiedLocalGD])
def test_flowers_own_loop_gives_the_same_weights(
    strategy: type[LocalSolveStrategy], grid: InProcessGrid
) -> None:
    ours = strategy().start(grid, record(np.zeros(6)), 4)
    theirs = Strategy.start(strategy(), grid, record(np.zeros(6)), 4)
    np.testing.assert_array_equal(theirs.arrays["weights"].numpy(), ours.arrays["weights"].numpy())
    for number in range(1, 5):
        assert dict(theirs.train_metrics_clientapp[number]) == dict(ours.train_metrics_clientapp[number])
    assert dict(theirs.evaluate_metrics_clientapp[4]) == dict(ours.evaluate_metrics_clientapp[4])


@pytest.mark.parametrize("loop", [LocalSolveStrategy.start, Strategy.start])
def test_a_strategy_starts_afresh_each_time(loop: Callable, grid: InProcessGrid) -> None:
    strategy = ModifiedLocalGD()
    first, second = (loop(strategy, grid, record(np.full(6, 0.5)), 3) for _ in range(2))
    np.testing.assert_array_equal(second.arrays["weights"].numpy(), first.arrays["weights"].numpy())


def test_each_round_measures_the_model_before_it(grid: InProcessGrid, shards: list[Shard]) -> None:
    trace = run(LocalGD(SETTINGS), grid, 3, np.full(6, 0.1))
    assert len(trace.models) == 4
    assert len(trace.costs) == 3
    for model, answers in zip(trace.models, trace.answers, strict=True):
        assert [answer.client for answer in answers] == [
            "node 1",
            "node 2",
            "node 3",
        ]  # no handshake, no name
        for answer, shard in zip(answers, shards, strict=True):
            margins = shard.Z @ model
            assert answer.measures.margin == pytest.approx(margins.min(), rel=1e-12)
            assert answer.measures.loss == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-12)
            assert answer.measures.errors == np.count_nonzero(margins <= 0)
    assert all(len(answer.solutions) == 1 for answers in trace.answers[:-1] for answer in answers)
    assert all(answer.solutions == () for answer in trace.answers[-1])


def test_costs_count_the_payload(grid: InProcessGrid) -> None:
    for costs in run(LocalGD(SETTINGS), grid, 2, np.zeros(6)).costs:
        assert costs.total >= costs.clients >= 0
        assert costs.sent > 3 * 6 * 8  # three models of six numbers
        assert costs.received > 3 * 6 * 8


def test_summary_of_a_round(grid: InProcessGrid, shards: list[Shard]) -> None:
    result = LocalGD(SETTINGS).start(grid, record(np.zeros(6)), 1)
    first = result.train_metrics_clientapp[1]
    assert first["loss"] == pytest.approx(np.log(2))
    assert (first["margin"], first["errors"], first["num-examples"]) == (0, 14, 14)
    last = result.evaluate_metrics_clientapp[1]
    w = result.arrays["weights"].numpy()
    # uniform over clients, not over examples
    assert last["loss"] == pytest.approx(np.mean([np.log1p(np.exp(-s.Z @ w)).mean() for s in shards]))
    assert last["margin"] == pytest.approx(min((s.Z @ w).min() for s in shards))


def test_a_central_evaluation_sees_every_model(grid: InProcessGrid) -> None:
    seen = []

    def evaluate(number: int, arrays) -> MetricRecord | None:
        seen.append((number, arrays["weights"].numpy()))
        return MetricRecord({"norm": float(np.linalg.norm(seen[-1][1]))}) if number else None

    trace = Trace()
    result = LocalGD(SETTINGS).start(grid, record(np.zeros(6)), 3, evaluate_fn=evaluate, callbacks=[trace])
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    np.testing.assert_array_equal([w for _, w in seen], trace.models)
    assert list(result.evaluate_metrics_serverapp) == [1, 2, 3]


def test_settings_of_one_run_replace_the_strategys_own(grid: InProcessGrid) -> None:
    changed = LocalGD(SETTINGS).start(
        grid, record(np.zeros(6)), 2, train_config=ConfigRecord({"local_steps": 7})
    )
    expected = LocalGD(SolverSettings(local_steps=7, learning_rate="1/beta")).start(
        grid, record(np.zeros(6)), 2
    )
    np.testing.assert_array_equal(changed.arrays["weights"].numpy(), expected.arrays["weights"].numpy())


def test_answers_pass_once_and_all_of_them(grid: InProcessGrid) -> None:
    class Twice(LocalGD):
        def combine(self, state, answers):
            list(answers)
            return super().combine(state, answers)

    class One(LocalGD):
        def combine(self, state, answers):
            return super().combine(state, [next(iter(answers))])

    with pytest.raises(TypeError, match="pass once"):
        Twice(SETTINGS).start(grid, record(np.zeros(6)), 1)
    trace = run(One(SETTINGS), grid, 1, np.zeros(6))
    assert [len(answers) for answers in trace.answers] == [3, 3], "the model is measured by all"
    moved = trace.answers[0][0].solutions[0].displacement
    np.testing.assert_array_equal(trace.models[1], moved)


# callbacks


def test_callbacks_are_called_in_order(grid: InProcessGrid) -> None:
    called: list[str] = []

    class Noting(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def measured(self, number: int, weights: np.ndarray, turnout: Turnout) -> None:
            called.append(f"{self.name} measured {number}")

        def combined(
            self, number: int, weights: np.ndarray, dual_mass: float, turnout: Turnout, costs: Costs
        ) -> None:
            called.append(f"{self.name} combined {number}")

    run(LocalGD(SETTINGS), grid, 2, np.zeros(6), Noting("a"), Noting("b"))
    assert called == [
        f"{name} {what}"
        for what in ("measured 0", "combined 1", "measured 1", "combined 2", "measured 2")
        for name in "ab"
    ]


def test_a_stop_ends_the_run_with_the_model_that_was_measured(grid: InProcessGrid) -> None:
    class StopAfter(Callback):
        def measured(self, number: int, weights: np.ndarray, turnout: Turnout) -> str | None:
            return "enough" if number == 2 else None

    strategy, trace = LocalGD(SETTINGS), Trace()
    result = strategy.start(grid, record(np.zeros(6)), 10, callbacks=[StopAfter(), trace])
    assert strategy.stopped_by == "enough"
    assert len(trace.models) == 3  # callbacks after the one that stopped were told too
    np.testing.assert_array_equal(result.arrays["weights"].numpy(), trace.models[2])
    strategy.start(grid, record(np.zeros(6)), 1)
    assert strategy.stopped_by == "rounds"


# answers that are refused


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (spoil("arrays", "displacement-0", Array(np.full(6, np.nan))), "displacement is not finite"),
        (spoil("arrays", "displacement-0", Array(np.full(6, np.inf))), "displacement is not finite"),
        (spoil("arrays", "displacement-0", Array(np.zeros(5))), r"shape \(5,\), not \(6,\)"),
        (spoil("metrics", "dual-mass", [-1.0]), "dual mass is -1.0"),
        (spoil("metrics", "loss", float("inf")), "loss inf"),
        (spoil("metrics", "dual-mass", 1.0), ""),
        (spoil("metrics", "dual-mass", [1.0, 2.0]), ""),
        (lambda reply: reply.content["metrics"].clear() or reply, ""),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_bad_answer_is_refused_by_name(
    change: Callable[[Message], Message], complaint: str, known: bool, grid: InProcessGrid
) -> None:
    federation = agreed(grid) if known else None
    who = "client-1" if known else "node 2"
    spoiled = SpoilingGrid.around(grid, at(2, 3, change))
    with pytest.raises(RunError, match=f"round 3: {who} answered badly: .*{complaint}"):
        LocalGD(SETTINGS, federation).start(spoiled, record(np.zeros(6)), 5)


def test_more_parts_than_were_asked_for_are_refused(grid: InProcessGrid) -> None:
    def divided(reply: Message) -> Message:
        arrays, metrics = reply.content.array_records["arrays"], reply.content.metric_records["metrics"]
        arrays["displacement-1"] = Array(np.zeros(6))
        metrics["dual-mass"] = [*metrics["dual-mass"], 0.0]  # type: ignore[misc]
        metrics["parts"] = [2]
        return reply

    spoiled = SpoilingGrid.around(grid, at(2, 2, divided))
    with pytest.raises(RunError, match="client-1 answered badly: a solution of 2 parts, where at most 1 "):
        LocalGD(SETTINGS, agreed(grid)).start(spoiled, record(np.zeros(6)), 3)
    LocalGD(replace(SETTINGS, cuts=2), agreed(grid)).start(
        spoiled, record(np.zeros(6)), 3
    )  # these were asked


def test_an_answer_without_a_solution_is_refused_by_name(grid: InProcessGrid) -> None:
    def empty(reply: Message) -> Message:
        for key in ("dual-mass", "active", "steps"):
            reply.content.metric_records["metrics"][key] = []
        reply.content.config_records["config"]["result"] = []
        return reply

    spoiled = SpoilingGrid.around(grid, at(2, 1, empty))
    with pytest.raises(RunError, match="client-1"):
        LocalGD(SETTINGS, agreed(grid)).start(spoiled, record(np.zeros(6)), 2)


def test_a_missing_answer_names_the_client(grid: InProcessGrid) -> None:
    federation = agreed(grid)
    spoiled = SpoilingGrid.around(grid, at(3, 2, lambda reply: None))
    with pytest.raises(RunError, match="round 2: client-2 did not answer within 3600 s"):
        LocalGD(SETTINGS, federation).start(spoiled, record(np.zeros(6)), 5)
    with pytest.raises(RunError, match="round 2: node 3 did not answer within 3600 s"):
        LocalGD(SETTINGS).start(spoiled, record(np.zeros(6)), 5)


def test_a_missing_answer_in_flowers_own_loop_is_noticed_too(grid: InProcessGrid) -> None:
    spoiled = SpoilingGrid.around(grid, at(3, 2, lambda reply: None))
    with pytest.raises(RunError, match="client-2"):
        Strategy.start(LocalGD(SETTINGS, agreed(grid)), spoiled, record(np.zeros(6)), 5)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (1000, UserError, "the disk is on fire"),  # the ClientApp puts its name before it
        (
            3,
            RunError,
            "round 1: client-1 failed: the disk is on fire; its own log says more; with on-missing = 'wait' "
            "that ends the run",
        ),
    ],
)
def test_a_failed_client_is_named(code: int, kind: type[Exception], text: str, grid: InProcessGrid) -> None:
    federation = agreed(grid)
    spoiled = SpoilingGrid.around(grid, at(2, 1, fail(code, "the disk is on fire")))
    with pytest.raises(kind) as caught:
        LocalGD(SETTINGS, federation).start(spoiled, record(np.zeros(6)), 2)
    assert str(caught.value) == text


def test_a_client_that_cannot_be_separated_is_named(tmp_path: Path) -> None:
    X = np.array([[1.0, 0.0], [1.0, 0.0]])
    shards = [Shard(X, np.array([1.0, 1.0])), Shard(X, np.array([1.0, -1.0]))]
    grid = grid_of(tmp_path, shards)
    for strategy in (LocalGD, ModifiedLocalGD):
        settings = SolverSettings(solver="projection")
        with pytest.raises(NotSeparable, match="the data of client-1 alone are not linearly separable"):
            strategy(settings=settings).start(grid, record(np.zeros(2)), 2)
        # … while gradient steps go on
        strategy(settings=SETTINGS).start(grid, record(np.zeros(2)), 2)


# clients that come back


class Restart(Callback):
    """Forget all that the clients keep, in memory and in their state, after a round."""

    def __init__(self, grid: InProcessGrid, number: int, nodes: Sequence[int]) -> None:
        self.grid, self.number, self.nodes = grid, number, nodes

    def combined(
        self, number: int, weights: np.ndarray, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        if number == self.number:
            client_module._problems = Kept(2**30, problem_bytes)
            for node in self.nodes:
                self.grid._contexts[node].state = RecordDict()


@pytest.mark.parametrize("solver", ["gradient", "projection"])
@pytest.mark.parametrize("nodes", [(2,), (1, 3), (1, 2, 3)])
def test_a_client_that_lost_its_preparation_is_prepared_again(
    solver: str, nodes: tuple[int, ...], grid: InProcessGrid
) -> None:
    settings = SolverSettings(solver=solver, local_steps=20, learning_rate="1/beta")
    federation = agreed(grid)
    expected = run(LocalGD(settings, federation), grid, 5, np.zeros(6)).models
    counting = SpoilingGrid.around(grid, lambda reply: reply)
    found = run(LocalGD(settings, federation), counting, 5, np.zeros(6), Restart(grid, 2, nodes)).models
    assert counting.sent.count("query.prepare") == len(nodes)
    np.testing.assert_array_equal(found, expected)


def test_a_client_that_cannot_be_prepared_again_is_named(grid: InProcessGrid) -> None:
    def lose(reply: Message) -> Message | None:
        return None if reply.metadata.message_type in ("query.prepare", "query.describe") else reply

    strategy, callbacks = LocalGD(SETTINGS, agreed(grid)), [Restart(grid, 2, (2,))]
    with pytest.raises(RunError, match="round 3: client-1 did not answer in time"):
        strategy.start(
            SpoilingGrid.around(grid, lose), record(np.zeros(6)), 5, callbacks=callbacks, timeout=0.3
        )
