"""Clients that do not answer, that answer badly, and that come back."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Error, Message, RecordDict

from client import app as client_module
from client import dataset
from client.app import app as client_app
from client.dataset import node_config
from client.memory import Kept, problem_bytes
from common.errors import NotSeparable, RunError, UserError
from common.federation import Federation
from common.geometry import angle
from common.messages import TRAIN, USER_ERROR
from common.reference import centralized
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from server.monitor import Monitor
from strategies import Consensus, CuttingPlane, LocalGD, LocalSolveStrategy, ModifiedLocalGD, Policy
from strategies.flower_by_name import by_name
from tests.problems import Shard, Trace, deal, parts_of, record, rows_of, signed_rows

SETTINGS = SolverSettings(local_steps=5, learning_rate="1/beta")
PROJECTION = SolverSettings(solver="projection")
SKIP, REUSE = Policy("skip", min_clients=1), Policy("reuse", min_clients=1)
Fate = Callable[[Message, Message], Message | None]
"""What becomes of a reply, given the message that it answers."""


class Faulty(InProcessGrid):
    """Three clients, ``client-0`` to ``client-2``, whose replies have a fate."""

    def __init__(self, folder: Path, shards: list[Shard]) -> None:
        self.paths = [folder / f"client-{k}.npz" for k in range(len(shards))]
        for k, shard in enumerate(shards):
            self.write(k, shard)
        super().__init__(client_app, [node_config(path, "label", None) for path in self.paths], {})
        self.fate: Fate = lambda message, reply: reply
        self.asked: list[tuple[str, int, str]] = []  # kind, node, round
        self.hidden: set[int] = set()

    def write(self, k: int, shard: Shard) -> None:
        np.savez(self.paths[k], X=shard.X, y=shard.y)

    def get_node_ids(self) -> list[int]:
        return [node for node in super().get_node_ids() if node not in self.hidden]

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        for message in messages:
            told = message.metadata
            self.asked.append((told.message_type, told.dst_node_id, told.group_id))
            if (reply := self.fate(message, self._answer(message))) is not None:
                yield reply

    def move(self, old: int, new: int) -> None:
        """Let a client come back as another node, with nothing left of what it knew."""
        config = self._contexts.pop(old).node_config
        self._contexts[new] = type(self._contexts[1])(self.run.run_id, new, config, RecordDict(), {})

    def restart(self, node: int) -> None:
        """Let a client forget all that it keeps, in memory and in its state."""
        client_module._problems = Kept(2**30, problem_bytes)
        dataset._loaded = Kept(2**30, dataset._bytes)
        self._contexts[node].state = RecordDict()


@pytest.fixture
def shards() -> list[Shard]:
    return deal(signed_rows(np.random.default_rng(0), 14, 6, 0.1), 3)


@pytest.fixture
def grid(tmp_path: Path, shards: list[Shard]) -> Faulty:
    return Faulty(tmp_path, shards)


def agreed(grid: Faulty, settings: SolverSettings = SETTINGS) -> Federation:
    return handshake(grid, grid.get_node_ids(), settings, intercept=False, scale="max-norm")


def lost(client: int, *rounds: int) -> Fate:
    """The replies of one client in some rounds."""

    def fate(message: Message, reply: Message) -> Message | None:
        told = message.metadata
        gone = told.dst_node_id == client + 1 and told.group_id in map(str, rounds)
        return None if gone else reply

    return fate


class Ran:
    """A run with the monitor's rows and everything that passed."""

    def __init__(
        self, grid: Faulty, strategy: LocalSolveStrategy, rounds: int, policy: Policy, timeout: float = 3600
    ) -> None:
        assert strategy.federation is not None
        self.rows: list[dict[str, Any]] = []
        self.monitor = Monitor(strategy.federation, self.rows.append)
        self.trace, self.strategy = Trace(), strategy
        start = record(np.zeros(strategy.federation.shape))
        strategy.start(
            grid, start, rounds, callbacks=[self.monitor, self.trace], policy=policy, timeout=timeout
        )

    @property
    def models(self) -> list[np.ndarray]:
        return self.trace.models


