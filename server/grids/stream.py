"""The server's end of the gRPC stream: client processes join and stay for the whole run."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from logging import INFO, WARNING
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from flwr.app import Message
from flwr.common import log

from common import stream as words
from common.errors import RunError, UserError
from server.grids import StandaloneGrid

CLOSE_SECONDS = 2.0  # how long a client that does not read may delay the end

Outbox = SimpleQueue[bytes | None]  # frames for one stream; None ends it


@dataclass
class _Client:
    """One client name. It keeps its node id and what it owes while it is away."""

    name: str
    node_id: int
    session: str = ""
    outbox: Outbox | None = None  # of the stream that is open now
    unanswered: dict[str, bytes] = field(default_factory=dict)  # message id -> frame, oldest first
    in_flight: str | None = None  # the message that the client works on, one at a time
    addressed: bool = False  # whether a message was ever meant for it


class StreamGrid(StandaloneGrid):
    """A grid of client processes that hold one gRPC stream each. Use it in a `with` statement.

    A client is known by its name: with credentials its certificate's common name, else what it says. One that
    comes back under its name has the same node id and gets again what it has not answered. One that is still
    busy with a message that nobody waits for any more gets the newest next, no backlog.

    Parameters
    ----------
    address
        HOST:PORT to listen on; port 0 takes a free one, see `port`.
    credentials
        From `grpc.ssl_server_credentials` with `require_client_auth`, or None for no encryption.
    max_message_bytes
        Largest serialised message in either direction.
    max_clients
        Streams open at the same time. Each takes two threads, made when the client joins.
    why_refused
        Given the PEM certificate of a client that would join, says why it may not, or None if it may.

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
        max_clients: int = 1000,
        why_refused: Callable[[bytes], str | None] = lambda certificate: None,
    ) -> None:
        super().__init__()
        self._mutual = credentials is not None
        self._why_refused = why_refused
        self._max_message_bytes = max_message_bytes
        self._max_clients = max_clients
        self._clients: dict[str, _Client] = {}
        self._replies: dict[str, Message] = {}
        self._closed = False
        self._reason: str | None = None
        # Guards the clients, the replies and the end; notified of each reply, arrival, loss and of the end.
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(max_clients + 8, "localgd-stream")  # 8 more to refuse with
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server = grpc.server(
            self._threads,
            handlers=[grpc.method_handlers_generic_handler(words.SERVICE, {words.METHOD: handler})],
            options=[
                *words.KEEPALIVE_OPTIONS,
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.so_reuseport", 0),
            ],
        )
        host, _ = words.split_address(address)
        self.port: int = _bind(self._server, address, credentials)
        self.address = f"{host}:{self.port}"
        self._server.start()

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
                if client.outbox is not None:
                    client.outbox.put(None)
            self._changed.notify_all()
        self._server.stop(CLOSE_SECONDS).wait(2 * CLOSE_SECONDS)
        self._threads.shutdown(wait=False)

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
            return {c.node_id: c.name for c in self._clients.values() if c.outbox is not None or c.addressed}

    def get_node_ids(self) -> list[int]:
        """The node ids of `names`."""
        return list(self.names())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send the messages, or keep them for clients that are away; the ids to pull the replies with."""
        with self._changed:
            by_node = {client.node_id: client for client in self._clients.values()}
        message_ids = []
        for message in messages:
            client = by_node.get(message.metadata.dst_node_id)
            if client is None:
                raise ValueError(f"no node {message.metadata.dst_node_id}: the nodes are {sorted(by_node)}")
            message_id = self._stamp(message)
            frame = words.pack(message)
            if len(frame) > self._max_message_bytes:
                raise RunError(
                    f"the message to {client.name} has {len(frame)} bytes, "
                    f"at most {self._max_message_bytes} are allowed"
                )
            with self._changed:
                client.unanswered[message_id] = frame
                client.addressed = True
                _send_next(client)
            message_ids.append(message_id)
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that are in, each handed out once."""
        with self._changed:
            return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        """The replies in the order of the messages, as they come; those not in after `timeout` are given up.

        Raises
        ------
        RunError
            If the grid is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        message_ids = self.push_messages(messages)
        try:
            for message_id in message_ids:
                left = None if deadline is None else deadline - time.monotonic()
                with self._changed:
                    self._changed.wait_for(partial(self._settled, message_id), left)
                    if self._closed:
                        raise RunError(self._reason or "the server is closed")
                    reply = self._replies.pop(message_id, None)
                if reply is not None:
                    yield reply
        finally:
            self._give_up(set(message_ids))

    def _settled(self, message_id: str) -> bool:
        return message_id in self._replies or self._closed

    def _give_up(self, message_ids: set[str]) -> None:
        with self._changed:
            for client in self._clients.values():
                for message_id in message_ids & client.unanswered.keys():
                    del client.unanswered[message_id]
            for message_id in message_ids & self._replies.keys():
                del self._replies[message_id]

    def _connected(self) -> list[str]:
        return [client.name for client in self._clients.values() if client.outbox is not None]

    def _serve(self, frames: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One stream, in a thread of its own: what is put into the outbox goes out."""
        client, outbox = self._admit(context)
        if not context.add_callback(lambda: self._leave(client, outbox)):
            self._leave(client, outbox)
            return
        context.send_initial_metadata(((words.LIMIT_KEY, str(self._max_message_bytes)),))
        threading.Thread(target=self._read, args=(client, outbox, frames, context), daemon=True).start()
        while (frame := outbox.get()) is not None:
            yield frame
        if self._closed and self._reason is not None:
            context.abort(grpc.StatusCode.ABORTED, self._reason)
        if not self._closed and context.code() is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was given up")

    def _admit(self, context: Any) -> tuple[_Client, Outbox]:
        said = dict(context.invocation_metadata())
        protocol = said.get(words.PROTOCOL_KEY, "unknown")
        if protocol != str(words.PROTOCOL_VERSION):
            ours, theirs = words.package_version(), said.get(words.VERSION_KEY, "unknown")
            _refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the server speaks stream protocol {words.PROTOCOL_VERSION} (localgd {ours}), this client "
                f"{protocol} (localgd {theirs}): install localgd {ours} on the client",
            )
        name = (
            self._certified_name(context) if self._mutual else _name(context, said.get(words.NAME_KEY, b""))
        )
        session = said.get(words.SESSION_KEY, "")
        with self._changed:
            if self._closed:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is closing")
            client = self._clients.get(name)
            if client is None:
                client = _Client(name, node_id=len(self._clients) + 1)
            if client.outbox is not None:
                if client.session != session:
                    _refuse(
                        context,
                        grpc.StatusCode.ALREADY_EXISTS,
                        f"a client named {name!r} is already connected: choose another name, or if that one "
                        "was just lost, try again in half a minute",
                    )
                client.outbox.put(None)  # its own old stream, whose loss it noticed before us
            elif len(self._connected()) >= self._max_clients:
                _refuse(
                    context,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"all {self._max_clients} places of the server are taken",
                )
            self._clients[name] = client
            outbox: Outbox = SimpleQueue()
            client.session, client.outbox, client.in_flight = session, outbox, None
            if client.addressed:
                log(INFO, "client %s is back", name)
            _send_next(client)
            self._changed.notify_all()
        return client, outbox

    def _certified_name(self, context: Any) -> str:
        """The name in the certificate, whatever the client says; refuse one without or that may not join."""
        peer = context.auth_context()
        certificate = peer.get("x509_pem_cert", [b""])[0]
        if not certificate:
            _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "a client needs a certificate")
        name = _name(context, peer.get("x509_common_name", [b""])[0])
        try:
            reason = self._why_refused(certificate)
        except Exception as error:  # as long as that is so, nobody comes in
            log(WARNING, "cannot check the certificate of client %s: %s", name, error)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server cannot check certificates at the moment")
        if reason is not None:
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, f"client {name!r}: {reason}")
        return name

    def _leave(self, client: _Client, outbox: Outbox) -> None:
        """The stream is over, whoever ended it."""
        outbox.put(None)
        with self._changed:
            if client.outbox is outbox:
                client.outbox = client.in_flight = None
                if client.addressed and not self._closed:
                    log(WARNING, "client %s is gone, owes %d replies", client.name, len(client.unanswered))
                self._changed.notify_all()

    def _read(self, client: _Client, outbox: Outbox, frames: Iterator[bytes], context: Any) -> None:
        try:
            for frame in frames:
                self._receive(client, outbox, words.unpack(frame))
        except grpc.RpcError:
            pass  # the stream is over
        except Exception as error:
            log(WARNING, "client %s sent what is no message: %s", client.name, error)
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            context.set_details(f"the server cannot read this client's reply: {error}")
        finally:
            outbox.put(None)

    def _receive(self, client: _Client, outbox: Outbox, reply: Message) -> None:
        message_id = reply.metadata.reply_to_message_id
        reply.metadata.__dict__["_src_node_id"] = client.node_id  # not what the client says
        with self._changed:
            if client.outbox is outbox and client.in_flight == message_id:
                client.in_flight = None
            if client.unanswered.pop(message_id, None) is not None:
                self._replies[message_id] = reply
                self._changed.notify_all()
            else:
                log(INFO, "client %s: late reply to %s, nobody waits for it", client.name, message_id)
            _send_next(client)


