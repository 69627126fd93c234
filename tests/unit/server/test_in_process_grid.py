"""The in-process grid runs a ClientApp as Flower does, one persistent context per node."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.run import Run

from server.grids.in_process import InProcessGrid

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    seen = context.state.setdefault("seen", ConfigRecord({"rounds": 0}))
    assert isinstance(seen, ConfigRecord)
    assert isinstance(seen["rounds"], int)
    seen["rounds"] += 1
    told = ConfigRecord(
        {
            "rounds": seen["rounds"],
            "name": str(context.node_config["name"]),
            "run-key": str(context.run_config["key"]),
            "node-id": context.node_id,
            "run-id": message.metadata.run_id,
            "message-id": message.metadata.message_id,
        }
    )
    return Message(RecordDict({**message.content, "told": told}), reply_to=message)


@app.train("fail")
def fail(message: Message, context: Context) -> Message:
    raise ValueError("no luck")


@app.train("stray")
def stray(message: Message, context: Context) -> Message:
    return Message(RecordDict(), 1, "train")


@pytest.fixture
def grid() -> InProcessGrid:
    return InProcessGrid(app, [{"name": "a"}, {"name": "b"}, {"name": "c"}], {"key": "value"})


def to_all(grid: InProcessGrid, kind: str = "train") -> list[Message]:
    content = RecordDict({"weights": ArrayRecord([np.arange(5.0)])})
    return [Message(content, node_id, kind) for node_id in grid.get_node_ids()]


def test_every_node_answers_in_order_with_its_own_context(grid: InProcessGrid) -> None:
    assert grid.get_node_ids() == [1, 2, 3]
    messages = to_all(grid)
    replies = grid.send_and_receive(messages)
    assert [reply.metadata.src_node_id for reply in replies] == [1, 2, 3]
    assert [reply.content["told"]["name"] for reply in replies] == ["a", "b", "c"]
    assert [reply.content["told"]["node-id"] for reply in replies] == [1, 2, 3]
    assert {reply.content["told"]["run-key"] for reply in replies} == {"value"}
    for message, reply in zip(messages, replies, strict=True):
        assert reply.metadata.reply_to_message_id == message.metadata.message_id
        assert np.array_equal(reply.content.array_records["weights"].to_numpy_ndarrays()[0], np.arange(5.0))


def test_an_exchange_asks_a_node_when_its_reply_is_wanted(grid: InProcessGrid) -> None:
    messages = to_all(grid)
    replies = grid.exchange(messages)
    assert next(replies).metadata.src_node_id == 1
    assert [message.metadata.message_id != "" for message in messages] == [True, False, False]
    assert [reply.metadata.src_node_id for reply in replies] == [2, 3]


def test_what_the_grid_fills_in_is_there_before_the_client_sees_it(grid: InProcessGrid) -> None:
    told = [reply.content["told"] for reply in grid.send_and_receive(to_all(grid))]
    assert {record["run-id"] for record in told} == {grid.run.run_id}
    assert grid.run.run_id > 0
    assert len({record["message-id"] for record in told} - {""}) == 3


def test_state_survives_rounds(grid: InProcessGrid) -> None:
    for rounds in (1, 2, 3):
        replies = grid.send_and_receive(to_all(grid))
        assert [reply.content["told"]["rounds"] for reply in replies] == [rounds] * 3


def test_an_exception_becomes_an_error_reply(grid: InProcessGrid) -> None:
    replies = grid.send_and_receive(to_all(grid, "train.fail"))
    assert [(reply.error.code, reply.error.reason) for reply in replies] == [
        (2, "<class 'ValueError'>:<'no luck'>")
    ] * 3
    assert not grid.send_and_receive(to_all(grid))[0].has_error()


@pytest.mark.parametrize(("kind", "text"), [("train.stray", "reply_to"), ("query.nothing", "registered")])
def test_a_reply_to_nothing_and_an_unknown_type_are_error_replies(
    grid: InProcessGrid, kind: str, text: str
) -> None:
    for reply in grid.send_and_receive(to_all(grid, kind)):
        assert text in str(reply.error.reason)


def test_push_and_pull_hand_out_each_reply_once(grid: InProcessGrid) -> None:
    ids = grid.push_messages(to_all(grid))
    assert len(set(ids)) == 3
    assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(reversed(ids))] == ids[::-1]
    assert grid.pull_messages(ids) == []


def test_an_unknown_node_is_named(grid: InProcessGrid) -> None:
    with pytest.raises(ValueError, match="no node 4: they are 1 to 3"):
        grid.send_and_receive([Message(RecordDict(), 4, "train")])


def test_a_run_can_be_set(grid: InProcessGrid) -> None:
    grid.set_run(Run.create_empty(run_id=77))
    assert grid.send_and_receive(to_all(grid))[0].content["told"]["run-id"] == 77
    assert grid.create_message(RecordDict(), "train", 1, "3").metadata.group_id == "3"


def test_a_strategy_of_flower_runs_on_it() -> None:
    client = ClientApp()

    @client.train()
    def add_one(message: Message, context: Context) -> Message:
        weights = message.content.array_records["arrays"].to_numpy_ndarrays()[0] + context.node_id
        content = RecordDict(
            {"arrays": ArrayRecord([weights]), "metrics": MetricRecord({"num-examples": 10})}
        )
        return Message(content, reply_to=message)

    grid = InProcessGrid(client, [{}, {}, {}], {})
    result = FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([np.zeros(3)]), num_rounds=2)
    assert np.allclose(result.arrays.to_numpy_ndarrays()[0], 4.0)
