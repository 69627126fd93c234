"""Flower's built-in strategies, behind the same local solves and the same direction log."""

import copy
import gc
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import FLOWER_LOGGER
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError, InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg, FedProx
from numpy.typing import NDArray

from common.errors import RunError, UserError
from common.federation import Federation
from common.messages import TRAIN
from common.solution import DEFAULTS, Answer, SolverSettings
from strategies.base import LocalSolveStrategy

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class BuiltInState:
    """The model, the rounds done, and Flower's strategy with what it remembers after them.

    ``mass`` is the dual mass of all steps from an initial model of zero, where it is known.
    """

    weights: Vector
    rounds: int
    flower: FedAvg
    mass: float | None = None


class BuiltIn(LocalSolveStrategy[BuiltInState]):
    """Combine the clients' local models by one of Flower's own strategies.

    A client does the same local solve as with every other strategy.  Flower's ``configure_train`` and
    ``aggregate_train`` get the local models ``wᵢ = w + displacement`` as ordinary replies, with
    ``num-examples`` and the loss of ``w`` as ``train_loss``, and what they return is the next model.
    The certificate stays valid whatever they do: it rests on the displacements and the measured margins.

    Unlike Local-GD, which weighs clients the same, FedAvg and most of the others weigh them by their
    number of examples; QFedAvg, FedMedian, FedTrimmedAvg and Bulyan do not.

    Parameters
    ----------
    flower
        Flower's strategy, as it is before round 1; it is copied, never changed.  Its keys and its metrics
        functions are to be Flower's defaults.
    settings
        How the clients solve.  With ``FedProx`` they solve with ``proximal``, and ``proximal_mu`` is the
        weight ``λ`` of the proximal term, in the units of the scaled rows' loss.
    federation
        See `LocalSolveStrategy`.

    Raises
    ------
    UserError
        When the strategy wants only a share of the clients in a round (the certificate needs all), or for
        ``FedProx`` without a federation, whose smoothness turns ``μ`` into the clients' ``λ/β``.
    """

    def __init__(
        self, flower: FedAvg, settings: SolverSettings = DEFAULTS, federation: Federation | None = None
    ) -> None:
        super().__init__(settings, federation)
        if flower.fraction_train != 1.0:
            raise UserError(f"fraction_train = {flower.fraction_train:g} is not allowed; allowed: 1.0")
        if isinstance(flower, FedProx) and flower.proximal_mu:
            if not self.settings.beta:
                raise UserError("FedProx needs a federation: its handshake measures the smoothness β")
            decay = flower.proximal_mu / self.settings.beta
            self.settings = replace(self.settings, solver="proximal", regularization=decay)
        self.flower = flower

    def init(self, weights: Vector) -> BuiltInState:
        """Start at the initial model, with Flower's strategy as it was given."""
        flower = copy.deepcopy(self.flower)
        flower.min_train_nodes = flower.min_available_nodes = 1  # the round loop has gathered all clients
        weights = np.asarray(weights, np.float64)
        known = not weights.any() and _is_mean(flower)
        return BuiltInState(weights, rounds=0, flower=flower, mass=0.0 if known else None)

    def combine(self, state: BuiltInState, answers: Iterable[Answer]) -> BuiltInState:
        """Let a copy of Flower's strategy configure the round and aggregate the local models.

        Raises
        ------
        RunError
            When it refuses, returns no model, or one that is not finite or has another shape.
        """
        answers = list(answers)
        flower, number = copy.deepcopy(state.flower), state.rounds + 1
        name, arrays = type(flower).__name__, ArrayRecord({"weights": Array(state.weights)})
        nodes = cast(Grid, _Nodes(range(1, len(answers) + 1)))
        try:
            with _quietly(), _garbage_aside():
                flower.configure_train(number, arrays, ConfigRecord(), nodes)
                found, _ = flower.aggregate_train(number, local_models(state.weights, answers))
        except (AggregationError, InconsistentMessageReplies) as error:
            raise RunError(f"round {number}: Flower's {name} failed: {error}") from None
        if found is None:
            raise RunError(f"round {number}: Flower's {name} made no model of {len(answers)} local ones")
        weights = np.asarray(found["weights"].numpy(), np.float64)
        if weights.shape != state.weights.shape or not np.isfinite(weights).all():
            raise RunError(f"round {number}: the model of Flower's {name} is not finite")
        mass = None if state.mass is None else weighted_mass(state.mass, answers)
        return BuiltInState(weights, number, flower, mass)

    def weights(self, state: BuiltInState) -> Vector:
        """Return the model."""
        return state.weights

    def dual_mass(self, state: BuiltInState) -> float:
        """From zero, a mean of local models is a sum of displacements; else nothing is known."""
        return state.mass or 0.0

    def forget(self, state: BuiltInState, client: str) -> BuiltInState:
        """Keep the model; it is no combination of today's examples any more."""
        return replace(state, mass=None)

    def summary(self) -> None:
        """Log the solver's settings and those of Flower's strategy."""
        super().summary()
        self.flower.summary()


def local_models(weights: Vector, answers: Sequence[Answer]) -> list[Message]:
    """Return the clients' local models as the replies that Flower's strategies expect, in the same order."""
    replies = []
    for node, answer in enumerate(answers, start=1):
        start = answer.centres[0] if answer.stale else weights
        arrays = ArrayRecord({"weights": Array(start + answer.solutions[0].displacement)})
        measures = answer.measures
        metrics = MetricRecord({"num-examples": measures.count, "train_loss": measures.loss})
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        replies.append(Message(content, node, TRAIN))
    return replies


def weighted_mass(mass: float, answers: Sequence[Answer]) -> float:
    """Return the dual mass of the mean local model, weighted by examples, given that of the model."""
    total = sum(answer.measures.count for answer in answers)
    local = [
        (answer.centre_mass if answer.stale else mass) + answer.solutions[0].dual_mass for answer in answers
    ]
    return sum(a.measures.count * own for a, own in zip(answers, local, strict=True)) / total


def _is_mean(flower: FedAvg) -> bool:
    """Tell whether a strategy returns the mean of the local models, weighted by examples, and no more."""
    return type(flower) in (FedAvg, FedProx) and flower.weighted_by_key == "num-examples"


@dataclass(frozen=True)
class _Nodes:
    """As much of a Grid as Flower's strategies ask in ``configure_train``."""

    ids: Sequence[int]

    def get_node_ids(self) -> Sequence[int]:
        return self.ids


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what this thread logs below a warning: Flower's two lines a round, between our rows."""
    me = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or record.thread != me

    FLOWER_LOGGER.addFilter(keep)
    try:
        yield
    finally:
        FLOWER_LOGGER.removeFilter(keep)


@contextmanager
def _garbage_aside() -> Iterator[None]:
    """Keep the garbage collections that Flower's strategies ask for to what they made themselves.

    QFedAvg and Bulyan ask for a full one with every local model; over everything in the process that took
    most of a second a round.
    """
    frozen = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not frozen:  # else somebody else's objects are to stay where they are
            gc.unfreeze()
