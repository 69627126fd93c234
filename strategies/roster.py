"""Who takes part in a run: by which node each client is reached, who is away, who answers badly."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from logging import INFO, WARNING

from flwr.app import Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from common.errors import RunError, UserError
from common.federation import Federation
from common.handshake import (
    Description,
    pack_describe,
    pack_preparation,
    unpack_description,
    unpack_prepared,
)
from common.interrupts import pause
from common.messages import DESCRIBE, PREPARE
from strategies.replies import Hopeless, Refused, content_of, exchange

PAUSE = 0.2
"""Seconds between two looks for a client that a round waits for."""


@dataclass(frozen=True)
class Policy:
    """What a run does about clients that do not answer, or badly.

    Attributes
    ----------
    on_missing
        ``"wait"``: one that has not answered when the round's time is up ends the run.  ``"reuse"``: its last
        answer counts again, to the centre that it was given for.  ``"skip"``: the round goes on without.
    min_clients
        The fewest answers that a round goes on with; all of them, where there are fewer clients.
    max_bad_replies
        With so many answers refused, a client is left out from then on; with ``"wait"`` that ends the run.
    """

    on_missing: str = "wait"
    min_clients: int = 1
    max_bad_replies: int = 3


class DataChanged(RunError):
    """A client has come back with other data than in the handshake: the round must begin anew."""


class Roster:
    """The clients of a run, by name.

    A client that has been missing is away: no round waits for it, but at the beginning of each it is asked to
    describe its data, and once it has it takes part again.  It may then be another node, as over a SuperLink.
    Who was not there in the handshake takes no part.

    Parameters
    ----------
    grid
        What the clients are reached over.
    federation
        What the handshake agreed on; without one, every connected node is a client of its own.
    policy
        What happens when a client does not answer, or badly.

    Attributes
    ----------
    federation
        As it is now: with the clients' data of today.
    refused
        How many answers of each client were refused.
    """

    def __init__(self, grid: Grid, federation: Federation | None, policy: Policy) -> None:
        self.grid, self.federation, self.policy = grid, federation, policy
        self.clients = {client.name: client for client in federation.clients} if federation else {}
        self.refused: Counter[str] = Counter()
        self.left_out: set[str] = set()
        self._away = set(federation.absent) if federation else set()
        self._changed: list[str] = []
        self._changes: Counter[str] = Counter()
        self._nodes = {name: client.node_id for name, client in self.clients.items()}
        self._strangers: set[int] = set()
        self._probes: dict[str, int] = {}  # message id -> node, of the descriptions that are out

    @property
    def waits(self) -> bool:
        """Whether no round goes on without everybody."""
        return self.policy.on_missing == "wait"

    @property
    def names(self) -> list[str]:
        """The names of all clients, in order."""
        return list(self._nodes)

    def here(self) -> Mapping[str, int]:
        """Return by name, in order, the nodes of the clients that a round asks."""
        if self.federation is None:
            self._nodes = {f"node {node}": node for node in sorted(self.grid.get_node_ids())}
            self._away.clear()  # there is no name by which they would be found again
        gone = self._away | self.left_out
        return {name: node for name, node in self._nodes.items() if name not in gone}

    def node(self, name: str) -> int:
        """Return by which node a client is reached now."""
        return self._nodes[name]

    def refuse(self, name: str, number: int, refused: Refused) -> bool:
        """Count an answer that is refused, and return whether the client may be asked again.

        Raises
        ------
        UserError, RunError
            When it may not and the policy is to wait; says what was wrong and with whom.
        """
        self.refused[name] += 1
        count, most = self.refused[name], self.policy.max_bad_replies
        hopeless = isinstance(refused, Hopeless)
        again = count < most and not hopeless
        if hopeless and self.waits:
            raise UserError(str(refused))
        told = f"round {number}: {refused if hopeless else f'{name} {refused}'}"
        told += f" ({count} of max-bad-replies = {most})"
        if self.waits and not again:
            raise RunError(told)
        log(WARNING, "%s", told)
        if count >= most:
            self.left_out.add(name)
            log(WARNING, "%s takes no part any more", name)
        return again

    def stray(self, node: int, number: int) -> None:
        """Count a reply to nothing that is asked, or a second one."""
        name = next((name for name, its in self._nodes.items() if its == node), f"node {node}")
        self.refused[name] += 1
        log(WARNING, "round %d: %s answered what was not asked, or twice", number, name)

    def changes(self) -> list[str]:
        """Return, once, who has come back with other data; `federation` has them as they are now."""
        names, self._changed = self._changed, []
        return names

    @property
    def stale(self) -> bool:
        """Whether a client has come back with other data, and nobody has taken note of it yet."""
        return bool(self._changed)

    def lose(self, name: str) -> None:
        """Take note that a client is away."""
        self._away.add(name)

    def find(self, name: str, deadline: float) -> bool:
        """Look for a client that its transport lost, under whatever node, until some `time.monotonic`."""
        self.lose(name)
        while self.federation and time.monotonic() < deadline:
            self.look(deadline - time.monotonic())
            if name not in self._away:
                return True
            pause(PAUSE)
        return False

    def look(self, timeout: float) -> None:
        """Take back those who are away and have described their data again; ask the others to."""
        if not self._away or self.federation is None:
            return
        self._probe(self.federation)
        for reply in list(self.grid.pull_messages(list(self._probes))) if self._probes else []:
            node = self._probes.pop(reply.metadata.reply_to_message_id, None)
            if node is None or reply.has_error():  # such as of a node that has gone meanwhile
                continue
            try:
                description = unpack_description(reply.content)
                if description.name in self._away:
                    self._take_back(description, node, timeout)
                else:
                    self._strangers.add(node)
                    log(INFO, "%s joined after the handshake: it takes no part", description.name)
            except Exception as error:  # whatever a stranger's records can raise
                log(WARNING, "node %d is not taken back: %s", node, error)

    def prepare(self, name: str, timeout: float) -> None:
        """Prepare a client anew that has lost its preparation by a restart.

        Raises
        ------
        DataChanged
            When its data are not those of before; `changes` then names it.
        Absent, Unprepared, Refused
            When it does not answer as it should.
        """
        assert self.federation is not None
        if self.federation.salt:
            try:
                content = content_of(self._ask(name, DESCRIBE, _describe(self.federation), timeout))
                description = unpack_description(content)
            except (KeyError, TypeError, ValueError) as error:
                raise Refused(f"does not describe its data in a way that can be read: {error}") from None
            if description.name != name:
                raise Refused(f"calls itself '{description.name}'")
            if self._is_changed(description, timeout):
                raise DataChanged(f"{name} has come back with other data")
        content_of(self._ask(name, PREPARE, pack_preparation(self.federation.preparation), timeout))

    def _probe(self, federation: Federation) -> None:
        """Ask all nodes to describe their data that may be clients that were away."""
        reached = {node for name, node in self._nodes.items() if name not in self._away}
        known = reached | self._strangers | set(self._probes.values())
        content = _describe(federation)
        messages = [Message(content, n, DESCRIBE) for n in self.grid.get_node_ids() if n not in known]
        taken = set(self.grid.push_messages(messages)) if messages else set()
        for message in messages:
            if message.metadata.message_id in taken:
                self._probes[message.metadata.message_id] = message.metadata.dst_node_id

    def _take_back(self, description: Description, node: int, timeout: float) -> None:
        name, before = description.name, self._nodes[description.name]
        self._nodes[name] = node
        try:
            self._is_changed(description, timeout)
        except BaseException:
            self._nodes[name] = before
            raise
        self._away.discard(name)
        log(INFO, "%s is back", name)

    def _is_changed(self, description: Description, timeout: float) -> bool:
        """Tell whether a client's data are not those of before; if so, measure what they are now."""
        federation, name = self.federation, description.name
        assert federation is not None
        if description.fingerprint == self.clients[name].fingerprint:
            return False
        self._changes[name] += 1
        if self._changes[name] > self.policy.max_bad_replies:
            raise Refused("has come back with other data once more")
        if wrong := misfit(description, federation):
            raise Refused(f"has come back with other data, which do not fit: {wrong}")
        log(WARNING, "%s has come back with other data: nothing that was proved before holds any more", name)
        content = content_of(self._ask(name, PREPARE, pack_preparation(federation.preparation), timeout))
        _, max_norm, beta = unpack_prepared(content)
        client = replace(
            self.clients[name],
            node_id=self._nodes[name],
            count=description.count,
            fingerprint=description.fingerprint,
            max_norm=max_norm / federation.norm,
            beta=beta / federation.norm**2,
        )
        self.clients[name], self.federation = client, federation.changed(client)
        self._changed.append(name)
        return True

    def _ask(self, name: str, kind: str, content: RecordDict, timeout: float) -> Message | None:
        replies = list(exchange(self.grid, [Message(content, self._nodes[name], kind)], timeout))
        return replies[0] if replies else None


def misfit(description: Description, federation: Federation) -> str | None:
    """Say why data cannot take the place of a client's in a run that has begun, or None if they can."""
    columns, preparation = len(federation.scaling.mean), federation.preparation
    if description.dimension != columns and not (description.open and description.dimension < columns):
        return f"they have {description.dimension} feature columns, the others {columns}"
    if "none" != description.columns != federation.columns != "none":
        return "their feature columns have other names or another order"
    if strangers := set(description.classes) - set(preparation.classes):
        return f"nobody had the label '{min(strangers)}' in the handshake"
    return None


def _describe(federation: Federation) -> RecordDict:
    return pack_describe(federation.salt, statistics=False, loss=federation.preparation.loss)