def _send_next(client: _Client) -> None:
    """Hand the oldest unanswered message to an idle client."""
    if client.outbox is not None and client.in_flight is None and client.unanswered:
        client.in_flight = next(iter(client.unanswered))
        client.outbox.put(client.unanswered[client.in_flight])


def _refuse(context: Any, code: grpc.StatusCode, reason: str) -> NoReturn:
    log(WARNING, "refused %s: %s", context.peer(), reason)
    context.abort(code, reason)
    raise AssertionError("abort raises")


def _name(context: Any, given: str | bytes) -> str:
    try:
        name = given.decode() if isinstance(given, bytes) else given
    except UnicodeDecodeError:
        name = ""
    if not 1 <= len(name) <= words.MAX_NAME_LENGTH or not name.isprintable():
        _refuse(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"client name {given[:200]!r}: must have 1 to {words.MAX_NAME_LENGTH} characters, all printable",
        )
    return name


def _bind(server: Any, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise UserError(f"cannot listen on {address}: {_why_not(address)}")
    return int(port)


def _why_not(address: str) -> str:
    """What the operating system has against the address; gRPC keeps it to itself."""
    host, port = words.split_address(address)
    try:
        for family, *_, where in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "port in use; stop what listens there or choose another --address"
        return error.strerror or str(error)
    return "gRPC refused it (a bad certificate or key?)"
