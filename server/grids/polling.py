"""Flower's own grids, of a SuperLink or a simulation, with replies fetched as soon as they are there."""

import time
from collections.abc import Iterable

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

SHORTEST, LONGEST = 0.005, 0.5
"""Seconds between two looks for replies."""

PATIENCE = 0.2
"""The next look comes after this share of the time since the last reply: at most so much is lost."""


class PollingGrid(Grid):
    """Another grid, asked for replies at short and growing intervals instead of every three seconds.

    Flower's own `send_and_receive` sleeps 3 s between two looks over a SuperLink.  This one builds on the
    public `push_messages` and `pull_messages` only, gives replies in the order of the messages, and lets an
    error that the SuperLink reports (a node that is gone) count as the reply of the node that was asked.

    Parameters
    ----------
    grid
        The grid that Flower handed to the ServerApp.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    @property
    def simulated(self) -> bool:
        """Whether the nodes are those of a simulation, which are all there from the start."""
        from flwr.superlink.grid import InMemoryGrid  # brings a SuperLink's state along

        return isinstance(self._grid, InMemoryGrid)

    def set_run(self, run: Run) -> None:
        """Let the messages from now on belong to `run`."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run that the messages belong to."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """The same as `flwr.app.Message(...)`, which is the way to do it now."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected now."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand the messages over and return their ids."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Fetch the replies that are there."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send the messages and wait for the replies, at most `timeout` seconds; in the messages' order.

        Replies that did not come are absent.
        """
        messages = list(messages)
        began = time.monotonic()
        pushed = set(self._grid.push_messages(messages))
        # A grid writes the id into the message; it returns fewer ids, or None, for what it did not take.
        replies = {
            id(message): _refused(message)
            for message in messages
            if message.metadata.message_id not in pushed
        }
        asked = {message.metadata.message_id: message for message in messages if id(message) not in replies}
        heard = time.monotonic()
        while asked:
            for reply in self._grid.pull_messages(list(asked)):
                message = asked.pop(reply.metadata.reply_to_message_id)
                # An error that the SuperLink sends in a node's place counts as the node's own.
                reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
                replies[id(message)] = reply
                heard = time.monotonic()
            now = time.monotonic()
            left = float("inf") if timeout is None else began + timeout - now
            if not asked or left <= 0:
                break
            time.sleep(min(max(PATIENCE * (now - heard), SHORTEST), LONGEST, left))
        return [replies[id(message)] for message in messages if id(message) in replies]


def _refused(message: Message) -> Message:
    """Return an error reply to a message that the grid did not take."""
    reason = "the SuperLink took no message for it: it is not connected any more, or the message is too large"
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, reason), reply_to=message)
