"""Modified Local-GD: average the clients' local models, then pull towards an anchor that fades."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.federation import Federation
from common.solution import Answer, SolverSettings
from strategies.base import LocalSolveStrategy
from strategies.local_gd import mean_local_model

Vector = NDArray[np.float64]
PROXIMAL = SolverSettings(solver="proximal")


@dataclass(frozen=True)
class AnchoredState:
    """The model (d,), the anchor (d,) it is pulled to, the rounds done, and the model's dual mass.

    The mass is that of all steps, shrunk as the model was; it is the model's own ``from_zero`` and with an
    anchor of zero.
    """

    weights: Vector
    anchor: Vector
    rounds: int
    mass: float = 0.0
    from_zero: bool = False


class ModifiedLocalGD(LocalSolveStrategy[AnchoredState]):
    """``w ← (1 − α_r) anchor + α_r (1/M) Σ wᵢ`` with ``α_r = 1 − 1/(r + 1)``.

    Zhu, Vardhan and Mazumdar, arXiv 2412.07971.  With the ``proximal`` solver the learning rate does
    not depend on the number of local steps.  With ``projection``, its limit for ever weaker
    regularization, this is Halpern's iteration (1967): it converges to the projection of the anchor on
    the intersection of the clients' constraints, which for an anchor of zero is the centralized
    max-margin model.

    Parameters
    ----------
    anchor
        The point to pull to; None for the initial model.  Any other anchor than zero has another limit
        than the max-margin model.
    """

    def __init__(
        self,
        anchor: Vector | None = None,
        settings: SolverSettings = PROXIMAL,
        federation: Federation | None = None,
    ) -> None:
        super().__init__(settings, federation)
        self.anchor = anchor

    def init(self, weights: Vector) -> AnchoredState:
        """Start at the initial model, before round 1."""
        weights = np.asarray(weights, np.float64)
        anchor = weights if self.anchor is None else self.anchor
        if not anchor.any():
            anchor = np.broadcast_to(np.float64(0), weights.shape)  # takes no memory
        return AnchoredState(weights, anchor, 0, from_zero=not (weights.any() or anchor.any()))

    def combine(self, state: AnchoredState, answers: Iterable[Answer]) -> AnchoredState:
        """Average the local models and step back to the anchor by ``1/(r + 1)``."""
        rounds = state.rounds + 1
        back = 1 / (rounds + 1)
        mean, mass = mean_local_model(state.weights, state.mass, answers)
        mean *= 1 - back
        mean += back * state.anchor
        return replace(state, weights=mean, mass=(1 - back) * mass, rounds=rounds)

    def weights(self, state: AnchoredState) -> Vector:
        """Return the model."""
        return state.weights

    def dual_mass(self, state: AnchoredState) -> float:
        """From zero and with an anchor of zero, the model is a sum of shrunk displacements."""
        return state.mass if state.from_zero else 0.0

    def forget(self, state: AnchoredState, client: str) -> AnchoredState:
        """Keep the model; it is no combination of today's examples any more."""
        return replace(state, from_zero=False)
