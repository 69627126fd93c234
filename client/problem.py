"""A client's share of the problem: signed rows and loss, with what can be computed once and for all."""

import math
from collections.abc import Hashable
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from common.losses import Loss
from common.solution import Measures
from common.sparse import dense, is_sparse

Array = Any

SMALL = 1000
"""Up to this many rows or columns the largest singular value comes from a dense matrix of that size."""


class Problem:
    """The local loss ``f(w) = mean ℓ(Z w)`` and the local constraints ``Z w ≥ 1``.

    Attributes
    ----------
    Z
        Signed rows ``y x``, shape (n, d), float64 in any array namespace, or a scipy sparse array.
    size
        How many values the rows hold: what a product with them costs.
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
        self.size = Z.nnz if is_sparse(Z) else self.count * self.dimension
        self.warm_active: list[int] = []

    def divided(self, norm: float) -> "Problem":
        """Return the problem with its rows divided by ``norm``."""
        return Problem(self.Z / norm, self.loss, norm)

    @cached_property
    def gram(self) -> Array:
        """``Z Zᵀ``, shape (n, n)."""
        gram = self.Z @ self.Z.T
        return dense(gram) if is_sparse(gram) else gram

    @cached_property
    def beta(self) -> float:
        """The smoothness of the local loss."""
        return self.loss.smoothness(self._largest_singular_value(), self.count)

    def _largest_singular_value(self) -> float:
        if is_sparse(self.Z) and min(self.Z.shape) > SMALL:
            from scipy.sparse.linalg import svds

            start = np.ones(min(self.Z.shape))  # given, so that every process finds the same bits
            return float(svds(self.Z, k=1, v0=start, return_singular_vectors=False)[0])
        square = self.gram if self.count <= self.dimension else self.Z.T @ self.Z
        square = dense(square) if is_sparse(square) else square
        return math.sqrt(max(float(array_namespace(square).linalg.eigvalsh(square)[-1]), 0.0))

    @property
    def max_norm(self) -> float:
        """The largest row norm."""
        if is_sparse(self.Z):
            return float(np.sqrt(self.Z.multiply(self.Z).sum(axis=1).max()))
        xp = array_namespace(self.Z)
        return float(xp.max(xp.linalg.vector_norm(self.Z, axis=1)))

    def measure(self, weights: Array) -> Measures:
        """Measure a model: mean loss, smallest margin, and how many examples have a margin <= 0."""
        margins = self.Z @ weights
        xp = array_namespace(margins)
        return Measures(
            loss=float(xp.mean(self.loss.value(margins))),
            margin=float(xp.min(margins)),
            errors=int(xp.count_nonzero(margins <= 0)),
            count=self.count,
        )


class Problems:
    """Problems in memory, the ones used last, up to a number of bytes; the newest is kept in any case.

    A simulation's worker is given any virtual client's message, so it may come to hold all of them.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._problems: dict[Hashable, Problem] = {}
        self._bytes = 0

    def find(self, key: Hashable) -> Problem | None:
        """Return a problem, if it is still here."""
        return self._problems.get(key)

    def keep(self, key: Hashable, problem: Problem) -> None:
        """Keep a problem as the one used last, and drop the others that there is no room for any more."""
        if old := self._problems.pop(key, None):
            self._bytes -= _bytes(old)
        self._problems[key] = problem
        self._bytes += _bytes(problem)
        while self._bytes > self.most_bytes and len(self._problems) > 1:
            oldest = next(iter(self._problems))
            self._bytes -= _bytes(self._problems.pop(oldest))


def _bytes(problem: Problem) -> int:
    """Return the size of a problem's rows and of the Gram matrix that it may come to hold."""
    return int(8 * (problem.size + problem.count**2))
