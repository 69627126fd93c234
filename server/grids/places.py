"""Who is at the server: every client name has a place, which it keeps while its connection is lost."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from logging import INFO, WARNING

import grpc
from flwr.common import log

from common.frames import Outgoing
from common.interrupts import wait_for
from server.grids.connection import Connection
from server.grids.identity import Refusal

MAX_OFFENCES = 10  # of a client that sends what is no reply: then it is left out
NEWCOMERS = 16  # streams beyond the clients' that may wait for a place


@dataclass
class Client:
    """One client name. It keeps its node id and what it owes while it is away."""

    name: str
    node_id: int
    session: str = ""
    connection: Connection | None = None  # the one that is open now
    unanswered: dict[str, Outgoing] = field(default_factory=dict)  # by message id, oldest first
    in_flight: str | None = None  # the message that the client works on, one at a time
    addressed: bool = False  # whether a message was ever meant for it
    offences: int = 0

    def send_next(self) -> None:
        """Hand it the oldest unanswered message if it is here and idle."""
        if self.connection is not None and self.in_flight is None and self.unanswered:
            self.in_flight = next(iter(self.unanswered))
            self.connection.put(self.unanswered[self.in_flight])

    def end(self) -> None:
        """End its stream once what it was handed has gone out."""
        if self.connection is not None:
            self.connection.put(None)

    @property
    def refusal(self) -> Refusal | None:
        """Why it is left out, if it is."""
        if self.offences < MAX_OFFENCES:
            return None
        return Refusal(
            grpc.StatusCode.PERMISSION_DENIED,
            f"client {self.name!r} is left out: it sent what is no reply {self.offences} times",
        )


class Places:
    """The clients, by name.

    Parameters
    ----------
    changed
        Guards all that is here and its clients; notified of each arrival, each loss and the end.
    max_clients
        How many may be connected at the same time.
    until_noticed
        Seconds after which a connection that carries nothing any more has been noticed to be lost.

    Attributes
    ----------
    closed, reason
        Whether the run has ended, and why if it failed.
    """

    def __init__(self, changed: threading.Condition, max_clients: int, until_noticed: float) -> None:
        self.closed = False
        self.reason: str | None = None
        self._changed = changed
        self._max_clients = max_clients
        self._until_noticed = until_noticed
        self._clients: dict[str, Client] = {}
        self._node_ids = itertools.count(1)
        self._newcomers = 0  # who wait for the name of a connection that may be lost

    def __iter__(self) -> Iterator[Client]:
        with self._changed:
            return iter(list(self._clients.values()))

    def known(self) -> list[Client]:
        """Those that are connected or were ever sent a message."""
        return [client for client in self if client.connection is not None or client.addressed]

    def connected(self) -> list[str]:
        """The names of those that are connected."""
        return [client.name for client in self if client.connection is not None]

    def close(self, reason: str | None) -> None:
        """End all streams, and let nobody in any more."""
        with self._changed:
            self.closed, self.reason = True, reason
            for client in self:
                client.end()
            self._changed.notify_all()

    def owe(self, client: Client, message_id: str, message: Outgoing) -> None:
        """Have a client answer a message: once it has answered those before, and `send` is called."""
        with self._changed:
            client.unanswered[message_id] = message
            client.addressed = True

    def send(self) -> None:
        """Hand every idle client the oldest message that it owes an answer to."""
        with self._changed:
            for client in self:
                client.send_next()

    def forgive(self, message_ids: Iterable[str]) -> None:
        """Nobody owes an answer to these messages any more."""
        forgiven = set(message_ids)
        with self._changed:
            for client in self:
                for message_id in forgiven & client.unanswered.keys():
                    del client.unanswered[message_id]

    def wait(self, wanted: int, timeout: float, on_join: Callable[[str, int], None]) -> list[str]:
        """Wait until so many are connected, at most `timeout` seconds; the names of those that are."""
        deadline = time.monotonic() + timeout
        announced: set[str] = set()
        while True:
            with self._changed:
                wait_for(
                    self._changed,
                    lambda: len(self.connected()) >= wanted or set(self.connected()) - announced,
                    deadline - time.monotonic(),
                )
                here = self.connected()
            for name in here:
                if name not in announced:
                    announced.add(name)
                    on_join(name, len(here))
            if len(here) >= wanted or time.monotonic() >= deadline:
                return here

    async def admit(self, name: str, session: str, connection: Connection) -> Client:
        """Give a client its place; wait for it while that may belong to a connection that is lost.

        Raises
        ------
        Refusal
            If it may not come in.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._until_noticed
        waits = False
        try:
            while True:
                with self._changed:
                    client = self._clients.get(name) or Client(name, node_id=0)
                    old = client.connection
                    if old is None or client.session == session:
                        self._enter(client, session, connection)
                        return client
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

    def _enter(self, client: Client, session: str, connection: Connection) -> None:
        if self.closed:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "the server is closing")
        if client.refusal is not None:
            raise client.refusal
        if client.connection is not None:
            client.end()  # its own old one, whose loss it noticed before us
        elif len(self.connected()) >= self._max_clients:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"all {self._max_clients} places of the server are taken"
            )
        if client.node_id == 0:
            self._forget_visitors()
            client.node_id = next(self._node_ids)
            self._clients[client.name] = client
        client.session, client.connection, client.in_flight = session, connection, None
        if client.addressed:
            log(INFO, "client %s is back", client.name)
        client.send_next()
        self._changed.notify_all()

    def _forget_visitors(self) -> None:
        """Names that came and went before anything was asked of them may not fill the memory."""
        if len(self._clients) >= 2 * self._max_clients:
            self._clients = {client.name: client for client in self.known()}

    def leave(self, client: Client, connection: Connection) -> None:
        """The connection is over, whoever ended it."""
        connection.over.set()
        with self._changed:
            if client.connection is connection:
                client.connection = client.in_flight = None
                if client.addressed and not self.closed:
                    log(WARNING, "client %s is gone, owes %d replies", client.name, len(client.unanswered))
                self._changed.notify_all()

    def offend(self, client: Client, what: str) -> None:
        """Note what no client of ours does."""
        with self._changed:
            client.offences += 1
            log(WARNING, "client %s %s (%d such)", client.name, what, client.offences)
            if client.offences == MAX_OFFENCES:
                log(WARNING, "client %s is left out from now on", client.name)
                client.end()
