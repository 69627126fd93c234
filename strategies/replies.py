"""What a reply may be besides an answer, and how a grid is asked."""

from collections.abc import Iterable, Iterator, Sequence

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from common.errors import last_line
from common.messages import UNPREPARED, USER_ERROR

GONE = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""The codes of a Flower ``Error`` that a transport sends in the place of a client that it lost."""


class Absent(Exception):
    """No answer: the client is not there, or too late."""


class Unprepared(Exception):
    """The client has restarted and does not hold the run's preparation."""


class Refused(Exception):
    """An answer that does not count."""


class Hopeless(Refused):
    """An answer that does not count, and would be the same again: its reason is for the client's owner."""


def content_of(reply: Message | None) -> RecordDict:
    """Return what a reply holds.

    Raises
    ------
    Absent, Unprepared, Refused
        When it holds an error, or there is none.
    """
    if reply is None:
        raise Absent("did not answer in time")
    if not reply.has_error():
        return reply.content
    code, reason = reply.error.code, reply.error.reason or ""
    if code == UNPREPARED:
        raise Unprepared
    if code == USER_ERROR:
        raise Hopeless(reason)  # it says whose it is
    told = f"failed: {last_line(str(reason))}; its own log says more"
    raise (Absent if code in GONE else Refused)(told)


def exchange(grid: Grid, messages: Sequence[Message], timeout: float) -> Iterator[Message]:
    """Send the messages and yield the replies in the messages' order; those not in time are left out.

    A grid that has an ``exchange`` of its own yields each reply as soon as it is its turn, so that they need
    not be in memory together; of others, Flower's own, all are there at once.
    """
    if hasattr(grid, "exchange"):
        yield from grid.exchange(messages, timeout)
        return
    yield from in_order(messages, grid.send_and_receive(messages, timeout=timeout))


def in_order(messages: Sequence[Message], replies: Iterable[Message]) -> list[Message]:
    """Return the replies in the order of the messages that they answer; others come last."""
    places: dict[str | int, int] = {}
    for k, message in enumerate(messages):
        places[message.metadata.dst_node_id] = places[message.metadata.message_id] = k

    def place(reply: Message) -> int:
        told = reply.metadata
        by_node = places.get(told.src_node_id, len(messages))
        return places.get(told.reply_to_message_id, by_node) if told.reply_to_message_id else by_node

    return sorted(replies, key=place)


def is_reply_to(reply: Message, message: Message, sure: bool = True) -> bool:
    """Tell whether a reply names a message as its own, or, where that is not sure, comes from its node.

    An error may come from another node than was asked; a message that no grid has sent has no name.
    """
    if sure:
        return bool(reply.metadata.reply_to_message_id == message.metadata.message_id != "")
    return bool(reply.metadata.src_node_id == message.metadata.dst_node_id)
