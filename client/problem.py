"""A client's share of the problem: rows and loss, with what can be computed once and for all."""

import math
from functools import cached_property
from typing import Any

import numpy as np

from common.losses import Loss
from common.namespace import array_namespace
from common.solution import Measures
from common.sparse import dense, is_sparse

Array = Any

SMALL = 1000
"""Up to this many rows or columns the largest singular value comes from a dense matrix of that size."""


class Problem:
    """The local loss ``f(w) = mean ℓ(margins of w)`` and, where there are margins, the constraints "≥ 1".

    Here for one weight vector, shape (d,): the margins are ``Z w`` with signed rows for two classes, and
    the residuals ``X w − t`` for a regression.  `MultiClass` has a row of weights for each class.

    Attributes
    ----------
    rows
        The rows ``Z`` or ``X``, shape (n, d), float64 in any array namespace, or a scipy sparse array.
    offset
        The targets ``t`` (n,) of a regression, else None.
    size
        How many values the rows hold: what a product with them costs.
    norm
        What the rows have been divided by.
    """

    def __init__(self, rows: Array, loss: Loss, norm: float = 1.0, offset: Array | None = None) -> None:
        self.rows = rows
        self.loss = loss
        self.norm = norm
        self.offset = offset
        self.count, self.dimension = rows.shape
        self.size = rows.nnz if is_sparse(rows) else self.count * self.dimension
        self._last: tuple[Array, Array] | None = None  # weights that cannot change, and their margins

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a model's weights."""
        return (self.dimension,)

    def divided(self, norm: float) -> "Problem":
        """Return the problem with its rows divided by ``norm``."""
        return Problem(self.rows / norm, self.loss, norm, self.offset)

    def forward(self, weights: Array) -> Array:
        """Return the margins of a model: once for the same read-only array, such as one just received.

        A client measures the model that it also solves from, and both need a pass over all rows.
        """
        if self._last is not None and self._last[0] is weights:
            return self._last[1]
        margins = self.linear(weights) if self.offset is None else self.linear(weights) - self.offset
        if isinstance(weights, np.ndarray) and not weights.flags.writeable:
            self._last = weights, margins
        return margins

    def linear(self, weights: Array) -> Array:
        """Return how the margins change with a change of the weights."""
        return self.rows @ weights

    def adjoint(self, dual: Array) -> Array:
        """Return the change of the weights that a dual in the margins' shape stands for: ``Zᵀa``."""
        return self.rows.T @ dual

    def images(self, dual: Array) -> Array:
        """Return ``linear(adjoint(dual))`` through the Gram matrix."""
        return self.gram @ dual

    def part(self, examples: Array) -> "Problem":
        """Return the problem of some of the examples, given by their numbers."""
        offset = None if self.offset is None else self.offset[examples]
        return Problem(self.rows[examples], self.loss, self.norm, offset)

    def per_example(self, dual: Array) -> Array:
        """Return the dual mass of each example, shape (n,)."""
        return dual

    @property
    def constraint_gram(self) -> Array:
        """The Gram matrix of the constraints, in the order of the flattened margins."""
        return self.gram

    @cached_property
    def gram(self) -> Array:
        """The Gram matrix of the rows, shape (n, n)."""
        gram = self.rows @ self.rows.T
        return dense(gram) if is_sparse(gram) else gram

    def smoothness(self, batches: bool = False) -> float:
        """Return the smoothness ``β`` of the local loss, or of any mini-batch's.

        A mini-batch sees single rows, and so does the curvature of an adaptive loss, which is then that
        at a model of zero.
        """
        if batches or self.loss.adaptive:
            return float(self.loss.curvature * self.max_norm**2)
        return self.beta

    @cached_property
    def beta(self) -> float:
        """The smoothness of the full-batch loss, where its curvature has a bound."""
        sigma = self._largest_singular_value()
        return float(self.loss.curvature * sigma**2 / self.count)

    def steepness(self, margins: Array) -> float:
        """Return the least ``1/η`` of a gradient step at these margins; 0 where any ``1/β`` will do.

        For an adaptive loss it is ``max‖z‖² f(w)``: along such a step every margin falls by at most 1, so
        the curvature grows by at most ``e`` and the loss decreases, as ``∫₀¹ (1−t) eᵗ dt = e − 2 < 1``.
        """
        if not self.loss.adaptive:
            return 0.0
        xp = array_namespace(margins)
        return self.max_norm**2 * float(xp.mean(self.loss.value(margins)))

    def _largest_singular_value(self) -> float:
        if is_sparse(self.rows) and min(self.rows.shape) > SMALL:
            from scipy.sparse.linalg import svds

            start = np.ones(min(self.rows.shape))  # given, so that every process finds the same bits
            return float(svds(self.rows, k=1, v0=start, return_singular_vectors=False)[0])
        square = self.gram if self.count <= self.dimension else self.rows.T @ self.rows
        square = dense(square) if is_sparse(square) else square
        return math.sqrt(max(float(array_namespace(square).linalg.eigvalsh(square)[-1]), 0.0))

    @cached_property
    def max_norm(self) -> float:
        """The largest row norm."""
        if is_sparse(self.rows):
            return float(np.sqrt(self.rows.multiply(self.rows).sum(axis=1).max()))
        xp = array_namespace(self.rows)
        return float(xp.max(xp.linalg.vector_norm(self.rows, axis=1)))

    def measure(self, weights: Array) -> Measures:
        """Measure a model: mean loss, smallest margin, and how many examples have a margin <= 0.

        Margin and errors are 0 for a loss without margins.
        """
        margins = self.forward(weights)
        xp = array_namespace(margins)
        loss = float(xp.mean(self.loss.value(margins)))
        if not self.loss.has_margin:
            return Measures(loss, 0.0, 0, self.count)
        smallest = margins if margins.ndim == 1 else xp.min(margins, axis=1)
        errors = int(xp.count_nonzero(smallest <= 0))
        return Measures(loss, float(xp.min(smallest)), errors, self.count)
