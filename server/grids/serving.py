"""What the server does with a stream, from the call to its end."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from logging import INFO, WARNING
from typing import Any

import grpc
from flwr.common import log

from common.frames import Incoming, TooLarge
from server.grids.connection import Connection
from server.grids.identity import Refusal
from server.grids.places import Client, Places
from server.grids.replies import Replies


class Service:
    """Serves the clients' streams; runs in the loop.

    Parameters
    ----------
    identify
        Says the name and the session of who has opened a stream, or raises a `Refusal`.
    places
        Where a client is let in, or not.
    replies
        Where its replies go.
    changed
        Guards both.
    max_message_bytes
        Largest reply.
    """

    def __init__(
        self,
        identify: Callable[[Any], Awaitable[tuple[str, str]]],
        places: Places,
        replies: Replies,
        changed: threading.Condition,
        max_message_bytes: int,
    ) -> None:
        self._identify = identify
        self._places = places
        self._replies = replies
        self._changed = changed
        self._max_message_bytes = max_message_bytes

    async def serve(self, _: object, context: Any) -> None:
        """Serve one stream, as gRPC calls it."""
        connection = Connection(context)
        try:
            name, session = await self._identify(context)
            client = await self._places.admit(name, session, connection)
        except Refusal as refusal:
            if refusal.code is not grpc.StatusCode.UNAVAILABLE:
                log(WARNING, "refused %s: %s", context.peer(), refusal.reason)
            await context.abort(refusal.code, refusal.reason)
        ways: list[asyncio.Task[None]] = []
        try:
            await context.write(str(self._max_message_bytes).encode())  # welcome
            ways = [
                asyncio.create_task(connection.send()),
                asyncio.create_task(self._receive(client, connection)),
            ]
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._places.leave(client, connection)
        ending = self._ending(client, [way.exception() for way in done])
        if ending is not None:
            await context.abort(ending.code, ending.reason)

    def _ending(self, client: Client, errors: list[BaseException | None]) -> Refusal | None:
        """What the client is told at the end of its stream; nothing if the run has gone well."""
        for error in errors:
            if isinstance(error, Refusal):
                return error
        if client.refusal is not None:  # its outbox may have ended before its next frame was read
            return client.refusal
        if not self._places.closed:
            return Refusal(grpc.StatusCode.UNAVAILABLE, "the stream was given up")
        reason = self._places.reason
        return None if reason is None else Refusal(grpc.StatusCode.ABORTED, reason)

    async def _receive(self, client: Client, connection: Connection) -> None:
        """Take a client's replies, one after the other, until its stream ends.

        Raises
        ------
        Refusal
            If it sends what it should not.
        """
        try:
            while (first := await connection.read()) is not None:
                if client.refusal is not None:
                    raise client.refusal
                # No name for the reply here: it would be kept until the next one.
                if not await self._take(client, connection, Incoming(first, self._max_message_bytes)):
                    return
        except TooLarge as error:
            log(WARNING, "client %s sent too large a message: %s", client.name, error)
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"this client's message is too large: {error}"
            ) from None
        except ValueError as error:
            self._places.offend(client, f"sent what is no message: {error}")
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT, f"the server cannot read this client's reply: {error}"
            ) from None

    async def _take(self, client: Client, connection: Connection, incoming: Incoming) -> bool:
        """Take the rest of a reply once its turn is near; False if the stream is of no use any more."""
        answered = incoming.reply_to
        if not incoming.missing:
            if answered in client.unanswered:
                incoming.message()  # where it is cheap, see at once whether it is one
            self._file(client, connection, incoming)
            return True
        with self._replies.arriving(answered) if answered in client.unanswered else nullcontext():
            await self._replies.turn_is_near(answered, incoming.size)
            try:
                if not await connection.read_rest(incoming, keep=answered in client.unanswered):
                    return False
            except TimeoutError:
                log(WARNING, "client %s takes too long to send its reply", client.name)
                return False
            self._file(client, connection, incoming)
            return True

    def _file(self, client: Client, connection: Connection, incoming: Incoming) -> None:
        """A reply is in: put it where it is waited for, and go on with the client's next message."""
        answered = incoming.reply_to
        with self._changed:
            now = client.connection is connection
            asked = now and client.in_flight == answered
            if asked:
                client.in_flight = None
            if client.unanswered.pop(answered, None) is not None:
                self._replies.add(client, incoming)
            elif asked:
                log(INFO, "client %s: late reply to %s, nobody waits for it", client.name, answered)
            elif now:
                self._places.offend(client, f"answered {answered[:80]!r} unasked, or twice")
            client.send_next()
