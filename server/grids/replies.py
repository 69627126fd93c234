"""The replies on their way: which of them may come in now, which are in, and for which somebody waits."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from common.frames import Incoming
from common.interrupts import wait_for
from server.grids.places import Client

READ_AHEAD = 2**24
"""Bytes of large replies that are received before it is their turn."""


class Replies:
    """The replies by the id of the message that they answer, each handed out once.

    A large reply that belongs to an exchange is left with its sender until it is almost its turn. Replies
    arrive in the loop and are taken in other threads.

    Parameters
    ----------
    changed
        Guards all that is here; notified of each reply that somebody waits for, and of the end.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._here: dict[str, tuple[Client, Incoming]] = {}
        self._begun: set[str] = set()  # to arrive
        self._awaited: set[str] = set()  # this moment
        self._turns: dict[str, int] = {}  # of those in an exchange
        self._turn = 0
        self._held: dict[str, _Held] = {}  # until their turn is near
        self._closed = False

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def expect(self, message_ids: Sequence[str]) -> None:
        """Fix the order in which replies will be taken."""
        with self._changed:
            self._turns |= {message_id: turn for turn, message_id in enumerate(message_ids)}

    def take(self, message_id: str, deadline: float | None) -> tuple[Client, Incoming] | None:
        """The next reply of those expected, and whose it is; None if it has not begun to come in time.

        Parameters
        ----------
        deadline
            On the clock of `time.monotonic`.
        """
        left = None if deadline is None else max(0.0, deadline - time.monotonic())

        def settled() -> bool:
            return message_id in self._here or self._closed

        with self._changed:
            self._turn = self._turns[message_id]
            self._awaited.add(message_id)
            for held, reply in self._held.items():
                if self._is_near(held, reply.size):
                    reply.release()
            if not wait_for(self._changed, settled, left):
                # One that came in time is waited for; its stream's task sees to it that it comes or fails.
                wait_for(self._changed, lambda: settled() or message_id not in self._begun, None)
            self._awaited.discard(message_id)
            return self._here.pop(message_id, None)

    def pull(self, message_ids: Iterable[str]) -> list[tuple[Client, Incoming]]:
        """Those that are in."""
        with self._changed:
            return [self._here.pop(one) for one in message_ids if one in self._here]

    def give_up(self, message_ids: Iterable[str]) -> None:
        """Nobody will take these."""
        with self._changed:
            for message_id in message_ids:
                self._here.pop(message_id, None)
                self._turns.pop(message_id, None)
                if message_id in self._held:
                    self._held[message_id].release()

    @contextlib.contextmanager
    def arriving(self, message_id: str) -> Iterator[None]:
        """While a reply arrives frame by frame that somebody may wait for."""
        with self._changed:
            self._begun.add(message_id)
        try:
            yield
        finally:
            with self._changed:
                self._begun.discard(message_id)
                if message_id in self._awaited:
                    self._changed.notify_all()

    async def turn_is_near(self, message_id: str, size: int) -> None:
        """Wait until a reply of `size` bytes may be received."""
        with self._changed:
            if self._is_near(message_id, size):
                return
            held = self._held[message_id] = _Held(size)
        try:
            await held.released.wait()
        finally:
            with self._changed:
                del self._held[message_id]

    def add(self, client: Client, incoming: Incoming) -> None:
        """A client's reply is in."""
        with self._changed:
            self._here[incoming.reply_to] = client, incoming
            if incoming.reply_to in self._awaited:
                self._changed.notify_all()

    def _is_near(self, message_id: str, size: int) -> bool:
        """Whether a reply may be received now: if its turn comes soon, or nobody wants it."""
        turn = self._turns.get(message_id)
        return turn is None or turn - self._turn <= max(1, READ_AHEAD // size)


class _Held:
    """A reply that is left with its sender for now."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.released = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def release(self) -> None:
        """Let it come; from any thread."""
        self._loop.call_soon_threadsafe(self.released.set)
