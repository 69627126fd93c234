"""What a run needs besides its clients' work: the clients themselves, test rows, a start and a reference."""

import time
from collections.abc import Callable
from functools import partial
from logging import INFO
from pathlib import Path
from typing import Any

import numpy as np
from flwr.common.logger import log
from flwr.serverapp import Grid
from numpy.typing import NDArray

from common import interrupts, virtual
from common import reference as references
from common.config import Config
from common.errors import NotInstalled, RunError, UserError
from common.federation import Federation
from common.labels import encoded, r_squared, targets
from common.model import read_weights
from common.reference import Reference
from common.sparse import Features, dense, is_sparse

Vector = NDArray[np.float64]
Parts = list[tuple[NDArray[np.float64], NDArray[Any]]]


def wait_for_nodes(grid: Grid, wanted: int, config: Config) -> list[int]:
    """Wait for the wanted number of clients, at most ``join-timeout`` seconds; ``min-clients`` will do then.

    Raises
    ------
    RunError
        When fewer have come by then.
    """
    deadline, seen = time.monotonic() + config.join_timeout, -1
    while len(nodes := sorted(grid.get_node_ids())) < wanted and time.monotonic() < deadline:
        if len(nodes) != seen:
            seen = len(nodes)
            log(
                INFO,
                "waiting for clients, at most %g s (join-timeout): %d of %d are here",
                config.join_timeout,
                seen,
                wanted,
            )
        interrupts.pause(0.1)
    if len(nodes) < min(config.min_clients, wanted):
        raise RunError(
            f"only {len(nodes)} of {wanted} clients came within join-timeout = {config.join_timeout:g} s; "
            f"at least min-clients = {config.min_clients} are needed: start more, or lower clients"
        )
    return nodes[:wanted]


def simulated_nodes(grid: Grid, config: Config) -> list[int]:
    """Return the nodes of a simulation once all are registered: exactly one for every virtual client.

    Raises
    ------
    UserError
        When there are more or fewer of them than clients.
    """
    deadline, before = time.monotonic() + config.join_timeout, 0
    while len(nodes := sorted(grid.get_node_ids())) != before or not nodes:
        if time.monotonic() > deadline:
            raise RunError(f"the simulation has not started within join-timeout = {config.join_timeout:g} s")
        before = len(nodes)
        time.sleep(0.25)  # Flower registers them one after the other, in no time
    wanted = virtual.count(config)
    if len(nodes) != wanted:
        clients = f"data-dir = '{config.data_dir}' has files for" if config.dataset == "file" else "clients ="
        raise UserError(
            f"the simulation has num-supernodes = {len(nodes)}, but {clients} {wanted}; make them equal, "
            f"such as with --federation-config 'num-supernodes={wanted}'"
        )
    return nodes


def held_out_score(config: Config, federation: Federation) -> Callable[[Vector], float] | None:
    """Return the function that scores a model on the held-out rows, where there are any.

    The score is the accuracy; for numbers to predict, R².
    """
    test = virtual.held_out(config)
    if test is None:
        return None
    classes, features = federation.preparation.classes, len(federation.scaling.mean)
    where = f"test = '{config.test}'" if config.test else f"dataset = '{config.dataset}'"
    if test.X.shape[1] > features or (test.X.shape[1] < features and not is_sparse(test.X)):
        raise UserError(
            f"{where}: the held-out rows have {test.X.shape[1]} feature columns, the clients {features}"
        )
    if "none" != test.column_fingerprint != federation.columns != "none":
        raise UserError(f"{where}: the held-out columns have other names or another order than the clients'")
    rows = federation.scaling.rows(test.X)
    if federation.loss.labels == "numbers":
        values = targets(test.y, f"{where}: ")
        return lambda weights: r_squared(rows @ weights, values)
    if strangers := set(test.y.tolist()) - set(classes):
        raise UserError(
            f"{where}: the held-out label '{min(strangers)}' is none of the clients' ({', '.join(classes)})"
        )
    return partial(share_right, rows, encoded(test.y, classes))


def share_right(rows: Features, labels: NDArray[np.intp], weights: Vector) -> float:
    """Return the share of rows (n, d) whose class a model (d,) or (C, d) finds; a tie finds none."""
    scores = rows @ weights.T
    if scores.ndim == 1:
        return float(np.mean(np.where(labels == 1, scores > 0, scores < 0)))
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    return float(np.mean(np.sum(scores >= own, axis=1) == 1))


def initial_weights(config: Config, federation: Federation) -> Vector:
    """Return the model to start from: zero, or the file ``init``."""
    if config.init:
        return _read(config.init, "init", federation)
    return np.zeros(federation.shape)


def find_reference(config: Config, federation: Federation, all_here: bool) -> Reference | None:
    """Return the centralized model: computed where all data are in this process, or read from a file.

    Without the packages that compute it there is none, and the log says so.
    """
    if config.reference not in ("auto", "none"):
        weights = _read(config.reference, "reference", federation)
        return Reference(weights, margin=float("nan"), bound=float("nan"), error_deg=0.0)
    if config.reference == "none" or not all_here:
        return None
    try:
        found = reference_of(federation, all_parts(config, federation))
    except NotInstalled as error:
        log(INFO, "no true angles: %s", error)
        return None
    if found is None or not found.separable:
        log(INFO, "the pooled data are not linearly separable: there is no max-margin model to compare with")
    if found is not None and not found.separable:
        log(INFO, "true angles are to the minimiser of the clients' mean loss")
    return found


def reference_of(federation: Federation, parts: Parts) -> Reference | None:
    """Return the centralized model of all clients' prepared data, or None where there is none."""
    return references.centralized(federation.preparation.loss, parts, len(federation.preparation.classes))


def _read(path: str, key: str, federation: Federation) -> Vector:
    classes = federation.preparation.classes if federation.loss.labels == "many" else ()
    return read_weights(Path(path), key, federation.scaling, classes)


def all_parts(config: Config, federation: Federation) -> Parts:
    """Return the rows and the numbered labels, or targets, of all clients, in the order of their names."""
    partitions = {name: k for k, name in enumerate(virtual.names(config))}
    classes = federation.preparation.classes
    parts = []
    for client in federation.clients:
        data = virtual.shard(config, partitions[client.name])
        labels = encoded(data.y, classes) if classes else targets(data.y)
        parts.append((dense(federation.scaling.rows(data.X)), labels))
    return parts
