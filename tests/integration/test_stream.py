"""The gRPC stream with real client processes: rounds, refusals, losses, TLS and every kind of end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from client.stream import join
from common import stream as words
from common.errors import RunError, UserError
from common.frames import Incoming
from localgd.pki import write
from server.grids.stream import StreamGrid
from tests.proxy import Proxy

ROOT = Path(__file__).parents[2]
WAIT = 20.0  # seconds that anything here may take; what is expected takes far less

CLIENT = """
import os, pathlib, signal, sys, time
import grpc
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from client.stream import join
from common import stream as words
from common.errors import LocalGDError

address, name, retry_for, tls = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
words.PROTOCOL_VERSION = int(os.environ.get("PROTOCOL", words.PROTOCOL_VERSION))
app = ClientApp()

@app.train()
def echo(message, context):
    return Message(message.content, reply_to=message)

@app.train("fail")
def fail(message, context):
    raise ValueError("no luck")

@app.query("count")
def count(message, context):
    seen = context.state.setdefault("seen", ConfigRecord({"count": 0}))
    seen["count"] += 1
    told = {"count": seen["count"], "pid": os.getpid(), "name": context.node_config["name"],
            "node-id": context.node_id, "run-id": context.run_id}
    return Message(RecordDict({"told": ConfigRecord(told)}), reply_to=message)

@app.query("wait")
def wait(message, context):
    marker = pathlib.Path(message.content["files"]["started"])
    with marker.open("a") as file:
        file.write("x")
    while not pathlib.Path(message.content["files"]["go"]).exists():
        time.sleep(0.01)
    return Message(message.content, reply_to=message)

@app.query("large")
def large(message, context):
    return Message(RecordDict({"told": ConfigRecord({"bytes": bytes(100_000)})}), reply_to=message)

credentials = None
if tls:
    read = lambda file: pathlib.Path(tls, file).read_bytes()
    own = [read(f"{name}.{kind}") for kind in ("key", "crt") if pathlib.Path(tls, f"{name}.{kind}").exists()]
    credentials = grpc.ssl_channel_credentials(read("ca.crt"), *own)
report = lambda line: print(line, flush=True)
config, patience = {"name": name}, float(retry_for)
try:
    join(address, app, config, name, credentials=credentials, retry_for=patience, report=report)
except LocalGDError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@dataclass
class Launcher:
    """Starts client processes and ends what is left of them."""

    folder: Path
    started: list[subprocess.Popen[bytes]]

    def __call__(
        self,
        address: str,
        name: str,
        *,
        retry_for: float = 10,
        tls: Path | None = None,
        protocol: int | None = None,
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if protocol is not None:
            environment["PROTOCOL"] = str(protocol)
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", CLIENT, address, name, str(retry_for), str(tls or "")],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text()

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(WAIT)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path, [])
    yield launcher
    launcher.close()


@pytest.fixture
def grid() -> Iterator[StreamGrid]:
    with StreamGrid("127.0.0.1:0", credentials=None) as grid:
        yield grid


def ask(
    grid: StreamGrid, kind: str, content: RecordDict | None = None, timeout: float = WAIT
) -> list[Message]:
    messages = [Message(content or RecordDict(), node_id, kind) for node_id in grid.get_node_ids()]
    return grid.send_and_receive(messages, timeout=timeout)


def told(reply: Message) -> dict[str, Any]:
    return dict(reply.content.config_records["told"])


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@dataclass
class Gate:
    """Two files that stop a client in the middle of `query.wait`."""

    started: Path
    go: Path

    @property
    def content(self) -> RecordDict:
        return RecordDict({"files": ConfigRecord({"started": str(self.started), "go": str(self.go)})})

    def times_started(self) -> int:
        return self.started.stat().st_size if self.started.exists() else 0


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "started", tmp_path / "go")


def in_background(work: Callable[[], list[Message]]) -> tuple[threading.Thread, list[Message]]:
    replies: list[Message] = []
    thread = threading.Thread(target=lambda: replies.extend(work()), daemon=True)
    thread.start()
    return thread, replies


def dial(
    channel: Any, name: str, session: str, protocol: int = words.PROTOCOL_VERSION, frames: Any = None
) -> Any:
    """A bare stream, without our client."""
    metadata = (
        (words.PROTOCOL_KEY, str(protocol)),
        (words.NAME_KEY, name.encode()),
        (words.SESSION_KEY, session),
    )
    stream = channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")
    return stream(frames or iter(SimpleQueue[bytes]().get, b""), metadata=metadata, timeout=WAIT)


@pytest.mark.parametrize("address", ["localhost", ":80", "a:b", "a:-1", "a:65536", ""])
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="expected HOST:PORT"):
        StreamGrid(address, credentials=None)


