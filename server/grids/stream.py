"""The server's end of the gRPC stream: client processes join and stay for the whole run."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

import grpc
from flwr.app import Message

from common import stream as words
from common.errors import RunError
from common.frames import LARGEST_FIRST, LONGEST, Content, Incoming, Outgoing
from server.grids import StandaloneGrid
from server.grids.identity import identify
from server.grids.listening import Listener
from server.grids.places import NEWCOMERS, Client, Places
from server.grids.replies import Replies
from server.grids.serving import Service

CLOSE_SECONDS = 2.0  # how long a client that does not read may delay the end
KEEPALIVE = 5.0, 10.0  # seconds between two questions to a client whether it is there, and for its answer
MAX_CLIENTS = 1000

ALL_FRAMES = 2**24
"""Bytes of one frame of every client: gRPC keeps a buffer of a frame's size for each connection."""


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
        keepalive = keepalive or KEEPALIVE
        # Guards places and replies; notified of all that somebody may wait for. Held for moments only.
        self._changed = threading.Condition()
        self._places = Places(self._changed, max_clients, until_noticed=sum(keepalive) + 1.0)
        self._replies = Replies(self._changed)
        self._max_message_bytes = max_message_bytes
        service = Service(
            partial(identify, mutual=credentials is not None, why_refused=why_refused),
            self._places,
            self._replies,
            self._changed,
            max_message_bytes,
        )
        self._listener = Listener(
            service.serve,
            address,
            credentials,
            keepalive,
            max_frame_bytes=LARGEST_FIRST + LONGEST,
            max_connections=max_clients + 4 * NEWCOMERS,
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
        if reason is not None:
            reason = " ".join(reason.split())[:500]  # it travels in a header
        with self._changed:
            if self._places.closed:
                return
            self._places.close(reason)
            self._replies.close()
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
        here = sorted(self._places.wait(wanted, timeout, on_join))
        if len(here) >= min(wanted, minimum):
            return here
        raise RunError(
            f"{len(here)} of {wanted} clients joined {self.address} within {timeout:g} s, at least {minimum} "
            f"are needed, {minimum - len(here)} missing; here: {', '.join(here) or 'nobody'}"
        )

    def names(self) -> dict[int, str]:
        """Node id -> name, of the clients that are connected or were ever sent a message."""
        with self._changed:
            return {client.node_id: client.name for client in self._places.known()}

    def offences(self) -> dict[str, int]:
        """How often which client sent what is no reply, or none that was asked for."""
        with self._changed:
            return {client.name: client.offences for client in self._places if client.offences}

    def get_node_ids(self) -> list[int]:
        """The node ids of `names`."""
        return list(self.names())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send the messages, or keep them for clients that are away; the ids to pull the replies with.

        Contents that are the same object are serialised once.
        """
        self._check_open()
        by_node = {client.node_id: client for client in self._places}
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
            self._places.owe(client, message_id, outgoing)
            message_ids.append(message_id)
        self._listener.call(self._places.send)  # once for all: each call has the threads take turns
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that are in, each handed out once."""
        found = self._replies.pull(message_ids)
        return [reply for one in found if (reply := self._unpacked(*one)) is not None]

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        """The replies in the order of the messages, as they come.

        Those that have not begun to come in after `timeout` seconds are given up. Of large replies only the
        next few are received before they are asked for, see `Replies`.

        Raises
        ------
        RunError
            If the grid is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        message_ids = self.push_messages(messages)
        self._replies.expect(message_ids)
        try:
            for message_id in message_ids:
                reply = self._take(message_id, deadline)
                if reply is not None:
                    yield reply
                del reply  # before the next one is made
        finally:
            with self._changed:
                self._places.forgive(message_ids)
                self._replies.give_up(message_ids)

    def _take(self, message_id: str, deadline: float | None) -> Message | None:
        found = self._replies.take(message_id, deadline)
        self._check_open()
        return found and self._unpacked(*found)

    def _check_open(self) -> None:
        if self._places.closed:
            raise RunError(self._places.reason or "the server is closed")

    def _unpacked(self, client: Client, incoming: Incoming) -> Message | None:
        try:
            reply = incoming.message()
        except ValueError as error:
            self._places.offend(client, f"sent what is no message: {error}")
            client.end()
            return None
        reply.metadata.__dict__["_src_node_id"] = client.node_id  # not what the client says
        return reply
