"""The problem of several classes: a row of weights for each, margins between the own class and its rivals."""

from functools import cached_property
from typing import Any

from array_api_compat import device

from client.problem import Problem
from common.losses import Loss
from common.namespace import array_namespace

Array = Any


class MultiClass(Problem):
    """Weights ``W`` (C, d), and the margins ``(W_y − W_c)·x`` of every example to each rival ``c ≠ y``.

    The margins have shape (n, C−1).  A dual ``a ≥ 0`` of that shape stands for
    ``Σ_j Σ_c a_jc (e_y − e_c) x_jᵀ``, so all that is true of the signed rows of two classes holds for the
    rows ``(e_y − e_c) ⊗ x`` in the Frobenius norm.

    Parameters
    ----------
    rows
        Unsigned rows (n, d).
    labels
        The class of each row, integers in [0, classes), shape (n,), in the rows' array namespace (numpy for
        sparse rows).
    """

    def __init__(self, rows: Array, loss: Loss, labels: Array, classes: int, norm: float = 1.0) -> None:
        super().__init__(rows, loss, norm)
        self.labels = labels
        self.classes = classes
        xp = array_namespace(labels)
        self.own: Array = labels[:, None] == xp.arange(classes, device=device(labels))[None, :]
        self.rivals: Array = ~self.own

    @property
    def shape(self) -> tuple[int, ...]:
        """One row of weights for each class."""
        return (self.classes, self.dimension)

    def divided(self, norm: float) -> "MultiClass":
        """Return the problem with its rows divided by ``norm``."""
        return MultiClass(self.rows / norm, self.loss, self.labels, self.classes, norm)

    def part(self, examples: Array) -> "MultiClass":
        """Return the problem of some of the examples."""
        return MultiClass(self.rows[examples], self.loss, self.labels[examples], self.classes, self.norm)

    def linear(self, weights: Array) -> Array:
        """Return the margins of the weights."""
        return self.margins(self.rows @ weights.T)

    def adjoint(self, dual: Array) -> Array:
        """Return the weights that a dual stands for, shape (C, d)."""
        return (self.rows.T @ self.pulls(dual)).T

    def images(self, dual: Array) -> Array:
        """Return ``linear(adjoint(dual))`` through the Gram matrix of the rows."""
        return self.margins(self.gram @ self.pulls(dual))

    def margins(self, scores: Array) -> Array:
        """Return the margins (n, C−1) of scores (n, C)."""
        rivals = scores[self.rivals].reshape(self.count, self.classes - 1)
        return scores[self.own][:, None] - rivals

    def pulls(self, dual: Array) -> Array:
        """Return how a dual (n, C−1) moves each example's scores, shape (n, C): up for its own class."""
        xp = array_namespace(dual)
        pulls = xp.zeros((self.count, self.classes), dtype=dual.dtype, device=device(dual))
        pulls[self.rivals] = -dual.reshape(-1)
        pulls[self.own] = xp.sum(dual, axis=1)
        return pulls

    def per_example(self, dual: Array) -> Array:
        """Return the dual mass of each example, shape (n,)."""
        return array_namespace(dual).sum(dual, axis=1)

    @cached_property
    def constraint_gram(self) -> Array:
        """``⟨e_y − e_c, e_y' − e_c'⟩ x·x'`` for all pairs of constraints, shape (n (C−1), n (C−1))."""
        xp, rivals = array_namespace(self.gram), self.classes - 1
        eye = xp.eye(self.classes, dtype=self.gram.dtype, device=device(self.gram))
        signs = xp.repeat(eye[self.labels], rivals, axis=0) - eye[xp.nonzero(self.rivals)[1]]
        return (signs @ signs.T) * xp.repeat(xp.repeat(self.gram, rivals, axis=0), rivals, axis=1)
