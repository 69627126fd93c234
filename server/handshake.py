"""The handshake: two messages that fix scaling and step size, and refuse what does not fit together.

A run that goes on keeps what its own handshake fixed: it only finds its clients again.
"""

import itertools
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from logging import WARNING
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from common.errors import RunError, UserError, last_line
from common.federation import NOWHERE, Client, Federation
from common.handshake import (
    Description,
    Preparation,
    pack_describe,
    pack_preparation,
    unpack_description,
    unpack_prepared,
)
from common.labels import ordered
from common.losses import LOSSES
from common.messages import DESCRIBE, PREPARE, USER_ERROR
from common.scaling import ColumnStatistics, Scaling
from common.solution import DEFAULTS, SolverSettings
from strategies.roster import misfit

Found = TypeVar("Found")


def handshake(
    grid: Grid,
    nodes: Iterable[int],
    settings: SolverSettings = DEFAULTS,
    intercept: bool = True,
    scale: str = "standard",
    timeout: float = 600.0,
) -> Federation:
    """Get to know the clients and agree on how their rows are prepared.

    Parameters
    ----------
    nodes
        The node ids of the clients that take part.
    settings
        Loss, engine and device of the clients.
    intercept, scale
        As in the configuration.
    timeout
        Seconds for each of the two messages.

    Raises
    ------
    UserError
        When the clients' data do not fit together or a client cannot read its own; names the clients.
    RunError
        When a client does not answer or fails.
    """
    salt = secrets.token_hex(8)
    question = pack_describe(salt, scale == "standard", settings.loss)
    descriptions = _descriptions(grid, nodes, question, timeout)
    told = list(descriptions.values())
    columns = _check_columns(told)
    preparation = Preparation(
        _scaling(told, intercept, scale),
        common_classes(told, settings.loss),
        settings.loss,
        settings.engine,
        settings.device,
    )
    measured = _measured(grid, descriptions, preparation, timeout)
    largest = max(norm for norm, _ in measured.values())
    if not largest > 0:
        raise UserError("every row of every client is zero after scaling; there is nothing to learn from")
    norm = 1.0 if scale == "none" else largest
    clients = tuple(
        Client(
            node_id=node,
            name=description.name,
            count=description.count,
            fingerprint=description.fingerprint,
            max_norm=measured[node][0] / norm,
            beta=measured[node][1] / norm**2,
        )
        for node, description in descriptions.items()
    )
    return Federation(clients, preparation, norm, columns, salt)


def rejoin(
    grid: Grid, nodes: Iterable[int], federation: Federation, on_missing: str, timeout: float = 600.0
) -> Federation:
    """Find the clients of a run that goes on, and have them prepare their rows as they did in it.

    Parameters
    ----------
    nodes
        The node ids of the clients that are here.
    federation
        What the run's handshake agreed on, with the data that the clients had last.
    on_missing
        As in the configuration: unless it is ``"wait"``, the run goes on without those who are not here or do
        not answer as they should.
    timeout
        Seconds for each of the two messages.

    Raises
    ------
    UserError
        When a client is new, or has other data than it had, or is not here and has to be; names it.
    RunError
        When a client that has to be here does not answer or fails.
    """
    waits = on_missing == "wait"
    question = pack_describe(federation.salt, statistics=False, loss=federation.preparation.loss)
    descriptions = _descriptions(grid, nodes, question, timeout, waits)
    then = {client.name: client.fingerprint for client in federation.clients}
    here = {description.name: node for node, description in descriptions.items()}
    missing = [name for name in then if name not in here]
    changed = [
        d.name
        for d in descriptions.values()
        if d.name in then and (d.fingerprint != then[d.name] or misfit(d, federation))
    ]
    goes_on = "; with on-missing = 'skip' or 'reuse' it goes on without"
    for names, what in (
        (missing if waits else [], f"not here{goes_on}"),
        ([name for name in here if name not in then], "new: only those take part who did from the start"),
        (changed, "here with other data than then"),
    ):
        if names:
            raise UserError(
                f"the run cannot go on: {_some(names)} {'is' if len(names) == 1 else 'are'} {what}"
            )
    prepared = _measured(grid, descriptions, federation.preparation, timeout, waits)
    here = {name: node for name, node in here.items() if node in prepared}
    clients = [replace(c, node_id=here.get(c.name, NOWHERE)) for c in federation.clients]
    return replace(federation, clients=tuple(clients))


def common_classes(descriptions: Iterable[Description], loss: str) -> tuple[str, ...]:
    """Return the federation's classes in order: numbers by value, else words by the alphabet.

    There are none where the loss predicts numbers.

    Raises
    ------
    UserError
        When there is only one class in the whole federation, or more than two where the loss takes two.
    """
    labels = LOSSES[loss].labels
    if labels == "numbers":
        return ()
    descriptions = list(descriptions)
    for description in descriptions if labels == "two" else ():
        if len(description.classes) > 2:
            raise UserError(
                f"{description.name} has {len(description.classes)} labels ({_some(description.classes)}); "
                f"loss = '{loss}' takes two"
            )
    classes = {label for description in descriptions for label in description.classes}
    if len(classes) == 1:
        raise UserError(
            f"every example of every client has the label '{classes.pop()}'; two labels are needed"
        )
    if len(classes) > 2 and labels == "two":
        holders: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for description in descriptions:
            holders[description.classes].append(description.name)
        told = "; ".join(f"{_some(names)}: {_some(labels)}" for labels, names in holders.items())
        raise UserError(
            f"the clients' labels disagree, {len(classes)} in all where loss = '{loss}' takes two: {told}"
        )
    return ordered(classes)