# missing


@pytest.mark.parametrize("method", ["gradient", "projection"])
def test_skip_goes_on_with_the_mean_of_the_others(method: str, grid: Faulty) -> None:
    settings = SETTINGS if method == "gradient" else PROJECTION
    grid.fate = lost(1, 2)
    ran = Ran(grid, LocalGD(settings, agreed(grid)), 4, SKIP)
    assert [list(turnout.measures) for turnout in ran.trace.turnouts] == [
        ["client-0", "client-1", "client-2"],
        ["client-0", "client-2"],
        *[["client-0", "client-1", "client-2"]] * 3,
    ]
    fresh = [a.solutions[0].displacement for a in ran.trace.answers[1]]
    assert len(fresh) == 2
    np.testing.assert_allclose(ran.models[2], ran.models[1] + sum(fresh) / 2, rtol=1e-14)


@pytest.mark.parametrize("strategy", [LocalGD, ModifiedLocalGD])
def test_reuse_takes_the_last_local_model(strategy: type[LocalSolveStrategy], grid: Faulty) -> None:
    grid.fate = lost(1, 3, 4)
    ran = Ran(grid, strategy(settings=SETTINGS, federation=agreed(grid)), 5, REUSE)
    [last] = [a for a in ran.trace.answers[1] if a.client == "client-1"]
    local = ran.models[1] + last.solutions[0].displacement  # of round 2, and the model that it began from
    for number in (3, 4):
        before = ran.models[number - 1]
        others = [before + a.solutions[0].displacement for a in ran.trace.answers[number - 1]]
        assert len(others) == 2
        mean = (others[0] + others[1] + local) / 3
        expected = mean if strategy is LocalGD else (1 - 1 / (number + 1)) * mean
        np.testing.assert_allclose(ran.models[number], expected, rtol=1e-13)


def test_a_run_that_goes_on_knows_the_last_answers(grid: Faulty) -> None:
    grid.fate = lost(1, 3, 4, 5, 6)
    federation = agreed(grid)
    whole = Ran(grid, ModifiedLocalGD(settings=SETTINGS, federation=federation), 6, REUSE)
    first = ModifiedLocalGD(settings=SETTINGS, federation=federation)
    first.start(grid, record(np.zeros(6)), 4, policy=REUSE)
    second = ModifiedLocalGD(settings=SETTINGS, federation=federation)
    second.start(
        grid, record(np.zeros(6)), 6, since=(4, first.state), last=first.last, policy=REUSE, callbacks=()
    )
    np.testing.assert_array_equal(second.state.weights, whole.models[6])


def test_a_client_without_a_last_answer_is_left_out_of_the_mean(grid: Faulty) -> None:
    grid.fate = lost(1, 1)
    reuse, skip = (Ran(grid, LocalGD(SETTINGS, agreed(grid)), 3, policy) for policy in (REUSE, SKIP))
    np.testing.assert_array_equal(reuse.models, skip.models)


STRATEGIES: dict[str, Callable[[Federation], LocalSolveStrategy]] = {
    "local-gd": lambda federation: LocalGD(SETTINGS, federation),
    "plain mean": lambda federation: LocalGD(PROJECTION, federation),
    "modified": lambda federation: ModifiedLocalGD(federation=federation),
    "projection": lambda federation: ModifiedLocalGD(settings=PROJECTION, federation=federation),
    "cutting-plane": lambda federation: CuttingPlane(federation=federation),
    "consensus": lambda federation: Consensus(federation=federation),
    "FedAvg": lambda federation: by_name("FedAvg", {}, SETTINGS, federation),
    "FedAdam": lambda federation: by_name("FedAdam", {}, SETTINGS, federation),
}


