"""Who takes part in a run and what the handshake agreed on."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

from common.handshake import Preparation
from common.losses import LOSSES, Loss
from common.scaling import Scaling
from common.solution import SolverSettings

NOWHERE = 0
"""The node id of no node."""


@dataclass(frozen=True)
class Client:
    """One client as the handshake found it.

    ``max_norm`` and ``beta`` are those of its final rows, after the division by the largest norm;
    ``node_id`` is `NOWHERE` while nobody knows how it is reached, as when a run goes on without it.
    """

    node_id: int
    name: str
    count: int
    fingerprint: str
    max_norm: float
    beta: float


@dataclass(frozen=True)
class Federation:
    """The clients, sorted by name, and how their rows are prepared.

    ``columns`` is the fingerprint of the feature names where a client's file has them, else ``"none"``;
    ``salt`` what the fingerprints of the data are salted with.
    """

    clients: tuple[Client, ...]
    preparation: Preparation
    norm: float
    columns: str = "none"
    salt: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The clients' names, in order."""
        return tuple(client.name for client in self.clients)

    @property
    def absent(self) -> tuple[str, ...]:
        """The names of the clients that nobody knows how to reach."""
        return tuple(client.name for client in self.clients if client.node_id == NOWHERE)

    @property
    def scaling(self) -> Scaling:
        """The whole map from raw features to rows, the division by the largest norm included."""
        return replace(self.preparation.scaling, norm=self.norm)

    @property
    def loss(self) -> Loss:
        """The loss that is trained."""
        return LOSSES[self.preparation.loss]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a model's weights: a row for each class where there may be several."""
        own = (self.scaling.dimension,)
        return (len(self.preparation.classes), *own) if self.loss.labels == "many" else own

    @property
    def size(self) -> int:
        """How many weights a model has."""
        return math.prod(self.shape)

    @property
    def beta(self) -> float:
        """The smoothness of the federation's loss, ``max βᵢ``."""
        return max(client.beta for client in self.clients)

    @property
    def max_norm(self) -> float:
        """The largest row norm."""
        return max(client.max_norm for client in self.clients)

    @property
    def reach(self) -> float:
        """The largest norm of a constraint."""
        return self.reach_of(self.max_norm)

    def reach_of(self, max_norm: float) -> float:
        """Return the largest norm of a constraint of such rows: that of ``(e_y − e_c) ⊗ x`` is ``√2 ‖x‖``."""
        return max_norm * (math.sqrt(2) if self.loss.labels == "many" else 1.0)

    def client(self, name: str) -> Client:
        """Return a client by name."""
        return next(client for client in self.clients if client.name == name)

    def changed(self, client: Client) -> "Federation":
        """Return the federation with a client of that name as it is now."""
        return replace(self, clients=tuple(client if c.name == client.name else c for c in self.clients))

    @property
    def largest(self) -> int:
        """The number of examples of the largest client."""
        return max(client.count for client in self.clients)

    def settings(self, settings: SolverSettings) -> SolverSettings:
        """Complete the solver's settings with what the handshake measured.

        A mini-batch sees single rows: its smoothness is that of the longest.
        """
        beta = self.loss.curvature * self.max_norm**2 if settings.batch_size else self.beta
        return replace(settings, beta=beta, norm=self.norm, preparation=self.preparation.fingerprint)
