"""The whole federation in this process: every message is one call of the ClientApp."""

from collections.abc import Iterable, Iterator, Sequence

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp

from common import interrupts
from common.stream import answer
from server.grids import StandaloneGrid


class InProcessGrid(StandaloneGrid):
    """A grid of virtual clients that answers in the caller's thread, one client after the other.

    Node ids are 1 … M, in the order of `node_configs`. Each node keeps one `Context`, so its state survives
    rounds. Nothing is serialised: the client app gets the very content object that was sent and must not
    change it.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Sequence[UserConfig],
        run_config: UserConfig,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._names = dict(enumerate(names, start=1))
        self._client_app = client_app
        self._contexts = {
            node_id: Context(self.run.run_id, node_id, node_config, RecordDict(), run_config)
            for node_id, node_config in enumerate(node_configs, start=1)
        }
        self._replies: dict[str, Message] = {}

    def names(self) -> dict[int, str]:
        """Node id -> name, where names were given."""
        return self._names

    def get_node_ids(self) -> list[int]:
        """1 … M."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Have the messages answered at once; the replies wait for `pull_messages`."""
        replies = self.send_and_receive(messages)
        self._replies.update((reply.metadata.reply_to_message_id, reply) for reply in replies)
        return [reply.metadata.reply_to_message_id for reply in replies]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to these messages, each handed out once."""
        return [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        """Have each message answered when its reply is asked for; `timeout` has nothing to wait for here."""
        return map(self._answer, messages)

    def _answer(self, message: Message) -> Message:
        context = self._contexts.get(message.metadata.dst_node_id)
        if context is None:
            raise ValueError(f"no node {message.metadata.dst_node_id}: they are 1 to {len(self._contexts)}")
        self._stamp(message)
        context.run_id = message.metadata.run_id
        interrupts.heed()
        return answer(self._client_app, message, context)
