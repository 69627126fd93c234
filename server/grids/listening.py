"""A gRPC server whose streams are all served by one thread, however many they are."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

import grpc
import grpc.aio

from common import stream as words
from common.errors import UserError

HANDSHAKE_SECONDS = 10.0
"""A connection that says nothing for so long, not even how it encrypts, is closed."""

IDLE_SECONDS = 60.0
"""And so is one that opens no stream."""

Handler = Callable[[Any, Any], Coroutine[Any, Any, None]]
T = TypeVar("T")


class Listener:
    """Serves one bidirectional stream method until it is stopped.

    Parameters
    ----------
    handler
        Given the frames and the context of each stream; runs in the loop and must not block.
    address, credentials, keepalive
        As `StreamGrid` has them.
    max_frame_bytes
        Largest frame that is received.
    max_connections
        How many there may be, streams or none.

    Raises
    ------
    UserError
        If the address is none, or cannot be listened on; says what the operating system has against it.
    """

    def __init__(
        self,
        handler: Handler,
        address: str,
        credentials: grpc.ServerCredentials | None,
        keepalive: tuple[float, float],
        max_frame_bytes: int,
        max_connections: int,
    ) -> None:
        words.split_address(address)
        self._loop = _loop()
        method = grpc.stream_stream_rpc_method_handler(handler)
        options = [
            *words.options(*keepalive),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_frame_bytes),
            ("grpc.max_send_message_length", -1),  # checked before
            ("grpc.max_allowed_incoming_connections", max_connections),
            ("grpc.server_handshake_timeout_ms", int(1000 * HANDSHAKE_SECONDS)),
            ("grpc.max_connection_idle_ms", int(1000 * IDLE_SECONDS)),
        ]

        async def start() -> tuple[Any, int]:
            services = [grpc.method_handlers_generic_handler(words.SERVICE, {words.METHOD: method})]
            server = grpc.aio.server(handlers=services, options=options)
            try:
                if credentials is None:
                    port = server.add_insecure_port(address)
                else:
                    port = server.add_secure_port(address, credentials)
            except RuntimeError:
                port = 0
            if port:
                await server.start()
            return server, port

        self._server, self.port = self._wait(start())
        if not self.port:
            raise UserError(f"cannot listen on {address}: {_why_not(address)}")

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a function called in the loop, soon; from any thread."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self, grace: float) -> None:
        """Take no more streams in, and give those that are there `grace` seconds to end."""
        with contextlib.suppress(TimeoutError):  # nothing that anybody has to wait for
            self._wait(self._server.stop(grace), 2 * grace + 1)

    def _wait(self, work: Coroutine[Any, Any, T], seconds: float = 30.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this process: gRPC hands events of one loop to another, so there must not be several."""
    loop = asyncio.new_event_loop()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    threading.Thread(target=run, name="localgd-stream", daemon=True).start()
    return loop


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
