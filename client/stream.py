"""The client's end of the gRPC stream: join a server, answer its messages until it ends the run."""

import random
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any

import grpc
from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client.handshake import what_is_wrong
from common import stream as words
from common.errors import RunError, UserError
from common.frames import LARGEST_FIRST, Incoming, Outgoing

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts to connect
CONNECT_SECONDS = 5
WELCOME_SECONDS = 60.0  # from the call to the server's word that this client is in
KEEPALIVE_SECONDS = 10.0  # a server that is gone is noticed after twice this time


def join(
    address: str,
    client_app: ClientApp,
    node_config: UserConfig,
    name: str,
    *,
    credentials: grpc.ChannelCredentials | None,
    retry_for: float,
    report: Callable[[str], None],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve `client_app` to the server at `address`; returns when the server ends the run well.

    One `Context` lasts for the whole call, across lost connections too.

    Parameters
    ----------
    address
        HOST:PORT of the server.
    name
        What the server shall call this client, unless its certificate says.
    credentials
        From `grpc.ssl_channel_credentials`, or None for no encryption.
    retry_for
        Seconds since the last contact for which an unreachable server is tried again; a last attempt may take
        a few more.
    report
        Called with one line whenever the connection comes or goes.
    tls
        The same certificates as `credentials`, to find out why gRPC fails with them.

    Raises
    ------
    UserError
        If the server stays unreachable, or refuses this client or is refused by it.
    RunError
        If the run failed; with the server's reason.
    """
    words.split_address(address)
    identity = (
        (words.PROTOCOL_KEY, str(words.PROTOCOL_VERSION)),
        (words.VERSION_KEY, words.package_version()),
        (words.NAME_KEY, name.encode()),
        (words.SESSION_KEY, uuid.uuid4().hex),
    )
    desk = _Desk(client_app, Context(0, 0, node_config, RecordDict(), {}))
    last_contact, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            with _channel(address, credentials) as channel:
                return _attend(channel, identity, desk, lambda: report(f"joined {address} as {name}"))
        except _Lost as lost:
            if lost.joined:
                last_contact, pause = time.monotonic(), FIRST_PAUSE
            elif lost.at_handshake and (tls is None) == (credentials is None):
                wrong = what_is_wrong(address, tls)
                if wrong is not None:
                    raise UserError(f"server {address}: {wrong}") from None
            left = last_contact + retry_for - time.monotonic()
            if left <= 0:
                hint = "; do both sides use --tls with the same CA, or both --insecure?"
                raise UserError(
                    f"server {address} not reachable for {retry_for:g} s: {lost.why}"
                    f"{hint if lost.at_handshake else ''}"
                ) from None
            wait = min(pause * random.uniform(0.75, 1.25), left)
            report(f"server {address} not reachable, trying again in {wait:.1f} s ({left:.0f} s left)")
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        except _Refused as refused:
            raise UserError(f"server {address}: {refused}") from None


@dataclass
class _Lost(Exception):
    joined: bool
    why: str

    @property
    def at_handshake(self) -> bool:
        """Whether somebody was there, but not one to talk to."""
        return re.search(r"handshake|Socket closed|SETTINGS|[Vv]erification", self.why) is not None


class _Refused(Exception):
    pass


class _Desk:
    """Answers messages; one that comes again after a lost connection, with the same answer."""

    def __init__(self, client_app: ClientApp, context: Context) -> None:
        self._client_app = client_app
        self._context = context
        self._last: tuple[str | None, Outgoing] = None, Outgoing(b"")

    def reply(self, incoming: Incoming, max_bytes: int) -> Outgoing:
        """The client app's reply to a message; an error reply if it has more bytes than the server takes."""
        if self._last[0] != incoming.message_id:
            message = incoming.message()
            self._context.run_id = message.metadata.run_id
            self._context.node_id = message.metadata.dst_node_id
            answer = Outgoing.of(words.answer(self._client_app, message, self._context))
            if answer.size > max_bytes or len(answer.first) > LARGEST_FIRST:
                reason = f"the reply has {answer.size} bytes, max-message-bytes = {max_bytes} of the server"
                if answer.size <= max_bytes:
                    reason = f"the reply has {len(answer.first)} bytes beside arrays, at most {LARGEST_FIRST}"
                error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
                answer = Outgoing.of(Message(error, reply_to=message))
            self._last = message.metadata.message_id, answer
        return self._last[1]


def _attend(
    channel: Any, identity: tuple[tuple[str, str | bytes], ...], desk: _Desk, on_joined: Callable[[], None]
) -> None:
    """One stream, from the call to its end."""
    outbox: SimpleQueue[Iterator[bytes] | None] = SimpleQueue()
    frames = chain.from_iterable(iter(outbox.get, None))
    call = channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")(frames, metadata=identity)
    unwelcome = threading.Timer(WELCOME_SECONDS, call.cancel)
    unwelcome.daemon = True
    unwelcome.start()
    limit = incoming = None
    try:
        for frame in call:
            try:
                if limit is None:
                    limit = int(frame)
                    unwelcome.cancel()
                    on_joined()
                elif incoming is None:
                    incoming = Incoming(frame)
                else:
                    incoming.add(frame)
                if incoming is not None and incoming.missing == 0:
                    answer = desk.reply(incoming, limit)
                    outbox.put(answer.frames(partial(int, incoming.answer_frames)))
                    incoming = None
            except ValueError as cause:
                raise _Refused(f"this client cannot read its message: {cause}") from cause
    except grpc.RpcError as error:
        code, text = error.code().name, error.details() or ""
        if code == "ABORTED":
            raise RunError(text) from None
        if code in words.REFUSALS:
            text = "it is no localgd server" if code == "UNIMPLEMENTED" else text
            raise _Refused(text) from None
        raise _Lost(limit is not None, _why(text) or code) from None
    finally:
        unwelcome.cancel()
        outbox.put(None)
        call.cancel()


def _why(text: str) -> str:
    """The cause out of gRPC's account of a failed connection."""
    return re.sub(r"^[A-Z]+: (ipv[46]|unix):\S+: ", "", text.rpartition("last error: ")[2])


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> Any:
    options = [
        *words.options(KEEPALIVE_SECONDS, KEEPALIVE_SECONDS),
        ("grpc.max_receive_message_length", -1),  # the server is trusted with this
        ("grpc.max_send_message_length", -1),
        ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),  # bounds one attempt to connect
        ("grpc.enable_retries", 0),  # `join` tries again; gRPC 1.85 then leaves some failed calls open
        ("grpc.use_local_subchannel_pool", 1),  # no waiting for the back-off of an earlier channel
    ]
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)
