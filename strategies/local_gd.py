"""Local-GD: average the clients' local models."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.solution import Answer
from strategies.base import LocalSolveStrategy

Vector = NDArray[np.float64]


class LocalGD(LocalSolveStrategy[Vector]):
    """``w ← (1/M) Σ wᵢ``, with ``wᵢ`` the clients' models after their local steps from ``w``.

    FedAvg with uniform weights and full-batch steps; Zhu, Vardhan and Mazumdar, arXiv 2412.07971,
    show that its direction converges to the centralized max-margin direction for every number of
    local steps.
    """

    def init(self, weights: Vector) -> Vector:
        """Start at the initial model."""
        return np.asarray(weights, np.float64)

    def combine(self, state: Vector, answers: Sequence[Answer]) -> Vector:
        """Move by the mean displacement."""
        return state + mean_displacement(answers)

    def weights(self, state: Vector) -> Vector:
        """The state is the model."""
        return state


def mean_displacement(answers: Sequence[Answer]) -> Vector:
    """Return the uniform mean of the clients' displacements, summed in the order given."""
    total = np.zeros_like(answers[0].solutions[0].displacement)
    for answer in answers:
        total += answer.solutions[0].displacement
    return total / len(answers)
