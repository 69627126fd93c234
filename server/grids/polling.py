"""Flower's own grids, of a SuperLink or a simulation, with replies fetched as soon as they are there."""

import math
import time
from collections.abc import Iterable, Iterator

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from common.interrupts import pause
from common.messages import count_bytes
from server.grids import ExchangeGrid

SHORTEST, LONGEST = 0.005, 0.5
"""Seconds between two looks for replies."""

READ_AHEAD = 2**24
"""Bytes of replies that are fetched before it is their turn, if they are as large as the messages."""

PATIENCE = 0.2
"""The next look comes after this share of the time since the last reply: at most so much is lost."""


class PollingGrid(ExchangeGrid):
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

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected now."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand the messages over and return their ids."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Fetch the replies that are there."""
        return self._grid.pull_messages(message_ids)

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        """Send the messages and yield the replies in the messages' order; late ones are left out.

        Of large replies only the next few are fetched before they are asked for, `READ_AHEAD` bytes; the rest
        stay with the SuperLink until then.
        """
        messages = list(messages)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        pushed = set(self._grid.push_messages(messages))
        # A grid writes the id into the message; it returns fewer ids, or None, for what it did not take.
        owed = [m.metadata.message_id for m in messages if m.metadata.message_id in pushed]
        largest = max((count_bytes(message.content) for message in messages), default=0)
        ahead = max(1, READ_AHEAD // (largest + 1))
        fetched: dict[str, Message] = {}
        heard = time.monotonic()
        for message in messages:
            message_id = message.metadata.message_id
            if message_id not in pushed:
                yield _refused(message)
                continue
            while message_id not in fetched:
                near = [one for one in owed[:ahead] if one not in fetched]
                came = {r.metadata.reply_to_message_id: r for r in self._grid.pull_messages(near)}
                fetched |= came
                now = time.monotonic()
                heard = now if came else heard
                if message_id in fetched or now >= deadline:
                    break
                if not came:
                    patience = min(max(PATIENCE * (now - heard), SHORTEST), LONGEST)
                    pause(min(patience, deadline - now))
            owed.remove(message_id)
            if (reply := fetched.pop(message_id, None)) is not None:
                # An error that the SuperLink sends in a node's place counts as the node's own.
                reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
                yield reply
                del reply  # before the next one is fetched


def _refused(message: Message) -> Message:
    """Return an error reply to a message that the grid did not take."""
    reason = "the SuperLink took no message for it: it is not connected any more, or the message is too large"
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, reason), reply_to=message)
