"""Local-GD: average the clients' local models."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.solution import Answer
from strategies.base import LocalSolveStrategy

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class AverageState:
    """The model, and the dual mass of all steps to it from the initial one, which may have been zero."""

    weights: Vector
    mass: float = 0.0
    from_zero: bool = False


class LocalGD(LocalSolveStrategy[AverageState]):
    """``w ← (1/M) Σ wᵢ``, with ``wᵢ`` the clients' models after their local steps from ``w``.

    FedAvg with uniform weights and full-batch steps; Zhu, Vardhan and Mazumdar, arXiv 2412.07971,
    show that its direction converges to the centralized max-margin direction for every number of
    local steps.
    """

    def init(self, weights: Vector) -> AverageState:
        """Start at the initial model."""
        weights = np.asarray(weights, np.float64)
        return AverageState(weights, from_zero=not weights.any())

    def combine(self, state: AverageState, answers: Iterable[Answer]) -> AverageState:
        """Take the mean of the local models."""
        weights, mass = mean_local_model(state.weights, state.mass, answers)
        return replace(state, weights=weights, mass=mass)

    def weights(self, state: AverageState) -> Vector:
        """Return the model."""
        return state.weights

    def dual_mass(self, state: AverageState) -> float:
        """From zero, the model is the sum of all displacements so far."""
        return state.mass if state.from_zero else 0.0

    def forget(self, state: AverageState, client: str) -> AverageState:
        """Keep the model; it is no combination of today's examples any more."""
        return replace(state, from_zero=False)


def mean_local_model(weights: Vector, mass: float, answers: Iterable[Answer]) -> tuple[Vector, float]:
    """Return the uniform mean of the clients' local models, and its dual mass, in one pass over the answers.

    A stale answer's local model is that of its own centre: ``c + Zᵀa``, whatever the model is by now.

    Parameters
    ----------
    weights, mass
        The model that the fresh answers start from, and its dual mass.
    """
    moved, moved_mass, fresh = np.zeros_like(weights), 0.0, 0
    kept, kept_mass, stale = np.zeros(()), 0.0, 0
    for answer in answers:
        solution = answer.solutions[0]
        if answer.stale:
            kept = kept + answer.centres[0] + solution.displacement
            kept_mass += answer.centre_mass + solution.dual_mass
            stale += 1
        else:
            moved += solution.displacement
            moved_mass += solution.dual_mass
            fresh += 1
        del answer, solution  # before the next one is here
    if not stale:  # in place: a model may be large
        moved /= fresh
        moved += weights
        return moved, mass + moved_mass / fresh
    # all terms are combinations of examples, so nothing is subtracted
    count = fresh + stale
    return (fresh * weights + moved + kept) / count, (fresh * mass + moved_mass + kept_mass) / count
