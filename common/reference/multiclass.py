"""The hard-margin classifier of several classes (Crammer and Singer 2001)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.reference.certified import Pair, Reference, proved
from common.reference.hard_margin import judged
from common.reference.least_norm import shortest

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.intp]
Labels = NDArray[np.intp]


def crammer_singer(X: Matrix, labels: Labels, classes: int) -> Reference | None:
    """Return ``argmin ½‖W‖²_F  s.t.  (W_y − W_c)·x ≥ 1`` for all ``c ≠ y``, or None when not separable.

    The margin is ``min (W_y − W_c)·x / ‖W‖_F``; the bound is that of the same geometry.  For two classes
    ``W = (−ŵ/2, ŵ/2)`` with the ``ŵ`` of `max_margin`, and the margin is √2 times its margin.

    Parameters
    ----------
    X, labels
        Rows (n, d) and integers 0 … C−1 (n,).
    classes
        ``C ≥ 2``; a class without examples is one that no example may be taken for.

    Raises
    ------
    UserError, RunError
        As `max_margin`.
    """
    rows = ClassPairs(X, labels, classes)
    if X.shape[1] <= len(X):
        return judged(shortest(rows), rows, (classes, X.shape[1]))
    # The solution lies in the span of the rows: solve there, and prove it on the rows as they are.
    basis, triangle = np.linalg.qr(X.T)
    found = shortest(ClassPairs(np.ascontiguousarray(triangle.T), labels, classes))
    weights = (found.w.reshape(classes, -1) @ basis.T).reshape(-1)
    return judged(_rescaled(proved(rows, weights, found.a)), rows, (classes, X.shape[1]))


def _rescaled(pair: Pair) -> Pair:
    """Return the pair with a smallest margin of exactly 1, where it is positive."""
    if not pair.smallest > 0:
        return pair
    return Pair(pair.w / pair.smallest, pair.a, 1.0, pair.margin, pair.bound)


@dataclass(frozen=True)
class ClassPairs:
    """The ``n (C−1)`` rows ``(e_y − e_c) ⊗ x`` of length ``C d``, never formed but for those asked for.

    Row ``j (C−1) + k`` is that of example ``j`` and the k-th of the classes other than its own.
    """

    X: Matrix
    labels: Labels
    classes: int

    @property
    def count(self) -> int:
        """Return n (C − 1)."""
        return len(self.X) * (self.classes - 1)

    @property
    def dimension(self) -> int:
        """Return C d."""
        return self.classes * int(self.X.shape[1])

    @cached_property
    def largest(self) -> float:
        """Return the largest norm of a row, ``√2 ‖x‖``."""
        return float(np.sqrt(2 * np.einsum("ij,ij->i", self.X, self.X).max(initial=0.0)))

    @cached_property
    def others(self) -> Labels:
        """Return the classes other than each example's own, (n, C−1), in increasing order."""
        order = np.arange(self.classes - 1)[None, :]
        return order + (order >= self.labels[:, None])

    def take(self, index: Index) -> Matrix:
        """Return some rows as a matrix (m, C d)."""
        example, other = np.divmod(index, self.classes - 1)
        rows, place = np.zeros((len(index), self.classes, self.X.shape[1])), np.arange(len(index))
        rows[place, self.labels[example]] = self.X[example]
        rows[place, self.others[example, other]] = -self.X[example]
        return rows.reshape(len(index), -1)

    def margins(self, w: Vector) -> Vector:
        """Return ``(W_y − W_c)·x`` of all rows."""
        scores = self.X @ w.reshape(self.classes, -1).T
        own = np.take_along_axis(scores, self.labels[:, None], axis=1)
        return (own - np.take_along_axis(scores, self.others, axis=1)).reshape(-1)

    def combine(self, a: Vector) -> Vector:
        """Return ``Σ a (e_y − e_c) ⊗ x``, from the examples that take part only."""
        shares = a.reshape(len(self.X), -1)
        pull = np.zeros((len(self.X), self.classes))
        np.put_along_axis(pull, self.others, -shares, axis=1)
        np.put_along_axis(pull, self.labels[:, None], shares.sum(axis=1, keepdims=True), axis=1)
        active = np.flatnonzero(shares.any(axis=1))
        return np.asarray(pull[active].T @ self.X[active]).reshape(-1)
