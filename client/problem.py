"""A client's share of the problem: signed rows and loss, with what can be computed once and for all."""

from functools import cached_property
from typing import Any

from array_api_compat import array_namespace

from common.losses import Loss
from common.solution import Measures

Array = Any


class Problem:
    """The local loss ``f(w) = mean ℓ(Z w)`` and the local constraints ``Z w ≥ 1``.

    Attributes
    ----------
    Z
        Signed rows ``y x``, shape (n, d), float64 in any array namespace.
    warm_active
        The active set that the last projection ended with: where the next one starts.  A hint that
        saves time and never changes the answer.
    norm
        What the rows have been divided by.
    """

    def __init__(self, Z: Array, loss: Loss, norm: float = 1.0) -> None:
        self.Z = Z
        self.loss = loss
        self.norm = norm
        self.count, self.dimension = Z.shape
        self.warm_active: list[int] = []

    def divided(self, norm: float) -> "Problem":
        """Return the problem with its rows divided by ``norm``, the Gram matrix taken along."""
        problem = Problem(self.Z / norm, self.loss, norm)
        if "gram" in self.__dict__:
            problem.gram = self.gram / norm**2
        return problem

    @cached_property
    def gram(self) -> Array:
        """``Z Zᵀ``, shape (n, n)."""
        return self.Z @ self.Z.T

    @cached_property
    def beta(self) -> float:
        """The smoothness of the local loss."""
        xp = array_namespace(self.Z)
        square = self.gram if self.count <= self.dimension else self.Z.T @ self.Z
        largest = float(xp.linalg.eigvalsh(square)[-1])
        return self.loss.smoothness(max(largest, 0.0) ** 0.5, self.count)

    @property
    def max_norm(self) -> float:
        """The largest row norm."""
        xp = array_namespace(self.Z)
        return float(xp.max(xp.linalg.vector_norm(self.Z, axis=1)))

    def measure(self, weights: Array) -> Measures:
        """Measure a model: mean loss, smallest margin, and how many examples have a margin <= 0."""
        xp = array_namespace(self.Z)
        margins = self.Z @ weights
        return Measures(
            loss=float(xp.mean(self.loss.value(margins))),
            margin=float(xp.min(margins)),
            errors=int(xp.count_nonzero(margins <= 0)),
            count=self.count,
        )
