"""The ways to reach clients, each a Flower `Grid`; here what they have in common."""

import itertools
import secrets
from abc import abstractmethod
from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

SERVER_NODE_ID = 0


class ExchangeGrid(Grid):
    """A grid whose replies can be taken one at a time."""

    @abstractmethod
    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        """Send the messages and yield the replies in the messages' order, each as soon as it is its turn.

        Replies that are not in after `timeout` seconds are given up and left out. The messages go out when
        the first reply is asked for. Who takes one reply at a time bounds the memory that they need; one who
        stops early gives up the rest.
        """

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """All replies of `exchange` at once."""
        return list(self.exchange(messages, timeout))

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


class StandaloneGrid(ExchangeGrid):
    """A grid without a SuperLink: it is its own run and numbers its messages itself."""

    def __init__(self) -> None:
        self.set_run(Run.create_empty(run_id=secrets.randbits(62) + 1))
        # Random, so that a reply to a message of an earlier server process is never taken for one to ours.
        self._message_prefix = secrets.token_hex(8)
        self._message_numbers = itertools.count(1)

    def set_run(self, run: Run) -> None:
        """Let the messages from now on belong to `run`."""
        self._run = run
        _identify_process(run.run_id)

    @property
    def run(self) -> Run:
        """The run that the messages belong to."""
        return self._run

    def _stamp(self, message: Message) -> str:
        """Fill in what only the grid knows, as Flower's grids do, and return the message's id."""
        message_id = f"{self._message_prefix}-{next(self._message_numbers)}"
        message.metadata.__dict__.update(
            _run_id=self._run.run_id, _message_id=message_id, _src_node_id=SERVER_NODE_ID
        )
        return message_id


def _identify_process(run_id: int) -> None:
    """Later Flower versions build a `Message` only in a process that knows its run, node and task."""
    try:
        from flwr.supercore.task_identity import TaskIdentity  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, SERVER_NODE_ID, 0
