"""A TCP proxy between a client and a server, whose network can be cut, go silent, or be slow."""

import contextlib
import socket
import threading
import time
from typing import Self


class Proxy:
    """Passes bytes on in both directions.  Use it in a ``with`` statement.

    Parameters
    ----------
    port
        Where the server listens, on 127.0.0.1.
    rate
        Bytes per second in each direction of a connection; None for as fast as they come.
    """

    def __init__(self, port: int, rate: float | None = None) -> None:
        self._port, self._rate = port, rate
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()  # guards the open sockets and the budget
        self._budget: int | None = None
        self._passing = threading.Event()
        self._passing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        self.passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.resume()

    def cut(self) -> None:
        """Close all connections: both ends notice at once."""
        with self._lock:
            gone, self._open, self._budget = self._open, [], None
        for one in gone:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut_after(self, count: int) -> None:
        """Close all connections once so many more bytes have passed, wherever in a message that is."""
        with self._lock:
            self._budget = count

    def silence(self) -> None:
        """Pass nothing on any more, as a cable that was pulled: nobody is told."""
        self._passing.clear()

    def resume(self) -> None:
        """Pass on again, first what was held back."""
        self._passing.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # nobody listens there now
                near.close()
                continue
            with self._lock:
                self._open += [near, far]
            threading.Thread(target=self._join, args=(near, far), daemon=True).start()

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._passing.wait()
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
                data, over = self._allowed(data)
                sink.sendall(data)
                if over:
                    self.cut()
        except OSError:
            pass  # cut
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _allowed(self, data: bytes) -> tuple[bytes, bool]:
        """What may still pass of the data, and whether it was the last."""
        with self._lock:
            if self._budget is not None:
                data = data[: self._budget]
                self._budget -= len(data)
            self.passed += len(data)
            return data, self._budget == 0
