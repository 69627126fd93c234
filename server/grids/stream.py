"""The server's end of the gRPC stream: client processes join and stay for the whole run."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from logging import INFO, WARNING
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from flwr.app import Message
from flwr.common import log

from common import stream as words
from common.errors import RunError
from common.frames import LARGEST_FIRST, LONGEST, SHORTEST, Content, Incoming, Outgoing, TooLarge
from server.grids import StandaloneGrid
from server.grids.identity import Refusal, identify
from server.grids.listening import Listener

CLOSE_SECONDS = 2.0  # how long a client that does not read may delay the end
KEEPALIVE = 5.0, 10.0  # seconds between two questions to a client whether it is there, and for its answer
MAX_CLIENTS = 1000
MAX_OFFENCES = 10  # of a client that sends what is no reply: then it is left out
NEWCOMERS = 16  # streams beyond the clients' that may wait for a place

READ_AHEAD = 2**24
"""Bytes of large replies that are received before it is their turn."""

FRAME_SECONDS = 0.01
"""A client gets frames as large as it takes in about this time, so that many at once need little memory."""

ALL_FRAMES = 2**24
"""Bytes of one frame of every client: gRPC keeps a buffer of a frame's size for each connection."""

PATIENCE, SLOWEST = 30.0, 2**14
"""Seconds, and bytes per second, that a reply may take from its first frame on, once it is being read."""


@dataclass
class _Client:
    """One client name. It keeps its node id and what it owes while it is away."""

    name: str
    node_id: int
    session: str = ""
    stream: "_Stream | None" = None  # the one that is open now
    unanswered: dict[str, Outgoing] = field(default_factory=dict)  # by message id, oldest first
    in_flight: str | None = None  # the message that the client works on, one at a time
    addressed: bool = False  # whether a message was ever meant for it
    offences: int = 0


