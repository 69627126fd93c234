"""The gRPC stream with clients that do not do what ours do, and networks that do not carry: nobody waits."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Self

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import client.stream
import server.grids.connection
import server.grids.listening
import server.grids.replies
from client.stream import join
from common import stream as words
from common.frames import Incoming, Outgoing
from server.grids.places import MAX_OFFENCES
from server.grids.stream import StreamGrid
from tests.proxy import Proxy

WAIT = 20.0  # seconds that anything here may take; what is expected takes far less
QUICK = 1.0, 1.0  # keepalive: a connection that carries nothing is lost after two seconds


class Fake:
    """A client of bare gRPC, which sends the frames that it is given."""

    def __init__(self, address: str, name: str, session: str = "s") -> None:
        options = [*words.options(60, 60), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(address, options)
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._welcome = b""
        self.taken = 0  # bytes that gRPC has taken from us
        metadata = (
            (words.PROTOCOL_KEY, str(words.PROTOCOL_VERSION)),
            (words.NAME_KEY, name.encode()),
            (words.SESSION_KEY, session),
        )
        stream = self._channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")
        self.call: Any = stream(self._frames(), metadata=metadata, timeout=WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._outbox.put(None)
        self._channel.close()

    def _frames(self) -> Iterator[bytes]:
        while (frame := self._outbox.get()) is not None:
            self.taken += len(frame)
            yield frame

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self._outbox.put(frame)

    def receive(self) -> Message:
        if not self._welcome:
            self._welcome = next(self.call)
        incoming = Incoming(next(self.call))
        while incoming.missing:
            incoming.add(next(self.call))
        return incoming.message()

    def reply(self, message: Message, size: int = 1) -> list[bytes]:
        return list(Outgoing.of(Message(vector(size), reply_to=message)).frames())

    def refusal(self) -> tuple[grpc.StatusCode, str]:
        return self.call.code(), self.call.details()


@pytest.fixture
def grid() -> Iterator[StreamGrid]:
    with StreamGrid("127.0.0.1:0", credentials=None, keepalive=QUICK) as grid:
        yield grid


def vector(size: int, value: float = 1.0) -> RecordDict:
    return RecordDict({"w": ArrayRecord({"w": Array(np.full(size, value))})})


def ask(grid: StreamGrid, *nodes: int, size: int = 1) -> list[Message]:
    content = vector(size)
    return [Message(content, node, "train") for node in nodes or grid.get_node_ids()]


def sources(replies: list[Message]) -> list[int]:
    return [reply.metadata.src_node_id for reply in replies]


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def exchanged(
    grid: StreamGrid, messages: list[Message], timeout: float = WAIT
) -> tuple[threading.Thread, list[Message]]:
    replies: list[Message] = []
    thread = threading.Thread(target=lambda: replies.extend(grid.exchange(messages, timeout)), daemon=True)
    thread.start()
    return thread, replies


@contextlib.contextmanager
def joined(address: str, app: ClientApp, report: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """A client of ours in a thread, which ends by itself when the server is closed within."""
    thread = threading.Thread(
        target=join,
        args=(address, app, {}, "a"),
        kwargs={"credentials": None, "retry_for": WAIT, "report": report},
        daemon=True,
    )
    thread.start()
    yield
    thread.join(WAIT)
    assert not thread.is_alive()


def test_a_client_that_answers_twice_or_unasked_is_named_counted_and_in_the_end_left_out(
    grid: StreamGrid, caplog: pytest.LogCaptureFixture
) -> None:
    with Fake(grid.address, "good") as good, Fake(grid.address, "twice") as twice:
        grid.wait_for_clients(2, 2, WAIT)
        for _ in range(2):
            thread, replies = exchanged(grid, ask(grid))
            for fake in (good, twice):
                frames = fake.reply(fake.receive())
                fake.send(*frames, *(frames if fake is twice else ()))
            thread.join(WAIT)
            assert len(replies) == 2
        eventually(lambda: "unasked, or twice (2 such)" in caplog.text)
        thread, replies = exchanged(grid, ask(grid), 2.0)
        good.send(*good.reply(good.receive()))
        asked = twice.receive()
        asked.metadata.__dict__["_message_id"] = "other"
        twice.send(*twice.reply(asked) * MAX_OFFENCES)
        thread.join(WAIT)
        assert [grid.names()[source] for source in sources(replies)] == ["good"]
        assert twice.call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert good.call.is_active()
    assert f"client twice answered 'other' unasked, or twice ({MAX_OFFENCES} such)" in caplog.text
    assert "client twice is left out from now on" in caplog.text
    assert "client good answered" not in caplog.text
    with Fake(grid.address, "twice", "again") as again:
        code, reason = again.refusal()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "client 'twice' is left out: it sent what is no reply 10 times" in reason


@pytest.mark.parametrize("where", ["first frame", "later frame", "arrays"])
def test_garbage_is_named_and_disturbs_nobody_else(
    grid: StreamGrid, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    with Fake(grid.address, "good") as good, Fake(grid.address, "bad") as bad:
        grid.wait_for_clients(2, 2, WAIT)
        thread, replies = exchanged(grid, ask(grid), 2.0)
        good.send(*good.reply(good.receive()))
        first, *rest = bad.reply(bad.receive(), 100_000)
        if where == "first frame":
            bad.send(b"\xff\xff")
        elif where == "later frame":
            bad.send(first, b"\xff\xff")
        else:  # what comes is as long as was said, but the message has two arrays less than blocks
            bad.send((3).to_bytes(4, "big") + first[4:16] + bytes(16) + first[16:], *rest)
        thread.join(WAIT)
        assert [grid.names()[source] for source in sources(replies)] == ["good"]
        assert bad.call.code() in (
            grid_refuses := grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.UNAVAILABLE,
        )
        assert where == "arrays" or bad.call.code() is grid_refuses
        assert good.call.is_active()
    assert "client bad sent what is no message: " in caplog.text


def test_a_client_that_hangs_in_the_middle_of_its_reply_is_given_up_by_name(
    grid: StreamGrid, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.grids.connection, "PATIENCE", 1.0)
    monkeypatch.setattr(server.grids.connection, "SLOWEST", 10**9)
    with Fake(grid.address, "hanging") as hanging, Fake(grid.address, "good") as good:
        grid.wait_for_clients(2, 2, WAIT)
        thread, replies = exchanged(grid, ask(grid), 0.5)
        hanging.send(*hanging.reply(hanging.receive(), 10**6)[:3])
        good.send(*good.reply(good.receive()))
        thread.join(WAIT)
        assert [grid.names()[source] for source in sources(replies)] == ["good"]
        assert hanging.call.code() is grpc.StatusCode.UNAVAILABLE
    assert "client hanging takes too long to send its reply" in caplog.text


def test_a_message_over_the_limit_is_refused_from_its_first_frame_on_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        StreamGrid("127.0.0.1:0", credentials=None, max_message_bytes=1_000_000) as grid,
        Fake(grid.address, "large") as large,
    ):
        grid.wait_for_clients(1, 1, WAIT)
        thread, replies = exchanged(grid, ask(grid), 0.5)
        large.send(large.reply(large.receive(), 200_000)[0])
        thread.join(WAIT)
        assert replies == []
        code, reason = large.refusal()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 1000000 are allowed" in reason
    assert "client large sent too large a message: 1600" in caplog.text


def test_large_replies_stay_with_their_senders_until_it_is_almost_their_turn(
    grid: StreamGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2**20  # numbers: 8 MiB, so that with this budget only the next reply is received early
    monkeypatch.setattr(server.grids.replies, "READ_AHEAD", 2**23)
    fakes = [Fake(grid.address, f"client-{k}") for k in range(5)]
    try:
        for k in range(5):
            grid.wait_for_clients(k + 1, k + 1, WAIT)
        names = grid.names()
        by_name = {f"client-{k}": fake for k, fake in enumerate(fakes)}
        inbox: SimpleQueue[Message] = SimpleQueue()
        done = threading.Event()

        def consume() -> None:
            for reply in grid.exchange(ask(grid), WAIT):
                inbox.put(reply)
                step.acquire()
            done.set()

        step = threading.Semaphore(0)
        threading.Thread(target=consume, daemon=True).start()
        order = [by_name[name] for name in names.values()]
        for fake in reversed(order):  # the last one answers first
            fake.send(*fake.reply(fake.receive(), size))
        for turn, node in enumerate(names):
            assert inbox.get(timeout=WAIT).metadata.src_node_id == node
            here = order[: turn + 2]
            eventually(lambda here=here: min(fake.taken for fake in here) > 8 * size)  # type: ignore[misc]
            time.sleep(0.1)
            assert max((fake.taken for fake in order[turn + 2 :]), default=0) <= 2**21
            step.release()
        assert done.wait(WAIT)
    finally:
        for fake in fakes:
            fake.__exit__()


def test_replies_that_had_begun_to_come_in_time_are_all_read_after_the_timeout(
    grid: StreamGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.grids.replies, "READ_AHEAD", 1)
    fakes = [Fake(grid.address, name) for name in ("a", "silent", "c", "d")]
    try:
        grid.wait_for_clients(4, 4, WAIT)
        thread, replies = exchanged(grid, ask(grid), 2.0)
        by_node = {node: fakes[("a", "silent", "c", "d").index(name)] for node, name in grid.names().items()}
        for fake in fakes:
            message = fake.receive()
            if fake is not fakes[1]:
                fake.send(*fake.reply(message, 300_000))
        thread.join(WAIT)
        assert sources(replies) == [node for node, fake in by_node.items() if fake is not fakes[1]]
        assert all(len(reply.content.array_records["w"]["w"].data) > 2_400_000 for reply in replies)
    finally:
        for fake in fakes:
            fake.__exit__()


def test_a_place_whose_connection_carries_nothing_goes_to_the_newcomer(grid: StreamGrid) -> None:
    """A device that lost its power: nobody closed its connection."""
    with Proxy(grid.port) as proxy, Fake(proxy.address, "a", "old") as old:
        grid.wait_for_clients(1, 1, WAIT)
        before = grid.names()
        thread, replies = exchanged(grid, ask(grid))
        old.receive()
        proxy.silence()
        with Fake(grid.address, "a", "new") as new:
            new.send(*new.reply(new.receive()))
            thread.join(WAIT)
            assert sources(replies) == list(before)
            assert grid.names() == before


def test_a_slow_network_is_not_taken_for_a_lost_one(grid: StreamGrid) -> None:
    with Proxy(grid.port, rate=500_000) as proxy, Fake(proxy.address, "slow") as slow:
        grid.wait_for_clients(1, 1, WAIT)
        thread, replies = exchanged(grid, ask(grid, size=150_000))
        slow.send(*slow.reply(slow.receive(), 150_000))  # more than two seconds each way
        thread.join(WAIT)
        assert len(replies) == 1


def test_a_client_notices_a_server_that_hangs_and_finds_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped, or its machine: connections stay open, new ones too, and nothing answers."""
    monkeypatch.setattr(client.stream, "KEEPALIVE_SECONDS", 1.0)
    monkeypatch.setattr(client.stream, "CONNECT_SECONDS", 1)
    lines: list[str] = []
    with (
        StreamGrid("127.0.0.1:0", credentials=None, keepalive=QUICK) as grid,
        Proxy(grid.port) as proxy,
        joined(proxy.address, ClientApp(), lines.append),
    ):
        grid.wait_for_clients(1, 1, WAIT)
        eventually(lambda: lines != [])  # it knows that it has joined
        proxy.silence()
        eventually(lambda: any("not reachable, trying again" in line for line in lines))
        eventually(lambda: grid.wait_for_clients(1, 0, 0) == [])
        proxy.resume()
        assert grid.wait_for_clients(1, 1, WAIT) == ["a"]
        eventually(lambda: [line[:6] for line in lines].count("joined") == 2)
        grid.close()


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.grids.listening, "HANDSHAKE_SECONDS", 0.5)
    with (
        StreamGrid("127.0.0.1:0", credentials=None) as grid,
        socket.create_connection(("127.0.0.1", grid.port), timeout=WAIT) as silent,
    ):
        while silent.recv(1000):
            pass


@pytest.mark.parametrize("seed", range(3))
def test_a_connection_cut_anywhere_in_a_message_loses_nothing(seed: int) -> None:
    """A client of ours computes each answer once, whatever the network does."""
    rng = np.random.default_rng(seed)
    computed: list[float] = []
    app = ClientApp()

    @app.train()
    def double(message: Message, context: Context) -> Message:
        received = message.content.array_records["w"]["w"].numpy()
        computed.append(float(received[0]))
        return Message(vector(len(received), 2 * received[0]), reply_to=message)

    with (
        StreamGrid("127.0.0.1:0", credentials=None) as grid,
        Proxy(grid.port) as proxy,
        joined(proxy.address, app),
    ):
        grid.wait_for_clients(1, 1, WAIT)
        for number in range(5):
            proxy.cut_after(int(rng.integers(1, 4_000_000)))
            [reply] = grid.exchange([Message(vector(250_000, float(number)), 1, "train")], WAIT)
            doubled = reply.content.array_records["w"]["w"].numpy()
            assert (doubled == 2.0 * number).all()
        assert computed == [0.0, 1.0, 2.0, 3.0, 4.0]
        proxy.cut_after(2**40)  # so not at the end
        grid.close()
    assert proxy.accepted >= 3