def test_many_rounds_of_four_processes_then_a_clean_end(launch: Launcher) -> None:
    joined: list[tuple[str, int]] = []
    with StreamGrid("127.0.0.1:0", credentials=None) as grid:
        processes = [launch(grid.address, name) for name in ("a", "b", "c", "klinik-ä")]
        names = grid.wait_for_clients(4, 4, WAIT, lambda name, here: joined.append((name, here)))
        assert names == ["a", "b", "c", "klinik-ä"]
        assert sorted(name for name, _ in joined) == names
        assert joined[-1][1] == 4
        by_id = grid.names()
        assert sorted(by_id.values()) == names
        assert list(by_id) == grid.get_node_ids()

        for size in [1000] * 100 + [1_000_000]:
            weights = np.random.default_rng(size).standard_normal(size)
            replies = ask(grid, "train", RecordDict({"w": ArrayRecord([weights])}))
            assert [reply.metadata.src_node_id for reply in replies] == grid.get_node_ids()
            for reply in replies:
                assert np.array_equal(reply.content.array_records["w"].to_numpy_ndarrays()[0], weights)

        for reply in ask(grid, "train.fail"):
            assert (reply.error.code, reply.error.reason) == (2, "<class 'ValueError'>:<'no luck'>")
        for count in (1, 2):
            for reply in ask(grid, "query.count"):
                assert told(reply)["count"] == count
                assert told(reply)["name"] == by_id[told(reply)["node-id"]]
                assert told(reply)["run-id"] == grid.run.run_id

        ids = grid.push_messages([Message(RecordDict(), node_id, "train") for node_id in by_id])
        pulled: list[Message] = []

        def all_pulled() -> bool:
            pulled.extend(grid.pull_messages(ids))
            return len(pulled) == 4

        eventually(all_pulled)
        with pytest.raises(ValueError, match="no node 9"):
            grid.push_messages([Message(RecordDict(), 9, "train")])
    assert [process.wait(WAIT) for process in processes] == [0] * 4
    assert launch.said("a").startswith(f"joined {grid.address} as a\n")


def test_a_failed_run_tells_the_clients_why_even_one_that_is_busy(
    grid: StreamGrid, launch: Launcher, gate: Gate
) -> None:
    process = launch(grid.address, "a")
    grid.wait_for_clients(1, 1, WAIT)
    assert ask(grid, "query.wait", gate.content, timeout=1) == []
    eventually(lambda: gate.times_started() == 1)
    with pytest.raises(RunError), grid:
        raise RunError("client b: weights\nare not finite ü")
    assert process.poll() is None
    gate.go.touch()
    assert process.wait(WAIT) == 1
    assert "RunError client b: weights are not finite ü" in launch.said("a")


def test_refusals_end_a_client_at_once_with_the_servers_text(grid: StreamGrid, launch: Launcher) -> None:
    grid._places._until_noticed = 0.2  # that the first is lost, which it is not
    first = launch(grid.address, "a")
    grid.wait_for_clients(1, 1, WAIT)
    (launch.folder / "second").mkdir()
    second = Launcher(launch.folder / "second", launch.started)
    refused = {
        second(grid.address, "a"): ("a", "a client named 'a' is already connected"),
        second(grid.address, "old", protocol=99): (
            "old",
            f"speaks stream protocol {words.PROTOCOL_VERSION} ",
        ),
        second(grid.address, "x" * 129): ("x" * 129, "1 to 128 characters"),
    }
    for process, (name, text) in refused.items():
        assert process.wait(WAIT) == 2
        assert f"UserError server {grid.address}: " in second.said(name)
        assert text in second.said(name)
    assert "this client 99 (localgd " in second.said("old")
    assert "install localgd" in second.said("old")
    assert first.poll() is None
    assert [told(reply)["pid"] for reply in ask(grid, "query.count")] == [first.pid]


def test_bad_names_full_servers_and_unreadable_frames_are_refused() -> None:
    with (
        StreamGrid("127.0.0.1:0", credentials=None, max_clients=1) as grid,
        grpc.insecure_channel(grid.address) as channel,
    ):
        for name in ("", "a\nb", "\x00"):
            assert dial(channel, name, "s").code() is grpc.StatusCode.INVALID_ARGUMENT
        live = dial(channel, "a", "s")
        grid.wait_for_clients(1, 1, WAIT)
        full = dial(channel, "b", "s")
        assert (full.code(), full.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "all 1 places of the server are taken",
        )
        live.cancel()
        eventually(lambda: grid.names() == {})
        bad = dial(channel, "b", "s", frames=iter([b"\xff\xff"]))
        with pytest.raises(grpc.RpcError):
            list(bad)
        assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot read" in bad.details()


