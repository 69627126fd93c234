"""The polling grid over a grid that answers late, out of order, with errors, or not at all."""

import time
from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from server.grids import polling
from server.grids.polling import PollingGrid

SUPERLINK = 1


class FakeGrid(Grid):
    """Takes messages to all nodes but those `absent`; node n answers after its `delays[n]` seconds."""

    def __init__(self, delays: dict[int, float], absent: tuple[int, ...] = ()) -> None:
        self.delays = delays
        self.absent = absent
        self.lost: set[int] = set()
        self.looks: list[float] = []
        self._waiting: dict[str, tuple[float, Message]] = {}
        self._run = Run.create_empty(run_id=7)

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, *args, **kwargs) -> Message:
        raise AssertionError("deprecated")

    def get_node_ids(self) -> Iterable[int]:
        return list(self.delays)

    def send_and_receive(self, *args, **kwargs) -> list[Message]:
        raise AssertionError("slow")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids: list[Any] = []
        for message in messages:
            node = message.metadata.dst_node_id
            message_id = f"m{len(self._waiting)}-{node}"
            message.metadata.__dict__.update(_message_id=message_id, _src_node_id=SUPERLINK, _run_id=7)
            if node in self.absent:
                ids.append(None)  # as over HTTP
                continue
            self._waiting[message_id] = (time.monotonic() + self.delays[node], message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.looks.append(time.monotonic())
        replies = []
        for message_id in sorted(set(message_ids), reverse=True):
            due, message = self._waiting[message_id]
            if time.monotonic() >= due:
                node = message.metadata.dst_node_id
                content = RecordDict({"told": ConfigRecord({"node": node})})
                reply = Message(Error(5, "gone") if node in self.lost else content, reply_to=message)
                reply.metadata.__dict__["_src_node_id"] = SUPERLINK if node in self.lost else node
                replies.append(reply)
                del self._waiting[message_id]
        return replies


def ask(grid: FakeGrid, timeout: float | None = 5.0) -> list[Message]:
    messages = [Message(RecordDict(), node, "train") for node in grid.delays]
    return PollingGrid(grid).send_and_receive(messages, timeout=timeout)


@pytest.mark.parametrize("timeout", [5.0, None])
def test_replies_come_in_the_order_of_the_messages_and_soon(timeout: float | None) -> None:
    began = time.monotonic()
    replies = ask(FakeGrid({11: 0.2, 12: 0.0, 13: 0.1}), timeout)
    assert [reply.content["told"]["node"] for reply in replies] == [11, 12, 13]
    assert time.monotonic() - began < 0.3


def test_an_error_that_the_superlink_reports_is_the_nodes_own() -> None:
    grid = FakeGrid({11: 0.0, 12: 0.0})
    grid.lost = {12}
    replies = ask(grid)
    assert [reply.metadata.src_node_id for reply in replies] == [11, 12]
    assert [reply.has_error() for reply in replies] == [False, True]


def test_a_node_that_takes_no_message_is_an_error_at_once() -> None:
    began = time.monotonic()
    replies = ask(FakeGrid({11: 0.0, 12: 0.0}, absent=(11,)))
    assert [reply.metadata.src_node_id for reply in replies] == [11, 12]
    assert "not connected" in str(replies[0].error.reason)
    assert time.monotonic() - began < 1


def test_a_silent_node_is_absent_after_the_timeout() -> None:
    began = time.monotonic()
    replies = ask(FakeGrid({11: 0.0, 12: 60.0}), timeout=0.3)
    assert [reply.metadata.src_node_id for reply in replies] == [11]
    assert 0.3 <= time.monotonic() - began < 0.5


def test_the_interval_grows_with_the_time_waited() -> None:
    grid = FakeGrid({11: 1.0})
    ask(grid)
    gaps = [after - before for before, after in zip(grid.looks, grid.looks[1:], strict=False)]
    assert gaps[0] < 0.05
    assert max(gaps) < 0.5
    assert len(gaps) < 40


def test_the_rest_is_the_grids_own() -> None:
    inner = FakeGrid({11: 0.0})
    grid = PollingGrid(inner)
    assert list(grid.get_node_ids()) == [11]
    assert grid.run.run_id == 7
    grid.set_run(Run.create_empty(run_id=8))
    assert inner.run.run_id == 8
    assert not grid.simulated
    message = grid.create_message(RecordDict(), "train", 11, "1")
    [message_id] = grid.push_messages([message])
    assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages([message_id])] == [message_id]


def test_of_large_replies_only_the_next_ones_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = FakeGrid(dict.fromkeys(range(11, 21), 0.0))
    monkeypatch.setattr(polling, "READ_AHEAD", 3 * 9)
    content = RecordDict({"sent": ConfigRecord({"one": 1})})  # 8 bytes
    replies = PollingGrid(grid).exchange([Message(content, node, "train") for node in grid.delays], 5.0)
    time.sleep(0.01)
    for taken, reply in enumerate(replies, start=1):
        assert reply.content["told"]["node"] == 10 + taken
        assert len(grid._waiting) >= 10 - taken - 2, "as large as the messages, three at a time"
    assert not grid._waiting