def _descriptions(
    grid: Grid, nodes: Iterable[int], question: RecordDict, timeout: float, of_all: bool = True
) -> dict[int, Description]:
    """Have the clients describe their data; return by node what they say, in the order of their names."""
    known = _known(grid)
    names = {node: known.get(node, f"node {node}") for node in nodes}
    told = _ask(grid, names, DESCRIBE, question, unpack_description, timeout, of_all)
    for node, description in told.items():
        if known.get(node, description.name) != description.name:
            raise UserError(f"the client that joined as '{known[node]}' calls itself '{description.name}'")
    in_order = dict(sorted(told.items(), key=lambda one: one[1].name))
    _check_names(list(in_order.values()))
    return in_order


def _measured(
    grid: Grid,
    descriptions: Mapping[int, Description],
    preparation: Preparation,
    timeout: float,
    of_all: bool = True,
) -> dict[int, tuple[float, float]]:
    """Have the clients prepare their rows; return by node the largest row norm and the smoothness."""
    names = {node: description.name for node, description in descriptions.items()}
    question = pack_preparation(preparation)
    prepared = _ask(grid, names, PREPARE, question, unpack_prepared, timeout, of_all)
    return {node: (max_norm, beta) for node, (_, max_norm, beta) in prepared.items()}


def _ask(
    grid: Grid,
    names: Mapping[int, str],
    kind: str,
    question: RecordDict,
    unpack: Callable[[RecordDict], Found],
    timeout: float,
    of_all: bool,
) -> dict[int, Found]:
    """Send one message to every node and return what they answer.

    One who does not answer as it should ends the run, unless there need not be an answer ``of_all``.
    """
    messages = [Message(question, node, kind) for node in names]
    replies = {r.metadata.src_node_id: r for r in grid.send_and_receive(messages, timeout=timeout)}
    found = {}
    for node, reply in replies.items():
        try:
            found[node] = _answer(reply, names[node], unpack)
        except (UserError, RunError) as error:
            if of_all:
                raise
            log(WARNING, "%s; the run goes on without %s", error, names[node])
    if silent := [name for node, name in names.items() if node not in replies]:
        told = f"no answer within {timeout:g} s in the handshake from {_some(silent)}"
        if of_all:
            raise RunError(told)
        log(WARNING, "%s; the run goes on without", told)
    return found


def _answer(reply: Message, name: str, unpack: Callable[[RecordDict], Found]) -> Found:
    """Unpack an answer, or raise what it is instead."""
    if reply.has_error():
        if reply.error.code == USER_ERROR:
            raise UserError(reply.error.reason)  # it says whose it is
        reason = last_line(str(reply.error.reason))
        raise RunError(f"{name} failed in the handshake: {reason}; its own log says more")
    try:
        return unpack(reply.content)
    except ValueError as error:
        raise RunError(f"{name} answered badly in the handshake: {error}") from None


def _known(grid: Grid) -> dict[int, str]:
    """Return the names by node id, where the transport knows them."""
    names = getattr(grid, "names", None)
    return names() if names else {}


def _check_names(descriptions: list[Description]) -> None:
    for first, second in itertools.pairwise(descriptions):
        if first.name == second.name:
            raise UserError(f"two clients are called '{first.name}'; every client needs a name of its own")


def _check_columns(descriptions: list[Description]) -> str:
    """Return the fingerprint of the feature names, or ``"none"``."""
    widest = max(description.dimension for description in descriptions)
    by_dimension: dict[int, list[str]] = defaultdict(list)
    by_columns: dict[str, list[str]] = defaultdict(list)
    for description in descriptions:
        by_dimension[widest if description.open else description.dimension].append(description.name)
        if description.columns != "none":
            by_columns[description.columns].append(description.name)
    if len(by_dimension) > 1:
        told = "; ".join(f"{_some(names)}: {dimension}" for dimension, names in sorted(by_dimension.items()))
        raise UserError(f"the clients have different numbers of feature columns: {told}")
    if len(by_columns) > 1:
        told = " against ".join(_some(names) for names in by_columns.values())
        raise UserError(f"the clients' feature columns have other names or another order: {told}")
    return next(iter(by_columns), "none")


def _scaling(descriptions: list[Description], intercept: bool, scale: str) -> Scaling:
    dimension = max(description.dimension for description in descriptions)
    if scale != "standard":
        return Scaling.identity(dimension, intercept)
    statistics = [d.statistics.widened(dimension) for d in descriptions if d.statistics is not None]
    return Scaling.standard(ColumnStatistics.pool(statistics), intercept)


def _some(words: Iterable[str], most: int = 6) -> str:
    """List a few words and say how many more there are."""
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