def test_a_stream_of_the_same_session_replaces_the_one_it_lost() -> None:
    with (
        StreamGrid("127.0.0.1:0", credentials=None) as grid,
        grpc.insecure_channel(grid.address) as channel,
    ):
        grid._places._until_noticed = 0.2
        old = dial(channel, "a", "mine")
        grid.wait_for_clients(1, 1, WAIT)
        [message_id] = grid.push_messages([Message(RecordDict(), 1, "train")])
        assert int(next(old)) == words.MAX_MESSAGE_BYTES
        assert Incoming(next(old)).message_id == message_id
        assert dial(channel, "a", "other").code() is grpc.StatusCode.ALREADY_EXISTS
        new = dial(channel, "a", "mine")
        assert int(next(new)) == words.MAX_MESSAGE_BYTES
        assert Incoming(next(new)).message_id == message_id
        assert old.code() is grpc.StatusCode.UNAVAILABLE
        assert grid.names() == {1: "a"}


def test_a_straggler_gets_the_newest_message_next_and_its_late_reply_is_dropped(
    grid: StreamGrid, launch: Launcher, gate: Gate
) -> None:
    launch(grid.address, "a")
    grid.wait_for_clients(1, 1, WAIT)
    assert ask(grid, "query.wait", gate.content, timeout=1.0) == []
    eventually(lambda: gate.times_started() == 1)
    assert ask(grid, "query.count", timeout=0.1) == []  # given up before it went out: never seen
    thread, replies = in_background(lambda: ask(grid, "query.count"))
    gate.go.touch()
    thread.join(WAIT)
    assert [told(reply)["count"] for reply in replies] == [1]


def test_replies_come_in_the_order_of_the_messages_without_those_that_are_missing(
    grid: StreamGrid, launch: Launcher, gate: Gate
) -> None:
    for name in ("a", "b", "c"):
        launch(grid.address, name)
    grid.wait_for_clients(3, 3, WAIT)
    first, second, third = grid.get_node_ids()
    waiting, count = Message(gate.content, first, "query.wait"), RecordDict()

    def to_others() -> list[Message]:
        return [Message(count, node, "query.count") for node in (third, second)]

    assert [r.metadata.src_node_id for r in grid.exchange([waiting, *to_others()], 1)] == [third, second]
    gate.go.touch()
    some = grid.exchange([*to_others(), Message(count, first, "query.count")], WAIT)
    assert told(next(some))["node-id"] == third
    some.close()  # type: ignore[attr-defined]
    assert [told(reply)["count"] for reply in grid.exchange(to_others(), WAIT)] == [3, 3]


def test_a_killed_client_that_restarts_gets_its_message_again(
    grid: StreamGrid, launch: Launcher, gate: Gate
) -> None:
    processes = [launch(grid.address, name) for name in ("a", "b")]
    grid.wait_for_clients(2, 2, WAIT)
    before = grid.names()
    thread, replies = in_background(lambda: ask(grid, "query.wait", gate.content))
    eventually(lambda: gate.times_started() == 2)
    processes[0].kill()
    processes[0].wait(WAIT)
    eventually(lambda: grid.wait_for_clients(1, 1, 0) == ["b"])
    assert grid.names() == before
    again = launch(grid.address, "a")
    eventually(lambda: gate.times_started() == 3)
    gate.go.touch()
    thread.join(WAIT)
    assert [grid.names()[reply.metadata.src_node_id] for reply in replies] == list(before.values())
    assert grid.names() == before
    assert {told(reply)["pid"] for reply in ask(grid, "query.count")} == {again.pid, processes[1].pid}


def test_a_client_survives_a_lost_server_and_keeps_its_state(launch: Launcher) -> None:
    with StreamGrid("127.0.0.1:0", credentials=None) as lost:
        process = launch(lost.address, "a")
        lost.wait_for_clients(1, 1, WAIT)
        assert [told(reply)["count"] for reply in ask(lost, "query.count")] == [1]
        lost._listener.stop(0)  # as a killed server: nobody is told anything
    eventually(lambda: "not reachable, trying again in" in launch.said("a"))
    with StreamGrid(lost.address, credentials=None) as grid:
        grid.wait_for_clients(1, 1, WAIT)
        [reply] = ask(grid, "query.count")
        assert (told(reply)["count"], told(reply)["pid"], told(reply)["run-id"]) == (
            2,
            process.pid,
            grid.run.run_id,
        )
    assert process.wait(WAIT) == 0


