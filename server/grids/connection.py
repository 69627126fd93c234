"""One client's stream: messages out at the client's pace, replies in with limited patience."""

import asyncio
import threading
from typing import Any

import grpc.aio

from common.frames import LONGEST, SHORTEST, Incoming, Outgoing

FRAME_SECONDS = 0.01
"""A client gets frames as large as it takes in about this time, so that many at once need little memory."""

PATIENCE, SLOWEST = 30.0, 2**14
"""Seconds, and bytes per second, that a reply may take from its first frame on, once it is being read."""


class Connection:
    """An open stream. `put` may be called from any thread, all the rest only in the loop.

    Parameters
    ----------
    context
        gRPC's, of the call.

    Attributes
    ----------
    over
        Set once the stream has ended, whoever ended it.
    """

    def __init__(self, context: Any) -> None:
        self.over = asyncio.Event()
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._outbox: asyncio.Queue[Outgoing | None] = asyncio.Queue()
        self._frame_bytes = SHORTEST

    def put(self, message: Outgoing | None) -> None:
        """Have a message sent when all before it have gone out; None ends the stream then."""
        if threading.get_ident() == self._thread:
            self._outbox.put_nowait(message)
        else:
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, message)

    async def send(self) -> None:
        """Send what is put, to the end."""
        while (message := await self._outbox.get()) is not None:
            for frame in message.frames(lambda: self._frame_bytes):
                began = self._loop.time()
                await self._context.write(frame)
                if len(frame) >= self._frame_bytes:
                    self._fit(self._loop.time() - began)

    def _fit(self, seconds: float) -> None:
        """Choose the size of the next frames by the time that the last took."""
        size = 2 * self._frame_bytes if seconds < FRAME_SECONDS else self._frame_bytes // 2
        self._frame_bytes = min(max(size, SHORTEST), LONGEST)

    async def read(self) -> bytes | None:
        """Receive a frame, however long that takes; None if the stream ends instead."""
        frame: bytes = await self._context.read()
        return None if frame is grpc.aio.EOF else frame

    async def read_rest(self, incoming: Incoming, keep: bool) -> bool:
        """Receive what is missing of a reply, or see it pass; whether it came before the stream ended.

        Raises
        ------
        ValueError
            If a frame is none of its.
        TimeoutError
            If it comes too slowly.
        """
        async with asyncio.timeout(PATIENCE + incoming.size / SLOWEST):
            while incoming.missing:
                frame = await self.read()
                if frame is None:
                    return False
                incoming.add(frame, keep)
        return True