class _Stream:
    """One stream, of which only the loop's thread makes use."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[Outgoing | None] = asyncio.Queue()  # None ends the stream
        self.over = asyncio.Event()
        self.frame_bytes = SHORTEST

    async def write(self, context: Any, message: Outgoing) -> None:
        """Send a message in frames that fit the speed of the client."""
        loop = asyncio.get_running_loop()
        for frame in message.frames(lambda: self.frame_bytes):
            began = loop.time()
            await context.write(frame)
            if len(frame) >= self.frame_bytes:
                quick = loop.time() - began < FRAME_SECONDS
                size = 2 * self.frame_bytes if quick else self.frame_bytes // 2
                self.frame_bytes = min(max(size, SHORTEST), LONGEST)


class StreamGrid(StandaloneGrid):
    """A grid of client processes that hold one gRPC stream each. Use it in a `with` statement.

    A client is known by its name: with credentials its certificate's common name, else what it says. One that
    comes back under its name has the same node id and gets again what it has not answered. One that is still
    busy with a message that nobody waits for any more gets the newest next, no backlog.

    All streams are served by one thread. A large reply is left with its sender until it is almost its turn in
    an `exchange`.

    Parameters
    ----------
    address
        HOST:PORT to listen on; port 0 takes a free one, see `port`.
    credentials
        From `grpc.ssl_server_credentials` with `require_client_auth`, or None for no encryption.
    max_message_bytes
        Largest serialised message in either direction.
    max_clients
        Clients connected at the same time.
    why_refused
        Given the PEM certificate of a client that would join, says why it may not, or None if it may.
    keepalive
        Seconds between two questions to a client whether it is still there, and how long it has to answer;
        `KEEPALIVE` if None.

    Raises
    ------
    UserError
        If the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ServerCredentials | None,
        max_message_bytes: int = words.MAX_MESSAGE_BYTES,
        max_clients: int = MAX_CLIENTS,
        why_refused: Callable[[bytes], str | None] = lambda certificate: None,
        keepalive: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self._mutual = credentials is not None
        self._why_refused = why_refused
        self._max_message_bytes = max_message_bytes
        self._max_clients = max_clients
        keepalive = keepalive or KEEPALIVE
        self._until_noticed = sum(keepalive) + 1.0  # that a connection is lost
        self._clients: dict[str, _Client] = {}
        self._node_ids = itertools.count(1)
        self._newcomers = 0  # who wait for the name of a connection that may be lost
        self._replies: dict[str, tuple[_Client, Incoming]] = {}
        self._begun: set[str] = set()  # the messages whose replies have begun to arrive
        self._turns: dict[str, int] = {}  # of the messages in an exchange
        self._turn = 0
        self._awaited: set[str] = set()  # the messages whose replies somebody waits for this moment
        self._waiting: dict[str, tuple[int, asyncio.Event]] = {}  # size of a reply, and that it may come now
        self._closed = False
        self._reason: str | None = None
        # Guards all of these; notified of each reply, arrival, loss and of the end. Held for moments only.
        self._changed = threading.Condition()
        self._listener = Listener(
            address,
            credentials,
            self._serve,
            max_frame_bytes=LARGEST_FIRST + LONGEST,
            max_connections=max_clients + 4 * NEWCOMERS,
            keepalive=keepalive,
        )
        host, _ = words.split_address(address)
        self.port = self._listener.port
        self.address = f"{host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):  # Ctrl-C, SIGTERM
            self.close("the server was interrupted")
        else:
            self.close(None if error is None else str(error) or type(error).__name__)

    def close(self, reason: str | None = None) -> None:
        """End every client: well, or as a failed run for this `reason`. Takes a few seconds at most."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            if reason is not None:
                self._reason = " ".join(reason.split())[:500]  # it travels in a header
            for client in self._clients.values():
                self._put(client.stream, None)
            self._changed.notify_all()
        self._listener.stop(CLOSE_SECONDS)

    def wait_for_clients(
        self,
        wanted: int,
        minimum: int,
        timeout: float,
        on_join: Callable[[str, int], None] = lambda name, here: None,
    ) -> list[str]:
        """Wait until `wanted` clients are connected, at most `timeout` seconds; their names, sorted.

        `on_join` is called in this thread with each new name and the number of clients connected.

        Raises
        ------
        RunError
            If fewer than `minimum` are connected at the timeout.
        """
        deadline = time.monotonic() + timeout
        announced: set[str] = set()
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: len(self._connected()) >= wanted or set(self._connected()) - announced,
                    deadline - time.monotonic(),
                )
                here = self._connected()
            for name in here:
                if name not in announced:
                    announced.add(name)
                    on_join(name, len(here))
            if len(here) >= wanted:
                return sorted(here)
            if time.monotonic() >= deadline:
                break
        if len(here) >= minimum:
            return sorted(here)
        raise RunError(
            f"{len(here)} of {wanted} clients joined {self.address} within {timeout:g} s, at least {minimum} "
            f"are needed, {minimum - len(here)} missing; here: {', '.join(sorted(here)) or 'nobody'}"
        )

    def names(self) -> dict[int, str]:
        """Node id -> name, of the clients that are connected or were ever sent a message."""
        with self._changed:
            return {c.node_id: c.name for c in self._clients.values() if c.stream is not None or c.addressed}

    def offences(self) -> dict[str, int]:
        """How often which client sent what is no reply, or none that was asked for."""
        with self._changed:
            return {c.name: c.offences for c in self._clients.values() if c.offences}

    def get_node_ids(self) -> list[int]:
        """The node ids of `names`."""
        return list(self.names())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send the messages, or keep them for clients that are away; the ids to pull the replies with.

        Contents that are the same object are serialised once.
        """
        with self._changed:
            self._check_open()
            by_node = {client.node_id: client for client in self._clients.values()}
        message_ids = []
        shared: dict[int, Content] = {}
        for message in messages:
            client = by_node.get(message.metadata.dst_node_id)
            if client is None:
                raise ValueError(f"no node {message.metadata.dst_node_id}: the nodes are {sorted(by_node)}")
            message_id = self._stamp(message)
            content = None
            if message.has_content():
                content = shared.get(id(message.content)) or Content.of(message.content)
                shared[id(message.content)] = content
            outgoing = Outgoing.of(message, content, ALL_FRAMES // len(by_node))
            if outgoing.size > self._max_message_bytes:
                raise RunError(
                    f"the message to {client.name} has {outgoing.size} bytes, "
                    f"at most {self._max_message_bytes} are allowed"
                )
            with self._changed:
                client.unanswered[message_id] = outgoing
                client.addressed = True
                self._send_next(client)
            message_ids.append(message_id)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that are in, each handed out once."""
        with self._changed:
            found = [self._replies.pop(one) for one in message_ids if one in self._replies]
        return [reply for one in found if (reply := self._unpacked(*one)) is not None]

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        """The replies in the order of the messages, as they come.

        Those that have not begun to come in after `timeout` seconds are given up. Of large replies only the
        next few are received before they are asked for, `READ_AHEAD` bytes.

        Raises
        ------
        RunError
            If the grid is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        message_ids = self.push_messages(messages)
        with self._changed:
            self._turns |= {message_id: turn for turn, message_id in enumerate(message_ids)}
        try:
            for message_id in message_ids:
                reply = self._take(message_id, deadline)
                if reply is not None:
                    yield reply
                del reply  # before the next one is made
        finally:
            self._give_up(set(message_ids))

    def _take(self, message_id: str, deadline: float | None) -> Message | None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())

        def settled() -> bool:
            return message_id in self._replies or self._closed

        with self._changed:
            self._turn = self._turns[message_id]
            self._awaited.add(message_id)
            for waiting, (size, event) in self._waiting.items():
                if self._is_near(waiting, size):
                    self._listener.call(event.set)
            if not self._changed.wait_for(settled, left):
                # One that came in time is waited for; its stream's task sees to it that it comes or fails.
                self._changed.wait_for(lambda: settled() or message_id not in self._begun)
            self._awaited.discard(message_id)
            self._check_open()
            found = self._replies.pop(message_id, None)
        return found and self._unpacked(*found)

    def _check_open(self) -> None:
        if self._closed:
            raise RunError(self._reason or "the server is closed")

    def _unpacked(self, client: _Client, incoming: Incoming) -> Message | None:
        try:
            reply = incoming.message()
        except ValueError as error:
            self._offend(client, f"sent what is no message: {error}")
            self._put(client.stream, None)
            return None
        reply.metadata.__dict__["_src_node_id"] = client.node_id  # not what the client says
        return reply

    def _give_up(self, message_ids: set[str]) -> None:
        with self._changed:
            for client in self._clients.values():
                for message_id in message_ids & client.unanswered.keys():
                    del client.unanswered[message_id]
            for message_id in message_ids:
                self._replies.pop(message_id, None)
                self._turns.pop(message_id, None)
                if message_id in self._waiting:
                    self._listener.call(self._waiting[message_id][1].set)

    def _is_near(self, message_id: str, size: int) -> bool:
        """Whether a reply of this size may be received now: if its turn comes soon, or nobody wants it."""
        turn = self._turns.get(message_id)
        return turn is None or turn - self._turn <= max(1, READ_AHEAD // size)

    def _connected(self) -> list[str]:
        return [client.name for client in self._clients.values() if client.stream is not None]

    def _put(self, stream: _Stream | None, message: Outgoing | None) -> None:
        """Into the outbox of a stream, from any thread."""
        if stream is not None:
            self._listener.call(stream.outbox.put_nowait, message)

    def _send_next(self, client: _Client) -> None:
        """Hand the oldest unanswered message to an idle client."""
        if client.stream is not None and client.in_flight is None and client.unanswered:
            client.in_flight = next(iter(client.unanswered))
            self._put(client.stream, client.unanswered[client.in_flight])

    async def _serve(self, _: object, context: Any) -> None:
        """One stream, in the loop, from the call to its end."""
        try:
            client, stream = await self._admit(context)
        except Refusal as refusal:
            if refusal.code is not grpc.StatusCode.UNAVAILABLE:
                log(WARNING, "refused %s: %s", context.peer(), refusal.reason)
            await context.abort(refusal.code, refusal.reason)
        ways = []
        try:
            await context.send_initial_metadata(((words.LIMIT_KEY, str(self._max_message_bytes)),))
            ways = [
                asyncio.create_task(work(client, stream, context)) for work in (self._send, self._receive)
            ]
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._leave(client, stream)
        for way in done:
            if isinstance(error := way.exception(), Refusal):
                await context.abort(error.code, error.reason)
        if client.offences >= MAX_OFFENCES:  # the outbox may have ended before the next frame was read
            await context.abort(_left_out(client).code, _left_out(client).reason)
        if self._closed and self._reason is not None:
            await context.abort(grpc.StatusCode.ABORTED, self._reason)
        if not self._closed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was given up")

    async def _admit(self, context: Any) -> tuple[_Client, _Stream]:
        """Give a client its place; wait for it while that may belong to a connection that is lost."""
        name, session = await identify(context, self._mutual, self._why_refused)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._until_noticed
        waits = False
        try:
            while True:
                with self._changed:
                    client = self._clients.get(name) or _Client(name, node_id=0)
                    old = client.stream
                    if old is None or client.session == session:
                        return client, self._enter(client, session)
                    taken = Refusal(
                        grpc.StatusCode.ALREADY_EXISTS,
                        f"a client named {name!r} is already connected: choose another name",
                    )
                    if not waits:
                        if self._newcomers >= NEWCOMERS:
                            raise taken
                        waits = True
                        self._newcomers += 1
                try:
                    await asyncio.wait_for(old.over.wait(), deadline - loop.time())
                except TimeoutError:
                    raise taken from None
        finally:
            self._newcomers -= waits

    def _enter(self, client: _Client, session: str) -> _Stream:
        if self._closed:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "the server is closing")
        if client.offences >= MAX_OFFENCES:
            raise _left_out(client)
        if client.stream is not None:
            self._put(client.stream, None)  # its own old one, whose loss it noticed before us
        elif len(self._connected()) >= self._max_clients:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"all {self._max_clients} places of the server are taken"
            )
        if client.node_id == 0:
            self._forget_visitors()
            client.node_id = next(self._node_ids)
            self._clients[client.name] = client
        stream = _Stream()
        client.session, client.stream, client.in_flight = session, stream, None
        if client.addressed:
            log(INFO, "client %s is back", client.name)
        self._send_next(client)
        self._changed.notify_all()
        return stream

    def _forget_visitors(self) -> None:
        """Names that came and went before anything was asked of them may not fill the memory."""
        if len(self._clients) >= 2 * self._max_clients:
            gone = [c.name for c in self._clients.values() if c.stream is None and not c.addressed]
            for name in gone:
                del self._clients[name]

    def _leave(self, client: _Client, stream: _Stream) -> None:
        """The stream is over, whoever ended it."""
        stream.over.set()
        with self._changed:
            if client.stream is stream:
                client.stream = client.in_flight = None
                if client.addressed and not self._closed:
                    log(WARNING, "client %s is gone, owes %d replies", client.name, len(client.unanswered))
                self._changed.notify_all()

    async def _send(self, client: _Client, stream: _Stream, context: Any) -> None:
        while (message := await stream.outbox.get()) is not None:
            await stream.write(context, message)

    async def _receive(self, client: _Client, stream: _Stream, context: Any) -> None:
        while (first := await context.read()) is not grpc.aio.EOF:
            if client.offences >= MAX_OFFENCES:
                raise _left_out(client)
            try:
                # No name for the reply here: it would be kept until the next one.
                if not await self._arrive(client, stream, context, Incoming(first, self._max_message_bytes)):
                    return
            except TooLarge as error:
                log(WARNING, "client %s sent too large a message: %s", client.name, error)
                raise Refusal(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"this client's message is too large: {error}"
                ) from None
            except ValueError as error:
                self._offend(client, f"sent what is no message: {error}")
                raise Refusal(
                    grpc.StatusCode.INVALID_ARGUMENT, f"the server cannot read this client's reply: {error}"
                ) from None

    async def _arrive(self, client: _Client, stream: _Stream, context: Any, incoming: Incoming) -> bool:
        """Take the rest of a reply once its turn is near; False if the stream ended in the middle of it."""
        answered = incoming.reply_to
        with self._changed:
            wanted = answered in client.unanswered
            if wanted:
                self._begun.add(answered)
        try:
            if incoming.missing:
                await self._until_near(answered, incoming.size)
                with self._changed:
                    wanted = answered in client.unanswered
                try:
                    async with asyncio.timeout(PATIENCE + incoming.size / SLOWEST):
                        while incoming.missing:
                            frame = await context.read()
                            if frame is grpc.aio.EOF:
                                return False
                            incoming.add(frame, keep=wanted)
                except TimeoutError:
                    log(WARNING, "client %s takes too long to send its reply", client.name)
                    return False
            elif wanted:
                incoming.message()  # where it is cheap, see at once whether it is one
            self._file(client, stream, incoming)
            return True
        finally:
            with self._changed:
                self._begun.discard(answered)
                if answered in self._awaited:
                    self._changed.notify_all()

    async def _until_near(self, message_id: str, size: int) -> None:
        event = asyncio.Event()
        with self._changed:
            if self._is_near(message_id, size):
                return
            self._waiting[message_id] = size, event
        try:
            await event.wait()
        finally:
            with self._changed:
                del self._waiting[message_id]

    def _file(self, client: _Client, stream: _Stream, incoming: Incoming) -> None:
        """A reply is in."""
        answered = incoming.reply_to
        with self._changed:
            now = client.stream is stream
            asked = now and client.in_flight == answered
            if asked:
                client.in_flight = None
            if client.unanswered.pop(answered, None) is not None:
                self._replies[answered] = client, incoming
            elif asked:
                log(INFO, "client %s: late reply to %s, nobody waits for it", client.name, answered)
            elif now:
                self._offend(client, f"answered {answered[:80]!r} unasked, or twice")
            self._send_next(client)

    def _offend(self, client: _Client, what: str) -> None:
        """Note what no client of ours does."""
        client.offences += 1
        log(WARNING, "client %s %s (%d such)", client.name, what, client.offences)
        if client.offences == MAX_OFFENCES:
            log(WARNING, "client %s is left out from now on", client.name)
            self._put(client.stream, None)


def _left_out(client: _Client) -> Refusal:
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        f"client {client.name!r} is left out: it sent what is no reply {client.offences} times",
    )