def test_an_answer_that_was_lost_on_its_way_is_sent_again_not_computed_again(
    launch: Launcher, gate: Gate
) -> None:
    with StreamGrid("127.0.0.1:0", credentials=None) as grid, Proxy(grid.port) as proxy:
        launch(proxy.address, "a")
        grid.wait_for_clients(1, 1, WAIT)
        thread, replies = in_background(lambda: ask(grid, "query.wait", gate.content))
        eventually(lambda: gate.times_started() == 1)
        proxy.cut()
        eventually(lambda: grid.wait_for_clients(1, 0, 0) == [])
        gate.go.touch()
        thread.join(WAIT)
        assert len(replies) == 1
        assert gate.times_started() == 1


def test_ctrl_c_ends_a_client_at_once_busy_waiting_or_retrying(
    grid: StreamGrid, launch: Launcher, gate: Gate
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nowhere = f"127.0.0.1:{nobody.getsockname()[1]}"
    busy = launch(grid.address, "busy")
    grid.wait_for_clients(1, 1, WAIT)
    grid.push_messages([Message(gate.content, grid.get_node_ids()[0], "query.wait")])
    idle, retrying = launch(grid.address, "idle"), launch(nowhere, "retrying", retry_for=60)
    grid.wait_for_clients(2, 2, WAIT)
    eventually(lambda: gate.times_started() == 1 and "trying again" in launch.said("retrying"))
    start = time.monotonic()
    for process in (busy, idle, retrying):
        process.send_signal(signal.SIGINT)
    assert [process.wait(WAIT) for process in (busy, idle, retrying)] == [-signal.SIGINT] * 3
    assert time.monotonic() - start < 10, "one of them still waited for something"


def test_an_unreachable_server_is_tried_for_a_while_then_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    lines: list[str] = []
    start = time.monotonic()
    with pytest.raises(UserError, match=f"server {address} not reachable for 1 s: .*refused"):
        join(address, None, {}, "a", credentials=None, retry_for=1, report=lines.append)  # type: ignore[arg-type]
    assert 0.9 < time.monotonic() - start < 4
    assert len(lines) >= 2
    assert all(line.startswith(f"server {address} not reachable, trying again in 0.") for line in lines)


def test_a_port_in_use_is_said_so(grid: StreamGrid) -> None:
    with pytest.raises(UserError, match=f"cannot listen on {grid.address}: port in use"):
        StreamGrid(grid.address, credentials=None)


def test_too_few_clients_are_counted_and_named(grid: StreamGrid) -> None:
    with grpc.insecure_channel(grid.address) as channel:
        call = dial(channel, "lonely", "s")
        assert grid.wait_for_clients(1, 1, WAIT) == ["lonely"]
        assert grid.wait_for_clients(3, 1, 0.1) == ["lonely"]
        with pytest.raises(RunError, match=r"1 of 3 clients joined .* 1 missing; here: lonely"):
            grid.wait_for_clients(3, 2, 0.1)
        call.cancel()


def test_messages_beyond_the_limit_are_refused_where_they_are_made(launch: Launcher) -> None:
    with StreamGrid("127.0.0.1:0", credentials=None, max_message_bytes=50_000) as grid:
        launch(grid.address, "a")
        grid.wait_for_clients(1, 1, WAIT)
        [reply] = ask(grid, "query.large")
        assert "max-message-bytes = 50000 of the server" in str(reply.error.reason)
        with pytest.raises(RunError, match=r"the message to a has 80.* at most 50000 are allowed"):
            ask(grid, "train", RecordDict({"w": ArrayRecord([np.zeros(10_000)])}))


def test_mutual_tls_takes_the_name_from_the_certificate(launch: Launcher, tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    write(pki, ["127.0.0.1"], ["clinic-1"])
    (pki / "nobody").mkdir()
    (pki / "nobody" / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    credentials = grpc.ssl_server_credentials(
        [((pki / "server.key").read_bytes(), (pki / "server.crt").read_bytes())],
        root_certificates=(pki / "ca.crt").read_bytes(),
        require_client_auth=True,
    )
    with StreamGrid("127.0.0.1:0", credentials=credentials) as grid:
        (pki / "other.key").write_bytes((pki / "clinic-1.key").read_bytes())
        (pki / "other.crt").write_bytes((pki / "clinic-1.crt").read_bytes())
        good = launch(grid.address, "other", tls=pki)  # says "other", its certificate says clinic-1
        bare = launch(grid.address, "bare", tls=pki / "nobody", retry_for=1)
        plain = launch(grid.address, "plain", retry_for=1)
        assert grid.wait_for_clients(1, 1, WAIT) == ["clinic-1"]
        assert [told(reply)["pid"] for reply in ask(grid, "query.count")] == [good.pid]
        assert (bare.wait(WAIT), plain.wait(WAIT)) == (2, 2)
        assert f"UserError server {grid.address} not reachable for 1 s" in launch.said("bare")
        assert list(grid.names().values()) == ["clinic-1"]
    assert good.wait(WAIT) == 0
