"""The bare transport that the gRPC stream is compared with: frames out, the same frames back, no Flower.

As a program it is the server, ``python -m benchmarks.echo serve TLS-DIRECTORY CLIENTS``, which makes rounds
as it is told to, or one client, ``python -m benchmarks.echo join TLS-DIRECTORY ADDRESS NAME``.
"""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import grpc

SERVICE, METHOD = "benchmark.Echo", "Join"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class EchoServer:
    """Sends a frame to every client and waits until all have come back.  Use it in a `with` statement."""

    def __init__(self, tls: Path, clients: int) -> None:
        self._outboxes: SimpleQueue[SimpleQueue[bytes | None]] = SimpleQueue()
        self._inbox: SimpleQueue[int] = SimpleQueue()
        self._open: list[SimpleQueue[bytes | None]] = []
        self._clients = clients
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server = grpc.server(
            ThreadPoolExecutor(clients),
            handlers=[grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})],
            options=OPTIONS,
        )
        ca, certificate, key = ((tls / name).read_bytes() for name in ("ca.crt", "server.crt", "server.key"))
        credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
        self.port: int = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every stream."""
        for outbox in self._open:
            outbox.put(None)
        self._server.stop(1.0).wait(5.0)

    def wait(self) -> None:
        """Wait until all clients are there."""
        while len(self._open) < self._clients:
            self._open.append(self._outboxes.get(timeout=60))

    def rounds(self, size: int, count: int) -> None:
        """Send so many bytes to all and receive them from all, so many times."""
        frame = bytes(size)
        for _ in range(count):
            for outbox in self._open:
                outbox.put(frame)
            for _ in self._open:
                if (back := self._inbox.get(timeout=60)) != size:
                    raise AssertionError(f"{size} bytes went out, {back} came back")

    def _serve(self, frames: Iterator[bytes], context: Any) -> Iterator[bytes]:
        outbox: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(frames, outbox), daemon=True).start()
        self._outboxes.put(outbox)
        while (frame := outbox.get()) is not None:
            yield frame

    def _read(self, frames: Iterator[bytes], outbox: SimpleQueue[bytes | None]) -> None:
        try:
            for frame in frames:
                self._inbox.put(len(frame))
        except grpc.RpcError:
            pass  # the stream is over
        finally:
            outbox.put(None)


def serve(tls: Path, clients: int) -> None:
    """Tell the port; once all clients are there, make rounds for each line ``BYTES COUNT`` that comes in."""
    with EchoServer(tls, clients) as server:
        print(server.port, flush=True)
        server.wait()
        for line in sys.stdin:
            server.rounds(*map(int, line.split()))
            print("done", flush=True)


def join(tls: Path, address: str, name: str) -> None:
    """Send back whatever comes, until the server ends the stream."""
    ca, certificate, key = ((tls / file).read_bytes() for file in ("ca.crt", f"{name}.crt", f"{name}.key"))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    outbox: SimpleQueue[bytes | None] = SimpleQueue()
    with grpc.secure_channel(address, credentials, OPTIONS) as channel:
        for frame in channel.stream_stream(f"/{SERVICE}/{METHOD}")(iter(outbox.get, None)):
            outbox.put(frame)
        outbox.put(None)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        join(Path(sys.argv[2]), *sys.argv[3:])
