"""Local-GD: average the clients' local models."""

from collections.abc import Sequence
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

    def combine(self, state: AverageState, answers: Sequence[Answer]) -> AverageState:
        """Move by the mean displacement."""
        return replace(
            state,
            weights=state.weights + mean_displacement(answers),
            mass=state.mass + mean_dual_mass(answers),
        )

    def weights(self, state: AverageState) -> Vector:
        """Return the model."""
        return state.weights

    def dual_mass(self, state: AverageState) -> float:
        """From zero, the model is the sum of all displacements so far."""
        return state.mass if state.from_zero else 0.0


def mean_displacement(answers: Sequence[Answer]) -> Vector:
    """Return the uniform mean of the clients' displacements, summed in the order given."""
    total = np.zeros_like(answers[0].solutions[0].displacement)
    for answer in answers:
        total += answer.solutions[0].displacement
    return total / len(answers)


def mean_dual_mass(answers: Sequence[Answer]) -> float:
    """Return the dual mass of the mean displacement."""
    return sum(answer.solutions[0].dual_mass for answer in answers) / len(answers)
