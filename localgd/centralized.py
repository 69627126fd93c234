"""The centralized model of a federation: what all of its data, in one place, train to."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from common.config import Config
from common.errors import RunError
from common.labels import r_squared
from common.model import Model
from common.reference import Reference
from localgd.federations import in_process_grid
from server.app import solver_settings
from server.handshake import handshake
from server.inputs import all_parts, held_out_score, reference_of, share_right


@dataclass(frozen=True)
class Centralized:
    """A centralized model and how good it is.

    ``training`` is the share of training rows that it has right, ``test`` that of held-out rows, where there
    are any; for numbers to predict both are R².
    """

    model: Model
    reference: Reference
    what: str
    training: float
    test: float | None

    def lines(self) -> Iterator[str]:
        """Say it, one thing a line."""
        found, numbers = self.reference, not self.model.classes
        yield self.what
        if numbers:
            yield "the minimiser of least norm of the clients' mean squared error"
        elif found.separable:
            yield f"margin             {found.margin:.8g}, and none is larger than {found.bound:.8g}"
        else:
            yield "not linearly separable: the minimiser of the clients' mean loss"
        yield f"exact to within    {found.error_deg:.2g}°"
        for name, score in (("training", self.training), ("held-out", self.test)):
            if score is not None:
                yield f"{name} {'R²      ' if numbers else 'accuracy'}  {_score(score, numbers)}"


def centralized(config: Config) -> Centralized:
    """Pool the data of all clients in this process and compute what training on them tends to.

    Raises
    ------
    UserError
        When the data cannot be had or do not fit together, or the extra ``reference`` is not installed.
    RunError
        When there is no such model, or it could not be proved to be one.
    """
    grid = in_process_grid(config)
    federation = handshake(grid, grid.get_node_ids(), solver_settings(config), config.intercept, config.scale)
    score = held_out_score(config, federation)
    parts = all_parts(config, federation)
    found = reference_of(federation, parts)
    if found is None:
        raise RunError(
            "there is no centralized model: a direction separates the pooled data, but not strictly"
        )
    X, y = np.vstack([rows for rows, _ in parts]), np.concatenate([labels for _, labels in parts])
    classes = federation.preparation.classes
    training = share_right(X, y, found.weights) if classes else r_squared(X @ found.weights, y)
    what = (
        f"{federation.preparation.loss}: {len(y)} examples of {len(parts)} clients, {federation.size} weights"
    )
    model = Model.of(found.weights, federation.scaling, classes, federation.columns)
    return Centralized(model, found, what, training, score(found.weights) if score else None)


def _score(value: float, numbers: bool) -> str:
    if math.isnan(value):
        return "unknown: all values are the same"
    return f"{value:.4f}" if numbers else f"{100 * value:.1f}%"