@pytest.mark.parametrize("policy", [SKIP, REUSE], ids=["skip", "reuse"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_certified_with_clients_missing_is_true(
    name: str, policy: Policy, grid: Faulty, shards: list[Shard]
) -> None:
    rng = np.random.default_rng(7)
    absent = {(int(rng.integers(1, 4)), str(number)) for number in range(1, 31) if rng.random() < 0.6}
    grid.fate = lambda message, reply: (
        None if (message.metadata.dst_node_id, message.metadata.group_id) in absent else reply
    )
    federation = agreed(grid)
    ran = Ran(grid, STRATEGIES[name](federation), 30, policy)
    reference = centralized("logistic", parts_of(federation, shards), 2)
    assert reference is not None
    rows = rows_of(federation, shards)
    some = 0
    for row, model in zip(ran.rows, ran.models[1:], strict=True):
        true = angle(model, reference.weights)
        assert row["certified_angle_deg"] + reference.error_deg >= true
        assert row["margin_bound"] is None or row["margin_bound"] >= reference.margin - 1e-12
        if row["missing"]:
            some += 1
            assert row["margin"] is None
            assert row["certified_angle_deg"] == 180.0
        elif row["margin"] is not None:
            assert row["margin"] == pytest.approx((rows @ model).min() / np.linalg.norm(model), abs=1e-12)
        assert row["clients"] + len(row["missing"]) == 3
    assert some > 3


def test_the_rows_name_who_is_missing(grid: Faulty) -> None:
    grid.fate = lost(1, 3)
    rows = Ran(grid, LocalGD(SETTINGS, agreed(grid)), 4, SKIP).rows
    assert [row["missing"] for row in rows] == [[], ["client-1"], [], []], "row 2 is measured in round 3"
    assert [row["without"] for row in rows] == [[], [], ["client-1"], []]
    assert [row["clients"] for row in rows] == [3, 2, 3, 3]
    assert [row["margin"] is None for row in rows] == [False, True, False, False]


def test_a_client_that_is_away_is_not_waited_for_again(grid: Faulty) -> None:
    def gone(message: Message, reply: Message) -> Message | None:
        away = message.metadata.dst_node_id == 2 and message.metadata.group_id not in ("", "1")
        return None if away or (message.metadata.message_type == "query.describe" and away_now()) else reply

    def away_now() -> bool:
        return any(kind == TRAIN and number == "2" for kind, _, number in grid.asked)

    federation = agreed(grid)
    grid.asked.clear()
    grid.fate = gone
    ran = Ran(grid, LocalGD(SETTINGS, federation), 5, SKIP)
    assert [number for kind, node, number in grid.asked if node == 2 and kind == TRAIN] == ["1", "2"]
    assert [row["missing"] for row in ran.rows] == [["client-1"]] * 5


def test_with_too_few_answers_the_run_ends(grid: Faulty) -> None:
    grid.fate = lambda message, reply: (
        reply if message.metadata.dst_node_id == 1 or message.metadata.group_id != "3" else None
    )
    with pytest.raises(
        RunError, match="round 3: 1 of 3 clients answered, and at least min-clients = 2 are nee"
    ):
        Ran(grid, LocalGD(SETTINGS, agreed(grid)), 4, Policy("skip", min_clients=2))
    Ran(grid, LocalGD(SETTINGS, agreed(grid)), 4, SKIP)


def test_the_closing_evaluation_does_without_too(grid: Faulty) -> None:
    def fate(message: Message, reply: Message) -> Message | None:
        closing = message.metadata.message_type == "evaluate"
        return None if closing and message.metadata.dst_node_id == 1 else reply

    grid.fate = fate
    rows = Ran(grid, LocalGD(SETTINGS, agreed(grid)), 2, SKIP).rows
    assert rows[-1]["missing"] == ["client-0"]
    with pytest.raises(RunError, match="round 2: client-0 did not answer within 3600 s"):
        Ran(grid, LocalGD(SETTINGS, agreed(grid)), 2, Policy())


# coming back


@pytest.mark.parametrize("policy", [SKIP, Policy()], ids=["skip", "wait"])
def test_a_client_comes_back_as_another_node(policy: Policy, grid: Faulty) -> None:
    strategy = LocalGD(SETTINGS, agreed(grid))
    expected = Ran(grid, LocalGD(SETTINGS, agreed(grid)), 6, Policy()).models

    def fate(message: Message, reply: Message) -> Message | None:
        if (message.metadata.dst_node_id, message.metadata.group_id) != (2, "3"):
            return reply
        grid.move(2, 77)  # as a SuperNode does that was killed and started again
        grid.restart(77)
        error = Message(Error(5, "the node is gone"), reply_to=message)
        error.metadata.__dict__["_src_node_id"] = 1
        return error

    grid.fate = fate
    ran = Ran(grid, strategy, 6, policy)
    assert [node for kind, node, number in grid.asked if number == "5" and kind == TRAIN][-3:] == [1, 77, 3]
    if policy.on_missing == "wait":
        np.testing.assert_array_equal(ran.models, expected)
    else:
        assert [row["missing"] for row in ran.rows] == [[], ["client-1"], [], [], [], []]


def test_a_node_that_stays_gone_ends_a_run_that_waits(grid: Faulty) -> None:
    def fate(message: Message, reply: Message) -> Message | None:
        if message.metadata.dst_node_id != 2 or message.metadata.group_id != "2":
            return reply
        grid.hidden.add(2)
        return Message(Error(5, "the node is gone"), reply_to=message)

    grid.fate = fate
    with pytest.raises(RunError, match="round 2: client-1 failed: the node is gone; its own log says more"):
        Ran(grid, LocalGD(SETTINGS, agreed(grid)), 4, Policy(), timeout=0.3)


def test_a_newcomer_takes_no_part(grid: Faulty, shards: list[Shard], tmp_path: Path) -> None:
    federation = agreed(grid)
    np.savez(tmp_path / "late.npz", X=shards[0].X, y=shards[0].y)
    newcomer = node_config(tmp_path / "late.npz", "label", None)
    grid._contexts[9] = type(grid._contexts[1])(grid.run.run_id, 9, newcomer, RecordDict(), {})
    grid.fate = lost(0, 2, 3, 4)
    ran = Ran(grid, LocalGD(SETTINGS, federation), 5, SKIP)
    assert all(
        set(turnout.measures) <= {"client-0", "client-1", "client-2"} for turnout in ran.trace.turnouts
    )
    assert [(kind, node) for kind, node, _ in grid.asked if node == 9] == [("query.describe", 9)]


# other data


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("how", ["restart", "return"])
def test_other_data_end_every_proof(name: str, how: str, grid: Faulty, shards: list[Shard]) -> None:
    federation = agreed(grid)
    # nearly opposite to before, so that what was proved would now be wrong
    other = Shard(-shards[1].X[:, ::-1].copy(), shards[1].y)
    changed = [False]

    def fate(message: Message, reply: Message) -> Message | None:
        if message.metadata.dst_node_id == 2 and message.metadata.group_id == "6" and not changed[0]:
            changed[0] = True
            grid.write(1, other)
            grid.restart(2)
            return None if how == "return" else grid._answer(message)
        return reply

    grid.fate = fate
    strategy = STRATEGIES[name](federation)
    ran = Ran(grid, strategy, 12, SKIP)
    assert changed[0]
    assert strategy.federation is not None
    assert strategy.federation.client("client-1").fingerprint != federation.client("client-1").fingerprint
    assert [row["round"] for row in ran.rows] == list(range(1, 13)), "every round has its row, and one only"
    now = [shards[0], other, shards[2]]
    reference = centralized("logistic", parts_of(federation, now), 2)
    for row, model in zip(ran.rows[6:], ran.models[7:], strict=True):
        if reference is None or not reference.separable:
            assert row["margin_bound"] is None or row["margin_bound"] >= 0
        else:
            assert row["certified_angle_deg"] + reference.error_deg >= angle(model, reference.weights)
            assert row["margin_bound"] >= reference.margin - 1e-12


def test_data_that_do_not_fit_are_refused(grid: Faulty, shards: list[Shard]) -> None:
    federation = agreed(grid)

    restarted: list[int] = []

    def fate(message: Message, reply: Message) -> Message | None:
        if message.metadata.dst_node_id == 2 and message.metadata.group_id == "2" and not restarted:
            restarted.append(2)
            grid.write(1, Shard(shards[1].X[:, :4], shards[1].y))
            grid.restart(2)
            return grid._answer(message)
        return reply

    grid.fate = fate
    with pytest.raises(
        RunError, match="client-1 has come back with other data, which do not fit: they have 4 f"
    ):
        Ran(grid, LocalGD(SETTINGS, federation), 3, Policy())


# bad answers


def spoilt(record_name: str, key: str, value: Any) -> Callable[[Message, Message], Message]:
    def change(message: Message, reply: Message) -> Message:
        kept: Any = reply.content[record_name]
        kept[key] = value(kept[key]) if callable(value) else value
        return reply

    return change


def scaled(factor: complex) -> Callable[[Array], Array]:
    return lambda array: Array(factor * array.numpy())


BAD: dict[str, tuple[Callable[[Message, Message], Message], str]] = {
    "nan": (spoilt("arrays", "displacement-0", scaled(np.nan)), "its displacement is not finite"),
    "inf": (spoilt("arrays", "displacement-0", scaled(np.inf)), "its displacement is not finite"),
    "too long": (
        spoilt("arrays", "displacement-0", scaled(1e6)),
        "its displacement has length .* allows at most",
    ),
    "complex": (spoilt("arrays", "displacement-0", scaled(1j)), "its displacement is complex128"),
    "single": (
        spoilt("arrays", "displacement-0", lambda a: Array(a.numpy().astype(np.float32))),
        "its displacement is float32",
    ),
    "texts": (spoilt("arrays", "displacement-0", Array(np.array(["x"] * 6))), "its displacement is <U1"),
    "no bytes": (
        spoilt("arrays", "displacement-0", Array("float64", (6,), "numpy.ndarray", b"")),
        "its bytes are no array",
    ),
    "mass": (spoilt("metrics", "dual-mass", [1e9]), "its dual mass is 1e[+]09, where its steps allow"),
    "negative": (spoilt("metrics", "dual-mass", [-1.0]), "its dual mass is -1.0"),
    "nan mass": (spoilt("metrics", "dual-mass", [float("nan")]), "its dual mass is nan"),
    "margin": (spoilt("metrics", "margin", 1e3), "its margin is 1000, where no row allows more than"),
    "loss": (spoilt("metrics", "loss", -0.1), "its loss is -0.1"),
    "errors": (spoilt("metrics", "errors", 99), "it counts 99 errors on 5 examples"),
    "count": (spoilt("metrics", "num-examples", 4), "it has 4 examples, and had 5 in the handshake"),
    "round": (spoilt("config", "round", 1), "it answers the question of round 1"),
    "name": (spoilt("config", "name", "client-2"), "it calls itself 'client-2'"),
    "result": (spoilt("config", "result", ["perfect"]), "its solution is 'perfect'"),
    "active": (spoilt("metrics", "active", [77]), "77 of its 5 examples are active"),
    "nothing": (lambda message, reply: Message(RecordDict(), reply_to=message), "it lacks 'arrays'"),
    "an error": (
        lambda message, reply: Message(Error(2, "<class 'ValueError'>:<'oh'>"), reply_to=message),
        "failed: <class 'ValueError'>:<'oh'>; its own log says more",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_answer_is_asked_for_again_then_its_client_left_out(
    what: str, grid: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, complaint = BAD[what]
    times = [0]

    def fate(message: Message, reply: Message) -> Message | None:
        bad = (message.metadata.dst_node_id, message.metadata.group_id) == (2, "3") and times[0] > 0
        times[0] -= bad
        return spoil(message, reply) if bad else reply

    grid.fate = fate
    federation = agreed(grid)
    expected = Ran(grid, LocalGD(SETTINGS, federation), 4, Policy()).models
    times[0] = 2  # mended by asking again
    ran = Ran(grid, LocalGD(SETTINGS, federation), 4, SKIP)
    np.testing.assert_array_equal(ran.models, expected)
    assert ran.strategy.refused == {"client-1": 2}
    times[0] = 9
    with pytest.raises(RunError, match=f"round 3: client-1 .*{complaint}.*3 of max-bad-replies = 3"):
        Ran(grid, LocalGD(SETTINGS, federation), 4, Policy())
    times[0] = 9
    caplog.clear()
    ran = Ran(grid, LocalGD(SETTINGS, federation), 4, SKIP)
    assert ran.strategy.refused == {"client-1": 3}
    assert [row["missing"] for row in ran.rows] == [[], *[["client-1"]] * 3]
    assert "client-1 takes no part any more" in caplog.text


def test_an_answer_that_would_be_the_same_is_not_asked_for_again(grid: Faulty) -> None:
    def fate(message: Message, reply: Message) -> Message | None:
        if (message.metadata.dst_node_id, message.metadata.group_id) != (2, "3"):
            return reply
        return Message(Error(USER_ERROR, "client-1: too few active examples"), reply_to=message)

    grid.fate = fate
    with pytest.raises(UserError, match=r"^client-1: too few active examples$"):
        Ran(grid, LocalGD(SETTINGS, agreed(grid)), 4, Policy())
    grid.asked.clear()
    ran = Ran(grid, LocalGD(SETTINGS, agreed(grid)), 4, SKIP)
    assert [(node, number) for kind, node, number in grid.asked if kind == TRAIN and number == "3"] == [
        (1, "3"),
        (2, "3"),
        (3, "3"),
    ]
    assert ran.strategy.refused == {"client-1": 1}
    assert [row["missing"] for row in ran.rows] == [[], ["client-1"], [], []]


def test_who_is_left_out_does_not_count_again(grid: Faulty) -> None:
    bad = spoilt("arrays", "displacement-0", scaled(np.nan))
    grid.fate = lambda message, reply: (
        bad(message, reply)
        if message.metadata.dst_node_id == 2 and message.metadata.group_id in ("3", "4")
        else reply
    )
    ran = Ran(grid, LocalGD(SETTINGS, agreed(grid)), 5, REUSE)
    for number in (3, 4, 5):
        fresh = [a.solutions[0].displacement for a in ran.trace.answers[number - 1]]
        assert len(fresh) == 2
        np.testing.assert_allclose(ran.models[number], ran.models[number - 1] + sum(fresh) / 2, rtol=1e-13)


def test_the_last_row_of_a_run_that_is_proved_hopeless_has_no_margin(grid: Faulty) -> None:
    class Contradicted(LocalGD):
        """Finds in round 3 that the cuts contradict each other."""

        def combine(self, state, answers):
            after = super().combine(state, answers)
            if len(rows) == 1:
                raise NotSeparable("no model fits all")
            return after

    rows: list[dict[str, Any]] = []
    federation = agreed(grid)
    monitor = Monitor(federation, rows.append)
    with pytest.raises(NotSeparable, match="no model fits all"):
        Contradicted(SETTINGS, federation).start(grid, record(np.zeros(6)), 9, callbacks=[monitor])
    assert [row["round"] for row in rows] == [1, 2]
    assert rows[0]["margin"] is not None
    assert rows[1]["margin"] is rows[1]["margin_bound"] is rows[1]["certified_angle_deg"] is None
    assert rows[1]["loss"] > 0
